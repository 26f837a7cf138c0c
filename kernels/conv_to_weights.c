// SPDX-License-Identifier: MIT

#include <math.h>
#include <string.h>

#include "kernels/conv_gradient.h"
#include "kernels/conv_to_weights_winograd.h"
#include "kernels/kernels.h"
#include "kernels/tiles.h"

#define SLACK CONV_ALIGN /* floats behind the padded input, which tiles may read */

static int rounded(int n, int to)
{
    return (n + to - 1) / to * to;
}

/* The multiplications at the edges count in full, and the loads per multiplication of each shape. Winograd has no panels of its
   own: there the tile's width must divide the outputs. */
static void choose_tile(struct conv_to_weights *c, const struct kernels *k, int rows)
{
    double best = HUGE_VAL;
    for (const struct outer_f32 *const *o = k->outer; *o; o++) {
        const int mr = (*o)->mr, nr = (*o)->nr;
        const double cost = (double)rounded(rows, mr) * rounded(c->cols, nr) * (1 + 1.0 / mr + 2.0 / nr);
        if (cost < best && (!c->winograd || c->cols % nr == 0)) {
            best = cost;
            c->tile = *o;
        }
    }
}

void conv_to_weights_plan(struct conv_to_weights *c, const struct kernels *k, const struct conv_shape *s)
{
    *c = (struct conv_to_weights){.s = *s, .cols = s->out_c / s->groups};
    c->rows = s->in_c / s->groups * (s->groups == 1 ? s->kernel_w : 1);
    c->taps = s->kernel_h * (s->groups == 1 ? 1 : s->kernel_w);
    c->winograd = to_weights_winograd_pays(s) ? k->winograd : NULL;
    choose_tile(c, k, c->winograd ? s->in_c : c->rows);
    c->panels = rounded(c->cols, c->tile->nr) / c->tile->nr;
    c->padded_h = (s->out_h - 1) * s->stride_h + s->kernel_h;
    c->padded_w = (s->out_w - 1) * s->stride_w + s->kernel_w;
    c->in_place =
        s->pad_top == 0 && s->pad_left == 0 && c->padded_h <= s->in_h && c->padded_w <= s->in_w && c->rows % c->tile->mr == 0;
    c->dy_in_place = c->cols % c->tile->nr == 0;
}

static int64_t depth(const struct conv_to_weights *c)
{
    return (int64_t)c->taps * c->rows;
}

size_t conv_to_weights_sums(const struct conv_to_weights *c)
{
    return (size_t)c->s.groups * (size_t)depth(c) * (size_t)c->cols;
}

/* Scratch: the padded input of one image, a panel of dy and a tile where outputs do not fill the tile. */
static size_t padded_floats(const struct conv_to_weights *c)
{
    return c->in_place ? 0 : (size_t)c->padded_h * (size_t)c->padded_w * (size_t)c->s.in_c + SLACK;
}

static size_t panel_floats(const struct conv_to_weights *c)
{
    return c->dy_in_place ? 0 : (size_t)(c->s.out_h * c->s.out_w) * (size_t)c->tile->nr;
}

size_t conv_to_weights_scratch_bytes(const struct conv_to_weights *c, int images)
{
    if (c->winograd)
        return to_weights_winograd_scratch_bytes(c, images);
    return conv_align(padded_floats(c) * sizeof(float)) + conv_align(panel_floats(c) * sizeof(float)) +
           conv_align((size_t)(c->tile->mr * c->tile->nr) * sizeof(float));
}

static void pad_image(const struct conv_to_weights *c, const float *x, float *to)
{
    const struct conv_shape *s = &c->s;
    const int left = s->pad_left, inside = c->padded_w - left < s->in_w ? c->padded_w - left : s->in_w;
    const size_t pixel = (size_t)s->in_c, line = (size_t)c->padded_w * pixel;
    for (int h = 0; h < c->padded_h; h++, to += line) {
        const int y = h - s->pad_top;
        if (y < 0 || y >= s->in_h) {
            memset(to, 0, line * sizeof *to);
            continue;
        }
        memset(to, 0, (size_t)left * pixel * sizeof *to);
        memcpy(to + (size_t)left * pixel, x + (size_t)(y * s->in_w) * pixel, (size_t)inside * pixel * sizeof *to);
        memset(to + (size_t)(left + inside) * pixel, 0, (size_t)(c->padded_w - left - inside) * pixel * sizeof *to);
    }
    memset(to, 0, SLACK * sizeof *to);
}

static void fill_panel(const struct conv_to_weights *c, const float *dy, int cols, float *panel)
{
    const int nr = c->tile->nr, pixels = c->s.out_h * c->s.out_w;
    for (int p = 0; p < pixels; p++, dy += c->s.out_c, panel += nr) {
        memcpy(panel, dy, (size_t)cols * sizeof *panel);
        memset(panel + cols, 0, (size_t)(nr - cols) * sizeof *panel);
    }
}

/* Inputs x of one image, padded, by outputs [first, first + cols) of a group. */
static void multiply(const struct conv_to_weights *c, const float *x, int in_w, int group, const float *b, int first, int cols,
                     int more, float *tile, float *sums)
{
    const struct conv_shape *s = &c->s;
    const int mr = c->tile->mr, nr = c->tile->nr, channels = s->in_c / s->groups, per_line = c->taps / s->kernel_h;
    const ptrdiff_t line = (ptrdiff_t)in_w * s->in_c;
    struct outer_block o = {
        .lines = s->out_h, .n = s->out_w, .b = b, .a_line = s->stride_h * line, .a_step = s->stride_w * s->in_c};
    o.b_step = c->dy_in_place ? s->out_c : nr;
    o.b_line = o.b_step * s->out_w;
    for (int tap = 0; tap < c->taps; tap++)
        for (int row = 0; row < c->rows; row += mr) {
            float *to = sums + ((ptrdiff_t)tap * c->rows + row) * c->cols + first;
            o.a = x + tap / per_line * line + tap % per_line * s->in_c + group * channels + row;
            o.rows = c->rows - row < mr ? c->rows - row : mr;
            o.c = cols == nr ? to : tile;
            o.ldc = cols == nr ? c->cols : nr;
            o.more = cols == nr && more;
            c->tile->tile(&o);
            for (int i = 0; i < o.rows && cols < nr; i++)
                for (int j = 0; j < cols; j++)
                    to[i * c->cols + j] = tile[i * nr + j] + (more ? to[i * c->cols + j] : 0);
        }
}

void conv_to_weights_run(const struct conv_to_weights *c, const float *x, const float *dy, int images, int more, float *sums,
                         void *scratch)
{
    if (c->winograd) {
        to_weights_winograd_run(c, x, dy, images, more, sums, scratch);
        return;
    }
    const struct conv_shape *s = &c->s;
    char *at = scratch;
    float *padded = (float *)(void *)at, *panel = (float *)(void *)(at += conv_align(padded_floats(c) * sizeof(float)));
    float *tile = (float *)(void *)(at + conv_align(panel_floats(c) * sizeof(float)));
    for (int i = 0; i < images;
         i++, x += (ptrdiff_t)s->in_h * s->in_w * s->in_c, dy += (ptrdiff_t)s->out_h * s->out_w * s->out_c) {
        if (!c->in_place)
            pad_image(c, x, padded);
        for (int g = 0; g < s->groups; g++)
            for (int j = 0; j < c->panels; j++) {
                const int first = j * c->tile->nr, rest = c->cols - first, cols = rest < c->tile->nr ? rest : c->tile->nr;
                const float *b = dy + g * c->cols + first;
                if (!c->dy_in_place) {
                    fill_panel(c, b, cols, panel);
                    b = panel;
                }
                multiply(c, c->in_place ? x : padded, c->in_place ? s->in_w : c->padded_w, g, b, first, cols, more || i > 0, tile,
                         sums + g * depth(c) * c->cols);
            }
    }
}

#define TURN 16 /* outputs whose sums are turned together, a cache line */

void conv_to_weights_finish(const struct conv_to_weights *c, const float *sums, int parts, size_t stride, int first, int end,
                            float *grad)
{
    const int64_t all = depth(c);
    for (int o = first; o < end;) {
        const int col = o % c->cols, group = o / c->cols;
        int n = end - o < TURN ? end - o : TURN;
        n = c->cols - col < n ? c->cols - col : n;
        const float *from = sums + group * all * c->cols + col;
        for (int64_t m = 0; m < all; m++, from += c->cols) {
            float sum[TURN] = {0};
            for (int part = 0; part < parts; part++)
                for (int j = 0; j < n; j++)
                    sum[j] += from[(size_t)part * stride + (size_t)j];
            for (int j = 0; j < n; j++)
                grad[(o + j) * all + m] = sum[j];
        }
        o += n;
    }
}

// SPDX-License-Identifier: MIT

#include <math.h>
#include <string.h>

#include "kernels/conv_gradient.h"
#include "kernels/kernels.h"
#include "kernels/tiles.h"

static int rounded(int n, int to)
{
    return (n + to - 1) / to * to;
}

/* The multiplications at the edges count in full, and the loads per multiplication of each shape. */
static void choose_tile(struct conv_to_weights *c, const struct kernels *k)
{
    double best = HUGE_VAL;
    for (const struct gemm_f32 *const *g = k->f32; *g; g++) {
        const double padded = (double)rounded(c->depth, (*g)->mr) * rounded(c->cols, (*g)->nr);
        const double cost = padded * (1 + 1.0 / (*g)->mr + 8.0 / (*g)->nr);
        if (cost < best) {
            best = cost;
            c->tile = *g;
        }
    }
}

static int least(int a, int b)
{
    return a < b ? a : b;
}

void conv_to_weights_plan(struct conv_to_weights *c, const struct kernels *k, const struct conv_shape *s)
{
    *c = (struct conv_to_weights){.s = *s, .ops = k->ops};
    c->depth = s->kernel_h * s->kernel_w * (s->in_c / s->groups);
    c->cols = s->out_c / s->groups;
    choose_tile(c, k);
    c->panels = rounded(c->cols, c->tile->nr) / c->tile->nr;
    c->phases_h = least(s->stride_h, s->kernel_h);
    c->phases_w = least(s->stride_w, s->kernel_w);
    c->plane_h = s->out_h + (s->kernel_h - 1) / s->stride_h;
    c->plane_w = s->out_w + (s->kernel_w - 1) / s->stride_w;
}

size_t conv_to_weights_sums(const struct conv_to_weights *c)
{
    return (size_t)c->s.groups * (size_t)c->depth * (size_t)c->cols;
}

/* Scratch: planes, a panel of dy where it cannot be read in place, pointers, a tile, and columns of one and zero. */
static size_t plane_floats(const struct conv_to_weights *c)
{
    return (size_t)(c->phases_h * c->phases_w * c->plane_h * c->plane_w);
}

static size_t planes_bytes(const struct conv_to_weights *c, int images)
{
    return conv_align((size_t)images * (size_t)(c->s.in_c / c->s.groups) * plane_floats(c) * sizeof(float));
}

static int in_place(const struct conv_to_weights *c)
{
    return c->s.groups == 1 && c->cols == c->tile->nr;
}

static size_t panel_bytes(const struct conv_to_weights *c, int images)
{
    return in_place(c) ? 0 : conv_align((size_t)images * (size_t)(c->s.out_h * c->s.out_w * c->tile->nr) * sizeof(float));
}

static size_t pointer_bytes(const struct conv_to_weights *c, int images)
{
    return conv_align((size_t)(images * c->s.out_h * c->tile->mr) * sizeof(void *));
}

static size_t tile_bytes(const struct conv_to_weights *c)
{
    return conv_align((size_t)(c->tile->mr * c->tile->nr) * sizeof(float));
}

static size_t row_bytes(const struct conv_to_weights *c)
{
    return conv_align((size_t)c->tile->nr * sizeof(float));
}

size_t conv_to_weights_scratch_bytes(const struct conv_to_weights *c, int images)
{
    return planes_bytes(c, images) + panel_bytes(c, images) + pointer_bytes(c, images) + tile_bytes(c) + 2 * row_bytes(c);
}

/* One line of pixels, [n][step], to n values of each of `channels` planes, `plane` apart. */
static void turn_line(const float *x, int n, int step, int channels, float *to, size_t plane)
{
    for (int i = 0; i < channels; i++, to += plane)
        for (int p = 0; p < n; p++)
            to[p] = x[(ptrdiff_t)p * step + i];
}

/* Of one image and group: [channel][phase][plane_h][plane_w], with its padding. */
static void fill_planes(const struct conv_to_weights *c, const float *x, int group, float *planes)
{
    const struct conv_shape *s = &c->s;
    const int channels = s->in_c / s->groups;
    const size_t plane = plane_floats(c);
    const int first_w = s->pad_left, whole = c->phases_w == 1 && s->stride_w == 1;
    for (int ph = 0; ph < c->phases_h; ph++)
        for (int h = 0; h < c->plane_h; h++) {
            const int y = h * s->stride_h + ph - s->pad_top;
            for (int pw = 0; pw < c->phases_w; pw++) {
                float *to = planes + (size_t)(((ph * c->phases_w + pw) * c->plane_h + h) * c->plane_w);
                /* plane pixels [w0, w1) lie inside the image */
                const int before = first_w - pw, w0 = before > 0 ? (before + s->stride_w - 1) / s->stride_w : 0;
                int w1 = (s->in_w + before + s->stride_w - 1) / s->stride_w;
                w1 = w1 < c->plane_w ? w1 : c->plane_w;
                const int inside = y >= 0 && y < s->in_h && w0 < w1;
                const int from = inside ? w0 : c->plane_w, end = inside ? w1 : c->plane_w;
                for (int i = 0; i < channels; i++) {
                    float *line = to + (size_t)i * plane;
                    for (int w = 0; w < from; w++)
                        line[w] = 0;
                    for (int w = end; w < c->plane_w; w++)
                        line[w] = 0;
                }
                if (inside)
                    turn_line(x + ((ptrdiff_t)y * s->in_w + w0 * s->stride_w - before) * s->in_c + group * channels, w1 - w0,
                              (whole ? 1 : s->stride_w) * s->in_c, channels, to + w0, plane);
            }
        }
}

static void fill_panel(const struct conv_to_weights *c, const float *dy, int group, int first, int cols, int images, float *panel)
{
    const int nr = c->tile->nr;
    const size_t pixels = (size_t)images * (size_t)(c->s.out_h * c->s.out_w);
    dy += group * c->cols + first;
    for (size_t p = 0; p < pixels; p++, dy += c->s.out_c, panel += nr) {
        memcpy(panel, dy, (size_t)cols * sizeof(float));
        memset(panel + cols, 0, (size_t)(nr - cols) * sizeof(float));
    }
}

/* Pointers to each line of outputs for rows [m, m + mr) of the product; those beyond the depth repeat the last. */
static void point(const struct conv_to_weights *c, const float *planes, int m, int images, const void **to)
{
    const struct conv_shape *s = &c->s;
    const int channels = s->in_c / s->groups, mr = c->tile->mr;
    const size_t plane = plane_floats(c), image = plane * (size_t)channels;
    for (int r = 0; r < mr; r++) {
        const int row = m + r < c->depth ? m + r : c->depth - 1, tap = row / channels, kh = tap / s->kernel_w,
                  kw = tap % s->kernel_w;
        const int phase = kh % s->stride_h * c->phases_w + kw % s->stride_w;
        const float *from = planes + (size_t)(row % channels) * plane +
                            (size_t)((phase * c->plane_h + kh / s->stride_h) * c->plane_w + kw / s->stride_w);
        for (int i = 0; i < images; i++)
            for (int y = 0; y < s->out_h; y++)
                to[(size_t)(i * s->out_h + y) * (size_t)mr + (size_t)r] = from + (size_t)i * image + (size_t)(y * c->plane_w);
    }
}

/* Where things are in scratch. */
struct parts {
    float *planes, *panel, *tile, *one, *none;
    const void **pointers;
};

/* One tile: rows [m, m + count) by columns [first, first + cols) of a group's sums. */
static void multiply(const struct conv_to_weights *c, const struct parts *t, const float *b, int images, int count, int cols,
                     int more, float *sums)
{
    const int taps = images * c->s.out_h, nr = c->tile->nr;
    fused_f32 *fused = c->tile->fused[PRECISION_FP32];
    if (fused) {
        const struct store_f32 s = {t->one, t->none, more ? sums : NULL, 0, sums, c->cols};
        fused(taps, c->s.out_w, t->pointers, b, &s, count, cols);
        return;
    }
    c->tile->tile_f32(taps, c->s.out_w, t->pointers, b, t->tile);
    for (int i = 0; i < count; i++)
        for (int j = 0; j < cols; j++)
            sums[i * c->cols + j] = t->tile[i * nr + j] + (more ? sums[i * c->cols + j] : 0);
}

void conv_to_weights_run(const struct conv_to_weights *c, const float *x, const float *dy, int images, int more, float *sums,
                         void *scratch)
{
    const struct conv_shape *s = &c->s;
    char *at = scratch;
    struct parts t;
    t.planes = (float *)(void *)at;
    t.panel = (float *)(void *)(at += planes_bytes(c, images));
    t.pointers = (const void **)(void *)(at += panel_bytes(c, images));
    t.tile = (float *)(void *)(at += pointer_bytes(c, images));
    t.one = (float *)(void *)(at += tile_bytes(c));
    t.none = (float *)(void *)(at + row_bytes(c));
    const int mr = c->tile->mr, nr = c->tile->nr, channels = s->in_c / s->groups;
    for (int i = 0; i < nr; i++) {
        t.one[i] = 1;
        t.none[i] = 0;
    }
    for (int g = 0; g < s->groups; g++) {
        for (int i = 0; i < images; i++)
            fill_planes(c, x + (size_t)i * (size_t)(s->in_h * s->in_w * s->in_c), g,
                        t.planes + (size_t)i * (size_t)channels * plane_floats(c));
        for (int j = 0; j < c->panels; j++) {
            const int first = j * nr, cols = least(nr, c->cols - first);
            if (!in_place(c))
                fill_panel(c, dy, g, first, cols, images, t.panel);
            for (int m = 0; m < c->depth; m += mr) {
                point(c, t.planes, m, images, t.pointers);
                multiply(c, &t, in_place(c) ? dy : t.panel, images, least(mr, c->depth - m), cols, more,
                         sums + ((size_t)g * (size_t)c->depth + (size_t)m) * (size_t)c->cols + first);
            }
        }
    }
}

void conv_to_weights_finish(const struct conv_to_weights *c, const float *sums, int parts, size_t stride, int first, int end,
                            float *grad)
{
    for (int o = first; o < end; o++) {
        const float *from = sums + (size_t)(o / c->cols * c->depth) * (size_t)c->cols + o % c->cols;
        float *to = grad + (size_t)o * (size_t)c->depth;
        for (int m = 0; m < c->depth; m++, from += c->cols) {
            float sum = 0;
            for (int part = 0; part < parts; part++)
                sum += from[(size_t)part * stride];
            to[m] = sum;
        }
    }
}

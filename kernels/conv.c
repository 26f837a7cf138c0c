// SPDX-License-Identifier: MIT
//
// The loops around the tiles. Output pixels are rows (m), output channels columns (n), the inputs under the kernel the depth (k).
// The rows of a strip are prepared (rows.h), then every panel of weights passes over them:
//
//     for each strip of rows:        for each panel of nr channels:  for each mr rows:  tile, then store what exists
//
// Winograd (winograd.h) takes the place of the rows and tiles where it pays; packing, sharing and storing are the same.

#include "kernels/conv.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "kernels/kernels.h"
#include "kernels/pack.h"
#include "kernels/rows.h"
#include "kernels/tflite.h"
#include "kernels/tiles.h"
#include "kernels/winograd.h"

struct conv {
    const char *kernels;         /* the table's row */
    enum precision precision;
    struct conv_shape s;
    const struct vector_ops *ops;
    const struct gemm_s8 *s8;    /* the width of tile chosen for this shape; one of the two */
    const struct gemm_f32 *f32;
    int relu, float_out;
    int out_zero, residual_zero;
    float residual_mult;
    int tflite;                  /* ROUNDING_TFLITE */
    struct conv_params factors;  /* then: all that tflite_factor looks at */
    int mr, nr;
    struct rows rows;
    int group_n, group_panels;   /* output channels and weight panels of one group */
    size_t panel_bytes;
    int is_winograd;
    struct winograd winograd;    /* then instead of rows, panels and tile */
    const int32_t *bias_s32;     /* [O] with the zero points of input and A form folded in */
    const float *mult;           /* [O] int8: requantisation, or the scale of the logits; hybrid, ROUNDING_TFLITE: weight scale */
    const float *bias;           /* [O] float precisions */
    const char *panels;          /* [groups][group_panels] of panel_bytes */
};

static int is_s8(const struct conv *c)
{
    return c->precision == PRECISION_INT8;
}

static size_t weight_size(enum precision p)
{
    return p == PRECISION_FP32 ? 4 : p == PRECISION_FP16 ? 2 : 1;
}

/* What a tile costs on n channels: the multiplications at its edges count in full but for skipped padding, and the loads per
   multiplication of each shape. */
static double tile_cost(const struct conv_shape *s, int n, int mr, int nr, int fused)
{
    const int m = s->out_h * s->out_w;
    const double padded = (double)((m + mr - 1) / mr * mr) * (double)((n + nr - 1) / nr * nr);
    return padded * (1 - (fused ? rows_skipped(s, mr) : 0)) * (1 + 1.0 / mr + 8.0 / nr);
}

static void choose_tile(struct conv *c, const struct kernels *k)
{
    const int n = c->group_n;
    double best = 1e300;
    if (is_s8(c)) {
        for (const struct gemm_s8 *const *g = k->s8; *g; g++) {
            const double cost = tile_cost(&c->s, n, (*g)->mr, (*g)->nr, (*g)->fused != NULL);
            if (cost < best) {
                best = cost;
                c->s8 = *g;
            }
        }
        c->mr = c->s8->mr;
        c->nr = c->s8->nr;
        return;
    }
    for (const struct gemm_f32 *const *g = c->precision == PRECISION_FP16 && k->f16 ? k->f16 : k->f32; *g; g++) {
        const double cost = tile_cost(&c->s, n, (*g)->mr, (*g)->nr, (*g)->fused[c->precision] != NULL);
        if (cost < best) {
            best = cost;
            c->f32 = *g;
        }
    }
    c->mr = c->f32->mr;
    c->nr = c->f32->nr;
}

static void geometry(struct conv *c, const struct kernels *k, enum precision p, const struct conv_shape *s, int in_zero)
{
    static const enum rows_type s8_rows[] = {[A_S8] = ROWS_S8, [A_S16] = ROWS_S16, [A_U8] = ROWS_U8};
    memset(c, 0, sizeof *c);
    c->kernels = k->name;
    c->precision = p;
    c->s = *s;
    c->ops = k->ops;
    c->group_n = s->out_c / s->groups;
    choose_tile(c, k);
    c->is_winograd = winograd_plan(&c->winograd, k, p, s);
    const enum rows_type type = is_s8(c)               ? s8_rows[c->s8->a_form]
                                : p != PRECISION_FP16  ? ROWS_F32
                                : c->f32->half_ku != 0 ? ROWS_F16
                                                       : ROWS_F32_FROM_F16;
    rows_init(&c->rows, s, k->ops, type, c->mr, is_s8(c) ? c->s8->ku : type == ROWS_F16 ? c->f32->half_ku : 1, in_zero);
    c->rows.skip_padding = rows_padding_is_zero(&c->rows) && (is_s8(c) ? c->s8->fused != NULL : c->f32->fused[p] != NULL);
    c->group_panels = (c->group_n + c->nr - 1) / c->nr;
    c->panel_bytes = conv_align((size_t)c->rows.taps * (size_t)c->rows.channels * (size_t)c->nr * weight_size(p));
}

static size_t channel_bytes(const struct conv *c)
{
    return conv_align((size_t)c->s.out_c * 4);
}

size_t conv_bytes(const struct kernels *k, enum precision p, const struct conv_shape *s)
{
    struct conv c;
    geometry(&c, k, p, s, 0);
    size_t weights = (size_t)s->groups * (size_t)c.group_panels * c.panel_bytes;
    if (c.is_winograd && winograd_weight_bytes(&c.winograd) > weights)
        weights = winograd_weight_bytes(&c.winograd);
    return conv_align(sizeof c) + 2 * channel_bytes(&c) + weights;
}

#define SUM_BLOCK 256 /* weights whose sum fits into 16 bits, which vectors add fastest */

static int64_t sum_weights(const int8_t *w, int depth)
{
    int64_t sum = 0;
    for (int at = 0; at < depth; at += SUM_BLOCK) {
        const int end = depth - at < SUM_BLOCK ? depth : at + SUM_BLOCK;
        int16_t part = 0;
        for (int i = at; i < end; i++)
            part = (int16_t)(part + w[i]);
        sum += part;
    }
    return sum;
}

static int64_t sum_magnitudes(const int8_t *w, int depth)
{
    int64_t sum = 0;
    for (int i = 0; i < depth; i++)
        sum += w[i] < 0 ? -w[i] : w[i];
    return sum;
}

int conv_check_s8(const struct conv_shape *s, const struct conv_params *params)
{
    /* The largest partial sum any implementation forms: activations as 0..255, plus a bias that carries up to 256 x sum(w). The
       weights are only summed where the largest there could be do not settle it. */
    const int8_t *w = params->weight;
    const int depth = s->kernel_h * s->kernel_w * (s->in_c / s->groups);
    for (int o = 0; o < s->out_c; o++, w += depth) {
        const int64_t bias = params->bias_s32 ? params->bias_s32[o] : 0, rest = INT32_MAX - (bias < 0 ? -bias : bias);
        if (512 * (int64_t)127 * depth > rest && 512 * sum_magnitudes(w, depth) > rest)
            return o;
    }
    return -1;
}

struct conv *conv_init(void *memory, const struct kernels *k, enum precision p, const struct conv_shape *s,
                       const struct conv_params *params)
{
    struct conv *c = memory;
    geometry(c, k, p, s, p == PRECISION_INT8 ? params->in.zero : 0);
    if (is_s8(c) && c->is_winograd)
        c->is_winograd = !params->float_out && params->rounding != ROUNDING_TFLITE && winograd_exact(s, params);
    c->relu = params->relu;
    char *at = (char *)memory + conv_align(sizeof *c);
    void *bias = at;
    float *mult = (float *)(void *)(at + channel_bytes(c));
    char *panels = at + 2 * channel_bytes(c);
    const int depth = s->kernel_h * s->kernel_w * (s->in_c / s->groups);

    if (is_s8(c)) {
        int32_t *b = bias;
        c->bias_s32 = b;
        c->out_zero = params->out.zero;
        c->float_out = params->float_out;
        c->residual_zero = params->residual.zero;
        c->residual_mult = params->float_out ? 0 : params->residual.scale / params->out.scale;
        c->tflite = params->rounding == ROUNDING_TFLITE;
        c->factors = (struct conv_params){
            .scale = mult, .in = params->in, .out = params->out, .product_in_float = params->product_in_float};
        const int64_t offset = c->s8->a_form == A_U8 ? 128 : 0;
        for (int o = 0; o < s->out_c; o++) {
            const int8_t *w = (const int8_t *)params->weight + (size_t)o * (size_t)depth;
            int64_t given = params->bias_s32 ? params->bias_s32[o] : 0;
            b[o] = (int32_t)(c->is_winograd ? given : given - (params->in.zero + offset) * sum_weights(w, depth));
            float product = params->in.scale * params->scale[o];
            mult[o] = c->tflite ? params->scale[o] : params->float_out ? product : product / params->out.scale;
        }
    } else {
        float *b = bias;
        c->bias = b;
        for (int o = 0; o < s->out_c; o++) {
            b[o] = params->bias ? params->bias[o] : 0;
            mult[o] = (p == PRECISION_HYBRID ? params->scale[o] : 1) * (c->is_winograd ? WINOGRAD_SCALE : 1);
        }
    }
    c->mult = mult;
    if (c->is_winograd) {
        winograd_pack(&c->winograd, params, panels);
        return c;
    }
    c->panels = panels;
    const size_t size = weight_size(p);
    const int kr = is_s8(c) ? c->s8->kr : c->rows.type == ROWS_F16 ? c->f32->half_kr : 1;
    const int taps = c->rows.taps, channels = c->rows.channels;
    for (int g = 0; g < s->groups; g++)
        for (int j = 0; j < c->group_panels; j++) {
            int first = j * c->nr, cols = c->group_n - first < c->nr ? c->group_n - first : c->nr;
            const char *w = (const char *)params->weight + ((size_t)(g * c->group_n + first)) * (size_t)depth * size;
            char *panel = panels + ((size_t)g * (size_t)c->group_panels + (size_t)j) * c->panel_bytes;
            pack_b(w, size, cols, taps, rows_tap_depth(&c->rows), channels, c->nr, kr, panel);
            if (c->rows.type == ROWS_F16)
                pack_scale_halves(c->ops, (uint16_t *)(void *)panel, taps * channels / kr, c->nr, kr, cols, HALF_RUN,
                                  mult + g * c->group_n + first);
        }
    return c;
}

static size_t tile_bytes(const struct conv *c)
{
    return c->is_winograd ? 0 : conv_align((size_t)(c->mr * c->nr) * 4);
}

static size_t row_bytes(const struct conv *c)
{
    return conv_align((size_t)(c->is_winograd ? c->winograd.nr : c->nr) * 4);
}

/* Scratch: the tile, one row of channels as floats twice, then what the rows or Winograd take. */
size_t conv_scratch_bytes(const struct conv *c)
{
    return tile_bytes(c) + 2 * row_bytes(c) + (c->is_winograd ? winograd_scratch_bytes(&c->winograd) : rows_scratch_bytes(&c->rows));
}

struct scratch {
    void *tile;
    float *row, *residual;
    void *rows;
};

/* Sums with their bias as logits. */
static void store_logits(const struct conv *c, const int32_t *sums, int channel, int rows, int cols, float *y)
{
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < cols; j++)
            y[(ptrdiff_t)i * c->s.out_c + j] = (float)sums[i * c->nr + j] * c->mult[channel + j];
}

static void add_bias(const struct conv *c, int32_t *tile, int channel, int rows, int cols)
{
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < cols; j++)
            tile[i * c->nr + j] += c->bias_s32[channel + j];
}

/* How output elements from `at` on are stored, which is in channel `channel`. */
static struct store_s8 store_s8_at(const struct conv *c, const struct conv_io *io, ptrdiff_t at, int channel)
{
    return (struct store_s8){.bias = c->bias_s32 + channel,
                             .mult = c->mult + channel,
                             .residual = io->residual ? (const int8_t *)io->residual + at : NULL,
                             .residual_mult = c->residual_mult,
                             .residual_zero = c->residual_zero,
                             .zero = c->out_zero,
                             .lo = (float)(c->relu ? 0 : -128 - c->out_zero),
                             .hi = (float)(127 - c->out_zero),
                             .y = c->float_out ? NULL : (int8_t *)io->y + at,
                             .ld = c->s.out_c};
}

static struct store_f32 store_f32_at(const struct conv *c, const struct conv_io *io, ptrdiff_t at, int channel)
{
    const ptrdiff_t size = c->precision == PRECISION_FP16 ? 2 : 4;
    const char *residual = io->residual ? (const char *)io->residual + at * size : NULL;
    return (struct store_f32){c->mult + channel, c->bias + channel, residual, c->relu, (char *)io->y + at * size, c->s.out_c};
}

/* Multiplier and shift of each column, for which there is room where float precisions keep rows. */
static void tflite_columns(const struct conv *c, int channel, int cols, int32_t *mult, int32_t *shift)
{
    for (int j = 0; c->tflite && j < cols; j++)
        tflite_multiplier(tflite_factor(&c->factors, channel + j), &mult[j], &shift[j]);
}

/* One panel of weights over the prepared rows a: output rows [m, m + rows) x channels [channel, channel + cols). */
static void panel_s8(const struct conv *c, const struct conv_io *io, const void *const *a, const int8_t *b, int m, int rows,
                     int channel, int cols, const struct scratch *t)
{
    const int taps = c->rows.taps, channels = c->rows.channels, mr = c->mr, sums = c->float_out || c->tflite;
    int32_t *tile = t->tile, *mult = (int32_t *)(void *)t->row, *shift = (int32_t *)(void *)t->residual;
    const ptrdiff_t ld = c->s.out_c;
    ptrdiff_t at = (ptrdiff_t)m * ld + channel;
    struct store_s8 s = store_s8_at(c, io, at, channel);
    s.sums = sums ? tile : NULL;
    tflite_columns(c, channel, cols, mult, shift);
    for (; rows > 0; rows -= mr, a += mr * taps, at += mr * ld) {
        const int count = rows < mr ? rows : mr;
        if (c->s8->fused) {
            c->s8->fused(taps, channels, a, b, &s, count, cols);
        } else {
            c->s8->tile(taps, channels, a, b, tile);
            if (sums)
                add_bias(c, tile, channel, count, cols);
            else
                c->s8->store(&s, tile, c->nr, count, cols);
        }
        if (c->float_out) {
            store_logits(c, tile, channel, count, cols, (float *)io->y + at);
            continue;
        }
        if (c->tflite)
            tflite_store(tile, c->nr, count, cols, mult, shift, c->out_zero, c->relu ? c->out_zero : -128, s.y, ld);
        s.y += mr * ld;
        if (s.residual)
            s.residual += mr * ld;
    }
}

static void store_float(const struct conv *c, const struct store_f32 *s, const float *tile, int nr, int rows, int cols,
                        const struct scratch *t)
{
    const int half = c->precision == PRECISION_FP16;
    for (int i = 0; i < rows; i++) {
        const ptrdiff_t at = i * s->ld;
        const float *add = half || !s->residual ? NULL : (const float *)s->residual + at;
        float *out = half ? t->row : (float *)s->y + at;
        if (half && s->residual) {
            c->ops->widen((size_t)cols, (const uint16_t *)s->residual + at, t->residual);
            add = t->residual;
        }
        c->ops->finish((size_t)cols, tile + i * nr, s->mult, s->bias, add, s->relu, out);
        if (half)
            c->ops->narrow((size_t)cols, out, (uint16_t *)s->y + at);
    }
}

static void panel_float(const struct conv *c, const struct conv_io *io, const void *const *a, const char *b, int m, int rows,
                        int channel, int cols, const struct scratch *t)
{
    const int taps = c->rows.taps, channels = c->rows.channels, mr = c->mr;
    ptrdiff_t at = (ptrdiff_t)m * c->s.out_c + channel;
    for (; rows > 0; rows -= mr, a += mr * taps, at += (ptrdiff_t)mr * c->s.out_c) {
        const int count = rows < mr ? rows : mr;
        const struct store_f32 s = store_f32_at(c, io, at, channel);
        if (c->f32->fused[c->precision]) {
            c->f32->fused[c->precision](taps, channels, a, b, &s, count, cols);
            continue;
        }
        if (c->precision == PRECISION_FP32)
            c->f32->tile_f32(taps, channels, a, (const float *)(const void *)b, t->tile);
        else if (c->precision == PRECISION_FP16)
            c->f32->tile_f16(taps, channels, a, (const uint16_t *)(const void *)b, t->tile);
        else
            c->f32->tile_s8(taps, channels, a, (const int8_t *)b, t->tile);
        store_float(c, &s, t->tile, c->nr, count, cols, t);
    }
}

/* Rows [m0, m1) by panels [j0, j1) of one group. */
static void block(const struct conv *c, const struct conv_io *io, int group, int m0, int m1, int j0, int j1, const struct scratch *t)
{
    for (int m = m0; m < m1; m += c->rows.strip) {
        const int rows = m1 - m < c->rows.strip ? m1 - m : c->rows.strip;
        const void *const *a = rows_prepare(&c->rows, io->x, group, m, rows, t->rows);
        for (int j = j0; j < j1; j++) {
            const char *b = c->panels + ((size_t)group * (size_t)c->group_panels + (size_t)j) * c->panel_bytes;
            const int first = j * c->nr, cols = c->group_n - first < c->nr ? c->group_n - first : c->nr;
            const int channel = group * c->group_n + first;
            if (is_s8(c))
                panel_s8(c, io, a, (const int8_t *)b, m, rows, channel, cols, t);
            else
                panel_float(c, io, a, b, m, rows, channel, cols, t);
        }
    }
}

/* The part of a Winograd tile's 4x4 pixels that exists. */
static void store_winograd(const struct conv *c, const struct conv_io *io, int tile, int panel, const void *sums, const struct scratch *t)
{
    const struct winograd *w = &c->winograd;
    const int per_image = w->tiles_h * w->tiles_w, place = tile % per_image, nr = w->nr;
    const int y = place / w->tiles_w * 4, x = place % w->tiles_w * 4;
    const int lines = c->s.out_h - y < 4 ? c->s.out_h - y : 4, rows = c->s.out_w - x < 4 ? c->s.out_w - x : 4;
    const int channel = panel * nr, cols = c->s.out_c - channel < nr ? c->s.out_c - channel : nr;
    for (int i = 0; i < lines; i++) {
        const ptrdiff_t line = ((ptrdiff_t)(tile / per_image) * c->s.out_h + y + i) * c->s.out_w;
        const ptrdiff_t at = (line + x) * c->s.out_c + channel;
        if (is_s8(c)) {
            const struct store_s8 s = store_s8_at(c, io, at, channel);
            w->s16->store(&s, (const int32_t *)sums + 4 * i * nr, nr, rows, cols);
        } else {
            const struct store_f32 s = store_f32_at(c, io, at, channel);
            store_float(c, &s, (const float *)sums + 4 * i * nr, nr, rows, cols, t);
        }
    }
}

/* Tiles [first, end) of all images by panels [j0, j1). */
static void block_winograd(const struct conv *c, const struct conv_io *io, int first, int end, int j0, int j1, const struct scratch *t)
{
    const struct winograd *w = &c->winograd;
    for (; first < end; first += w->block) {
        const int count = end - first < w->block ? end - first : w->block;
        winograd_input(w, io->x, first, count, t->rows);
        for (int panel = j0; panel < j1; panel++) {
            winograd_multiply(w, panel, count, t->rows);
            for (int i = 0; i < count; i++)
                store_winograd(c, io, first + i, panel, winograd_output(w, i, t->rows), t);
        }
    }
}

/* Share of the longest task when `units` are dealt to `tasks`: 1 is perfect. */
static double imbalance(int units, int tasks)
{
    return (double)((units + tasks - 1) / tasks) * tasks / units;
}

/* By tiles, every task transforms weights that are plain; by panels, every task transforms all inputs. */
static void run_winograd(const struct conv *c, const struct conv_io *io, int task, int tasks, const struct scratch *t)
{
    const struct winograd *w = &c->winograd;
    const int all = io->images * w->tiles_h * w->tiles_w, blocks = (all + w->mr - 1) / w->mr;
    if (w->on_the_way && all <= w->block * tasks && imbalance(w->panels, tasks) <= imbalance(blocks, tasks) * 1.05) {
        block_winograd(c, io, 0, all, (int)((int64_t)w->panels * task / tasks), (int)((int64_t)w->panels * (task + 1) / tasks), t);
        return;
    }
    const int first = (int)((int64_t)blocks * task / tasks) * w->mr, end = (int)((int64_t)blocks * (task + 1) / tasks) * w->mr;
    block_winograd(c, io, first, end < all ? end : all, 0, w->panels, t);
}

void conv_run(const struct conv *c, const struct conv_io *io, int task, int tasks, void *scratch)
{
    struct scratch t;
    t.tile = scratch;
    t.row = (float *)(void *)((char *)scratch + tile_bytes(c));
    t.residual = t.row + row_bytes(c) / sizeof(float);
    t.rows = (char *)scratch + tile_bytes(c) + 2 * row_bytes(c);

    if (c->is_winograd) {
        run_winograd(c, io, task, tasks, &t);
        return;
    }

    /* By rows, every task reads all weights; by channels, every task reads all inputs. The smaller is read twice, unless the other
       way shares the work better. */
    const int m = io->images * c->s.out_h * c->s.out_w, tiles = (m + c->mr - 1) / c->mr;
    const int panels = c->s.groups * c->group_panels;
    const size_t weights = (size_t)panels * c->panel_bytes, inputs = (size_t)io->images * (size_t)(c->s.in_h * c->s.in_w * c->s.in_c);
    const double by_rows = imbalance(tiles, tasks), by_panels = imbalance(panels, tasks);
    if (tasks == 1 || (weights < inputs ? by_rows <= by_panels * 1.05 : by_rows * 1.05 < by_panels)) {
        int m0 = (int)((int64_t)tiles * task / tasks) * c->mr, m1 = (int)((int64_t)tiles * (task + 1) / tasks) * c->mr;
        if (m1 > m)
            m1 = m;
        for (int g = 0; g < c->s.groups && m0 < m1; g++)
            block(c, io, g, m0, m1, 0, c->group_panels, &t);
        return;
    }
    int j0 = (int)((int64_t)panels * task / tasks), j1 = (int)((int64_t)panels * (task + 1) / tasks);
    while (j0 < j1) {
        int g = j0 / c->group_panels, first = j0 % c->group_panels, rest = j1 - j0;
        int count = c->group_panels - first < rest ? c->group_panels - first : rest;
        block(c, io, g, 0, m, first, first + count, &t);
        j0 += count;
    }
}

void conv_describe(const struct conv *c, char *text, size_t size)
{
    if (c->is_winograd)
        snprintf(text, size, "%s winograd %dx%d", c->kernels, c->winograd.mr, c->winograd.nr);
    else
        snprintf(text, size, "%s %dx%d", c->kernels, c->mr, c->nr);
}

// SPDX-License-Identifier: MIT
//
// The loops around the tiles. Output pixels are rows (m), output channels columns (n), the inputs under the kernel the depth (k).
// A strip of rows is packed into scratch that stays in the second cache level, then every panel of weights passes over it:
//
//     for each strip of rows:  pack A          for each panel of nr channels:  for each mr rows:  tile, then store what exists

#include "kernels/conv.h"

#include <limits.h>
#include <string.h>

#include "kernels/kernels.h"
#include "kernels/pack.h"
#include "kernels/tiles.h"

#define STRIP_BYTES (128 * 1024)

struct conv {
    const struct kernels *k;
    enum precision precision;
    struct conv_shape s;
    int relu, float_out;
    int in_zero, out_zero, residual_zero;
    float residual_mult;
    int mr, nr;
    int depth, depth_padded;     /* of one group */
    int group_n, group_panels;   /* output channels and weight panels of one group */
    int strip;                   /* rows packed at a time, a multiple of mr */
    size_t panel_bytes;
    const int32_t *bias_s32;     /* [O] with the zero points of input and A form folded in */
    const float *mult;           /* [O] int8: requantisation, or the scale of the logits; hybrid: weight scale */
    const float *bias;           /* [O] float precisions */
    const char *panels;          /* [groups][group_panels] of panel_bytes */
};

static size_t align_up(size_t n)
{
    return (n + CONV_ALIGN - 1) / CONV_ALIGN * CONV_ALIGN;
}

static int is_s8(enum precision p)
{
    return p == PRECISION_INT8;
}

static size_t weight_size(enum precision p)
{
    return p == PRECISION_FP32 ? 4 : p == PRECISION_FP16 ? 2 : 1;
}

/* Bytes of one A element in the panel. */
static size_t a_size(const struct conv *c)
{
    return is_s8(c->precision) && c->k->s8->a_form != A_S16 ? 1 : is_s8(c->precision) ? 2 : 4;
}

static void geometry(struct conv *c, const struct kernels *k, enum precision p, const struct conv_shape *s)
{
    memset(c, 0, sizeof *c);
    c->k = k;
    c->precision = p;
    c->s = *s;
    c->mr = is_s8(p) ? k->s8->mr : k->f32->mr;
    c->nr = is_s8(p) ? k->s8->nr : k->f32->nr;
    int ku = is_s8(p) ? k->s8->ku : 1;
    c->depth = s->kernel_h * s->kernel_w * (s->in_c / s->groups);
    c->depth_padded = (c->depth + ku - 1) / ku * ku;
    c->group_n = s->out_c / s->groups;
    c->group_panels = (c->group_n + c->nr - 1) / c->nr;
    c->panel_bytes = align_up((size_t)c->depth_padded * (size_t)c->nr * weight_size(p));
    int rows = (int)((size_t)STRIP_BYTES / ((size_t)c->depth_padded * a_size(c))) / c->mr * c->mr;
    c->strip = rows < c->mr ? c->mr : rows;
}

static size_t channel_bytes(const struct conv *c)
{
    return align_up((size_t)c->s.out_c * 4);
}

size_t conv_bytes(const struct kernels *k, enum precision p, const struct conv_shape *s)
{
    struct conv c;
    geometry(&c, k, p, s);
    return align_up(sizeof c) + 2 * channel_bytes(&c) + (size_t)s->groups * (size_t)c.group_panels * c.panel_bytes;
}

static int64_t sum_weights(const int8_t *w, int depth)
{
    int64_t sum = 0;
    for (int i = 0; i < depth; i++)
        sum += w[i];
    return sum;
}

int conv_check_s8(const struct conv_shape *s, const struct conv_params *params)
{
    /* The largest partial sum any implementation forms: activations as 0..255, plus a bias that carries up to 256 x sum(w). */
    const int8_t *w = params->weight;
    int depth = s->kernel_h * s->kernel_w * (s->in_c / s->groups);
    for (int o = 0; o < s->out_c; o++, w += depth) {
        int64_t sum = 0;
        for (int i = 0; i < depth; i++)
            sum += w[i] < 0 ? -w[i] : w[i];
        int64_t bias = params->bias_s32 ? params->bias_s32[o] : 0;
        if (512 * sum + (bias < 0 ? -bias : bias) > INT32_MAX)
            return o;
    }
    return -1;
}

struct conv *conv_init(void *memory, const struct kernels *k, enum precision p, const struct conv_shape *s,
                       const struct conv_params *params)
{
    struct conv *c = memory;
    geometry(c, k, p, s);
    c->relu = params->relu;
    char *at = (char *)memory + align_up(sizeof *c);
    void *bias = at;
    float *mult = (float *)(void *)(at + channel_bytes(c));
    char *panels = at + 2 * channel_bytes(c);

    if (is_s8(p)) {
        int32_t *b = bias;
        c->bias_s32 = b;
        c->in_zero = params->in.zero;
        c->out_zero = params->out.zero;
        c->float_out = params->float_out;
        c->residual_zero = params->residual.zero;
        c->residual_mult = params->float_out ? 0 : params->residual.scale / params->out.scale;
        int64_t offset = k->s8->a_form == A_U8 ? 128 : 0;
        for (int o = 0; o < s->out_c; o++) {
            const int8_t *w = (const int8_t *)params->weight + (size_t)o * (size_t)c->depth;
            int64_t given = params->bias_s32 ? params->bias_s32[o] : 0;
            b[o] = (int32_t)(given - (params->in.zero + offset) * sum_weights(w, c->depth));
            float product = params->in.scale * params->scale[o];
            mult[o] = params->float_out ? product : product / params->out.scale;
        }
    } else {
        float *b = bias;
        c->bias = b;
        for (int o = 0; o < s->out_c; o++) {
            b[o] = params->bias ? params->bias[o] : 0;
            mult[o] = p == PRECISION_HYBRID ? params->scale[o] : 1;
        }
    }
    c->mult = mult;
    c->panels = panels;

    size_t size = weight_size(p);
    int kr = is_s8(p) ? k->s8->kr : 1;
    for (int g = 0; g < s->groups; g++)
        for (int j = 0; j < c->group_panels; j++) {
            int first = j * c->nr, cols = c->group_n - first < c->nr ? c->group_n - first : c->nr;
            const char *w = (const char *)params->weight + ((size_t)(g * c->group_n + first)) * (size_t)c->depth * size;
            pack_b(w, size, cols, c->depth, c->nr, kr, c->depth_padded,
                   panels + ((size_t)g * (size_t)c->group_panels + (size_t)j) * c->panel_bytes);
        }
    return c;
}

static size_t line_bytes(const struct conv *c)
{
    return align_up((size_t)c->depth * 4 + 64);
}

/* Scratch: packed strip, one line as activations, one line as floats, the tile, one row of channels as floats twice. */
size_t conv_scratch_bytes(const struct conv *c)
{
    size_t strip = align_up((size_t)c->strip * (size_t)c->depth_padded * a_size(c));
    return strip + 2 * line_bytes(c) + align_up((size_t)(c->mr * c->nr) * 4) + 2 * align_up((size_t)c->nr * 4);
}

/* The inputs under the kernel at one output pixel, in the order kh, kw, i. Where they lie in one piece, the piece itself. */
static const char *gather(const struct conv *c, const char *image, int oy, int ox, int group, size_t size, char *line)
{
    const struct conv_shape *s = &c->s;
    int channels = s->in_c / s->groups, y0 = oy * s->stride_h - s->pad_top, x0 = ox * s->stride_w - s->pad_left;
    size_t piece = (size_t)channels * size, pixel = (size_t)s->in_c * size;
    const char *base = image + (size_t)(group * channels) * size;
    if (s->kernel_h == 1 && s->kernel_w == 1 && y0 >= 0 && y0 < s->in_h && x0 >= 0 && x0 < s->in_w)
        return base + ((size_t)y0 * (size_t)s->in_w + (size_t)x0) * pixel;
    int padding = is_s8(c->precision) ? c->in_zero : 0; /* zero is all-zero bytes in float and half */
    int left = x0 < 0 ? (-x0 < s->kernel_w ? -x0 : s->kernel_w) : 0;
    int right = x0 + s->kernel_w > s->in_w ? x0 + s->kernel_w - s->in_w : 0;
    if (right > s->kernel_w - left)
        right = s->kernel_w - left;
    int inside = s->kernel_w - left - right;
    char *to = line;
    for (int kh = 0; kh < s->kernel_h; kh++) {
        int y = y0 + kh;
        if (y < 0 || y >= s->in_h || inside <= 0) {
            memset(to, padding, piece * (size_t)s->kernel_w);
            to += piece * (size_t)s->kernel_w;
            continue;
        }
        memset(to, padding, piece * (size_t)left);
        to += piece * (size_t)left;
        const char *from = base + ((size_t)y * (size_t)s->in_w + (size_t)(x0 + left)) * pixel;
        if (s->groups == 1) {
            memcpy(to, from, pixel * (size_t)inside);
            to += pixel * (size_t)inside;
        } else {
            for (int kw = 0; kw < inside; kw++, from += pixel, to += piece)
                memcpy(to, from, piece);
        }
        memset(to, padding, piece * (size_t)right);
        to += piece * (size_t)right;
    }
    return line;
}

struct scratch {
    char *strip, *line;
    float *floats;
    void *tile;
    float *row, *residual;
};

static void pack_strip(const struct conv *c, const struct conv_io *io, int group, int m0, int rows, const struct scratch *t)
{
    const struct conv_shape *s = &c->s;
    const size_t size = is_s8(c->precision) ? 1 : c->precision == PRECISION_FP16 ? 2 : 4;
    const size_t image = (size_t)s->in_h * (size_t)s->in_w * (size_t)s->in_c * size;
    const size_t panel = (size_t)c->mr * (size_t)c->depth_padded * a_size(c);
    const int pixels = s->out_h * s->out_w;
    for (int r = 0; r < rows || r % c->mr; r++) {
        char *to = t->strip + (size_t)(r / c->mr) * panel;
        int i = r % c->mr, m = m0 + r;
        if (r >= rows) {
            if (is_s8(c->precision))
                pack_a_s8_empty(i, c->k->s8, c->depth_padded, to);
            else
                pack_a_f32_empty(i, c->depth, c->mr, (float *)(void *)to);
            continue;
        }
        int oy = m % pixels / s->out_w, ox = m % s->out_w;
        const char *line = gather(c, (const char *)io->x + (size_t)(m / pixels) * image, oy, ox, group, size, t->line);
        if (is_s8(c->precision)) {
            pack_a_s8((const int8_t *)line, i, c->depth, c->k->s8, c->depth_padded, to);
        } else if (c->precision == PRECISION_FP16) {
            c->k->f32->widen((size_t)c->depth, (const uint16_t *)(const void *)line, t->floats);
            pack_a_f32(t->floats, i, c->depth, c->mr, (float *)(void *)to);
        } else {
            pack_a_f32((const float *)(const void *)line, i, c->depth, c->mr, (float *)(void *)to);
        }
    }
}

static void store_logits(const struct conv *c, const int32_t *tile, int channel, int rows, int cols, float *y)
{
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < cols; j++)
            y[(ptrdiff_t)i * c->s.out_c + j] = (float)(tile[i * c->nr + j] + c->bias_s32[channel + j]) * c->mult[channel + j];
}

static void store_float(const struct conv *c, const float *tile, int channel, int rows, int cols, const void *residual, void *y,
                        const struct scratch *t)
{
    const int half = c->precision == PRECISION_FP16;
    const float *bias = c->bias + channel, *mult = c->mult + channel;
    for (int i = 0; i < rows; i++) {
        ptrdiff_t at = (ptrdiff_t)i * c->s.out_c;
        float *out = half ? t->row : (float *)y + at;
        const float *in = tile + i * c->nr, *add = NULL;
        if (residual && half) {
            c->k->f32->widen((size_t)cols, (const uint16_t *)residual + at, t->residual);
            add = t->residual;
        } else if (residual) {
            add = (const float *)residual + at;
        }
        for (int j = 0; j < cols; j++) {
            float v = in[j] * mult[j] + bias[j];
            if (add)
                v += add[j];
            out[j] = c->relu && v < 0 ? 0 : v;
        }
        if (half)
            c->k->f32->narrow((size_t)cols, out, (uint16_t *)y + at);
    }
}

/* One tile: rows [m, m + rows) x channels [channel, channel + cols). */
static void tile_and_store(const struct conv *c, const struct conv_io *io, const char *a, const char *b, int m, int rows,
                           int channel, int cols, const struct scratch *t)
{
    const ptrdiff_t ld = c->s.out_c, at = (ptrdiff_t)m * ld + channel;
    if (is_s8(c->precision)) {
        const struct gemm_s8 *g = c->k->s8;
        g->tile(c->depth_padded, a, (const int8_t *)b, t->tile);
        if (c->float_out) {
            store_logits(c, t->tile, channel, rows, cols, (float *)io->y + at);
            return;
        }
        struct store_s8 s = {c->bias_s32 + channel,
                             c->mult + channel,
                             io->residual ? (const int8_t *)io->residual + at : NULL,
                             c->residual_mult,
                             c->residual_zero,
                             c->out_zero,
                             (float)(c->relu ? 0 : -128 - c->out_zero),
                             (float)(127 - c->out_zero),
                             (int8_t *)io->y + at,
                             ld};
        g->store(&s, t->tile, c->nr, rows, cols);
        return;
    }
    const struct gemm_f32 *g = c->k->f32;
    const float *fa = (const float *)(const void *)a;
    if (c->precision == PRECISION_FP32)
        g->tile_f32(c->depth, fa, (const float *)(const void *)b, t->tile);
    else if (c->precision == PRECISION_FP16)
        g->tile_f16(c->depth, fa, (const uint16_t *)(const void *)b, t->tile);
    else
        g->tile_s8(c->depth, fa, (const int8_t *)b, t->tile);
    size_t size = c->precision == PRECISION_FP16 ? 2 : 4;
    store_float(c, t->tile, channel, rows, cols, io->residual ? (const char *)io->residual + at * (ptrdiff_t)size : NULL,
                (char *)io->y + at * (ptrdiff_t)size, t);
}

/* Rows [m0, m1) by panels [j0, j1) of one group. */
static void block(const struct conv *c, const struct conv_io *io, int group, int m0, int m1, int j0, int j1, const struct scratch *t)
{
    const size_t panel = (size_t)c->mr * (size_t)c->depth_padded * a_size(c);
    for (int m = m0; m < m1; m += c->strip) {
        int rows = m1 - m < c->strip ? m1 - m : c->strip;
        pack_strip(c, io, group, m, rows, t);
        for (int j = j0; j < j1; j++) {
            const char *b = c->panels + ((size_t)group * (size_t)c->group_panels + (size_t)j) * c->panel_bytes;
            int first = j * c->nr, cols = c->group_n - first < c->nr ? c->group_n - first : c->nr;
            for (int i = 0; i < rows; i += c->mr)
                tile_and_store(c, io, t->strip + (size_t)(i / c->mr) * panel, b, m + i, rows - i < c->mr ? rows - i : c->mr,
                               group * c->group_n + first, cols, t);
        }
    }
}

void conv_run(const struct conv *c, const struct conv_io *io, int task, int tasks, void *scratch)
{
    const size_t strip = align_up((size_t)c->strip * (size_t)c->depth_padded * a_size(c));
    char *at = scratch;
    struct scratch t;
    t.strip = at;
    t.line = at + strip;
    t.floats = (float *)(void *)(at + strip + line_bytes(c));
    t.tile = at + strip + 2 * line_bytes(c);
    t.row = (float *)(void *)((char *)t.tile + align_up((size_t)(c->mr * c->nr) * 4));
    t.residual = t.row + align_up((size_t)c->nr * 4) / 4;

    /* Large images are shared by rows, the small ones of the last stages by channels: there the weights are what must move. */
    const int m = io->images * c->s.out_h * c->s.out_w, tiles = (m + c->mr - 1) / c->mr;
    const int panels = c->s.groups * c->group_panels;
    if (tasks == 1 || tiles >= 4 * tasks || tiles >= panels) {
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

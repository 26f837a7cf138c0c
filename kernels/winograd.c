// SPDX-License-Identifier: MIT

#include "kernels/winograd.h"

#include <math.h>
#include <string.h>

#include "kernels/kernels.h"
#include "kernels/pack.h"
#include "kernels/tiles.h"

#define TAPS  36
#define LANES 16 /* channels that the transforms take at once; in int8 it is the ku of the tile */

/* in_c * out_c. Transformed weights are 4 times, in int8 8 times, as large as the plain ones, and the only copy: up to here they
   stay in the second cache level, and ResNet-50 grows by a few megabytes. Larger ones are transformed on the way. */
#define WEIGHTS_MAX        (128 * 128)
#define WEIGHTS_MAX_ON_WAY (1024 * 1024)

/* Transformed inputs and products of a block: they stay in the second cache level. Weights that are transformed on the way, once
   per block, ask for larger ones. */
#define SCRATCH_BYTES        (128 * 1024)
#define SCRATCH_BYTES_ON_WAY (384 * 1024)
#define TILES_ON_WAY         16           /* but at least this many: all of a 14x14 image */
#define LINE_BYTES_ON_WAY    (400 * 1024) /* of a panel's six transformed weights */

/* Bytes of a transformed input or weight, and of a weight as it is kept. */
static size_t input_size(enum precision p)
{
    return p == PRECISION_INT8 ? 2 : 4;
}

static size_t weight_size(const struct winograd *w)
{
    static const size_t plain[PRECISIONS] = {4, 2, 1, 1};
    return w->on_the_way ? plain[w->precision] : input_size(w->precision);
}

static size_t line_bytes(const struct winograd *w, int nr)
{
    return conv_align(6 * (size_t)w->s.in_c * (size_t)nr * input_size(w->precision));
}

/* Elements between the 36 matrices of `count` elements of `size` bytes: a cache line more than they need, so that powers of two
   do not put one element of all 36 into the same set of a cache. */
static ptrdiff_t stride(int count, size_t size)
{
    return (ptrdiff_t)((conv_align((size_t)count * size) + CONV_ALIGN) / size);
}

/* What a tile costs: the multiplications at its edges count in full, and the loads per multiplication of each shape. */
static double tile_cost(int m, int n, int mr, int nr)
{
    const double padded = (double)((m + mr - 1) / mr * mr) * (double)((n + nr - 1) / nr * nr);
    return padded * (1 + 1.0 / mr + 8.0 / nr);
}

static int fits(const struct winograd *w, int nr)
{
    return !w->on_the_way || line_bytes(w, nr) <= LINE_BYTES_ON_WAY;
}

/* 0: none. */
static int choose_tile(struct winograd *w, const struct kernels *k)
{
    const int m = w->tiles_h * w->tiles_w, n = w->s.out_c;
    double best = HUGE_VAL;
    if (w->precision == PRECISION_INT8) {
        for (const struct gemm_s16 *const *g = k->s16; g && *g; g++) {
            const double cost = tile_cost(m, n, (*g)->mr, (*g)->nr);
            if (w->s.in_c % (*g)->ku == 0 && cost < best && fits(w, (*g)->nr)) {
                best = cost;
                w->s16 = *g;
                w->mr = (*g)->mr;
                w->nr = (*g)->nr;
            }
        }
        return w->s16 != NULL;
    }
    for (const struct gemm_f32 *const *g = k->f32; *g; g++) {
        const double cost = tile_cost(m, n, (*g)->mr, (*g)->nr);
        if (cost < best && fits(w, (*g)->nr)) {
            best = cost;
            w->f32 = *g;
            w->mr = (*g)->mr;
            w->nr = (*g)->nr;
        }
    }
    return w->f32 != NULL;
}

int winograd_plan(struct winograd *w, const struct kernels *k, enum precision p, const struct conv_shape *s)
{
    if (p == PRECISION_FP16 && k->f16) /* half arithmetic is faster */
        return 0;
    if (s->kernel_h != 3 || s->kernel_w != 3 || s->stride_h != 1 || s->stride_w != 1 || s->groups != 1 || s->in_c % LANES != 0 ||
        s->out_c < LANES || s->in_c > WEIGHTS_MAX_ON_WAY / s->out_c)
        return 0;
    memset(w, 0, sizeof *w);
    w->s = *s;
    w->precision = p;
    w->ops = k->winograd;
    w->on_the_way = p == PRECISION_FP16 || p == PRECISION_HYBRID || s->in_c > WEIGHTS_MAX / s->out_c;
    w->tiles_h = (s->out_h + 3) / 4;
    w->tiles_w = (s->out_w + 3) / 4;
    const int least = !w->on_the_way        ? k->winograd->least_tiles
                      : p == PRECISION_INT8 ? k->winograd->least_tiles_on_the_way_s8
                                            : k->winograd->least_tiles_on_the_way;
    if (w->tiles_h * w->tiles_w < least || !choose_tile(w, k))
        return 0;
    w->panels = (s->out_c + w->nr - 1) / w->nr;
    w->product_bytes = (size_t)s->in_c * (size_t)w->nr * weight_size(w);
    w->panel_bytes = conv_align((w->on_the_way ? 9 : TAPS) * w->product_bytes);
    const size_t tile_bytes = TAPS * ((size_t)s->in_c * input_size(p) + (size_t)w->nr * 4);
    int fit = (int)((w->on_the_way ? SCRATCH_BYTES_ON_WAY : SCRATCH_BYTES) / tile_bytes);
    if (w->on_the_way && fit < TILES_ON_WAY)
        fit = TILES_ON_WAY + w->mr - 1;
    const int blocks = fit / w->mr, all = (w->tiles_h * w->tiles_w + w->mr - 1) / w->mr;
    w->block = w->mr * (blocks < 1 ? 1 : blocks < all ? blocks : all);
    w->input_stride = stride(w->block * s->in_c, input_size(p));
    w->product_stride = stride(w->block * w->nr, 4);
    return 1;
}

/* ---- weights ---- */

#define CHUNK LANES

/* G times a line of three, over channels. G is 24 times that of the paper, but its last line 6: a 4 is left to the transform of
   the products. All are integers, exact in float. */
static void weight_line(const float *restrict g0, const float *restrict g1, const float *restrict g2, float *restrict u, int step)
{
    for (int c = 0; c < CHUNK; c++) {
        const float even = g0[c] + 4 * g2[c], odd = 2 * g1[c], sum = g0[c] + g2[c];
        u[c] = 6 * g0[c];
        u[step + c] = -4 * (sum + g1[c]);
        u[2 * step + c] = -4 * (sum - g1[c]);
        u[3 * step + c] = even + odd;
        u[4 * step + c] = even - odd;
        u[5 * step + c] = 6 * g2[c];
    }
}

/* G g G^T of the 3x3 weights of some channels. */
static void transform_weights(float g[9][CHUNK], float u[TAPS][CHUNK])
{
    float t[6][3][CHUNK];
    for (int j = 0; j < 3; j++)
        weight_line(g[j], g[3 + j], g[6 + j], t[0][j], 3 * CHUNK);
    for (int i = 0; i < 6; i++)
        weight_line(t[i][0], t[i][1], t[i][2], u[6 * i], CHUNK);
}

static void load_weights(const struct winograd *w, const void *weight, size_t at, float *g)
{
    if (w->precision == PRECISION_FP32)
        memcpy(g, (const float *)weight + at, CHUNK * sizeof *g);
    else
        for (int c = 0; c < CHUNK; c++)
            g[c] = ((const int8_t *)weight)[at + (size_t)c];
}

/* One output channel: column `column` of a panel, channels from c on. */
static void store_weights(const struct winograd *w, float u[TAPS][CHUNK], int c, int column, char *panel)
{
    if (w->precision == PRECISION_FP32) {
        for (int xi = 0; xi < TAPS; xi++, panel += w->product_bytes) {
            float *to = (float *)(void *)panel + (ptrdiff_t)c * w->nr + column;
            for (int i = 0; i < CHUNK; i++)
                to[i * w->nr] = u[xi][i];
        }
        return;
    }
    const int kr = w->s16->kr;
    for (int xi = 0; xi < TAPS; xi++, panel += w->product_bytes) {
        int16_t *to = (int16_t *)(void *)panel + (ptrdiff_t)c * w->nr + column * kr;
        for (int i = 0; i < CHUNK; i += kr, to += w->nr * kr)
            for (int q = 0; q < kr; q++)
                to[q] = (int16_t)u[xi][i + q];
    }
}

int winograd_exact(const struct conv_shape *s, const struct conv_params *params)
{
    const int64_t low = params->in.zero + 128, high = 127 - params->in.zero; /* of inputs, below and above the zero point */
    const int depth = 9 * s->in_c;
    const int8_t *q = params->weight;
    for (int o = 0; o < s->out_c; o++, q += depth) {
        int32_t sum = 0, positive = 0; /* at most 9 * WEIGHTS_MAX_ON_WAY / LANES * 128 */
        for (int i = 0; i < depth; i++) {
            sum += q[i];
            positive += q[i] > 0 ? q[i] : 0;
        }
        const int32_t negative = positive - sum;
        if (high * positive + low * negative >= 1 << 25 || high * negative + low * positive >= 1 << 25)
            return 0;
    }
    return 1;
}

size_t winograd_weight_bytes(const struct winograd *w)
{
    return (size_t)w->panels * w->panel_bytes;
}

/* As they are, in the order in which the tiles want the transformed ones. */
static void pack_plain(const struct winograd *w, const char *weight, char *panel)
{
    const size_t size = weight_size(w);
    const int channels = w->s.in_c, kr = w->precision == PRECISION_INT8 ? w->s16->kr : 1;
    for (int first = 0; first < w->s.out_c; first += w->nr, panel += w->panel_bytes)
        pack_b(weight + (size_t)first * 9 * (size_t)channels * size, size,
               w->s.out_c - first < w->nr ? w->s.out_c - first : w->nr, 9, channels, channels, w->nr, kr, panel);
}

void winograd_pack(struct winograd *w, const struct conv_params *params, void *memory)
{
    float g[9][CHUNK], u[TAPS][CHUNK];
    w->zero = w->precision == PRECISION_INT8 ? params->in.zero : 0;
    w->weights = memory;
    if (w->on_the_way) {
        pack_plain(w, params->weight, memory);
        return;
    }
    memset(memory, 0, winograd_weight_bytes(w));
    for (int o = 0; o < w->s.out_c; o++)
        for (int c = 0; c < w->s.in_c; c += CHUNK) {
            for (int tap = 0; tap < 9; tap++)
                load_weights(w, params->weight, ((size_t)o * 9 + (size_t)tap) * (size_t)w->s.in_c + (size_t)c, g[tap]);
            transform_weights(g, u);
            store_weights(w, u, c, o % w->nr, (char *)memory + (size_t)(o / w->nr) * w->panel_bytes);
        }
}

/* ---- inputs and products ---- */

struct scratch {
    char *inputs;      /* [36][block][in_c], input_stride apart */
    char *products;    /* [36][block][nr], product_stride apart */
    char *output;      /* [16][nr] */
    char *padding;     /* [in_c] */
    void *line;        /* [6][in_c / kr][nr][kr] weights transformed on the way */
    float *one, *none; /* [nr] what fused float tiles multiply with and add */
};

static size_t padding_bytes(const struct winograd *w)
{
    return conv_align((size_t)w->s.in_c * 4);
}

static struct scratch divide(const struct winograd *w, void *memory)
{
    struct scratch t;
    t.inputs = memory;
    t.products = t.inputs + (size_t)(TAPS * w->input_stride) * input_size(w->precision);
    t.output = t.products + (size_t)(TAPS * w->product_stride) * 4;
    t.padding = t.output + (size_t)w->nr * 64;
    t.one = (float *)(void *)(t.padding + padding_bytes(w));
    t.none = t.one + w->nr;
    t.line = (char *)t.one + conv_align((size_t)w->nr * 8);
    return t;
}

size_t winograd_scratch_bytes(const struct winograd *w)
{
    return (size_t)TAPS * ((size_t)w->input_stride * input_size(w->precision) + (size_t)w->product_stride * 4) +
           (size_t)w->nr * 64 + padding_bytes(w) + conv_align((size_t)w->nr * 8) + (w->on_the_way ? line_bytes(w, w->nr) : 0);
}

void winograd_input(const struct winograd *w, const void *x, int first, int count, void *scratch)
{
    const struct conv_shape *s = &w->s;
    const struct scratch t = divide(w, scratch);
    const size_t size = w->precision == PRECISION_INT8   ? 1
                        : w->precision == PRECISION_FP16 ? 2
                                                         : 4,
                 pixel = (size_t)s->in_c * size;
    memset(t.padding, w->zero, pixel);
    for (int i = 0; i < w->nr; i++) {
        t.one[i] = 1;
        t.none[i] = 0;
    }
    for (int i = 0; i < count; i++) {
        const int tile = first + i, per_image = w->tiles_h * w->tiles_w, place = tile % per_image;
        const char *image = (const char *)x + (size_t)(tile / per_image) * (size_t)(s->in_h * s->in_w) * pixel;
        const int y0 = place / w->tiles_w * 4 - s->pad_top, x0 = place % w->tiles_w * 4 - s->pad_left;
        const void *pixels[TAPS];
        for (int a = 0; a < 6; a++)
            for (int b = 0; b < 6; b++)
                pixels[6 * a + b] = y0 + a < 0 || y0 + a >= s->in_h || x0 + b < 0 || x0 + b >= s->in_w
                                        ? t.padding
                                        : image + ((size_t)(y0 + a) * (size_t)s->in_w + (size_t)(x0 + b)) * pixel;
        char *v = t.inputs + (size_t)i * (size_t)s->in_c * input_size(w->precision);
        if (w->precision == PRECISION_INT8)
            w->ops->input_s8(pixels, w->zero, s->in_c, (int16_t *)(void *)v, w->input_stride);
        else
            (w->precision == PRECISION_FP16 ? w->ops->input_f16 : w->ops->input_f32)(pixels, s->in_c, (float *)(void *)v,
                                                                                     w->input_stride);
    }
}

/* Product xi, with weights b. */
static void multiply_s16(const struct winograd *w, int xi, const int16_t *b, int count, const struct scratch *t)
{
    const int channels = w->s.in_c;
    const int16_t *a = (const int16_t *)(void *)t->inputs + xi * w->input_stride;
    int32_t *c = (int32_t *)(void *)t->products + xi * w->product_stride;
    for (int i = 0; i < count; i += w->mr)
        w->s16->tile(channels, a + (ptrdiff_t)i * channels, count - i < w->mr ? count - i : w->mr, b, c + (ptrdiff_t)i * w->nr);
}

static void multiply_f32(const struct winograd *w, int xi, const float *b, int count, const struct scratch *t)
{
    const int channels = w->s.in_c, mr = w->mr, nr = w->nr;
    fused_f32 *fused = w->f32->fused[PRECISION_FP32];
    const float *a = (const float *)(void *)t->inputs + xi * w->input_stride;
    float *c = (float *)(void *)t->products + xi * w->product_stride;
    for (int i = 0; i < count; i += mr, c += mr * nr) {
        const void *rows[MR_MAX];
        for (int r = 0; r < mr; r++, a += channels)
            rows[r] = a;
        const struct store_f32 s = {t->one, t->none, NULL, 0, c, nr};
        if (fused)
            fused(1, channels, rows, b, &s, mr, nr);
        else
            w->f32->tile_f32(1, channels, rows, b, c);
    }
}

void winograd_multiply(const struct winograd *w, int panel, int count, void *scratch)
{
    const struct scratch t = divide(w, scratch);
    const int elements = w->s.in_c * w->nr, s16 = w->precision == PRECISION_INT8;
    const char *b = w->weights + (size_t)panel * w->panel_bytes, *line;
    const size_t product = (size_t)elements * input_size(w->precision);
    for (int i = 0; i < 6; i++) {
        if (!w->on_the_way) {
            line = b + (size_t)(6 * i) * product;
        } else {
            line = t.line;
            if (s16)
                w->ops->weights_s16(i, elements, b, t.line);
            else
                w->ops->weights[w->precision](i, elements, b, t.line);
        }
        for (int j = 0; j < 6; j++, line += product)
            if (s16)
                multiply_s16(w, 6 * i + j, (const int16_t *)(const void *)line, count, &t);
            else
                multiply_f32(w, 6 * i + j, (const float *)(const void *)line, count, &t);
    }
}

const void *winograd_output(const struct winograd *w, int tile, void *scratch)
{
    const struct scratch t = divide(w, scratch);
    const ptrdiff_t at = (ptrdiff_t)tile * w->nr;
    if (w->precision == PRECISION_INT8)
        w->ops->output_s32((const int32_t *)(void *)t.products + at, w->product_stride, w->nr, (int32_t *)(void *)t.output);
    else
        w->ops->output_f32((const float *)(void *)t.products + at, w->product_stride, w->nr, (float *)(void *)t.output);
    return t.output;
}

// SPDX-License-Identifier: MIT

#include "kernels/pool.h"

#include <math.h>
#include <string.h>

#include "kernels/half.h"
#include "kernels/kernels.h"
#include "kernels/tiles.h"

size_t activation_bytes(enum precision p)
{
    return p == PRECISION_INT8 ? 1 : p == PRECISION_FP16 ? 2 : 4;
}

static int8_t requantise(float t, int zero, int relu)
{
    float lo = (float)(relu ? 0 : -128 - zero), hi = (float)(127 - zero);
    t = t < lo ? lo : t > hi ? hi : t;
    return (int8_t)(lrintf(t) + zero);
}

/* Finite halves order like integers once negative ones are flipped. */
static int16_t half_order(uint16_t h)
{
    return (int16_t)(h & 0x8000 ? h ^ 0x7fff : h);
}

static void max_f16(uint16_t *y, const uint16_t *x, int c)
{
    for (int i = 0; i < c; i++)
        y[i] = half_order(x[i]) > half_order(y[i]) ? x[i] : y[i];
}

void maxpool_run(const struct kernels *k, enum precision p, const struct pool_shape *s, const void *x, void *y, int images, int task, int tasks)
{
    const size_t pixel = (size_t)s->c * activation_bytes(p);
    const int64_t rows = (int64_t)images * s->out_h;
    for (int64_t row = rows * task / tasks; row < rows * (task + 1) / tasks; row++) {
        const char *image = (const char *)x + (size_t)(row / s->out_h) * (size_t)s->in_h * (size_t)s->in_w * pixel;
        int top = (int)(row % s->out_h) * s->stride_h - s->pad_top;
        int h0 = top < 0 ? 0 : top, h1 = top + s->kernel_h < s->in_h ? top + s->kernel_h : s->in_h;
        for (int ox = 0; ox < s->out_w; ox++) {
            int left = ox * s->stride_w - s->pad_left;
            int w0 = left < 0 ? 0 : left, w1 = left + s->kernel_w < s->in_w ? left + s->kernel_w : s->in_w;
            char *to = (char *)y + ((size_t)row * (size_t)s->out_w + (size_t)ox) * pixel;
            memcpy(to, image + ((size_t)h0 * (size_t)s->in_w + (size_t)w0) * pixel, pixel);
            for (int h = h0; h < h1; h++)
                for (int w = w0; w < w1; w++) {
                    const char *from = image + ((size_t)h * (size_t)s->in_w + (size_t)w) * pixel;
                    if (p == PRECISION_INT8)
                        k->ops->max_s8((size_t)s->c, (const int8_t *)from, (int8_t *)to);
                    else if (p == PRECISION_FP16)
                        max_f16((uint16_t *)(void *)to, (const uint16_t *)(const void *)from, s->c);
                    else
                        k->ops->max_f32((size_t)s->c, (const float *)(const void *)from, (float *)(void *)to);
                }
        }
    }
}

#define AVGPOOL_BLOCK 256 /* channels summed at a time, on the stack */

static void avgpool_s8(const struct kernels *k, int pixels, int c, int count, const struct quant *in, const struct quant *out,
                       const int8_t *x, int8_t *y)
{
    int32_t sum[AVGPOOL_BLOCK];
    const float m = in->scale / ((float)pixels * out->scale);
    for (int i = 0; i < count; i++)
        sum[i] = -pixels * in->zero;
    for (int i = 0; i < pixels; i++)
        k->ops->sum_s8((size_t)count, x + (size_t)i * (size_t)c, sum);
    for (int i = 0; i < count; i++)
        y[i] = requantise((float)sum[i] * m, out->zero, 0);
}

static void avgpool_float(enum precision p, int pixels, int c, int count, const char *x, char *y)
{
    float sum[AVGPOOL_BLOCK] = {0};
    for (int i = 0; i < pixels; i++)
        for (int j = 0; j < count; j++)
            sum[j] += p == PRECISION_FP16 ? half_to_float(((const uint16_t *)(const void *)x)[(size_t)i * (size_t)c + (size_t)j])
                                          : ((const float *)(const void *)x)[(size_t)i * (size_t)c + (size_t)j];
    for (int j = 0; j < count; j++) {
        const float mean = sum[j] / (float)pixels;
        if (p == PRECISION_FP16)
            ((uint16_t *)(void *)y)[j] = half_from_float(mean);
        else
            ((float *)(void *)y)[j] = mean;
    }
}

void avgpool_run(const struct kernels *k, enum precision p, int pixels, int c, const struct quant *in, const struct quant *out,
                 const void *x, void *y, int images, int task, int tasks)
{
    const size_t size = activation_bytes(p);
    const int blocks = (c + AVGPOOL_BLOCK - 1) / AVGPOOL_BLOCK;
    const int64_t all = (int64_t)images * blocks;
    for (int64_t b = all * task / tasks; b < all * (task + 1) / tasks; b++) {
        const int first = (int)(b % blocks) * AVGPOOL_BLOCK, count = c - first < AVGPOOL_BLOCK ? c - first : AVGPOOL_BLOCK;
        const char *from = (const char *)x + ((size_t)(b / blocks) * (size_t)pixels * (size_t)c + (size_t)first) * size;
        char *to = (char *)y + ((size_t)(b / blocks) * (size_t)c + (size_t)first) * size;
        if (p == PRECISION_INT8)
            avgpool_s8(k, pixels, c, count, in, out, (const int8_t *)from, (int8_t *)to);
        else
            avgpool_float(p, pixels, c, count, from, to);
    }
}

void add_run(enum precision p, size_t n, int relu, const struct quant *qa, const struct quant *qb, const struct quant *qy,
             const void *a, const void *b, void *y, int task, int tasks)
{
    size_t first = n * (size_t)task / (size_t)tasks, last = n * (size_t)(task + 1) / (size_t)tasks;
    if (p == PRECISION_INT8) {
        const float ma = qa->scale / qy->scale, mb = qb->scale / qy->scale;
        for (size_t i = first; i < last; i++) {
            float ta = (float)(((const int8_t *)a)[i] - qa->zero) * ma;
            float tb = (float)(((const int8_t *)b)[i] - qb->zero) * mb;
            ((int8_t *)y)[i] = requantise(ta + tb, qy->zero, relu);
        }
        return;
    }
    for (size_t i = first; i < last; i++) {
        int half = p == PRECISION_FP16;
        float v = half ? half_to_float(((const uint16_t *)a)[i]) + half_to_float(((const uint16_t *)b)[i])
                       : ((const float *)a)[i] + ((const float *)b)[i];
        if (relu && v < 0)
            v = 0;
        if (half)
            ((uint16_t *)y)[i] = half_from_float(v);
        else
            ((float *)y)[i] = v;
    }
}

void shortcut_run(enum precision p, const struct shortcut_shape *s, int zero, const void *x, void *y, int images, int task, int tasks)
{
    const size_t size = activation_bytes(p);
    const size_t in = (size_t)s->in_c * size, before = (size_t)s->pad_before * size, after = (size_t)s->pad_after * size;
    const int fill = p == PRECISION_INT8 ? zero : 0;
    const int64_t rows = (int64_t)images * s->out_h;
    for (int64_t row = rows * task / tasks; row < rows * (task + 1) / tasks; row++) {
        size_t image = (size_t)(row / s->out_h), iy = (size_t)(row % s->out_h) * (size_t)s->stride_h;
        const char *from = (const char *)x + (image * (size_t)s->in_h + iy) * (size_t)s->in_w * in;
        char *to = (char *)y + (size_t)row * (size_t)s->out_w * (before + in + after);
        for (int ox = 0; ox < s->out_w; ox++, from += in * (size_t)s->stride_w) {
            memset(to, fill, before);
            memcpy(to + before, from, in);
            memset(to + before + in, fill, after);
            to += before + in + after;
        }
    }
}

#define CAST_BLOCK 512 /* elements at a time, on the stack */

/* Adding 1.5 * 2^23 leaves the nearest even integer in the low bits of a small float: vectors need no instruction for it. */
static void round_block(const float *x, size_t n, float inverse, int zero, int8_t *y)
{
    const float lo = (float)(-128 - zero), hi = (float)(127 - zero);
    for (size_t i = 0; i < n; i++) {
        float t = x[i] * inverse;
        t = t > lo ? t : lo; /* NaN too */
        t = (t < hi ? t : hi) + 0x1.8p23f;
        int32_t bits;
        memcpy(&bits, &t, sizeof bits);
        y[i] = (int8_t)(bits - 0x4b400000 + zero);
    }
}

void quantize_run(const struct kernels *k, const struct quant *q, size_t n, const uint16_t *x, int8_t *y, int task, int tasks)
{
    float block[CAST_BLOCK];
    const size_t last = n * (size_t)(task + 1) / (size_t)tasks;
    for (size_t i = n * (size_t)task / (size_t)tasks; i < last; i += CAST_BLOCK) {
        const size_t count = last - i < CAST_BLOCK ? last - i : CAST_BLOCK;
        k->ops->widen(count, x + i, block);
        round_block(block, count, 1 / q->scale, q->zero, y + i);
    }
}

void dequantize_run(const struct quant *q, size_t n, const int8_t *x, uint16_t *y, int task, int tasks)
{
    uint16_t table[256];
    for (int i = 0; i < 256; i++)
        table[i] = half_from_float(q->scale * (float)(i - 128 - q->zero));
    const size_t last = n * (size_t)(task + 1) / (size_t)tasks;
    for (size_t i = n * (size_t)task / (size_t)tasks; i < last; i++)
        y[i] = table[x[i] + 128];
}

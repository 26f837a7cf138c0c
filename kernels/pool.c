// SPDX-License-Identifier: MIT

#include "kernels/pool.h"

#include <math.h>
#include <string.h>

#include "kernels/half.h"

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

/* y = max(y, x) over one pixel's channels. Finite halves order like integers once negative ones are flipped. */
static void max_s8(int8_t *y, const int8_t *x, int c)
{
    for (int i = 0; i < c; i++)
        y[i] = x[i] > y[i] ? x[i] : y[i];
}

static void max_f32(float *y, const float *x, int c)
{
    for (int i = 0; i < c; i++)
        y[i] = x[i] > y[i] ? x[i] : y[i];
}

static int16_t half_order(uint16_t h)
{
    return (int16_t)(h & 0x8000 ? h ^ 0x7fff : h);
}

static void max_f16(uint16_t *y, const uint16_t *x, int c)
{
    for (int i = 0; i < c; i++)
        y[i] = half_order(x[i]) > half_order(y[i]) ? x[i] : y[i];
}

void maxpool_run(enum precision p, const struct pool_shape *s, const void *x, void *y, int images, int task, int tasks)
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
                        max_s8((int8_t *)to, (const int8_t *)from, s->c);
                    else if (p == PRECISION_FP16)
                        max_f16((uint16_t *)(void *)to, (const uint16_t *)(const void *)from, s->c);
                    else
                        max_f32((float *)(void *)to, (const float *)(const void *)from, s->c);
                }
        }
    }
}

static void avgpool_channel(enum precision p, int pixels, int c, const struct quant *in, const struct quant *out, const void *x,
                            void *y)
{
    if (p == PRECISION_INT8) {
        int32_t sum = 0;
        for (int i = 0; i < pixels; i++)
            sum += ((const int8_t *)x)[(size_t)i * (size_t)c] - in->zero;
        float m = in->scale / ((float)pixels * out->scale);
        *(int8_t *)y = requantise((float)sum * m, out->zero, 0);
        return;
    }
    float sum = 0;
    for (int i = 0; i < pixels; i++)
        sum += p == PRECISION_FP16 ? half_to_float(((const uint16_t *)x)[(size_t)i * (size_t)c])
                                   : ((const float *)x)[(size_t)i * (size_t)c];
    float mean = sum / (float)pixels;
    if (p == PRECISION_FP16)
        *(uint16_t *)y = half_from_float(mean);
    else
        *(float *)y = mean;
}

void avgpool_run(enum precision p, int pixels, int c, const struct quant *in, const struct quant *out, const void *x, void *y,
                 int images, int task, int tasks)
{
    const size_t size = activation_bytes(p);
    const int64_t all = (int64_t)images * c;
    for (int64_t i = all * task / tasks; i < all * (task + 1) / tasks; i++) {
        size_t image = (size_t)(i / c), channel = (size_t)(i % c);
        avgpool_channel(p, pixels, c, in, out, (const char *)x + (image * (size_t)pixels * (size_t)c + channel) * size,
                        (char *)y + (size_t)i * size);
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

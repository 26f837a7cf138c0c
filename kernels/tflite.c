// SPDX-License-Identifier: MIT

#include "kernels/tflite.h"

#include <math.h>

#include "kernels/kernels.h"
#include "kernels/tiles.h"

void tflite_multiplier(double factor, int32_t *m, int32_t *shift)
{
    int exponent;
    int64_t q = llround(frexp(factor, &exponent) * 2147483648.0);
    if (q == (int64_t)1 << 31) {
        q /= 2;
        exponent++;
    }
    if (q == 0 || exponent < -31) {
        q = exponent = 0;
    } else if (exponent > 31) {
        q = INT32_MAX;
        exponent = 31;
    }
    *m = (int32_t)q;
    *shift = exponent;
}

static int64_t clamp(int64_t v, int64_t lo, int64_t hi)
{
    return v < lo ? lo : v > hi ? hi : v;
}

/* x / 2^n to nearest, ties away from zero; n <= 31. */
static int64_t divide_by_power(int64_t x, int n)
{
    const int64_t mask = ((int64_t)1 << n) - 1;
    return (x >> n) + ((x & mask) > (mask >> 1) + (x < 0));
}

int32_t tflite_multiply(int32_t x, int32_t m, int32_t shift)
{
    const int64_t up = shift > 0 ? clamp((int64_t)x * ((int64_t)1 << shift), INT32_MIN, INT32_MAX) : x;
    const int64_t high = (up * m + ((int64_t)1 << 30)) >> 31;
    return (int32_t)(shift < 0 ? divide_by_power(high, -shift) : high);
}

double tflite_factor(const struct conv_params *p, int channel)
{
    if (p->product_in_float) {
        const float product = p->in.scale * p->scale[channel];
        return (double)product / (double)p->out.scale;
    }
    return (double)p->in.scale * (double)p->scale[channel] / (double)p->out.scale;
}

void tflite_store(const int32_t *sums, int nr, int rows, int cols, const int32_t *m, const int32_t *shift, int zero, int lo,
                  int8_t *y, ptrdiff_t ld)
{
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < cols; j++)
            y[i * ld + j] = (int8_t)clamp((int64_t)tflite_multiply(sums[i * nr + j], m[j], shift[j]) + zero, lo, 127);
}

#define ADD_BITS 20 /* what operands gain before they are rounded: q - z < 2^8, so the sum of both stays below 2^30 */

void tflite_add_run(size_t n, int relu, const struct quant *qa, const struct quant *qb, const struct quant *qy, const int8_t *a,
                    const int8_t *b, int8_t *y, int task, int tasks)
{
    const double twice = 2 * (double)(qa->scale > qb->scale ? qa->scale : qb->scale);
    int32_t ma, mb, my, sa, sb, sy;
    tflite_multiplier((double)qa->scale / twice, &ma, &sa);
    tflite_multiplier((double)qb->scale / twice, &mb, &sb);
    tflite_multiplier(twice / (ldexp(1, ADD_BITS) * (double)qy->scale), &my, &sy);
    const int lo = relu ? qy->zero : -128;
    const size_t last = n * (size_t)(task + 1) / (size_t)tasks;
    for (size_t i = n * (size_t)task / (size_t)tasks; i < last; i++) {
        const int32_t ta = tflite_multiply((a[i] - qa->zero) * (1 << ADD_BITS), ma, sa);
        const int32_t tb = tflite_multiply((b[i] - qb->zero) * (1 << ADD_BITS), mb, sb);
        y[i] = (int8_t)clamp((int64_t)tflite_multiply(ta + tb, my, sy) + qy->zero, lo, 127);
    }
}

/* n / d to nearest, ties away from zero. */
static int32_t divide(int32_t n, int32_t d)
{
    return (n > 0 ? n + d / 2 : n - d / 2) / d;
}

/* 1 / pixels joins the multiplier, which gains as many bits first as pixels has, so that it keeps its 31. */
static void mean_multiplier(const struct quant *in, const struct quant *out, int pixels, int32_t *m, int32_t *shift)
{
    int bits = 0;
    tflite_multiplier((double)in->scale / (double)out->scale, m, shift);
    while (pixels >> (bits + 1))
        bits++;
    if (bits > 31 + *shift)
        bits = 31 + *shift;
    *m = (int32_t)(((int64_t)*m << bits) / pixels);
    *shift -= bits;
}

#define AVGPOOL_BLOCK 256 /* channels summed at a time, on the stack */

void tflite_avgpool_run(const struct kernels *k, int pixels, int c, const struct quant *in, const struct quant *out,
                        const int8_t *x, int8_t *y, int images, int task, int tasks)
{
    const int keeps = in->scale == out->scale && in->zero == out->zero;
    const int blocks = (c + AVGPOOL_BLOCK - 1) / AVGPOOL_BLOCK;
    const int64_t all = (int64_t)images * blocks;
    int32_t m, shift;
    mean_multiplier(in, out, pixels, &m, &shift);
    for (int64_t b = all * task / tasks; b < all * (task + 1) / tasks; b++) {
        const int first = (int)(b % blocks) * AVGPOOL_BLOCK, count = c - first < AVGPOOL_BLOCK ? c - first : AVGPOOL_BLOCK;
        const int8_t *from = x + (size_t)(b / blocks) * (size_t)pixels * (size_t)c + first;
        int8_t *to = y + (size_t)(b / blocks) * (size_t)c + first;
        int32_t sum[AVGPOOL_BLOCK] = {0};
        for (int i = 0; i < pixels; i++)
            k->ops->sum_s8((size_t)count, from + (size_t)i * (size_t)c, sum);
        for (int i = 0; i < count; i++) {
            const int64_t mean =
                keeps ? divide(sum[i], pixels) : (int64_t)tflite_multiply(sum[i] - pixels * in->zero, m, shift) + out->zero;
            to[i] = (int8_t)clamp(mean, -128, 127);
        }
    }
}

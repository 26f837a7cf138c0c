// SPDX-License-Identifier: MIT
//
// channel_ops.h - what training does around convolutions, pixel by pixel and channel by channel, compiled once per instruction
// set: the file that includes it may define VECTOR_BYTES first, and gives the functions to a struct channel_ops (channels.h).
//
// Sixteen channels, a cache line, go through all pixels together, so that their factors stay in registers. Every implementation
// gives the same bits: each operation is rounded once, and sums run in the same order.

#ifndef KERNELS_CHANNEL_OPS_H
#define KERNELS_CHANNEL_OPS_H

#include <stdint.h>

#include "kernels/channels.h"
#include "kernels/tiles.h"

#ifndef VECTOR_BYTES
#define VECTOR_BYTES 16 /* every machine has them, or the compiler takes them apart */
#endif

#define LINE    16                        /* channels */
#define VECTORS (4 * LINE / VECTOR_BYTES) /* of a line */
#define RUN     128                       /* pixels that are summed in float, two by two */

typedef float vf __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));
typedef int32_t vi __attribute__((vector_size(VECTOR_BYTES)));
struct line {
    vf v[VECTORS];
};

#define EACH _Pragma("GCC unroll 4") for (int i = 0; i < VECTORS; i++)

static inline __attribute__((always_inline)) struct line load(const float *x)
{
    struct line l;
    EACH l.v[i] = *(const vf *)(const void *)(x + i * VECTOR_BYTES / 4);
    return l;
}

static inline __attribute__((always_inline)) void store(float *x, struct line l)
{
    EACH *(vf *)(void *)(x + i * VECTOR_BYTES / 4) = l.v[i];
}

/* `n` < LINE channels, zeros behind them. */
static inline __attribute__((always_inline)) struct line load_some(const float *x, int n)
{
    float all[LINE] = {0};
    for (int i = 0; i < n; i++)
        all[i] = x[i];
    return load(all);
}

static inline __attribute__((always_inline)) void store_some(float *x, struct line l, int n)
{
    float all[LINE];
    store(all, l);
    for (int i = 0; i < n; i++)
        x[i] = all[i];
}

#define LOAD(x) (n == LINE ? load(x) : load_some(x, n))
#define STORE(x, l)                                                                                                              \
    do {                                                                                                                         \
        if (n == LINE)                                                                                                           \
            store(x, l);                                                                                                         \
        else                                                                                                                     \
            store_some(x, l, n);                                                                                                 \
    } while (0)

/* Where x > 0, y; else 0. */
static inline __attribute__((always_inline)) vf where_positive(vf x, vf y)
{
    return (vf)((vi)y & (vi)(x > 0));
}

/* 0 where x < 0: a NaN stays one. */
static inline __attribute__((always_inline)) vf positive(vf x)
{
    return (vf)((vi)x & ~(vi)(x < 0));
}

static inline __attribute__((always_inline)) void add_to(double *sum, struct line l, int n)
{
    float all[LINE];
    store(all, l);
    for (int i = 0; i < n; i++)
        sum[i] += (double)all[i];
}

/* The inner functions take n channels from `at` on, of pixels `c` apart: LINE of them, known to the compiler, or the rest. */

static inline __attribute__((always_inline)) void moments_line(const int n, size_t pixels, int c, const float *x,
                                                               const float *shift, double *sum, double *square)
{
    const struct line k = LOAD(shift);
    for (size_t p = 0; p < pixels; p += RUN) {
        const size_t end = pixels - p < RUN ? pixels : p + RUN;
        struct line s0 = {0}, s1 = {0}, q0 = {0}, q1 = {0};
        size_t at = p;
        for (; at + 1 < end; at += 2, x += 2 * c) {
            struct line a = LOAD(x), b = LOAD(x + c);
            EACH
            {
                a.v[i] -= k.v[i];
                b.v[i] -= k.v[i];
                s0.v[i] += a.v[i];
                s1.v[i] += b.v[i];
                q0.v[i] += a.v[i] * a.v[i];
                q1.v[i] += b.v[i] * b.v[i];
            }
        }
        if (at < end) {
            struct line a = LOAD(x);
            x += c;
            EACH
            {
                a.v[i] -= k.v[i];
                s0.v[i] += a.v[i];
                q0.v[i] += a.v[i] * a.v[i];
            }
        }
        EACH
        {
            s0.v[i] += s1.v[i];
            q0.v[i] += q1.v[i];
        }
        add_to(sum, s0, n);
        add_to(square, q0, n);
    }
}

static void moments(size_t pixels, int c, const float *x, const float *shift, double *sum, double *square)
{
    int j = 0;
    for (; j + LINE <= c; j += LINE)
        moments_line(LINE, pixels, c, x + j, shift + j, sum + j, square + j);
    if (j < c)
        moments_line(c - j, pixels, c, x + j, shift + j, sum + j, square + j);
}

static inline __attribute__((always_inline)) void affine_line(const int n, size_t pixels, int c, const float *x,
                                                              const float *mult, const float *bias, const float *add, int relu,
                                                              float *y)
{
    const struct line m = LOAD(mult), b = LOAD(bias);
    for (size_t p = 0; p < pixels; p++, x += c, y += c) {
        struct line v = LOAD(x);
        EACH v.v[i] = v.v[i] * m.v[i] + b.v[i];
        if (add) {
            const struct line a = LOAD(add);
            add += c;
            EACH v.v[i] += a.v[i];
        }
        if (relu)
            EACH v.v[i] = positive(v.v[i]);
        STORE(y, v);
    }
}

static void affine(size_t pixels, int c, const float *x, const float *mult, const float *bias, const float *add, int relu,
                   float *y)
{
    int j = 0;
    for (; j + LINE <= c; j += LINE)
        affine_line(LINE, pixels, c, x + j, mult + j, bias + j, add ? add + j : NULL, relu, y + j);
    if (j < c)
        affine_line(c - j, pixels, c, x + j, mult + j, bias + j, add ? add + j : NULL, relu, y + j);
}

/* The gradient behind the ReLU. */
static inline __attribute__((always_inline)) struct line gradient(const float *dy, struct line x, struct line m, struct line b,
                                                                  int relu, const int n)
{
    struct line g = LOAD(dy);
    if (relu)
        EACH g.v[i] = where_positive(x.v[i] * m.v[i] + b.v[i], g.v[i]);
    return g;
}

static inline __attribute__((always_inline)) void gradient_moments_line(const int n, size_t pixels, int c, const float *x,
                                                                        const float *mult, const float *bias, int relu,
                                                                        const float *shift, const float *dy, double *sum,
                                                                        double *product)
{
    const struct line m = LOAD(mult), b = LOAD(bias), k = LOAD(shift);
    for (size_t p = 0; p < pixels; p += RUN) {
        const size_t end = pixels - p < RUN ? pixels : p + RUN;
        struct line s = {0}, q = {0};
        for (size_t at = p; at < end; at++, x += c, dy += c) {
            const struct line v = LOAD(x), g = gradient(dy, v, m, b, relu, n);
            EACH
            {
                s.v[i] += g.v[i];
                q.v[i] += g.v[i] * (v.v[i] - k.v[i]);
            }
        }
        add_to(sum, s, n);
        add_to(product, q, n);
    }
}

static void gradient_moments(size_t pixels, int c, const float *x, const float *mult, const float *bias, int relu,
                             const float *shift, const float *dy, double *sum, double *product)
{
    int j = 0;
    for (; j + LINE <= c; j += LINE)
        gradient_moments_line(LINE, pixels, c, x + j, mult + j, bias + j, relu, shift + j, dy + j, sum + j, product + j);
    if (j < c)
        gradient_moments_line(c - j, pixels, c, x + j, mult + j, bias + j, relu, shift + j, dy + j, sum + j, product + j);
}

static inline __attribute__((always_inline)) void affine_gradient_line(const int n, size_t pixels, int c, const float *x,
                                                                       const float *mult, const float *bias, int relu,
                                                                       const float *dy, const float *of_gradient,
                                                                       const float *of_x, const float *constant, float *dx)
{
    const struct line m = LOAD(mult), b = LOAD(bias), kg = LOAD(of_gradient), kx = LOAD(of_x), k1 = LOAD(constant);
    for (size_t p = 0; p < pixels; p++, x += c, dy += c, dx += c) {
        const struct line v = LOAD(x), g = gradient(dy, v, m, b, relu, n);
        struct line d;
        EACH d.v[i] = g.v[i] * kg.v[i] + (v.v[i] * kx.v[i] + k1.v[i]);
        STORE(dx, d);
    }
}

static void affine_gradient(size_t pixels, int c, const float *x, const float *mult, const float *bias, int relu, const float *dy,
                            const float *of_gradient, const float *of_x, const float *constant, float *dx)
{
    int j = 0;
    for (; j + LINE <= c; j += LINE)
        affine_gradient_line(LINE, pixels, c, x + j, mult + j, bias + j, relu, dy + j, of_gradient + j, of_x + j, constant + j,
                             dx + j);
    if (j < c)
        affine_gradient_line(c - j, pixels, c, x + j, mult + j, bias + j, relu, dy + j, of_gradient + j, of_x + j, constant + j,
                             dx + j);
}

static void mask(size_t count, const float *y, const float *dy, float *dx)
{
    for (; count >= LINE; count -= LINE, y += LINE, dy += LINE, dx += LINE) {
        struct line v = load(y), g = load(dy);
        EACH g.v[i] = where_positive(v.v[i], g.v[i]);
        store(dx, g);
    }
    for (size_t i = 0; i < count; i++)
        dx[i] = y[i] > 0 ? dy[i] : 0;
}

static void sum_of(size_t count, const float *a, const float *b, int relu, float *y)
{
    for (; count >= LINE; count -= LINE, a += LINE, b += LINE, y += LINE) {
        struct line v = load(a);
        const struct line w = load(b);
        EACH v.v[i] += w.v[i];
        if (relu)
            EACH v.v[i] = positive(v.v[i]);
        store(y, v);
    }
    for (size_t i = 0; i < count; i++) {
        const float v = a[i] + b[i];
        y[i] = relu && v < 0 ? 0 : v;
    }
}

#define CHANNEL_OPS                                                                                                              \
    {                                                                                                                            \
        moments, affine, gradient_moments, affine_gradient, mask, sum_of                                                         \
    }

#endif

// SPDX-License-Identifier: MIT
//
// Packing transposes: a column's depths lie together in memory, a step's columns in the panel. Vectors of 16 bytes of depth from
// as many columns as they hold steps are turned around in registers, a cache line of each column at a time.

#include "kernels/pack.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernels/tiles.h"

#define VECTOR   16
#define LINE     64
#define ELEMENTS 32 /* scaled together */

typedef uint8_t vector __attribute__((vector_size(VECTOR)));

/* Steps of two columns by turns: those of the vectors' first halves, then of their second halves. */
static inline __attribute__((always_inline)) void zip(int step, vector a, vector b, vector *low, vector *high)
{
    if (step == 1) {
        *low = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        *high = __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    } else if (step == 2) {
        *low = __builtin_shufflevector(a, b, 0, 1, 16, 17, 2, 3, 18, 19, 4, 5, 20, 21, 6, 7, 22, 23);
        *high = __builtin_shufflevector(a, b, 8, 9, 24, 25, 10, 11, 26, 27, 12, 13, 28, 29, 14, 15, 30, 31);
    } else if (step == 4) {
        *low = __builtin_shufflevector(a, b, 0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
        *high = __builtin_shufflevector(a, b, 8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
    } else {
        *low = __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
        *high = __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    }
}

/* One vector of as many columns as it holds steps of `step` bytes: the rows of `to` are the columns of `from`. Zipping each
   vector with the one half the way behind it, log2 times, is the transposition. */
static inline __attribute__((always_inline)) void turn(int step, const char *from, size_t column, char *to, size_t row)
{
    const int count = VECTOR / step;
    vector x[VECTOR], y[VECTOR];
#pragma GCC unroll 16
    for (int i = 0; i < count; i++)
        memcpy(&x[i], from + (size_t)i * column, VECTOR);
#pragma GCC unroll 4
    for (int done = 1; done < count; done *= 2) {
#pragma GCC unroll 8
        for (int i = 0; i < count / 2; i++)
            zip(step, x[i], x[i + count / 2], &y[2 * i], &y[2 * i + 1]);
#pragma GCC unroll 16
        for (int i = 0; i < count; i++)
            x[i] = y[i];
    }
#pragma GCC unroll 16
    for (int i = 0; i < count; i++)
        memcpy(to + (size_t)i * row, &x[i], VECTOR);
}

static void turn_any(int step, const char *from, size_t column, char *to, size_t row)
{
    if (step == 1)
        turn(1, from, column, to, row);
    else if (step == 2)
        turn(2, from, column, to, row);
    else if (step == 4)
        turn(4, from, column, to, row);
    else if (step == 8)
        turn(8, from, column, to, row);
    else
        turn(VECTOR, from, column, to, row);
}

/* `bytes` of depth, whole steps that all exist, of `cols` columns; rows of the panel are `row` bytes. */
static void pack_steps(int step, const char *from, size_t column, int cols, size_t bytes, char *to, size_t row)
{
    const int group = VECTOR % step == 0 ? VECTOR / step : 0; /* columns turned around together */
    int j = 0;
    for (; group && bytes % VECTOR == 0 && j + group <= cols; j += group)
        for (size_t at = 0; at < bytes; at += VECTOR)
            turn_any(step, from + (size_t)j * column + at, column, to + at / (size_t)step * row + (size_t)(j * step), row);
    for (; j < cols; j++)
        for (size_t at = 0; at < bytes; at += (size_t)step)
            memcpy(to + at / (size_t)step * row + (size_t)(j * step), from + (size_t)j * column + at, (size_t)step);
}

void pack_b(const void *w, size_t size, int cols, int taps, int depth, int padded, int nr, int kr, void *panel)
{
    const size_t column = (size_t)taps * (size_t)depth * size, step = (size_t)kr * size, row = (size_t)nr * step;
    const size_t whole = (size_t)(depth / kr) * step; /* bytes of a tap in steps without padding */
    char *to = panel;
    if (cols < nr || depth < padded)
        memset(to, 0, (size_t)taps * (size_t)(padded / kr) * row);
    for (int tap = 0; tap < taps; tap++, to += (size_t)(padded / kr) * row) {
        const char *from = (const char *)w + (size_t)tap * (size_t)depth * size;
        size_t at = 0, rest = (size_t)depth * size - whole;
        for (; at < whole; at += whole - at < LINE ? whole - at : LINE)
            pack_steps((int)step, from + at, column, cols, whole - at < LINE ? whole - at : LINE, to + at / step * row, row);
        for (int j = 0; j < cols && rest; j++)
            memcpy(to + at / step * row + (size_t)j * step, from + (size_t)j * column + at, rest);
    }
}

/* Steps outside, columns inside, as in the panel: it is read twice in order of its addresses. */
void pack_scale_halves(const struct vector_ops *ops, uint16_t *panel, int steps, int nr, int kr, int cols, int run, float *back)
{
    const int width = nr * kr, elements = cols * kr;
    float v[ELEMENTS], sum[ELEMENTS], largest[ELEMENTS], scale[ELEMENTS];
    for (int at = 0; at < elements; at += ELEMENTS) {
        const int n = elements - at < ELEMENTS ? elements - at : ELEMENTS;
        memset(largest, 0, sizeof largest);
        for (int p = 0; p < steps; p += run) {
            memset(sum, 0, sizeof sum);
            for (int i = p; i < p + run && i < steps; i++) {
                ops->widen((size_t)n, panel + (size_t)i * (size_t)width + (size_t)at, v);
                for (int e = 0; e < n; e++)
                    sum[e] += fabsf(v[e]);
            }
            for (int e = 0; e < n; e++)
                largest[e / kr * kr] = sum[e] > largest[e / kr * kr] ? sum[e] : largest[e / kr * kr];
        }
        for (int e = 0; e < n; e += kr) {
            int exponent;
            if (frexpf(largest[e], &exponent) > 0.9375f)
                exponent++;
            for (int r = 0; r < kr; r++)
                scale[e + r] = ldexpf(1, -exponent);
            back[(at + e) / kr] = ldexpf(1, exponent);
        }
        for (int i = 0; i < steps; i++) {
            uint16_t *row = panel + (size_t)i * (size_t)width + (size_t)at;
            ops->widen((size_t)n, row, v);
            for (int e = 0; e < n; e++)
                v[e] *= scale[e];
            ops->narrow((size_t)n, v, row);
        }
    }
}

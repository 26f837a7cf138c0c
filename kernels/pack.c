// SPDX-License-Identifier: MIT

#include "kernels/pack.h"

#include <math.h>
#include <string.h>

#include "kernels/tiles.h"

#define COLUMNS 32 /* scaled together */

/* Depths outside, columns inside: writes are sequential, and each column's reads stay in a cache line of its own. */
void pack_b(const void *w, size_t size, int cols, int taps, int depth, int padded, int nr, int kr, void *panel)
{
    const size_t column = (size_t)taps * (size_t)depth * size, step = (size_t)kr * size;
    char *to = panel;
    memset(to, 0, (size_t)taps * (size_t)padded * (size_t)nr * size);
    for (int tap = 0; tap < taps; tap++)
        for (int p = 0; p < padded; p += kr, to += (size_t)nr * step) {
            const char *from = (const char *)w + ((size_t)tap * (size_t)depth + (size_t)p) * size;
            if (p + kr <= depth && step == 4) { /* the usual case: four bytes at a time */
                for (int j = 0; j < cols; j++, from += column)
                    memcpy(to + 4 * j, from, 4);
            } else if (p < depth) {
                const size_t count = (size_t)(depth - p < kr ? depth - p : kr) * size;
                for (int j = 0; j < cols; j++, from += column)
                    memcpy(to + (size_t)j * step, from, count);
            }
        }
}

/* Rows outside, columns inside, as in the panel: it is read twice in order of its addresses. */
void pack_scale_halves(const struct vector_ops *ops, uint16_t *panel, int depth, int nr, int cols, int run, float *back)
{
    float v[COLUMNS], sum[COLUMNS], largest[COLUMNS], scale[COLUMNS];
    for (int j = 0; j < cols; j += COLUMNS) {
        const int n = cols - j < COLUMNS ? cols - j : COLUMNS;
        memset(largest, 0, sizeof largest);
        for (int p = 0; p < depth; p += run) {
            memset(sum, 0, sizeof sum);
            for (int i = p; i < p + run && i < depth; i++) {
                ops->widen((size_t)n, panel + (size_t)i * (size_t)nr + (size_t)j, v);
                for (int c = 0; c < n; c++)
                    sum[c] += fabsf(v[c]);
            }
            for (int c = 0; c < n; c++)
                largest[c] = sum[c] > largest[c] ? sum[c] : largest[c];
        }
        for (int c = 0; c < n; c++) {
            int exponent;
            if (frexpf(largest[c], &exponent) > 0.9375f)
                exponent++;
            scale[c] = ldexpf(1, -exponent);
            back[j + c] = ldexpf(1, exponent);
        }
        for (int i = 0; i < depth; i++) {
            uint16_t *row = panel + (size_t)i * (size_t)nr + (size_t)j;
            ops->widen((size_t)n, row, v);
            for (int c = 0; c < n; c++)
                v[c] *= scale[c];
            ops->narrow((size_t)n, v, row);
        }
    }
}

// SPDX-License-Identifier: MIT
//
// The int8 tile and its store in plain C: what runs where nothing better is built, and the model for every other tile.

#include <math.h>

#include "kernels/tiles.h"

void gemm_s8s8s32_4x8c4__ref(int taps, int channels, const void *const *rows, const int8_t *b, int32_t *tile)
{
    int32_t acc[4][8] = {{0}};
    for (int tap = 0; tap < taps; tap++, rows += 4)
        for (int p = 0; p < channels; p += 4, b += 32)
            for (int i = 0; i < 4; i++) {
                const int8_t *a = (const int8_t *)rows[i] + p;
                for (int j = 0; j < 8; j++)
                    for (int q = 0; q < 4; q++)
                        acc[i][j] += a[q] * b[4 * j + q];
            }
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 8; j++)
            tile[8 * i + j] = acc[i][j];
}

void store_s8__ref(const struct store_s8 *s, const int32_t *tile, int nr, int rows, int cols)
{
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < cols; j++) {
            float t = (float)(tile[i * nr + j] + s->bias[j]) * s->mult[j];
            if (s->residual) {
                float r = (float)(s->residual[i * s->ld + j] - s->residual_zero) * s->residual_mult;
                t = t + r;
            }
            t = t < s->lo ? s->lo : t > s->hi ? s->hi : t;
            s->y[i * s->ld + j] = (int8_t)(lrintf(t) + s->zero);
        }
}

void store_s8_rest__ref(const struct store_s8 *s, const int32_t *tile, int nr, int rows, int cols, int from)
{
    if (from >= cols)
        return;
    struct store_s8 rest = *s;
    rest.bias += from;
    rest.mult += from;
    rest.y += from;
    if (rest.residual)
        rest.residual += from;
    store_s8__ref(&rest, tile + from, nr, rows, cols - from);
}

// SPDX-License-Identifier: MIT
//
// The int8 tile and its store in plain C: what runs where nothing better is built, and the model for every other tile.

#include <math.h>

#include "kernels/tiles.h"

void gemm_s8s8s32_4x8c4__ref(int depth, const void *a_panel, const int8_t *b, int32_t *tile)
{
    const int8_t *a = a_panel;
    int32_t acc[4][8] = {{0}};
    for (int p = 0; p < depth; p += 4, a += 16, b += 32)
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 8; j++)
                for (int q = 0; q < 4; q++)
                    acc[i][j] += a[4 * i + q] * b[4 * j + q];
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

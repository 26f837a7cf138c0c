// SPDX-License-Identifier: MIT
//
// The float tiles in plain C, one per storage type of the weights.

#include "kernels/half.h"
#include "kernels/tiles.h"

static void write_tile(float acc[4][8], float *tile)
{
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 8; j++)
            tile[8 * i + j] = acc[i][j];
}

void gemm_f32f32_4x8__ref(int depth, const float *a, const float *b, float *tile)
{
    float acc[4][8] = {{0}};
    for (int p = 0; p < depth; p++, a += 4, b += 8)
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 8; j++)
                acc[i][j] += a[i] * b[j];
    write_tile(acc, tile);
}

void gemm_f32f16_4x8__ref(int depth, const float *a, const uint16_t *b, float *tile)
{
    float acc[4][8] = {{0}};
    for (int p = 0; p < depth; p++, a += 4, b += 8) {
        float vb[8];
        for (int j = 0; j < 8; j++)
            vb[j] = half_to_float(b[j]);
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 8; j++)
                acc[i][j] += a[i] * vb[j];
    }
    write_tile(acc, tile);
}

void gemm_f32s8_4x8__ref(int depth, const float *a, const int8_t *b, float *tile)
{
    float acc[4][8] = {{0}};
    for (int p = 0; p < depth; p++, a += 4, b += 8)
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 8; j++)
                acc[i][j] += a[i] * (float)b[j];
    write_tile(acc, tile);
}

void widen__ref(size_t n, const uint16_t *x, float *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = half_to_float(x[i]);
}

void narrow__ref(size_t n, const float *x, uint16_t *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = half_from_float(x[i]);
}

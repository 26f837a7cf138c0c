// SPDX-License-Identifier: MIT
//
// The float tiles in plain C, one per storage type of the weights.

#include "kernels/half.h"
#include "kernels/tiles.h"

static inline void step(float acc[4][8], const void *const *rows, int p, const float *vb)
{
    for (int i = 0; i < 4; i++) {
        const float va = ((const float *)rows[i])[p];
        for (int j = 0; j < 8; j++)
            acc[i][j] += va * vb[j];
    }
}

static void write_tile(float acc[4][8], float *tile)
{
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 8; j++)
            tile[8 * i + j] = acc[i][j];
}

void gemm_f32f32_4x8__ref(int taps, int channels, const void *const *rows, const float *b, float *tile)
{
    float acc[4][8] = {{0}};
    for (int tap = 0; tap < taps; tap++, rows += 4)
        for (int p = 0; p < channels; p++, b += 8)
            step(acc, rows, p, b);
    write_tile(acc, tile);
}

void gemm_f32f16_4x8__ref(int taps, int channels, const void *const *rows, const uint16_t *b, float *tile)
{
    float acc[4][8] = {{0}};
    for (int tap = 0; tap < taps; tap++, rows += 4)
        for (int p = 0; p < channels; p++, b += 8) {
            float vb[8];
            for (int j = 0; j < 8; j++)
                vb[j] = half_to_float(b[j]);
            step(acc, rows, p, vb);
        }
    write_tile(acc, tile);
}

void gemm_f32s8_4x8__ref(int taps, int channels, const void *const *rows, const int8_t *b, float *tile)
{
    float acc[4][8] = {{0}};
    for (int tap = 0; tap < taps; tap++, rows += 4)
        for (int p = 0; p < channels; p++, b += 8) {
            float vb[8];
            for (int j = 0; j < 8; j++)
                vb[j] = (float)b[j];
            step(acc, rows, p, vb);
        }
    write_tile(acc, tile);
}

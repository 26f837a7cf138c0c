// SPDX-License-Identifier: MIT
//
// The tiles of half arithmetic in plain C: every multiply-add rounded once to half, every HALF_RUN of them added to a sum in float.

#include <math.h>
#include <string.h>

#include "kernels/half.h"
#include "kernels/tiles.h"

/* Rounded once, to nearest even: a float between, rounded to odd, decides ties as the double itself would. */
static uint16_t half_from_double(double d)
{
    float f = (float)d;
    if ((double)f != d) {
        uint32_t bits;
        memcpy(&bits, &f, 4);
        if (fabs((double)f) > fabs(d))
            bits--;
        bits |= 1;
        memcpy(&f, &bits, 4);
    }
    return half_from_float(f);
}

/* acc + a * b. In double the product is exact, and a sum that is not lies far from any tie. */
static float multiply_add(float acc, float a, float b)
{
    return half_to_float(half_from_double((double)acc + (double)a * (double)b));
}

static inline void tile_of(const int kr, int taps, int channels, const void *const *rows, const uint16_t *b, float *tile)
{
    float acc[2][4][8] = {{{0}}}, sum[2][4][8] = {{{0}}};
    int left = HALF_RUN;
    for (int tap = 0; tap < taps; tap++, rows += 4)
        for (int p = 0; p < channels; p += kr, b += 8 * kr) {
            for (int r = 0; r < kr; r++)
                for (int i = 0; i < 4; i++) {
                    const float va = half_to_float(((const uint16_t *)rows[i])[p + r]);
                    for (int j = 0; j < 8; j++)
                        acc[r][i][j] = multiply_add(acc[r][i][j], va, half_to_float(b[j * kr + r]));
                }
            if (--left == 0) {
                for (int r = 0; r < kr; r++)
                    for (int i = 0; i < 4; i++)
                        for (int j = 0; j < 8; j++) {
                            sum[r][i][j] += acc[r][i][j];
                            acc[r][i][j] = 0;
                        }
                left = HALF_RUN;
            }
        }
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 8; j++) {
            tile[8 * i + j] = sum[0][i][j] + acc[0][i][j];
            if (kr == 2)
                tile[8 * i + j] += sum[1][i][j] + acc[1][i][j];
        }
}

void gemm_f16f16_4x8__ref(int taps, int channels, const void *const *rows, const uint16_t *b, float *tile)
{
    tile_of(1, taps, channels, rows, b, tile);
}

void gemm_f16f16_4x8c2__ref(int taps, int channels, const void *const *rows, const uint16_t *b, float *tile)
{
    tile_of(2, taps, channels, rows, b, tile);
}

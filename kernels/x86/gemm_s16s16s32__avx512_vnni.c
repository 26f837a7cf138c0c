// SPDX-License-Identifier: MIT
//
// int16 on AVX-512 VNNI, for Winograd: vpdpwssd adds two products to each 32-bit lane, without saturation. An image has few tiles
// of 4x4 pixels, so that rows which do not exist would be a large part: there are tiles of 14, 8 and 4 rows.

#include <immintrin.h>
#include <string.h>

#include "kernels/tiles.h"

static inline __attribute__((always_inline)) void tile_of(const int mr, const int nv, int channels, const int16_t *a,
                                                          const int16_t *b, int32_t *tile)
{
    /* every third row has a pointer: the others are one and two times `channels` behind it */
    const int16_t *third[5];
    __m512i vacc[14][2];
#pragma GCC unroll 5
    for (int i = 0; i < (mr + 2) / 3; i++)
        third[i] = a + 3 * i * (ptrdiff_t)channels;
#pragma GCC unroll 14
    for (int i = 0; i < mr; i++)
#pragma GCC unroll 2
        for (int j = 0; j < nv; j++)
            vacc[i][j] = _mm512_setzero_si512();
    for (int p = 0; p < channels; p += 2, b += 32 * nv) {
        __m512i vb[2];
#pragma GCC unroll 2
        for (int j = 0; j < nv; j++)
            vb[j] = _mm512_loadu_si512(b + 32 * j);
#pragma GCC unroll 14
        for (int i = 0; i < mr; i++) {
            int32_t pair;
            memcpy(&pair, third[i / 3] + i % 3 * (ptrdiff_t)channels, 4);
            const __m512i va = _mm512_set1_epi32(pair);
#pragma GCC unroll 2
            for (int j = 0; j < nv; j++)
                vacc[i][j] = _mm512_dpwssd_epi32(vacc[i][j], va, vb[j]);
        }
#pragma GCC unroll 5
        for (int i = 0; i < (mr + 2) / 3; i++)
            third[i] += 2;
    }
#pragma GCC unroll 14
    for (int i = 0; i < mr; i++)
#pragma GCC unroll 2
        for (int j = 0; j < nv; j++)
            _mm512_storeu_si512(tile + 16 * (nv * i + j), vacc[i][j]);
}

void gemm_s16s16s32_14x32c2__avx512_vnni(int channels, const int16_t *a, int count, const int16_t *b, int32_t *tile)
{
    if (count > 8)
        tile_of(14, 2, channels, a, b, tile);
    else if (count > 4)
        tile_of(8, 2, channels, a, b, tile);
    else
        tile_of(4, 2, channels, a, b, tile);
}

void gemm_s16s16s32_14x16c2__avx512_vnni(int channels, const int16_t *a, int count, const int16_t *b, int32_t *tile)
{
    if (count > 8)
        tile_of(14, 1, channels, a, b, tile);
    else if (count > 4)
        tile_of(8, 1, channels, a, b, tile);
    else
        tile_of(4, 1, channels, a, b, tile);
}

// SPDX-License-Identifier: MIT
//
// int16 on AVX2, for Winograd: vpmaddwd, whose pairs of products add in 32 bits.

#include <immintrin.h>
#include <string.h>

#include "kernels/tiles.h"

static inline __attribute__((always_inline)) void tile_of(const int mr, int channels, const int16_t *a, const int16_t *b,
                                                          int32_t *tile)
{
    const int16_t *const a3 = a + 3 * (ptrdiff_t)channels;
    __m256i vacc[6][2];
#pragma GCC unroll 6
    for (int i = 0; i < mr; i++)
        vacc[i][0] = vacc[i][1] = _mm256_setzero_si256();
    for (int p = 0; p < channels; p += 2, b += 32) { /* 2 depths: mr rows of A, 16 columns of B */
        const __m256i vb0 = _mm256_loadu_si256((const __m256i *)(const void *)b);
        const __m256i vb1 = _mm256_loadu_si256((const __m256i *)(const void *)(b + 16));
#pragma GCC unroll 6
        for (int i = 0; i < mr; i++) {
            int32_t pair;
            memcpy(&pair, (i < 3 ? a : a3) + i % 3 * (ptrdiff_t)channels + p, 4);
            const __m256i va = _mm256_set1_epi32(pair);
            vacc[i][0] = _mm256_add_epi32(vacc[i][0], _mm256_madd_epi16(va, vb0));
            vacc[i][1] = _mm256_add_epi32(vacc[i][1], _mm256_madd_epi16(va, vb1));
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < mr; i++) {
        _mm256_storeu_si256((__m256i *)(void *)(tile + 16 * i), vacc[i][0]);
        _mm256_storeu_si256((__m256i *)(void *)(tile + 16 * i + 8), vacc[i][1]);
    }
}

void gemm_s16s16s32_6x16c2__avx2(int channels, const int16_t *a, int count, const int16_t *b, int32_t *tile)
{
    if (count > 3)
        tile_of(6, channels, a, b, tile);
    else
        tile_of(3, channels, a, b, tile);
}

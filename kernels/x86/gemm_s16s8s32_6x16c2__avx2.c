// SPDX-License-Identifier: MIT
//
// int8 on AVX2, exact: weights are widened to 16 bits in registers and multiplied with vpmaddwd, whose pairs of products add in
// 32 bits. The u8 x s8 multiply-add of AVX2 would be twice as fast and saturates at 16 bits: never used.

#include <immintrin.h>
#include <string.h>

#include "kernels/tiles.h"

void gemm_s16s8s32_6x16c2__avx2(int taps, int channels, const void *const *rows, const int8_t *b, int32_t *tile)
{
    __m256i vacc[6][2];
#pragma GCC unroll 6
    for (int i = 0; i < 6; i++)
        vacc[i][0] = vacc[i][1] = _mm256_setzero_si256();
    for (int tap = 0; tap < taps; tap++, rows += 6)
        for (int p = 0; p < channels; p += 2, b += 32) { /* 2 depths: 6 rows of A, 16 columns of B */
            __m256i vb0 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)b));
            __m256i vb1 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(b + 16)));
#pragma GCC unroll 6
            for (int i = 0; i < 6; i++) {
                int32_t pair;
                memcpy(&pair, (const int16_t *)rows[i] + p, 4);
                __m256i va = _mm256_set1_epi32(pair);
                vacc[i][0] = _mm256_add_epi32(vacc[i][0], _mm256_madd_epi16(va, vb0));
                vacc[i][1] = _mm256_add_epi32(vacc[i][1], _mm256_madd_epi16(va, vb1));
            }
        }
#pragma GCC unroll 6
    for (int i = 0; i < 6; i++) {
        _mm256_storeu_si256((__m256i *)(tile + 16 * i), vacc[i][0]);
        _mm256_storeu_si256((__m256i *)(tile + 16 * i + 8), vacc[i][1]);
    }
}

void store_s8__avx2(const struct store_s8 *s, const int32_t *tile, int nr, int rows, int cols)
{
    const __m256 lo = _mm256_set1_ps(s->lo), hi = _mm256_set1_ps(s->hi);
    const __m256i zero = _mm256_set1_epi32(s->zero), residual_zero = _mm256_set1_epi32(s->residual_zero);
    const __m256 residual_mult = _mm256_set1_ps(s->residual_mult);
    int whole = cols & ~7;
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < whole; j += 8) {
            __m256i acc = _mm256_add_epi32(_mm256_loadu_si256((const __m256i *)(tile + i * nr + j)),
                                           _mm256_loadu_si256((const __m256i *)(s->bias + j)));
            __m256 t = _mm256_mul_ps(_mm256_cvtepi32_ps(acc), _mm256_loadu_ps(s->mult + j));
            if (s->residual) {
                __m256i q = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(s->residual + i * s->ld + j)));
                __m256 r = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(q, residual_zero)), residual_mult);
                t = _mm256_add_ps(t, r);
            }
            t = _mm256_min_ps(_mm256_max_ps(t, lo), hi);
            __m256i y = _mm256_add_epi32(_mm256_cvtps_epi32(t), zero); /* the default rounding: nearest even */
            __m128i y16 = _mm_packs_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
            _mm_storel_epi64((__m128i *)(s->y + i * s->ld + j), _mm_packs_epi16(y16, y16));
        }
    store_s8_rest__ref(s, tile, nr, rows, cols, whole);
}

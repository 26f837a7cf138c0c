// SPDX-License-Identifier: MIT
//
// Float tiles on AVX2 with FMA: 12 accumulators, two vectors of B, one broadcast of A. Halves and int8 weights are widened in
// registers, so their speed is near that of float at a half and a quarter of the memory.

#include <immintrin.h>

#include "kernels/tiles.h"

static inline void step(__m256 vacc[6][2], const void *const *rows, int p, __m256 vb0, __m256 vb1)
{
#pragma GCC unroll 6
    for (int i = 0; i < 6; i++) {
        __m256 va = _mm256_broadcast_ss((const float *)rows[i] + p);
        vacc[i][0] = _mm256_fmadd_ps(va, vb0, vacc[i][0]);
        vacc[i][1] = _mm256_fmadd_ps(va, vb1, vacc[i][1]);
    }
}

static inline void clear(__m256 vacc[6][2])
{
#pragma GCC unroll 6
    for (int i = 0; i < 6; i++)
        vacc[i][0] = vacc[i][1] = _mm256_setzero_ps();
}

static inline void write_tile(__m256 vacc[6][2], float *tile)
{
#pragma GCC unroll 6
    for (int i = 0; i < 6; i++) {
        _mm256_storeu_ps(tile + 16 * i, vacc[i][0]);
        _mm256_storeu_ps(tile + 16 * i + 8, vacc[i][1]);
    }
}

void gemm_f32f32_6x16__avx2(int taps, int channels, const void *const *rows, const float *b, float *tile)
{
    __m256 vacc[6][2];
    clear(vacc);
    for (int tap = 0; tap < taps; tap++, rows += 6)
        for (int p = 0; p < channels; p++, b += 16)
        step(vacc, rows, p, _mm256_loadu_ps(b), _mm256_loadu_ps(b + 8));
    write_tile(vacc, tile);
}

void gemm_f32f16_6x16__avx2(int taps, int channels, const void *const *rows, const uint16_t *b, float *tile)
{
    __m256 vacc[6][2];
    clear(vacc);
    for (int tap = 0; tap < taps; tap++, rows += 6)
        for (int p = 0; p < channels; p++, b += 16)
        step(vacc, rows, p, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)b)),
             _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(b + 8))));
    write_tile(vacc, tile);
}

void gemm_f32s8_6x16__avx2(int taps, int channels, const void *const *rows, const int8_t *b, float *tile)
{
    __m256 vacc[6][2];
    clear(vacc);
    for (int tap = 0; tap < taps; tap++, rows += 6)
        for (int p = 0; p < channels; p++, b += 16) {
        __m128i q = _mm_loadu_si128((const __m128i *)b);
        step(vacc, rows, p, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q)), _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(q, 8))));
    }
    write_tile(vacc, tile);
}

// SPDX-License-Identifier: MIT
//
// Float tiles on AVX-512: one broadcast per row and depth, vectors of 16 output channels. Halves and int8 weights are widened in
// registers. All widths and types are one function with constant sizes.

#include <immintrin.h>

#include "kernels/tiles.h"

enum weights { WEIGHTS_F32, WEIGHTS_F16, WEIGHTS_S8 };

static inline __attribute__((always_inline)) __m512 load(const enum weights type, const void *b, int at)
{
    if (type == WEIGHTS_F32)
        return _mm512_loadu_ps((const float *)b + at);
    if (type == WEIGHTS_F16)
        return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)((const uint16_t *)b + at)));
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)((const int8_t *)b + at))));
}

static inline __attribute__((always_inline)) void tile_of(const enum weights type, const int mr, const int nv, int taps, int channels,
                                                          const void *const *rows, const void *b, float *tile)
{
    const int size = type == WEIGHTS_F32 ? 4 : type == WEIGHTS_F16 ? 2 : 1;
    __m512 vacc[14][4];
#pragma GCC unroll 14
    for (int i = 0; i < mr; i++)
#pragma GCC unroll 4
        for (int j = 0; j < nv; j++)
            vacc[i][j] = _mm512_setzero_ps();
    for (int tap = 0; tap < taps; tap++, rows += mr)
        for (int p = 0; p < channels; p++, b = (const char *)b + 16 * nv * size) {
            __m512 vb[4];
#pragma GCC unroll 4
            for (int j = 0; j < nv; j++)
                vb[j] = load(type, b, 16 * j);
#pragma GCC unroll 14
            for (int i = 0; i < mr; i++) {
                const __m512 va = _mm512_set1_ps(((const float *)rows[i])[p]);
#pragma GCC unroll 4
                for (int j = 0; j < nv; j++)
                    vacc[i][j] = _mm512_fmadd_ps(va, vb[j], vacc[i][j]);
            }
        }
#pragma GCC unroll 14
    for (int i = 0; i < mr; i++)
#pragma GCC unroll 4
        for (int j = 0; j < nv; j++)
            _mm512_storeu_ps(tile + 16 * (nv * i + j), vacc[i][j]);
}

void gemm_f32f32_6x64__avx512(int taps, int channels, const void *const *rows, const float *b, float *tile)
{
    tile_of(WEIGHTS_F32, 6, 4, taps, channels, rows, b, tile);
}

void gemm_f32f16_6x64__avx512(int taps, int channels, const void *const *rows, const uint16_t *b, float *tile)
{
    tile_of(WEIGHTS_F16, 6, 4, taps, channels, rows, b, tile);
}

void gemm_f32s8_6x64__avx512(int taps, int channels, const void *const *rows, const int8_t *b, float *tile)
{
    tile_of(WEIGHTS_S8, 6, 4, taps, channels, rows, b, tile);
}

void gemm_f32f32_14x32__avx512(int taps, int channels, const void *const *rows, const float *b, float *tile)
{
    tile_of(WEIGHTS_F32, 14, 2, taps, channels, rows, b, tile);
}

void gemm_f32f16_14x32__avx512(int taps, int channels, const void *const *rows, const uint16_t *b, float *tile)
{
    tile_of(WEIGHTS_F16, 14, 2, taps, channels, rows, b, tile);
}

void gemm_f32s8_14x32__avx512(int taps, int channels, const void *const *rows, const int8_t *b, float *tile)
{
    tile_of(WEIGHTS_S8, 14, 2, taps, channels, rows, b, tile);
}

void gemm_f32f32_14x16__avx512(int taps, int channels, const void *const *rows, const float *b, float *tile)
{
    tile_of(WEIGHTS_F32, 14, 1, taps, channels, rows, b, tile);
}

void gemm_f32f16_14x16__avx512(int taps, int channels, const void *const *rows, const uint16_t *b, float *tile)
{
    tile_of(WEIGHTS_F16, 14, 1, taps, channels, rows, b, tile);
}

void gemm_f32s8_14x16__avx512(int taps, int channels, const void *const *rows, const int8_t *b, float *tile)
{
    tile_of(WEIGHTS_S8, 14, 1, taps, channels, rows, b, tile);
}

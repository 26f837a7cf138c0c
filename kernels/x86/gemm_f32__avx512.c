// SPDX-License-Identifier: MIT
//
// Float tiles on AVX-512: one broadcast per row and depth, vectors of 16 output channels. Halves and int8 weights are widened in
// registers, and the sums are finished there: scale, bias, residual, ReLU. All widths and types are one function with constant
// sizes.

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

/* 16 sums from column j of row i. A NaN stays one through the maximum. */
static inline __attribute__((always_inline)) void finish(const enum weights type, const struct store_f32 *s, __m512 v, int i,
                                                         int j, __mmask16 mask)
{
    const ptrdiff_t at = i * s->ld + j;
    v = _mm512_mul_ps(v, _mm512_maskz_loadu_ps(mask, s->mult + j));
    v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask, s->bias + j));
    if (type == WEIGHTS_F16) { /* activations are halves too */
        if (s->residual)
            v = _mm512_add_ps(v, _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, (const uint16_t *)s->residual + at)));
        if (s->relu)
            v = _mm512_max_ps(_mm512_setzero_ps(), v);
        _mm256_mask_storeu_epi16((uint16_t *)s->y + at, mask, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
        return;
    }
    if (s->residual)
        v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask, (const float *)s->residual + at));
    if (s->relu)
        v = _mm512_max_ps(_mm512_setzero_ps(), v);
    _mm512_mask_storeu_ps((float *)s->y + at, mask, v);
}

static inline __attribute__((always_inline)) void tile_of(const enum weights type, const int mr, const int nv, int taps,
                                                          int channels, const void *const *rows, const void *b,
                                                          const struct store_f32 *s, int count, int cols)
{
    const int size = type == WEIGHTS_F32 ? 4 : type == WEIGHTS_F16 ? 2 : 1;
    __m512 vacc[14][4];
#pragma GCC unroll 14
    for (int i = 0; i < mr; i++)
#pragma GCC unroll 4
        for (int j = 0; j < nv; j++)
            vacc[i][j] = _mm512_setzero_ps();
    for (int tap = 0; tap < taps; tap++, rows += mr) {
        if (!rows[0]) {
            b = (const char *)b + (ptrdiff_t)channels * 16 * nv * size;
            continue;
        }
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
    }
#pragma GCC unroll 14
    for (int i = 0; i < mr; i++) {
        if (i >= count)
            break;
#pragma GCC unroll 4
        for (int j = 0; j < nv; j++) {
            const int left = cols - 16 * j;
            finish(type, s, vacc[i][j], i, 16 * j, (__mmask16)(left >= 16 ? 0xffff : left > 0 ? (1u << left) - 1 : 0));
        }
    }
}

void gemm_f32f32_6x64__avx512(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s,
                              int count, int cols)
{
    tile_of(WEIGHTS_F32, 6, 4, taps, channels, rows, b, s, count, cols);
}

void gemm_f32f16_6x64__avx512(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s,
                              int count, int cols)
{
    tile_of(WEIGHTS_F16, 6, 4, taps, channels, rows, b, s, count, cols);
}

void gemm_f32s8_6x64__avx512(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s, int count,
                             int cols)
{
    tile_of(WEIGHTS_S8, 6, 4, taps, channels, rows, b, s, count, cols);
}

void gemm_f32f32_7x48__avx512(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s,
                              int count, int cols)
{
    tile_of(WEIGHTS_F32, 7, 3, taps, channels, rows, b, s, count, cols);
}

void gemm_f32f16_7x48__avx512(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s,
                              int count, int cols)
{
    tile_of(WEIGHTS_F16, 7, 3, taps, channels, rows, b, s, count, cols);
}

void gemm_f32s8_7x48__avx512(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s, int count,
                             int cols)
{
    tile_of(WEIGHTS_S8, 7, 3, taps, channels, rows, b, s, count, cols);
}

void gemm_f32f32_14x32__avx512(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s,
                               int count, int cols)
{
    tile_of(WEIGHTS_F32, 14, 2, taps, channels, rows, b, s, count, cols);
}

void gemm_f32f16_14x32__avx512(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s,
                               int count, int cols)
{
    tile_of(WEIGHTS_F16, 14, 2, taps, channels, rows, b, s, count, cols);
}

void gemm_f32s8_14x32__avx512(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s,
                              int count, int cols)
{
    tile_of(WEIGHTS_S8, 14, 2, taps, channels, rows, b, s, count, cols);
}

void gemm_f32f32_14x16__avx512(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s,
                               int count, int cols)
{
    tile_of(WEIGHTS_F32, 14, 1, taps, channels, rows, b, s, count, cols);
}

void gemm_f32f16_14x16__avx512(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s,
                               int count, int cols)
{
    tile_of(WEIGHTS_F16, 14, 1, taps, channels, rows, b, s, count, cols);
}

void gemm_f32s8_14x16__avx512(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s,
                              int count, int cols)
{
    tile_of(WEIGHTS_S8, 14, 1, taps, channels, rows, b, s, count, cols);
}

void gemm_f32f32_1x64__avx512(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s,
                              int count, int cols)
{
    tile_of(WEIGHTS_F32, 1, 4, taps, channels, rows, b, s, count, cols);
}

void gemm_f32f16_1x64__avx512(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s,
                              int count, int cols)
{
    tile_of(WEIGHTS_F16, 1, 4, taps, channels, rows, b, s, count, cols);
}

void gemm_f32s8_1x64__avx512(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s, int count,
                             int cols)
{
    tile_of(WEIGHTS_S8, 1, 4, taps, channels, rows, b, s, count, cols);
}

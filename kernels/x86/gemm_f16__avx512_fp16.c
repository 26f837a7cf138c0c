// SPDX-License-Identifier: MIT
//
// Tiles of half arithmetic on AVX512-FP16: 32 multiply-adds of halves per instruction, twice as many as in float.
//
// A lane of 32 bits holds two depths of one output channel, summed apart. So one broadcast of two neighbouring channels, which
// the load does by itself (that of a single half also needs one of the two multipliers), meets vectors of 16 output channels, and
// each sum takes every other product only. Sums become float at the end of a run, in the order in which halves lie in a vector:
// channels 0 to 7, then 8 to 15, even and odd depths in turn. They are added up where the tile ends.
//
// Tests build this file for machines with AVX-512 and no halves, where a multiply-add is one in double, rounded to half.

#include <immintrin.h>
#include <string.h>

#include "kernels/tiles.h"

#define RUN (2 * HALF_RUN) /* in depths */

static inline __attribute__((always_inline)) __m512 low(__m512i halves)
{
    return _mm512_cvtph_ps(_mm512_castsi512_si256(halves));
}

static inline __attribute__((always_inline)) __m512 high(__m512i halves)
{
    return _mm512_cvtph_ps(_mm512_extracti64x4_epi64(halves, 1));
}

#ifdef __AVX512FP16__
static inline __attribute__((always_inline)) __m512i multiply_add(__m512i acc, __m512i a, __m512i b)
{
    return _mm512_castph_si512(_mm512_fmadd_ph(_mm512_castsi512_ph(a), _mm512_castsi512_ph(b), _mm512_castsi512_ph(acc)));
}
#else
/* Rounded once, as the instruction does: towards zero to a float whose last bit then says whether anything was lost, and from
   there to half. */
static __m128i multiply_add_8(__m128i acc, __m128i a, __m128i b)
{
    const __m512d d = _mm512_fmadd_pd(_mm512_cvtps_pd(_mm256_cvtph_ps(a)), _mm512_cvtps_pd(_mm256_cvtph_ps(b)),
                                      _mm512_cvtps_pd(_mm256_cvtph_ps(acc)));
    const __m256 f = _mm512_cvt_roundpd_ps(d, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
    const __mmask8 lost = _mm512_cmp_pd_mask(_mm512_cvtps_pd(f), d, _CMP_NEQ_UQ);
    const __m256i odd = _mm256_mask_or_epi32(_mm256_castps_si256(f), lost, _mm256_castps_si256(f), _mm256_set1_epi32(1));
    return _mm256_cvtps_ph(_mm256_castsi256_ps(odd), _MM_FROUND_TO_NEAREST_INT);
}

static __m512i multiply_add(__m512i acc, __m512i a, __m512i b)
{
    __m128i va[4], vb[4], vacc[4];
    memcpy(va, &a, sizeof a);
    memcpy(vb, &b, sizeof b);
    memcpy(vacc, &acc, sizeof acc);
    for (int i = 0; i < 4; i++)
        vacc[i] = multiply_add_8(vacc[i], va[i], vb[i]);
    memcpy(&acc, vacc, sizeof acc);
    return acc;
}
#endif

/* 16 sums from column j of row i, as the tiles of float finish them. A NaN stays one through the maximum. */
static inline __attribute__((always_inline)) void finish(const struct store_f32 *s, __m512 v, int i, int j, __mmask16 mask)
{
    const ptrdiff_t at = i * s->ld + j;
    v = _mm512_mul_ps(v, _mm512_maskz_loadu_ps(mask, s->mult + j));
    v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask, s->bias + j));
    if (s->residual)
        v = _mm512_add_ps(v, _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, (const uint16_t *)s->residual + at)));
    if (s->relu)
        v = _mm512_max_ps(_mm512_setzero_ps(), v);
    _mm256_mask_storeu_epi16((uint16_t *)s->y + at, mask, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}

static inline __attribute__((always_inline)) void tile_of(const int mr, const int nv, int taps, int channels,
                                                          const void *const *rows, const uint16_t *b, const struct store_f32 *s,
                                                          int count, int cols)
{
    __m512i vacc[14][4];
    __m512 sums[14][4][2]; /* of the runs before this one */
    int runs = 0, left = RUN;
#pragma GCC unroll 14
    for (int i = 0; i < mr; i++)
#pragma GCC unroll 4
        for (int j = 0; j < nv; j++) {
            vacc[i][j] = _mm512_setzero_si512();
            sums[i][j][0] = sums[i][j][1] = _mm512_setzero_ps();
        }
    for (int tap = 0; tap < taps; tap++, rows += mr)
        for (int p = 0; p < channels;) {
            if (left == 0) {
#pragma GCC unroll 14
                for (int i = 0; i < mr; i++)
#pragma GCC unroll 4
                    for (int j = 0; j < nv; j++) {
                        sums[i][j][0] = _mm512_add_ps(sums[i][j][0], low(vacc[i][j]));
                        sums[i][j][1] = _mm512_add_ps(sums[i][j][1], high(vacc[i][j]));
                        vacc[i][j] = _mm512_setzero_si512();
                    }
                runs++;
                left = RUN;
            }
            const int end = channels - p < left ? channels : p + left;
            left -= end - p;
            if (!rows[0]) {
                b += (end - p) * 16 * nv;
                p = end;
            }
            for (; p < end; p += 2, b += 32 * nv) {
                __m512i vb[4];
#pragma GCC unroll 4
                for (int j = 0; j < nv; j++)
                    vb[j] = _mm512_loadu_si512(b + 32 * j);
#pragma GCC unroll 14
                for (int i = 0; i < mr; i++) {
                    int32_t two;
                    memcpy(&two, (const uint16_t *)rows[i] + p, 4);
                    const __m512i va = _mm512_set1_epi32(two);
#pragma GCC unroll 4
                    for (int j = 0; j < nv; j++)
                        vacc[i][j] = multiply_add(vacc[i][j], va, vb[j]);
                }
            }
        }
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
#pragma GCC unroll 14
    for (int i = 0; i < mr; i++) {
        if (i >= count)
            break;
#pragma GCC unroll 4
        for (int j = 0; j < nv; j++) {
            const int exist = cols - 16 * j;
            __m512 vl = low(vacc[i][j]), vh = high(vacc[i][j]);
            if (runs) {
                vl = _mm512_add_ps(sums[i][j][0], vl);
                vh = _mm512_add_ps(sums[i][j][1], vh);
            }
            finish(s, _mm512_add_ps(_mm512_permutex2var_ps(vl, even, vh), _mm512_permutex2var_ps(vl, odd, vh)), i, 16 * j,
                   (__mmask16)(exist >= 16 ? 0xffff
                               : exist > 0 ? (1u << exist) - 1
                                           : 0));
        }
    }
}

void gemm_f16f16_14x32c2__avx512_fp16(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s,
                                      int count, int cols)
{
    tile_of(14, 2, taps, channels, rows, b, s, count, cols);
}

void gemm_f16f16_7x48c2__avx512_fp16(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s,
                                     int count, int cols)
{
    tile_of(7, 3, taps, channels, rows, b, s, count, cols);
}

void gemm_f16f16_6x64c2__avx512_fp16(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s,
                                     int count, int cols)
{
    tile_of(6, 4, taps, channels, rows, b, s, count, cols);
}

void gemm_f16f16_14x16c2__avx512_fp16(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s,
                                      int count, int cols)
{
    tile_of(14, 1, taps, channels, rows, b, s, count, cols);
}

void gemm_f16f16_1x64c2__avx512_fp16(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s,
                                     int count, int cols)
{
    tile_of(1, 4, taps, channels, rows, b, s, count, cols);
}

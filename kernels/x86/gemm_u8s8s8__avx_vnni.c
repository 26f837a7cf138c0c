// SPDX-License-Identifier: MIT
//
// int8 on AVX-VNNI, which processors without AVX-512 have: vpdpbusd adds four products of unsigned A and signed B to each 32-bit
// lane, without saturation. One broadcast of four channels per row meets vectors of 8 output channels, and whole panels are
// requantised where they are, in registers; the last columns of a layer take the way of the AVX2 tiles, by way of memory.
//
// AVX-512 encodes the same arithmetic differently. Tests build this file in that encoding too, for machines that have only it.

#include <immintrin.h>
#include <string.h>

#include "kernels/tiles.h"

#ifdef __AVXVNNI__
#define DPBUSD _mm256_dpbusd_avx_epi32
#else
#define DPBUSD _mm256_dpbusd_epi32
#endif

struct constants {
    __m256 hi, residual_mult;
    __m256i residual_zero, zero;
    __m128i lowest;
};

/* 8 sums that already hold the bias, from column j of row i: rounded, without the zero point. Only the upper bound needs a clamp:
   what is too low for an int32 becomes the lowest int32, and packing saturates. */
static inline __attribute__((always_inline)) __m256i requantise(const struct store_s8 *s, const struct constants *c, __m256i acc,
                                                                int i, int j)
{
    __m256 t = _mm256_mul_ps(_mm256_cvtepi32_ps(acc), _mm256_loadu_ps(s->mult + j));
    if (s->residual) {
        __m256i q = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(s->residual + i * s->ld + j)));
        t = _mm256_add_ps(t, _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(q, c->residual_zero)), c->residual_mult));
    }
    return _mm256_cvtps_epi32(_mm256_min_ps(t, c->hi)); /* the default rounding: nearest even */
}

/* 16 results to bytes, every step saturating: packing works within 128-bit lanes, so the quarters are put in order in between. */
static inline __attribute__((always_inline)) void write_16(int8_t *to, __m256i y0, __m256i y1, const struct constants *c)
{
    const __m256i y = _mm256_permute4x64_epi64(_mm256_adds_epi16(_mm256_packs_epi32(y0, y1), c->zero), 0xd8);
    const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
    _mm_storeu_si128((__m128i *)(void *)to, _mm_max_epi8(bytes, c->lowest));
}

static inline __attribute__((always_inline)) void tile_of(const int mr, const int nv, int taps, int channels,
                                                          const void *const *rows, const int8_t *b, const struct store_s8 *s,
                                                          int count, int cols)
{
    __m256i vacc[6][8];
#pragma GCC unroll 8
    for (int j = 0; j < nv; j++) {
        const __m256i exists = _mm256_cmpgt_epi32(_mm256_set1_epi32(cols - 8 * j), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
        const __m256i bias = _mm256_maskload_epi32(s->bias + 8 * j, exists);
#pragma GCC unroll 6
        for (int i = 0; i < mr; i++)
            vacc[i][j] = bias;
    }
    for (int tap = 0; tap < taps; tap++, rows += mr) {
        if (!rows[0]) {
            b += channels * 8 * nv;
            continue;
        }
        for (int p = 0; p < channels; p += 4, b += 32 * nv) {
            __m256i vb[8];
#pragma GCC unroll 8
            for (int j = 0; j < nv; j++)
                vb[j] = _mm256_loadu_si256((const __m256i *)(const void *)(b + 32 * j));
#pragma GCC unroll 6
            for (int i = 0; i < mr; i++) {
                int32_t four;
                memcpy(&four, (const uint8_t *)rows[i] + p, 4);
                const __m256i va = _mm256_set1_epi32(four);
#pragma GCC unroll 8
                for (int j = 0; j < nv; j++)
                    vacc[i][j] = DPBUSD(vacc[i][j], va, vb[j]);
            }
        }
    }
    if (s->sums || cols < 8 * nv) {
        static const int32_t no_bias[64];
        int32_t tile[6 * 64], *sums = s->sums ? s->sums : tile;
#pragma GCC unroll 6
        for (int i = 0; i < mr; i++)
#pragma GCC unroll 8
            for (int j = 0; j < nv; j++)
                _mm256_storeu_si256((__m256i *)(void *)(sums + 8 * (nv * i + j)), vacc[i][j]);
        if (!s->sums) {
            struct store_s8 added = *s;
            added.bias = no_bias;
            store_s8__avx2(&added, tile, 8 * nv, count, cols);
        }
        return;
    }
    const struct constants c = {_mm256_set1_ps(s->hi), _mm256_set1_ps(s->residual_mult), _mm256_set1_epi32(s->residual_zero),
                                _mm256_set1_epi16((short)s->zero), _mm_set1_epi8((char)(s->lo + (float)s->zero))};
#pragma GCC unroll 6
    for (int i = 0; i < mr; i++) {
        if (i >= count)
            break;
#pragma GCC unroll 4
        for (int j = 0; j < nv; j += 2)
            write_16(s->y + i * s->ld + 8 * j, requantise(s, &c, vacc[i][j], i, 8 * j),
                     requantise(s, &c, vacc[i][j + 1], i, 8 * j + 8), &c);
    }
}

void gemm_u8s8s8_6x16c4__avx_vnni(int taps, int channels, const void *const *rows, const int8_t *b, const struct store_s8 *s,
                                  int count, int cols)
{
    tile_of(6, 2, taps, channels, rows, b, s, count, cols);
}

void gemm_u8s8s8_1x64c4__avx_vnni(int taps, int channels, const void *const *rows, const int8_t *b, const struct store_s8 *s,
                                  int count, int cols)
{
    tile_of(1, 8, taps, channels, rows, b, s, count, cols);
}

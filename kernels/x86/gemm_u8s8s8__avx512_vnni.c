// SPDX-License-Identifier: MIT
//
// int8 on AVX-512 VNNI: vpdpbusd adds four products of unsigned A and signed B to each 32-bit lane, without saturation. One
// broadcast of four channels per row meets vectors of 16 output channels, and the sums are requantised where they are, in
// registers. All widths are one function with constant sizes.

#include <immintrin.h>
#include <string.h>

#include "kernels/tiles.h"

struct constants {
    __m512 hi, residual_mult;
    __m512i residual_zero, zero, lowest;
};

/* 16 sums that already hold the bias, from column j of row i: rounded, without the zero point. Only the upper bound needs a
   clamp: what is too low for an int32 becomes the lowest int32, and packing saturates. */
static inline __attribute__((always_inline)) __m512i requantise(const struct store_s8 *s, const struct constants *c, __m512i acc,
                                                                int i, int j, __mmask16 mask)
{
    __m512 t = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), _mm512_maskz_loadu_ps(mask, s->mult + j));
    if (s->residual) {
        __m512i q = _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(mask, s->residual + i * s->ld + j));
        t = _mm512_add_ps(t, _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(q, c->residual_zero)), c->residual_mult));
    }
    return _mm512_cvtps_epi32(_mm512_min_ps(t, c->hi)); /* the default rounding: nearest even */
}

/* 64 results to bytes, every step saturating: packing works within 128-bit lanes, so the lanes' quarters are put in order at the
   end. A store is no wider than its nv vectors of columns: the next pixel's residual lies right behind, and its load would wait for
   a wider one. */
static inline __attribute__((always_inline)) void write_64(const int nv, int8_t *to, __mmask64 mask, const __m512i *y,
                                                           const struct constants *c)
{
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i low = _mm512_adds_epi16(_mm512_packs_epi32(y[0], y[1]), c->zero);
    const __m512i high = _mm512_adds_epi16(_mm512_packs_epi32(y[2], y[3]), c->zero);
    const __m512i bytes = _mm512_max_epi8(_mm512_packs_epi16(low, high), c->lowest);
    const __m512i y64 = _mm512_permutexvar_epi32(order, bytes);
    if (nv == 1)
        _mm_mask_storeu_epi8(to, (__mmask16)mask, _mm512_castsi512_si128(y64));
    else if (nv == 2)
        _mm256_mask_storeu_epi8(to, (__mmask32)mask, _mm512_castsi512_si256(y64));
    else
        _mm512_mask_storeu_epi8(to, mask, y64);
}

static inline __attribute__((always_inline)) struct constants constants_of(const struct store_s8 *s)
{
    return (struct constants){_mm512_set1_ps(s->hi), _mm512_set1_ps(s->residual_mult), _mm512_set1_epi32(s->residual_zero),
                              _mm512_set1_epi16((short)s->zero), _mm512_set1_epi8((char)(s->lo + (float)s->zero))};
}

static inline __attribute__((always_inline)) __mmask16 mask_of(int left)
{
    return (__mmask16)(left >= 16 ? 0xffff : left > 0 ? (1u << left) - 1 : 0);
}

static inline __attribute__((always_inline)) void tile_of(const int mr, const int nv, int taps, int channels,
                                                          const void *const *rows, const int8_t *b, const struct store_s8 *s,
                                                          int count, int cols)
{
    __m512i vacc[14][4];
    __mmask16 mask[4];
#pragma GCC unroll 4
    for (int j = 0; j < nv; j++) {
        mask[j] = mask_of(cols - 16 * j);
        const __m512i bias = _mm512_maskz_loadu_epi32(mask[j], s->bias + 16 * j);
#pragma GCC unroll 14
        for (int i = 0; i < mr; i++)
            vacc[i][j] = bias;
    }
    for (int tap = 0; tap < taps; tap++, rows += mr) {
        if (!rows[0]) {
            b += channels * 16 * nv;
            continue;
        }
        for (int p = 0; p < channels; p += 4, b += 64 * nv) {
            __m512i vb[4];
#pragma GCC unroll 4
            for (int j = 0; j < nv; j++)
                vb[j] = _mm512_loadu_si512(b + 64 * j);
#pragma GCC unroll 14
            for (int i = 0; i < mr; i++) {
                int32_t four;
                memcpy(&four, (const uint8_t *)rows[i] + p, 4);
                const __m512i va = _mm512_set1_epi32(four);
#pragma GCC unroll 4
                for (int j = 0; j < nv; j++)
                    vacc[i][j] = _mm512_dpbusd_epi32(vacc[i][j], va, vb[j]);
            }
        }
    }
    if (s->sums) { /* as they are */
#pragma GCC unroll 14
        for (int i = 0; i < mr; i++)
#pragma GCC unroll 4
            for (int j = 0; j < nv; j++)
                _mm512_storeu_si512(s->sums + 16 * (nv * i + j), vacc[i][j]);
        return;
    }
    const struct constants c = constants_of(s);
    const __mmask64 all = cols >= 64 ? ~0ULL : (1ULL << cols) - 1;
#pragma GCC unroll 14
    for (int i = 0; i < mr; i++) {
        if (i >= count)
            break;
        __m512i y[4];
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++)
            y[j] = j < nv ? requantise(s, &c, vacc[i][j], i, 16 * j, mask[j]) : _mm512_setzero_si512();
        write_64(nv, s->y + i * s->ld, all, y, &c);
    }
}

void gemm_u8s8s8_6x64c4__avx512_vnni(int taps, int channels, const void *const *rows, const int8_t *b, const struct store_s8 *s,
                                     int count, int cols)
{
    tile_of(6, 4, taps, channels, rows, b, s, count, cols);
}

void gemm_u8s8s8_7x48c4__avx512_vnni(int taps, int channels, const void *const *rows, const int8_t *b, const struct store_s8 *s,
                                     int count, int cols)
{
    tile_of(7, 3, taps, channels, rows, b, s, count, cols);
}

void gemm_u8s8s8_14x32c4__avx512_vnni(int taps, int channels, const void *const *rows, const int8_t *b, const struct store_s8 *s,
                                      int count, int cols)
{
    tile_of(14, 2, taps, channels, rows, b, s, count, cols);
}

void gemm_u8s8s8_14x16c4__avx512_vnni(int taps, int channels, const void *const *rows, const int8_t *b, const struct store_s8 *s,
                                      int count, int cols)
{
    tile_of(14, 1, taps, channels, rows, b, s, count, cols);
}

void gemm_u8s8s8_1x64c4__avx512_vnni(int taps, int channels, const void *const *rows, const int8_t *b, const struct store_s8 *s,
                                     int count, int cols)
{
    tile_of(1, 4, taps, channels, rows, b, s, count, cols);
}

/* The same to sums in memory. */
static inline __attribute__((always_inline)) void store_of(const int nv, const struct store_s8 *s, const int32_t *tile, int rows,
                                                           int cols)
{
    const struct constants c = constants_of(s);
    const __mmask64 all = cols >= 64 ? ~0ULL : (1ULL << cols) - 1;
    __mmask16 mask[2];
    __m512i bias[2];
#pragma GCC unroll 2
    for (int j = 0; j < nv; j++) {
        mask[j] = mask_of(cols - 16 * j);
        bias[j] = _mm512_maskz_loadu_epi32(mask[j], s->bias + 16 * j);
    }
    for (int i = 0; i < rows; i++, tile += 16 * nv) {
        __m512i y[4];
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++)
            y[j] = j < nv ? requantise(s, &c, _mm512_add_epi32(_mm512_loadu_si512(tile + 16 * j), bias[j]), i, 16 * j, mask[j])
                          : _mm512_setzero_si512();
        write_64(nv, s->y + i * s->ld, all, y, &c);
    }
}

void store_s8__avx512(const struct store_s8 *s, const int32_t *tile, int nr, int rows, int cols)
{
    if (nr == 32)
        store_of(2, s, tile, rows, cols);
    else
        store_of(1, s, tile, rows, cols);
}

// SPDX-License-Identifier: MIT
//
// int8 on AVX-512 VNNI: vpdpbusd adds four products of unsigned A and signed B to each 32-bit lane, without saturation. One broadcast
// of four channels per row meets vectors of 16 output channels. All widths are one function with constant sizes.

#include <immintrin.h>
#include <string.h>

#include "kernels/tiles.h"

static inline __attribute__((always_inline)) void tile_of(const int mr, const int nv, int taps, int channels, const void *const *rows,
                                                          const int8_t *b, int32_t *tile)
{
    __m512i vacc[14][4];
#pragma GCC unroll 14
    for (int i = 0; i < mr; i++)
#pragma GCC unroll 4
        for (int j = 0; j < nv; j++)
            vacc[i][j] = _mm512_setzero_si512();
    for (int tap = 0; tap < taps; tap++, rows += mr)
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
#pragma GCC unroll 14
    for (int i = 0; i < mr; i++)
#pragma GCC unroll 4
        for (int j = 0; j < nv; j++)
            _mm512_storeu_si512(tile + 16 * (nv * i + j), vacc[i][j]);
}

void gemm_u8s8s32_6x64c4__avx512_vnni(int taps, int channels, const void *const *rows, const int8_t *b, int32_t *tile)
{
    tile_of(6, 4, taps, channels, rows, b, tile);
}

void gemm_u8s8s32_14x32c4__avx512_vnni(int taps, int channels, const void *const *rows, const int8_t *b, int32_t *tile)
{
    tile_of(14, 2, taps, channels, rows, b, tile);
}

void gemm_u8s8s32_14x16c4__avx512_vnni(int taps, int channels, const void *const *rows, const int8_t *b, int32_t *tile)
{
    tile_of(14, 1, taps, channels, rows, b, tile);
}

void gemm_u8s8s32_1x64c4__avx512_vnni(int taps, int channels, const void *const *rows, const int8_t *b, int32_t *tile)
{
    tile_of(1, 4, taps, channels, rows, b, tile);
}

void store_s8__avx512(const struct store_s8 *s, const int32_t *tile, int nr, int rows, int cols)
{
    const __m512 lo = _mm512_set1_ps(s->lo), hi = _mm512_set1_ps(s->hi), residual_mult = _mm512_set1_ps(s->residual_mult);
    const __m512i zero = _mm512_set1_epi32(s->zero), residual_zero = _mm512_set1_epi32(s->residual_zero);
    for (int j = 0; j < cols; j += 16) {
        const __mmask16 mask = cols - j >= 16 ? 0xffff : (__mmask16)((1u << (cols - j)) - 1);
        const __m512i bias = _mm512_maskz_loadu_epi32(mask, s->bias + j);
        const __m512 mult = _mm512_maskz_loadu_ps(mask, s->mult + j);
        for (int i = 0; i < rows; i++) {
            __m512i acc = _mm512_add_epi32(_mm512_loadu_si512(tile + i * nr + j), bias);
            __m512 t = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), mult);
            if (s->residual) {
                __m512i q = _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(mask, s->residual + i * s->ld + j));
                t = _mm512_add_ps(t, _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(q, residual_zero)), residual_mult));
            }
            t = _mm512_min_ps(_mm512_max_ps(t, lo), hi);
            __m512i y = _mm512_add_epi32(_mm512_cvtps_epi32(t), zero); /* the default rounding: nearest even */
            _mm512_mask_cvtepi32_storeu_epi8(s->y + i * s->ld + j, mask, y);
        }
    }
}

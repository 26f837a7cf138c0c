// SPDX-License-Identifier: MIT

#include <immintrin.h>

#include "kernels/half.h"
#include "kernels/tiles.h"

static void widen(size_t n, const uint16_t *x, float *y)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(y + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(x + i))));
    for (; i < n; i++)
        y[i] = half_to_float(x[i]);
}

static void narrow(size_t n, const float *x, uint16_t *y)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(y + i), _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
    for (; i < n; i++)
        y[i] = half_from_float(x[i]);
}

static void s8_to_u8(size_t n, const int8_t *x, uint8_t *y)
{
    const __m256i sign = _mm256_set1_epi8(-128);
    size_t i = 0;
    for (; i + 32 <= n; i += 32)
        _mm256_storeu_si256((__m256i *)(y + i), _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)(x + i)), sign));
    vector_ops__ref.s8_to_u8(n - i, x + i, y + i);
}

static void s8_to_s16(size_t n, const int8_t *x, int16_t *y)
{
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        _mm256_storeu_si256((__m256i *)(y + i), _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(x + i))));
    vector_ops__ref.s8_to_s16(n - i, x + i, y + i);
}

static void finish(size_t n, const float *x, const float *mult, const float *bias, const float *add, int relu, float *y)
{
    const __m256 least = _mm256_set1_ps(relu ? 0 : -__builtin_inff());
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256 v = _mm256_add_ps(_mm256_mul_ps(_mm256_loadu_ps(x + i), _mm256_loadu_ps(mult + i)), _mm256_loadu_ps(bias + i));
        if (add)
            v = _mm256_add_ps(v, _mm256_loadu_ps(add + i));
        _mm256_storeu_ps(y + i, _mm256_max_ps(least, v)); /* a NaN in v stays */
    }
    vector_ops__ref.finish(n - i, x + i, mult + i, bias + i, add ? add + i : NULL, relu, y + i);
}

static void max_s8(size_t n, const int8_t *x, int8_t *y)
{
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        __m256i v = _mm256_max_epi8(_mm256_loadu_si256((const __m256i *)(x + i)), _mm256_loadu_si256((const __m256i *)(y + i)));
        _mm256_storeu_si256((__m256i *)(y + i), v);
    }
    vector_ops__ref.max_s8(n - i, x + i, y + i);
}

static void max_f32(size_t n, const float *x, float *y)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(y + i, _mm256_max_ps(_mm256_loadu_ps(x + i), _mm256_loadu_ps(y + i)));
    vector_ops__ref.max_f32(n - i, x + i, y + i);
}

static void sum_s8(size_t n, const int8_t *x, int32_t *y)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256i v = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(x + i)));
        _mm256_storeu_si256((__m256i *)(y + i), _mm256_add_epi32(v, _mm256_loadu_si256((const __m256i *)(y + i))));
    }
    vector_ops__ref.sum_s8(n - i, x + i, y + i);
}

const struct vector_ops vector_ops__avx2 = {widen, narrow, s8_to_u8, s8_to_s16, finish, max_s8, max_f32, sum_s8};

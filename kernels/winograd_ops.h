// SPDX-License-Identifier: MIT
//
// winograd_ops.h - the transforms of Winograd's F(4x4, 3x3) over vectors of channels, compiled once per instruction set: the file
// that includes it may define VECTOR_BYTES first, and gives the functions to a struct winograd_ops.
//
// V = B^T d B of 6x6 pixels, and Y = A^T M A of 6x6 products into 4x4 pixels (Lavin and Gray 2015, arXiv 1509.09308), with
//
//           4   0  -5   0   1   0                  1   1   1   1   1   0
//           0  -4  -4   1   1   0                  0   1  -1   2  -2   0
//     B^T = 0   4  -4  -1   1   0            A^T = 0   1   1   4   4   0
//           0  -2  -1   2   1   0                  0   1  -1   8  -8   4
//           0   2  -1  -2   1   0
//           0   4   0  -5   0   1
//
// The last 4 is 1 in the paper: it is taken out of the transform of the weights, whose integers then fit into 16 bits
// (winograd.c). Integers are unsigned: they wrap around, and what they mean modulo their width is exact.

#ifndef KERNELS_WINOGRAD_OPS_H
#define KERNELS_WINOGRAD_OPS_H

#include <string.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif
#ifdef __aarch64__
#include <arm_neon.h>
#endif

#include "kernels/half.h"
#include "kernels/tiles.h"
#include "kernels/winograd.h"

#ifndef VECTOR_BYTES
#define VECTOR_BYTES 16 /* every machine has them, or the compiler takes them apart */
#endif

#define LANES_S16 (VECTOR_BYTES / 2)
typedef int8_t vs8 __attribute__((vector_size(LANES_S16)));
typedef int16_t vs16 __attribute__((vector_size(2 * LANES_S16)));
typedef uint16_t vu16 __attribute__((vector_size(2 * LANES_S16)));
#define LANES_S32 (VECTOR_BYTES / 4)
typedef int32_t vs32 __attribute__((vector_size(VECTOR_BYTES)));
typedef uint32_t vu32 __attribute__((vector_size(VECTOR_BYTES)));
typedef float vf32 __attribute__((vector_size(VECTOR_BYTES)));

/* v = B^T d for one line or column. */
#define INPUT_LINE(type, d, v)                                                                                                   \
    do {                                                                                                                         \
        const type p = d[4] - 4 * d[2], q = d[3] - 4 * d[1], r = d[4] - d[2], s = 2 * (d[3] - d[1]);                             \
        v[0] = 4 * d[0] - 5 * d[2] + d[4];                                                                                       \
        v[1] = p + q;                                                                                                            \
        v[2] = p - q;                                                                                                            \
        v[3] = r + s;                                                                                                            \
        v[4] = r - s;                                                                                                            \
        v[5] = 4 * d[1] - 5 * d[3] + d[5];                                                                                       \
    } while (0)

/* y = A^T m for one line or column. */
#define OUTPUT_LINE(type, m, y)                                                                                                  \
    do {                                                                                                                         \
        const type p = m[1] + m[2], q = m[1] - m[2], r = m[3] + m[4], s = m[3] - m[4];                                           \
        y[0] = m[0] + p + r;                                                                                                     \
        y[1] = q + 2 * s;                                                                                                        \
        y[2] = p + 4 * r;                                                                                                        \
        y[3] = q + 8 * s + 4 * m[5];                                                                                             \
    } while (0)

/* Lines first, then columns; LOAD and STORE say what an element is. */
#define INPUT_TILE(type, LOAD, STORE)                                                                                            \
    do {                                                                                                                         \
        type t[6][6];                                                                                                            \
        _Pragma("GCC unroll 6") for (int i = 0; i < 6; i++)                                                                      \
        {                                                                                                                        \
            type d[6];                                                                                                           \
            _Pragma("GCC unroll 6") for (int j = 0; j < 6; j++) d[j] = LOAD(6 * i + j);                                          \
            INPUT_LINE(type, d, t[i]);                                                                                           \
        }                                                                                                                        \
        _Pragma("GCC unroll 6") for (int j = 0; j < 6; j++)                                                                      \
        {                                                                                                                        \
            const type d[6] = {t[0][j], t[1][j], t[2][j], t[3][j], t[4][j], t[5][j]};                                            \
            type out[6];                                                                                                         \
            INPUT_LINE(type, d, out);                                                                                            \
            _Pragma("GCC unroll 6") for (int i = 0; i < 6; i++) STORE(6 * i + j, out[i]);                                        \
        }                                                                                                                        \
    } while (0)

#define OUTPUT_TILE(type, LOAD, STORE)                                                                                           \
    do {                                                                                                                         \
        type t[6][4];                                                                                                            \
        _Pragma("GCC unroll 6") for (int i = 0; i < 6; i++)                                                                      \
        {                                                                                                                        \
            type d[6];                                                                                                           \
            _Pragma("GCC unroll 6") for (int j = 0; j < 6; j++) d[j] = LOAD(6 * i + j);                                          \
            OUTPUT_LINE(type, d, t[i]);                                                                                          \
        }                                                                                                                        \
        _Pragma("GCC unroll 4") for (int j = 0; j < 4; j++)                                                                      \
        {                                                                                                                        \
            const type d[6] = {t[0][j], t[1][j], t[2][j], t[3][j], t[4][j], t[5][j]};                                            \
            type out[4];                                                                                                         \
            OUTPUT_LINE(type, d, out);                                                                                           \
            _Pragma("GCC unroll 4") for (int i = 0; i < 4; i++) STORE(4 * i + j, out[i]);                                        \
        }                                                                                                                        \
    } while (0)

static inline __attribute__((always_inline)) vu16 load_s8(const void *from, int zero)
{
#if LANES_S16 == 16
    const vs16 wide = (vs16)_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)from));
#elif LANES_S16 == 32
    const vs16 wide = (vs16)_mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)from));
#elif defined __aarch64__
    const vs16 wide = vmovl_s8(vld1_s8(from));
#else
    vs8 q;
    memcpy(&q, from, sizeof q);
    const vs16 wide = __builtin_convertvector(q, vs16);
#endif
    return (vu16)(wide - (int16_t)zero);
}

static inline __attribute__((always_inline)) vu32 load_u32(const void *from)
{
    vu32 m;
    memcpy(&m, from, sizeof m);
    return m;
}

static inline __attribute__((always_inline)) vf32 load_f32(const void *from)
{
    vf32 m;
    memcpy(&m, from, sizeof m);
    return m;
}

/* Halves and int8 as floats. */
static inline __attribute__((always_inline)) vf32 load_f16(const void *from)
{
#if LANES_S32 == 16
    return (vf32)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)from));
#elif LANES_S32 == 8
    return (vf32)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)from));
#elif defined __aarch64__
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from)));
#else
    vf32 v = {0};
    for (int i = 0; i < LANES_S32; i++)
        v[i] = half_to_float(((const uint16_t *)from)[i]);
    return v;
#endif
}

static inline __attribute__((always_inline)) vf32 load_f32_s8(const void *from)
{
#if LANES_S32 == 16
    return (vf32)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)from)));
#elif LANES_S32 == 8
    return (vf32)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)from)));
#elif defined __aarch64__
    int32_t four;
    memcpy(&four, from, sizeof four);
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four))))));
#else
    vf32 v = {0};
    for (int i = 0; i < LANES_S32; i++)
        v[i] = ((const int8_t *)from)[i];
    return v;
#endif
}

static inline void input_s8(const void *const *pixels, int zero, int channels, int16_t *v, ptrdiff_t stride)
{
#define LOAD(xi)         load_s8((const int8_t *)pixels[xi] + c, zero)
#define STORE(xi, value) memcpy(v + (xi)*stride + c, &(value), sizeof(vu16))
    for (int c = 0; c < channels; c += LANES_S16)
        INPUT_TILE(vu16, LOAD, STORE);
#undef LOAD
#undef STORE
}

/* The products are 576 times the sums, modulo 2^32. 9 * 954437177 = 2^33 + 1, so multiplying leaves 64 times the sums, and the
   shift their lower 26 bits with the sign: all of a sum in [-2^25, 2^25). */
static inline void output_s32(const int32_t *m, ptrdiff_t stride, int nr, int32_t *y)
{
#define LOAD(xi) load_u32(m + (xi)*stride + n)
#define STORE(at, value)                                                                                                         \
    do {                                                                                                                         \
        const vs32 sum = (vs32)((value)*954437177u) >> 6;                                                                        \
        memcpy(y + (at)*nr + n, &sum, sizeof sum);                                                                               \
    } while (0)
    for (int n = 0; n < nr; n += LANES_S32)
        OUTPUT_TILE(vu32, LOAD, STORE);
#undef LOAD
#undef STORE
}

static inline void input_f32(const void *const *pixels, int channels, float *v, ptrdiff_t stride)
{
#define LOAD(xi)         load_f32((const float *)pixels[xi] + c)
#define STORE(xi, value) memcpy(v + (xi)*stride + c, &(value), sizeof(vf32))
    for (int c = 0; c < channels; c += LANES_S32)
        INPUT_TILE(vf32, LOAD, STORE);
#undef LOAD
#undef STORE
}

static inline void input_f16(const void *const *pixels, int channels, float *v, ptrdiff_t stride)
{
#define LOAD(xi)         load_f16((const uint16_t *)pixels[xi] + c)
#define STORE(xi, value) memcpy(v + (xi)*stride + c, &(value), sizeof(vf32))
    for (int c = 0; c < channels; c += LANES_S32)
        INPUT_TILE(vf32, LOAD, STORE);
#undef LOAD
#undef STORE
}

static inline void output_f32(const float *m, ptrdiff_t stride, int nr, float *y)
{
#define LOAD(xi)         load_f32(m + (xi)*stride + n)
#define STORE(at, value) memcpy(y + (at)*nr + n, &(value), sizeof(vf32))
    for (int n = 0; n < nr; n += LANES_S32)
        OUTPUT_TILE(vf32, LOAD, STORE);
#undef LOAD
#undef STORE
}

/* Line i of G g G^T, with the G of winograd.c: across the lines first, as t(LOAD, j) says, then along. */
#define ACROSS_0(LOAD, j) (6 * LOAD(j))
#define ACROSS_1(LOAD, j) (-4 * (LOAD(j) + LOAD(3 + j) + LOAD(6 + j)))
#define ACROSS_2(LOAD, j) (-4 * (LOAD(j) - LOAD(3 + j) + LOAD(6 + j)))
#define ACROSS_3(LOAD, j) (LOAD(j) + 2 * LOAD(3 + j) + 4 * LOAD(6 + j))
#define ACROSS_4(LOAD, j) (LOAD(j) - 2 * LOAD(3 + j) + 4 * LOAD(6 + j))
#define ACROSS_5(LOAD, j) (6 * LOAD(6 + j))
#define WEIGHT_LINE(type, ACROSS, LOAD)                                                                                          \
    for (int at = 0; at < n; at += (int)(sizeof(type) / sizeof *u)) {                                                            \
        const type t[3] = {ACROSS(LOAD, 0), ACROSS(LOAD, 1), ACROSS(LOAD, 2)};                                                   \
        const type even = t[0] + 4 * t[2], odd = 2 * t[1], sum = t[0] + t[2];                                                    \
        const type out[6] = {6 * t[0], -4 * (sum + t[1]), -4 * (sum - t[1]), even + odd, even - odd, 6 * t[2]};                  \
        _Pragma("GCC unroll 6") for (int j = 0; j < 6; j++) memcpy(u + j * n + at, &out[j], sizeof(type));                       \
    }
#define WEIGHTS(type, LOAD)                                                                                                      \
    switch (i) {                                                                                                                 \
    case 0:                                                                                                                      \
        WEIGHT_LINE(type, ACROSS_0, LOAD) break;                                                                                 \
    case 1:                                                                                                                      \
        WEIGHT_LINE(type, ACROSS_1, LOAD) break;                                                                                 \
    case 2:                                                                                                                      \
        WEIGHT_LINE(type, ACROSS_2, LOAD) break;                                                                                 \
    case 3:                                                                                                                      \
        WEIGHT_LINE(type, ACROSS_3, LOAD) break;                                                                                 \
    case 4:                                                                                                                      \
        WEIGHT_LINE(type, ACROSS_4, LOAD) break;                                                                                 \
    case 5:                                                                                                                      \
        WEIGHT_LINE(type, ACROSS_5, LOAD) break;                                                                                 \
    }

static inline void weights_f32(int i, int n, const void *g, float *u)
{
#define LOAD(tap) load_f32((const float *)g + (tap)*n + at)
    WEIGHTS(vf32, LOAD)
#undef LOAD
}

static inline void weights_f16(int i, int n, const void *g, float *u)
{
#define LOAD(tap) load_f16((const uint16_t *)g + (tap)*n + at)
    WEIGHTS(vf32, LOAD)
#undef LOAD
}

static inline void weights_s8(int i, int n, const void *g, float *u)
{
#define LOAD(tap) load_f32_s8((const int8_t *)g + (tap)*n + at)
    WEIGHTS(vf32, LOAD)
#undef LOAD
}

static inline void weights_s16(int i, int n, const void *g, int16_t *u)
{
#define LOAD(tap) (vs16)load_s8((const int8_t *)g + (tap)*n + at, 0)
    WEIGHTS(vs16, LOAD)
#undef LOAD
}

/* ---- gradients of weights: the same three matrices, transposed where they took part transposed ---- */

/* v = A y for one line or column. */
#define GRADIENT_LINE(y, v)                                                                                                      \
    do {                                                                                                                         \
        const vf32 p = y[0] + y[2], q = y[1] + y[3], r = y[0] + 4 * y[2], s = 2 * y[1] + 8 * y[3];                               \
        v[0] = y[0];                                                                                                             \
        v[1] = p + q;                                                                                                            \
        v[2] = p - q;                                                                                                            \
        v[3] = r + s;                                                                                                            \
        v[4] = r - s;                                                                                                            \
        v[5] = 4 * y[3];                                                                                                         \
    } while (0)

static inline void gradient_f32(const void *const *pixels, int channels, float *v, ptrdiff_t stride)
{
    for (int c = 0; c < channels; c += LANES_S32) {
        vf32 t[4][6];
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            vf32 y[4];
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++)
                y[j] = load_f32((const float *)pixels[4 * i + j] + c);
            GRADIENT_LINE(y, t[i]);
        }
#pragma GCC unroll 6
        for (int j = 0; j < 6; j++) {
            const vf32 y[4] = {t[0][j], t[1][j], t[2][j], t[3][j]};
            vf32 out[6];
            GRADIENT_LINE(y, out);
#pragma GCC unroll 6
            for (int i = 0; i < 6; i++)
                memcpy(v + (6 * i + j) * stride + c, &out[i], sizeof out[i]);
        }
    }
}

/* g = G^T u for one line or column. */
#define TO_WEIGHT_LINE(u, g)                                                                                                     \
    do {                                                                                                                         \
        const vf32 s = 4 * (u[1] + u[2]), d = 4 * (u[2] - u[1]), p = u[3] + u[4], q = u[3] - u[4];                               \
        g[0] = 6 * u[0] - s + p;                                                                                                 \
        g[1] = d + 2 * q;                                                                                                        \
        g[2] = 4 * p - s + 6 * u[5];                                                                                             \
    } while (0)

static inline void to_weights_f32(const float *u, ptrdiff_t stride, int n, int more, float *g, ptrdiff_t g_stride)
{
    for (int at = 0; at < n; at += LANES_S32) {
        vf32 t[6][3];
#pragma GCC unroll 6
        for (int i = 0; i < 6; i++) {
            vf32 line[6];
#pragma GCC unroll 6
            for (int j = 0; j < 6; j++)
                line[j] = load_f32(u + (6 * i + j) * stride + at);
            TO_WEIGHT_LINE(line, t[i]);
        }
#pragma GCC unroll 3
        for (int j = 0; j < 3; j++) {
            const vf32 line[6] = {t[0][j], t[1][j], t[2][j], t[3][j], t[4][j], t[5][j]};
            vf32 out[3];
            TO_WEIGHT_LINE(line, out);
#pragma GCC unroll 3
            for (int i = 0; i < 3; i++) {
                float *to = g + (3 * i + j) * g_stride + at;
                out[i] *= WINOGRAD_SCALE;
                if (more)
                    out[i] += load_f32(to);
                memcpy(to, &out[i], sizeof out[i]);
            }
        }
    }
}

#endif

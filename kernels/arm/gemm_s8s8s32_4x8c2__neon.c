// SPDX-License-Identifier: MIT
//
// int8 on ARMv8.0 NEON: SMULL and SMLAL add two products in 16 bits (2 * 128 * 127 = 32512 fits because weights are never -128),
// SADALP adds neighbouring lanes into 32 bits. Output channels lie along the lanes, so nothing is reduced at the end.

#include <arm_neon.h>
#include <string.h>

#include "kernels/tiles.h"

static inline int8x8_t pair(const int8_t *a)
{
    int16_t two;
    memcpy(&two, a, 2);
    return vreinterpret_s8_s16(vdup_n_s16(two));
}

void gemm_s8s8s32_4x8c2__neon(int taps, int channels, const void *const *rows, const int8_t *b, int32_t *tile)
{
    int32x4_t vacc[4][2];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        vacc[i][0] = vacc[i][1] = vdupq_n_s32(0);
    for (int tap = 0; tap < taps; tap++, rows += 4)
        for (int p = 0; p < channels; p += 4, b += 32) { /* 2 + 2 depths: 4 rows of A, 8 columns of B */
            int8x16_t vb01 = vld1q_s8(b), vb23 = vld1q_s8(b + 16);
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) {
                const int8_t *a = (const int8_t *)rows[i] + p;
                int8x8_t va01 = pair(a), va23 = pair(a + 2);
                int16x8_t low = vmull_s8(vget_low_s8(vb01), va01);
                int16x8_t high = vmull_high_s8(vb01, vcombine_s8(va01, va01));
                low = vmlal_s8(low, vget_low_s8(vb23), va23);
                high = vmlal_high_s8(high, vb23, vcombine_s8(va23, va23));
                vacc[i][0] = vpadalq_s16(vacc[i][0], low);
                vacc[i][1] = vpadalq_s16(vacc[i][1], high);
            }
        }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        vst1q_s32(tile + 8 * i, vacc[i][0]);
        vst1q_s32(tile + 8 * i + 4, vacc[i][1]);
    }
}

static inline int32x4_t requantise(int32x4_t acc, const float *mult, float32x4_t residual, float32x4_t lo, float32x4_t hi)
{
    float32x4_t t = vaddq_f32(vmulq_f32(vcvtq_f32_s32(acc), vld1q_f32(mult)), residual);
    return vcvtnq_s32_f32(vminq_f32(vmaxq_f32(t, lo), hi)); /* nearest, ties to even */
}

void store_s8__neon(const struct store_s8 *s, const int32_t *tile, int nr, int rows, int cols)
{
    const float32x4_t lo = vdupq_n_f32(s->lo), hi = vdupq_n_f32(s->hi);
    const int16x8_t residual_zero = vdupq_n_s16((int16_t)s->residual_zero);
    const int32x4_t zero = vdupq_n_s32(s->zero);
    int whole = cols & ~7;
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < whole; j += 8) {
            /* Without a residual +0 is added, which leaves every value that is rounded afterwards as it is. */
            float32x4_t r0 = vdupq_n_f32(0), r1 = r0;
            if (s->residual) {
                int16x8_t q = vsubq_s16(vmovl_s8(vld1_s8(s->residual + i * s->ld + j)), residual_zero);
                r0 = vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(q))), s->residual_mult);
                r1 = vmulq_n_f32(vcvtq_f32_s32(vmovl_high_s16(q)), s->residual_mult);
            }
            int32x4_t acc0 = vaddq_s32(vld1q_s32(tile + i * nr + j), vld1q_s32(s->bias + j));
            int32x4_t acc1 = vaddq_s32(vld1q_s32(tile + i * nr + j + 4), vld1q_s32(s->bias + j + 4));
            int32x4_t y0 = vaddq_s32(requantise(acc0, s->mult + j, r0, lo, hi), zero);
            int32x4_t y1 = vaddq_s32(requantise(acc1, s->mult + j + 4, r1, lo, hi), zero);
            vst1_s8(s->y + i * s->ld + j, vqmovn_s16(vcombine_s16(vqmovn_s32(y0), vqmovn_s32(y1))));
        }
    store_s8_rest__ref(s, tile, nr, rows, cols, whole);
}

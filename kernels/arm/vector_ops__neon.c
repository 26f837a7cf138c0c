// SPDX-License-Identifier: MIT

#include <arm_neon.h>

#include "kernels/half.h"
#include "kernels/tiles.h"

static void widen(size_t n, const uint16_t *x, float *y)
{
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        vst1q_f32(y + i, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(x + i))));
    for (; i < n; i++)
        y[i] = half_to_float(x[i]);
}

static void narrow(size_t n, const float *x, uint16_t *y)
{
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        vst1_u16(y + i, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(x + i))));
    for (; i < n; i++)
        y[i] = half_from_float(x[i]);
}

static void s8_to_u8(size_t n, const int8_t *x, uint8_t *y)
{
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        vst1q_u8(y + i, veorq_u8(vreinterpretq_u8_s8(vld1q_s8(x + i)), vdupq_n_u8(0x80)));
    vector_ops__ref.s8_to_u8(n - i, x + i, y + i);
}

static void s8_to_s16(size_t n, const int8_t *x, int16_t *y)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        vst1q_s16(y + i, vmovl_s8(vld1_s8(x + i)));
    vector_ops__ref.s8_to_s16(n - i, x + i, y + i);
}

static void finish(size_t n, const float *x, const float *mult, const float *bias, const float *add, int relu, float *y)
{
    const float32x4_t least = vdupq_n_f32(relu ? 0 : -__builtin_inff());
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        float32x4_t v = vaddq_f32(vmulq_f32(vld1q_f32(x + i), vld1q_f32(mult + i)), vld1q_f32(bias + i));
        if (add)
            v = vaddq_f32(v, vld1q_f32(add + i));
        vst1q_f32(y + i, vmaxq_f32(v, least));
    }
    vector_ops__ref.finish(n - i, x + i, mult + i, bias + i, add ? add + i : NULL, relu, y + i);
}

static void max_s8(size_t n, const int8_t *x, int8_t *y)
{
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        vst1q_s8(y + i, vmaxq_s8(vld1q_s8(x + i), vld1q_s8(y + i)));
    vector_ops__ref.max_s8(n - i, x + i, y + i);
}

static void max_f32(size_t n, const float *x, float *y)
{
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        vst1q_f32(y + i, vmaxq_f32(vld1q_f32(x + i), vld1q_f32(y + i)));
    vector_ops__ref.max_f32(n - i, x + i, y + i);
}

static void sum_s8(size_t n, const int8_t *x, int32_t *y)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        int16x8_t v = vmovl_s8(vld1_s8(x + i));
        vst1q_s32(y + i, vaddw_s16(vld1q_s32(y + i), vget_low_s16(v)));
        vst1q_s32(y + i + 4, vaddw_high_s16(vld1q_s32(y + i + 4), v));
    }
    vector_ops__ref.sum_s8(n - i, x + i, y + i);
}

const struct vector_ops vector_ops__neon = {widen, narrow, s8_to_u8, s8_to_s16, finish, max_s8, max_f32, sum_s8};

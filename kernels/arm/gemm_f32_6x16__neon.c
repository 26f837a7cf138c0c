// SPDX-License-Identifier: MIT
//
// Float tiles on NEON: 24 accumulators, four vectors of B, A by lane. Halves are converted by FCVTL, which ARMv8.0 has; only half
// arithmetic is newer.

#include <arm_neon.h>

#include "kernels/tiles.h"

static inline void step(float32x4_t vacc[6][4], const void *const *rows, int p, float32x4_t vb0, float32x4_t vb1, float32x4_t vb2,
                        float32x4_t vb3)
{
#pragma GCC unroll 6
    for (int i = 0; i < 6; i++) {
        float32x4_t va = vld1q_dup_f32((const float *)rows[i] + p);
        vacc[i][0] = vfmaq_f32(vacc[i][0], va, vb0);
        vacc[i][1] = vfmaq_f32(vacc[i][1], va, vb1);
        vacc[i][2] = vfmaq_f32(vacc[i][2], va, vb2);
        vacc[i][3] = vfmaq_f32(vacc[i][3], va, vb3);
    }
}

static inline void clear(float32x4_t vacc[6][4])
{
#pragma GCC unroll 6
    for (int i = 0; i < 6; i++)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++)
            vacc[i][j] = vdupq_n_f32(0);
}

static inline void write_tile(float32x4_t vacc[6][4], float *tile)
{
#pragma GCC unroll 6
    for (int i = 0; i < 6; i++)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++)
            vst1q_f32(tile + 16 * i + 4 * j, vacc[i][j]);
}

void gemm_f32f32_6x16__neon(int taps, int channels, const void *const *rows, const float *b, float *tile)
{
    float32x4_t vacc[6][4];
    clear(vacc);
    for (int tap = 0; tap < taps; tap++, rows += 6)
        for (int p = 0; p < channels; p++, b += 16)
        step(vacc, rows, p, vld1q_f32(b), vld1q_f32(b + 4), vld1q_f32(b + 8), vld1q_f32(b + 12));
    write_tile(vacc, tile);
}

void gemm_f32f16_6x16__neon(int taps, int channels, const void *const *rows, const uint16_t *b, float *tile)
{
    float32x4_t vacc[6][4];
    clear(vacc);
    for (int tap = 0; tap < taps; tap++, rows += 6)
        for (int p = 0; p < channels; p++, b += 16) {
        float16x8_t h0 = vreinterpretq_f16_u16(vld1q_u16(b)), h1 = vreinterpretq_f16_u16(vld1q_u16(b + 8));
        step(vacc, rows, p, vcvt_f32_f16(vget_low_f16(h0)), vcvt_high_f32_f16(h0), vcvt_f32_f16(vget_low_f16(h1)),
             vcvt_high_f32_f16(h1));
    }
    write_tile(vacc, tile);
}

void gemm_f32s8_6x16__neon(int taps, int channels, const void *const *rows, const int8_t *b, float *tile)
{
    float32x4_t vacc[6][4];
    clear(vacc);
    for (int tap = 0; tap < taps; tap++, rows += 6)
        for (int p = 0; p < channels; p++, b += 16) {
        int8x16_t q = vld1q_s8(b);
        int16x8_t q0 = vmovl_s8(vget_low_s8(q)), q1 = vmovl_high_s8(q);
        step(vacc, rows, p, vcvtq_f32_s32(vmovl_s16(vget_low_s16(q0))), vcvtq_f32_s32(vmovl_high_s16(q0)),
             vcvtq_f32_s32(vmovl_s16(vget_low_s16(q1))), vcvtq_f32_s32(vmovl_high_s16(q1)));
    }
    write_tile(vacc, tile);
}

// SPDX-License-Identifier: MIT
//
// The tile of half arithmetic on NEON: 16 accumulators of eight columns, 8 rows with 8 depths each, by lane. Every HALF_RUN depths
// they are added to sums in float, which lie in the first cache level; at the end those are finished and become halves.

#include <string.h>

#include <arm_neon.h>

#include "kernels/tiles.h"

enum { MR = 8, NR = 16, KU = 8 };

/* sums += acc, acc = 0; the first time sums = acc. */
static inline __attribute__((always_inline)) void flush(float16x8_t vacc[MR][2], float *sums, int first)
{
#pragma GCC unroll 16
    for (int i = 0; i < 2 * MR; i++, sums += 8) {
        const float16x8_t v = vacc[i / 2][i % 2];
        float32x4_t v0 = vcvt_f32_f16(vget_low_f16(v)), v1 = vcvt_high_f32_f16(v);
        if (!first) {
            v0 = vaddq_f32(vld1q_f32(sums), v0);
            v1 = vaddq_f32(vld1q_f32(sums + 4), v1);
        }
        vst1q_f32(sums, v0);
        vst1q_f32(sums + 4, v1);
        vacc[i / 2][i % 2] = vreinterpretq_f16_u16(vdupq_n_u16(0));
    }
}

/* Eight columns of `rows` rows. */
static inline void finish_eight(const float *sums, const float *mult, const float *bias, const uint16_t *residual, ptrdiff_t ld,
                                int relu, int rows, uint16_t *y, ptrdiff_t ld_y)
{
    const float32x4_t least = vdupq_n_f32(relu ? 0 : -__builtin_inff());
    const float32x4_t mult0 = vld1q_f32(mult), mult1 = vld1q_f32(mult + 4), bias0 = vld1q_f32(bias), bias1 = vld1q_f32(bias + 4);
    for (int i = 0; i < rows; i++, sums += NR, y += ld_y) {
        float32x4_t v0 = vaddq_f32(vmulq_f32(vld1q_f32(sums), mult0), bias0);
        float32x4_t v1 = vaddq_f32(vmulq_f32(vld1q_f32(sums + 4), mult1), bias1);
        if (residual) {
            const float16x8_t r = vreinterpretq_f16_u16(vld1q_u16(residual));
            v0 = vaddq_f32(v0, vcvt_f32_f16(vget_low_f16(r)));
            v1 = vaddq_f32(v1, vcvt_high_f32_f16(r));
            residual += ld;
        }
        vst1q_u16(y, vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(vmaxq_f32(v0, least)), vmaxq_f32(v1, least))));
    }
}

static void finish(const float *sums, const struct store_f32 *s, int rows, int cols)
{
    const uint16_t *residual = s->residual;
    uint16_t *y = s->y;
    int j = 0;
    for (; j + 8 <= cols; j += 8)
        finish_eight(sums + j, s->mult + j, s->bias + j, residual ? residual + j : NULL, s->ld, s->relu, rows, y + j, s->ld);
    if (j == cols)
        return;
    /* The columns that remain, on copies that are wide enough. */
    const size_t rest = (size_t)(cols - j);
    float mult[8] = {0}, bias[8] = {0};
    uint16_t in[MR][8] = {{0}}, out[MR][8];
    memcpy(mult, s->mult + j, rest * sizeof *mult);
    memcpy(bias, s->bias + j, rest * sizeof *bias);
    for (int i = 0; residual && i < rows; i++)
        memcpy(in[i], residual + i * s->ld + j, rest * sizeof **in);
    finish_eight(sums + j, mult, bias, residual ? in[0] : NULL, 8, s->relu, rows, out[0], 8);
    for (int i = 0; i < rows; i++)
        memcpy(y + i * s->ld + j, out[i], rest * sizeof **out);
}

/* lane must be a constant. In assembly, because GCC 12 copies each lane into a vector of its own when two instructions use it; "x":
   only the first 16 registers can give a lane of halves. */
#define FMLA(vc, vb, va, lane) __asm__ volatile("fmla %0.8h, %1.8h, %2.h[" #lane "]" : "+w"(vc) : "w"(vb), "x"(va) : "memory")

#define STEP(lane)                                                                     \
    do {                                                                               \
        const float16x8_t vb0 = vreinterpretq_f16_u16(vld1q_u16(b + NR * (lane)));     \
        const float16x8_t vb1 = vreinterpretq_f16_u16(vld1q_u16(b + NR * (lane) + 8)); \
        _Pragma("GCC unroll 8")                                                        \
        for (int i = 0; i < MR; i++) {                                                 \
            FMLA(vacc[i][0], vb0, va[i], lane);                                        \
            FMLA(vacc[i][1], vb1, va[i], lane);                                        \
        }                                                                              \
    } while (0)

void gemm_f16f16_8x16__neon_half(int taps, int channels, const void *const *rows, const void *panel, const struct store_f32 *s,
                                 int count, int cols)
{
    const uint16_t *b = panel;
    float16x8_t vacc[MR][2];
    float sums[MR * NR];
    int left = HALF_RUN, first = 1;
#pragma GCC unroll 8
    for (int i = 0; i < MR; i++)
        vacc[i][0] = vacc[i][1] = vreinterpretq_f16_u16(vdupq_n_u16(0));
    for (int tap = 0; tap < taps; tap++, rows += MR) {
        const uint16_t *a[MR];
#pragma GCC unroll 8
        for (int i = 0; i < MR; i++)
            a[i] = rows[i];
        for (int p = channels; p > 0;) {
            int n = p < left ? p : left;
            p -= n;
            left -= n;
            if (a[0])
                for (; n > 0; n -= KU, b += KU * NR) {
                    float16x8_t va[MR];
#pragma GCC unroll 8
                    for (int i = 0; i < MR; i++, a[i - 1] += KU)
                        va[i] = vreinterpretq_f16_u16(vld1q_u16(a[i]));
                    STEP(0);
                    STEP(1);
                    STEP(2);
                    STEP(3);
                    STEP(4);
                    STEP(5);
                    STEP(6);
                    STEP(7);
                }
            else
                b += n * NR;
            if (left == 0) {
                flush(vacc, sums, first);
                left = HALF_RUN;
                first = 0;
            }
        }
    }
    if (left < HALF_RUN || first)
        flush(vacc, sums, first);
    finish(sums, s, count, cols);
}

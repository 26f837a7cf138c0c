// SPDX-License-Identifier: MIT
//
// int8 with SMMLA (ARMv8.6 i8mm): one instruction multiplies 2 rows x 8 depths with 8 depths x 2 columns. Rows are read where
// they lie, 16 channels at a time, and paired in registers. Wider than high, because pairing costs instructions per row.

#include <arm_neon.h>

#include "kernels/tiles.h"

/* 8 depths: va01 and va23 are pairs of rows. The empty assembly keeps the order: GCC would load so much of B ahead that sums
   leave their registers. */
static inline void step(int32x4_t vacc[2][8], int8x16_t va01, int8x16_t va23, const int8_t *b)
{
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
        const int8x16_t vb = vld1q_s8(b + 16 * j);
        vacc[0][j] = vmmlaq_s32(vacc[0][j], va01, vb);
        vacc[1][j] = vmmlaq_s32(vacc[1][j], va23, vb);
        __asm__ volatile("" : "+w"(vacc[0][j]), "+w"(vacc[1][j]) : : "memory");
    }
}

static inline int8x16_t low(int8x16_t va, int8x16_t vb)
{
    return vreinterpretq_s8_s64(vzip1q_s64(vreinterpretq_s64_s8(va), vreinterpretq_s64_s8(vb)));
}

static inline int8x16_t high(int8x16_t va, int8x16_t vb)
{
    return vreinterpretq_s8_s64(vzip2q_s64(vreinterpretq_s64_s8(va), vreinterpretq_s64_s8(vb)));
}

static inline int32x4_t lows(int32x4_t va, int32x4_t vb)
{
    return vreinterpretq_s32_s64(vzip1q_s64(vreinterpretq_s64_s32(va), vreinterpretq_s64_s32(vb)));
}

static inline int32x4_t highs(int32x4_t va, int32x4_t vb)
{
    return vreinterpretq_s32_s64(vzip2q_s64(vreinterpretq_s64_s32(va), vreinterpretq_s64_s32(vb)));
}

void gemm_s8s8s32_4x16c8__neon_i8mm(int taps, int channels, const void *const *rows, const int8_t *b, int32_t *tile)
{
    int32x4_t vacc[2][8];
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++)
        vacc[0][j] = vacc[1][j] = vdupq_n_s32(0);
    for (int tap = 0; tap < taps; tap++, rows += 4) {
        const int8_t *a0 = rows[0], *a1 = rows[1], *a2 = rows[2], *a3 = rows[3];
        int p = channels;
        for (; p >= 16; p -= 16, b += 256, a0 += 16, a1 += 16, a2 += 16, a3 += 16) {
            const int8x16_t va0 = vld1q_s8(a0), va1 = vld1q_s8(a1), va2 = vld1q_s8(a2), va3 = vld1q_s8(a3);
            step(vacc, low(va0, va1), low(va2, va3), b);
            step(vacc, high(va0, va1), high(va2, va3), b + 128);
        }
        if (p > 0) {
            step(vacc, vcombine_s8(vld1_s8(a0), vld1_s8(a1)), vcombine_s8(vld1_s8(a2), vld1_s8(a3)), b);
            b += 128;
        }
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++, tile += 32)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            vst1q_s32(tile + 4 * j, lows(vacc[i][2 * j], vacc[i][2 * j + 1]));
            vst1q_s32(tile + 16 + 4 * j, highs(vacc[i][2 * j], vacc[i][2 * j + 1]));
        }
}

// SPDX-License-Identifier: MIT
//
// int8 with SDOT (ARMv8.2 dotprod), rows read where they lie: 16 channels of a row fill one vector, whose lanes of four multiply
// four vectors of B each. 20 accumulators, 5 vectors of A and 4 of B, loaded by one instruction, stay in registers; 5 rows waste
// less of a 7x7 image than 4.

#include <arm_neon.h>
#include <string.h>

#include "kernels/tiles.h"

/* lane must be a constant. The barrier keeps GCC from loading the next steps' B so early that an accumulator leaves its
   register. */
#define STEP(va, lane)                                                                                                           \
    do {                                                                                                                         \
        __asm__ volatile("" ::: "memory");                                                                                       \
        const int8x16x4_t vb = vld1q_s8_x4(b + 64 * (lane)); /* 4 depths, 16 columns */                                          \
        _Pragma("GCC unroll 5") for (int i = 0; i < 5; i++) _Pragma("GCC unroll 4") for (int j = 0; j < 4; j++) vacc[i][j] =     \
            vdotq_laneq_s32(vacc[i][j], vb.val[j], (va)[i], lane);                                                               \
    } while (0)

void gemm_s8s8s32_5x16c4__neon_dot(int taps, int channels, const void *const *rows, const int8_t *b, int32_t *tile)
{
    int32x4_t vacc[5][4];
#pragma GCC unroll 5
    for (int i = 0; i < 5; i++)
        vacc[i][0] = vacc[i][1] = vacc[i][2] = vacc[i][3] = vdupq_n_s32(0);
    for (int tap = 0; tap < taps; tap++, rows += 5) {
        const int8_t *a0 = rows[0], *a1 = rows[1], *a2 = rows[2], *a3 = rows[3], *a4 = rows[4];
        int p = channels;
        for (; p >= 16; p -= 16, b += 256, a0 += 16, a1 += 16, a2 += 16, a3 += 16, a4 += 16) {
            const int8x16_t va[5] = {vld1q_s8(a0), vld1q_s8(a1), vld1q_s8(a2), vld1q_s8(a3), vld1q_s8(a4)};
            STEP(va, 0);
            STEP(va, 1);
            STEP(va, 2);
            STEP(va, 3);
        }
        for (; p > 0; p -= 4, b += 64, a0 += 4, a1 += 4, a2 += 4, a3 += 4, a4 += 4) {
            const int8_t *const a[5] = {a0, a1, a2, a3, a4};
            int8x16_t va[5];
#pragma GCC unroll 5
            for (int i = 0; i < 5; i++) {
                int32_t four;
                memcpy(&four, a[i], 4);
                va[i] = vreinterpretq_s8_s32(vdupq_n_s32(four));
            }
            STEP(va, 0);
        }
    }
#pragma GCC unroll 5
    for (int i = 0; i < 5; i++)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++)
            vst1q_s32(tile + 16 * i + 4 * j, vacc[i][j]);
}

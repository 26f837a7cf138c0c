// SPDX-License-Identifier: MIT
//
// The SDOT tile for at most 8 output channels, where half of the 4x16 tile would be padding: two vectors of B, 8 rows of A.

#include <arm_neon.h>
#include <string.h>

#include "kernels/tiles.h"

/* lane must be a constant. */
#define STEP(va, lane)                                                                         \
    do {                                                                                       \
        const int8x16_t vb0 = vld1q_s8(b + 32 * (lane)), vb1 = vld1q_s8(b + 32 * (lane) + 16); \
        _Pragma("GCC unroll 8")                                                                \
        for (int i = 0; i < 8; i++) {                                                          \
            vacc[i][0] = vdotq_laneq_s32(vacc[i][0], vb0, (va)[i], lane);                      \
            vacc[i][1] = vdotq_laneq_s32(vacc[i][1], vb1, (va)[i], lane);                      \
        }                                                                                      \
    } while (0)

void gemm_s8s8s32_8x8c4__neon_dot(int taps, int channels, const void *const *rows, const int8_t *b, int32_t *tile)
{
    int32x4_t vacc[8][2];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        vacc[i][0] = vacc[i][1] = vdupq_n_s32(0);
    for (int tap = 0; tap < taps; tap++, rows += 8) {
        const int8_t *a[8];
        int p = channels;
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++)
            a[i] = rows[i];
        for (; p >= 16; p -= 16, b += 128) {
            int8x16_t va[8];
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++, a[i - 1] += 16)
                va[i] = vld1q_s8(a[i]);
            STEP(va, 0);
            STEP(va, 1);
            STEP(va, 2);
            STEP(va, 3);
        }
        for (; p > 0; p -= 4, b += 32) {
            int8x16_t va[8];
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++, a[i - 1] += 4) {
                int32_t four;
                memcpy(&four, a[i], 4);
                va[i] = vreinterpretq_s8_s32(vdupq_n_s32(four));
            }
            STEP(va, 0);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        vst1q_s32(tile + 8 * i, vacc[i][0]);
        vst1q_s32(tile + 8 * i + 4, vacc[i][1]);
    }
}

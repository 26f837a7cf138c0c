// SPDX-License-Identifier: MIT
//
// int16 on NEON, for Winograd: SMLAL and SMLAL2 by lane. 16 accumulators, 8 rows with 8 depths each, one vector of 8 columns.

#include <arm_neon.h>

#include "kernels/tiles.h"

enum { NR = 8, KU = 8 };

/* Eight rows with one depth, while the columns of the next are loaded: in-order cores would wait for them. lane must be a constant.
   In assembly, because GCC 12 would copy each lane into a vector of its own; "x": only the first 16 registers can give a lane of
   16 bits. */
#define STEP(lane, vb, next)                                                                               \
    do {                                                                                                   \
        next;                                                                                              \
        _Pragma("GCC unroll 8") for (int i = 0; i < mr; i++)                                               \
        {                                                                                                  \
            __asm__ volatile("smlal %0.4s, %2.4h, %3.h[" #lane "]\n\tsmlal2 %1.4s, %2.8h, %3.h[" #lane "]" \
                             : "+w"(vacc[i][0]), "+w"(vacc[i][1])                                          \
                             : "w"(vb), "x"(va[i])                                                         \
                             : "memory");                                                                  \
        }                                                                                                  \
    } while (0)

static inline __attribute__((always_inline)) void tile_of(const int mr, int channels, const int16_t *a, const int16_t *b,
                                                          int32_t *tile)
{
    int32x4_t vacc[8][2];
    const int16_t *row[8];
#pragma GCC unroll 8
    for (int i = 0; i < mr; i++) {
        vacc[i][0] = vacc[i][1] = vdupq_n_s32(0);
        row[i] = a + i * (ptrdiff_t)channels;
    }
    for (int p = 0; p < channels; p += KU, b += KU * NR) { /* 8 depths: mr rows of A, 8 columns of B */
        int16x8_t va[8];
#pragma GCC unroll 8
        for (int i = 0; i < mr; i++)
            va[i] = vld1q_s16(row[i] + p);
        int16x8_t vb0 = vld1q_s16(b), vb1;
        STEP(0, vb0, vb1 = vld1q_s16(b + NR));
        STEP(1, vb1, vb0 = vld1q_s16(b + 2 * NR));
        STEP(2, vb0, vb1 = vld1q_s16(b + 3 * NR));
        STEP(3, vb1, vb0 = vld1q_s16(b + 4 * NR));
        STEP(4, vb0, vb1 = vld1q_s16(b + 5 * NR));
        STEP(5, vb1, vb0 = vld1q_s16(b + 6 * NR));
        STEP(6, vb0, vb1 = vld1q_s16(b + 7 * NR));
        STEP(7, vb1, );
    }
#pragma GCC unroll 8
    for (int i = 0; i < mr; i++) {
        vst1q_s32(tile + NR * i, vacc[i][0]);
        vst1q_s32(tile + NR * i + 4, vacc[i][1]);
    }
}

void gemm_s16s16s32_8x8__neon(int channels, const int16_t *a, int count, const int16_t *b, int32_t *tile)
{
    if (count > 4)
        tile_of(8, channels, a, b, tile);
    else
        tile_of(4, channels, a, b, tile);
}

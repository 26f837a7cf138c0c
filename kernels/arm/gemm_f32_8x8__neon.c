// SPDX-License-Identifier: MIT
//
// Float tiles on NEON: 16 accumulators, 8 rows with 4 depths each, by lane, and two vectors of B. Eight rows share what B costs:
// loads and, for halves and int8, conversion. Halves are converted by FCVTL, which ARMv8.0 has; only half arithmetic is newer.

#include <arm_neon.h>

#include "kernels/tiles.h"

/* One depth, 8 columns. */
struct columns {
    float32x4_t v0, v1;
};

static inline struct columns load_f32(const float *b)
{
    return (struct columns){vld1q_f32(b), vld1q_f32(b + 4)};
}

static inline struct columns load_f16(const uint16_t *b)
{
    const float16x8_t h = vreinterpretq_f16_u16(vld1q_u16(b));
    return (struct columns){vcvt_f32_f16(vget_low_f16(h)), vcvt_high_f32_f16(h)};
}

static inline struct columns load_s8(const int8_t *b)
{
    const int16x8_t q = vmovl_s8(vld1_s8(b));
    return (struct columns){vcvtq_f32_s32(vmovl_s16(vget_low_s16(q))), vcvtq_f32_s32(vmovl_high_s16(q))};
}

/* lane must be a constant. The empty assembly keeps the order: GCC would load B so early, or move sums around so much, that
   copies and stores appear in the loop. */
#define STEP(load, lane)                                                                         \
    do {                                                                                         \
        const struct columns vb = load(b + 8 * (lane));                                          \
        _Pragma("GCC unroll 8")                                                                  \
        for (int i = 0; i < 8; i++) {                                                            \
            vacc[i][0] = vfmaq_laneq_f32(vacc[i][0], vb.v0, va[i], lane);                        \
            vacc[i][1] = vfmaq_laneq_f32(vacc[i][1], vb.v1, va[i], lane);                        \
            __asm__ volatile("" : "+w"(vacc[i][0]), "+w"(vacc[i][1]) : : "memory");              \
        }                                                                                        \
    } while (0)

#define TILE(load)                                                          \
    float32x4_t vacc[8][2];                                                 \
    _Pragma("GCC unroll 8")                                                 \
    for (int i = 0; i < 8; i++)                                             \
        vacc[i][0] = vacc[i][1] = vdupq_n_f32(0);                           \
    for (int tap = 0; tap < taps; tap++, rows += 8) {                       \
        const float *a[8];                                                  \
        float32x4_t va[8];                                                  \
        int p = channels;                                                   \
        _Pragma("GCC unroll 8")                                             \
        for (int i = 0; i < 8; i++)                                         \
            a[i] = rows[i];                                                 \
        for (; p >= 4; p -= 4, b += 32) {                                   \
            _Pragma("GCC unroll 8")                                         \
            for (int i = 0; i < 8; i++, a[i - 1] += 4)                      \
                va[i] = vld1q_f32(a[i]);                                    \
            STEP(load, 0);                                                  \
            STEP(load, 1);                                                  \
            STEP(load, 2);                                                  \
            STEP(load, 3);                                                  \
        }                                                                   \
        for (; p > 0; p--, b += 8) {                                        \
            _Pragma("GCC unroll 8")                                         \
            for (int i = 0; i < 8; i++, a[i - 1]++)                         \
                va[i] = vld1q_dup_f32(a[i]);                                \
            STEP(load, 0);                                                  \
        }                                                                   \
    }                                                                       \
    _Pragma("GCC unroll 8")                                                 \
    for (int i = 0; i < 8; i++) {                                           \
        vst1q_f32(tile + 8 * i, vacc[i][0]);                                \
        vst1q_f32(tile + 8 * i + 4, vacc[i][1]);                            \
    }

void gemm_f32f32_8x8__neon(int taps, int channels, const void *const *rows, const float *b, float *tile)
{
    TILE(load_f32)
}

void gemm_f32f16_8x8__neon(int taps, int channels, const void *const *rows, const uint16_t *b, float *tile)
{
    TILE(load_f16)
}

void gemm_f32s8_8x8__neon(int taps, int channels, const void *const *rows, const int8_t *b, float *tile)
{
    TILE(load_s8)
}

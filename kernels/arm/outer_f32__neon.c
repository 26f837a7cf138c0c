// SPDX-License-Identifier: MIT

#include <arm_neon.h>

#define VF           float32x4_t
#define LANES        4
#define SET1         vdupq_n_f32
#define LOAD         vld1q_f32
#define STORE        vst1q_f32
#define ADD          vaddq_f32
#define FMA(x, y, z) vfmaq_f32(z, x, y)
#include "kernels/outer_tile.h"

void outer_f32_8x8__neon(const struct outer_block *o)
{
    outer_tile(8, 2, o);
}

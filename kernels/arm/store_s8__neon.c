// SPDX-License-Identifier: MIT
//
// Requantisation on NEON. Every conversion to fewer bits saturates, so rounding, adding the zero point and ending at 127 need no
// clamp of their own: the result equals clamping in float. Only ReLU's limit does, as one maximum of bytes.

#include <arm_neon.h>

#include "kernels/tiles.h"

/* What a pixel needs besides its sums; held by value, because nothing that a store of bytes could change stays in a register. */
struct common {
    int16x8_t zero;
    int8x8_t residual_zero;
    float residual_mult;
};

/* The parameters of eight channels. */
struct eight {
    int32x4_t bias0, bias1;
    float32x4_t mult0, mult1;
};

static inline struct eight parameters(const struct store_s8 *s, int j)
{
    return (struct eight){vld1q_s32(s->bias + j), vld1q_s32(s->bias + j + 4), vld1q_f32(s->mult + j), vld1q_f32(s->mult + j + 4)};
}

/* Eight channels of one pixel, with the zero point added. with_residual is a constant wherever this is expanded. */
static inline int16x8_t pixel(const struct common *c, const struct eight *e, const int32_t *acc, const int8_t *residual,
                              int with_residual)
{
    float32x4_t t0 = vmulq_f32(vcvtq_f32_s32(vaddq_s32(vld1q_s32(acc), e->bias0)), e->mult0);
    float32x4_t t1 = vmulq_f32(vcvtq_f32_s32(vaddq_s32(vld1q_s32(acc + 4), e->bias1)), e->mult1);
    if (with_residual) {
        const int16x8_t q = vsubl_s8(vld1_s8(residual), c->residual_zero);
        t0 = vaddq_f32(t0, vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(q))), c->residual_mult));
        t1 = vaddq_f32(t1, vmulq_n_f32(vcvtq_f32_s32(vmovl_high_s16(q)), c->residual_mult));
    }
    /* nearest, ties to even */
    return vqaddq_s16(vqmovn_high_s32(vqmovn_s32(vcvtnq_s32_f32(t0)), vcvtnq_s32_f32(t1)), c->zero);
}

/* Whole vectors of channels; the number of channels done comes back. Expanded twice: with residual and without. */
__attribute__((always_inline)) static inline int columns(const struct store_s8 *s, const int32_t *tile, int nr, int rows,
                                                         int cols, int with_residual)
{
    const struct common c = {vdupq_n_s16((int16_t)s->zero), vdup_n_s8((int8_t)s->residual_zero), s->residual_mult};
    const int8x16_t least = vdupq_n_s8((int8_t)((int)s->lo + s->zero));
    const ptrdiff_t ld = s->ld;
    int j = 0;
    for (; j + 16 <= cols; j += 16) {
        const struct eight e0 = parameters(s, j), e1 = parameters(s, j + 8);
        const int32_t *acc = tile + j;
        const int8_t *r = with_residual ? s->residual + j : NULL;
        int8_t *y = s->y + j;
        for (int i = 0; i < rows; i++, acc += nr, y += ld) {
            const int16x8_t y0 = pixel(&c, &e0, acc, r, with_residual);
            const int16x8_t y1 = pixel(&c, &e1, acc + 8, with_residual ? r + 8 : NULL, with_residual);
            vst1q_s8(y, vmaxq_s8(vqmovn_high_s16(vqmovn_s16(y0), y1), least));
            if (with_residual)
                r += ld;
        }
    }
    if (j + 8 <= cols) {
        const struct eight e = parameters(s, j);
        const int32_t *acc = tile + j;
        const int8_t *r = with_residual ? s->residual + j : NULL;
        int8_t *y = s->y + j;
        for (int i = 0; i < rows; i++, acc += nr, y += ld) {
            vst1_s8(y, vmax_s8(vqmovn_s16(pixel(&c, &e, acc, r, with_residual)), vget_low_s8(least)));
            if (with_residual)
                r += ld;
        }
        j += 8;
    }
    return j;
}

void store_s8__neon(const struct store_s8 *s, const int32_t *tile, int nr, int rows, int cols)
{
    const int done = s->residual ? columns(s, tile, nr, rows, cols, 1) : columns(s, tile, nr, rows, cols, 0);
    if (done < cols)
        store_s8_rest__ref(s, tile, nr, rows, cols, done);
}

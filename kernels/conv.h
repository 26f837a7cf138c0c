// SPDX-License-Identifier: MIT
//
// conv.h - convolution in every precision: pack once at load, then run any share of the output on any thread.
//
// Tensors are NHWC without gaps. Weights are [O][KH][KW][I/groups]. A dense layer is a 1x1 convolution of a 1x1 image.
// Nothing here allocates, fails, logs or starts threads; the caller brings memory aligned to CONV_ALIGN bytes.
//
// int8 (docs/numerics.md): acc = sum (qx - zx) qw + b in int32, exact; padding counts as zx.
//     y = clamp(rne(f32(acc) * M[c]) + zy), M[c] = in.scale * scale[c] / out.scale in float;  with a residual:  t = f32(acc) * M1[c] + f32(q2 - z2) * M2, then the same.
// With ROUNDING_TFLITE acc is the same, and what follows is kernels/tflite.h.

#ifndef KERNELS_CONV_H
#define KERNELS_CONV_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/precision.h"

struct kernels;

#define CONV_ALIGN 64

/* n rounded up to a multiple of CONV_ALIGN. */
static inline size_t conv_align(size_t n)
{
    return (n + CONV_ALIGN - 1) / CONV_ALIGN * CONV_ALIGN;
}

struct conv_shape {
    int in_h, in_w, in_c;    /* of one image */
    int out_h, out_w, out_c; /* rows below and columns right of the image are padding: pad_bottom follows from out_h */
    int kernel_h, kernel_w;
    int stride_h, stride_w;
    int pad_top, pad_left;
    int groups;
};

struct quant {
    float scale; /* x = scale * (q - zero) */
    int zero;
};

/* How int8 sums become int8 values: as docs/numerics.md says of every network, or as TensorFlow Lite's reference kernels do. */
enum rounding { ROUNDING_NEAREST_EVEN, ROUNDING_TFLITE };

/* What one convolution computes; all pointers are borrowed for the duration of the call that gets them. */
struct conv_params {
    const void *weight;      /* float (fp32), half as uint16_t (fp16), int8_t (hybrid, int8): in [-127, 127], but for
                                one weight of each output channel, which may be -128 */
    const float *scale;      /* [O] of the weights: hybrid and int8 */
    const float *bias;       /* [O] float precisions; NULL is zero */
    const int32_t *bias_s32; /* [O] int8, in units of in.scale * scale[o]; NULL is zero */
    int relu;                /* int8: the clamp starts at the zero point, which is -128 when the range starts at 0 */
    struct quant in, out;    /* int8 */
    struct quant residual;   /* int8, when run with a residual */
    int float_out;           /* int8: write acc * in.scale * scale[o] as float, never clipped (logits); no residual */
    enum rounding rounding;  /* int8; ROUNDING_TFLITE: no residual, no float_out */
    int product_in_float;    /* ROUNDING_TFLITE: in.scale * scale[o] is rounded to float before the division by out.scale */
};

struct conv_io {
    const void *x;        /* [images][in_h][in_w][in_c] */
    const void *residual; /* NULL, or shaped like y: added before the ReLU */
    void *y;              /* [images][out_h][out_w][out_c]; may be the residual: each element is read before it is written */
    int images;
};

struct conv; /* packed; immutable once made; lives in memory of the caller */

/* Bytes that conv_init needs, weights included; a multiple of CONV_ALIGN. */
size_t conv_bytes(const struct kernels *k, enum precision p, const struct conv_shape *s);

/* Packs into memory (conv_bytes, CONV_ALIGN-aligned); the result starts at memory and is freed with it. k must outlive it.
   int8: conv_check_s8 must have accepted the parameters. */
struct conv *conv_init(void *memory, const struct kernels *k, enum precision p, const struct conv_shape *s,
                       const struct conv_params *params);

/* -1 when every accumulator of this int8 layer stays inside int32 for any input, else the first channel that may not. */
int conv_check_s8(const struct conv_shape *s, const struct conv_params *params);

/* Scratch bytes of one task, a multiple of CONV_ALIGN. */
size_t conv_scratch_bytes(const struct conv *c);

/* Computes share `task` of `tasks`: every element of y is written by exactly one task, with the same bits however many tasks
   there are. scratch: conv_scratch_bytes, CONV_ALIGN-aligned, used by no other running task. */
void conv_run(const struct conv *c, const struct conv_io *io, int task, int tasks, void *scratch);

/* What computes it, for people: the table's row and the tile, as "avx512_vnni 6x64". */
void conv_describe(const struct conv *c, char *text, size_t size);

/* The specification: direct loops over unpacked parameters, no packing, no tiles. fp16 and hybrid sum in float in the order
   kh, kw, i. Every implementation is compared with it: == in int8. */
void conv_reference(enum precision pr, const struct conv_shape *s, const struct conv_params *p, const struct conv_io *io);

#endif

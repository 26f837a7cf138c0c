// SPDX-License-Identifier: MIT
//
// pool.h - the layers around convolutions: pooling, residual add, the parameter-free shortcut.
//
// Tensors are NHWC without gaps, of the activation type of the precision: float (fp32, hybrid), uint16_t half (fp16),
// int8_t (int8). Like conv_run, each call computes share `task` of `tasks`.

#ifndef KERNELS_POOL_H
#define KERNELS_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/conv.h"
#include "kernels/precision.h"

struct pool_shape {
    int in_h, in_w, c;
    int out_h, out_w;
    int kernel_h, kernel_w;
    int stride_h, stride_w;
    int pad_top, pad_left;
};

/* Bytes of one activation: 4, 2, 4, 1. */
size_t activation_bytes(enum precision p);

/* Maximum over the part of each window that lies inside the image. Input and output share scale and zero point in int8.
   Every window must touch the image. */
void maxpool_run(const struct kernels *k, enum precision p, const struct pool_shape *s, const void *x, void *y, int images, int task,
                 int tasks);

/* Mean over all pixels, [images][pixels][c] -> [images][c]. Sums in float, or exactly in int32; int8:
   y = clamp(rne(f32(sum (q - zx)) * M) + zy) with M = sx / (pixels * sy) in float. */
void avgpool_run(const struct kernels *k, enum precision p, int pixels, int c, const struct quant *in, const struct quant *out,
                 const void *x, void *y, int images, int task, int tasks);

/* y = a + b, with ReLU if asked, n elements. int8: t = f32(qa - za) * (sa / sy) + f32(qb - zb) * (sb / sy), each operation
   rounded once, then requantised; with ReLU the clamp starts at the zero point. */
void add_run(enum precision p, size_t n, int relu, const struct quant *qa, const struct quant *qb, const struct quant *qy,
             const void *a, const void *b, void *y, int task, int tasks);

/* The parameter-free shortcut of CIFAR ResNets (He et al. 2015, option A): every stride-th pixel, with pad_before and pad_after
   zero channels around. zero is the zero point (int8). */
struct shortcut_shape {
    int in_h, in_w, in_c;
    int out_h, out_w; /* (in + stride - 1) / stride */
    int stride_h, stride_w;
    int pad_before, pad_after;
};
void shortcut_run(enum precision p, const struct shortcut_shape *s, int zero, const void *x, void *y, int images, int task,
                  int tasks);

/* Between int8 and fp16 layers of one network, n elements: y = clamp(rne(f32(x) * (1 / scale)) + zero, -128, 127), the reciprocal
   rounded to float once and NaN as the least value; and y = half(scale * f32(x - zero)). Every implementation gives the same bits. */
void quantize_run(const struct kernels *k, const struct quant *q, size_t n, const uint16_t *x, int8_t *y, int task, int tasks);
void dequantize_run(const struct quant *q, size_t n, const int8_t *x, uint16_t *y, int task, int tasks);

#endif

// SPDX-License-Identifier: MIT
//
// tflite.h - the rounding of TensorFlow Lite's reference kernels, for int8 networks that were made for it (docs/numerics.md).
//
// A real factor becomes a 31-bit integer and a power of two; a product is rounded twice: ties up where 62 bits become 31
// (gemmlowp's SaturatingRoundingDoublingHighMul), ties away from zero where the power of two is divided out
// (RoundingDivideByPOT). Integers only, so every CPU gives the same bytes. The tiles form the sums, this file makes bytes of
// them.

#ifndef KERNELS_TFLITE_H
#define KERNELS_TFLITE_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/conv.h"

struct kernels;

/* factor ~ m * 2^(shift - 31) with m in [2^30, 2^31) and shift in [-31, 31]; below 2^-32 it is 0, beyond 2^31 it saturates.
   factor
   >= 0. */
void tflite_multiplier(double factor, int32_t *m, int32_t *shift);

/* x times that. shift <= 31; where the reference would overflow int32, this saturates. */
int32_t tflite_multiply(int32_t x, int32_t m, int32_t shift);

/* The real factor of an output channel: input scale * weight scale / output scale. */
double tflite_factor(const struct conv_params *p, int channel);

/* The bytes of one tile: sums [rows][nr] with their bias, of which `cols` columns exist; m and shift per column; lo: the zero
   point with ReLU, else -128; y: pixels ld elements apart. */
void tflite_store(const int32_t *sums, int nr, int rows, int cols, const int32_t *m, const int32_t *shift, int zero, int lo,
                  int8_t *y, ptrdiff_t ld);

/* ADD of n elements: both operands, 20 bits up, are brought to twice the larger scale, added, and brought to y's. */
void tflite_add_run(size_t n, int relu, const struct quant *qa, const struct quant *qb, const struct quant *qy, const int8_t *a,
                    const int8_t *b, int8_t *y, int task, int tasks);

/* Mean over all pixels, [images][pixels][c] -> [images][c]. AVERAGE_POOL_2D where the output keeps the scale and zero point of
   its input: the sum of q divided, ties away from zero. MEAN where it does not: the sum of q - z times a factor that holds 1 /
   pixels. */
void tflite_avgpool_run(const struct kernels *k, int pixels, int c, const struct quant *in, const struct quant *out,
                        const int8_t *x, int8_t *y, int images, int task, int tasks);

#endif

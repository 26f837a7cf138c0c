// SPDX-License-Identifier: MIT

#include <limits.h>

#define VECTOR_BYTES 64
#include "kernels/winograd_ops.h"

/* int8 products are so fast here that transforming weights on the way costs more than it saves. */
const struct winograd_ops winograd_ops__avx512 = {
    4, 16, INT_MAX, input_s8, output_s32, input_f32, input_f16, output_f32, {weights_f32, weights_f16, weights_s8}, weights_s16, gradient_f32, to_weights_f32};

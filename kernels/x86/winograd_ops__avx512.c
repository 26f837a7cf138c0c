// SPDX-License-Identifier: MIT

#define VECTOR_BYTES 64
#include "kernels/winograd_ops.h"

const struct winograd_ops winograd_ops__avx512 = {4, 16, input_s8, output_s32, input_f32, input_f16, output_f32, weights_f16, weights_s8};

// SPDX-License-Identifier: MIT
//
// Winograd's transforms in vectors of 16 bytes: SSE2 on x86-64, NEON on arm64.

#include "kernels/winograd_ops.h"

const struct winograd_ops winograd_ops__ref = {
    4, 16, 4, input_s8, output_s32, input_f32, input_f16, output_f32, {weights_f32, weights_f16, weights_s8}, weights_s16, gradient_f32, to_weights_f32};

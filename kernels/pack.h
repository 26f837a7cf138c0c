// SPDX-License-Identifier: MIT
//
// pack.h - lays matrices out in the order in which the tiles read them (the idea is from gemmlowp's doc/kernel.md).
//
// B, the weights, becomes panels of nr columns; one step of a panel is kr depths by nr columns, depths innermost. kr = 2:
//     step 0:  b00 b10 | b01 b11 | ... nr columns      step 1:  b20 b30 | b21 b31 | ...
// A, the pixels under the kernel, becomes panels of mr rows in the same way. Missing depths, rows and columns are zeros, so tiles
// load whole vectors and never know about edges.

#ifndef KERNELS_PACK_H
#define KERNELS_PACK_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/tiles.h"

/* One panel from `cols` rows (<= nr) of w[cols][depth], elements of `size` bytes (1, 2 or 4); depth_padded is a multiple of kr. */
void pack_b(const void *w, size_t size, int cols, int depth, int nr, int kr, int depth_padded, void *panel);

/* Row i of an int8 A panel from line[depth]; the rest of the row up to depth_padded is zero. */
void pack_a_s8(const int8_t *line, int i, int depth, const struct gemm_s8 *g, int depth_padded, void *panel);
void pack_a_f32(const float *line, int i, int depth, int mr, float *panel);

/* Zeroes row i: rows of the last panel that do not exist. */
void pack_a_s8_empty(int i, const struct gemm_s8 *g, int depth_padded, void *panel);
void pack_a_f32_empty(int i, int depth, int mr, float *panel);

#endif

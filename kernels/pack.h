// SPDX-License-Identifier: MIT
//
// pack.h - lays weights out in the order in which the tiles read them (the idea is from gemmlowp's doc/kernel.md).
//
// B becomes panels of nr columns; one step of a panel is kr depths by nr columns, depths innermost. kr = 2:
//     step 0:  b00 b10 | b01 b11 | ... nr columns      step 1:  b20 b30 | b21 b31 | ...
// Missing depths and columns are zeros, so tiles load whole vectors and never know about edges.

#ifndef KERNELS_PACK_H
#define KERNELS_PACK_H

#include <stddef.h>
#include <stdint.h>

struct vector_ops;

/* One panel from `cols` rows (<= nr) of w[cols][taps][depth], elements of `size` bytes (1, 2 or 4). Each tap is padded with zeros
   to `padded` depths, a multiple of kr. */
void pack_b(const void *w, size_t size, int cols, int taps, int depth, int padded, int nr, int kr, void *panel);

/* Multiplies each column of a panel of halves, [steps][nr][kr], by a power of two such that the magnitudes of `run` (<= 128) steps
   from a multiple of it on, of each of the kr depths apart, sum to 15/32 .. 15/16 at most; back[cols] are the inverses. Then a sum
   of such a run of products, each addition rounded to half, never exceeds the largest activation: 15/16 (1 + 2^-11)^128 < 1.
   Weights that become subnormal lose 2^-25 at most, beside a sum near 1. kr is 1 or 2. */
void pack_scale_halves(const struct vector_ops *ops, uint16_t *panel, int steps, int nr, int kr, int cols, int run, float *back);

#endif

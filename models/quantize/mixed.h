// SPDX-License-Identifier: MIT
//
// mixed.h - an int8 network in which some layers work in fp16.
//
// Where such a layer meets int8, a cast is put between (graph.h), one for each tensor however many read it. An add follows the
// convolution that is computed within it: in half, the other operand is dequantised; in int8, quantised. Other nodes without
// weights are half when all their inputs are and no reader before them has asked for int8, and the network's
// input when only fp16 layers read it.

#ifndef MODELS_QUANTIZE_MIXED_H
#define MODELS_QUANTIZE_MIXED_H

#include "models/network.h"

/* *out is int8 with those layers i taken from fp16 for which chosen[i] is not 0. Both are quantised forms of one network, so
   their graphs are the same, and int8 has a quant for every node. `quantization` names the layers in "fp16_layers" (absent when
   there is none). On failure *out is untouched: memory, names too long for a cast behind them, a tensor beyond what a half
   holds. */
int mixed_network(const struct network *int8, const struct network *fp16, const unsigned char *chosen /* [graph.count] */,
                  struct network *out, struct err *e);

#endif

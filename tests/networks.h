// SPDX-License-Identifier: MIT
//
// networks.h - small networks made in memory, and a second way to compute them: node by node, unfused where that changes nothing,
// with the reference convolution. The same seed gives the same network on every machine.

#ifndef TESTS_NETWORKS_H
#define TESTS_NETWORKS_H

#include "models/network.h"
#include "models/quantize/quantize.h"

/* fp32, 32x32 pixels, 7 classes: a strided stem, both poolings, a grouped bottleneck with projection, a block with the
   parameter-free shortcut, an identity block, and an add that cannot be fused. Ends the program on failure. */
struct network make_network(unsigned seed);

/* Some image, [32][32][3]. */
void make_image(unsigned seed, uint8_t *rgb);

/* Converts n (int8: calibrated on a few images). */
struct network convert_network(const struct network *n, enum precision p);

/* Logits of one image computed node by node. */
void evaluate(const struct network *n, const uint8_t *rgb, float *logits);

#endif

// SPDX-License-Identifier: MIT
//
// conv_to_weights_winograd.h - private to kernels/: the gradient of 3x3 weights with a quarter of the multiplications.
//
// Y = A^T [(G g G^T) * (B^T d B)] A, product by product, is linear in g; so with D = A dY A^T the gradient of g is
// G^T [sum over tiles of (B^T d B) * D] G, and each of the 36 sums over tiles is a sum of outer products, inputs by outputs.

#ifndef KERNELS_CONV_TO_WEIGHTS_WINOGRAD_H
#define KERNELS_CONV_TO_WEIGHTS_WINOGRAD_H

#include "kernels/conv_gradient.h"

/* Whether it pays. */
int to_weights_winograd_pays(const struct conv_shape *s);

size_t to_weights_winograd_scratch_bytes(const struct conv_to_weights *c, int images);
void to_weights_winograd_run(const struct conv_to_weights *c, const float *x, const float *dy, int images, int more, float *sums,
                             void *scratch);

#endif

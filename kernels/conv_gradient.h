// SPDX-License-Identifier: MIT
//
// conv_gradient.h - what training asks of a convolution besides itself: the gradients of its input and of its weights, in float.
//
// Tensors are NHWC without gaps, weights [O][KH][KW][I/groups], all float. Nothing here allocates, fails or starts threads; the
// caller brings memory aligned to CONV_ALIGN bytes, and divides the images among threads.

#ifndef KERNELS_CONV_GRADIENT_H
#define KERNELS_CONV_GRADIENT_H

#include <stddef.h>

#include "kernels/conv.h"

struct kernels;

/* The gradient of the input. It is itself a convolution of dy, with the kernel turned around and inputs and outputs exchanged.
   With strides it is one for each of the places, modulo the strides, that a pixel of the input can have: each sees every
   stride-th tap of the kernel. */
struct conv_to_input; /* packed weights; lives in memory of the caller */

/* Bytes that conv_to_input_init needs; a multiple of CONV_ALIGN. */
size_t conv_to_input_bytes(const struct kernels *k, const struct conv_shape *s);

/* Packs; the result starts at memory. turned: room for as many floats as there are weights, and one more row and column of taps
   per side: conv_to_input_turned(s) of them; free again afterwards. k must outlive it. */
struct conv_to_input *conv_to_input_init(void *memory, const struct kernels *k, const struct conv_shape *s, const float *weight,
                                         float *turned);
size_t conv_to_input_turned(const struct conv_shape *s);

/* Scratch bytes of a run over so many images, a multiple of CONV_ALIGN; depends on the shape alone. */
size_t conv_to_input_scratch_bytes(const struct conv_to_input *c, int images);

/* dx [images][in_h][in_w][in_c] = add + gradient; add NULL: 0; may be dx. dy [images][out_h][out_w][out_c]. */
void conv_to_input_run(const struct conv_to_input *c, const float *dy, const float *add, float *dx, int images, void *scratch);

/* The gradient of the weights: for each group a sum over all pixels of outer products, inputs under the kernel by outputs. Both
   lie as they are needed, channel by channel; only padding has to be put around the input. 3x3 kernels with stride 1 go
   Winograd's way (winograd.h) where that pays. */
struct conv_to_weights {
    struct conv_shape s;
    const struct outer_f32 *tile;
    const struct winograd_ops *winograd; /* NULL: not this way */
    int rows, taps;   /* inputs that lie together: of one line of the kernel, with groups of one tap; and how many of these */
    int cols, panels; /* outputs of one group, and panels of them */
    int in_place, dy_in_place;
    int padded_h, padded_w; /* of the input with its padding */
};
void conv_to_weights_plan(struct conv_to_weights *c, const struct kernels *k, const struct conv_shape *s);
size_t conv_to_weights_scratch_bytes(const struct conv_to_weights *c, int images);

/* Floats of sums: [groups][KH][KW][I/groups][O/groups]. */
size_t conv_to_weights_sums(const struct conv_to_weights *c);

/* sums = products of these images, or, with `more`, sums += products. */
void conv_to_weights_run(const struct conv_to_weights *c, const float *x, const float *dy, int images, int more, float *sums,
                         void *scratch);

/* grad [O][KH][KW][I/groups], outputs [first, end), from `parts` sums, `stride` floats apart, added in their order. */
void conv_to_weights_finish(const struct conv_to_weights *c, const float *sums, int parts, size_t stride, int first, int end,
                            float *grad);

#endif

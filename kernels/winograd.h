// SPDX-License-Identifier: MIT
//
// winograd.h - private to kernels/: 3x3 convolutions with a quarter of the multiplications, after Lavin and Gray, "Fast
// Algorithms for Convolutional Neural Networks" (2015, arXiv 1509.09308): F(4x4, 3x3).
//
// A tile of 4x4 output pixels depends on 6x6 inputs. Both they and the 3x3 weights are transformed into 36 numbers; these are
// multiplied one by one and summed over the channels, and the sums transformed back: 36 multiplications instead of 144 per
// channel. Over many tiles the sums are 36 matrix products, tiles by output channels, for which the tiles of the table serve.
//
// In int8 the transformed numbers are 16-bit integers, and the result is exact: docs/numerics.md has the proof.
//
// fp16 and hybrid, and large layers in every precision, keep their weights as they are, for the sake of memory and, in fp16, of
// precision: a line of six of the 36 is transformed into scratch whenever a block of tiles, here a larger one, comes by.
//
//     for each block of tiles:  winograd_input,  then for each panel of weights:  winograd_multiply,  then for each tile:
//     winograd_output

#ifndef KERNELS_WINOGRAD_H
#define KERNELS_WINOGRAD_H

#include <stddef.h>

#include "kernels/conv.h"

struct kernels;

struct winograd {
    struct conv_shape s;
    enum precision precision;
    const struct winograd_ops *ops;
    const struct gemm_s16 *s16; /* one of the two */
    const struct gemm_f32 *f32;
    int zero; /* of the input, int8 */
    int mr, nr;
    int tiles_h, tiles_w; /* of an image: the last may reach beyond it */
    int block;            /* tiles in scratch at a time, a multiple of mr */
    int panels;
    int on_the_way;                         /* weights are plain */
    size_t product_bytes, panel_bytes;      /* of weights: one of the 36, all of one panel */
    ptrdiff_t input_stride, product_stride; /* elements between the 36 in scratch */
    const char *weights;                    /* [panels][36 or 9][in_c / kr][nr][kr] */
};

/* Whether Winograd is the way for this shape with this row of the table; when 1 the rest of *w but its weights is set up. */
int winograd_plan(struct winograd *w, const struct kernels *k, enum precision p, const struct conv_shape *s);

/* int8: whether 26 bits hold every sum of these weights. */
int winograd_exact(const struct conv_shape *s, const struct conv_params *params);

/* What the sums are to be multiplied with, in float precisions: integers stand in for G. */
#define WINOGRAD_SCALE (1.0f / 576)

/* Bytes of the weights as they are kept, a multiple of CONV_ALIGN, and of what one task needs. */
size_t winograd_weight_bytes(const struct winograd *w);
size_t winograd_scratch_bytes(const struct winograd *w);

/* Puts the weights into memory, which becomes w->weights: transformed, or on_the_way in order. */
void winograd_pack(struct winograd *w, const struct conv_params *params, void *memory);

/* Transforms the inputs x of tiles [first, first + count), count <= block, numbered image by image, line by line. */
void winograd_input(const struct winograd *w, const void *x, int first, int count, void *scratch);

/* The products of those tiles with one panel. */
void winograd_multiply(const struct winograd *w, int panel, int count, void *scratch);

/* The 4x4 output pixels of one tile, [16][nr] sums without bias: int32_t (int8) or float. Valid until the next call. */
const void *winograd_output(const struct winograd *w, int tile, void *scratch);

#endif

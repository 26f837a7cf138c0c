// SPDX-License-Identifier: MIT
//
// resnet_parts.h - private to resnet.c: nodes with their weights, made from a checkpoint's tensors.

#ifndef MODELS_RESNET_PARTS_H
#define MODELS_RESNET_PARTS_H

#include "models/network.h"
#include "models/resnet_names.h"

struct build {
    struct resnet_names names;
    int same_padding; /* TensorFlow's: padding depends on size and stride, the odd one goes below and right */
    double eps;
    unsigned char *used; /* [tensors]: what is left over is an error and never a silently different network */
    struct network net;  /* what is being built: graph and layers */
    struct err *e;
};

/* Whether base followed by leaf names a tensor. */
int build_has(const struct build *b, const char *base, const char *leaf);

/* The shape of base.weight as [O][I][KH][KW], a matrix as 1x1, within the limits of graph.h. */
int build_shape(struct build *b, const char *base, int64_t shape[4]);

/* All return the new node's index, or -1 with b->e set. */
int build_input(struct build *b, int width, int height);
int build_max_pool(struct build *b, const char *name, int in, int kernel, int stride);
int build_average_pool(struct build *b, const char *name, int in);  /* over all pixels */
int build_add(struct build *b, const char *name, int in0, int in1); /* with ReLU */

/* Convolution `weights` with its optional bias and the batch norm `bn` (NULL: none) folded into it. */
int build_conv(struct build *b, const char *name, const char *weights, const char *bn, int in, int stride, int relu);
int build_dense(struct build *b, const char *name, const char *weights, int in);

/* Option A: every stride-th pixel, zero channels around up to `channels`. */
int build_option_a(struct build *b, const char *name, int in, int stride, int channels);

/* The mean of 2x2 pixels, as a convolution with quarters on the diagonal of each tap: exact in float; in int8 the mean gets a
   scale of its own, one rounding more than a projection without it. Odd sides are refused: their last window would have to divide
   by two. */
int build_halve(struct build *b, const char *name, int in);

#endif

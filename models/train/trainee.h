// SPDX-License-Identifier: MIT
//
// trainee.h - a network that learns: the nodes of a graph, forwards and backwards, and their parameters.
//
// A graph knows no batch norm: it is folded before a graph exists. Here it may come back, between each convolution and the ReLU
// behind it, and is folded again when a network is made. Everything is float; tensors are NHWC, weights [O][KH][KW][I/groups] as
// in struct layer.
//
// All memory is taken by trainee_new; steps take none and cannot fail. The same calls give the same bits, whatever the number of
// threads: work is cut by shapes alone, and partial sums are added in order.

#ifndef MODELS_TRAIN_TRAINEE_H
#define MODELS_TRAIN_TRAINEE_H

#include <stddef.h>
#include <stdint.h>

#include "models/err.h"
#include "models/graph.h"
#include "models/network.h"

struct kernels;
struct pthreadpool;
struct trainee;

#define PARAMETER_NAME_MAX (GRAPH_NAME_MAX + 8)
#define TRAINEE_BATCH_MAX  4096

/* What is learned, and what a checkpoint holds. grad is what the last trainee_backward wrote. The running mean and variance of
   batch norm have neither grad nor momentum: forwards in TRAINEE_TRAIN move them, no optimiser does. Nor have parameters of
   layers that stay as they are. */
struct parameter {
    char name[PARAMETER_NAME_MAX];  /* the node's name with ".weight", ".bias", ".gamma", ".beta", ".mean" or ".var" */
    float *value, *grad, *momentum; /* [count] each, or NULL; owned by the trainee */
    int64_t count;
    int node;  /* index in the graph */
    int decay; /* 1: weight decay applies; weights only */
};

enum trainee_mode {
    TRAINEE_TRAIN,  /* batch norm by the statistics of the batch, which move the running ones; a backward may follow */
    TRAINEE_FROZEN, /* batch norm by the running statistics; a backward may follow */
    TRAINEE_EVAL    /* the same, without keeping what a backward needs */
};

/* Images of a batch belong to parts, at most this many: what is summed over images is summed within parts, and these are added in
   their order. */
#define TRAINEE_PARTS 16

struct trainee_options {
    int batch;                     /* images of a step, at most; 1 to TRAINEE_BATCH_MAX */
    struct pthreadpool *pool;      /* runs the loops (borrowed); NULL: this thread alone */
    const struct kernels *kernels; /* NULL: the best that this machine can run */
    int batch_norm;                /* behind each convolution; else they have a bias */
    int first_node;       /* layers before it stay as they are: their parameters have no grad, and a backward ends there */
    double norm_eps;      /* 0: 1e-5 */
    double norm_momentum; /* share of the new statistics in the running ones; 0: 0.1 */
};

/* g is copied, and must have passed graph_check; it must not hold half nodes. Parameters are zero, gamma and running variance
   one. */
int trainee_new(const struct graph *g, const struct trainee_options *o, struct trainee **out, struct err *e);
void trainee_free(struct trainee *t); /* NULL is fine */

/* From an fp32 network: its weights and biases, without batch norm whatever o says. */
int trainee_from_network(const struct network *n, const struct trainee_options *o, struct trainee **out, struct err *e);

/* Weights normally distributed with variance 2 / (outputs that read an input: kernel_h * kernel_w * out_c / groups), after He et
   al. 2015 (arXiv 1502.01852); of a dense uniform within 1 / sqrt(depth). The seed alone decides (random.h). The rest as after
   trainee_new. */
void trainee_initialise(struct trainee *t, uint64_t seed);

/* x [images][h][w][3], borrowed until the backward is done. Returns logits [images][classes], owned by the trainee, good until
   the next call. images <= batch. */
const float *trainee_forward(struct trainee *t, const float *x, int images, enum trainee_mode mode);

/* dlogits [images][classes]: the gradients of the loss, of the images of the last forward, which was not TRAINEE_EVAL. Writes
   every grad. */
void trainee_backward(struct trainee *t, const float *dlogits);

/* In the order of the graph; of one node weight, bias or gamma, beta, mean, var. Owned by the trainee. */
struct parameter *trainee_parameters(struct trainee *t, int *count);

/* What a node put out in the last forward, [h][w][c] of image `index`, copied to y: for calibration and tests. With batch norm
   and ReLU applied. */
void trainee_output(struct trainee *t, int node, int index, float *y);

/* The fp32 network: batch norm folded by its running statistics (fold.h). Sets precision, graph and layers of an otherwise empty
 *out; name, preprocess and labels are the caller's to set. On failure *out is untouched. */
int trainee_to_network(const struct trainee *t, struct network *out, struct err *e);

const struct graph *trainee_graph(const struct trainee *t);
int trainee_classes(const struct trainee *t);
size_t trainee_bytes(const struct trainee *t); /* all memory it holds */

#endif

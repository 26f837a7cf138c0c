// SPDX-License-Identifier: MIT
//
// qat.h - an int8 network that learns: quantisation-aware training.
//
// Forward is the int8 session: the same plan, the same integer kernels, activations kept as int8, and of a convolution its sums
// of 32 bits, which fake_quantise.h takes to int8 as docs/numerics.md says. Nothing is simulated, so nothing is lost when the
// network is deployed: qat_to_network gives a network whose session has the same logits, bit for bit. Backward is float, from the
// dequantised activations and weights; sums and distances from the grid are computed again there instead of being kept, so that a
// tensor takes one byte per value.
//
// What learns: weights and biases in float, from which the integers are made anew in each forward; the scale of each output
// channel's weights; the scale of each activation tensor. The zero points stay those of the quantiser. After a ReLU that is -128,
// the end of the grid; elsewhere 0 stays on the grid exactly, the range stretches and shrinks around it, and at 8 bits the one
// step that a moving zero point could gain does not pay for its jumps. Fixed too is the input's quantisation, which follows from
// the preprocessing.

#ifndef MODELS_TRAIN_QAT_H
#define MODELS_TRAIN_QAT_H

#include "models/network.h"
#include "models/train/trainee.h"

struct kernels;
struct pthreadpool;
struct qat;

struct qat_options {
    int batch;                     /* images of a step, at most; 1 to TRAINEE_BATCH_MAX */
    int weight_bits;               /* 2 to 8; 0: 8. Held in int8 all the same */
    int edge_bits;                 /* of layers that read the input or write the logits, which bear least; 0: 8 */
    struct pthreadpool *pool;      /* runs the loops (borrowed); NULL: this thread alone */
    const struct kernels *kernels; /* NULL: the best that this machine can run. The bits do not depend on it */
};

/* Starts from fp32's weights and int8's quantisation of activations, which quantize_network made of it. Both are borrowed for the
   call. On failure *out is untouched: ERR_INPUT when these are not two forms of one network or an option is out of range,
   ERR_UNSUPPORTED for layers in fp16 and other rounding than section "Quantised values" of docs/numerics.md has. */
int qat_new(const struct network *fp32, const struct network *int8, const struct qat_options *o, struct qat **out, struct err *e);
void qat_free(struct qat *q); /* NULL is fine */

/* In the order of the plan: of a layer .weight, .wscale, .bias, and of what a step puts out .scale. Owned by q. */
struct parameter *qat_parameters(struct qat *q, int *count);

/* x [images][h][w][3], normalised, is quantised as session_set_values does. Returns logits [images][classes], owned by q, good
   until the next call. images <= batch. Parameters may have any values: scales are kept within 64 times of where they began. */
const float *qat_forward(struct qat *q, const float *x, int images);

/* dlogits [images][classes]: gradients of the loss, of the images of the last forward, since when no parameter has changed.
   Writes every grad; the same bits for any number of threads. */
void qat_backward(struct qat *q, const float *dlogits);

/* The int8 network as of the parameters now: what the next qat_forward computes. Name, preprocess and labels are those of fp32;
   `quantization` says "qat" and the bits of weights. On failure *out is untouched. */
int qat_to_network(struct qat *q, struct network *out, struct err *e);

size_t qat_bytes(const struct qat *q); /* all memory it holds */

#endif

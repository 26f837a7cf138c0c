// SPDX-License-Identifier: MIT
//
// qat_parts.h - private to qat*.c: what is held for each step of the plan.

#ifndef MODELS_TRAIN_QAT_PARTS_H
#define MODELS_TRAIN_QAT_PARTS_H

#include "kernels/conv.h"
#include "kernels/conv_gradient.h"
#include "models/plan.h"
#include "models/train/qat.h"

/* Weights of a step. Integers, scales and biases of the last forward lie in net.layers. */
struct qat_layer {
    struct conv_shape shape;
    int64_t depth;
    int levels;              /* largest magnitude of an integer weight */
    float rate;              /* LSQ's factor of a weight scale */
    const float *begin;      /* [O] weight scales at the start */
    int weight, scale, bias; /* indices of parameters */
    float *mult;             /* [O] from sums to steps of the output, or to logits */
    void *memory;            /* of conv */
    struct conv *conv;       /* puts out sums, as float */
    struct conv_to_weights to_weights;
};

struct qat_step {
    struct step plan;
    int logits;              /* 1: puts out floats that nothing clips */
    int scale;               /* index of a parameter; -1 where the output has its input's scale, or is logits */
    float begin, rate;       /* that scale at the start; LSQ's factor */
    float lo, hi;            /* grid of the output, in steps from its zero point */
    size_t size;             /* values of the output, one image */
    int together;            /* images that are computed at a time: small ones fill the tiles together */
    struct qat_layer *layer; /* NULL without weights */
};

/* A part of the batch, always the same images of it, whoever computes them. What is summed over images is summed within parts,
   and these are added in their order: the number of threads changes nothing. */
struct qat_part {
    float *steps;    /* values before they are rounded */
    float *values;   /* a convolution's input, dequantised */
    float *bias_sum; /* [O] */
    double scale_sum;
    void *scratch; /* of the kernels */
};

struct qat {
    struct network net; /* int8: what a session would run; weights and scales as of the last forward */
    struct plan plan;
    struct qat_step *steps; /* [plan.count] */
    struct parameter *parameters;
    int parameter_count;
    int batch, images; /* images: of the last forward */
    struct pthreadpool *pool;
    const struct kernels *kernels;
    struct qat_part parts[TRAINEE_PARTS];

    int8_t **tensor; /* [graph.count] [batch][h][w][c]; NULL for nodes without one of their own, and for logits */
    float *logits;
    float *ones; /* the scales that make sums of logits */

    /* Backward. Gradients of tensors lie in a few slots, each used again when the step that wrote the tensor is through. */
    int *slot;        /* [graph.count], -1: none */
    char *written;    /* [graph.count]: holds something to add to */
    float **gradient; /* [slots] */
    float *weights;   /* of a layer, dequantised */
    float *turned;    /* for conv_to_input_init, as is its memory */
    void *to_input_memory;
    float *weight_sums; /* of a layer, [parts] */

    struct block *blocks; /* all memory but net's and plan's */
    size_t bytes;
};

/* Parts of a batch of so many images. */
static inline size_t qat_parts(int images)
{
    return images < TRAINEE_PARTS ? (size_t)images : TRAINEE_PARTS;
}

/* Runs task(user, i) for 0 <= i < tasks. */
void qat_parallel(const struct qat *q, void (*task)(void *user, size_t i), void *user, size_t tasks);

/* Integers and packed weights from the parameters. */
void qat_prepare(struct qat *q);

#endif

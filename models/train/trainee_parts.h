// SPDX-License-Identifier: MIT
//
// trainee_parts.h - private to trainee*.c: how a network that learns is laid out, and how a step walks it.
//
// What a convolution puts out is kept as its plain sums. Batch norm and ReLU, which need statistics of the whole batch first, are
// applied whenever someone reads it, a few images at a time, into scratch: cheaper than reading it back from memory, and nothing
// but the sums is kept for the way back, when they are applied once more.
//
// So the batch is waited for between regions: all nodes whose inputs need no further statistics. A part of the images walks
// through a whole region, a few images at a time that stay in the cache:
//
//     forwards:   batch norm and ReLU of what is read, adds and pools, convolutions, sums for their statistics
//     backwards:  the same inputs again; gradients of convolutions, pools, adds; sums of the gradients that are complete now

#ifndef MODELS_TRAIN_TRAINEE_PARTS_H
#define MODELS_TRAIN_TRAINEE_PARTS_H

#include <stdatomic.h>

#include "kernels/channels.h"
#include "kernels/conv_gradient.h"
#include "kernels/kernels.h"
#include "models/train/trainee.h"

/* A gradient handed from a node to one of its inputs. Indices of nodes: in whose buffer the input's gradient lies before (-1:
   there is none yet) and after. */
struct edge {
    int from, to;
};

/* A conv or dense. */
struct linear {
    struct conv_shape s;
    void *memory, *input_memory;
    struct conv *conv;
    struct conv_to_input *to_input; /* NULL: nobody wants the gradient of its input */
    struct conv_to_weights to_weights;
    size_t sums;    /* floats of one part's gradient of the weights */
    size_t sums_at; /* among those of its region */
    int normed;
    struct parameter *weight, *bias, *gamma, *beta, *mean, *var; /* bias or the others */
    /* [c] each. y = z * mult + shift, and the gradient of z (channels.h); center is what sums are taken around */
    float *mult, *shift, *center, *of_gradient, *of_z, *constant;
    double *inverse; /* 1 / standard deviation */
    double *moments; /* [TRAINEE_PARTS][2][c] */
};

struct unit {
    const struct node *n;
    size_t pixels, elements; /* of an image's output */
    int region;
    int learns;            /* 1: parameters in it or before it, so it wants a gradient */
    struct linear *linear; /* NULL: none */
    float *out;            /* [batch][elements]: plain sums of a conv or dense, what the others put out; NULL for the input */
    float *gradient;       /* [batch][elements], or NULL: it is always another's */
    int holder;            /* index of the node whose buffer has its whole gradient; -1: it wants none */
    struct edge edges[2];
};

/* Indices of nodes. */
struct list {
    int *nodes, count;
};

struct region {
    struct list nodes;    /* that compute in it, in order */
    struct list inputs;   /* whose outputs are finished into slots on the way forwards */
    struct list again;    /* and once more on the way backwards */
    struct list complete; /* conv and dense whose gradients are complete at its end */
    int parts, chunk;     /* of images; images at a time */
    size_t sums;          /* floats of one part's gradients of weights */
    size_t slot;          /* floats; scratch is one for a gradient, one for each input, then what kernels take */
};

struct trainee {
    struct graph g;
    int batch, threads;
    struct pthreadpool *pool;
    const struct kernels *kernels;
    int batch_norm, first_node;
    double eps, momentum;
    struct unit *units;     /* [g.count] */
    struct region *regions; /* [region_count]: the last one only finishes the output */
    int region_count;
    struct parameter *parameters;
    int parameter_count;
    float *logits;
    float *weight_sums; /* of the region at hand, [parts][region->sums] */
    char *scratch;      /* [threads] of scratch_bytes */
    size_t scratch_bytes;
    size_t bytes;
    void **owned; /* every block of memory */
    int owned_count;
    /* of the step at hand */
    const float *x;
    int images;
    enum trainee_mode mode;
};

/* Regions, edges and sizes of a trainee whose graph and options are set; then its memory. */
int trainee_plan(struct trainee *t, struct err *e);

/* In whose buffer each gradient lies, as regions are walked backwards; then memory for these buffers. */
void gradients_follow(struct trainee *t);
int gradients_take(struct trainee *t);

static inline int inputs_of(const struct node *n)
{
    return op_infos[n->op].inputs;
}

/* Memory that trainee_free gives back: zeroed, aligned to CONV_ALIGN. NULL: there is none. */
void *trainee_take(struct trainee *t, size_t bytes);

/* For an add: which input's batch norm it applies itself, 0 or 1, or -1. */
int fused_input(const struct trainee *t, int node);

/* One of the regions, for images [first, first + count) of part `part`. */
void region_forward(struct trainee *t, int region, int part, int first, int count, char *scratch);
void region_backward(struct trainee *t, int region, int part, int first, int count, int more, char *scratch);

/* Affine functions and statistics of a conv or dense (trainee_norm.c). start: before a forward. */
void norm_start(struct trainee *t, struct linear *l, int channels);
void norm_from_batch(struct trainee *t, struct linear *l, int channels, int parts, double count);
void norm_backward(struct trainee *t, struct linear *l, int channels, int parts, double count);

#endif

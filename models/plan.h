// SPDX-License-Identifier: MIT
//
// plan.h - the order of work: nodes fused into steps, and an arena in which tensors that never live together share bytes.
//
// Fusion: a convolution that only a residual add reads is computed by the add's step, so its own output never exists. When the
// other operand dies there, the sum is written over it. A node with keep_output is not fused.

#ifndef MODELS_PLAN_H
#define MODELS_PLAN_H

#include <stddef.h>

#include "models/graph.h"

struct step {
    enum op op;   /* OP_CONV for convolutions and dense layers, fused or not */
    int node;     /* whose output the step writes */
    int weights;  /* node whose weights it uses, -1 */
    int in[2];    /* nodes it reads; for OP_CONV in[1] is the residual, -1 where there is none */
    int relu;
};

struct plan {
    struct step *steps;
    int count;
    size_t *offset;       /* [graph.count] bytes per image from the arena's start; SIZE_MAX: never exists */
    size_t arena_bytes;   /* per image, a multiple of 64 */
    size_t sum_bytes;     /* per image, had every node its own memory: what a runtime without a plan takes */
};

/* bytes: of one activation, unless its node is half. The graph must have passed graph_check. */
int plan_make(const struct graph *g, size_t bytes, struct plan *out, struct err *e);
void plan_free(struct plan *p); /* leaves it empty */

/* Bytes of node i's output for one image, rounded up to the arena's unit. */
size_t plan_tensor_bytes(const struct graph *g, int i, size_t bytes);

#endif

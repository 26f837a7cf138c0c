// SPDX-License-Identifier: MIT
//
// train_reference.h - a network's loss in double, by definition and without haste: what central differences are taken of.

#ifndef TESTS_TRAIN_REFERENCE_H
#define TESTS_TRAIN_REFERENCE_H

#include "models/graph.h"

/* Parameters of one node; NULL where there are none. With gamma there is batch norm and no bias. */
struct reference_node {
    double *weight, *bias, *gamma, *beta, *mean, *var;
    double *batch_mean, *batch_var; /* written by a run with batch statistics */
};

struct reference {
    const struct graph *g;
    struct reference_node *nodes; /* [g->count] */
    int images;
    const double *x;
    int batch_statistics; /* 1: batch norm by the batch, 0: by mean and var */
    double eps;
    double **out; /* [g->count] [images][h][w][c], of the last run */
    /* [g->count], each NULL or shaped like out: which values a ReLU lets through, instead of those above 0. Of a hundred thousand
       values one lies so close to 0 that float sees it on the other side, and it alone would move gradients by a thousandth. */
    const float **passes;
};

/* Memory for g; ends the test when there is none. */
struct reference reference_new(const struct graph *g, int images, int batch_norm);
void reference_free(struct reference *r);

/* Logits [images][classes]. Nodes before `first` keep what the last run gave them. */
const double *reference_run(struct reference *r, int first);

/* Mean cross-entropy with these targets [images][classes]. */
double reference_loss(struct reference *r, int first, const double *targets);

#endif

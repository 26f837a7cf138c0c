// SPDX-License-Identifier: MIT
//
// model.h - a network ready to run: immutable, packed, planned; shared by all sessions.

#ifndef MODELS_MODEL_H
#define MODELS_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"
#include "models/network.h"

struct model;
struct pthreadpool;

/* Reads a model file, checks it, packs its weights for k and plans its arena, on the threads of pool (borrowed for the call; NULL:
   this one). The caller ends *out with model_free; on failure *out is untouched. Peak memory: packed weights, plus the largest
   layer once, with threads twice. */
int model_load(const char *path, const struct kernels *k, struct pthreadpool *pool, struct model **out, struct err *e);

/* The same from memory (n is borrowed for the call). */
int model_from_network(const struct network *n, const struct kernels *k, struct model **out, struct err *e);

/* Lets go of the images of the self-test. Only while nobody else knows the model. */
void model_drop_selftest(struct model *m);

/* Reference counting: model_load returns one reference; the last model_free frees. Thread-safe. */
struct model *model_ref(struct model *m);
void model_free(struct model *m); /* NULL is fine */

/* Everything but the weights: name, precision, graph, preprocess, labels, digest. Borrowed. */
const struct network *model_network(const struct model *m);
const struct kernels *model_kernels(const struct model *m);
int model_classes(const struct model *m);
void model_input_size(const struct model *m, int *w, int *h); /* pixels; 3 channels */
/* One step of the plan: a layer with what was fused into it. */
struct model_step {
    const char *name;    /* of the node whose output it writes */
    const char *op;      /* "conv", "dense", "maxpool" ... */
    int h, w, c;         /* of the output */
    int kernel, stride;  /* of a convolution or pooling */
    int residual;        /* 1: adds another tensor */
    long long macs;      /* of one image; 0 for steps without weights */
    char kernels[48];    /* what computes it: implementation and tile */
};
int model_steps(const struct model *m);
void model_step(const struct model *m, int step, struct model_step *out);

size_t model_weight_bytes(const struct model *m);             /* packed, as held in memory */
size_t model_arena_bytes(const struct model *m, int batch, int tasks); /* what a session takes: tensors and scratch */
size_t model_unplanned_bytes(const struct model *m);          /* activations of one image if every tensor had its own memory */

#endif

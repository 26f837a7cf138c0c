// SPDX-License-Identifier: MIT
//
// tensors.h - the named tensors of a checkpoint, whatever file they lie in: what resnet.h makes a network of.
//
// A format fills a list and gives functions that read one tensor's values; everything else is here. Types are those of
// safetensors.h, which knows all that a checkpoint of a ResNet holds.

#ifndef MODELS_CHECKPOINT_TENSORS_H
#define MODELS_CHECKPOINT_TENSORS_H

#include "models/checkpoint/safetensors.h"

#define TENSORS_MAX ST_TENSORS_MAX

struct tensor {
    const char *name; /* unique; borrowed from the source */
    enum st_dtype dtype;
    int rank;
    int64_t shape[ST_RANK_MAX];
    int64_t count; /* elements; 1 for rank 0 */
};

/* What a format does. read: tensor i of the list as floats, ERR_IO or ERR_DAMAGED naming file and tensor. metadata may be NULL.
 */
struct tensors_source {
    int (*read)(const void *source, int i, float *out, struct err *e);
    const char *(*metadata)(const void *source, const char *key);
    void (*close)(void *source);
};

struct tensors;

/* Takes list (malloc'd) and data, on failure too. ERR_DAMAGED: two tensors of one name. */
int tensors_new(const struct tensors_source *source, void *data, struct tensor *list, int count, struct tensors **out,
                struct err *e);
void tensors_close(struct tensors *t); /* NULL is fine */

int tensors_count(const struct tensors *t);
const struct tensor *tensors_get(const struct tensors *t, int i);
int tensors_find(const struct tensors *t, const char *name);            /* its index; -1 when absent */
const char *tensors_metadata(const struct tensors *t, const char *key); /* NULL when absent */

/* Tensor i as floats, whatever its type; out holds count of them. */
int tensors_read(const struct tensors *t, int i, float *out, struct err *e);

/* The tensors of a safetensors file. A model file of this project is refused: it is no checkpoint. */
int tensors_open_safetensors(const char *path, struct tensors **out, struct err *e);

#endif

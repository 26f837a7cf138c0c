// SPDX-License-Identifier: MIT
//
// checkpoint.h - a training as it stands after an epoch, in a safetensors file that is replaced whole, so that what is there can
// always be gone on from, whenever the program was killed.
//
// Random numbers need no place in it: every use has a stream named by seed, epoch and image (random.h).

#ifndef MODELS_TRAIN_CHECKPOINT_H
#define MODELS_TRAIN_CHECKPOINT_H

#include <stdint.h>

#include "models/err.h"

struct checkpoint_tensor {
    const char *name; /* borrowed; unique */
    float *value;     /* borrowed */
    int64_t count;
};

struct checkpoint {
    int epochs;     /* done */
    double seconds; /* spent on them */
    char *options;  /* JSON object: what the training was started with; owned */
    char *log;      /* rows of its log so far; owned */
};

#define CHECKPOINT_TEXT_MAX (16 << 20) /* bytes of options and of log */

void checkpoint_free(struct checkpoint *c); /* leaves it empty; fine on an empty one */

int checkpoint_write(const char *path, const struct checkpoint *c, const struct checkpoint_tensor *tensors, int count,
                     struct err *e);

/* Reads all but the tensors: ERR_INPUT when the file is not a checkpoint of a training. On failure *out is untouched. */
int checkpoint_read(const char *path, struct checkpoint *out, struct err *e);

/* Reads exactly these tensors: what is missing, left over, of another size, or not finite is an error that names it, and then
   some may have been read. */
int checkpoint_read_tensors(const char *path, const struct checkpoint_tensor *tensors, int count, struct err *e);

#endif

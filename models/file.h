// SPDX-License-Identifier: MIT
//
// file.h - the model file (design section 4, docs/model-format.md): one network at one precision, as a safetensors file.

#ifndef MODELS_FILE_H
#define MODELS_FILE_H

#include "models/network.h"

struct pthreadpool;

/* Takes one layer, whose weights are gone when it returns; -1 stops the reading. */
typedef int layer_fn(void *user, const struct network *n, int node, const struct layer *layer, struct err *e);

/* Where the layers of a file go. */
struct layer_sink {
    int (*begin)(void *user, const struct network *n, struct err *e); /* once, when all but the weights is known; NULL: nothing */
    layer_fn *layer; /* for each layer, on several threads at a time; without threads in file order. NULL: check only */
    void *user;
};

/* Reads the header, then streams the layers to *to on the threads of pool (borrowed; NULL: this one), so that packing needs no
   more unpacked weights at a time than the largest layer, or a megabyte, and with threads twice that. The digest over the data
   section is verified at the end (-1, ERR_DAMAGED: drop what was made). Checks shapes, dtypes, finite weights, int8 weights >= -127,
   scales > 0. *out has no weights in its layers; on failure it is empty. */
int model_file_stream(const char *path, struct pthreadpool *pool, const struct layer_sink *to, struct network *out,
                      struct err *e);

/* The header alone: graph, labels, preprocessing, quantisation, `digest` as the file states it; nothing of the data is read. */
int model_file_header(const char *path, struct network *out, struct err *e);

/* The whole network, weights included. */
int model_file_read(const char *path, struct network *out, struct err *e);

/* Writes atomically (st_write); the same network gives the same bytes. Refuses what the reader would refuse. */
int model_file_write(const char *path, const struct network *n, struct err *e);

/* Finds the file for a precision: path itself when it is a file, else path/<precision>.safetensors. buffer holds the result. */
int model_path(const char *path, enum precision p, char *buffer, size_t size, struct err *e);

#endif

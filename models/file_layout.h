// SPDX-License-Identifier: MIT
//
// file_layout.h - what the reader and the writer of the model file share (private to file*.c): the metadata fields, the order of
// tensors, the checks. The writer reads back the metadata it made through metadata_parse, so what it writes can be read.

#ifndef MODELS_FILE_LAYOUT_H
#define MODELS_FILE_LAYOUT_H

#include <stdint.h>

#include "models/checkpoint/safetensors.h"
#include "models/file.h"
#include "models/network.h"

#define FILE_ALIGN 64
#define FILE_SCALE_MAX 1073741824.0f /* 2^30: of a scale, and of the ratio of two; products stay far inside float */

enum file_key {
    KEY_FORMAT,
    KEY_VERSION,
    KEY_NAME,
    KEY_GRAPH,
    KEY_PRECISION,
    KEY_LABELS,
    KEY_PREPROCESS,
    KEY_QUANTIZATION,
    KEY_PROVENANCE,
    KEY_ACCURACY,
    KEY_SHA256,
    FILE_KEYS
};
extern const char *const file_keys[FILE_KEYS];

#define FILE_DIGEST_BYTES 32
#define SELFTEST_INPUT    "_selftest.input"
#define SELFTEST_LOGITS   "_selftest.logits"

/* SHA-256 over every field but sha256, in the order of enum file_key: key, NUL, value, NUL; absent (NULL) ones are left out. It
   is the first tensor of the data section, and so itself under the digest of the data section. */
void metadata_digest(const char *const values[FILE_KEYS], uint8_t out[FILE_DIGEST_BYTES]);

/* All that the metadata says about a network, checked; values[] are NULL where absent. *out must be empty; on failure it may hold
   parts: network_free. KEY_SHA256 may be absent here. */
int metadata_parse(const char *const values[FILE_KEYS], struct network *out, struct err *e);

enum part { PART_METADATA, PART_SELFTEST_INPUT, PART_SELFTEST_LOGITS, PART_PAD, PART_WEIGHT, PART_SCALE, PART_BIAS };

struct slot { /* one tensor of the file */
    char name[GRAPH_NAME_MAX + 16];
    enum part part;
    int node; /* -1: none */
    enum st_dtype dtype;
    int rank;
    int64_t shape[4];
    uint64_t bytes;
};

struct layout { /* begins as layout_begin says */
    const struct graph *graph;
    enum precision precision;
    int images; /* of the self-test */
    int started, node, pads;
    enum part part;
    uint64_t offset; /* where the next tensor starts in the data section */
};

struct layout layout_begin(const struct network *n);

/* The next tensor of the file: 1, or 0 at the end. */
int layout_next(struct layout *l, struct slot *out);

/* Limits, and logits that are finite numbers. */
int selftest_check(const struct network *n, struct err *e);

/* Weights that any implementation can run: finite, in range; int8 also against n->quants. */
int layer_check(const struct network *n, int node, const struct layer *l, struct err *e);

/* file_data.c: the data section of f, whose tensors are those of the layout, to *to as model_file_stream promises. metadata is
   what its first tensor must hold. */
int file_data_stream(const struct st_file *f, struct pthreadpool *pool, const struct layer_sink *to, const struct network *n,
                     const uint8_t metadata[FILE_DIGEST_BYTES], struct err *e);

#endif

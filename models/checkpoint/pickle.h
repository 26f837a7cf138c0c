// SPDX-License-Identifier: MIT
//
// pickle.h - the part of Python's pickle that torch.save needs for tensors, read and never run.
//
// A pickle is a program for a stack machine whose instructions can call any Python function. This machine knows the instructions
// that torch.save writes (protocols 2 to 4, Lib/pickletools.py describes them) and a handful of functions, which it carries out
// itself: they rebuild tensors and dictionaries. Every other instruction and every other name is refused with its place.

#ifndef MODELS_CHECKPOINT_PICKLE_H
#define MODELS_CHECKPOINT_PICKLE_H

#include "models/checkpoint/safetensors.h"

#define PICKLE_BYTES_MAX  (16 << 20) /* a ResNet-152 with its optimiser has less than 1 MB */
#define PICKLE_VALUES_MAX 1000000
#define PICKLE_STACK_MAX  1000000
#define PICKLE_MARKS_MAX  1000 /* nesting */

enum pickle_kind {
    PICKLE_NONE,
    PICKLE_BOOL,
    PICKLE_INT,
    PICKLE_FLOAT,
    PICKLE_TEXT,
    PICKLE_TUPLE,
    PICKLE_LIST,
    PICKLE_DICT,
    PICKLE_GLOBAL, /* one of the few functions and types */
    PICKLE_STORAGE,
    PICKLE_TENSOR,
    PICKLE_OTHER /* bytes, long integers, devices: of no use to anyone here */
};

struct pickle_value;

struct pickle_storage { /* elements in a file of their own */
    const char *key;    /* key_size letters and digits, not terminated */
    size_t key_size;
    enum st_dtype dtype;
    int64_t count;
};

struct pickle_tensor {
    struct pickle_storage storage;
    int64_t offset; /* of the first element in the storage */
    int rank;
    int64_t shape[ST_RANK_MAX], stride[ST_RANK_MAX]; /* strides in elements, none negative */
    int64_t count;                                   /* never more than the storage has */
    int64_t span; /* elements from the first to the last, all inside the storage; 0 when count is 0 */
};

struct pickle_value {
    enum pickle_kind kind;
    struct pickle_value *next; /* private */
    union {
        int64_t integer; /* also BOOL and GLOBAL */
        double real;
        struct {
            const char *text; /* not terminated, points into the pickle */
            size_t size;
        };
        struct { /* a DICT's keys and values take turns. A list can hold itself: do not walk without a limit */
            struct pickle_value **items;
            int count, room;
        };
        struct pickle_storage storage;
        struct pickle_tensor *tensor;
    };
};

struct pickle; /* a pickle that was read: owns its values */

/* bytes are borrowed and must outlive the result; used, unless NULL, becomes how many of them the pickle has. Errors name the
   byte: ERR_DAMAGED, ERR_TOO_LARGE, or ERR_UNSUPPORTED for instructions and names that are not known here. */
int pickle_read(const unsigned char *bytes, size_t size, size_t *used, struct pickle **out, struct err *e);
void pickle_free(struct pickle *p); /* NULL is fine */
const struct pickle_value *pickle_root(const struct pickle *p);

/* All storages that tensors were built from or might have been, one per mention; the array is the caller's. -1: no memory. */
int pickle_storages(const struct pickle *p, const struct pickle_storage ***out);

/* The value under a text key, the last of several as in Python; NULL when d is no dictionary or has none. */
const struct pickle_value *pickle_get(const struct pickle_value *d, const char *key);

#endif

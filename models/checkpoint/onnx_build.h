// SPDX-License-Identifier: MIT
//
// onnx_build.h - an ONNX model in the making (private to onnx_write*.c): nodes and initialisers in the order in which they are
// put.
//
// Memory is the model's and ends with it. Running out of it is remembered, not reported: everything may go on with NULL, and
// `failed` is looked at once, at the end.

#ifndef MODELS_CHECKPOINT_ONNX_BUILD_H
#define MODELS_CHECKPOINT_ONNX_BUILD_H

#include <stddef.h>
#include <stdint.h>

#include "models/checkpoint/onnx.pb-c.h"

#define ONNX_BUILD_TEXT_MAX 192 /* of a name, with the terminator */

struct onnx_build {
    Onnx__ModelProto *model; /* with a graph, an opset and empty lists */
    void *chunks;
    size_t room; /* for nodes, and for initialisers */
    int failed;
};

/* room: how many nodes, and how many initialisers, may be put. */
void onnx_build_start(struct onnx_build *b, size_t room, int opset);
void onnx_build_end(struct onnx_build *b);

/* A formatted text. NULL: no memory. */
const char *onnx_put_text(struct onnx_build *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* inputs: names, NULL-ended. Texts are borrowed. */
Onnx__NodeProto *onnx_put_node(struct onnx_build *b, const char *op, const char *name, const char *const *inputs,
                               const char *output);
void onnx_put_ints(struct onnx_build *b, Onnx__NodeProto *n, const char *attribute, int count, const int *values);
void onnx_put_int(struct onnx_build *b, Onnx__NodeProto *n, const char *attribute, int value);

/* A tensor of rank 0 to 4 with room for its values, little endian, which are returned for the caller to fill; NULL: no memory. */
void *onnx_put_tensor(struct onnx_build *b, const char *name, int type, int rank, const int64_t *dims);

void onnx_put_metadata(struct onnx_build *b, const char *key, const char *value); /* NULL value: left out. Borrowed */

/* The graph's input or output, of floats; dimension 0 is the free one `N`. */
void onnx_put_input(struct onnx_build *b, const char *name, int rank, const int64_t *dims);
void onnx_put_output(struct onnx_build *b, const char *name, int rank, const int64_t *dims);

#endif

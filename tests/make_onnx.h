// SPDX-License-Identifier: MIT
//
// make_onnx.h - small ONNX models made through the schema, and a second way to compute them: as the operators are defined, one by
// one, in double precision, on tensors of any rank.

#ifndef TESTS_MAKE_ONNX_H
#define TESTS_MAKE_ONNX_H

#include <stddef.h>
#include <stdint.h>

#include "models/checkpoint/onnx.pb-c.h"

/* ---- making. Memory is the model's; onnx_free ends it. Running out of it ends the test. */

/* A model with input `x` of these dimensions (0: free) and output `y`. */
Onnx__ModelProto *onnx_new(int opset, const int64_t dims[4]);
void onnx_free(Onnx__ModelProto *m);

/* inputs and outputs are names with commas between them. */
Onnx__NodeProto *onnx_node(Onnx__ModelProto *m, const char *type, const char *inputs, const char *outputs);
void onnx_set_int(Onnx__NodeProto *n, const char *name, int64_t v);
void onnx_set_float(Onnx__NodeProto *n, const char *name, float v);
void onnx_set_text(Onnx__NodeProto *n, const char *name, const char *v);
void onnx_set_ints(Onnx__NodeProto *n, const char *name, const char *numbers); /* "1,1,1,1" */

/* Initialisers; dims "16,3,3,3", "" for a scalar. random: uniform in [-limit, limit]. */
Onnx__TensorProto *onnx_floats(Onnx__ModelProto *m, const char *name, const char *dims, const float *v);
Onnx__TensorProto *onnx_random(Onnx__ModelProto *m, const char *name, const char *dims, float limit);
Onnx__TensorProto *onnx_ints(Onnx__ModelProto *m, const char *name, const char *dims, int type, const int64_t *v);
Onnx__TensorProto *onnx_random_ints(Onnx__ModelProto *m, const char *name, const char *dims, int type, int least, int most);
void onnx_number(Onnx__ModelProto *m, const char *name, float v);          /* a float scalar */
void onnx_integer(Onnx__ModelProto *m, const char *name, int type, int v); /* an integer scalar */
float onnx_uniform(float least, float most);

/* The bytes of the file, to be freed. */
uint8_t *onnx_bytes(const Onnx__ModelProto *m, size_t *size);

/* ---- computing: the output for one image [C][H][W], or as the model's first input says; returns the number of logits, at most max. */
int onnx_evaluate(const Onnx__ModelProto *m, const int64_t dims[4], const double *x, double *y, int max);

#endif

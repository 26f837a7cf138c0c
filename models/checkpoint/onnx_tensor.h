// SPDX-License-Identifier: MIT
//
// onnx_tensor.h - values of TensorProto messages, wherever they are stored in them, and the attributes of nodes.

#ifndef MODELS_CHECKPOINT_ONNX_TENSOR_H
#define MODELS_CHECKPOINT_ONNX_TENSOR_H

#include <stdint.h>

#include "models/checkpoint/onnx.pb-c.h"
#include "models/err.h"

/* Elements of t, after checks that make reading them safe: rank at most ONNX_RANK_MAX, a product that does not overflow, a type
   of the schema, and exactly as many values as the dimensions say, in this file. -1 with e naming the tensor. */
int64_t onnx_tensor_count(const Onnx__TensorProto *t, struct err *e);

/* The values of a tensor that passed onnx_tensor_count. Floats: of any type; NaN and infinity are refused. Ints: of integer
 * types. */
int onnx_tensor_floats(const Onnx__TensorProto *t, float *out, struct err *e);
/* One number of any type; it may be infinite. */
int onnx_tensor_scalar(const Onnx__TensorProto *t, double *out, struct err *e);
int onnx_tensor_ints(const Onnx__TensorProto *t, int64_t *out, struct err *e);

const char *onnx_tensor_name(const Onnx__TensorProto *t); /* "" where it has none */

/* The attribute of that name, NULL when the node has none. */
const Onnx__AttributeProto *onnx_attribute(const Onnx__NodeProto *n, const char *name);

int64_t onnx_int(const Onnx__NodeProto *n, const char *name, int64_t otherwise);
double onnx_float(const Onnx__NodeProto *n, const char *name, double otherwise);
/* A string attribute equals text; an absent one is like `otherwise`. */
int onnx_string_is(const Onnx__NodeProto *n, const char *name, const char *otherwise, const char *text);

#endif

// SPDX-License-Identifier: MIT
//
// onnx.h - the ONNX reader: a float graph becomes an fp32 network, a quantised one (QDQ or QOperator) an int8 network with
// exactly the scales and zero points of its source.
//
// What is read: opsets 7 to 21 of a ResNet's operators (docs/resnetctl.1 lists them). Everything else is refused by the name of
// its node and operator. Batch norms are folded in double precision into the convolution before them, or become a convolution of
// one weight per channel; average pooling over windows likewise. The schema is onnx.proto, compiled by protobuf-c.

#ifndef MODELS_CHECKPOINT_ONNX_H
#define MODELS_CHECKPOINT_ONNX_H

#include "models/checkpoint/checkpoint.h"

/* In front of the keys of metadata_props that are ours: name, precision, labels, preprocess, quantization, provenance, accuracy,
   each as in a model file. The reader takes preprocess, where the caller gives none, and labels. */
#define ONNX_METADATA "resnetd."

#define ONNX_FILE_MAX  (1ull << 30)
#define ONNX_NODES_MAX 65536 /* nodes, initialisers, and outputs of all nodes: each */
#define ONNX_RANK_MAX  8
#define ONNX_OPSET_MIN 7
#define ONNX_OPSET_MAX 21

/* As checkpoint_import: *out is empty before the call, and after a failure. Memory taken: the file, once more while it is
   unpacked, and the network. */
int onnx_import(const char *path, const struct import_options *o, struct network *out, struct err *e);

#endif

// SPDX-License-Identifier: MIT
//
// onnx_file.h - bytes of an .onnx file to the messages of the schema, with the limits that protobuf-c itself does not know.

#ifndef MODELS_CHECKPOINT_ONNX_FILE_H
#define MODELS_CHECKPOINT_ONNX_FILE_H

#include "models/checkpoint/onnx.pb-c.h"
#include "models/err.h"

/* The unpacked model with a graph; onnx_file_free ends it. ERR_TOO_LARGE, ERR_DAMAGED, ERR_IO ... with path in the text. */
int onnx_file_read(const char *path, Onnx__ModelProto **out, struct err *e);
void onnx_file_free(Onnx__ModelProto *m); /* NULL is fine */

#endif

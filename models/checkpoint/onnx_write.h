// SPDX-License-Identifier: MIT
//
// onnx_write.h - a network as ONNX (opset 13), so that another runtime can check what this one computes.
//
// fp32, fp16 and hybrid become a graph in float: weights as the floats that they stand for, activations never rounded to halves.
// int8 becomes QDQ: uint8 activations (128 above ours) and int8 weights, int32 biases, between QuantizeLinear and
// DequantizeLinear; its layers in half become float. A tensor is quantised where the plan has it (plan.h), so not between a
// convolution and the add that computes it, nor behind float logits. What is in between other runtimes sum in float, so that ties
// may come out one step away. None knows ROUNDING_TFLITE: with it, more than ties do.
//
// The input `input` is [N, 3, H, W], preprocessed, N free; the output `logits` is [N, classes]. metadata_props hold what the
// model file says besides (onnx.h).

#ifndef MODELS_CHECKPOINT_ONNX_WRITE_H
#define MODELS_CHECKPOINT_ONNX_WRITE_H

#include "models/network.h"

#define ONNX_WRITE_OPSET 13
#define ONNX_WRITE_MAX   0x7fffffff /* bytes: a protobuf message ends there */

/* Writes atomically (output.h); the same network gives the same bytes. The graph must have passed graph_check. Takes as much
   memory as the file has bytes. ERR_TOO_LARGE beyond ONNX_WRITE_MAX, seen before anything is taken or written. */
int onnx_write(const char *path, const struct network *n, struct err *e);

#endif

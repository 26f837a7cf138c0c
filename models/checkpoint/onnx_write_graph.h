// SPDX-License-Identifier: MIT
//
// onnx_write_graph.h - the nodes of a network as nodes of ONNX, and its weights as initialisers (private to onnx_write*.c).

#ifndef MODELS_CHECKPOINT_ONNX_WRITE_GRAPH_H
#define MODELS_CHECKPOINT_ONNX_WRITE_GRAPH_H

#include "models/checkpoint/onnx_build.h"
#include "models/network.h"

/* How many nodes, and how many initialisers, a graph can become. */
size_t onnx_graph_room(const struct graph *g);

/* Puts all nodes, their weights, input and output. -1: no memory. */
int onnx_put_graph(struct onnx_build *b, const struct network *n, struct err *e);

/* ---- onnx_write_layer.c ---- */

/* Bytes of the initialisers of a node with weights. */
uint64_t onnx_layer_bytes(const struct network *n, int node);

/* Weights and bias of a node as two values: initialisers, in int8 behind DequantizeLinear. flat: the weights are [O][I],
   otherwise [O][I/groups][KH][KW]. NULL in *weight or *bias: no memory. */
void onnx_put_layer(struct onnx_build *b, const struct network *n, int node, int flat, const char **weight, const char **bias);

/* Scale and zero point of an activation, as uint8. */
void onnx_put_quant(struct onnx_build *b, const char *node, struct quant q, const char **scale, const char **zero);

#endif

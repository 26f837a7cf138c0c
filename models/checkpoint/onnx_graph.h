// SPDX-License-Identifier: MIT
//
// onnx_graph.h - what the parts of the ONNX reader share (private to onnx_*.c): the values of the source graph by name, and the
// network that grows while its nodes are walked in order.
//
// A value is a constant, a few integers (what exporters compute shapes with), or an activation: the output of a node of ours seen
// through what does not compute: flattened, transposed, padded, quantised.

#ifndef MODELS_CHECKPOINT_ONNX_GRAPH_H
#define MODELS_CHECKPOINT_ONNX_GRAPH_H

#include "models/checkpoint/onnx.h"
#include "models/checkpoint/onnx_tensor.h"
#include "models/network.h"

#define ONNX_INTS_MAX 8

enum onnx_kind { ONNX_NOT_YET, ONNX_CONSTANT, ONNX_INTS, ONNX_ACTIVATION };
enum onnx_view { ONNX_NCHW, ONNX_NHWC, ONNX_FLAT /* [N][C], or [N][C*H*W] when the node has pixels */ };

/* In a quantised graph: integers; floats that stand for integers; floats that were just computed. In a float graph always the
   last, for constants also the second. */
enum onnx_stage { ONNX_COMPUTED, ONNX_QUANTISED, ONNX_DEQUANTISED };

struct onnx_value {
    const char *name;
    int readers; /* inputs of nodes, and outputs of the graph */
    enum onnx_kind kind;
    enum onnx_stage stage;
    /* constant: the tensor; when quantised, its parameters; `round`: the tensor holds floats that are yet to be rounded */
    const Onnx__TensorProto *tensor;
    const struct onnx_value *scale, *zero; /* zero NULL: 0 */
    int repeat;                            /* one value for this many elements; 0: none of that */
    int axis, round, transposed;           /* transposed: rank 2, the other way round than stored. axis is of what is stored */
    /* integers */
    int64_t ints[ONNX_INTS_MAX];
    int int_count, scalar, columns; /* columns: of a table, row by row; 0: a list */
    /* activation */
    int node;  /* of our graph */
    int alone; /* no other value shows that node's output, and no other reads what this one was made of */
    enum onnx_view view;
    int pad[4], padded; /* top, left, bottom, right, not yet taken by a window */
    int pad_lowest;     /* the padding is below everything rather than 0 */
};

/* What is known of a node of our graph beyond its struct node. */
struct onnx_extra {
    int quantised; /* its quant is set */
    int helper;    /* stands for something else than a layer with weights */
    float upper;   /* an upper clip that its quantisation must imply; 0: none */
};

struct onnx {
    const char *path;
    const Onnx__GraphProto *graph;
    int opset;
    int int8;                  /* activations are quantised in the source */
    int64_t batch;             /* of the source's input; 1 when it is free */
    struct onnx_value *values; /* by name */
    int value_count;
    struct network net;          /* layers, and in int8 quants, with room for GRAPH_NODES_MAX */
    struct onnx_extra *extra;    /* [GRAPH_NODES_MAX] */
    int own_preprocess;          /* given by the caller */
    int64_t clamped;             /* weights that became -127 or 127, see onnx_limit_weights */
    const Onnx__NodeProto *node; /* at work */
    struct err *e;
};

/* ---- onnx_graph.c ---- */

/* -1 with "PATH: node 'NAME' (OP): ..." */
int onnx_fail(struct onnx *x, enum err_code code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* The same in front of what a callee said; -1. */
int onnx_blame(struct onnx *x);

/* s, or "" for NULL. */
const char *onnx_text(const char *s);

/* Initialisers, inputs that are none, and outputs of nodes into x->values: every name is written once. */
int onnx_collect_values(struct onnx *x);
/* By name; NULL: no such value. The second: only what is an initialiser. */
struct onnx_value *onnx_find(const struct onnx *x, const char *name);
const Onnx__TensorProto *onnx_initializer(const struct onnx *x, const char *name);

/* Does what the operator of x->node means. */
int onnx_run_node(struct onnx *x);

/* Input i of the current node; NULL: left out. */
struct onnx_value *onnx_input(struct onnx *x, size_t i);
/* The activation that input i must be; NULL with e set. */
struct onnx_value *onnx_activation(struct onnx *x, size_t i);
/* The same, for what takes pending padding into its window. */
struct onnx_value *onnx_windowed(struct onnx *x, size_t i);
/* The constant that input i must be; NULL with e set. */
struct onnx_value *onnx_constant(struct onnx *x, size_t i);

/* Output i of the current node; NULL: left out. */
struct onnx_value *onnx_output(struct onnx *x, size_t i);
/* Output 0 shows the same as v. A copy of everything but name and readers. */
struct onnx_value *onnx_same(struct onnx *x, const struct onnx_value *v);
/* Output 0 is what `node` of our graph computes. 0, or -1 for node -1. */
int onnx_computed(struct onnx *x, int node, enum onnx_view view);

/* A new node of ours named after the current one. Its index, or -1. */
int onnx_add_node(struct onnx *x, enum op op, int in0, int in1);
/* h and w of the output of a window; -1 when it is larger than its input. Takes the padding that v has pending: call after the
   kernel, stride and pads of n are set. */
int onnx_window(struct onnx *x, int node, const struct onnx_value *v);

/* Nothing else looks at what v shows, so that the node behind it may still change. */
int onnx_is_private(const struct onnx_value *v);

/* Up to max integers of a constant or of computed integers. Their number, or -1 with e set. */
int onnx_read_ints(struct onnx *x, const struct onnx_value *v, int64_t *out, int max);
/* Floats of a constant of 1 to max elements, dequantised; the caller frees *out. Their number, or -1 with e set. */
int64_t onnx_read_floats(struct onnx *x, const struct onnx_value *v, int64_t max, float **out);

/* ---- operators, by family; each handles the current node ---- */

/* onnx_layers.c */
int onnx_conv(struct onnx *x);
int onnx_gemm(struct onnx *x);
int onnx_matmul(struct onnx *x);
/* Convolution of v by w [O][I/groups][KH][KW] under the current node's attributes; our node, or -1. bias may be NULL. */
int onnx_convolve(struct onnx *x, const struct onnx_value *v, const struct onnx_value *w, const struct onnx_value *bias);
/* Dense layer, w [O][I], or [I][O] with swap. Our node, or -1. */
int onnx_dense(struct onnx *x, const struct onnx_value *v, const struct onnx_value *w, const struct onnx_value *bias, int swap);
/* Weights of an int8 layer within what kernels/conv.h allows: of more than one -128 in a channel, all but the first become -127.
 */
void onnx_limit_weights(struct onnx *x, int8_t *w, int64_t channels, int64_t depth);
/* A convolution with the same weight (in int8 the integer, and a scale that makes it the weight) everywhere in a kernel_h x
   kernel_w window of each channel, no stride, no padding: the caller sets these and calls onnx_window. Our node, or -1. */
int onnx_depthwise(struct onnx *x, const struct onnx_value *v, int kernel_h, int kernel_w, double weight, int integer);

/* onnx_affine.c */
int onnx_batch_norm(struct onnx *x);
int onnx_add(struct onnx *x);
int onnx_sub(struct onnx *x);
int onnx_mul(struct onnx *x);
int onnx_div(struct onnx *x);
int onnx_relu(struct onnx *x);
int onnx_clip(struct onnx *x);

/* onnx_pool.c */
int onnx_max_pool(struct onnx *x);
int onnx_average_pool(struct onnx *x);
int onnx_global_average_pool(struct onnx *x);
int onnx_reduce_mean(struct onnx *x);
/* strides, pads, auto_pad and dilations of the current node into our node, whose kernel is set. */
int onnx_window_attributes(struct onnx *x, int node);

/* onnx_shape.c */
int onnx_pass(struct onnx *x);
int onnx_softmax(struct onnx *x);
int onnx_constant_node(struct onnx *x);
int onnx_constant_of_shape(struct onnx *x);
int onnx_flatten(struct onnx *x);
int onnx_reshape(struct onnx *x);
int onnx_squeeze(struct onnx *x);
int onnx_unsqueeze(struct onnx *x);
int onnx_transpose(struct onnx *x);
int onnx_pad(struct onnx *x);
int onnx_shape(struct onnx *x);
int onnx_gather(struct onnx *x);
int onnx_concat(struct onnx *x);

/* onnx_slice.c */
int onnx_slice(struct onnx *x);
int onnx_pad_channels(struct onnx *x, const struct onnx_value *v, int64_t before, int64_t after);

/* onnx_quant.c */
int onnx_quantize(struct onnx *x);
int onnx_dequantize(struct onnx *x);
int onnx_qlinear_conv(struct onnx *x);
int onnx_qlinear_matmul(struct onnx *x);
int onnx_qgemm(struct onnx *x);
int onnx_qlinear_add(struct onnx *x);
int onnx_qlinear_average(struct onnx *x);
/* In a quantised graph, what computes must know the integers it reads; -1 when v has none. */
int onnx_settled(struct onnx *x, const struct onnx_value *v);
/* An upper clip of what node gives, 0 for none: its quantisation, there or to come, must imply it. */
int onnx_limit(struct onnx *x, int node, float upper);
/* node's output, which the current one gives, consists of integers of the meaning that v's have. */
int onnx_keep_quant(struct onnx *x, const struct onnx_value *v, int node);
/* At the end: every tensor has its quantisation; keep_output where it matters. */
int onnx_finish_quants(struct onnx *x);
/* The network's `quantization` JSON, freed by the caller; NULL: no memory. */
char *onnx_describe(const struct onnx *x);

/* onnx_integers.c: quantised constants */
/* count integers in the tensor's order with zero points taken off; the zero points must be 0, or 128 unsigned.
 */
int onnx_integers(struct onnx *x, const struct onnx_value *v, int64_t count, int8_t *q);
/* The scale of each of `channels` channels, which lie along `axis` of the tensor. */
int onnx_scales(struct onnx *x, const struct onnx_value *v, int axis, int channels, float *scales);
/* What the integers stand for: as many floats as the tensor has elements. */
int onnx_dequantised(struct onnx *x, const struct onnx_value *v, float *out);
/* Two constants hold the same values; NULL stands for one that is left out. */
int onnx_same_constant(const struct onnx_value *a, const struct onnx_value *b);

#endif

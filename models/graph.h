// SPDX-License-Identifier: MIT
//
// graph.h - a network as data: nodes in topological order, their shapes, and the checks that make the rest safe.
//
// Batch norm is folded before a graph exists (fold.h), ReLU is an attribute of the node it follows. graph_check is the gate:
// after it, every index, shape and product used by plan, session and kernels is in range.
//
// Some layers of an int8 network may work in fp16. Casts say where: behind a dequantize, or an input with `half`, tensors are
// half and every node computes in fp16, up to a quantize. A node's precision follows from its inputs; nothing else is marked.

#ifndef MODELS_GRAPH_H
#define MODELS_GRAPH_H

#include <stdint.h>

#include "kernels/precision.h"
#include "models/err.h"

#define GRAPH_NODES_MAX 4096
#define GRAPH_NAME_MAX 96     /* with the terminator */
#define GRAPH_SIDE_MAX 8192   /* height or width of a tensor */
#define GRAPH_CHANNELS_MAX 65536
#define GRAPH_KERNEL_MAX 64   /* side and stride of a window */
#define GRAPH_TENSOR_MAX (1LL << 28)  /* elements of one activation */
#define GRAPH_WEIGHTS_MAX (1LL << 30) /* elements of one layer's weights */
#define GRAPH_MACS_MAX (1LL << 42)    /* multiplications of the network for one image; ResNet-152 has 1.2e10 */
#define GRAPH_AVGPOOL_MAX (1 << 23)   /* pixels: their int8 sum, less the zero points, fits int32 */

enum op {
    OP_INPUT,    /* node 0 and only node 0 */
    OP_CONV,     /* weights */
    OP_DENSE,    /* weights; its input must be 1x1 pixels */
    OP_ADD,      /* two inputs of one shape */
    OP_MAXPOOL,
    OP_AVGPOOL,  /* over all pixels */
    OP_SHORTCUT, /* option A: every stride-th pixel, zero channels around (kernels/pool.h) */
    OP_QUANTIZE, /* half -> int8 with the node's own scale and zero point; int8 networks only, as is dequantize */
    OP_DEQUANTIZE /* int8 -> half */
};
enum { OPS = 9 };

/* What an op takes. graph_check and both directions of the JSON walk this table. */
enum {
    ATTR_SHAPE = 1,        /* h, w, c */
    ATTR_CHANNELS = 2,     /* c */
    ATTR_KERNEL = 4,
    ATTR_STRIDE = 8,
    ATTR_PAD = 16,
    ATTR_GROUPS = 32,
    ATTR_RELU = 64,
    ATTR_PAD_CHANNELS = 128, /* pad_before, pad_after */
    ATTR_KEEP_OUTPUT = 256,
    ATTR_HALF = 512
};
struct op_info {
    const char *name;
    int inputs;
    unsigned attrs;
};
extern const struct op_info op_infos[OPS];

struct node {
    char name[GRAPH_NAME_MAX]; /* unique; [A-Za-z0-9._-] */
    enum op op;
    int in[2];                 /* indices of earlier nodes, -1 where there is none */
    int kernel_h, kernel_w, stride_h, stride_w;
    int pad_top, pad_left, pad_bottom, pad_right; /* each less than the kernel */
    int groups;
    int relu;                  /* conv, dense, add */
    int keep_output;           /* conv, dense: int8 networks of others quantise what comes out even before an add or as logits, so the
                                  plan must neither compute it within the add nor write float logits */
    int pad_before, pad_after; /* shortcut: channels */
    int half;                  /* int8 networks: its output is half. Given for input; derived otherwise */
    int h, w, c;               /* output of one image. Given for input, c for conv and dense; derived otherwise */
};

struct graph {
    struct node *nodes;
    int count;
    int output; /* index of the node whose output is the logits, 1x1xclasses */
};

/* Derives every shape and checks everything; -1 names the node. The graph is changed only in the derived fields. */
int graph_check(struct graph *g, struct err *e);

/* Room for one more node, zeroed with in = {-1,-1}, groups = stride = kernel = 1, named by the format; NULL: no memory, too many,
   or a name longer than GRAPH_NAME_MAX - 1. The pointer is good until the next call. */
struct node *graph_add(struct graph *g, enum op op, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

int graph_copy(const struct graph *from, struct graph *to, struct err *e);
void graph_free(struct graph *g); /* leaves it empty; fine on an empty one */

/* Elements of the weights of a node, 0 for those without. */
int64_t node_weights(const struct graph *g, int node);
int node_has_weights(const struct node *n);
/* Inputs per output of a conv or dense: kernel_h * kernel_w * in_c / groups. */
int64_t node_depth(const struct graph *g, int node);

/* Multiplications of conv and dense for one image: of a node, and of all. */
int64_t node_macs(const struct graph *g, int node);
int64_t graph_macs(const struct graph *g);

const char *op_name(enum op op);

/* In what a node of a network in p works and what it puts out: p, or fp16 where the node says half. */
enum precision node_precision(const struct node *n, enum precision p);

/* All nodes sorted by name, freed by the caller (NULL: no memory); the names are borrowed. find: the node's index or -1. */
struct graph_name {
    const char *name;
    int index;
};
struct graph_name *graph_names(const struct graph *g);
int graph_names_find(const struct graph_name *names, int count, const char *name);

/* The field `graph` of a model file (docs/model-format.md). to_json: freed by the caller, NULL: no memory. from_json ends with
   graph_check; *out is written on success only. */
char *graph_to_json(const struct graph *g);
int graph_from_json(const char *text, struct graph *out, struct err *e);

#endif

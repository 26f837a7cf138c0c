// SPDX-License-Identifier: MIT
//
// onnx_write_graph.c - walks the graph once. Every activation but the logits is [N, C, H, W], so a dense layer that does not give
// the logits is written as the 1x1 convolution that it is.
//
// Names of values are NODE/WHAT, which no node's name can be. In int8 the value of a node is first known as its integers;
// DequantizeLinear follows where something reads floats. Flattening comes before it, because that is what other runtimes take
// together with the operators around it.

#include <stdlib.h>

#include "models/checkpoint/onnx_write_graph.h"
#include "models/plan.h"

#define INPUT  "input"
#define LOGITS "logits"

struct value {                           /* the output of one node, NULL where nothing wrote it yet */
    const char *integers, *scale, *zero; /* in int8, where it is quantised */
    const char *floats;
};

struct writer {
    struct onnx_build *b;
    const struct network *n;
    struct value *values; /* [graph.count] */
    struct plan plan;     /* of int8: tells which tensors exist */
    Onnx__NodeProto *last;
};

/* A convolution or dense layer 1 + 2 DequantizeLinear, then Relu, Flatten, QuantizeLinear, DequantizeLinear; of constants 7 at
   most, of weights and of the activation. */
enum { ROOM = 10 };

size_t onnx_graph_room(const struct graph *g)
{
    return ROOM * ((size_t)g->count + 1);
}

/* The output of op is NODE/WHAT, which is returned. inputs: NULL-ended. */
static const char *put(struct writer *w, const char *op, const char *name, const char *const *inputs, const char *node,
                       const char *what)
{
    const char *output = onnx_put_text(w->b, "%s/%s", node, what);
    w->last = onnx_put_node(w->b, op, name, inputs, output);
    return output;
}

/* The floats that node i gives. */
static const char *floats(struct writer *w, int i)
{
    struct value *v = &w->values[i];
    if (!v->floats) {
        const char *node = w->n->graph.nodes[i].name;
        v->floats = put(w, "DequantizeLinear", onnx_put_text(w->b, "%s/dequantize", node),
                        (const char *[]){v->integers, v->scale, v->zero, NULL}, node, "dequantized");
    }
    return v->floats;
}

/* The same as [N, C]; of one pixel. */
static const char *flat(struct writer *w, int i)
{
    const struct value *v = &w->values[i];
    const char *node = w->n->graph.nodes[i].name;
    const char *flattened = put(w, "Flatten", onnx_put_text(w->b, "%s/flatten", node),
                                (const char *[]){v->integers ? v->integers : v->floats, NULL}, node, "flat");
    onnx_put_int(w->b, w->last, "axis", 1);
    if (!v->integers)
        return flattened;
    return put(w, "DequantizeLinear", onnx_put_text(w->b, "%s/dequantize_flat", node),
               (const char *[]){flattened, v->scale, v->zero, NULL}, node, "flat/dequantized");
}

static void put_window(struct writer *w, const struct node *v)
{
    onnx_put_ints(w->b, w->last, "kernel_shape", 2, (int[]){v->kernel_h, v->kernel_w});
    onnx_put_ints(w->b, w->last, "strides", 2, (int[]){v->stride_h, v->stride_w});
    onnx_put_ints(w->b, w->last, "pads", 4, (int[]){v->pad_top, v->pad_left, v->pad_bottom, v->pad_right});
}

static const char *put_conv(struct writer *w, int i)
{
    const struct node *v = &w->n->graph.nodes[i];
    const char *in = floats(w, v->in[0]), *weight, *bias;
    onnx_put_layer(w->b, w->n, i, 0, &weight, &bias);
    const char *y = put(w, "Conv", v->name, (const char *[]){in, weight, bias, NULL}, v->name, "conv");
    put_window(w, v);
    onnx_put_int(w->b, w->last, "group", v->groups);
    return y;
}

static const char *put_dense(struct writer *w, int i)
{
    const struct node *v = &w->n->graph.nodes[i];
    const char *in = flat(w, v->in[0]), *weight, *bias;
    onnx_put_layer(w->b, w->n, i, 1, &weight, &bias);
    const char *y = put(w, "Gemm", v->name, (const char *[]){in, weight, bias, NULL}, v->name, "dense");
    onnx_put_int(w->b, w->last, "transB", 1);
    return y;
}

/* A list of integers as a constant NODE/WHAT. */
static const char *integers(struct writer *w, const char *node, const char *what, int count, const int64_t *values)
{
    const char *name = onnx_put_text(w->b, "%s/%s", node, what);
    int64_t *to = onnx_put_tensor(w->b, name, ONNX__TENSOR_PROTO__DATA_TYPE__INT64, 1, (int64_t[]){count});
    for (int i = 0; to && i < count; i++)
        to[i] = values[i];
    return name;
}

/* Every stride-th pixel, then zero channels around. */
static const char *put_shortcut(struct writer *w, int i)
{
    const struct node *v = &w->n->graph.nodes[i], *from = &w->n->graph.nodes[v->in[0]];
    const char *y = floats(w, v->in[0]);
    if (v->stride_h > 1 || v->stride_w > 1) {
        const char *starts = integers(w, v->name, "starts", 2, (int64_t[]){0, 0}),
                   *ends = integers(w, v->name, "ends", 2, (int64_t[]){from->h, from->w}),
                   *axes = integers(w, v->name, "axes", 2, (int64_t[]){2, 3}),
                   *steps = integers(w, v->name, "steps", 2, (int64_t[]){v->stride_h, v->stride_w});
        y = put(w, "Slice", v->name, (const char *[]){y, starts, ends, axes, steps, NULL}, v->name, "pixels");
    }
    const char *pads = integers(w, v->name, "pads", 8, (int64_t[]){0, v->pad_before, 0, 0, 0, v->pad_after, 0, 0});
    return put(w, "Pad", onnx_put_text(w->b, "%s/pad", v->name), (const char *[]){y, pads, NULL}, v->name, "padded");
}

static const char *put_operator(struct writer *w, int i)
{
    const struct graph *g = &w->n->graph;
    const struct node *v = &g->nodes[i];
    const char *a, *y = INPUT;
    switch (v->op) {
    case OP_INPUT:
        break;
    case OP_CONV:
        y = put_conv(w, i);
        break;
    case OP_DENSE:
        y = i == g->output ? put_dense(w, i) : put_conv(w, i);
        break;
    case OP_ADD:
        a = floats(w, v->in[0]);
        y = put(w, "Add", v->name, (const char *[]){a, floats(w, v->in[1]), NULL}, v->name, "sum");
        break;
    case OP_MAXPOOL:
        y = put(w, "MaxPool", v->name, (const char *[]){floats(w, v->in[0]), NULL}, v->name, "maximum");
        put_window(w, v);
        break;
    case OP_AVGPOOL:
        y = put(w, "GlobalAveragePool", v->name, (const char *[]){floats(w, v->in[0]), NULL}, v->name, "mean");
        break;
    case OP_SHORTCUT:
        y = put_shortcut(w, i);
        break;
    case OP_QUANTIZE: /* what follows here is what there is */
    case OP_DEQUANTIZE:
        y = floats(w, v->in[0]);
        break;
    }
    return v->relu ? put(w, "Relu", onnx_put_text(w->b, "%s/relu", v->name), (const char *[]){y, NULL}, v->name, "positive") : y;
}

/* An int8 tensor that the plan has, but for float logits. */
static int is_quantised(const struct writer *w, int i)
{
    const struct graph *g = &w->n->graph;
    const struct node *v = &g->nodes[i];
    if (node_precision(v, w->n->precision) != PRECISION_INT8 || w->plan.offset[i] == SIZE_MAX)
        return 0;
    return i != g->output || !node_has_weights(v) || v->relu || v->keep_output;
}

static void put_node(struct writer *w, int i)
{
    const struct node *v = &w->n->graph.nodes[i];
    struct value *to = &w->values[i];
    const char *y = put_operator(w, i);
    if (!is_quantised(w, i)) {
        to->floats = y;
        return;
    }
    onnx_put_quant(w->b, v->name, w->n->quants[i], &to->scale, &to->zero);
    to->integers = put(w, "QuantizeLinear", onnx_put_text(w->b, "%s/quantize", v->name),
                       (const char *[]){y, to->scale, to->zero, NULL}, v->name, "quantized");
}

/* The last value, which something just wrote, becomes [N, classes] and is called as it should be. */
static void put_logits(struct writer *w)
{
    static char logits[] = LOGITS;
    const struct graph *g = &w->n->graph;
    const int i = g->output;
    if (g->nodes[i].op != OP_DENSE)
        flat(w, i);
    else
        floats(w, i);
    if (w->last)
        w->last->output[0] = logits;
    onnx_put_output(w->b, LOGITS, 2, (int64_t[]){0, g->nodes[i].c});
}

static void put_all(struct writer *w)
{
    const struct graph *g = &w->n->graph;
    const struct node *in = &g->nodes[0];
    onnx_put_input(w->b, INPUT, 4, (int64_t[]){0, in->c, in->h, in->w});
    for (int i = 0; i <= g->output; i++)
        put_node(w, i);
    put_logits(w);
}

int onnx_put_graph(struct onnx_build *b, const struct network *n, struct err *e)
{
    struct writer w = {.b = b, .n = n, .values = calloc((size_t)n->graph.count, sizeof *w.values)};
    int bad = w.values ? plan_make(&n->graph, 1, &w.plan, e) : err_set(e, ERR_MEMORY, "no memory for its ONNX graph");
    if (!bad) {
        put_all(&w);
        plan_free(&w.plan);
        bad = b->failed ? err_set(e, ERR_MEMORY, "no memory for its ONNX graph") : 0;
    }
    free(w.values);
    return bad;
}

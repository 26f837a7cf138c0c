// SPDX-License-Identifier: MIT

#include "models/graph.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct op_info op_infos[OPS] = {
    [OP_INPUT] = {"input", 0, ATTR_SHAPE | ATTR_HALF},
    [OP_CONV] = {"conv", 1, ATTR_CHANNELS | ATTR_KERNEL | ATTR_STRIDE | ATTR_PAD | ATTR_GROUPS | ATTR_RELU | ATTR_KEEP_OUTPUT},
    [OP_DENSE] = {"dense", 1, ATTR_CHANNELS | ATTR_RELU | ATTR_KEEP_OUTPUT},
    [OP_ADD] = {"add", 2, ATTR_RELU},
    [OP_MAXPOOL] = {"maxpool", 1, ATTR_KERNEL | ATTR_STRIDE | ATTR_PAD},
    [OP_AVGPOOL] = {"avgpool", 1, 0},
    [OP_SHORTCUT] = {"shortcut", 1, ATTR_STRIDE | ATTR_PAD_CHANNELS},
    [OP_QUANTIZE] = {"quantize", 1, 0},
    [OP_DEQUANTIZE] = {"dequantize", 1, 0},
};

const char *op_name(enum op op)
{
    return op_infos[op].name;
}

enum precision node_precision(const struct node *n, enum precision p)
{
    return n->half ? PRECISION_FP16 : p;
}

/* Room comes in steps, so that count alone tells when there is none left. */
#define NODES_STEP 64
static size_t nodes_bytes(int count)
{
    return ((size_t)count / NODES_STEP + 1) * NODES_STEP * sizeof(struct node);
}

struct node *graph_add(struct graph *g, enum op op, const char *fmt, ...)
{
    if (g->count >= GRAPH_NODES_MAX)
        return NULL;
    struct node n = {.op = op, .in = {-1, -1}};
    n.kernel_h = n.kernel_w = n.stride_h = n.stride_w = n.groups = 1;
    va_list ap;
    va_start(ap, fmt);
    const int length = vsnprintf(n.name, sizeof n.name, fmt, ap);
    va_end(ap);
    if (length < 0 || (size_t)length >= sizeof n.name)
        return NULL;
    if (g->count % NODES_STEP == 0) {
        struct node *nodes = realloc(g->nodes, nodes_bytes(g->count));
        if (!nodes)
            return NULL;
        g->nodes = nodes;
    }
    g->nodes[g->count] = n;
    return &g->nodes[g->count++];
}

int graph_copy(const struct graph *from, struct graph *to, struct err *e)
{
    struct node *nodes = malloc(nodes_bytes(from->count));
    if (!nodes)
        return err_set(e, ERR_MEMORY, "no memory for a graph of %d nodes", from->count);
    if (from->count)
        memcpy(nodes, from->nodes, (size_t)from->count * sizeof *nodes);
    *to = (struct graph){nodes, from->count, from->output};
    return 0;
}

void graph_free(struct graph *g)
{
    free(g->nodes);
    *g = (struct graph){0};
}

int node_has_weights(const struct node *n)
{
    return n->op == OP_CONV || n->op == OP_DENSE;
}

int64_t node_depth(const struct graph *g, int node)
{
    const struct node *n = &g->nodes[node];
    if (!node_has_weights(n))
        return 0;
    return (int64_t)n->kernel_h * n->kernel_w * (g->nodes[n->in[0]].c / n->groups);
}

int64_t node_weights(const struct graph *g, int node)
{
    return node_depth(g, node) * g->nodes[node].c;
}

int64_t node_macs(const struct graph *g, int node)
{
    return node_weights(g, node) * g->nodes[node].h * g->nodes[node].w;
}

int64_t graph_macs(const struct graph *g)
{
    int64_t sum = 0;
    for (int i = 0; i < g->count; i++)
        sum += node_macs(g, i);
    return sum;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct graph_name *)a)->name, ((const struct graph_name *)b)->name);
}

struct graph_name *graph_names(const struct graph *g)
{
    struct graph_name *names = malloc(((size_t)g->count + 1) * sizeof *names);
    if (!names)
        return NULL;
    for (int i = 0; i < g->count; i++)
        names[i] = (struct graph_name){g->nodes[i].name, i};
    qsort(names, (size_t)g->count, sizeof *names, compare_names);
    return names;
}

int graph_names_find(const struct graph_name *names, int count, const char *name)
{
    const struct graph_name key = {name, 0};
    const struct graph_name *hit = bsearch(&key, names, (size_t)count, sizeof *names, compare_names);
    return hit ? hit->index : -1;
}

/* ---- the gate. Texts say "node 'x': ..."; the limits make every product below fit 64 bits. */

static int bad(const struct node *n, struct err *e, const char *what)
{
    return err_set(e, ERR_INPUT, "graph: node '%s' (%s): %s", n->name, op_name(n->op), what);
}

static int check_name(const struct node *n, int index, struct err *e)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    if (!memchr(n->name, 0, sizeof n->name))
        return err_set(e, ERR_INPUT, "graph: the name of node %d is longer than %d characters", index, GRAPH_NAME_MAX - 1);
    if (!n->name[0] || n->name[strspn(n->name, allowed)])
        return err_set(e, ERR_INPUT, "graph: the name '%s' of node %d is not made of A-Z a-z 0-9 . _ -", n->name, index);
    return 0;
}

static int check_names(const struct graph *g, struct err *e)
{
    for (int i = 0; i < g->count; i++)
        if (check_name(&g->nodes[i], i, e))
            return -1;
    struct graph_name *names = graph_names(g);
    if (!names)
        return err_set(e, ERR_MEMORY, "no memory for the names of %d nodes", g->count);
    int r = 0;
    for (int i = 1; i < g->count && r == 0; i++)
        if (strcmp(names[i - 1].name, names[i].name) == 0)
            r = err_set(e, ERR_INPUT, "graph: two nodes are called '%s'", names[i].name);
    free(names);
    return r;
}

static int check_inputs(const struct graph *g, int index, struct err *e)
{
    const struct node *n = &g->nodes[index];
    const int inputs = op_infos[n->op].inputs;
    for (int k = 0; k < 2; k++) {
        if (k >= inputs && n->in[k] != -1)
            return bad(n, e, "has too many inputs");
        if (k < inputs && (n->in[k] < 0 || n->in[k] >= index))
            return bad(n, e, "an input is missing or does not come before it");
    }
    return 0;
}

static int in_range(int v, int min, int max)
{
    return v >= min && v <= max;
}

/* Attributes in range, and at their default where the op has none: what a stored graph could not hold must not be there. */
static int check_attributes(const struct node *n, struct err *e)
{
    const unsigned attrs = op_infos[n->op].attrs;
    const int kernel_max = attrs & ATTR_KERNEL ? GRAPH_KERNEL_MAX : 1, stride_max = attrs & ATTR_STRIDE ? GRAPH_KERNEL_MAX : 1;

    if (!in_range(n->kernel_h, 1, kernel_max) || !in_range(n->kernel_w, 1, kernel_max))
        return bad(n, e, kernel_max == 1 ? "takes no kernel" : "kernel sides must be 1 to 64");
    if (!in_range(n->stride_h, 1, stride_max) || !in_range(n->stride_w, 1, stride_max))
        return bad(n, e, stride_max == 1 ? "takes no stride" : "strides must be 1 to 64");
    if (!(attrs & ATTR_PAD) && (n->pad_top || n->pad_left || n->pad_bottom || n->pad_right))
        return bad(n, e, "takes no padding");
    /* With this every window touches the image: the first ends after its start, the last starts before its end. */
    if (!in_range(n->pad_top, 0, n->kernel_h - 1) || !in_range(n->pad_bottom, 0, n->kernel_h - 1) ||
        !in_range(n->pad_left, 0, n->kernel_w - 1) || !in_range(n->pad_right, 0, n->kernel_w - 1))
        return bad(n, e, "padding must be less than the kernel's side");
    if (!in_range(n->groups, 1, attrs & ATTR_GROUPS ? GRAPH_CHANNELS_MAX : 1))
        return bad(n, e, attrs & ATTR_GROUPS ? "groups must be 1 to 65536" : "takes no groups");
    if (!in_range(n->relu, 0, attrs & ATTR_RELU ? 1 : 0))
        return bad(n, e, attrs & ATTR_RELU ? "relu must be 0 or 1" : "takes no relu");
    if (!in_range(n->keep_output, 0, attrs & ATTR_KEEP_OUTPUT ? 1 : 0))
        return bad(n, e, attrs & ATTR_KEEP_OUTPUT ? "keep_output must be 0 or 1" : "takes no keep_output");
    if (attrs & ATTR_HALF && !in_range(n->half, 0, 1))
        return bad(n, e, "half must be 0 or 1");
    const int channels_max = attrs & ATTR_PAD_CHANNELS ? GRAPH_CHANNELS_MAX : 0;
    if (!in_range(n->pad_before, 0, channels_max) || !in_range(n->pad_after, 0, channels_max))
        return bad(n, e, channels_max ? "channel padding must be 0 to 65536" : "takes no channel padding");
    if (attrs & (ATTR_CHANNELS | ATTR_SHAPE) && !in_range(n->c, 1, GRAPH_CHANNELS_MAX))
        return bad(n, e, "channels must be 1 to 65536");
    return 0;
}

static int window_out(int in, int pads, int kernel, int stride)
{
    return in + pads < kernel ? 0 : (in + pads - kernel) / stride + 1;
}

static int derive_shape(const struct graph *g, struct node *n, struct err *e)
{
    const struct node *a = n->in[0] >= 0 ? &g->nodes[n->in[0]] : NULL;
    const struct node *b = n->in[1] >= 0 ? &g->nodes[n->in[1]] : NULL;
    switch (n->op) {
    case OP_INPUT:
        if (n->c != 3)
            return bad(n, e, "has not 3 channels: this version reads only colour images");
        break;
    case OP_CONV:
    case OP_MAXPOOL:
        n->h = window_out(a->h, n->pad_top + n->pad_bottom, n->kernel_h, n->stride_h);
        n->w = window_out(a->w, n->pad_left + n->pad_right, n->kernel_w, n->stride_w);
        if (n->op == OP_MAXPOOL)
            n->c = a->c;
        else if (a->c % n->groups || n->c % n->groups)
            return bad(n, e, "groups must divide input and output channels");
        if (n->h < 1 || n->w < 1)
            return bad(n, e, "the kernel is larger than its padded input");
        break;
    case OP_DENSE:
        if (a->h != 1 || a->w != 1)
            return bad(n, e, "its input must be 1x1 pixels");
        n->h = n->w = 1;
        break;
    case OP_ADD:
        if (a->h != b->h || a->w != b->w || a->c != b->c)
            return err_set(e, ERR_INPUT, "graph: node '%s' (add): inputs are %dx%dx%d and %dx%dx%d, not of one shape", n->name,
                           a->h, a->w, a->c, b->h, b->w, b->c);
        n->h = a->h;
        n->w = a->w;
        n->c = a->c;
        break;
    case OP_AVGPOOL:
        if ((int64_t)a->h * a->w > GRAPH_AVGPOOL_MAX)
            return bad(n, e, "its input has more than 8388608 pixels");
        n->h = n->w = 1;
        n->c = a->c;
        break;
    case OP_SHORTCUT:
        n->h = (a->h + n->stride_h - 1) / n->stride_h;
        n->w = (a->w + n->stride_w - 1) / n->stride_w;
        n->c = a->c + n->pad_before + n->pad_after;
        break;
    case OP_QUANTIZE:
    case OP_DEQUANTIZE:
        n->h = a->h;
        n->w = a->w;
        n->c = a->c;
        break;
    }
    return 0;
}

/* A node works in what its inputs are. */
static int derive_half(const struct graph *g, struct node *n, struct err *e)
{
    if (n->op == OP_INPUT)
        return 0;
    const int half = g->nodes[n->in[0]].half;
    if (n->in[1] >= 0 && g->nodes[n->in[1]].half != half)
        return bad(n, e, "one input is half and the other is not: a quantize or dequantize is missing");
    if (n->op == OP_QUANTIZE && !half)
        return bad(n, e, "its input is not half");
    if (n->op == OP_DEQUANTIZE && half)
        return bad(n, e, "its input is half already");
    n->half = n->op == OP_QUANTIZE ? 0 : n->op == OP_DEQUANTIZE ? 1 : half;
    return 0;
}

static int check_node(const struct graph *g, int index, int64_t *macs, struct err *e)
{
    struct node *n = &g->nodes[index];
    if (derive_half(g, n, e) || derive_shape(g, n, e))
        return -1;
    if (!in_range(n->h, 1, GRAPH_SIDE_MAX) || !in_range(n->w, 1, GRAPH_SIDE_MAX))
        return err_set(e, ERR_TOO_LARGE, "graph: node '%s' (%s): its output is %dx%d pixels; each side must be 1 to %d", n->name,
                       op_name(n->op), n->h, n->w, GRAPH_SIDE_MAX);
    if (n->c > GRAPH_CHANNELS_MAX)
        return err_set(e, ERR_TOO_LARGE, "graph: node '%s' (%s): %d channels, the limit is %d", n->name, op_name(n->op), n->c,
                       GRAPH_CHANNELS_MAX);
    if ((int64_t)n->h * n->w * n->c > GRAPH_TENSOR_MAX)
        return err_set(e, ERR_TOO_LARGE, "graph: node '%s' (%s): an output of %dx%dx%d is beyond the limit of %lld elements",
                       n->name, op_name(n->op), n->h, n->w, n->c, GRAPH_TENSOR_MAX);
    if (node_weights(g, index) > GRAPH_WEIGHTS_MAX)
        return err_set(e, ERR_TOO_LARGE, "graph: node '%s' (%s): %lld weights, the limit is %lld", n->name, op_name(n->op),
                       (long long)node_weights(g, index), GRAPH_WEIGHTS_MAX);
    if (node_macs(g, index) > GRAPH_MACS_MAX - *macs)
        return err_set(e, ERR_TOO_LARGE, "graph: node '%s' (%s): the network takes more than %lld multiplications", n->name,
                       op_name(n->op), GRAPH_MACS_MAX);
    *macs += node_macs(g, index);
    return 0;
}

/* Inputs come before their users, so one walk from the output to the front marks everything that is needed. */
static int check_used(const struct graph *g, struct err *e)
{
    unsigned char used[GRAPH_NODES_MAX] = {0};
    used[g->output] = 1;
    for (int i = g->count - 1; i >= 0; i--) {
        const struct node *n = &g->nodes[i];
        if (!used[i])
            return bad(n, e, "the output does not depend on it");
        for (int k = 0; k < op_infos[n->op].inputs; k++)
            used[n->in[k]] = 1;
    }
    return 0;
}

int graph_check(struct graph *g, struct err *e)
{
    if (!g->nodes || !in_range(g->count, 1, GRAPH_NODES_MAX))
        return err_set(e, g->count > GRAPH_NODES_MAX ? ERR_TOO_LARGE : ERR_INPUT, "graph: %d nodes, must be 1 to %d", g->count,
                       GRAPH_NODES_MAX);
    if (check_names(g, e))
        return -1;
    if (!in_range(g->output, 0, g->count - 1))
        return err_set(e, ERR_INPUT, "graph: the output is no node of it");
    int64_t macs = 0;
    for (int i = 0; i < g->count; i++) {
        const struct node *n = &g->nodes[i];
        if (!in_range((int)n->op, 0, OPS - 1))
            return err_set(e, ERR_INPUT, "graph: node '%s' has no known op", n->name);
        if ((n->op == OP_INPUT) != (i == 0))
            return bad(n, e, "the first node, and no other, must be the input");
        if (check_inputs(g, i, e) || check_attributes(n, e) || check_node(g, i, &macs, e))
            return -1;
    }
    const struct node *out = &g->nodes[g->output];
    if (out->h != 1 || out->w != 1)
        return bad(out, e, "is the output and must give 1x1 pixels: one value per class");
    if (out->relu)
        return bad(out, e, "is the output and takes no relu: logits are never clipped");
    return check_used(g, e);
}

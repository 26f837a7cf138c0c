// SPDX-License-Identifier: MIT

#include "models/resnet_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/fold.h"

/* ---- tensors ---- */

/* The index of a tensor, -1 when absent. */
static int find(const struct build *b, const char *base, const char *leaf)
{
    char name[ST_NAME_MAX];
    snprintf(name, sizeof name, "%s%s", base, leaf);
    return resnet_names_find(&b->names, name);
}

static int missing(const struct build *b, const char *base, const char *leaf)
{
    char name[ST_NAME_MAX];
    snprintf(name, sizeof name, "%s%s", base, leaf);
    return resnet_names_missing(&b->names, name, b->e);
}

/* As the checkpoint calls a tensor that it has. */
static const char *real_name(const struct build *b, const char *base, const char *leaf)
{
    return tensors_get(b->names.t, find(b, base, leaf))->name;
}

int build_has(const struct build *b, const char *base, const char *leaf)
{
    return find(b, base, leaf) >= 0;
}

/* Floats of a tensor that must exist with exactly `count` elements; NULL with the error set. */
static float *read_floats(struct build *b, const char *base, const char *leaf, int64_t count)
{
    const int i = find(b, base, leaf);
    if (i < 0) {
        missing(b, base, leaf);
        return NULL;
    }
    const struct tensor *t = tensors_get(b->names.t, i);
    b->used[i] = 1;
    if (t->count != count) {
        err_set(b->e, ERR_INPUT, "tensor %s has %lld elements, expected %lld", t->name, (long long)t->count, (long long)count);
        return NULL;
    }
    float *v = malloc((size_t)count * sizeof *v);
    if (!v) {
        err_set(b->e, ERR_MEMORY, "no memory for tensor %s", t->name);
        return NULL;
    }
    if (tensors_read(b->names.t, i, v, b->e) < 0) {
        free(v);
        return NULL;
    }
    for (int64_t k = 0; k < count; k++)
        if (!isfinite(v[k])) {
            err_set(b->e, ERR_DAMAGED, "tensor %s holds a NaN or infinity", t->name);
            free(v);
            return NULL;
        }
    return v;
}

int build_shape(struct build *b, const char *base, int64_t shape[4])
{
    const int at = find(b, base, ".weight");
    if (at < 0)
        return missing(b, base, ".weight");
    const struct tensor *t = tensors_get(b->names.t, at);
    if (t->rank != 4 && t->rank != 2)
        return err_set(b->e, ERR_UNSUPPORTED, "tensor %s has rank %d, expected 4 (convolution) or 2 (dense)", t->name, t->rank);
    for (int i = 0; i < 4; i++) {
        shape[i] = i < t->rank ? t->shape[i] : 1;
        if (shape[i] < 1 || shape[i] > (i < 2 ? GRAPH_CHANNELS_MAX : GRAPH_KERNEL_MAX))
            return err_set(b->e, ERR_TOO_LARGE, "tensor %s: dimension %d is %lld, out of range", t->name, i, (long long)shape[i]);
    }
    return 0;
}

/* ---- nodes ---- */

/* Grows layers beside the graph's nodes. */
static struct node *add(struct build *b, enum op op, const char *name, int in0, int in1)
{
    struct network *n = &b->net;
    struct layer *layers = realloc(n->layers, ((size_t)n->graph.count + 1) * sizeof *layers);
    if (layers) {
        n->layers = layers;
        memset(&layers[n->graph.count], 0, sizeof *layers);
    }
    struct node *node = layers ? graph_add(&n->graph, op, "%s", name) : NULL;
    if (!node) {
        err_set(b->e, ERR_MEMORY, "no memory for node %s", name);
        return NULL;
    }
    node->in[0] = in0;
    node->in[1] = in1;
    return node;
}

static int last(const struct build *b)
{
    return b->net.graph.count - 1;
}

/* Output and padding of a window along one side. */
static int set_side(const struct build *b, int size, int kernel, int stride, int *before, int *after)
{
    *before = *after = kernel / 2;
    if (b->same_padding) {
        int total = ((size + stride - 1) / stride - 1) * stride + kernel - size;
        *before = total > 0 ? total / 2 : 0;
        *after = total > 0 ? total - *before : 0;
    }
    return (size + *before + *after - kernel) / stride + 1;
}

static void set_padding(const struct build *b, struct node *n)
{
    const struct node *in = &b->net.graph.nodes[n->in[0]];
    n->h = set_side(b, in->h, n->kernel_h, n->stride_h, &n->pad_top, &n->pad_bottom);
    n->w = set_side(b, in->w, n->kernel_w, n->stride_w, &n->pad_left, &n->pad_right);
}

int build_input(struct build *b, int width, int height)
{
    struct node *input = add(b, OP_INPUT, "input", -1, -1);
    if (!input)
        return -1;
    input->c = 3;
    input->h = height;
    input->w = width;
    return last(b);
}

int build_max_pool(struct build *b, const char *name, int in, int kernel, int stride)
{
    struct node *pool = add(b, OP_MAXPOOL, name, in, -1);
    if (!pool)
        return -1;
    pool->kernel_h = pool->kernel_w = kernel;
    pool->stride_h = pool->stride_w = stride;
    pool->c = b->net.graph.nodes[in].c;
    set_padding(b, pool);
    return last(b);
}

int build_average_pool(struct build *b, const char *name, int in)
{
    struct node *pool = add(b, OP_AVGPOOL, name, in, -1);
    if (!pool)
        return -1;
    pool->c = b->net.graph.nodes[in].c;
    pool->h = pool->w = 1;
    return last(b);
}

int build_add(struct build *b, const char *name, int in0, int in1)
{
    struct node *n = add(b, OP_ADD, name, in0, in1);
    if (!n)
        return -1;
    const struct node *to = &b->net.graph.nodes[in0];
    n->relu = 1;
    n->c = to->c;
    n->h = to->h;
    n->w = to->w;
    return last(b);
}

int build_option_a(struct build *b, const char *name, int in, int stride, int channels)
{
    struct node *n = add(b, OP_SHORTCUT, name, in, -1);
    if (!n)
        return -1;
    const struct node *from = &b->net.graph.nodes[in];
    n->stride_h = n->stride_w = stride;
    n->pad_before = (channels - from->c) / 2;
    n->pad_after = channels - from->c - n->pad_before;
    n->c = channels;
    n->h = (from->h + stride - 1) / stride;
    n->w = (from->w + stride - 1) / stride;
    return last(b);
}

/* Channels that share a group: the tiles of matrix products are this wide, so the zeros between them are cheaper than tiles with
   one column. Adding zeros is exact. */
enum { HALVE_TOGETHER = 16 };

int build_halve(struct build *b, const char *name, int in)
{
    struct node *n = add(b, OP_CONV, name, in, -1);
    if (!n)
        return -1;
    const struct node *from = &b->net.graph.nodes[in];
    if (from->h % 2 || from->w % 2)
        return err_set(b->e, ERR_UNSUPPORTED,
                       "%s averages 2x2 pixels of %dx%d: with an odd side this version cannot; choose an input "
                       "whose sides are multiples of 32",
                       name, from->w, from->h);
    const int together = from->c % HALVE_TOGETHER ? 1 : HALVE_TOGETHER;
    n->kernel_h = n->kernel_w = n->stride_h = n->stride_w = 2;
    n->c = from->c;
    n->groups = from->c / together;
    n->h = from->h / 2;
    n->w = from->w / 2;
    struct layer *l = &b->net.layers[last(b)];
    float *weight = calloc((size_t)n->c * 4 * (size_t)together, sizeof *weight);
    l->weight = weight;
    l->bias = calloc((size_t)n->c, sizeof *l->bias);
    if (!weight || !l->bias)
        return err_set(b->e, ERR_MEMORY, "no memory for layer %s", name);
    for (int o = 0; o < n->c; o++)
        for (int tap = 0; tap < 4; tap++)
            weight[(o * 4 + tap) * together + o % together] = 0.25f;
    return last(b);
}

/* ---- weights ---- */

/* The four tensors of batch norm bn, folded into layer l. */
static int fold(struct build *b, const char *bn, struct layer *l, int64_t channels, int64_t depth)
{
    static const char *const leaves[4] = {".weight", ".bias", ".running_mean", ".running_var"};
    if (build_has(b, bn, ".weight") && !build_has(b, bn, ".running_mean") && !build_has(b, bn, ".running_var"))
        return err_set(b->e, ERR_UNSUPPORTED,
                       "tensor %s has no running_mean and running_var beside it: group norm, layer norm, or a norm without "
                       "running statistics; this version knows batch norm",
                       real_name(b, bn, ".weight"));
    float *v[4] = {NULL};
    int ok = 1;
    for (int i = 0; i < 4 && ok; i++)
        ok = (v[i] = read_floats(b, bn, leaves[i], channels)) != NULL;
    for (int64_t i = 0; ok && i < channels; i++)
        if (v[3][i] < 0) {
            err_set(b->e, ERR_DAMAGED, "tensor %s is negative", real_name(b, bn, ".running_var"));
            ok = 0;
        }
    if (ok) {
        struct batch_norm norm = {v[0], v[1], v[2], v[3], b->eps};
        fold_batch_norm(&norm, (int)channels, depth, l->weight, l->bias, l->bias);
    }
    for (int i = 0; i < 4; i++)
        free(v[i]);
    return ok ? 0 : -1;
}

/* Weights and bias of a node as stored, in the order of kernels/conv.h. */
static int read_weights(struct build *b, const char *weights, const int64_t shape[4], struct layer *l)
{
    const int64_t channels = shape[0], count = channels * shape[1] * shape[2] * shape[3];
    float *oihw = read_floats(b, weights, ".weight", count);
    if (!oihw)
        return -1;
    l->weight = malloc((size_t)count * sizeof(float));
    if (!l->weight) {
        free(oihw);
        return err_set(b->e, ERR_MEMORY, "no memory for layer %s", weights);
    }
    weights_to_ohwi(oihw, (int)shape[0], (int)shape[1], (int)shape[2], (int)shape[3], l->weight);
    free(oihw);
    if (build_has(b, weights, ".bias"))
        return (l->bias = read_floats(b, weights, ".bias", channels)) ? 0 : -1;
    l->bias = calloc((size_t)channels, sizeof *l->bias);
    return l->bias ? 0 : err_set(b->e, ERR_MEMORY, "no memory for layer %s", weights);
}

int build_conv(struct build *b, const char *name, const char *weights, const char *bn, int in, int stride, int relu)
{
    int64_t shape[4];
    if (build_shape(b, weights, shape) < 0)
        return -1;
    const int in_c = b->net.graph.nodes[in].c;
    if (shape[1] > in_c || in_c % shape[1] || shape[0] % (in_c / shape[1]))
        return err_set(b->e, ERR_INPUT, "tensor %s takes %lld channels, the layer before it gives %d",
                       real_name(b, weights, ".weight"), (long long)shape[1], in_c);
    struct node *n = add(b, OP_CONV, name, in, -1);
    if (!n)
        return -1;
    n->c = (int)shape[0];
    n->kernel_h = (int)shape[2];
    n->kernel_w = (int)shape[3];
    n->stride_h = n->stride_w = stride;
    n->groups = (int)(in_c / shape[1]);
    n->relu = relu;
    set_padding(b, n);
    struct layer *l = &b->net.layers[last(b)];
    if (read_weights(b, weights, shape, l) < 0 || (bn && fold(b, bn, l, shape[0], shape[1] * shape[2] * shape[3]) < 0))
        return -1;
    return last(b);
}

int build_dense(struct build *b, const char *name, const char *weights, int in)
{
    int64_t shape[4];
    if (build_shape(b, weights, shape) < 0)
        return -1;
    if (shape[1] != b->net.graph.nodes[in].c || shape[2] != 1 || shape[3] != 1)
        return err_set(b->e, ERR_INPUT, "tensor %s takes %lld values, the network gives %d", real_name(b, weights, ".weight"),
                       (long long)(shape[1] * shape[2] * shape[3]), b->net.graph.nodes[in].c);
    struct node *n = add(b, OP_DENSE, name, in, -1);
    if (!n)
        return -1;
    n->c = (int)shape[0];
    n->h = n->w = 1;
    return read_weights(b, weights, shape, &b->net.layers[last(b)]) < 0 ? -1 : last(b);
}

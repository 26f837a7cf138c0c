// SPDX-License-Identifier: MIT
//
// onnx_quant.c - quantised graphs. Two notations of one thing: QDQ computes in floats between DequantizeLinear and
// QuantizeLinear, QOperator names scales and zero points at each operator. Either way every tensor has one scale and one zero
// point, which the network keeps; unsigned integers become signed by taking 128 off them and off their zero point.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/checkpoint/onnx_graph.h"

/* ---- scale and zero point of activations ---- */

static int read_quant(struct onnx *x, const struct onnx_value *scale, const struct onnx_value *zero, struct quant *out)
{
    double s = 0;
    int64_t z = 0, type = onnx_int(x->node, "output_dtype", ONNX__TENSOR_PROTO__DATA_TYPE__UINT8);
    if (!scale || scale->kind != ONNX_CONSTANT || (zero && zero->kind != ONNX_CONSTANT))
        return onnx_fail(x, ERR_UNSUPPORTED, "its scale or zero point is not a constant");
    if (onnx_tensor_scalar(scale->tensor, &s, x->e) < 0 ||
        (zero && (onnx_tensor_count(zero->tensor, x->e) != 1 || onnx_tensor_ints(zero->tensor, &z, x->e) < 0))) {
        if (zero && onnx_tensor_count(zero->tensor, x->e) > 1)
            err_set(x->e, ERR_UNSUPPORTED, "activations have one zero point");
        return onnx_blame(x);
    }
    if (zero)
        type = zero->tensor->data_type;
    if (type != ONNX__TENSOR_PROTO__DATA_TYPE__UINT8 && type != ONNX__TENSOR_PROTO__DATA_TYPE__INT8)
        return onnx_fail(x, ERR_UNSUPPORTED, "quantises to ONNX type %lld; int8 and uint8 are read", (long long)type);
    if (!(s > 0 && s < 1e9))
        return onnx_fail(x, ERR_UNSUPPORTED, "its scale is %g", s);
    *out = (struct quant){(float)s, (int)(type == ONNX__TENSOR_PROTO__DATA_TYPE__UINT8 ? z - 128 : z)};
    return 0;
}

static int same_quant(struct quant a, struct quant b)
{
    return a.scale == b.scale && a.zero == b.zero;
}

/* What an upper clip leaves out must be out of range anyway. */
static int check_limit(struct onnx *x, int node, struct quant q)
{
    const float upper = x->extra[node].upper;
    if (upper && rintf(upper / q.scale) + (float)q.zero < 127)
        return onnx_fail(x, ERR_UNSUPPORTED, "quantises up to %g what is clipped at %g", (double)q.scale * (127 - q.zero),
                         (double)upper);
    return 0;
}

int onnx_limit(struct onnx *x, int node, float upper)
{
    if (upper && (!x->extra[node].upper || upper < x->extra[node].upper))
        x->extra[node].upper = upper;
    return x->extra[node].quantised ? check_limit(x, node, x->net.quants[node]) : 0;
}

static int set_quant(struct onnx *x, int node, struct quant q)
{
    const struct node *n = &x->net.graph.nodes[node];
    if (check_limit(x, node, q) < 0)
        return -1;
    if (n->op == OP_SHORTCUT && !same_quant(x->net.quants[n->in[0]], q))
        return onnx_fail(x, ERR_UNSUPPORTED, "quantises picked pixels unlike what they are picked from");
    /* the maximum of rounded values is the rounded maximum, so the pooling's input may be quantised in its place */
    if (n->op == OP_MAXPOOL && !x->extra[n->in[0]].quantised && set_quant(x, n->in[0], q) < 0)
        return -1;
    if (n->op == OP_MAXPOOL && !same_quant(x->net.quants[n->in[0]], q))
        return onnx_fail(x, ERR_UNSUPPORTED, "quantises a pooling unlike its input");
    x->net.quants[node] = q;
    x->extra[node].quantised = 1;
    return 0;
}

int onnx_keep_quant(struct onnx *x, const struct onnx_value *v, int node)
{
    onnx_output(x, 0)->stage = ONNX_DEQUANTISED;
    return set_quant(x, node, x->net.quants[v->node]);
}

/* v holds integers that mean q. The network's input, when it comes as integers, learns its meaning here. */
static int check_quant(struct onnx *x, const struct onnx_value *v, struct quant q)
{
    if (v->stage != ONNX_QUANTISED)
        return onnx_fail(x, ERR_DAMAGED, "reads floats as integers");
    if (!x->extra[v->node].quantised)
        return set_quant(x, v->node, q);
    const struct quant is = x->net.quants[v->node];
    return same_quant(is, q) ? 0
                             : onnx_fail(x, ERR_UNSUPPORTED, "reads integers of scale %.9g, zero point %d as %.9g, %d",
                                         (double)is.scale, is.zero, (double)q.scale, q.zero);
}

int onnx_settled(struct onnx *x, const struct onnx_value *v)
{
    if (!x->int8 || v->stage != ONNX_COMPUTED)
        return 0;
    /* PyTorch's training puts no quantisation behind the average; its conversion keeps the scale of what is averaged */
    const struct node *n = &x->net.graph.nodes[v->node];
    if (n->op == OP_AVGPOOL)
        return x->extra[v->node].quantised ? 0 : set_quant(x, v->node, x->net.quants[n->in[0]]);
    return onnx_fail(x, ERR_UNSUPPORTED, "computes in floats what '%.80s' gives, in a graph that is quantised elsewhere",
                     x->net.graph.nodes[v->node].name);
}

/* ---- QDQ ---- */

static int read_axis(struct onnx *x)
{
    const int64_t axis = onnx_int(x->node, "axis", 1);
    return axis >= -ONNX_RANK_MAX && axis < ONNX_RANK_MAX ? (int)axis : ONNX_RANK_MAX;
}

int onnx_quantize(struct onnx *x)
{
    const struct onnx_value *in = onnx_input(x, 0), *scale = onnx_constant(x, 1), *zero = onnx_input(x, 2);
    struct quant q;
    if (!scale || (zero && !onnx_constant(x, 2)))
        return -1;
    if (onnx_int(x->node, "block_size", 0))
        return onnx_fail(x, ERR_UNSUPPORTED, "scales of blocks are not read");
    if (in->kind == ONNX_CONSTANT && in->stage == ONNX_COMPUTED) {
        struct onnx_value *out = onnx_same(x, in);
        out->stage = ONNX_QUANTISED;
        out->scale = scale;
        out->zero = zero;
        out->axis = read_axis(x);
        out->round = 1;
        return 0;
    }
    const struct onnx_value *v = onnx_activation(x, 0);
    if (!v || read_quant(x, scale, zero, &q) < 0)
        return -1;
    if (v->stage == ONNX_QUANTISED)
        return onnx_fail(x, ERR_DAMAGED, "quantises integers");
    int node = v->node;
    if (!x->extra[node].quantised) {
        if (set_quant(x, node, q) < 0)
            return -1;
    } else if (!same_quant(x->net.quants[node], q)) {
        if (v->stage == ONNX_COMPUTED)
            return onnx_fail(x, ERR_UNSUPPORTED, "quantises '%.80s' in a second way", x->net.graph.nodes[node].name);
        node = onnx_depthwise(x, v, 1, 1, 1, 1); /* from one scale to another */
        if (node < 0 || set_quant(x, node, q) < 0)
            return -1;
    }
    struct onnx_value *out = onnx_same(x, v);
    out->node = node;
    out->stage = ONNX_QUANTISED;
    return 0;
}

int onnx_dequantize(struct onnx *x)
{
    const struct onnx_value *in = onnx_input(x, 0), *scale = onnx_constant(x, 1), *zero = onnx_input(x, 2);
    struct quant q;
    if (!scale || (zero && !onnx_constant(x, 2)))
        return -1;
    if (onnx_int(x->node, "block_size", 0))
        return onnx_fail(x, ERR_UNSUPPORTED, "scales of blocks are not read");
    if (in->kind == ONNX_CONSTANT) {
        if (in->stage == ONNX_DEQUANTISED ||
            (in->stage == ONNX_QUANTISED && (!onnx_same_constant(in->scale, scale) || !onnx_same_constant(in->zero, zero))))
            return onnx_fail(x, ERR_UNSUPPORTED, "dequantises a constant unlike it was quantised");
        struct onnx_value *out = onnx_same(x, in);
        out->stage = ONNX_DEQUANTISED;
        if (in->stage == ONNX_COMPUTED) {
            out->scale = scale;
            out->zero = zero;
            out->axis = read_axis(x);
        }
        return 0;
    }
    const struct onnx_value *v = onnx_activation(x, 0);
    if (!v || read_quant(x, scale, zero, &q) < 0 || check_quant(x, v, q) < 0)
        return -1;
    onnx_same(x, v)->stage = ONNX_DEQUANTISED;
    return 0;
}

/* ---- QOperator ---- */

/* Input i with scale and zero point behind it, for reading; NULL with e set. */
static const struct onnx_value *integers(struct onnx *x, size_t i)
{
    struct quant q;
    const struct onnx_value *v = onnx_activation(x, i);
    return v && read_quant(x, onnx_input(x, i + 1), onnx_input(x, i + 2), &q) == 0 && check_quant(x, v, q) == 0 ? v : NULL;
}

/* Weights likewise, as DequantizeLinear would leave them. */
static int weights(struct onnx *x, size_t i, int axis, struct onnx_value *out)
{
    const struct onnx_value *v = onnx_constant(x, i), *scale = v ? onnx_constant(x, i + 1) : NULL;
    if (!scale || (onnx_input(x, i + 2) && !onnx_constant(x, i + 2)))
        return -1;
    *out = *v;
    out->stage = ONNX_DEQUANTISED;
    out->scale = scale;
    out->zero = onnx_input(x, i + 2);
    out->axis = axis;
    return 0;
}

/* Output 0 holds integers of `node`, whose scale and zero point are inputs i and i + 1. */
static int give_integers(struct onnx *x, int node, size_t i, enum onnx_view view)
{
    struct quant q;
    if (node < 0 || read_quant(x, onnx_input(x, i), onnx_input(x, i + 1), &q) < 0 || set_quant(x, node, q) < 0)
        return -1;
    onnx_output(x, 0)->stage = ONNX_QUANTISED;
    return onnx_computed(x, node, view);
}

int onnx_qlinear_conv(struct onnx *x)
{
    const struct onnx_value *v = integers(x, 0), *bias = onnx_input(x, 8);
    struct onnx_value w;
    if (!v || weights(x, 3, 0, &w) < 0 || (bias && !onnx_constant(x, 8)))
        return -1;
    return give_integers(x, onnx_convolve(x, v, &w, bias), 6, ONNX_NCHW);
}

int onnx_qlinear_matmul(struct onnx *x)
{
    const struct onnx_value *v = integers(x, 0);
    struct onnx_value w;
    if (!v || weights(x, 3, 1, &w) < 0)
        return -1;
    return give_integers(x, onnx_dense(x, v, &w, NULL, 1), 6, ONNX_FLAT);
}

/* Without an output scale it gives floats. */
int onnx_qgemm(struct onnx *x)
{
    const int swap = !onnx_int(x->node, "transB", 0);
    const struct onnx_value *v = integers(x, 0), *bias = onnx_input(x, 6);
    struct onnx_value w;
    if (!v || weights(x, 3, swap ? 1 : 0, &w) < 0 || (bias && !onnx_constant(x, 6)))
        return -1;
    if (onnx_float(x->node, "alpha", 1) != 1 || onnx_int(x->node, "transA", 0))
        return onnx_fail(x, ERR_UNSUPPORTED, "alpha must be 1 and transA 0");
    const int node = onnx_dense(x, v, &w, bias, swap);
    return onnx_input(x, 7) ? give_integers(x, node, 7, ONNX_FLAT) : onnx_computed(x, node, ONNX_FLAT);
}

int onnx_qlinear_add(struct onnx *x)
{
    const struct onnx_value *a = integers(x, 0), *b = a ? integers(x, 3) : NULL;
    if (!b)
        return -1;
    if (a->view != b->view)
        return onnx_fail(x, ERR_UNSUPPORTED, "its operands differ in layout");
    return give_integers(x, onnx_add_node(x, OP_ADD, a->node, b->node), 6, a->view);
}

int onnx_qlinear_average(struct onnx *x)
{
    const struct onnx_value *v = integers(x, 0);
    if (!v)
        return -1;
    if (onnx_int(x->node, "channels_last", 0) || v->view != ONNX_NCHW)
        return onnx_fail(x, ERR_UNSUPPORTED, "its input is not laid out [N, C, H, W]");
    const int node = onnx_add_node(x, OP_AVGPOOL, v->node, -1);
    if (node >= 0)
        x->net.graph.nodes[node].h = x->net.graph.nodes[node].w = 1;
    return give_integers(x, node, 3, ONNX_NCHW);
}

/* ---- the end ---- */

/* The add that alone reads a node, or -1. */
static int only_add(const struct graph *g, int node)
{
    int add = -1, readers = 0;
    for (int i = node + 1; i < g->count; i++)
        for (int k = 0; k < 2; k++)
            if (g->nodes[i].in[k] == node) {
                readers++;
                add = g->nodes[i].op == OP_ADD ? i : -1;
            }
    return readers == 1 ? add : -1;
}

static int is_added(const struct graph *g, int node)
{
    for (int i = node + 1; i < g->count; i++)
        if (g->nodes[i].op == OP_ADD && (g->nodes[i].in[0] == node || g->nodes[i].in[1] == node))
            return 1;
    return 0;
}

static int check_sums(struct onnx *x, int node)
{
    const struct node *n = &x->net.graph.nodes[node], *in = &x->net.graph.nodes[n->in[0]];
    const struct layer *l = &x->net.layers[node];
    const struct conv_shape shape = {
        .in_c = in->c, .out_c = n->c, .kernel_h = n->kernel_h, .kernel_w = n->kernel_w, .groups = n->groups};
    const struct conv_params params = {.weight = l->weight, .bias_s32 = l->bias_s32, .in = x->net.quants[n->in[0]]};
    const int channel = conv_check_s8(&shape, &params);
    return channel < 0
               ? 0
               : err_set(x->e, ERR_UNSUPPORTED, "%s: layer %s, channel %d: sums could leave 32 bits", x->path, n->name, channel);
}

int onnx_finish_quants(struct onnx *x)
{
    struct graph *g = &x->net.graph;
    for (int i = g->count - 1; i >= 0; i--) {
        struct node *n = &g->nodes[i];
        const int add = only_add(g, i);
        if (x->extra[i].quantised) {
            n->keep_output = node_has_weights(n) && (i == g->output || (n->op == OP_CONV && !n->relu && is_added(g, i)));
        } else if (i == g->output && node_has_weights(n)) {
            x->net.quants[i] = (struct quant){1, 0}; /* float logits: never used */
        } else if (n->op == OP_CONV && !n->relu && i != g->output && add >= 0 && x->extra[add].quantised) {
            x->net.quants[i] = x->net.quants[add]; /* computed by the add */
        } else {
            return err_set(x->e, ERR_UNSUPPORTED, "%s: layer '%s' gives floats in a graph that is quantised elsewhere", x->path,
                           n->name);
        }
    }
    for (int i = 0; i < g->count; i++)
        if (node_has_weights(&g->nodes[i]) && check_sums(x, i) < 0)
            return -1;
    return 0;
}

char *onnx_describe(const struct onnx *x)
{
    char text[128];
    snprintf(text, sizeof text, "{\"method\":\"imported\",\"source\":\"onnx\",\"clamped_weights\":%lld}", (long long)x->clamped);
    return strdup(text);
}

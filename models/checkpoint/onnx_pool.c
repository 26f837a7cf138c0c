// SPDX-License-Identifier: MIT
//
// onnx_pool.c - windows: strides and padding, and the poolings. An average over windows that are not the whole image is a
// convolution of equal weights.

#include <string.h>

#include "models/checkpoint/onnx_graph.h"

/* ---- windows ---- */

/* An attribute of `count` integers from min to max; out keeps what it holds where the node has none. */
static int read_attribute(struct onnx *x, const char *name, int count, int min, int max, int *out)
{
    const Onnx__AttributeProto *a = onnx_attribute(x->node, name);
    if (!a)
        return 0;
    if (a->n_ints != (size_t)count)
        return onnx_fail(x, ERR_UNSUPPORTED, "%s has %zu numbers; windows here have two sides", name, a->n_ints);
    for (int i = 0; i < count; i++) {
        if (a->ints[i] < min || a->ints[i] > max)
            return onnx_fail(x, ERR_UNSUPPORTED, "%s holds %lld; %d to %d are read", name, (long long)a->ints[i], min, max);
        out[i] = (int)a->ints[i];
    }
    return 0;
}

/* TensorFlow's: as much padding as gives ceil(in / stride) results; lower: the odd one goes above and left. */
static void same_padding(int in, int kernel, int stride, int lower, int *before, int *after)
{
    const int total = ((in + stride - 1) / stride - 1) * stride + kernel - in;
    *before = total > 0 ? (total + lower) / 2 : 0;
    *after = total > 0 ? total - *before : 0;
}

int onnx_window_attributes(struct onnx *x, int node)
{
    struct node *n = &x->net.graph.nodes[node];
    const struct node *in = &x->net.graph.nodes[n->in[0]];
    int strides[2] = {1, 1}, dilations[2] = {1, 1}, pads[4] = {0};
    if (read_attribute(x, "strides", 2, 1, GRAPH_KERNEL_MAX, strides) < 0 ||
        read_attribute(x, "dilations", 2, 1, GRAPH_SIDE_MAX, dilations) < 0 ||
        read_attribute(x, "pads", 4, 0, GRAPH_KERNEL_MAX, pads) < 0)
        return -1;
    if ((dilations[0] != 1 && n->kernel_h > 1) || (dilations[1] != 1 && n->kernel_w > 1))
        return onnx_fail(x, ERR_UNSUPPORTED, "dilations of %d,%d are not read", dilations[0], dilations[1]);
    n->stride_h = strides[0];
    n->stride_w = strides[1];
    const int upper = onnx_string_is(x->node, "auto_pad", "NOTSET", "SAME_UPPER"),
              lower = onnx_string_is(x->node, "auto_pad", "NOTSET", "SAME_LOWER");
    if (upper || lower) {
        same_padding(in->h, n->kernel_h, n->stride_h, lower, &pads[0], &pads[2]);
        same_padding(in->w, n->kernel_w, n->stride_w, lower, &pads[1], &pads[3]);
    } else if (onnx_string_is(x->node, "auto_pad", "NOTSET", "VALID")) {
        memset(pads, 0, sizeof pads);
    } else if (!onnx_string_is(x->node, "auto_pad", "NOTSET", "NOTSET")) {
        return onnx_fail(x, ERR_UNSUPPORTED, "this auto_pad is not read");
    }
    n->pad_top = pads[0];
    n->pad_left = pads[1];
    n->pad_bottom = pads[2];
    n->pad_right = pads[3];
    return 0;
}

static int read_kernel(struct onnx *x, int kernel[2])
{
    kernel[0] = kernel[1] = 0;
    if (read_attribute(x, "kernel_shape", 2, 1, GRAPH_SIDE_MAX, kernel) < 0)
        return -1;
    return kernel[0] ? 0 : onnx_fail(x, ERR_DAMAGED, "has no kernel_shape");
}

/* ceil_mode asks for one window more where the last one would leave the image; how far beyond it reaches, or 0. One that would
   start outside is left out. */
static int ceil_padding(int in, int before, int after, int kernel, int stride)
{
    const int rest = (in + before + after - kernel) % stride;
    if (in + before + after < kernel || rest == 0)
        return 0;
    const int start = in + before + after - kernel - rest + stride;
    return start < in + before ? stride - rest : 0;
}

/* ---- poolings ---- */

/* Nothing below 0 comes out of it, so that padding with 0 never wins. */
static int is_positive(const struct graph *g, int node)
{
    while (g->nodes[node].op == OP_MAXPOOL)
        node = g->nodes[node].in[0];
    return g->nodes[node].relu;
}

int onnx_max_pool(struct onnx *x)
{
    const struct onnx_value *v = onnx_windowed(x, 0);
    int kernel[2];
    if (!v || read_kernel(x, kernel) < 0)
        return -1;
    if (v->view != ONNX_NCHW || onnx_int(x->node, "storage_order", 0) || onnx_output(x, 1))
        return onnx_fail(x, ERR_UNSUPPORTED, "its input is not laid out [N, C, H, W], or it has a second output");
    if (v->padded && !v->pad_lowest && !is_positive(&x->net.graph, v->node))
        return onnx_fail(x, ERR_UNSUPPORTED, "its input is padded with 0 and may be negative");
    const int node = onnx_add_node(x, OP_MAXPOOL, v->node, -1);
    if (node < 0)
        return -1;
    struct node *n = &x->net.graph.nodes[node];
    const struct node *in = &x->net.graph.nodes[v->node];
    n->kernel_h = kernel[0];
    n->kernel_w = kernel[1];
    if (onnx_window_attributes(x, node) < 0)
        return -1;
    if (onnx_int(x->node, "ceil_mode", 0)) {
        const int *pad = v->pad; /* zeros where none is pending */
        n->pad_bottom += ceil_padding(in->h, n->pad_top + pad[0], n->pad_bottom + pad[2], n->kernel_h, n->stride_h);
        n->pad_right += ceil_padding(in->w, n->pad_left + pad[1], n->pad_right + pad[3], n->kernel_w, n->stride_w);
    }
    if (onnx_window(x, node, v) < 0)
        return -1;
    struct onnx_value *out = onnx_output(x, 0);
    out->stage = v->stage;
    if (x->int8 && v->stage != ONNX_COMPUTED) { /* it picks integers, whose meaning stays */
        x->net.quants[node] = x->net.quants[v->node];
        x->extra[node].quantised = x->extra[v->node].quantised;
    }
    return onnx_computed(x, node, ONNX_NCHW);
}

static int average_all(struct onnx *x, const struct onnx_value *v, enum onnx_view view)
{
    if (onnx_settled(x, v) < 0)
        return -1;
    const int node = onnx_add_node(x, OP_AVGPOOL, v->node, -1);
    if (node >= 0)
        x->net.graph.nodes[node].h = x->net.graph.nodes[node].w = 1;
    return onnx_computed(x, node, view);
}

static int has_padding(const Onnx__NodeProto *n)
{
    const Onnx__AttributeProto *a = onnx_attribute(n, "pads");
    for (size_t i = 0; a && i < a->n_ints; i++)
        if (a->ints[i])
            return 1;
    return 0;
}

int onnx_average_pool(struct onnx *x)
{
    const struct onnx_value *v = onnx_windowed(x, 0);
    int kernel[2];
    if (!v || read_kernel(x, kernel) < 0)
        return -1;
    if (v->view != ONNX_NCHW || (v->padded && v->pad_lowest))
        return onnx_fail(x, ERR_UNSUPPORTED, "its input is not laid out [N, C, H, W], or padded with something else than 0");
    const struct node in = x->net.graph.nodes[v->node];
    struct graph *g = &x->net.graph;
    const int same = onnx_string_is(x->node, "auto_pad", "NOTSET", "SAME_UPPER") ||
                     onnx_string_is(x->node, "auto_pad", "NOTSET", "SAME_LOWER");
    if (kernel[0] == in.h && kernel[1] == in.w && !v->padded && !same && !has_padding(x->node))
        return average_all(x, v, ONNX_NCHW);
    if (kernel[0] > GRAPH_KERNEL_MAX || kernel[1] > GRAPH_KERNEL_MAX)
        return onnx_fail(x, ERR_UNSUPPORTED, "a window of %dx%d on an image of %dx%d", kernel[0], kernel[1], in.h, in.w);
    const int node = onnx_depthwise(x, v, kernel[0], kernel[1], 1.0 / (kernel[0] * kernel[1]), 1);
    if (node < 0 || onnx_window_attributes(x, node) < 0)
        return -1;
    struct node *n = &g->nodes[node];
    if ((n->pad_top | n->pad_left | n->pad_bottom | n->pad_right) && !onnx_int(x->node, "count_include_pad", 0))
        return onnx_fail(x, ERR_UNSUPPORTED, "padding that is not counted (count_include_pad = 0) is not read");
    if (onnx_int(x->node, "ceil_mode", 0) &&
        (ceil_padding(in.h, n->pad_top + v->pad[0], n->pad_bottom + v->pad[2], n->kernel_h, n->stride_h) ||
         ceil_padding(in.w, n->pad_left + v->pad[1], n->pad_right + v->pad[3], n->kernel_w, n->stride_w)))
        return onnx_fail(x, ERR_UNSUPPORTED, "ceil_mode with windows that leave the image is not read");
    return onnx_window(x, node, v) < 0 ? -1 : onnx_computed(x, node, ONNX_NCHW);
}

int onnx_global_average_pool(struct onnx *x)
{
    const struct onnx_value *v = onnx_activation(x, 0);
    if (!v)
        return -1;
    if (v->view != ONNX_NCHW)
        return onnx_fail(x, ERR_UNSUPPORTED, "its input is not laid out [N, C, H, W]");
    return average_all(x, v, ONNX_NCHW);
}

/* Over height and width, all of them, is a global average. */
int onnx_reduce_mean(struct onnx *x)
{
    const struct onnx_value *v = onnx_activation(x, 0);
    const Onnx__AttributeProto *a = onnx_attribute(x->node, "axes");
    int64_t axes[4];
    int count = -1, seen = 0;
    if (!v)
        return -1;
    if (a) {
        count = a->n_ints <= 4 ? (int)a->n_ints : -1;
        for (int i = 0; i < count; i++)
            axes[i] = a->ints[i];
    } else if (onnx_input(x, 1)) {
        count = onnx_read_ints(x, onnx_input(x, 1), axes, 4);
        if (count < 0)
            return -1;
    }
    for (int i = 0; i < count; i++)
        seen |= axes[i] >= -4 && axes[i] < 4 ? 1 << ((axes[i] + 4) % 4) : 1 << 4;
    if (v->view == ONNX_FLAT || seen != (v->view == ONNX_NCHW ? 12 : 6))
        return onnx_fail(x, ERR_UNSUPPORTED, "only the mean over height and width is read");
    return average_all(x, v, onnx_int(x->node, "keepdims", 1) ? v->view : ONNX_FLAT);
}

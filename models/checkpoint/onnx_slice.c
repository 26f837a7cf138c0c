// SPDX-License-Identifier: MIT
//
// onnx_slice.c - the parameter-free shortcut of CIFAR ResNets: every second pixel by Slice, zero channels by Pad, which together
// are one node of ours; and pieces of shapes.

#include <string.h>

#include "models/checkpoint/onnx_graph.h"

/* Picks values, so that integers keep their meaning. */
static int picked(struct onnx *x, const struct onnx_value *v, int node)
{
    if (node < 0)
        return -1;
    onnx_output(x, 0)->stage = v->stage;
    if (x->int8 && x->extra[v->node].quantised) {
        x->net.quants[node] = x->net.quants[v->node];
        x->extra[node].quantised = 1;
    }
    return onnx_computed(x, node, v->view);
}

/* The shortcut node that v shows and nothing else does, or a new one; -1. */
static int shortcut(struct onnx *x, const struct onnx_value *v)
{
    if (x->int8 && v->stage == ONNX_COMPUTED)
        return onnx_settled(x, v);
    if (x->net.graph.nodes[v->node].op == OP_SHORTCUT && onnx_is_private(v))
        return v->node;
    return onnx_add_node(x, OP_SHORTCUT, v->node, -1);
}

int onnx_pad_channels(struct onnx *x, const struct onnx_value *v, int64_t before, int64_t after)
{
    if (before < 0 || after < 0 || before > GRAPH_CHANNELS_MAX || after > GRAPH_CHANNELS_MAX)
        return onnx_fail(x, ERR_UNSUPPORTED, "pads %lld and %lld channels", (long long)before, (long long)after);
    const int node = shortcut(x, v);
    if (node < 0)
        return -1;
    struct node *n = &x->net.graph.nodes[node];
    if (n->c + before + after > GRAPH_CHANNELS_MAX)
        return onnx_fail(x, ERR_TOO_LARGE, "%lld channels", (long long)(n->c + before + after));
    n->pad_before += (int)before;
    n->pad_after += (int)after;
    n->c += (int)(before + after);
    return picked(x, v, node);
}

/* starts, ends, axes, steps: attributes up to opset 9, inputs since. Their number, or -1; axes and steps have defaults. */
static int read_slice(struct onnx *x, int64_t s[4][ONNX_INTS_MAX])
{
    static const char *const names[4] = {"starts", "ends", "axes", "steps"};
    int count = -1;
    for (int k = 0; k < 4; k++) {
        const Onnx__AttributeProto *a = onnx_attribute(x->node, names[k]);
        int n = -1;
        if (onnx_input(x, (size_t)k + 1)) {
            n = onnx_read_ints(x, onnx_input(x, (size_t)k + 1), s[k], ONNX_INTS_MAX);
            if (n < 0)
                return -1;
        } else if (a && a->n_ints <= ONNX_INTS_MAX) {
            n = (int)a->n_ints;
            memcpy(s[k], a->ints, a->n_ints * sizeof *a->ints);
        } else if (k >= 2) {
            for (n = 0; n < count; n++)
                s[k][n] = k == 2 ? n : 1;
        }
        if (n < 1 || (count >= 0 && n != count))
            return onnx_fail(x, ERR_DAMAGED, "its %s are missing, or not as many as its starts", names[k]);
        count = n;
    }
    return count;
}

static int slice_ints(struct onnx *x, const struct onnx_value *v, int64_t s[4][ONNX_INTS_MAX])
{
    struct onnx_value *out = onnx_output(x, 0);
    if (s[2][0] == 0 && s[3][0] == -1 && s[0][0] == -1 && s[1][0] < -v->int_count) { /* all rows, from the last */
        const int columns = v->columns ? v->columns : 1;
        onnx_same(x, v);
        for (int i = 0; i < v->int_count; i++)
            out->ints[i] = v->ints[v->int_count - columns - i / columns * columns + i % columns];
        return 0;
    }
    int64_t from = s[0][0] < 0 ? s[0][0] + v->int_count : s[0][0], to = s[1][0] < 0 ? s[1][0] + v->int_count : s[1][0];
    to = to > v->int_count ? v->int_count : to;
    if (v->columns || s[2][0] != 0 || s[3][0] != 1 || from < 0 || from > to)
        return onnx_fail(x, ERR_UNSUPPORTED, "of a shape only a row of dimensions is taken");
    out->kind = ONNX_INTS;
    out->int_count = (int)(to - from);
    memcpy(out->ints, v->ints + from, (size_t)(to - from) * sizeof *out->ints);
    return 0;
}

int onnx_slice(struct onnx *x)
{
    int64_t s[4][ONNX_INTS_MAX], step[4] = {1, 1, 1, 1};
    const struct onnx_value *v = onnx_input(x, 0);
    const int count = read_slice(x, s);
    if (count < 0)
        return -1;
    if (v->kind == ONNX_INTS && count == 1)
        return slice_ints(x, v, s);
    v = onnx_activation(x, 0);
    if (!v)
        return -1;
    const struct node *in = &x->net.graph.nodes[v->node];
    const int64_t sizes[4] = {1, in->c, in->h, in->w};
    for (int i = 0; i < count; i++) {
        const int64_t axis = s[2][i] < 0 ? s[2][i] + 4 : s[2][i];
        if (v->view != ONNX_NCHW || axis < 0 || axis > 3 || s[0][i] != 0 || s[1][i] < sizes[axis] || s[3][i] < 1 ||
            s[3][i] > GRAPH_KERNEL_MAX || (axis < 2 && s[3][i] != 1))
            return onnx_fail(x, ERR_UNSUPPORTED, "only every n-th pixel of all, from the first, is read");
        step[axis] *= s[3][i];
    }
    if (step[2] == 1 && step[3] == 1) {
        onnx_same(x, v);
        return 0;
    }
    const int node = shortcut(x, v);
    if (node < 0)
        return -1;
    struct node *n = &x->net.graph.nodes[node];
    if (step[2] * n->stride_h > GRAPH_KERNEL_MAX || step[3] * n->stride_w > GRAPH_KERNEL_MAX)
        return onnx_fail(x, ERR_UNSUPPORTED, "too few pixels are left");
    n->stride_h *= (int)step[2];
    n->stride_w *= (int)step[3];
    n->h = (int)((n->h + step[2] - 1) / step[2]);
    n->w = (int)((n->w + step[3] - 1) / step[3]);
    return picked(x, v, node);
}

// SPDX-License-Identifier: MIT
//
// onnx_shape.c - what computes nothing: other views of the same values, padding that a window will take, and the integers that
// exporters compute shapes with.

#include <stdlib.h>
#include <string.h>

#include "models/checkpoint/onnx_graph.h"

/* ---- the same again ---- */

static int is_true(const Onnx__TensorProto *t)
{
    for (size_t i = 0; i < t->raw_data.len; i++)
        if (t->raw_data.data[i])
            return 1;
    for (size_t i = 0; i < t->n_int32_data; i++)
        if (t->int32_data[i])
            return 1;
    return 0;
}

/* A float type that holds what is here, or the integer type of what is integers already. */
static int may_cast(const struct onnx_value *v, int64_t to)
{
    if (v->kind != ONNX_ACTIVATION)
        return 1;
    if (v->stage == ONNX_QUANTISED)
        return to == ONNX__TENSOR_PROTO__DATA_TYPE__UINT8 || to == ONNX__TENSOR_PROTO__DATA_TYPE__INT8;
    return to == ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT || to == ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16 ||
           to == ONNX__TENSOR_PROTO__DATA_TYPE__BFLOAT16 || to == ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE;
}

/* Identity, Dropout, Cast. */
int onnx_pass(struct onnx *x)
{
    const struct onnx_value *v = onnx_input(x, 0), *training = onnx_input(x, 2);
    const Onnx__AttributeProto *to = onnx_attribute(x->node, "to");
    if (training && (training->kind != ONNX_CONSTANT || is_true(training->tensor)))
        return onnx_fail(x, ERR_UNSUPPORTED, "drops values: export the model for inference");
    if (to && !may_cast(v, to->i))
        return onnx_fail(x, ERR_UNSUPPORTED, "activations become ONNX type %lld", (long long)to->i);
    onnx_same(x, v);
    return 0;
}

/* Softmax keeps the order of the classes, and what is served applies it anyway. */
int onnx_softmax(struct onnx *x)
{
    const struct onnx_value *v = onnx_activation(x, 0);
    if (!v)
        return -1;
    const struct node *n = &x->net.graph.nodes[v->node];
    const int64_t axis = onnx_int(x->node, "axis", x->opset < 13 ? 1 : -1);
    const int last = v->view == ONNX_FLAT || v->view == ONNX_NHWC;
    if (strcmp(onnx_output(x, 0)->name, x->graph->output[0]->name ? x->graph->output[0]->name : "") != 0)
        return onnx_fail(x, ERR_UNSUPPORTED, "is read only as the network's output");
    if (n->h != 1 || n->w != 1 || (axis != 1 && !(axis == -1 && last) && !(axis == 3 && v->view == ONNX_NHWC)))
        return onnx_fail(x, ERR_UNSUPPORTED, "is not over the classes");
    onnx_same(x, v);
    return 0;
}

int onnx_constant_node(struct onnx *x)
{
    const Onnx__AttributeProto *tensor = onnx_attribute(x->node, "value"), *one = onnx_attribute(x->node, "value_int"),
                               *many = onnx_attribute(x->node, "value_ints");
    struct onnx_value *out = onnx_output(x, 0);
    if (tensor && tensor->t) {
        out->kind = ONNX_CONSTANT;
        out->tensor = tensor->t;
    } else if (one || (many && many->n_ints <= ONNX_INTS_MAX)) {
        out->kind = ONNX_INTS;
        out->scalar = one != NULL;
        out->int_count = one ? 1 : (int)many->n_ints;
        for (int i = 0; i < out->int_count; i++)
            out->ints[i] = one ? one->i : many->ints[i];
    } else {
        return onnx_fail(x, ERR_UNSUPPORTED, "only tensors and integers are read as constants");
    }
    return 0;
}

/* One value for all elements; what reads it takes one for as many as it needs. */
int onnx_constant_of_shape(struct onnx *x)
{
    const Onnx__AttributeProto *value = onnx_attribute(x->node, "value");
    struct onnx_value *out = onnx_output(x, 0);
    if (!value || !value->t || onnx_tensor_count(value->t, x->e) != 1)
        return onnx_fail(x, ERR_UNSUPPORTED, "has no value, or more than one");
    int64_t shape[ONNX_INTS_MAX];
    const int rank = onnx_read_ints(x, onnx_input(x, 0), shape, ONNX_INTS_MAX);
    if (rank < 0)
        return -1;
    out->kind = ONNX_CONSTANT;
    out->tensor = value->t;
    if (rank == 1 && shape[0] > 0 && shape[0] <= GRAPH_CHANNELS_MAX)
        out->repeat = (int)shape[0];
    return 0;
}

/* ---- views ---- */

/* [N, values]: in the order of C, H, W, or of no consequence because there is one pixel. */
static int flat(struct onnx *x, const struct onnx_value *v)
{
    const struct node *n = &x->net.graph.nodes[v->node];
    if (v->view == ONNX_NHWC && (n->h != 1 || n->w != 1))
        return onnx_fail(x, ERR_UNSUPPORTED, "flattens %dx%d pixels laid out [N, H, W, C]", n->w, n->h);
    onnx_same(x, v)->view = ONNX_FLAT;
    return 0;
}

int onnx_flatten(struct onnx *x)
{
    const struct onnx_value *v = onnx_activation(x, 0);
    if (!v)
        return -1;
    const int64_t axis = onnx_int(x->node, "axis", 1);
    if (axis != 1 && axis != (v->view == ONNX_FLAT ? -1 : -3))
        return onnx_fail(x, ERR_UNSUPPORTED, "axis %lld; only 1 is read", (long long)axis);
    return flat(x, v);
}

/* The dimensions of an activation as the source sees them; their number. */
static int dimensions(const struct onnx *x, const struct onnx_value *v, int64_t d[4])
{
    const struct node *n = &x->net.graph.nodes[v->node];
    d[0] = x->batch;
    if (v->view == ONNX_FLAT) {
        d[1] = (int64_t)n->c * n->h * n->w;
        return 2;
    }
    d[1] = v->view == ONNX_NCHW ? n->c : n->h;
    d[2] = v->view == ONNX_NCHW ? n->h : n->w;
    d[3] = v->view == ONNX_NCHW ? n->w : n->c;
    return 4;
}

int onnx_reshape(struct onnx *x)
{
    const struct onnx_value *v = onnx_input(x, 0);
    int64_t to[ONNX_INTS_MAX], from[4];
    const int count = onnx_read_ints(x, onnx_input(x, 1), to, ONNX_INTS_MAX);
    if (count < 0)
        return -1;
    if (v->kind == ONNX_INTS) {
        struct onnx_value *out = onnx_same(x, v);
        out->scalar = count == 0;
        out->columns = count == 2 && to[0] == -1 ? (int)to[1] : 0;
        if (count > 2 || (count == 1 && to[0] != -1 && to[0] != v->int_count) || (count == 2 && (to[0] != -1 || to[1] != 2)) ||
            (out->columns && v->int_count % out->columns))
            return onnx_fail(x, ERR_UNSUPPORTED, "integers become only a list or a table of two columns");
        return 0;
    }
    v = onnx_activation(x, 0);
    if (!v)
        return -1;
    const struct node *n = &x->net.graph.nodes[v->node];
    const int rank = dimensions(x, v, from);
    const int64_t values = (int64_t)n->c * n->h * n->w;
    int wild = 0, same = count == rank;
    for (int i = 0; i < count; i++) {
        if (to[i] == 0 && i < rank)
            to[i] = from[i];
        wild += to[i] == -1;
    }
    /* one -1 is whatever is left; two cannot be */
    const int64_t batch_or_wild = count > 0 && (to[0] == -1 || to[0] == x->batch);
    for (int i = 1; same && i < rank; i++)
        same = to[i] == from[i] || to[i] == -1;
    if (wild <= 1 && batch_or_wild && same) {
        onnx_same(x, v);
        return 0;
    }
    if (wild <= 1 && batch_or_wild && count == 2 && (to[1] == values || to[1] == -1))
        return flat(x, v);
    if (wild <= 1 && batch_or_wild && count == 4 && n->h == 1 && n->w == 1 && (to[1] == n->c || to[1] == -1) && to[2] == 1 &&
        to[3] == 1) {
        onnx_same(x, v)->view = ONNX_NCHW;
        return 0;
    }
    return onnx_fail(x, ERR_UNSUPPORTED, "only flattening to [N, values] is read, or back from there");
}

/* The axes of Squeeze and Unsqueeze: an attribute up to opset 12, an input since. Their number, 0 for none, -1. */
static int read_axes(struct onnx *x, int64_t axes[ONNX_INTS_MAX])
{
    const Onnx__AttributeProto *a = onnx_attribute(x->node, "axes");
    if (!a)
        return onnx_input(x, 1) ? onnx_read_ints(x, onnx_input(x, 1), axes, ONNX_INTS_MAX) : 0;
    if (a->n_ints > ONNX_INTS_MAX)
        return onnx_fail(x, ERR_UNSUPPORTED, "%zu axes", a->n_ints);
    for (size_t i = 0; i < a->n_ints; i++)
        axes[i] = a->ints[i];
    return (int)a->n_ints;
}

/* Bits of the axes, counted from the front in `rank` dimensions; bit 31 for one out of range. */
static unsigned axis_bits(const int64_t *axes, int count, int rank)
{
    unsigned bits = 0;
    for (int i = 0; i < count; i++)
        bits |= axes[i] >= -rank && axes[i] < rank ? 1u << ((axes[i] + rank) % rank) : 1u << 31;
    return bits;
}

int onnx_squeeze(struct onnx *x)
{
    const struct onnx_value *v = onnx_input(x, 0);
    int64_t axes[ONNX_INTS_MAX];
    const int count = read_axes(x, axes);
    if (count < 0)
        return -1;
    if (v->kind == ONNX_INTS) {
        onnx_same(x, v)->scalar = v->int_count == 1;
        return 0;
    }
    v = onnx_activation(x, 0);
    if (!v)
        return -1;
    const struct node *n = &x->net.graph.nodes[v->node];
    if (v->view == ONNX_FLAT || n->h != 1 || n->w != 1 || (count && axis_bits(axes, count, 4) != (v->view == ONNX_NCHW ? 12 : 6)))
        return onnx_fail(x, ERR_UNSUPPORTED, "only height and width of one pixel are squeezed away");
    return flat(x, v);
}

int onnx_unsqueeze(struct onnx *x)
{
    const struct onnx_value *v = onnx_input(x, 0);
    int64_t axes[ONNX_INTS_MAX];
    const int count = read_axes(x, axes);
    if (count < 0)
        return -1;
    if (v->kind == ONNX_INTS || v->kind == ONNX_CONSTANT) {
        int64_t ints[ONNX_INTS_MAX];
        const int n = onnx_read_ints(x, v, ints, ONNX_INTS_MAX);
        if (n < 0)
            return -1;
        if (count != 1 || axes[0] != 0)
            return onnx_fail(x, ERR_UNSUPPORTED, "integers are unsqueezed at axis 0 only");
        struct onnx_value *out = onnx_output(x, 0);
        out->kind = ONNX_INTS;
        out->int_count = n;
        memcpy(out->ints, ints, sizeof out->ints);
        return 0;
    }
    v = onnx_activation(x, 0);
    if (!v)
        return -1;
    const struct node *n = &x->net.graph.nodes[v->node];
    if (v->view != ONNX_FLAT || n->h != 1 || n->w != 1 || axis_bits(axes, count, 4) != 12)
        return onnx_fail(x, ERR_UNSUPPORTED, "only [N, C] becomes [N, C, 1, 1]");
    onnx_same(x, v)->view = ONNX_NCHW;
    return 0;
}

int onnx_transpose(struct onnx *x)
{
    const struct onnx_value *v = onnx_input(x, 0);
    const Onnx__AttributeProto *a = onnx_attribute(x->node, "perm");
    unsigned perm = 0; /* digits */
    for (size_t i = 0; a && i < a->n_ints && i < 5; i++)
        perm = perm * 10 + (unsigned)(a->ints[i] >= 0 && a->ints[i] < 5 ? a->ints[i] : 9);
    if (v->kind == ONNX_CONSTANT && v->tensor->n_dims == 2 && (!a || (a->n_ints == 2 && perm == 10))) {
        struct onnx_value *out = onnx_same(x, v);
        out->transposed = !v->transposed;
        return 0;
    }
    if (v->kind == ONNX_INTS && v->columns && perm == 10) {
        struct onnx_value *out = onnx_same(x, v);
        const int rows = v->int_count / v->columns;
        out->columns = rows;
        for (int i = 0; i < v->int_count; i++)
            out->ints[i % v->columns * rows + i / v->columns] = v->ints[i];
        return 0;
    }
    v = onnx_activation(x, 0);
    if (!v)
        return -1;
    const size_t rank = v->view == ONNX_FLAT ? 2 : 4;
    if (a && a->n_ints == rank && (perm == 1 || perm == 123)) {
        onnx_same(x, v);
        return 0;
    }
    if (!a || a->n_ints != 4 || !((v->view == ONNX_NHWC && perm == 312) || (v->view == ONNX_NCHW && perm == 231)))
        return onnx_fail(x, ERR_UNSUPPORTED, "only [N, H, W, C] to [N, C, H, W] and back are read");
    onnx_same(x, v)->view = v->view == ONNX_NHWC ? ONNX_NCHW : ONNX_NHWC;
    return 0;
}

/* ---- padding ---- */

int onnx_pad(struct onnx *x)
{
    const struct onnx_value *v = onnx_windowed(x, 0);
    const Onnx__AttributeProto *a = onnx_attribute(x->node, "pads");
    int64_t pads[ONNX_INTS_MAX];
    double value = onnx_float(x->node, "value", 0);
    int count = 0;
    if (!v)
        return -1;
    if (!onnx_string_is(x->node, "mode", "constant", "constant") || onnx_input(x, 3) || v->view != ONNX_NCHW)
        return onnx_fail(x, ERR_UNSUPPORTED, "only constant padding of [N, C, H, W] without axes is read");
    if (a && a->n_ints == 8)
        for (; count < 8; count++)
            pads[count] = a->ints[count];
    else if (onnx_input(x, 1))
        count = onnx_read_ints(x, onnx_input(x, 1), pads, 8);
    if (count != 8)
        return count < 0 ? -1 : onnx_fail(x, ERR_UNSUPPORTED, "pads has not 8 numbers");
    if (onnx_input(x, 2)) {
        const struct onnx_value *c = onnx_constant(x, 2);
        if (!c || onnx_tensor_scalar(c->tensor, &value, x->e) < 0)
            return c ? onnx_blame(x) : -1;
    }
    static const int places[4] = {2, 3, 6, 7}; /* of top, left, bottom, right; the others are N and C */
    const int lowest = value < -1e30, previous = v->padded && (v->pad[0] | v->pad[1] | v->pad[2] | v->pad[3]);
    if (!v->padded && value == 0 && !(pads[0] | pads[2] | pads[3] | pads[4] | pads[6] | pads[7]) && (pads[1] | pads[5]))
        return onnx_pad_channels(x, v, pads[1], pads[5]);
    if (pads[0] | pads[1] | pads[4] | pads[5] || (value != 0 && !lowest) || (previous && lowest != v->pad_lowest))
        return onnx_fail(x, ERR_UNSUPPORTED, "only height and width are padded, with 0 or, before a maximum, the lowest number");
    for (int i = 0; i < 4; i++)
        if (pads[places[i]] < 0 || pads[places[i]] > GRAPH_KERNEL_MAX - v->pad[i])
            return onnx_fail(x, ERR_UNSUPPORTED, "a padding of %lld", (long long)pads[places[i]]);
    struct onnx_value *out = onnx_same(x, v);
    for (int i = 0; i < 4; i++)
        out->pad[i] += (int)pads[places[i]];
    out->padded = 1;
    out->pad_lowest = lowest;
    return 0;
}

/* ---- integers ---- */

static int put_ints(struct onnx *x, const int64_t *ints, int count, int scalar)
{
    struct onnx_value *out = onnx_output(x, 0);
    out->kind = ONNX_INTS;
    out->int_count = count;
    out->scalar = scalar;
    for (int i = 0; i < count; i++)
        out->ints[i] = ints[i];
    return 0;
}

int onnx_shape(struct onnx *x)
{
    const struct onnx_value *v = onnx_activation(x, 0);
    int64_t d[4];
    if (!v)
        return -1;
    if (onnx_attribute(x->node, "start") || onnx_attribute(x->node, "end"))
        return onnx_fail(x, ERR_UNSUPPORTED, "start and end are not read");
    const int rank = dimensions(x, v, d);
    return put_ints(x, d, rank, 0);
}

int onnx_gather(struct onnx *x)
{
    const struct onnx_value *from = onnx_input(x, 0), *which = onnx_input(x, 1);
    int64_t data[ONNX_INTS_MAX], indices[ONNX_INTS_MAX], out[ONNX_INTS_MAX];
    if (from->kind != ONNX_INTS || onnx_int(x->node, "axis", 0) != 0)
        return onnx_fail(x, ERR_UNSUPPORTED, "only dimensions of a shape are gathered");
    const int n = onnx_read_ints(x, from, data, ONNX_INTS_MAX), count = onnx_read_ints(x, which, indices, ONNX_INTS_MAX);
    if (n < 0 || count < 0)
        return -1;
    for (int i = 0; i < count; i++) {
        if (indices[i] < -n || indices[i] >= n)
            return onnx_fail(x, ERR_DAMAGED, "index %lld of %d dimensions", (long long)indices[i], n);
        out[i] = data[(indices[i] + n) % n];
    }
    return put_ints(x, out, count, which->kind == ONNX_INTS ? which->scalar : which->tensor->n_dims == 0);
}

int onnx_concat(struct onnx *x)
{
    int64_t out[ONNX_INTS_MAX];
    int count = 0;
    for (size_t i = 0; i < x->node->n_input; i++) {
        const struct onnx_value *v = onnx_input(x, i);
        if (!v || v->kind == ONNX_ACTIVATION)
            return onnx_fail(x, ERR_UNSUPPORTED, "only shapes are concatenated; activations are not");
        const int n = onnx_read_ints(x, v, out + count, ONNX_INTS_MAX - count);
        if (n < 0)
            return -1;
        count += n;
    }
    return put_ints(x, out, count, 0);
}

// SPDX-License-Identifier: MIT
//
// onnx_layers.c - convolutions and dense layers with their weights, float or int8.

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "models/checkpoint/onnx_graph.h"

/* ---- weights ---- */

/* How a tensor of weights is laid out: [o][i][pixels], or [i][pixels][o] with swap. Ours is [o][pixels][i]. */
struct layout {
    size_t o, i, pixels;
    int swap;
};

static void reorder(const struct layout *l, size_t size, const char *from, char *to)
{
    const size_t depth = l->i * l->pixels;
    for (size_t o = 0; o < l->o; o++)
        for (size_t i = 0; i < l->i; i++)
            for (size_t p = 0; p < l->pixels; p++) {
                const size_t k = i * l->pixels + p;
                memcpy(to + ((o * l->pixels + p) * l->i + i) * size, from + (l->swap ? k * l->o + o : o * depth + k) * size,
                       size);
            }
}

void onnx_limit_weights(struct onnx *x, int8_t *w, int64_t channels, int64_t depth)
{
    for (int64_t o = 0; o < channels; o++, w += depth)
        for (int64_t i = 0, seen = 0; i < depth; i++)
            if (w[i] == -128 && seen++) {
                w[i] = -127;
                x->clamped++;
            }
}

/* Bias of a float layer: as many values as channels, or one for all. */
static int float_bias(struct onnx *x, const struct onnx_value *bias, int channels, float *out)
{
    float *v;
    const int64_t count = onnx_read_floats(x, bias, channels, &v);
    if (count < 0)
        return -1;
    for (int o = 0; o < channels && (count == channels || count == 1); o++)
        out[o] = v[count == 1 ? 0 : o];
    free(v);
    return count == channels || count == 1
               ? 0
               : onnx_fail(x, ERR_DAMAGED, "a bias of %lld values for %d channels", (long long)count, channels);
}

/* Integers of a bias stand for q * s; ours are in units of input scale * weight scale, which is what s should be. */
static int int8_bias(struct onnx *x, const struct onnx_value *bias, const struct layer *l, float in_scale, int channels)
{
    const int integers = bias->tensor->data_type == ONNX__TENSOR_PROTO__DATA_TYPE__INT32;
    float *real = malloc((size_t)channels * sizeof *real), *scales = malloc((size_t)channels * sizeof *scales);
    int64_t *q = malloc((size_t)channels * sizeof *q);
    int bad = real && scales && q ? 0 : onnx_fail(x, ERR_MEMORY, "no memory for a bias");
    if (!bad && integers) {
        const int64_t count = onnx_tensor_count(bias->tensor, x->e);
        if (count != channels)
            bad = count < 0 ? onnx_blame(x)
                            : onnx_fail(x, ERR_DAMAGED, "a bias of %lld values for %d channels", (long long)count, channels);
        else
            bad = onnx_tensor_ints(bias->tensor, q, x->e) < 0 ? onnx_blame(x) : 0;
        if (!bad && bias->stage == ONNX_DEQUANTISED)
            bad = onnx_scales(x, bias, 0, channels, scales);
    } else if (!bad) {
        bad = float_bias(x, bias, channels, real);
    }
    for (int o = 0; o < channels && !bad; o++) {
        const double unit = (double)in_scale * (double)l->scale[o];
        double v = integers ? (double)q[o] : rint((double)real[o] / unit);
        if (integers && bias->stage == ONNX_DEQUANTISED && fabs((double)scales[o] / unit - 1) > 1e-4)
            v = rint(v * ((double)scales[o] / unit));
        if (!(fabs(v) <= INT32_MAX))
            bad = onnx_fail(x, ERR_UNSUPPORTED, "channel %d: the bias does not fit 32 bits", o);
        else
            l->bias_s32[o] = (int32_t)v;
    }
    free(real);
    free(scales);
    free(q);
    return bad;
}

/* Memory for the layer of a node. */
static struct layer *new_layer(struct onnx *x, int node)
{
    struct layer *l = &x->net.layers[node];
    const size_t channels = (size_t)x->net.graph.nodes[node].c;
    const int64_t count = node_weights(&x->net.graph, node);
    if (count > GRAPH_WEIGHTS_MAX) {
        onnx_fail(x, ERR_TOO_LARGE, "%lld weights, the limit is %lld", (long long)count, GRAPH_WEIGHTS_MAX);
        return NULL;
    }
    l->weight = malloc((size_t)count * weight_bytes(x->net.precision));
    l->scale = x->int8 ? malloc(channels * sizeof *l->scale) : NULL;
    l->bias = x->int8 ? NULL : calloc(channels, sizeof *l->bias);
    l->bias_s32 = x->int8 ? calloc(channels, sizeof *l->bias_s32) : NULL;
    if (!l->weight || (x->int8 ? !l->scale || !l->bias_s32 : !l->bias)) {
        onnx_fail(x, ERR_MEMORY, "no memory for %lld weights", (long long)count);
        return NULL;
    }
    return l;
}

/* The node's shape is known. */
static int read_weights(struct onnx *x, int node, const struct onnx_value *w, const struct onnx_value *bias,
                        const struct layout *layout)
{
    struct layer *l = new_layer(x, node);
    if (!l)
        return -1;
    const int channels = x->net.graph.nodes[node].c;
    const int64_t count = node_weights(&x->net.graph, node);
    void *stored = NULL;
    int bad = 0;
    if (x->int8 && w->stage != ONNX_DEQUANTISED) {
        bad = onnx_fail(x, ERR_UNSUPPORTED, "its weights are floats in a quantised graph");
    } else if (x->int8) {
        stored = malloc((size_t)count);
        bad = stored ? onnx_integers(x, w, count, stored) : onnx_fail(x, ERR_MEMORY, "no memory for its weights");
        if (!bad)
            bad = onnx_scales(x, w, layout->swap != w->transposed, channels, l->scale);
    } else {
        float *floats = NULL;
        const int64_t n = onnx_read_floats(x, w, count, &floats);
        stored = floats;
        bad = n < 0 ? -1 : 0;
        if (!bad && n != count)
            bad = onnx_fail(x, ERR_DAMAGED, "%lld weights, expected %lld", (long long)n, (long long)count);
    }
    if (!bad) {
        struct layout l2 = *layout;
        l2.swap = layout->swap != w->transposed;
        reorder(&l2, weight_bytes(x->net.precision), stored, l->weight);
        if (x->int8)
            onnx_limit_weights(x, l->weight, channels, count / channels);
    }
    free(stored);
    if (bad || !bias)
        return bad;
    return x->int8 ? int8_bias(x, bias, l, x->net.quants[x->net.graph.nodes[node].in[0]].scale, channels)
                   : float_bias(x, bias, channels, l->bias);
}

/* Channels that share a group: tiles of matrix products are this wide, so zeros between them cost less than tiles with one
 * column. */
#define TOGETHER 16

int onnx_depthwise(struct onnx *x, const struct onnx_value *v, int kernel_h, int kernel_w, double weight, int integer)
{
    if (onnx_settled(x, v) < 0)
        return -1;
    const int node = onnx_add_node(x, OP_CONV, v->node, -1);
    if (node < 0)
        return -1;
    struct node *n = &x->net.graph.nodes[node];
    const int together = n->c % TOGETHER ? 1 : TOGETHER;
    n->groups = n->c / together;
    n->kernel_h = kernel_h;
    n->kernel_w = kernel_w;
    x->extra[node].helper = 1;
    const struct layer *l = new_layer(x, node);
    if (!l)
        return -1;
    memset(l->weight, 0, (size_t)node_weights(&x->net.graph, node) * weight_bytes(x->net.precision));
    for (int o = 0; o < n->c; o++) {
        for (int p = 0; p < kernel_h * kernel_w; p++) {
            const size_t at = ((size_t)o * (size_t)(kernel_h * kernel_w) + (size_t)p) * (size_t)together + (size_t)(o % together);
            if (x->int8)
                ((int8_t *)l->weight)[at] = (int8_t)integer;
            else
                ((float *)l->weight)[at] = (float)weight;
        }
        if (x->int8)
            l->scale[o] = (float)(weight / integer);
    }
    return node;
}

/* ---- convolution ---- */

static int check_shape(struct onnx *x, const struct onnx_value *w, int in_c, int64_t groups)
{
    const Onnx__TensorProto *t = w->tensor;
    if (onnx_tensor_count(t, x->e) < 0)
        return onnx_blame(x);
    if (t->n_dims != 4 || w->transposed)
        return onnx_fail(x, ERR_UNSUPPORTED, "its weights have %zu dimensions; convolutions here have 4", t->n_dims);
    for (int i = 0; i < 4; i++)
        if (t->dims[i] < 1 || t->dims[i] > (i < 2 ? GRAPH_CHANNELS_MAX : GRAPH_KERNEL_MAX))
            return onnx_fail(x, ERR_TOO_LARGE, "dimension %d of its weights is %lld, out of range", i, (long long)t->dims[i]);
    if (groups < 1 || groups > GRAPH_CHANNELS_MAX || t->dims[1] * groups != in_c || t->dims[0] % groups)
        return onnx_fail(x, ERR_DAMAGED, "weights of %lld channels in %lld groups, the layer before it gives %d",
                         (long long)t->dims[1], (long long)groups, in_c);
    const Onnx__AttributeProto *kernel = onnx_attribute(x->node, "kernel_shape");
    if (kernel && (kernel->n_ints != 2 || kernel->ints[0] != t->dims[2] || kernel->ints[1] != t->dims[3]))
        return onnx_fail(x, ERR_DAMAGED, "kernel_shape is not that of its weights");
    return 0;
}

int onnx_convolve(struct onnx *x, const struct onnx_value *v, const struct onnx_value *w, const struct onnx_value *bias)
{
    const int64_t groups = onnx_int(x->node, "group", 1);
    if (v->view != ONNX_NCHW)
        return onnx_fail(x, ERR_UNSUPPORTED, "its input is not laid out [N, C, H, W]");
    if (v->padded && v->pad_lowest)
        return onnx_fail(x, ERR_UNSUPPORTED, "its input is padded with something else than 0");
    if (check_shape(x, w, x->net.graph.nodes[v->node].c, groups) < 0)
        return -1;
    const int64_t *d = w->tensor->dims;
    const int node = onnx_add_node(x, OP_CONV, v->node, -1);
    if (node < 0)
        return -1;
    struct node *n = &x->net.graph.nodes[node];
    n->c = (int)d[0];
    n->kernel_h = (int)d[2];
    n->kernel_w = (int)d[3];
    n->groups = (int)groups;
    const struct layout layout = {(size_t)d[0], (size_t)d[1], (size_t)(d[2] * d[3]), 0};
    return onnx_window_attributes(x, node) < 0 || onnx_window(x, node, v) < 0 || read_weights(x, node, w, bias, &layout) < 0
               ? -1
               : node;
}

/* An optional input that must be a constant where it is there. */
static int optional_constant(struct onnx *x, size_t i, const struct onnx_value **out)
{
    *out = onnx_input(x, i);
    return !*out || onnx_constant(x, i) ? 0 : -1;
}

int onnx_conv(struct onnx *x)
{
    const struct onnx_value *v = onnx_windowed(x, 0), *w = v ? onnx_constant(x, 1) : NULL, *bias;
    if (!w || optional_constant(x, 2, &bias) < 0 || onnx_settled(x, v) < 0)
        return -1;
    return onnx_computed(x, onnx_convolve(x, v, w, bias), ONNX_NCHW);
}

/* ---- dense ---- */

int onnx_dense(struct onnx *x, const struct onnx_value *v, const struct onnx_value *w, const struct onnx_value *bias, int swap)
{
    const struct node in = x->net.graph.nodes[v->node];
    const Onnx__TensorProto *t = w->tensor;
    if (v->view != ONNX_FLAT)
        return onnx_fail(x, ERR_UNSUPPORTED, "its input is not of shape [N, values]");
    if (onnx_tensor_count(t, x->e) < 0)
        return onnx_blame(x);
    if (t->n_dims != 2)
        return onnx_fail(x, ERR_UNSUPPORTED, "its weights have %zu dimensions, not 2", t->n_dims);
    const int stored_swap = swap != w->transposed;
    const int64_t outputs = t->dims[stored_swap ? 1 : 0], inputs = t->dims[stored_swap ? 0 : 1];
    if (inputs != (int64_t)in.h * in.w * in.c || outputs < 1 || outputs > GRAPH_CHANNELS_MAX)
        return onnx_fail(x, ERR_DAMAGED, "weights for %lld values and %lld results, the layer before it gives %lld",
                         (long long)inputs, (long long)outputs, (long long)in.h * in.w * in.c);
    if (in.h > GRAPH_KERNEL_MAX || in.w > GRAPH_KERNEL_MAX)
        return onnx_fail(x, ERR_UNSUPPORTED, "a dense layer over %dx%d pixels", in.w, in.h);
    /* over pixels it is a convolution with a window of all of them */
    const int node = onnx_add_node(x, in.h * in.w == 1 ? OP_DENSE : OP_CONV, v->node, -1);
    if (node < 0)
        return -1;
    struct node *n = &x->net.graph.nodes[node];
    n->c = (int)outputs;
    n->kernel_h = in.h;
    n->kernel_w = in.w;
    n->h = n->w = 1;
    const struct layout layout = {(size_t)outputs, (size_t)in.c, (size_t)in.h * (size_t)in.w, swap};
    return read_weights(x, node, w, bias, &layout) < 0 ? -1 : node;
}

/* alpha A B + beta C */
int onnx_gemm(struct onnx *x)
{
    const struct onnx_value *v = onnx_activation(x, 0), *w = v ? onnx_constant(x, 1) : NULL, *bias;
    if (!w || optional_constant(x, 2, &bias) < 0 || onnx_settled(x, v) < 0)
        return -1;
    const double alpha = onnx_float(x->node, "alpha", 1), beta = onnx_float(x->node, "beta", 1);
    if (onnx_int(x->node, "transA", 0))
        return onnx_fail(x, ERR_UNSUPPORTED, "transA is not read");
    if (x->int8 && (alpha != 1 || (beta != 1 && bias)))
        return onnx_fail(x, ERR_UNSUPPORTED, "alpha and beta must be 1 in a quantised graph");
    const int node = onnx_dense(x, v, w, bias, !onnx_int(x->node, "transB", 0));
    if (node < 0)
        return -1;
    const int64_t count = node_weights(&x->net.graph, node);
    const struct layer *l = &x->net.layers[node];
    for (int64_t i = 0; alpha != 1 && i < count; i++)
        ((float *)l->weight)[i] = (float)(((float *)l->weight)[i] * alpha);
    for (int o = 0; beta != 1 && bias && o < x->net.graph.nodes[node].c; o++)
        l->bias[o] = (float)(l->bias[o] * beta);
    return onnx_computed(x, node, ONNX_FLAT);
}

int onnx_matmul(struct onnx *x)
{
    const struct onnx_value *v = onnx_activation(x, 0), *w = v ? onnx_constant(x, 1) : NULL;
    if (!w || onnx_settled(x, v) < 0)
        return -1;
    return onnx_computed(x, onnx_dense(x, v, w, NULL, 1), ONNX_FLAT);
}

// SPDX-License-Identifier: MIT
//
// onnx_write_layer.c - weights and scales as initialisers. Ours are [O][KH][KW][I/groups], those of ONNX [O][I/groups][KH][KW].

#include <string.h>

#include "kernels/half.h"
#include "models/checkpoint/onnx_write_graph.h"

enum {
    F32 = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT,
    U8 = ONNX__TENSOR_PROTO__DATA_TYPE__UINT8,
    S8 = ONNX__TENSOR_PROTO__DATA_TYPE__INT8,
    S32 = ONNX__TENSOR_PROTO__DATA_TYPE__INT32
};

uint64_t onnx_layer_bytes(const struct network *n, int node)
{
    const uint64_t weights = (uint64_t)node_weights(&n->graph, node), channels = (uint64_t)n->graph.nodes[node].c;
    if (node_precision(&n->graph.nodes[node], n->precision) == PRECISION_INT8)
        return weights +
               channels * (sizeof(float) + 1 /* scale and zero point of the weights */ + sizeof(int32_t) + sizeof(float));
    return (weights + channels) * sizeof(float);
}

struct order { /* of one output channel's weights */
    size_t pixels, depth;
};

static void copy_int8(const struct layer *l, size_t channels, const struct order *o, int8_t *to)
{
    const int8_t *from = l->weight;
    for (size_t c = 0; c < channels; c++, from += o->pixels * o->depth)
        for (size_t i = 0; i < o->depth; i++)
            for (size_t p = 0; p < o->pixels; p++)
                *to++ = from[p * o->depth + i];
}

static float weight_at(enum precision precision, const struct layer *l, size_t channel, size_t index)
{
    if (precision == PRECISION_FP16)
        return half_to_float(((const uint16_t *)l->weight)[index]);
    if (precision == PRECISION_HYBRID)
        return (float)((const int8_t *)l->weight)[index] * l->scale[channel];
    return ((const float *)l->weight)[index];
}

static void copy_float(enum precision precision, const struct layer *l, size_t channels, const struct order *o, float *to)
{
    for (size_t c = 0; c < channels; c++)
        for (size_t i = 0; i < o->depth; i++)
            for (size_t p = 0; p < o->pixels; p++)
                *to++ = weight_at(precision, l, c, (c * o->pixels + p) * o->depth + i);
}

/* What DequantizeLinear makes of an initialiser with one scale per output channel, which the caller fills. */
static const char *dequantised(struct onnx_build *b, const char *name, int type, int rank, const int64_t *dims, void **data,
                               float **scales)
{
    const char *integers = onnx_put_text(b, "%s/quantized", name), *scale = onnx_put_text(b, "%s/scale", name),
               *zero = onnx_put_text(b, "%s/zero_point", name);
    *data = onnx_put_tensor(b, integers, type, rank, dims);
    *scales = onnx_put_tensor(b, scale, F32, 1, dims);
    if (type == S8) /* that of int32 is 0 by definition */
        onnx_put_tensor(b, zero, type, 1, dims);
    Onnx__NodeProto *n =
        onnx_put_node(b, "DequantizeLinear", name, (const char *[]){integers, scale, type == S8 ? zero : NULL, NULL}, name);
    onnx_put_int(b, n, "axis", 0);
    return b->failed ? NULL : name;
}

static void put_int8(struct onnx_build *b, const struct network *n, int node, int rank, const int64_t *dims,
                     const struct order *o, const char **weight, const char **bias)
{
    const struct layer *l = &n->layers[node];
    const size_t channels = (size_t)dims[0];
    const float in = n->quants[n->graph.nodes[node].in[0]].scale;
    void *data;
    float *scales;
    *weight = dequantised(b, *weight, S8, rank, dims, &data, &scales);
    if (*weight) {
        copy_int8(l, channels, o, data);
        memcpy(scales, l->scale, channels * sizeof *scales);
    }
    *bias = dequantised(b, *bias, S32, 1, dims, &data, &scales);
    if (!*bias)
        return;
    memcpy(data, l->bias_s32, channels * sizeof *l->bias_s32);
    for (size_t c = 0; c < channels; c++)
        scales[c] = in * l->scale[c];
}

void onnx_put_layer(struct onnx_build *b, const struct network *n, int node, int flat, const char **weight, const char **bias)
{
    const struct node *v = &n->graph.nodes[node];
    const struct layer *l = &n->layers[node];
    const struct order o = {(size_t)v->kernel_h * (size_t)v->kernel_w, (size_t)(n->graph.nodes[v->in[0]].c / v->groups)};
    const int64_t dims[4] = {v->c, (int64_t)o.depth, v->kernel_h, v->kernel_w};
    const int rank = flat ? 2 : 4;
    *weight = onnx_put_text(b, "%s/weight", v->name);
    *bias = onnx_put_text(b, "%s/bias", v->name);
    const enum precision precision = node_precision(v, n->precision);
    if (precision == PRECISION_INT8) {
        put_int8(b, n, node, rank, dims, &o, weight, bias);
        return;
    }
    float *w = onnx_put_tensor(b, *weight, F32, rank, dims), *at = onnx_put_tensor(b, *bias, F32, 1, dims);
    if (b->failed)
        return;
    copy_float(precision, l, (size_t)v->c, &o, w);
    memcpy(at, l->bias, (size_t)v->c * sizeof *at);
}

void onnx_put_quant(struct onnx_build *b, const char *node, struct quant q, const char **scale, const char **zero)
{
    *scale = onnx_put_text(b, "%s/scale", node);
    *zero = onnx_put_text(b, "%s/zero_point", node);
    float *s = onnx_put_tensor(b, *scale, F32, 0, NULL);
    uint8_t *z = onnx_put_tensor(b, *zero, U8, 0, NULL);
    if (b->failed)
        return;
    *s = q.scale;
    *z = (uint8_t)(q.zero + 128);
}

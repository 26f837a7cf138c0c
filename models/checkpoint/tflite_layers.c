// SPDX-License-Identifier: MIT
//
// The operators that become nodes. What each takes is checked to the last attribute, because what is not understood would be
// computed wrongly.

#include <math.h>
#include <stdlib.h>

#include "models/checkpoint/tflite_operators.h"

/* Numbers of the schema. */
enum { PADDING_SAME, PADDING_VALID };
enum { ACTIVATION_NONE, ACTIVATION_RELU, ACTIVATION_RELU6 = 3 };

/* ---- activations */

int tflite_read_tensor(const struct tflite_reader *r, int32_t index, struct tflite_tensor *t, struct err *e)
{
    return tflite_tensor(&r->tensors, &r->buffers, index, t, e);
}

int tflite_same_quant(struct quant a, struct quant b)
{
    return a.scale == b.scale && a.zero == b.zero;
}

int tflite_take_input(struct tflite_reader *r, const struct tflite_operation *o, int k, int padded, struct tflite_tensor *t,
                      struct tflite_value *v, struct err *e)
{
    if (tflite_read_tensor(r, o->in[k], t, e))
        return -1;
    *v = r->values[o->in[k]];
    if (v->node < 0)
        return err_set(e, ERR_UNSUPPORTED, "its input, tensor %d, is a constant or not computed before it", o->in[k]);
    if (v->end)
        return err_set(e, ERR_UNSUPPORTED, "comes behind the end of the network");
    if (!padded && (v->pad_top | v->pad_left | v->pad_bottom | v->pad_right))
        return err_set(e, ERR_UNSUPPORTED, "follows a PAD; only convolutions and maxima take padding over");
    if (t->type == TFLITE_U8)
        return err_set(e, ERR_UNSUPPORTED, "works on uint8: networks of the older quantisation to uint8 are not read");
    if (t->type != TFLITE_F32 && t->type != TFLITE_I8)
        return err_set(e, ERR_UNSUPPORTED, "works on type %d; float and int8 are read", t->type);
    const enum precision p = t->type == TFLITE_I8 ? PRECISION_INT8 : PRECISION_FP32;
    if (r->typed && r->net->precision != p)
        return err_set(e, ERR_UNSUPPORTED, "works on %s in a network of %s", p == PRECISION_INT8 ? "int8" : "float",
                       p == PRECISION_INT8 ? "float" : "int8");
    r->typed = 1;
    r->net->precision = p;
    return 0;
}

int tflite_take_output(const struct tflite_reader *r, const struct tflite_operation *o, struct tflite_tensor *t, struct err *e)
{
    const struct tflite_value *v = &r->values[o->out];
    if (tflite_read_tensor(r, o->out, t, e))
        return -1;
    if (v->node >= 0 || v->constant || t->data)
        return err_set(e, ERR_DAMAGED, "its output, tensor %d, has a value already", o->out);
    return 0;
}

/* The node that computes the operator's output, with its quantisation. Names are the operator's number in the file. */
static struct node *add_node(struct tflite_reader *r, const struct tflite_operation *o, enum op op, int in0, int in1,
                             struct err *e)
{
    struct tflite_tensor t;
    if (tflite_take_output(r, o, &t, e))
        return NULL;
    if (t.type != (r->net->precision == PRECISION_INT8 ? TFLITE_I8 : TFLITE_F32)) {
        err_set(e, ERR_UNSUPPORTED, "its output is of type %d, not of that of its input", t.type);
        return NULL;
    }
    const int index = r->net->graph.count;
    if (t.type == TFLITE_I8 && tflite_quant(&t, &r->net->quants[index], e))
        return NULL;
    struct node *n = graph_add(&r->net->graph, op, "%s%u", op_name(op), o->index);
    if (!n) {
        err_set(e, ERR_MEMORY, "no memory for the graph");
        return NULL;
    }
    n->in[0] = in0;
    n->in[1] = in1;
    r->values[o->out].node = index;
    return n;
}

int tflite_check_kept(const struct tflite_reader *r, const struct tflite_tensor *in, int32_t out, struct err *e)
{
    struct tflite_tensor t;
    struct quant a, b;
    if (r->net->precision != PRECISION_INT8)
        return 0;
    if (tflite_read_tensor(r, out, &t, e) || tflite_quant(in, &a, e) || tflite_quant(&t, &b, e))
        return -1;
    return tflite_same_quant(a, b) ? 0 : err_set(e, ERR_UNSUPPORTED, "its output has another scale or zero point than its input");
}

/* The clamp of RELU6 at 6 must lie at or beyond the largest value there is: then it is RELU. */
static int activation(const struct tflite_reader *r, struct node *n, int8_t fused, struct err *e)
{
    const struct quant q = r->net->quants[r->net->graph.count - 1];
    const int int8 = r->net->precision == PRECISION_INT8;
    if (fused == ACTIVATION_RELU6 && !(int8 && (float)q.zero + roundf(6 / q.scale) >= 127))
        return err_set(e, ERR_UNSUPPORTED, "ends with RELU6, which would clip: RELU and none are read");
    if (fused != ACTIVATION_NONE && fused != ACTIVATION_RELU && fused != ACTIVATION_RELU6)
        return err_set(e, ERR_UNSUPPORTED, "ends with activation %d; RELU and none are read", fused);
    n->relu = fused != ACTIVATION_NONE;
    return 0;
}

/* ---- windows */

/* What SAME adds to the padding of one axis: at most half of it before, so that all windows of ceil(in / stride) fit. */
static int side(int in, int kernel, int stride, int8_t padding, int *before, int *after)
{
    const int out = padding == PADDING_SAME ? (in + stride - 1) / stride : 0;
    const int64_t need = (int64_t)(out - 1) * stride + kernel - in, all = padding == PADDING_SAME && need > 0 ? need : 0;
    if (all >= 2 * GRAPH_KERNEL_MAX)
        return -1;
    *before += (int)(all / 2);
    *after += (int)(all - all / 2);
    return 0;
}

/* Stride and padding of a window whose kernel is set, on what tensor t holds; SAME pads less before than after. */
static int window(struct node *n, const struct tflite_tensor *t, const struct tflite_value *v, int8_t padding, int32_t stride_h,
                  int32_t stride_w, struct err *e)
{
    int h, w, c;
    if (tflite_image(t, &h, &w, &c, e))
        return -1;
    if (padding != PADDING_SAME && padding != PADDING_VALID)
        return err_set(e, ERR_UNSUPPORTED, "has padding %d; SAME and VALID are read", padding);
    if (stride_h < 1 || stride_w < 1 || stride_h > GRAPH_KERNEL_MAX || stride_w > GRAPH_KERNEL_MAX)
        return err_set(e, ERR_INPUT, "has strides %d and %d, must be 1 to %d", stride_h, stride_w, GRAPH_KERNEL_MAX);
    n->stride_h = stride_h;
    n->stride_w = stride_w;
    n->pad_top = v->pad_top;
    n->pad_left = v->pad_left;
    n->pad_bottom = v->pad_bottom;
    n->pad_right = v->pad_right;
    if (side(h, n->kernel_h, stride_h, padding, &n->pad_top, &n->pad_bottom) ||
        side(w, n->kernel_w, stride_w, padding, &n->pad_left, &n->pad_right))
        return err_set(e, ERR_INPUT, "has a kernel too large for its input");
    return 0;
}

/* ---- layers with weights */

/* A constant, or what DEQUANTIZE makes of one. */
static int read_constant(struct tflite_reader *r, int32_t index, struct tflite_tensor *t, struct err *e)
{
    if (index >= 0 && (uint32_t)index < r->tensors.count && r->values[index].constant)
        index = r->values[index].constant - 1;
    return tflite_read_tensor(r, index, t, e);
}

static int fill_layer(struct tflite_reader *r, const struct tflite_operation *o, const struct tflite_tensor *weights, int in,
                      int channels, struct err *e)
{
    const int index = r->net->graph.count - 1;
    struct layer *l = &r->net->layers[index];
    struct tflite_tensor bias;
    const int has_bias = o->in[2] != -1;
    if (has_bias && read_constant(r, o->in[2], &bias, e))
        return -1;
    if (r->net->precision == PRECISION_INT8) {
        int8_t *w;
        if (tflite_weights_s8(weights, channels, &w, &l->scale, e))
            return -1;
        l->weight = w;
        return tflite_bias(has_bias ? &bias : NULL, channels, l->scale, r->net->quants[in], r->net->quants[index], &l->bias_s32,
                           e);
    }
    float *w;
    if (tflite_floats(weights, channels, &w, e))
        return -1;
    l->weight = w;
    if (has_bias)
        return bias.count == channels ? tflite_floats(&bias, channels, &l->bias, e)
                                      : err_set(e, ERR_INPUT, "has %lld biases for %d channels", (long long)bias.count, channels);
    l->bias = calloc((size_t)channels, sizeof *l->bias);
    return l->bias ? 0 : err_set(e, ERR_MEMORY, "no memory for %d biases", channels);
}

int tflite_read_conv(struct tflite_reader *r, const struct tflite_operation *o, struct err *e)
{
    enum { PADDING, STRIDE_W, STRIDE_H, ACTIVATION, DILATION_W, DILATION_H };
    struct tflite_tensor x, w;
    struct tflite_value v;
    int h, wide, c;
    if (tflite_take_input(r, o, 0, 1, &x, &v, e) || tflite_image(&x, &h, &wide, &c, e))
        return -1;
    if (read_constant(r, o->in[1], &w, e))
        return -1;
    if (w.rank != 4 || w.shape[1] > GRAPH_KERNEL_MAX || w.shape[2] > GRAPH_KERNEL_MAX || c % w.shape[3])
        return err_set(e, ERR_INPUT, "its weights are not [o, h, w, i] with sides up to %d and i dividing %d channels",
                       GRAPH_KERNEL_MAX, c);
    if (fb_int32(&o->options, DILATION_W, 1) != 1 || fb_int32(&o->options, DILATION_H, 1) != 1)
        return err_set(e, ERR_UNSUPPORTED, "is dilated");
    struct node *n = add_node(r, o, OP_CONV, v.node, -1, e);
    if (!n)
        return -1;
    n->kernel_h = w.shape[1];
    n->kernel_w = w.shape[2];
    n->groups = c / w.shape[3];
    n->c = w.shape[0];
    n->keep_output = r->net->precision == PRECISION_INT8;
    if (window(n, &x, &v, fb_int8(&o->options, PADDING, 0), fb_int32(&o->options, STRIDE_H, 0),
               fb_int32(&o->options, STRIDE_W, 0), e) ||
        activation(r, n, fb_int8(&o->options, ACTIVATION, 0), e))
        return -1;
    return fill_layer(r, o, &w, v.node, n->c, e);
}

int tflite_read_dense(struct tflite_reader *r, const struct tflite_operation *o, struct err *e)
{
    enum { ACTIVATION, WEIGHTS_FORMAT };
    struct tflite_tensor x, w;
    struct tflite_value v;
    int h, wide, c;
    if (tflite_take_input(r, o, 0, 0, &x, &v, e) || tflite_image(&x, &h, &wide, &c, e))
        return -1;
    if (h != 1 || wide != 1)
        return err_set(e, ERR_UNSUPPORTED, "takes %dx%d pixels; only 1x1 are read", h, wide);
    if (read_constant(r, o->in[1], &w, e))
        return -1;
    if (w.rank != 2 || w.shape[1] != c)
        return err_set(e, ERR_INPUT, "its weights are not [classes, %d]", c);
    if (fb_int8(&o->options, WEIGHTS_FORMAT, 0) != 0)
        return err_set(e, ERR_UNSUPPORTED, "its weights are shuffled");
    struct node *n = add_node(r, o, OP_DENSE, v.node, -1, e);
    if (!n)
        return -1;
    n->c = w.shape[0];
    n->keep_output = r->net->precision == PRECISION_INT8;
    return activation(r, n, fb_int8(&o->options, ACTIVATION, 0), e) ? -1 : fill_layer(r, o, &w, v.node, n->c, e);
}

/* ---- the others */

int tflite_read_add(struct tflite_reader *r, const struct tflite_operation *o, struct err *e)
{
    struct tflite_tensor a, b;
    struct tflite_value va, vb;
    if (tflite_take_input(r, o, 0, 0, &a, &va, e) || tflite_take_input(r, o, 1, 0, &b, &vb, e))
        return -1;
    struct node *n = add_node(r, o, OP_ADD, va.node, vb.node, e);
    return n ? activation(r, n, fb_int8(&o->options, 0, 0), e) : -1;
}

enum { POOL_PADDING, POOL_STRIDE_W, POOL_STRIDE_H, POOL_WIDTH, POOL_HEIGHT, POOL_ACTIVATION };

int tflite_read_maxpool(struct tflite_reader *r, const struct tflite_operation *o, struct err *e)
{
    struct tflite_tensor x;
    struct tflite_value v;
    if (tflite_take_input(r, o, 0, 1, &x, &v, e) || tflite_check_kept(r, &x, o->out, e))
        return -1;
    /* Zeros that PAD adds may win against negative values; padding of a maximum never does. */
    if ((v.pad_top | v.pad_left | v.pad_bottom | v.pad_right) && !r->net->graph.nodes[v.node].relu)
        return err_set(e, ERR_UNSUPPORTED, "follows a PAD of values that may be negative");
    if (fb_int8(&o->options, POOL_ACTIVATION, 0) != ACTIVATION_NONE)
        return err_set(e, ERR_UNSUPPORTED, "ends with an activation");
    struct node *n = add_node(r, o, OP_MAXPOOL, v.node, -1, e);
    if (!n)
        return -1;
    n->kernel_h = fb_int32(&o->options, POOL_HEIGHT, 0);
    n->kernel_w = fb_int32(&o->options, POOL_WIDTH, 0);
    if (n->kernel_h < 1 || n->kernel_w < 1 || n->kernel_h > GRAPH_KERNEL_MAX || n->kernel_w > GRAPH_KERNEL_MAX)
        return err_set(e, ERR_INPUT, "has a window of %dx%d, sides must be 1 to %d", n->kernel_h, n->kernel_w, GRAPH_KERNEL_MAX);
    return window(n, &x, &v, fb_int8(&o->options, POOL_PADDING, 0), fb_int32(&o->options, POOL_STRIDE_H, 0),
                  fb_int32(&o->options, POOL_STRIDE_W, 0), e);
}

/* One window over the whole image: with SAME too there is nothing to pad then. */
int tflite_read_avgpool(struct tflite_reader *r, const struct tflite_operation *o, struct err *e)
{
    struct tflite_tensor x;
    struct tflite_value v;
    int h, w, c;
    if (tflite_take_input(r, o, 0, 0, &x, &v, e) || tflite_image(&x, &h, &w, &c, e) || tflite_check_kept(r, &x, o->out, e))
        return -1;
    if (fb_int32(&o->options, POOL_HEIGHT, 0) != h || fb_int32(&o->options, POOL_WIDTH, 0) != w)
        return err_set(e, ERR_UNSUPPORTED, "its window does not cover all %dx%d pixels", h, w);
    if (fb_int8(&o->options, POOL_ACTIVATION, 0) != ACTIVATION_NONE)
        return err_set(e, ERR_UNSUPPORTED, "ends with an activation");
    return add_node(r, o, OP_AVGPOOL, v.node, -1, e) ? 0 : -1;
}

/* A mean that keeps its scale would be computed as AVERAGE_POOL_2D is (kernels/tflite.h), which rounds otherwise. */
int tflite_read_mean(struct tflite_reader *r, const struct tflite_operation *o, struct err *e)
{
    struct tflite_tensor x, axes;
    struct tflite_value v;
    int pixels = 0;
    if (tflite_take_input(r, o, 0, 0, &x, &v, e) || tflite_read_tensor(r, o->in[1], &axes, e))
        return -1;
    if (x.rank == 4 && axes.type == TFLITE_I32 && axes.data && axes.count == 2)
        for (int i = 0; i < 2; i++) {
            const int32_t axis = tflite_int32(&axes, i);
            pixels |= axis == 1 || axis == -3 ? 1 : axis == 2 || axis == -2 ? 2 : 4;
        }
    if (pixels != 3)
        return err_set(e, ERR_UNSUPPORTED, "is not taken over height and width");
    struct node *n = add_node(r, o, OP_AVGPOOL, v.node, -1, e);
    if (!n)
        return -1;
    if (r->net->precision == PRECISION_INT8 && tflite_same_quant(r->net->quants[v.node], r->net->quants[r->net->graph.count - 1]))
        return err_set(e, ERR_UNSUPPORTED, "keeps scale and zero point; an int8 mean must change them, or be AVERAGE_POOL_2D");
    return 0;
}

// SPDX-License-Identifier: MIT
//
// onnx_affine.c - what works value by value: batch norm, constants added and multiplied, ReLU, and the residual add.
//
// y = gain[c] x + shift[c] goes into the convolution before it, in double precision; where that is not possible (ResNet v2:
// behind an add that others read too) it becomes a convolution of one weight per channel. On the network's input it goes into the
// preprocessing.

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "models/checkpoint/onnx_graph.h"

/* ---- gain and shift ---- */

/* |gain| goes into the scales, its sign into the weights: no weight is rounded again. */
static int fold_int8(struct onnx *x, int node, const double *gain, const double *shift)
{
    const struct layer *l = &x->net.layers[node];
    const int channels = x->net.graph.nodes[node].c;
    const int64_t depth = node_depth(&x->net.graph, node);
    const double in = x->net.quants[x->net.graph.nodes[node].in[0]].scale;
    for (int o = 0; o < channels; o++) {
        int8_t *w = (int8_t *)l->weight + o * depth;
        const double before = in * (double)l->scale[o];
        const double factor = gain[o] < 0 ? -1 : gain[o] > 0 ? 1 : 0;
        for (int64_t i = 0; i < depth; i++) {
            x->clamped += w[i] == -128 && factor < 0;
            w[i] = (int8_t)(w[i] == -128 && factor < 0 ? 127 : w[i] * (int)factor);
        }
        if (factor != 0)
            l->scale[o] = (float)((double)l->scale[o] * fabs(gain[o]));
        if (!(l->scale[o] > 0) || !isfinite(l->scale[o]))
            return onnx_fail(x, ERR_UNSUPPORTED, "channel %d: a gain of %g leaves no usable scale", o, gain[o]);
        const double unit = in * (double)l->scale[o];
        const double bias =
            gain[o] == 1 ? l->bias_s32[o] + rint(shift[o] / unit) : rint((l->bias_s32[o] * before * gain[o] + shift[o]) / unit);
        if (!(fabs(bias) <= INT32_MAX))
            return onnx_fail(x, ERR_UNSUPPORTED, "channel %d: the bias does not fit 32 bits", o);
        l->bias_s32[o] = (int32_t)bias;
    }
    return 0;
}

static int fold_float(struct onnx *x, int node, const double *gain, const double *shift)
{
    const struct layer *l = &x->net.layers[node];
    const int64_t depth = node_depth(&x->net.graph, node);
    for (int o = 0; o < x->net.graph.nodes[node].c; o++) {
        float *w = (float *)l->weight + o * depth;
        for (int64_t i = 0; i < depth; i++)
            w[i] = (float)((double)w[i] * gain[o]);
        l->bias[o] = (float)((double)l->bias[o] * gain[o] + shift[o]);
    }
    return 0;
}

/* x = (pixel / scale - mean) / std, then gain x + shift. */
static int fold_input(struct onnx *x, const struct onnx_value *v, const double *gain, const double *shift)
{
    struct preprocess *p = &x->net.preprocess;
    if (!x->own_preprocess)
        return onnx_fail(x, ERR_INPUT,
                         "the network normalises its input itself: say with --preprocess what it takes (resize, crop, "
                         "scale 1 or 255, mean 0, std 1 ...)");
    for (int c = 0; c < 3; c++) {
        const double std = (double)p->std[c] / gain[c], mean = (double)p->mean[c] - shift[c] * std;
        if (!(gain[c] > 0) || !((float)std > 0) || !isfinite((float)std) || !isfinite((float)mean))
            return onnx_fail(x, ERR_UNSUPPORTED, "a gain of %g on the input is not read", gain[c]);
        p->std[c] = (float)std;
        p->mean[c] = (float)mean;
    }
    onnx_same(x, v);
    return 0;
}

/* A node whose result can still be changed where it is computed. */
static int can_change(const struct onnx *x, const struct onnx_value *v)
{
    return onnx_is_private(v) && v->stage == ONNX_COMPUTED && !x->extra[v->node].quantised && !x->extra[v->node].upper;
}

static int apply(struct onnx *x, const struct onnx_value *v, const double *gain, const double *shift)
{
    const struct node *n = &x->net.graph.nodes[v->node];
    for (int c = 0; c < n->c; c++)
        if (!isfinite(gain[c]) || !isfinite(shift[c]) || fabs(gain[c]) > 1e30 || fabs(shift[c]) > 1e30)
            return onnx_fail(x, ERR_DAMAGED, "channel %d: gain %g, shift %g", c, gain[c], shift[c]);
    if (node_has_weights(n) && !n->relu && can_change(x, v)) {
        onnx_same(x, v);
        return x->int8 ? fold_int8(x, v->node, gain, shift) : fold_float(x, v->node, gain, shift);
    }
    const int node = onnx_depthwise(x, v, 1, 1, 1, 127); /* so that the shift is rounded to a 127th of the input's step */
    if (node < 0)
        return -1;
    const int bad = x->int8 ? fold_int8(x, node, gain, shift) : fold_float(x, node, gain, shift);
    return bad ? -1 : onnx_computed(x, node, v->view);
}

/* Memory for gains and shifts: *shift is the second half of *gain. */
static int new_gains(struct onnx *x, int channels, double **gain, double **shift)
{
    *gain = malloc(2 * (size_t)channels * sizeof **gain);
    *shift = *gain + channels;
    return *gain ? 0 : onnx_fail(x, ERR_MEMORY, "no memory for %d channels", channels);
}

int onnx_batch_norm(struct onnx *x)
{
    const struct onnx_value *v = onnx_activation(x, 0);
    if (!v)
        return -1;
    const int channels = x->net.graph.nodes[v->node].c;
    if (v->view == ONNX_NHWC || (v->view == ONNX_FLAT && x->net.graph.nodes[v->node].h * x->net.graph.nodes[v->node].w > 1))
        return onnx_fail(x, ERR_UNSUPPORTED, "its input is not laid out [N, C, H, W]");
    if (onnx_int(x->node, "training_mode", 0) || !onnx_int(x->node, "spatial", 1))
        return onnx_fail(x, ERR_UNSUPPORTED, "training_mode and spatial = 0 are not read");
    const double eps = onnx_float(x->node, "epsilon", 1e-5);
    double *gain = NULL, *shift;
    float *p[4] = {NULL};
    int bad = new_gains(x, channels, &gain, &shift);
    for (int i = 0; i < 4 && !bad; i++) {
        const struct onnx_value *c = onnx_constant(x, (size_t)i + 1);
        const int64_t count = c ? onnx_read_floats(x, c, channels, &p[i]) : -1;
        bad = count < 0           ? -1
              : count != channels ? onnx_fail(x, ERR_DAMAGED, "%lld values for %d channels", (long long)count, channels)
                                  : 0;
    }
    for (int c = 0; c < channels && !bad; c++) {
        if (!(p[3][c] >= 0) || !(p[3][c] + eps > 0))
            bad = onnx_fail(x, ERR_DAMAGED, "channel %d: the variance is %g", c, (double)p[3][c]);
        gain[c] = (double)p[0][c] / sqrt((double)p[3][c] + eps);
        shift[c] = (double)p[1][c] - (double)p[2][c] * gain[c];
    }
    if (!bad)
        bad = apply(x, v, gain, shift);
    for (int i = 0; i < 4; i++)
        free(p[i]);
    free(gain);
    return bad;
}

/* ---- one operand is a constant ---- */

/* One value for all, or one per channel at the place where v has its channels. */
static int channel_values(struct onnx *x, const struct onnx_value *v, const struct onnx_value *constant, double *out)
{
    const int channels = x->net.graph.nodes[v->node].c;
    const size_t from_end = v->view == ONNX_NCHW ? 3 : 1;
    const Onnx__TensorProto *t = constant->tensor;
    float *f;
    const int64_t count = onnx_read_floats(x, constant, channels, &f);
    if (count < 0)
        return -1;
    int fits = count == 1 || (count == channels && t->n_dims >= from_end && t->dims[t->n_dims - from_end] == channels);
    if (v->view == ONNX_FLAT && x->net.graph.nodes[v->node].h * x->net.graph.nodes[v->node].w > 1)
        fits = count == 1;
    for (int c = 0; c < channels && fits; c++)
        out[c] = (double)f[count == 1 ? 0 : c];
    free(f);
    return fits ? 0 : onnx_fail(x, ERR_UNSUPPORTED, "a constant that is neither one value nor one per channel");
}

/* sign: of v's and of the constant's contribution to a sum; 0: product, or quotient by the constant. */
static int with_constant(struct onnx *x, const struct onnx_value *v, const struct onnx_value *constant, int sign,
                         int constant_sign, int divide)
{
    const int channels = x->net.graph.nodes[v->node].c;
    double *gain = NULL, *shift;
    if (v->padded)
        return onnx_fail(x, ERR_UNSUPPORTED, "padding is read only before a convolution or pooling");
    int bad = new_gains(x, channels, &gain, &shift);
    if (!bad)
        bad = channel_values(x, v, constant, shift);
    for (int c = 0; c < channels && !bad; c++) {
        const double k = shift[c];
        gain[c] = sign ? sign : divide ? 1 / k : k;
        shift[c] = sign ? constant_sign * k : 0;
    }
    if (!bad)
        bad = v->node == 0 && onnx_is_private(v) && v->stage == ONNX_COMPUTED ? fold_input(x, v, gain, shift)
                                                                              : apply(x, v, gain, shift);
    free(gain);
    return bad;
}

/* The operands: the activation first; swapped: they stood the other way round. Both may be activations. */
static int operands(struct onnx *x, const struct onnx_value **a, const struct onnx_value **b, int *swapped)
{
    *a = onnx_input(x, 0);
    *b = onnx_input(x, 1);
    *swapped = (*a)->kind != ONNX_ACTIVATION;
    if (*swapped) {
        const struct onnx_value *v = *a;
        *a = *b;
        *b = v;
    }
    if ((*a)->kind != ONNX_ACTIVATION || ((*b)->kind != ONNX_ACTIVATION && (*b)->kind != ONNX_CONSTANT))
        return onnx_fail(x, ERR_UNSUPPORTED, "no operand is computed from the network's input");
    return 0;
}

/* In a quantised graph one operand may be a convolution straight from its sums: the add then computes it. */
static int may_be_added(struct onnx *x, const struct onnx_value *v)
{
    const struct node *n = &x->net.graph.nodes[v->node];
    return (n->op == OP_CONV && !n->relu && can_change(x, v)) || onnx_settled(x, v) == 0;
}

int onnx_add(struct onnx *x)
{
    const struct onnx_value *a, *b;
    int swapped;
    if (operands(x, &a, &b, &swapped) < 0)
        return -1;
    if (b->kind == ONNX_CONSTANT)
        return with_constant(x, a, b, 1, 1, 0);
    if (a->padded || b->padded || a->view != b->view)
        return onnx_fail(x, ERR_UNSUPPORTED, "its operands differ in layout or padding");
    if (!may_be_added(x, a) || !may_be_added(x, b))
        return -1;
    if (x->int8 && a->stage == ONNX_COMPUTED && b->stage == ONNX_COMPUTED)
        return onnx_fail(x, ERR_UNSUPPORTED, "neither operand is quantised in a graph that is");
    const int node = swapped ? onnx_add_node(x, OP_ADD, b->node, a->node) : onnx_add_node(x, OP_ADD, a->node, b->node);
    return onnx_computed(x, node, a->view);
}

int onnx_sub(struct onnx *x)
{
    const struct onnx_value *a, *b;
    int swapped;
    if (operands(x, &a, &b, &swapped) < 0)
        return -1;
    if (b->kind != ONNX_CONSTANT)
        return onnx_fail(x, ERR_UNSUPPORTED, "neither operand is a constant");
    return swapped ? with_constant(x, a, b, -1, 1, 0) : with_constant(x, a, b, 1, -1, 0);
}

int onnx_mul(struct onnx *x)
{
    const struct onnx_value *a, *b;
    int swapped;
    if (operands(x, &a, &b, &swapped) < 0)
        return -1;
    if (b->kind != ONNX_CONSTANT)
        return onnx_fail(x, ERR_UNSUPPORTED, "neither operand is a constant (squeeze-excite and swish are not read)");
    return with_constant(x, a, b, 0, 0, 0);
}

int onnx_div(struct onnx *x)
{
    const struct onnx_value *a, *b;
    int swapped;
    if (operands(x, &a, &b, &swapped) < 0)
        return -1;
    if (b->kind != ONNX_CONSTANT || swapped)
        return onnx_fail(x, ERR_UNSUPPORTED, "the divisor is not a constant");
    return with_constant(x, a, b, 0, 0, 1);
}

/* ---- ReLU ---- */

static int rectify(struct onnx *x, const struct onnx_value *v, float upper)
{
    struct node *n = &x->net.graph.nodes[v->node];
    if (n->relu && !upper) { /* again */
        onnx_same(x, v);
        return 0;
    }
    if (op_infos[n->op].attrs & ATTR_RELU && (can_change(x, v) || (onnx_is_private(v) && v->stage == ONNX_DEQUANTISED))) {
        n->relu = 1; /* behind a quantisation too: the clamp of integers at their zero point is the same before and after it */
        onnx_same(x, v);
        return onnx_limit(x, v->node, upper);
    }
    const int node = onnx_depthwise(x, v, 1, 1, 1, 1);
    if (node < 0)
        return -1;
    x->net.graph.nodes[node].relu = 1;
    if (onnx_computed(x, node, v->view) < 0 || onnx_limit(x, node, upper) < 0)
        return -1;
    return v->stage == ONNX_DEQUANTISED ? onnx_keep_quant(x, v, node) : 0;
}

int onnx_relu(struct onnx *x)
{
    const struct onnx_value *v = onnx_activation(x, 0);
    return v ? rectify(x, v, 0) : -1;
}

/* Bounds are attributes up to opset 10, inputs since. */
static int bound(struct onnx *x, const char *name, size_t input, double *out)
{
    const struct onnx_value *v = onnx_input(x, input);
    *out = onnx_float(x->node, name, *out);
    if (!v)
        return 0;
    if (!onnx_constant(x, input))
        return -1;
    if (v->stage == ONNX_COMPUTED)
        return onnx_tensor_scalar(v->tensor, out, x->e) < 0 ? onnx_blame(x) : 0;
    float *f;
    if (onnx_read_floats(x, v, 1, &f) < 0)
        return -1;
    *out = (double)f[0];
    free(f);
    return 0;
}

int onnx_clip(struct onnx *x)
{
    const struct onnx_value *v = onnx_activation(x, 0);
    double least = -INFINITY, most = INFINITY;
    if (!v || bound(x, "min", 1, &least) < 0 || bound(x, "max", 2, &most) < 0)
        return -1;
    const int unbounded = most > 1e30;
    if (least != 0 || !(most > 0))
        return onnx_fail(x, ERR_UNSUPPORTED, "clips to [%g, %g]; only ReLU is read", least, most);
    if (!unbounded && !x->int8)
        return onnx_fail(x, ERR_UNSUPPORTED, "clips to [0, %g] (ReLU%g); only ReLU, which has no upper bound, is read", most,
                         most);
    return rectify(x, v, unbounded ? 0 : (float)most);
}

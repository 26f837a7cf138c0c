// SPDX-License-Identifier: MIT
//
// onnx_integers.c - quantised constants: integers with a scale and a zero point, one of each or one per channel.

#include <math.h>
#include <stdlib.h>

#include "models/checkpoint/onnx_graph.h"

/* The type of the integers: that of the tensor, or, for floats that are yet to be rounded, of the zero point. */
static int type_of(const struct onnx_value *v)
{
    if (!v->round)
        return v->tensor->data_type;
    return v->zero ? v->zero->tensor->data_type : ONNX__TENSOR_PROTO__DATA_TYPE__UINT8;
}

struct parameters { /* of a constant with `count` elements; channel of element i is i / inner % channels */
    int64_t count, inner;
    int channels;
    float *scales;  /* [channels] */
    int64_t *zeros; /* [channels] */
};

static void free_parameters(struct parameters *p)
{
    free(p->scales);
    free(p->zeros);
}

static int read_zeros(struct onnx *x, const struct onnx_value *v, struct parameters *p)
{
    for (int c = 0; c < p->channels; c++)
        p->zeros[c] = 0;
    if (!v->zero)
        return 0;
    const int64_t count = onnx_tensor_count(v->zero->tensor, x->e);
    if (count != p->channels && count != 1)
        return count < 0 ? onnx_blame(x)
                         : onnx_fail(x, ERR_DAMAGED, "%lld zero points for %d scales", (long long)count, p->channels);
    if (onnx_tensor_ints(v->zero->tensor, p->zeros, x->e) < 0)
        return onnx_blame(x);
    for (int c = 1; count == 1 && c < p->channels; c++)
        p->zeros[c] = p->zeros[0];
    return 0;
}

static int read_parameters(struct onnx *x, const struct onnx_value *v, struct parameters *p)
{
    const Onnx__TensorProto *t = v->tensor;
    *p = (struct parameters){.inner = 1};
    p->count = onnx_tensor_count(t, x->e);
    if (p->count < 0)
        return onnx_blame(x);
    const int64_t channels = onnx_read_floats(x, v->scale, GRAPH_CHANNELS_MAX, &p->scales);
    if (channels < 0)
        return -1;
    p->channels = (int)channels;
    p->zeros = malloc((size_t)channels * sizeof *p->zeros);
    int bad = p->zeros ? 0 : onnx_fail(x, ERR_MEMORY, "no memory for %d channels", p->channels);
    const int axis = v->axis < 0 ? v->axis + (int)t->n_dims : v->axis;
    if (!bad && channels > 1 && (axis < 0 || axis >= (int)t->n_dims || t->dims[axis] != channels))
        bad = onnx_fail(x, ERR_DAMAGED, "%d scales do not fit axis %d of '%.80s'", p->channels, v->axis, v->name);
    for (int i = axis + 1; !bad && channels > 1 && i < (int)t->n_dims; i++)
        p->inner *= t->dims[i];
    for (int c = 0; c < p->channels && !bad; c++)
        if (!(p->scales[c] > 0) || p->scales[c] > 1e9f)
            bad = onnx_fail(x, ERR_UNSUPPORTED, "scale %d of '%.80s' is %g", c, v->name, (double)p->scales[c]);
    if (!bad)
        bad = read_zeros(x, v, p);
    if (bad)
        free_parameters(p);
    return bad;
}

/* The integers as stored, or rounded as QuantizeLinear does. */
static int read_stored(struct onnx *x, const struct onnx_value *v, const struct parameters *p, int64_t *q)
{
    if (!v->round)
        return onnx_tensor_ints(v->tensor, q, x->e) < 0 ? onnx_blame(x) : 0;
    const int64_t least = type_of(v) == ONNX__TENSOR_PROTO__DATA_TYPE__UINT8 ? 0 : -128;
    float *f = malloc((size_t)p->count * sizeof *f + 1);
    if (!f)
        return onnx_fail(x, ERR_MEMORY, "no memory for %lld values", (long long)p->count);
    const int bad = onnx_tensor_floats(v->tensor, f, x->e) < 0 ? onnx_blame(x) : 0;
    for (int64_t i = 0; i < p->count && !bad; i++) {
        const int64_t c = i / p->inner % p->channels;
        const double r = rint((double)(f[i] / p->scales[c])) + (double)p->zeros[c];
        q[i] = r < (double)least ? least : r > (double)(least + 255) ? least + 255 : (int64_t)r;
    }
    free(f);
    return bad;
}

int onnx_integers(struct onnx *x, const struct onnx_value *v, int64_t count, int8_t *out)
{
    const int type = type_of(v);
    struct parameters p;
    if (type != ONNX__TENSOR_PROTO__DATA_TYPE__INT8 && type != ONNX__TENSOR_PROTO__DATA_TYPE__UINT8)
        return onnx_fail(x, ERR_UNSUPPORTED, "weights of ONNX type %d; int8 and uint8 are read", type);
    if (read_parameters(x, v, &p) < 0)
        return -1;
    const int64_t zero = type == ONNX__TENSOR_PROTO__DATA_TYPE__UINT8 ? 128 : 0;
    int64_t *q = malloc((size_t)p.count * sizeof *q + 1);
    int bad = q ? 0 : onnx_fail(x, ERR_MEMORY, "no memory for %lld weights", (long long)p.count);
    if (!bad && p.count != count)
        bad = onnx_fail(x, ERR_DAMAGED, "%lld weights, expected %lld", (long long)p.count, (long long)count);
    for (int c = 0; c < p.channels && !bad; c++)
        if (p.zeros[c] != zero)
            bad = onnx_fail(x, ERR_UNSUPPORTED, "weights with zero point %lld; only symmetric ones are read",
                            (long long)p.zeros[c]);
    if (!bad)
        bad = read_stored(x, v, &p, q);
    for (int64_t i = 0; i < count && !bad; i++)
        out[i] = (int8_t)(q[i] - zero);
    free(q);
    free_parameters(&p);
    return bad;
}

int onnx_scales(struct onnx *x, const struct onnx_value *v, int axis, int channels, float *scales)
{
    struct parameters p;
    if (read_parameters(x, v, &p) < 0)
        return -1;
    const int own_axis = v->axis < 0 ? v->axis + (int)v->tensor->n_dims : v->axis;
    int bad = 0;
    if (p.channels != 1 && (p.channels != channels || own_axis != axis))
        bad = onnx_fail(x, ERR_UNSUPPORTED, "%d scales along axis %d; one per output channel is read", p.channels, own_axis);
    for (int c = 0; c < channels && !bad; c++)
        scales[c] = p.scales[p.channels == 1 ? 0 : c];
    free_parameters(&p);
    return bad;
}

int onnx_dequantised(struct onnx *x, const struct onnx_value *v, float *out)
{
    struct parameters p;
    if (read_parameters(x, v, &p) < 0)
        return -1;
    int64_t *q = malloc((size_t)p.count * sizeof *q + 1);
    const int bad = q ? read_stored(x, v, &p, q) : onnx_fail(x, ERR_MEMORY, "no memory for %lld values", (long long)p.count);
    for (int64_t i = 0; i < p.count && !bad; i++) {
        const int64_t c = i / p.inner % p.channels;
        out[i] = (float)(q[i] - p.zeros[c]) * p.scales[c];
    }
    free(q);
    free_parameters(&p);
    return bad;
}

int onnx_same_constant(const struct onnx_value *a, const struct onnx_value *b)
{
    double va = 0, vb = 0;
    if (a == b || !a || !b)
        return a == b;
    const int64_t n = onnx_tensor_count(a->tensor, NULL);
    if (n < 0 || n != onnx_tensor_count(b->tensor, NULL) || a->tensor->data_type != b->tensor->data_type)
        return 0;
    if (n == 1)
        return onnx_tensor_scalar(a->tensor, &va, NULL) == 0 && onnx_tensor_scalar(b->tensor, &vb, NULL) == 0 && va == vb;
    float *fa = malloc((size_t)n * sizeof *fa + 1), *fb = malloc((size_t)n * sizeof *fb + 1);
    int same = fa && fb && onnx_tensor_floats(a->tensor, fa, NULL) == 0 && onnx_tensor_floats(b->tensor, fb, NULL) == 0;
    for (int64_t i = 0; i < n && same; i++)
        same = fa[i] == fb[i];
    free(fa);
    free(fb);
    return same;
}

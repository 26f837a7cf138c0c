// SPDX-License-Identifier: MIT
//
// The operators as the specification defines them, without a thought for speed: what the reader makes of a model is compared with
// this. QLinear operators are what they stand for: dequantise, compute, quantise.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/checkpoint/onnx_tensor.h"
#include "tests/make_onnx.h"

struct array {
    const char *name;
    int rank;
    int64_t d[4]; /* ones behind the rank */
    int64_t count;
    double *v;
};

static struct array arrays[512];
static int count;
static const Onnx__NodeProto *node;

static void stop(const char *what)
{
    printf("evaluate_onnx: %s: %s\n", node ? node->op_type : "", what);
    exit(99);
}

static struct array *new_array(const char *name, int rank, const int64_t *d)
{
    struct array *a = &arrays[count++];
    *a = (struct array){.name = name, .rank = rank, .d = {1, 1, 1, 1}, .count = 1};
    if (count >= 512 || rank > 4)
        stop("too large");
    for (int i = 0; i < rank; i++)
        a->count *= a->d[i] = d[i];
    a->v = calloc((size_t)a->count + 1, sizeof *a->v);
    if (!a->v)
        stop("no memory");
    return a;
}

static struct array *find(const char *name)
{
    for (int i = 0; i < count; i++)
        if (strcmp(arrays[i].name, name) == 0)
            return &arrays[i];
    return NULL;
}

/* Input i; NULL: left out. */
static struct array *in(size_t i)
{
    if (i >= node->n_input || !node->input[i][0])
        return NULL;
    struct array *a = find(node->input[i]);
    if (!a)
        stop(node->input[i]);
    return a;
}

static int is_unsigned(const Onnx__GraphProto *g, const char *name)
{
    for (size_t i = 0; i < g->n_initializer; i++)
        if (strcmp(g->initializer[i]->name, name) == 0)
            return g->initializer[i]->data_type == ONNX__TENSOR_PROTO__DATA_TYPE__UINT8;
    return 1;
}

static struct array *out(int rank, const int64_t *d)
{
    return new_array(node->output[0], rank, d);
}

static struct array *like(const struct array *a)
{
    return out(a->rank, a->d);
}

static int64_t ints(const char *name, int i, int64_t otherwise)
{
    const Onnx__AttributeProto *a = onnx_attribute(node, name);
    return a && (size_t)i < a->n_ints ? a->ints[i] : otherwise;
}

/* ---- windows ---- */

struct window {
    int64_t k[2], s[2], pad[4], o[2];
};

static struct window window(const struct array *x, int64_t kh, int64_t kw)
{
    struct window w = {.k = {kh, kw}};
    for (int i = 0; i < 2; i++) {
        const int64_t size = x->d[2 + i];
        w.s[i] = ints("strides", i, 1);
        w.pad[i] = ints("pads", i, 0);
        w.pad[2 + i] = ints("pads", 2 + i, 0);
        w.o[i] = (size + w.pad[i] + w.pad[2 + i] - w.k[i]) / w.s[i] + 1;
        if (onnx_int(node, "ceil_mode", 0)) {
            w.o[i] = (size + w.pad[i] + w.pad[2 + i] - w.k[i] + w.s[i] - 1) / w.s[i] + 1;
            w.o[i] -= (w.o[i] - 1) * w.s[i] >= size + w.pad[i];
        }
        const int upper = onnx_string_is(node, "auto_pad", "", "SAME_UPPER"),
                  lower = onnx_string_is(node, "auto_pad", "", "SAME_LOWER");
        if (upper || lower) {
            w.o[i] = (size + w.s[i] - 1) / w.s[i];
            int64_t total = (w.o[i] - 1) * w.s[i] + w.k[i] - size;
            total = total < 0 ? 0 : total;
            w.pad[i] = lower ? total - total / 2 : total / 2;
        }
    }
    return w;
}

static void conv(const struct array *x, const struct array *w, const struct array *b, struct array **y)
{
    const struct window n = window(x, w->d[2], w->d[3]);
    const int64_t groups = onnx_int(node, "group", 1), per = w->d[0] / groups;
    *y = out(4, (int64_t[]){x->d[0], w->d[0], n.o[0], n.o[1]});
    double *at = (*y)->v;
    for (int64_t o = 0; o < w->d[0]; o++)
        for (int64_t i = 0; i < n.o[0]; i++)
            for (int64_t j = 0; j < n.o[1]; j++, at++) {
                *at = b ? b->v[o] : 0;
                for (int64_t c = 0; c < w->d[1]; c++)
                    for (int64_t p = 0; p < n.k[0]; p++)
                        for (int64_t q = 0; q < n.k[1]; q++) {
                            const int64_t h = i * n.s[0] - n.pad[0] + p, l = j * n.s[1] - n.pad[1] + q;
                            if (h >= 0 && h < x->d[2] && l >= 0 && l < x->d[3])
                                *at += x->v[((o / per * w->d[1] + c) * x->d[2] + h) * x->d[3] + l] *
                                       w->v[((o * w->d[1] + c) * n.k[0] + p) * n.k[1] + q];
                        }
            }
}

static void pool(const struct array *x, int maximum)
{
    const struct window n = window(x, ints("kernel_shape", 0, 1), ints("kernel_shape", 1, 1));
    struct array *y = out(4, (int64_t[]){x->d[0], x->d[1], n.o[0], n.o[1]});
    double *at = y->v;
    for (int64_t c = 0; c < x->d[1]; c++)
        for (int64_t i = 0; i < n.o[0]; i++)
            for (int64_t j = 0; j < n.o[1]; j++, at++) {
                double best = -INFINITY, sum = 0;
                int64_t seen = 0;
                for (int64_t p = 0; p < n.k[0]; p++)
                    for (int64_t q = 0; q < n.k[1]; q++) {
                        const int64_t h = i * n.s[0] - n.pad[0] + p, l = j * n.s[1] - n.pad[1] + q;
                        if (h < 0 || h >= x->d[2] || l < 0 || l >= x->d[3])
                            continue;
                        const double v = x->v[(c * x->d[2] + h) * x->d[3] + l];
                        best = v > best ? v : best;
                        sum += v;
                        seen++;
                    }
                *at = maximum ? best : sum / (double)(onnx_int(node, "count_include_pad", 0) ? n.k[0] * n.k[1] : seen);
            }
}

static void mean(const struct array *x, int nhwc, int keep)
{
    const int64_t channels = x->d[nhwc ? 3 : 1], pixels = x->count / x->d[0] / channels;
    const int64_t flat[2] = {1, channels}, nchw[4] = {1, channels, 1, 1}, last[4] = {1, 1, 1, channels};
    struct array *y = out(keep ? 4 : 2, keep ? nhwc ? last : nchw : flat);
    for (int64_t c = 0; c < channels; c++)
        for (int64_t p = 0; p < pixels; p++)
            y->v[c] += x->v[nhwc ? p * channels + c : c * pixels + p] / (double)pixels;
}

/* ---- element by element ---- */

/* Index into a, which is broadcast to b's shape, for element i of b. */
static int64_t broadcast(const struct array *a, const struct array *b, int64_t i)
{
    int64_t at = 0, step = 1;
    for (int k = 0; k < b->rank; k++) {
        const int64_t size = b->d[b->rank - 1 - k], own = k < a->rank ? a->d[a->rank - 1 - k] : 1;
        at += own > 1 ? i % size * step : 0;
        step *= own;
        i /= size;
    }
    return at;
}

static void elements(char op)
{
    const struct array *a = in(0), *b = in(1), *large = a->count >= b->count ? a : b;
    struct array *y = like(large);
    for (int64_t i = 0; i < y->count; i++) {
        const double u = a->v[broadcast(a, y, i)], v = b->v[broadcast(b, y, i)];
        y->v[i] = op == '+' ? u + v : op == '-' ? u - v : op == '*' ? u * v : u / v;
    }
}

static void batch_norm(void)
{
    const struct array *x = in(0);
    struct array *y = like(x);
    const double eps = onnx_float(node, "epsilon", 1e-5);
    for (int64_t i = 0; i < y->count; i++) {
        const int64_t c = i / (x->d[2] * x->d[3]) % x->d[1];
        y->v[i] = (x->v[i] - in(3)->v[c]) / sqrt(in(4)->v[c] + eps) * in(1)->v[c] + in(2)->v[c];
    }
}

static void clip(double least, double most)
{
    struct array *y = like(in(0));
    for (int64_t i = 0; i < y->count; i++)
        y->v[i] = fmin(fmax(in(0)->v[i], least), most);
}

/* ---- matrices, views ---- */

static void product(const struct array *a, const struct array *b, int transposed, double alpha, const struct array *c,
                    double beta, struct array **y)
{
    const int64_t n = b->d[transposed ? 0 : 1], k = a->d[1];
    *y = out(2, (int64_t[]){a->d[0], n});
    for (int64_t j = 0; j < n; j++) {
        double sum = 0;
        for (int64_t i = 0; i < k; i++)
            sum += a->v[i] * b->v[transposed ? j * k + i : i * n + j];
        (*y)->v[j] = alpha * sum + (c ? beta * c->v[broadcast(c, *y, j)] : 0);
    }
}

static void same_values(int rank, const int64_t *d)
{
    struct array *y = out(rank, d);
    memcpy(y->v, in(0)->v, (size_t)y->count * sizeof *y->v);
}

static void reshape(const struct array *x, const struct array *shape)
{
    int64_t d[4] = {1, 1, 1, 1}, rest = x->count;
    for (int64_t i = 0; i < shape->count; i++) {
        d[i] = shape->v[i] == 0 ? x->d[i] : (int64_t)shape->v[i];
        rest /= d[i] > 0 ? d[i] : 1;
    }
    for (int i = 0; i < 4; i++)
        d[i] = d[i] < 0 ? rest : d[i];
    same_values((int)shape->count, d);
}

static void transpose(const struct array *x)
{
    int64_t d[4], step[4], at[4] = {0};
    for (int i = 0; i < x->rank; i++) {
        const int from = (int)ints("perm", i, x->rank - 1 - i);
        d[i] = x->d[from];
        step[i] = 1;
        for (int k = from + 1; k < x->rank; k++)
            step[i] *= x->d[k];
    }
    struct array *y = out(x->rank, d);
    for (int64_t i = 0; i < y->count; i++) {
        int64_t from = 0;
        for (int k = 0; k < x->rank; k++)
            from += at[k] * step[k];
        y->v[i] = x->v[from];
        for (int k = x->rank - 1; k >= 0 && ++at[k] == d[k]; k--)
            at[k] = 0;
    }
}

static void pad(const struct array *x)
{
    int64_t p[8];
    for (int i = 0; i < 8; i++)
        p[i] = in(1) ? (int64_t)in(1)->v[i] : ints("pads", i, 0);
    const double value = in(2) ? in(2)->v[0] : 0;
    const int64_t h = x->d[2] + p[2] + p[6], w = x->d[3] + p[3] + p[7];
    struct array *y = out(4, (int64_t[]){x->d[0], x->d[1] + p[1] + p[5], h, w});
    for (int64_t i = 0; i < y->count; i++) {
        const int64_t k = i / w / h - p[1], r = i / w % h - p[2], c = i % w - p[3];
        const int inside = k >= 0 && k < x->d[1] && r >= 0 && r < x->d[2] && c >= 0 && c < x->d[3];
        y->v[i] = inside ? x->v[(k * x->d[2] + r) * x->d[3] + c] : value;
    }
}

/* Every step-th along some axes; all of one backwards when its step is -1. */
static void slice(const struct array *x)
{
    int64_t step[4] = {1, 1, 1, 1}, d[4];
    for (int64_t i = 0; i < in(3)->count; i++)
        step[(int)(in(3)->v[i] < 0 ? in(3)->v[i] + x->rank : in(3)->v[i])] = (int64_t)in(4)->v[i];
    for (int k = 0; k < 4; k++)
        d[k] = step[k] < 0 ? x->d[k] : (x->d[k] + step[k] - 1) / step[k];
    struct array *y = out(x->rank, d);
    for (int64_t i = 0; i < y->count; i++) {
        int64_t from = 0, size = 1, rest = i;
        for (int k = 3; k >= 0; k--) {
            const int64_t at = rest % d[k];
            from += size * (step[k] < 0 ? d[k] - 1 - at : at * step[k]);
            size *= x->d[k];
            rest /= d[k];
        }
        y->v[i] = x->v[from];
    }
}

/* ---- quantisation ---- */

static double at_channel(const struct array *a, const struct array *x, int64_t i, int axis)
{
    if (!a || a->count == 1)
        return a ? a->v[0] : 0;
    int64_t inner = 1;
    for (int k = axis + 1; k < x->rank; k++)
        inner *= x->d[k];
    return a->v[i / inner % x->d[axis]];
}

static void dequantise(const struct array *x, const struct array *s, const struct array *z, int axis, struct array *y)
{
    for (int64_t i = 0; i < y->count; i++)
        y->v[i] = (x->v[i] - at_channel(z, x, i, axis)) * at_channel(s, x, i, axis);
}

static void quantise(const Onnx__GraphProto *g, const struct array *x, const struct array *s, const struct array *z, int axis,
                     struct array *y)
{
    const double least = z && !is_unsigned(g, z->name) ? -128 : 0;
    for (int64_t i = 0; i < y->count; i++) {
        const double q = rint((double)((float)x->v[i] / (float)at_channel(s, x, i, axis))) + at_channel(z, x, i, axis);
        y->v[i] = fmin(fmax(q, least), least + 255);
    }
}

/* Input i of a QLinear operator with its scale and zero point behind it, as floats. */
static struct array *floats_of(size_t i, int axis)
{
    struct array *x = in(i), *y = new_array("", x->rank, x->d);
    dequantise(x, in(i + 1), in(i + 2), axis, y);
    return y;
}

/* An int32 bias in units of the product of two scales. */
static struct array *bias_of(size_t i, const struct array *x_scale, const struct array *w_scale)
{
    struct array *b = in(i);
    if (!b)
        return NULL;
    struct array *y = new_array("", b->rank, b->d);
    for (int64_t c = 0; c < b->count; c++)
        y->v[c] = b->v[c] * x_scale->v[0] * w_scale->v[w_scale->count > 1 ? c : 0];
    return y;
}

static void qlinear(const Onnx__GraphProto *g, const char *type)
{
    struct array *y, *x = floats_of(0, 0);
    size_t scale = 6;
    if (strcmp(type, "QLinearConv") == 0) {
        conv(x, floats_of(3, 0), bias_of(8, in(1), in(4)), &y);
    } else if (strcmp(type, "QLinearMatMul") == 0) {
        product(x, floats_of(3, 1), 0, 1, NULL, 0, &y);
    } else if (strcmp(type, "QGemm") == 0) {
        const int transposed = (int)onnx_int(node, "transB", 0);
        product(x, floats_of(3, !transposed), transposed, 1, bias_of(6, in(1), in(4)), 1, &y);
        scale = 7;
    } else if (strcmp(type, "QLinearAdd") == 0) {
        const struct array *b = floats_of(3, 0);
        y = like(x);
        for (int64_t i = 0; i < y->count; i++)
            y->v[i] = x->v[i] + b->v[i];
    } else {
        struct array *saved = new_array("", x->rank, x->d);
        memcpy(saved->v, x->v, (size_t)x->count * sizeof *x->v);
        mean(saved, 0, 1);
        y = &arrays[count - 1];
        scale = 3;
    }
    if (in(scale))
        quantise(g, y, in(scale), in(scale + 1), 0, y);
}

/* ---- integers ---- */

/* The shape of a, or elements of a. */
static void integers(const struct array *a, const struct array *which)
{
    struct array *y = out(which ? which->rank : 1, which ? which->d : (int64_t[]){a->rank});
    for (int64_t i = 0; i < y->count; i++)
        y->v[i] = which ? a->v[(int64_t)which->v[i]] : (double)a->d[i];
}

static void concat(void)
{
    int64_t total = 0, at = 0;
    for (size_t i = 0; i < node->n_input; i++)
        total += in(i)->count;
    struct array *y = out(1, &total);
    for (size_t i = 0; i < node->n_input; i++)
        for (int64_t k = 0; k < in(i)->count; k++)
            y->v[at++] = in(i)->v[k];
}

static void put_tensor(const Onnx__TensorProto *t, const char *name)
{
    struct array *a = new_array(name, (int)t->n_dims, t->dims);
    float *f = malloc((size_t)a->count * sizeof *f + 1);
    double one;
    if (a->count == 1 && onnx_tensor_scalar(t, &one, NULL) == 0)
        a->v[0] = one;
    else if (!f || onnx_tensor_floats(t, f, NULL) < 0)
        stop(name);
    else
        for (int64_t k = 0; k < a->count; k++)
            a->v[k] = (double)f[k];
    free(f);
}

/* ---- the walk ---- */

static void run(const Onnx__GraphProto *g)
{
    const char *t = node->op_type;
    struct array *y;
#define IS(name) (strcmp(t, name) == 0)
    if (strncmp(t, "QLinear", 7) == 0 || IS("QGemm"))
        qlinear(g, t);
    else if (IS("Conv"))
        conv(in(0), in(1), in(2), &y);
    else if (IS("Gemm"))
        product(in(0), in(1), (int)onnx_int(node, "transB", 0), onnx_float(node, "alpha", 1), in(2), onnx_float(node, "beta", 1),
                &y);
    else if (IS("MatMul"))
        product(in(0), in(1), 0, 1, NULL, 0, &y);
    else if (IS("BatchNormalization"))
        batch_norm();
    else if (IS("Add") || IS("Sum") || IS("Sub") || IS("Mul") || IS("Div"))
        elements(IS("Sub") ? '-' : IS("Mul") ? '*' : IS("Div") ? '/' : '+');
    else if (IS("Relu"))
        clip(0, INFINITY);
    else if (IS("Clip"))
        clip(in(1) ? in(1)->v[0] : onnx_float(node, "min", -INFINITY), in(2) ? in(2)->v[0] : onnx_float(node, "max", INFINITY));
    else if (IS("MaxPool") || IS("AveragePool"))
        pool(in(0), IS("MaxPool"));
    else if (IS("GlobalAveragePool"))
        mean(in(0), 0, 1);
    else if (IS("ReduceMean"))
        mean(in(0), ints("axes", 0, in(1) ? (int64_t)in(1)->v[0] : 2) == 1, (int)onnx_int(node, "keepdims", 1));
    else if (IS("Flatten") || IS("Squeeze"))
        same_values(2, (int64_t[]){1, in(0)->count});
    else if (IS("Shape"))
        integers(in(0), NULL);
    else if (IS("Gather"))
        integers(in(0), in(1));
    else if (IS("Concat"))
        concat();
    else if (IS("Constant"))
        put_tensor(onnx_attribute(node, "value")->t, node->output[0]);
    else if (IS("Unsqueeze") && in(0)->rank == 0)
        same_values(1, (int64_t[]){1});
    else if (IS("Unsqueeze"))
        same_values(4, (int64_t[]){1, in(0)->count, 1, 1});
    else if (IS("Reshape"))
        reshape(in(0), in(1));
    else if (IS("Transpose"))
        transpose(in(0));
    else if (IS("Pad"))
        pad(in(0));
    else if (IS("ConstantOfShape"))
        out(1, (int64_t[]){(int64_t)in(0)->v[0]});
    else if (IS("Slice"))
        slice(in(0));
    else if (IS("QuantizeLinear"))
        quantise(g, in(0), in(1), in(2), (int)onnx_int(node, "axis", 1), like(in(0)));
    else if (IS("DequantizeLinear"))
        dequantise(in(0), in(1), in(2), (int)onnx_int(node, "axis", 1), like(in(0)));
    else if (IS("Identity") || IS("Dropout") || IS("Cast") || IS("Softmax"))
        same_values(in(0)->rank, in(0)->d);
    else
        stop("not known");
#undef IS
}

int onnx_evaluate(const Onnx__ModelProto *m, const int64_t dims[4], const double *x, double *y, int max)
{
    const Onnx__GraphProto *g = m->graph;
    node = NULL;
    count = 0;
    for (size_t i = 0; i < g->n_initializer; i++)
        put_tensor(g->initializer[i], g->initializer[i]->name);
    struct array *input = new_array(g->input[0]->name, 4, dims);
    memcpy(input->v, x, (size_t)input->count * sizeof *x);
    for (size_t i = 0; i < g->n_node; i++) {
        node = g->node[i];
        run(g);
    }
    const struct array *result = find(g->output[0]->name);
    if (!result || result->count > max)
        stop("no output");
    memcpy(y, result->v, (size_t)result->count * sizeof *y);
    const int n = (int)result->count;
    for (int i = 0; i < count; i++)
        free(arrays[i].v);
    return n;
}

// SPDX-License-Identifier: MIT
//
// The values of the source graph, the nodes that grow beside them, and the table of all operators; what they mean is in the other
// files.

#include "models/checkpoint/onnx_graph.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- errors ---- */

const char *onnx_text(const char *s)
{
    return s ? s : "";
}

int onnx_blame(struct onnx *x)
{
    const Onnx__NodeProto *n = x->node;
    if (!n)
        return err_prefix(x->e, "%s", x->path);
    const char *name = onnx_text(n->name), *output = n->n_output ? onnx_text(n->output[0]) : "";
    return err_prefix(x->e, "%s: node '%.80s' (%.40s)", x->path, name[0] ? name : output, onnx_text(n->op_type));
}

int onnx_fail(struct onnx *x, enum err_code code, const char *fmt, ...)
{
    char text[sizeof x->e->text];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    err_set(x->e, code, "%s", text);
    return onnx_blame(x);
}

/* ---- values ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct onnx_value *)a)->name, ((const struct onnx_value *)b)->name);
}

struct onnx_value *onnx_find(const struct onnx *x, const char *name)
{
    const struct onnx_value key = {.name = name};
    return bsearch(&key, x->values, (size_t)x->value_count, sizeof key, by_name);
}

const Onnx__TensorProto *onnx_initializer(const struct onnx *x, const char *name)
{
    const struct onnx_value *v = onnx_find(x, name);
    return v ? v->tensor : NULL;
}

/* Initialisers, inputs that are none, and outputs of nodes: every name is written once. */
int onnx_collect_values(struct onnx *x)
{
    const Onnx__GraphProto *g = x->graph;
    size_t room = g->n_initializer + g->n_input + 1;
    for (size_t i = 0; i < g->n_node; i++)
        room += g->node[i]->n_output;
    x->values = calloc(room, sizeof *x->values);
    if (!x->values)
        return err_set(x->e, ERR_MEMORY, "%s: no memory for %zu values", x->path, room);
    for (size_t i = 0; i < g->n_initializer; i++)
        x->values[x->value_count++] =
            (struct onnx_value){.name = onnx_tensor_name(g->initializer[i]), .kind = ONNX_CONSTANT, .tensor = g->initializer[i]};
    qsort(x->values, (size_t)x->value_count, sizeof *x->values, by_name);
    int count = x->value_count;
    for (size_t i = 0; i < g->n_input; i++) /* old files repeat the initialisers among the inputs */
        if (!onnx_initializer(x, onnx_text(g->input[i]->name)))
            x->values[count++] = (struct onnx_value){.name = onnx_text(g->input[i]->name)};
    for (size_t i = 0; i < g->n_node; i++)
        for (size_t k = 0; k < g->node[i]->n_output; k++)
            if (g->node[i]->output[k][0])
                x->values[count++] = (struct onnx_value){.name = g->node[i]->output[k]};
    x->value_count = count;
    qsort(x->values, (size_t)count, sizeof *x->values, by_name);
    for (int i = 1; i < count; i++)
        if (strcmp(x->values[i - 1].name, x->values[i].name) == 0)
            return err_set(x->e, ERR_DAMAGED, "%s: two things are called '%.120s'", x->path, x->values[i].name);
    for (size_t i = 0; i < g->n_node; i++)
        for (size_t k = 0; k < g->node[i]->n_input; k++) {
            struct onnx_value *v = onnx_find(x, g->node[i]->input[k]);
            if (v)
                v->readers++;
        }
    return 0;
}

struct onnx_value *onnx_input(struct onnx *x, size_t i)
{
    return i < x->node->n_input && x->node->input[i][0] ? onnx_find(x, x->node->input[i]) : NULL;
}

struct onnx_value *onnx_windowed(struct onnx *x, size_t i)
{
    struct onnx_value *v = onnx_input(x, i);
    if (v && v->kind == ONNX_ACTIVATION)
        return v;
    onnx_fail(x, ERR_UNSUPPORTED, "input %zu is not computed from the network's input", i);
    return NULL;
}

struct onnx_value *onnx_activation(struct onnx *x, size_t i)
{
    struct onnx_value *v = onnx_windowed(x, i);
    if (!v || !v->padded)
        return v;
    onnx_fail(x, ERR_UNSUPPORTED, "padding is read only before a convolution or pooling");
    return NULL;
}

struct onnx_value *onnx_constant(struct onnx *x, size_t i)
{
    struct onnx_value *v = onnx_input(x, i);
    if (v && v->kind == ONNX_CONSTANT)
        return v;
    onnx_fail(x, ERR_UNSUPPORTED, "input %zu is not a constant", i);
    return NULL;
}

struct onnx_value *onnx_output(struct onnx *x, size_t i)
{
    return i < x->node->n_output && x->node->output[i][0] ? onnx_find(x, x->node->output[i]) : NULL;
}

int onnx_is_private(const struct onnx_value *v)
{
    return v->alone && v->readers == 1;
}

struct onnx_value *onnx_same(struct onnx *x, const struct onnx_value *v)
{
    struct onnx_value *out = onnx_output(x, 0);
    const char *name = out->name;
    const int readers = out->readers;
    const int alone = onnx_is_private(v);
    *out = *v;
    out->name = name;
    out->readers = readers;
    out->alone = alone;
    return out;
}

int onnx_computed(struct onnx *x, int node, enum onnx_view view)
{
    struct onnx_value *out = onnx_output(x, 0);
    if (node < 0)
        return -1;
    out->kind = ONNX_ACTIVATION;
    out->node = node;
    out->alone = 1;
    out->view = view;
    return 0;
}

int onnx_read_ints(struct onnx *x, const struct onnx_value *v, int64_t *out, int max)
{
    if (v && v->kind == ONNX_INTS && v->int_count <= max) {
        memcpy(out, v->ints, (size_t)v->int_count * sizeof *out);
        return v->int_count;
    }
    if (!v || v->kind != ONNX_CONSTANT || v->stage != ONNX_COMPUTED)
        return onnx_fail(x, ERR_UNSUPPORTED, "a shape or list of axes is not a constant");
    const int64_t count = onnx_tensor_count(v->tensor, x->e);
    if (count < 0 || count > max || onnx_tensor_ints(v->tensor, out, x->e) < 0)
        return count > max ? onnx_fail(x, ERR_UNSUPPORTED, "a list of %lld integers, expected at most %d", (long long)count, max)
                           : onnx_blame(x);
    if (v->repeat > max)
        return onnx_fail(x, ERR_UNSUPPORTED, "a list of %d integers, expected at most %d", v->repeat, max);
    for (int i = 1; count == 1 && i < v->repeat; i++)
        out[i] = out[0];
    if (v->repeat)
        return v->repeat;
    return (int)count;
}

int64_t onnx_read_floats(struct onnx *x, const struct onnx_value *v, int64_t max, float **out)
{
    const int64_t count = onnx_tensor_count(v->tensor, x->e);
    if (count < 1 || count > max)
        return onnx_fail(x, ERR_UNSUPPORTED, "constant '%.80s' has %lld elements, expected 1 to %lld", v->name, (long long)count,
                         (long long)max);
    float *f = malloc((size_t)count * sizeof *f);
    if (!f)
        return onnx_fail(x, ERR_MEMORY, "no memory for %lld values", (long long)count);
    int bad = 0;
    if (v->stage == ONNX_COMPUTED)
        bad = onnx_tensor_floats(v->tensor, f, x->e) < 0 ? onnx_blame(x) : 0;
    else
        bad = onnx_dequantised(x, v, f);
    if (bad) {
        free(f);
        return -1;
    }
    *out = f;
    return count;
}

/* ---- nodes of ours ---- */

/* Characters that a name may not have become '_'; of a long name the end tells more. */
static void clean_name(const char *from, char *to, size_t size)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    size_t length = strlen(from), n = 0;
    if (length > size - 1)
        from += length - (size - 1);
    while (*from == '/')
        from++;
    for (; *from; from++)
        to[n++] = strchr(allowed, *from) ? *from : '_';
    to[n] = 0;
}

static int is_taken(const struct onnx *x, const char *name)
{
    for (int i = 0; i < x->net.graph.count; i++)
        if (strcmp(x->net.graph.nodes[i].name, name) == 0)
            return 1;
    return 0;
}

int onnx_add_node(struct onnx *x, enum op op, int in0, int in1)
{
    char base[GRAPH_NAME_MAX - 8] = "", name[GRAPH_NAME_MAX];
    struct graph *g = &x->net.graph;
    if (x->node)
        clean_name(onnx_text(x->node->name), base, sizeof base);
    if (x->node && !base[0])
        clean_name(onnx_text(x->node->output[0]), base, sizeof base);
    if (!base[0])
        snprintf(base, sizeof base, "%s%d", op_name(op), g->count);
    snprintf(name, sizeof name, "%s", base);
    for (int i = g->count; is_taken(x, name); i++)
        snprintf(name, sizeof name, "%s.%d", base, i);
    struct node *n = graph_add(g, op, "%s", name);
    if (!n)
        return g->count >= GRAPH_NODES_MAX ? onnx_fail(x, ERR_TOO_LARGE, "the network has more than %d layers", GRAPH_NODES_MAX)
                                           : onnx_fail(x, ERR_MEMORY, "no memory");
    n->in[0] = in0;
    n->in[1] = in1;
    if (in0 >= 0) { /* until something says otherwise */
        n->h = g->nodes[in0].h;
        n->w = g->nodes[in0].w;
        n->c = g->nodes[in0].c;
    }
    return g->count - 1;
}

int onnx_window(struct onnx *x, int node, const struct onnx_value *v)
{
    struct node *n = &x->net.graph.nodes[node];
    const struct node *in = &x->net.graph.nodes[n->in[0]];
    if (v->padded) {
        n->pad_top += v->pad[0];
        n->pad_left += v->pad[1];
        n->pad_bottom += v->pad[2];
        n->pad_right += v->pad[3];
    }
    /* what no window reaches is no padding */
    const int rest_h = (in->h + n->pad_top + n->pad_bottom - n->kernel_h) % n->stride_h,
              rest_w = (in->w + n->pad_left + n->pad_right - n->kernel_w) % n->stride_w;
    n->pad_bottom -= rest_h < 0 ? 0 : rest_h < n->pad_bottom ? rest_h : n->pad_bottom;
    n->pad_right -= rest_w < 0 ? 0 : rest_w < n->pad_right ? rest_w : n->pad_right;
    if (n->pad_top >= n->kernel_h || n->pad_bottom >= n->kernel_h || n->pad_left >= n->kernel_w || n->pad_right >= n->kernel_w)
        return onnx_fail(x, ERR_UNSUPPORTED, "padding of %d,%d,%d,%d is not less than the %dx%d window", n->pad_top, n->pad_left,
                         n->pad_bottom, n->pad_right, n->kernel_h, n->kernel_w);
    const int h = in->h + n->pad_top + n->pad_bottom - n->kernel_h, w = in->w + n->pad_left + n->pad_right - n->kernel_w;
    if (h < 0 || w < 0)
        return onnx_fail(x, ERR_UNSUPPORTED, "the %dx%d window is larger than its input", n->kernel_h, n->kernel_w);
    n->h = h / n->stride_h + 1;
    n->w = w / n->stride_w + 1;
    return 0;
}

/* ---- the operators ---- */

static const struct operator
{
    const char *name;
    size_t inputs_min, inputs_max;
    int (*run)(struct onnx * x);
}
operators[] = {
    {"Conv", 2, 3, onnx_conv},
    {"Gemm", 2, 3, onnx_gemm},
    {"MatMul", 2, 2, onnx_matmul},
    {"BatchNormalization", 5, 5, onnx_batch_norm},
    {"Add", 2, 2, onnx_add},
    {"Sum", 2, 2, onnx_add},
    {"Sub", 2, 2, onnx_sub},
    {"Mul", 2, 2, onnx_mul},
    {"Div", 2, 2, onnx_div},
    {"Relu", 1, 1, onnx_relu},
    {"Clip", 1, 3, onnx_clip},
    {"MaxPool", 1, 1, onnx_max_pool},
    {"AveragePool", 1, 1, onnx_average_pool},
    {"GlobalAveragePool", 1, 1, onnx_global_average_pool},
    {"ReduceMean", 1, 2, onnx_reduce_mean},
    {"Identity", 1, 1, onnx_pass},
    {"Dropout", 1, 3, onnx_pass},
    {"Cast", 1, 1, onnx_pass},
    {"Softmax", 1, 1, onnx_softmax},
    {"Constant", 0, 0, onnx_constant_node},
    {"ConstantOfShape", 1, 1, onnx_constant_of_shape},
    {"Flatten", 1, 1, onnx_flatten},
    {"Reshape", 2, 2, onnx_reshape},
    {"Squeeze", 1, 2, onnx_squeeze},
    {"Unsqueeze", 1, 2, onnx_unsqueeze},
    {"Transpose", 1, 1, onnx_transpose},
    {"Pad", 1, 4, onnx_pad},
    {"Slice", 1, 5, onnx_slice},
    {"Shape", 1, 1, onnx_shape},
    {"Gather", 2, 2, onnx_gather},
    {"Concat", 1, ONNX_INTS_MAX, onnx_concat},
    {"QuantizeLinear", 2, 3, onnx_quantize},
    {"DequantizeLinear", 2, 3, onnx_dequantize},
    {"QLinearConv", 8, 9, onnx_qlinear_conv},
    {"QLinearMatMul", 8, 8, onnx_qlinear_matmul},
    {"QGemm", 7, 9, onnx_qgemm},
    {"QLinearAdd", 7, 8, onnx_qlinear_add},
    {"QLinearGlobalAveragePool", 4, 5, onnx_qlinear_average},
};

enum { OPERATORS = sizeof operators / sizeof *operators };

int onnx_run_node(struct onnx *x)
{
    const Onnx__NodeProto *n = x->node;
    const char *domain = onnx_text(n->domain), *type = onnx_text(n->op_type);
    int i = 0;
    while (i < OPERATORS && strcmp(operators[i].name, type) != 0)
        i++;
    if (i == OPERATORS || (domain[0] && strcmp(domain, "ai.onnx") != 0 && strcmp(domain, "com.microsoft") != 0))
        return onnx_fail(x, ERR_UNSUPPORTED, "operator %.40s%s%.40s is not among those of a ResNet that are read here", domain,
                         domain[0] ? "." : "", type);
    if (n->n_input < operators[i].inputs_min || n->n_input > operators[i].inputs_max || !onnx_output(x, 0))
        return onnx_fail(x, ERR_DAMAGED, "has %zu inputs and %zu outputs", n->n_input, n->n_output);
    for (size_t k = 0; k < n->n_input; k++) {
        const struct onnx_value *v = onnx_input(x, k);
        if (n->input[k][0] ? !v || v->kind == ONNX_NOT_YET : k < operators[i].inputs_min && k < 2)
            return onnx_fail(x, ERR_DAMAGED, "reads '%.80s', which nothing before it writes", n->input[k]);
    }
    return operators[i].run(x);
}

// SPDX-License-Identifier: MIT
//
// Collects the values of the source graph, walks its nodes in order, and checks what came out. What an operator means is in the
// other files; here is the table of all that are known.

#include "models/checkpoint/onnx_graph.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/checkpoint/onnx_file.h"

/* ---- errors ---- */

static const char *text_of(const char *s)
{
    return s ? s : "";
}

int onnx_blame(struct onnx *x)
{
    const Onnx__NodeProto *n = x->node;
    if (!n)
        return err_prefix(x->e, "%s", x->path);
    const char *name = text_of(n->name), *output = n->n_output ? text_of(n->output[0]) : "";
    return err_prefix(x->e, "%s: node '%.80s' (%.40s)", x->path, name[0] ? name : output, text_of(n->op_type));
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

static struct onnx_value *find(const struct onnx *x, const char *name)
{
    const struct onnx_value key = {.name = name};
    return bsearch(&key, x->values, (size_t)x->value_count, sizeof key, by_name);
}

static const Onnx__TensorProto *find_initializer(const struct onnx *x, const char *name)
{
    const struct onnx_value *v = find(x, name);
    return v ? v->tensor : NULL;
}

/* Initialisers, inputs that are none, and outputs of nodes: every name is written once. */
static int collect_values(struct onnx *x)
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
        if (!find_initializer(x, text_of(g->input[i]->name)))
            x->values[count++] = (struct onnx_value){.name = text_of(g->input[i]->name)};
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
            struct onnx_value *v = find(x, g->node[i]->input[k]);
            if (v)
                v->readers++;
        }
    return 0;
}

struct onnx_value *onnx_input(struct onnx *x, size_t i)
{
    return i < x->node->n_input && x->node->input[i][0] ? find(x, x->node->input[i]) : NULL;
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
    return i < x->node->n_output && x->node->output[i][0] ? find(x, x->node->output[i]) : NULL;
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
        clean_name(text_of(x->node->name), base, sizeof base);
    if (x->node && !base[0])
        clean_name(text_of(x->node->output[0]), base, sizeof base);
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

static int run_node(struct onnx *x)
{
    const Onnx__NodeProto *n = x->node;
    const char *domain = text_of(n->domain), *type = text_of(n->op_type);
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

/* ---- input and output ---- */

static int starts_with_7x7(const struct onnx *x)
{
    for (size_t i = 0; i < x->graph->n_node; i++) {
        const Onnx__NodeProto *n = x->graph->node[i];
        for (size_t k = 0; k < n->n_input; k++) {
            const Onnx__TensorProto *t = find_initializer(x, n->input[k]);
            if (t && t->n_dims == 4)
                return t->dims[2] == 7;
        }
    }
    return 0;
}

/* Dimension i of the input, 0 when it is free. */
static int64_t input_dimension(const Onnx__TensorShapeProto *s, size_t i)
{
    const Onnx__TensorShapeProto__Dimension *d = s->dim[i];
    return d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE && d->dim_value > 0 ? d->dim_value : 0;
}

static int start(struct onnx *x, const struct import_options *o)
{
    const Onnx__ValueInfoProto *input = NULL;
    for (size_t i = 0; i < x->graph->n_input; i++)
        if (!find_initializer(x, text_of(x->graph->input[i]->name))) {
            if (input)
                return err_set(x->e, ERR_UNSUPPORTED, "%s: has two inputs, '%.80s' and '%.80s'; an image is one", x->path,
                               text_of(input->name), text_of(x->graph->input[i]->name));
            input = x->graph->input[i];
        }
    const Onnx__TensorShapeProto *s = input && input->type && input->type->tensor_type ? input->type->tensor_type->shape : NULL;
    if (!s || s->n_dim != 4)
        return err_set(x->e, ERR_UNSUPPORTED, "%s: its input is not an image of shape [N, 3, height, width]", x->path);
    const int nhwc = input_dimension(s, 3) == 3 && input_dimension(s, 1) != 3;
    const int64_t channels = input_dimension(s, nhwc ? 3 : 1);
    int64_t h = input_dimension(s, nhwc ? 1 : 2), w = input_dimension(s, nhwc ? 2 : 3);
    if (channels != 3 && channels != 0)
        return err_set(x->e, ERR_UNSUPPORTED, "%s: its input '%.80s' has %lld channels; colour images have 3", x->path,
                       text_of(input->name), (long long)channels);
    x->batch = input_dimension(s, 0) ? input_dimension(s, 0) : 1;

    struct preprocess *p = &x->net.preprocess;
    int width, height;
    const int large = h ? h > 64 : starts_with_7x7(x);
    x->own_preprocess = o->preprocess != NULL;
    if (checkpoint_preprocess(o, large ? "imagenet" : "cifar10", p, x->e) < 0)
        return -1;
    preprocess_output_size(p, 0, 0, &width, &height);
    if ((h && height && h != height) || (w && width && w != width))
        return err_set(x->e, ERR_INPUT, "%s: takes images of %lldx%lld, the preprocessing gives %dx%d", x->path, (long long)w,
                       (long long)h, width, height);
    h = h ? h : height;
    w = w ? w : width;
    if (h < 1 || w < 1 || h > GRAPH_SIDE_MAX || w > GRAPH_SIDE_MAX)
        return err_set(x->e, ERR_INPUT, "%s: neither the file nor the preprocessing fixes the size of its input", x->path);

    struct node *n = graph_add(&x->net.graph, OP_INPUT, "input");
    if (!n)
        return err_set(x->e, ERR_MEMORY, "%s: no memory", x->path);
    n->c = 3;
    n->h = (int)h;
    n->w = (int)w;
    struct onnx_value *v = find(x, text_of(input->name));
    v->kind = ONNX_ACTIVATION;
    v->alone = 1;
    v->view = nhwc ? ONNX_NHWC : ONNX_NCHW;
    const int32_t type = input->type->tensor_type->elem_type;
    if (type == ONNX__TENSOR_PROTO__DATA_TYPE__INT8 || type == ONNX__TENSOR_PROTO__DATA_TYPE__UINT8)
        v->stage = ONNX_QUANTISED;
    return 0;
}

static int finish(struct onnx *x)
{
    x->node = NULL;
    const struct onnx_value *v = find(x, text_of(x->graph->output[0]->name));
    if (!v || v->kind != ONNX_ACTIVATION || v->padded)
        return err_set(x->e, ERR_DAMAGED, "%s: its output '%.80s' is not computed from its input", x->path,
                       text_of(x->graph->output[0]->name));
    x->net.graph.output = v->node;
    if (x->int8 && onnx_finish_quants(x) < 0)
        return -1;
    return graph_check(&x->net.graph, x->e) < 0 ? err_prefix(x->e, "%s", x->path) : 0;
}

/* Layers with weights on the longest way from input to output: what the family counts. Grouped 3x3 make it a ResNeXt. */
static void name_network(const struct onnx *x, struct network *n)
{
    int depth[GRAPH_NODES_MAX];
    int groups = 1, width = 0;
    for (int i = 0; i < n->graph.count; i++) {
        const struct node *v = &n->graph.nodes[i];
        const int a = v->in[0] >= 0 ? depth[v->in[0]] : 0, b = v->in[1] >= 0 ? depth[v->in[1]] : 0;
        const int own = node_has_weights(v) && !x->extra[i].helper;
        depth[i] = (a > b ? a : b) + own;
        if (own && v->groups > 1 && v->groups < v->c && groups == 1) {
            groups = v->groups;
            width = v->c / groups;
        }
    }
    if (groups > 1)
        snprintf(n->name, sizeof n->name, "resnext%d_%dx%dd", depth[n->graph.output], groups, width);
    else
        snprintf(n->name, sizeof n->name, "resnet%d", depth[n->graph.output]);
}

/* ---- the whole ---- */

static int check_versions(struct onnx *x, const Onnx__ModelProto *m)
{
    for (size_t i = 0; i < m->n_opset_import; i++) {
        const char *domain = text_of(m->opset_import[i]->domain);
        const int64_t version = m->opset_import[i]->version;
        if (domain[0] && strcmp(domain, "ai.onnx") != 0)
            continue;
        if (version < ONNX_OPSET_MIN || version > ONNX_OPSET_MAX)
            return err_set(x->e, ERR_UNSUPPORTED, "%s: opset %lld; %d to %d are read here", x->path, (long long)version,
                           ONNX_OPSET_MIN, ONNX_OPSET_MAX);
        x->opset = (int)version;
    }
    return x->opset ? 0 : err_set(x->e, ERR_DAMAGED, "%s: does not say which opset it uses", x->path);
}

/* A constant's QuantizeLinear is part of its weights; what counts is whether activations are quantised. */
static int is_quantised(const struct onnx *x)
{
    for (size_t i = 0; i < x->graph->n_node; i++) {
        const Onnx__NodeProto *n = x->graph->node[i];
        const char *type = text_of(n->op_type);
        if (strncmp(type, "QLinear", 7) == 0 || strcmp(type, "QGemm") == 0 ||
            (strcmp(type, "QuantizeLinear") == 0 && n->n_input && !find_initializer(x, n->input[0])))
            return 1;
    }
    return 0;
}

static int translate(struct onnx *x, const Onnx__ModelProto *m, const struct import_options *o)
{
    const Onnx__GraphProto *g = m->graph;
    x->graph = g;
    if (check_versions(x, m) < 0 || collect_values(x) < 0)
        return -1;
    if (g->n_output != 1)
        return err_set(x->e, ERR_UNSUPPORTED, "%s: has %zu outputs; a classifier has one", x->path, g->n_output);
    struct onnx_value *last = find(x, text_of(g->output[0]->name));
    if (last)
        last->readers++;
    x->int8 = is_quantised(x);
    x->net.precision = x->int8 ? PRECISION_INT8 : PRECISION_FP32;
    x->net.layers = calloc(GRAPH_NODES_MAX, sizeof *x->net.layers);
    x->net.quants = x->int8 ? calloc(GRAPH_NODES_MAX, sizeof *x->net.quants) : NULL;
    x->extra = calloc(GRAPH_NODES_MAX, sizeof *x->extra);
    if (!x->net.layers || !x->extra || (x->int8 && !x->net.quants))
        return err_set(x->e, ERR_MEMORY, "%s: no memory", x->path);
    if (start(x, o) < 0)
        return -1;
    for (size_t i = 0; i < g->n_node; i++) {
        x->node = g->node[i];
        if (run_node(x) < 0)
            return -1;
    }
    return finish(x);
}

static int check_arch(const struct onnx *x, const char *arch)
{
    const size_t length = strlen(x->net.name);
    if (!arch || (strncmp(arch, x->net.name, length) == 0 && (!arch[length] || strcmp(arch + length, "-v1") == 0)))
        return 0;
    return err_set(x->e, ERR_INPUT, "%s: its layers say %s, not %s", x->path, x->net.name, arch);
}

int onnx_import(const char *path, const struct import_options *o, struct network *out, struct err *e)
{
    struct onnx x = {.path = path, .e = e};
    Onnx__ModelProto *m;
    if (onnx_file_read(path, &m, e) < 0)
        return -1;
    int bad = translate(&x, m, o);
    if (!bad) {
        name_network(&x, &x.net);
        bad = check_arch(&x, o->arch);
    }
    if (!bad && x.int8 && !(x.net.quantization = onnx_describe(&x)))
        bad = err_set(e, ERR_MEMORY, "%s: no memory", path);
    free(x.values);
    free(x.extra);
    onnx_file_free(m);
    if (bad)
        network_free(&x.net);
    else
        *out = x.net;
    return bad;
}

// SPDX-License-Identifier: MIT
//
// onnx.c - from a file to a network: what its input is, a walk over its nodes, and what came out.

#include "models/checkpoint/onnx.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/checkpoint/onnx_file.h"
#include "models/checkpoint/onnx_graph.h"

/* ---- what the file says besides its graph ---- */

static const char *metadata(const Onnx__ModelProto *m, const char *key)
{
    for (size_t i = 0; i < m->n_metadata_props; i++)
        if (strcmp(onnx_text(m->metadata_props[i]->key), key) == 0)
            return onnx_text(m->metadata_props[i]->value);
    return NULL;
}

/* The caller's preprocessing, the file's, or what fits. */
static int set_preprocess(struct onnx *x, const Onnx__ModelProto *m, const struct import_options *o, const char *preset)
{
    static const char key[] = ONNX_METADATA "preprocess";
    struct import_options wanted = *o;
    struct preprocess own;
    const char *text = wanted.preprocess ? NULL : metadata(m, key);
    if (text) {
        if (preprocess_from_json(text, &own, x->e) < 0)
            return err_prefix(x->e, "%s: metadata %s", x->path, key);
        wanted.preprocess = &own;
    }
    x->own_preprocess = wanted.preprocess != NULL;
    return checkpoint_preprocess(&wanted, preset, &x->net.preprocess, x->e);
}

static int set_labels(struct onnx *x, const Onnx__ModelProto *m)
{
    static const char key[] = ONNX_METADATA "labels";
    struct network *n = &x->net;
    const char *text = metadata(m, key);
    const int classes = n->graph.nodes[n->graph.output].c;
    if (text && labels_from_json(text, strlen(text), classes, &n->labels, &n->label_count, x->e) < 0)
        return err_prefix(x->e, "%s: metadata %s", x->path, key);
    return 0;
}

/* ---- input and output ---- */

static int starts_with_7x7(const struct onnx *x)
{
    for (size_t i = 0; i < x->graph->n_node; i++) {
        const Onnx__NodeProto *n = x->graph->node[i];
        for (size_t k = 0; k < n->n_input; k++) {
            const Onnx__TensorProto *t = onnx_initializer(x, n->input[k]);
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

static int start(struct onnx *x, const Onnx__ModelProto *m, const struct import_options *o)
{
    const Onnx__ValueInfoProto *input = NULL;
    for (size_t i = 0; i < x->graph->n_input; i++)
        if (!onnx_initializer(x, onnx_text(x->graph->input[i]->name))) {
            if (input)
                return err_set(x->e, ERR_UNSUPPORTED, "%s: has two inputs, '%.80s' and '%.80s'; an image is one", x->path,
                               onnx_text(input->name), onnx_text(x->graph->input[i]->name));
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
                       onnx_text(input->name), (long long)channels);
    x->batch = input_dimension(s, 0) ? input_dimension(s, 0) : 1;

    const struct preprocess *p = &x->net.preprocess;
    int width, height;
    const int large = h ? h > 64 : starts_with_7x7(x);
    if (set_preprocess(x, m, o, large ? "imagenet" : "cifar10") < 0)
        return -1;
    preprocess_output_size(p, 0, 0, &width, &height);
    if ((h && height && h != height) || (w && width && w != width))
        return err_set(x->e, ERR_INPUT,
                       "%s: takes images of %lldx%lld, the preprocessing gives %dx%d: choose another with --preprocess", x->path,
                       (long long)w, (long long)h, width, height);
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
    struct onnx_value *v = onnx_find(x, onnx_text(input->name));
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
    const struct onnx_value *v = onnx_find(x, onnx_text(x->graph->output[0]->name));
    if (!v || v->kind != ONNX_ACTIVATION || v->padded)
        return err_set(x->e, ERR_DAMAGED, "%s: its output '%.80s' is not computed from its input", x->path,
                       onnx_text(x->graph->output[0]->name));
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
        const char *domain = onnx_text(m->opset_import[i]->domain);
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
        const char *type = onnx_text(n->op_type);
        if (strncmp(type, "QLinear", 7) == 0 || strcmp(type, "QGemm") == 0 ||
            (strcmp(type, "QuantizeLinear") == 0 && n->n_input && !onnx_initializer(x, n->input[0])))
            return 1;
    }
    return 0;
}

static int translate(struct onnx *x, const Onnx__ModelProto *m, const struct import_options *o)
{
    const Onnx__GraphProto *g = m->graph;
    x->graph = g;
    if (check_versions(x, m) < 0 || onnx_collect_values(x) < 0)
        return -1;
    if (g->n_output != 1)
        return err_set(x->e, ERR_UNSUPPORTED, "%s: has %zu outputs; a classifier has one", x->path, g->n_output);
    struct onnx_value *last = onnx_find(x, onnx_text(g->output[0]->name));
    if (last)
        last->readers++;
    x->int8 = is_quantised(x);
    x->net.precision = x->int8 ? PRECISION_INT8 : PRECISION_FP32;
    x->net.layers = calloc(GRAPH_NODES_MAX, sizeof *x->net.layers);
    x->net.quants = x->int8 ? calloc(GRAPH_NODES_MAX, sizeof *x->net.quants) : NULL;
    x->extra = calloc(GRAPH_NODES_MAX, sizeof *x->extra);
    if (!x->net.layers || !x->extra || (x->int8 && !x->net.quants))
        return err_set(x->e, ERR_MEMORY, "%s: no memory", x->path);
    if (start(x, m, o) < 0)
        return -1;
    for (size_t i = 0; i < g->n_node; i++) {
        x->node = g->node[i];
        if (onnx_run_node(x) < 0)
            return -1;
    }
    return finish(x) < 0 ? -1 : set_labels(x, m);
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

// SPDX-License-Identifier: MIT
//
// The operators of a .tflite file come in the order in which they run, so one walk over them makes the graph: it keeps, for each
// tensor of the file, which node computes it. Shapes are computed here anew and compared with those of the file at the end.

#include "models/checkpoint/tflite.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "models/checkpoint/tflite_operators.h"
#include "models/input.h"

/* Fields of the schema's tables. */
enum { MODEL_VERSION, MODEL_CODES, MODEL_SUBGRAPHS, MODEL_BUFFERS = 4 };
enum { SUBGRAPH_TENSORS, SUBGRAPH_INPUTS, SUBGRAPH_OUTPUTS, SUBGRAPH_OPERATORS };

enum { SCHEMA_VERSION = 3 };

/* ---- from the file to the lists of its parts */

static int read_lists(struct tflite_reader *r, int32_t *input, int32_t *output, struct err *e)
{
    const struct fb_table model = fb_root(&r->buffer, "TFL3");
    const uint32_t version = fb_uint32(&model, MODEL_VERSION, 0);
    const struct fb_vector subgraphs = fb_tables(&model, MODEL_SUBGRAPHS);
    r->codes = fb_tables(&model, MODEL_CODES);
    r->buffers = fb_tables(&model, MODEL_BUFFERS);
    if (fb_check(&r->buffer, e))
        return -1;
    if (version != SCHEMA_VERSION)
        return err_set(e, ERR_UNSUPPORTED, "its schema is version %u, this version reads %d", version, SCHEMA_VERSION);
    if (subgraphs.count != 1)
        return err_set(e, ERR_UNSUPPORTED, "it has %u subgraphs, must have one", subgraphs.count);

    const struct fb_table graph = fb_at(&subgraphs, 0);
    const struct fb_vector inputs = fb_numbers(&graph, SUBGRAPH_INPUTS, 4), outputs = fb_numbers(&graph, SUBGRAPH_OUTPUTS, 4);
    r->tensors = fb_tables(&graph, SUBGRAPH_TENSORS);
    r->operators = fb_tables(&graph, SUBGRAPH_OPERATORS);
    if (fb_check(&r->buffer, e))
        return -1;
    if (r->tensors.count > TFLITE_TENSORS_MAX || r->codes.count > TFLITE_CODES_MAX || r->operators.count >= GRAPH_NODES_MAX)
        return err_set(e, ERR_TOO_LARGE, "%u tensors, %u operators of %u kinds: the limits are %d, %d, %d", r->tensors.count,
                       r->operators.count, r->codes.count, TFLITE_TENSORS_MAX, GRAPH_NODES_MAX - 1, TFLITE_CODES_MAX);
    if (inputs.count != 1 || outputs.count != 1)
        return err_set(e, ERR_UNSUPPORTED, "it has %u inputs and %u outputs, must have one of each", inputs.count, outputs.count);
    *input = fb_int32_at(&inputs, 0);
    *output = fb_int32_at(&outputs, 0);
    return 0;
}

static int take_memory(struct tflite_reader *r, struct err *e)
{
    const size_t nodes = (size_t)r->operators.count + 1; /* no operator makes more than one */
    r->values = calloc((size_t)r->tensors.count + 1, sizeof *r->values);
    r->net->layers = calloc(nodes, sizeof *r->net->layers);
    r->net->quants = calloc(nodes, sizeof *r->net->quants);
    if (!r->values || !r->net->layers || !r->net->quants)
        return err_set(e, ERR_MEMORY, "no memory for %u tensors and %u operators", r->tensors.count, r->operators.count);
    for (uint32_t i = 0; i < r->tensors.count; i++)
        r->values[i].node = -1;
    return 0;
}

static int read_input(struct tflite_reader *r, int32_t index, struct err *e)
{
    struct tflite_tensor t;
    struct node *n = graph_add(&r->net->graph, OP_INPUT, "input");
    if (!n)
        return err_set(e, ERR_MEMORY, "no memory for the graph");
    if (tflite_tensor(&r->tensors, &r->buffers, index, &t, e) || tflite_image(&t, &n->h, &n->w, &n->c, e))
        return err_prefix(e, "the input");
    if (t.type != TFLITE_F32 && t.type != TFLITE_I8 && t.type != TFLITE_U8)
        return err_set(e, ERR_UNSUPPORTED, "the input is of type %d; float, int8 and uint8 are read", t.type);
    if (t.type != TFLITE_F32 && tflite_quant(&t, &r->net->quants[0], e))
        return err_prefix(e, "the input");
    r->values[index] = (struct tflite_value){.node = 0};
    return 0;
}

/* ---- what can be said once the graph is complete */

/* Every activation has the shape that the operators give it. */
static int check_shapes(const struct tflite_reader *r, struct err *e)
{
    for (uint32_t i = 0; i < r->tensors.count; i++) {
        const struct tflite_value *v = &r->values[i];
        struct tflite_tensor t;
        int h, w, c;
        if (v->node < 0)
            continue;
        if (tflite_tensor(&r->tensors, &r->buffers, (int32_t)i, &t, e) || tflite_image(&t, &h, &w, &c, e))
            return -1;
        const struct node *n = &r->net->graph.nodes[v->node];
        const int want_h = n->h + v->pad_top + v->pad_bottom, want_w = n->w + v->pad_left + v->pad_right;
        if (h != want_h || w != want_w || c != n->c)
            return err_set(e, ERR_INPUT, "tensor %u is %dx%dx%d where its operator gives %dx%dx%d", i, h, w, c, want_h, want_w,
                           n->c);
    }
    return 0;
}

static int check_sums(const struct network *n, struct err *e)
{
    for (int i = 0; i < n->graph.count; i++) {
        const struct node *d = &n->graph.nodes[i];
        if (!node_has_weights(d))
            continue;
        const struct conv_shape s = {.in_c = n->graph.nodes[d->in[0]].c,
                                     .out_c = d->c,
                                     .kernel_h = d->kernel_h,
                                     .kernel_w = d->kernel_w,
                                     .groups = d->groups};
        const int channel =
            conv_check_s8(&s, &(struct conv_params){.weight = n->layers[i].weight, .bias_s32 = n->layers[i].bias_s32});
        if (channel >= 0)
            return err_set(e, ERR_UNSUPPORTED, "layer %s, channel %d: sums could leave 32 bits", d->name, channel);
    }
    return 0;
}

/* ResNets are called after their layers; a projection, one of two convolutions that an add reads, does not count. */
static int depth(const struct graph *g)
{
    int layers = 0;
    for (int i = 0; i < g->count; i++) {
        const struct node *n = &g->nodes[i];
        layers += node_has_weights(n);
        layers -= n->op == OP_ADD && g->nodes[n->in[0]].op == OP_CONV && g->nodes[n->in[1]].op == OP_CONV &&
                  !g->nodes[n->in[0]].relu && !g->nodes[n->in[1]].relu;
    }
    return layers;
}

static int set_name(struct network *n, const char *arch, struct err *e)
{
    snprintf(n->name, sizeof n->name, "resnet%d", depth(&n->graph));
    if (arch && strcmp(arch, n->name) != 0)
        return err_set(e, ERR_INPUT, "by its layers it is a %s, not '%.64s'", n->name, arch);
    return 0;
}

/* An int8 file does not say what its input means, but how it is quantised: each step is taken for a step of a pixel. */
static int set_preprocess(const struct import_options *o, struct network *n, struct err *e)
{
    const struct node *in = &n->graph.nodes[0];
    struct preprocess *p = &n->preprocess;
    int w, h, stem = 1;
    while (stem < n->graph.count - 1 && n->graph.nodes[stem].op != OP_CONV)
        stem++;
    if (checkpoint_preprocess(o, n->graph.nodes[stem].kernel_h == 7 ? "imagenet" : "cifar10", p, e))
        return -1;
    if (o->preprocess)
        return 0;
    preprocess_output_size(p, 0, 0, &w, &h);
    if (w != in->w || h != in->h || n->precision == PRECISION_INT8) {
        p->resize = RESIZE_EXACT;
        p->width = in->w;
        p->height = in->h;
        p->crop_w = p->crop_h = 0;
    }
    if (n->precision != PRECISION_INT8)
        return 0;
    const struct quant q = n->quants[0];
    p->scale = 1 / q.scale;
    for (int c = 0; c < 3; c++) {
        p->mean[c] = q.scale * (float)(q.zero + 128);
        p->std[c] = 1;
    }
    return 0;
}

static int finish(struct tflite_reader *r, int32_t output, const struct import_options *o, struct err *e)
{
    struct network *n = r->net;
    if (output < 0 || (uint32_t)output >= r->tensors.count || r->values[output].node < 0)
        return err_set(e, ERR_INPUT, "its output, tensor %d, is not computed", output);
    const struct tflite_value *v = &r->values[output];
    if (v->pad_top | v->pad_left | v->pad_bottom | v->pad_right)
        return err_set(e, ERR_UNSUPPORTED, "its output comes from a PAD");
    n->graph.output = v->node;
    if (graph_check(&n->graph, e) || check_shapes(r, e))
        return -1;
    if (n->precision == PRECISION_INT8) {
        n->rounding = ROUNDING_TFLITE;
        if (check_sums(n, e))
            return -1;
    } else {
        free(n->quants);
        n->quants = NULL;
    }
    return set_name(n, o->arch, e) || set_preprocess(o, n, e) ? -1 : 0;
}

static int import(struct tflite_reader *r, const struct import_options *o, struct err *e)
{
    int32_t input = -1, output = -1;
    if (read_lists(r, &input, &output, e) || take_memory(r, e) || read_input(r, input, e))
        return r->buffer.wrong ? fb_check(&r->buffer, e) : -1;
    for (uint32_t i = 0; i < r->operators.count; i++)
        if (tflite_operator(r, i, e))
            return -1;
    if (r->net->graph.count == 1)
        return err_set(e, ERR_INPUT, "it computes nothing");
    if (finish(r, output, o, e))
        return r->buffer.wrong ? fb_check(&r->buffer, e) : -1;
    return 0;
}

int tflite_import(const char *path, const struct import_options *o, struct network *out, struct err *e)
{
    struct network n = {.precision = PRECISION_FP32};
    struct tflite_reader r = {.net = &n};
    uint64_t bytes;
    uint8_t *data = NULL;
    int fd = input_open(AT_FDCWD, path, &bytes, e), r_code = -1;
    if (fd < 0)
        return err_prefix(e, "%s", path);
    if (bytes > FB_SIZE_MAX)
        err_set(e, ERR_TOO_LARGE, "%llu bytes, the limit is %zu", (unsigned long long)bytes, FB_SIZE_MAX);
    else if (!(data = malloc((size_t)bytes + 1)))
        err_set(e, ERR_MEMORY, "no memory for %llu bytes", (unsigned long long)bytes);
    else if (input_read(fd, data, bytes, 0, e) == 0) {
        r.buffer = (struct flatbuffer){.data = data, .size = (size_t)bytes};
        r_code = import(&r, o, e);
    }
    close(fd);
    free(data);
    free(r.values);
    if (r_code) {
        network_free(&n);
        return err_prefix(e, "%s", path);
    }
    *out = n;
    return 0;
}

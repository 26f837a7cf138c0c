// SPDX-License-Identifier: MIT

#include "models/quantize/mixed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/half.h"
#include "models/json.h"
#include "models/plan.h"

enum { INT8, HALF };

struct mixer {
    const struct network *int8, *fp16;
    const unsigned char *chosen;
    int *within;  /* add -> the convolution computed within it, -1 */
    int (*at)[2]; /* node of int8 -> its output in the new network, as int8 and as half; -1 where there is none yet */
    struct network out;
};

static int no_memory(struct err *e)
{
    return err_set(e, ERR_MEMORY, "no memory for a network");
}

static int find_within(struct mixer *m, struct err *e)
{
    struct plan plan;
    if (plan_make(&m->int8->graph, 1, &plan, e) < 0)
        return -1;
    for (int i = 0; i < m->int8->graph.count; i++)
        m->within[i] = -1;
    for (int s = 0; s < plan.count; s++)
        if (plan.steps[s].weights >= 0 && plan.steps[s].weights != plan.steps[s].node)
            m->within[plan.steps[s].node] = plan.steps[s].weights;
    plan_free(&plan);
    return 0;
}

/* The output of node i is half, and nobody has needed it as int8 yet. */
static int is_half(const struct mixer *m, int i)
{
    return m->at[i][HALF] >= 0 && m->at[i][INT8] < 0;
}

/* What node i is to work in. Its inputs are placed. */
static int works_in(const struct mixer *m, int i)
{
    const struct graph *g = &m->int8->graph;
    const struct node *n = &g->nodes[i];
    switch (n->op) {
    case OP_CONV:
    case OP_DENSE:
        return m->chosen[i] ? HALF : INT8;
    case OP_ADD:
        if (m->within[i] >= 0)
            return m->chosen[m->within[i]] ? HALF : INT8;
        return is_half(m, n->in[0]) && is_half(m, n->in[1]) ? HALF : INT8;
    case OP_INPUT:
        for (int k = 1; k < g->count; k++)
            if ((g->nodes[k].in[0] == 0 || g->nodes[k].in[1] == 0) && !(node_has_weights(&g->nodes[k]) && m->chosen[k]))
                return INT8;
        return HALF;
    default:
        return is_half(m, n->in[0]) ? HALF : INT8;
    }
}

/* Appends a node whose output is that of node i of the int8 network; the layer stays empty. */
static struct node *append(struct mixer *m, int i, enum op op, int half, const char *suffix, struct err *e)
{
    struct node *n = graph_add(&m->out.graph, op, "%s%s", m->int8->graph.nodes[i].name, suffix);
    if (!n) {
        err_set(e, ERR_TOO_LARGE, "node '%s%s': no memory, too long a name, or more than %d nodes", m->int8->graph.nodes[i].name,
                suffix, GRAPH_NODES_MAX);
        return NULL;
    }
    const int at = m->out.graph.count - 1;
    m->at[i][half] = at;
    if (!half)
        m->out.quants[at] = m->int8->quants[i];
    return n;
}

/* Where the output of node i is as int8 or half, by a cast when it is not there yet; -1: e is set. */
static int output_as(struct mixer *m, int i, int half, struct err *e)
{
    if (m->at[i][half] >= 0)
        return m->at[i][half];
    const struct quant *q = &m->int8->quants[i];
    if (half && q->scale * 255 > HALF_MAX)
        return err_set(e, ERR_UNSUPPORTED, "layer %s gives values up to %g, beyond fp16's %g", m->int8->graph.nodes[i].name,
                       (double)q->scale * 255, (double)HALF_MAX);
    const int from = m->at[i][!half];
    struct node *n = append(m, i, half ? OP_DEQUANTIZE : OP_QUANTIZE, half, half ? ".dequantize" : ".quantize", e);
    if (!n)
        return -1;
    n->in[0] = from;
    return m->out.graph.count - 1;
}

static void *copy(const void *from, size_t bytes)
{
    void *to = malloc(bytes);
    return to ? memcpy(to, from, bytes) : NULL;
}

static int copy_layer(const struct network *n, int i, struct layer *to, struct err *e)
{
    const struct layer *from = &n->layers[i];
    const size_t channels = (size_t)n->graph.nodes[i].c;
    to->weight = copy(from->weight, (size_t)node_weights(&n->graph, i) * weight_bytes(n->precision));
    to->scale = from->scale ? copy(from->scale, channels * sizeof *to->scale) : NULL;
    to->bias = from->bias ? copy(from->bias, channels * sizeof *to->bias) : NULL;
    to->bias_s32 = from->bias_s32 ? copy(from->bias_s32, channels * sizeof *to->bias_s32) : NULL;
    return to->weight && (to->scale || !from->scale) && (to->bias || to->bias_s32) ? 0 : no_memory(e);
}

static int add_node(struct mixer *m, int i, struct err *e)
{
    const struct node *from = &m->int8->graph.nodes[i];
    const int half = works_in(m, i);
    int in[2] = {-1, -1};
    for (int k = 0; k < op_infos[from->op].inputs; k++) {
        in[k] = output_as(m, from->in[k], half, e);
        if (in[k] < 0)
            return -1;
    }
    struct node *n = append(m, i, from->op, half, "", e);
    if (!n)
        return -1;
    *n = *from;
    n->in[0] = in[0];
    n->in[1] = in[1];
    n->half = half;
    if (!node_has_weights(n))
        return 0;
    return copy_layer(half ? m->fp16 : m->int8, i, &m->out.layers[m->out.graph.count - 1], e);
}

/* The text of the int8 network with "fp16_layers". */
static int describe(struct mixer *m, struct err *e)
{
    const struct graph *g = &m->int8->graph;
    const char *text = m->int8->quantization ? m->int8->quantization : "{}";
    cJSON *o = json_parse(text, strlen(text), e);
    if (!o)
        return err_prefix(e, "quantization");
    cJSON_DeleteItemFromObjectCaseSensitive(o, "fp16_layers");
    cJSON *names = NULL;
    int ok = 1;
    for (int i = 0; ok && i < g->count; i++)
        if (m->chosen[i] && node_has_weights(&g->nodes[i])) {
            names = names ? names : cJSON_AddArrayToObject(o, "fp16_layers");
            cJSON *name = cJSON_CreateString(g->nodes[i].name);
            ok = names && name && cJSON_AddItemToArray(names, name);
            if (!ok)
                cJSON_Delete(name);
        }
    m->out.quantization = ok ? cJSON_PrintUnformatted(o) : NULL;
    cJSON_Delete(o);
    return m->out.quantization ? 0 : no_memory(e);
}

static int copy_texts(struct mixer *m, struct err *e)
{
    const struct network *from = m->int8;
    memcpy(m->out.name, from->name, sizeof m->out.name);
    m->out.preprocess = from->preprocess;
    if (from->provenance && !(m->out.provenance = strdup(from->provenance)))
        return no_memory(e);
    return labels_copy(from, &m->out, e);
}

static int mix(struct mixer *m, struct err *e)
{
    const struct graph *g = &m->int8->graph;
    const size_t most = 2 * (size_t)g->count; /* a node and one cast */
    m->within = malloc((size_t)g->count * sizeof *m->within);
    m->at = malloc((size_t)g->count * sizeof *m->at);
    m->out.layers = calloc(most, sizeof *m->out.layers);
    m->out.quants = calloc(most, sizeof *m->out.quants);
    if (!m->within || !m->at || !m->out.layers || !m->out.quants)
        return no_memory(e);
    for (int i = 0; i < g->count; i++)
        m->at[i][INT8] = m->at[i][HALF] = -1;
    if (copy_texts(m, e) < 0 || find_within(m, e) < 0 || describe(m, e) < 0)
        return -1;
    for (int i = 0; i < g->count; i++)
        if (add_node(m, i, e) < 0)
            return -1;
    const int *out = m->at[g->output];
    m->out.graph.output = out[INT8] >= 0 ? out[INT8] : out[HALF];
    return graph_check(&m->out.graph, e);
}

int mixed_network(const struct network *int8, const struct network *fp16, const unsigned char *chosen, struct network *out,
                  struct err *e)
{
    if (int8->precision != PRECISION_INT8 || fp16->precision != PRECISION_FP16 || int8->rounding == ROUNDING_TFLITE)
        return err_set(e, ERR_INPUT, "fp16 layers go from fp16 into int8 networks: this is %s into %s%s",
                       precision_name(fp16->precision), precision_name(int8->precision),
                       int8->rounding == ROUNDING_TFLITE ? " rounded as tflite" : "");
    struct mixer m = {.int8 = int8, .fp16 = fp16, .chosen = chosen, .out = {.precision = PRECISION_INT8}};
    const int bad = mix(&m, e);
    free(m.within);
    free(m.at);
    if (bad)
        network_free(&m.out);
    else
        *out = m.out;
    return bad ? -1 : 0;
}

// SPDX-License-Identifier: MIT
//
// All packed weights lie in one mapping: a model that is dropped gives its memory back to the system to the last page.

#include "models/model.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "models/file.h"
#include "models/model_parts.h"

struct model {
    atomic_int references;
    struct network net; /* without weights */
    const struct kernels *kernels;
    struct plan plan;
    struct conv **convs; /* [plan.count], NULL for steps without weights */
    void *weights;       /* the mapping */
    size_t weight_bytes;
    size_t scratch_bytes;
};

static struct conv_shape conv_shape(const struct graph *g, int node)
{
    const struct node *n = &g->nodes[node], *in = &g->nodes[n->in[0]];
    return (struct conv_shape){in->h,       in->w,       in->c,       n->h,       n->w,        n->c,     n->kernel_h,
                               n->kernel_w, n->stride_h, n->stride_w, n->pad_top, n->pad_left, n->groups};
}

/* What the packed weights of a step take. */
static size_t step_bytes(const struct model *m, const struct network *n, int step)
{
    const int node = m->plan.steps[step].weights;
    const struct conv_shape shape = node >= 0 ? conv_shape(&n->graph, node) : (struct conv_shape){0};
    return node >= 0 ? conv_bytes(m->kernels, node_precision(&n->graph.nodes[node], n->precision), &shape) : 0;
}

/* Plan and memory for all weights, once the graph is known; convs[] become the places of the packed layers. */
static int prepare(void *user, const struct network *n, struct err *e)
{
    struct model *m = user;
    if (plan_make(&n->graph, activation_bytes(n->precision), &m->plan, e) < 0)
        return -1;
    m->convs = calloc((size_t)m->plan.count, sizeof *m->convs);
    if (!m->convs)
        return err_set(e, ERR_MEMORY, "no memory for a model of %d steps", m->plan.count);
    for (int s = 0; s < m->plan.count; s++)
        m->weight_bytes += step_bytes(m, n, s);
    if (m->weight_bytes == 0)
        return err_set(e, ERR_INPUT, "the network has no weights");
    void *p = mmap(NULL, m->weight_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return err_set(e, ERR_MEMORY, "no memory for %zu bytes of weights", m->weight_bytes);
    m->weights = p;
    (void)madvise(p, m->weight_bytes, MADV_HUGEPAGE); /* all of it will be written: a fault for 2 MB instead of each 4 kB */
    char *at = p;
    for (int s = 0; s < m->plan.count; s++)
        if (m->plan.steps[s].weights >= 0) {
            m->convs[s] = (struct conv *)(void *)at;
            at += step_bytes(m, n, s);
        }
    return 0;
}

int step_writes_logits(const struct network *n, const struct step *s)
{
    const struct node *node = &n->graph.nodes[s->node];
    return node_precision(node, n->precision) == PRECISION_INT8 && s->node == n->graph.output && s->op == OP_CONV &&
           s->in[1] < 0 && !s->relu && !node->keep_output;
}

/* TensorFlow Lite multiplies scales in double, but in float in a dense layer with one scale for all channels. */
static int product_in_float(const struct node *n, const struct layer *l)
{
    int c = 1;
    while (c < n->c && l->scale[c] == l->scale[0])
        c++;
    return n->op == OP_DENSE && c == n->c;
}

/* A layer_fn: packs the weights of one node; several threads pack several nodes. */
static int pack(void *user, const struct network *n, int node, const struct layer *l, struct err *e)
{
    struct model *m = user;
    int s = 0;
    while (s < m->plan.count && m->plan.steps[s].weights != node)
        s++;
    if (s == m->plan.count)
        return err_set(e, ERR_INTERNAL, "no step computes node %s", n->graph.nodes[node].name);
    const struct step *step = &m->plan.steps[s];
    const enum precision p = node_precision(&n->graph.nodes[node], n->precision);
    struct conv_shape shape = conv_shape(&n->graph, node);
    struct conv_params params = {
        .weight = l->weight, .scale = l->scale, .bias = l->bias, .bias_s32 = l->bias_s32, .relu = step->relu};
    if (p == PRECISION_INT8) {
        params.in = n->quants[step->in[0]];
        params.out = n->quants[step->node];
        params.float_out = step_writes_logits(n, step);
        params.rounding = n->rounding;
        params.product_in_float = product_in_float(&n->graph.nodes[node], l);
        if (step->in[1] >= 0)
            params.residual = n->quants[step->in[1]];
        int channel = conv_check_s8(&shape, &params);
        if (channel >= 0)
            return err_set(e, ERR_UNSUPPORTED, "layer %s, channel %d: sums could leave 32 bits", n->graph.nodes[node].name,
                           channel);
    }
    conv_init(m->convs[s], m->kernels, p, &shape, &params);
    return 0;
}

/* When all layers are packed. */
static void finish(struct model *m)
{
    for (int s = 0; s < m->plan.count; s++) {
        const size_t scratch = m->convs[s] ? conv_scratch_bytes(m->convs[s]) : 0;
        if (scratch > m->scratch_bytes)
            m->scratch_bytes = scratch;
    }
}

static struct model *model_new(const struct kernels *k, struct err *e)
{
    struct model *m = calloc(1, sizeof *m);
    if (!m) {
        err_set(e, ERR_MEMORY, "no memory for a model");
        return NULL;
    }
    atomic_init(&m->references, 1);
    m->kernels = k;
    return m;
}

int model_load(const char *path, const struct kernels *k, struct pthreadpool *pool, struct model **out, struct err *e)
{
    struct model *m = model_new(k, e);
    if (!m)
        return -1;
    if (model_file_stream(path, pool, &(struct layer_sink){prepare, pack, m}, &m->net, e) < 0) {
        model_free(m);
        return -1;
    }
    finish(m);
    *out = m;
    return 0;
}

/* What a model keeps of a network: everything but the weights and the reports. */
static int copy_header(const struct network *from, struct network *to, struct err *e)
{
    memcpy(to->name, from->name, sizeof to->name);
    memcpy(to->digest, from->digest, sizeof to->digest);
    to->precision = from->precision;
    to->rounding = from->rounding;
    to->preprocess = from->preprocess;
    if (graph_copy(&from->graph, &to->graph, e) < 0)
        return -1;
    size_t nodes = (size_t)from->graph.count;
    if (from->quants) {
        to->quants = malloc(nodes * sizeof *to->quants);
        if (!to->quants)
            return err_set(e, ERR_MEMORY, "no memory for a model");
        memcpy(to->quants, from->quants, nodes * sizeof *to->quants);
    }
    return labels_copy(from, to, e);
}

int model_from_network(const struct network *n, const struct kernels *k, struct model **out, struct err *e)
{
    struct model *m = model_new(k, e);
    if (!m)
        return -1;
    int bad = copy_header(n, &m->net, e) < 0 || rounding_check(n, e) < 0 || half_check(n, e) < 0 || prepare(m, n, e) < 0;
    for (int i = 0; !bad && i < n->graph.count; i++)
        if (node_has_weights(&n->graph.nodes[i]))
            bad = pack(m, n, i, &n->layers[i], e);
    if (bad) {
        model_free(m);
        return -1;
    }
    finish(m);
    *out = m;
    return 0;
}

void model_drop_selftest(struct model *m)
{
    selftest_free(&m->net.selftest);
}

struct model *model_ref(struct model *m)
{
    atomic_fetch_add(&m->references, 1);
    return m;
}

void model_free(struct model *m)
{
    if (!m || atomic_fetch_sub(&m->references, 1) != 1)
        return;
    network_free(&m->net);
    plan_free(&m->plan);
    free(m->convs);
    if (m->weights)
        munmap(m->weights, m->weight_bytes);
    free(m);
}

const struct network *model_network(const struct model *m)
{
    return &m->net;
}

const struct kernels *model_kernels(const struct model *m)
{
    return m->kernels;
}

int model_classes(const struct model *m)
{
    return m->net.graph.nodes[m->net.graph.output].c;
}

void model_input_size(const struct model *m, int *w, int *h)
{
    *w = m->net.graph.nodes[0].w;
    *h = m->net.graph.nodes[0].h;
}

size_t model_weight_bytes(const struct model *m)
{
    return m->weight_bytes;
}

size_t model_arena_bytes(const struct model *m, int batch, int tasks)
{
    size_t logits = conv_align((size_t)batch * (size_t)model_classes(m) * sizeof(float));
    return (size_t)batch * m->plan.arena_bytes + (size_t)tasks * m->scratch_bytes + logits;
}

size_t model_unplanned_bytes(const struct model *m)
{
    return m->plan.sum_bytes;
}

const struct plan *model_plan(const struct model *m)
{
    return &m->plan;
}

const struct conv *model_conv(const struct model *m, int step)
{
    return m->convs[step];
}

size_t model_scratch_bytes(const struct model *m)
{
    return m->scratch_bytes;
}

int model_steps(const struct model *m)
{
    return m->plan.count;
}

void model_step(const struct model *m, int step, struct model_step *out)
{
    const struct graph *g = &m->net.graph;
    const struct step *s = &m->plan.steps[step];
    const struct node *n = &g->nodes[s->node], *window = s->weights >= 0 ? &g->nodes[s->weights] : n;
    *out = (struct model_step){.name = n->name,
                               .op = op_name(window->op),
                               .h = n->h,
                               .w = n->w,
                               .c = n->c,
                               .kernel = window->kernel_h,
                               .stride = window->stride_h,
                               .residual = s->in[1] >= 0};
    if (s->weights >= 0) {
        out->macs = node_macs(g, s->weights);
        conv_describe(m->convs[step], out->kernels, sizeof out->kernels);
    } else {
        snprintf(out->kernels, sizeof out->kernels, "%s", m->kernels->name);
    }
}

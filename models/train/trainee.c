// SPDX-License-Identifier: MIT

#include "models/train/trainee.h"

#include <math.h>
#include <pthreadpool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu.h"
#include "models/fold.h"
#include "models/train/random.h"
#include "models/train/trainee_parts.h"

/* ---- making ---- */

static struct parameter *add_parameter(struct trainee *t, int node, const char *what, int64_t count, float first, int learned)
{
    struct parameter *p = &t->parameters[t->parameter_count++];
    const size_t bytes = (size_t)count * sizeof(float);
    *p = (struct parameter){.count = count, .node = node, .decay = strcmp(what, "weight") == 0};
    snprintf(p->name, sizeof p->name, "%s.%s", t->g.nodes[node].name, what);
    p->value = trainee_take(t, bytes);
    if (learned && node >= t->first_node) {
        p->grad = trainee_take(t, bytes);
        p->momentum = trainee_take(t, bytes);
    }
    if (!p->value || (learned && node >= t->first_node && (!p->grad || !p->momentum)))
        return NULL;
    for (int64_t i = 0; i < count; i++)
        p->value[i] = first;
    return p;
}

static int make_unit(struct trainee *t, int i)
{
    struct unit *u = &t->units[i];
    const struct node *n = u->n = &t->g.nodes[i];
    u->pixels = (size_t)n->h * (size_t)n->w;
    u->elements = u->pixels * (size_t)n->c;
    if (!node_has_weights(n))
        return 0;
    struct linear *l = u->linear = trainee_take(t, sizeof *l);
    if (!l)
        return -1;
    l->normed = t->batch_norm && n->op == OP_CONV;
    int bad = !(l->weight = add_parameter(t, i, "weight", node_weights(&t->g, i), 0, 1));
    if (!l->normed)
        return bad || !(l->bias = add_parameter(t, i, "bias", n->c, 0, 1));
    return bad || !(l->gamma = add_parameter(t, i, "gamma", n->c, 1, 1)) ||
           !(l->beta = add_parameter(t, i, "beta", n->c, 0, 1)) || !(l->mean = add_parameter(t, i, "mean", n->c, 0, 0)) ||
           !(l->var = add_parameter(t, i, "var", n->c, 1, 0));
}

int trainee_new(const struct graph *g, const struct trainee_options *o, struct trainee **out, struct err *e)
{
    if (o->batch < 1 || o->batch > TRAINEE_BATCH_MAX)
        return err_set(e, ERR_INPUT, "a batch of %d images: must be 1 to %d", o->batch, TRAINEE_BATCH_MAX);
    for (int i = 0; i < g->count; i++)
        if (g->nodes[i].half || g->nodes[i].op == OP_QUANTIZE)
            return err_set(e, ERR_UNSUPPORTED, "node '%s' works in half: only networks of one precision can be trained",
                           g->nodes[i].name);
    struct trainee *t = calloc(1, sizeof *t);
    if (!t)
        return err_set(e, ERR_MEMORY, "no memory for training");
    t->batch = o->batch;
    t->pool = o->pool;
    t->threads = o->pool ? (int)pthreadpool_get_threads_count(o->pool) : 1;
    t->kernels = o->kernels ? o->kernels : kernels_pick(cpu_features(), NULL);
    t->batch_norm = o->batch_norm;
    t->first_node = o->first_node;
    t->eps = o->norm_eps > 0 ? o->norm_eps : 1e-5;
    t->momentum = o->norm_momentum > 0 ? o->norm_momentum : 0.1;
    t->bytes = sizeof *t;
    if (graph_copy(g, &t->g, e)) {
        free(t);
        return -1;
    }
    t->units = trainee_take(t, (size_t)g->count * sizeof *t->units);
    t->parameters = trainee_take(t, 5 * (size_t)g->count * sizeof *t->parameters);
    int bad = !t->units || !t->parameters;
    for (int i = 0; i < g->count && !bad; i++)
        bad = make_unit(t, i);
    if (bad ? err_set(e, ERR_MEMORY, "no memory for training") : trainee_plan(t, e)) {
        trainee_free(t);
        return -1;
    }
    *out = t;
    return 0;
}

void trainee_free(struct trainee *t)
{
    if (!t)
        return;
    for (int i = 0; i < t->owned_count; i++)
        free(t->owned[i]);
    free(t->owned);
    graph_free(&t->g);
    free(t);
}

void trainee_initialise(struct trainee *t, uint64_t seed)
{
    for (int i = 0; i < t->parameter_count; i++) {
        struct parameter *p = &t->parameters[i];
        const struct unit *u = &t->units[p->node];
        struct random r = random_stream(seed, RANDOM_INITIALISE, (uint64_t)p->node, 0);
        const double depth = (double)node_depth(&t->g, p->node);
        const double readers = (double)(u->n->kernel_h * u->n->kernel_w) * (double)(u->n->c / u->n->groups);
        const float constant = p == u->linear->gamma || p == u->linear->var ? 1 : 0;
        for (int64_t k = 0; k < p->count; k++)
            p->value[k] = p != u->linear->weight ? constant
                          : u->n->op == OP_DENSE ? (float)((2 * random_unit(&r) - 1) / sqrt(depth))
                                                 : (float)(random_normal(&r) * sqrt(2 / readers));
        if (p->grad) {
            memset(p->grad, 0, (size_t)p->count * sizeof(float));
            memset(p->momentum, 0, (size_t)p->count * sizeof(float));
        }
    }
}

/* ---- a step ---- */

/* Work that threads take from one by one. */
struct job {
    struct trainee *t;
    int region, backward;
    atomic_int next;
};

static int take(struct job *j, int count)
{
    const int i = atomic_fetch_add(&j->next, 1);
    return i < count ? i : -1;
}

static void run(struct job *j, pthreadpool_task_1d_t task)
{
    if (j->t->threads == 1)
        task(j, 0);
    else
        pthreadpool_parallelize_1d(j->t->pool, task, j, (size_t)j->t->threads, 0);
}

/* Each thread takes whole parts. */
static void run_parts(void *job, size_t thread)
{
    struct job *j = job;
    struct trainee *t = j->t;
    const struct region *r = &t->regions[j->region];
    char *scratch = t->scratch + thread * t->scratch_bytes;
    for (int part; (part = take(j, r->parts)) >= 0;) {
        const int start = (int)((int64_t)t->images * part / r->parts), end = (int)((int64_t)t->images * (part + 1) / r->parts);
        if (j->backward && start == end)
            memset(t->weight_sums + (size_t)part * r->sums, 0, r->sums * sizeof(float));
        for (int first = start; first < end; first += r->chunk) {
            const int count = end - first < r->chunk ? end - first : r->chunk;
            if (j->backward)
                region_backward(t, j->region, part, first, count, first > start, scratch);
            else
                region_forward(t, j->region, part, first, count, scratch);
        }
    }
}

/* Weights are packed, and affine functions computed, node by node. */
static void run_prepare(void *job, size_t thread)
{
    struct job *j = job;
    struct trainee *t = j->t;
    float *turned = (float *)(void *)(t->scratch + thread * t->scratch_bytes);
    for (int i; (i = take(j, t->g.count)) >= 0;) {
        struct linear *l = t->units[i].linear;
        if (!l)
            continue;
        const float *weight = l->weight->value;
        if (j->backward) {
            if (l->to_input)
                l->to_input = conv_to_input_init(l->input_memory, t->kernels, &l->s, weight, turned);
            continue;
        }
        l->conv = conv_init(l->memory, t->kernels, PRECISION_FP32, &l->s, &(struct conv_params){.weight = weight});
        norm_start(t, l, t->units[i].n->c);
    }
}

/* Gradients of weights out of those of the parts, by output channels. */
#define SHARES 8
static void run_finish(void *job, size_t thread)
{
    struct job *j = job;
    struct trainee *t = j->t;
    const struct region *r = &t->regions[j->region];
    (void)thread;
    for (int i; (i = take(j, SHARES * r->nodes.count)) >= 0;) {
        const struct unit *u = &t->units[r->nodes.nodes[i / SHARES]];
        const struct linear *l = u->linear;
        if (l && u->learns)
            conv_to_weights_finish(&l->to_weights, t->weight_sums + l->sums_at, r->parts, r->sums,
                                   u->n->c * (i % SHARES) / SHARES, u->n->c * (i % SHARES + 1) / SHARES, l->weight->grad);
    }
}

static double pixels_of_batch(const struct trainee *t, int node)
{
    return (double)t->images * (double)t->units[node].pixels;
}

const float *trainee_forward(struct trainee *t, const float *x, int images, enum trainee_mode mode)
{
    t->x = x;
    t->images = images;
    t->mode = mode;
    run(&(struct job){.t = t}, run_prepare);
    for (int region = 0; region < t->region_count; region++) {
        const struct region *r = &t->regions[region];
        run(&(struct job){.t = t, .region = region}, run_parts);
        for (int i = 0; i < r->nodes.count; i++) {
            const int node = r->nodes.nodes[i];
            struct linear *l = t->units[node].linear;
            if (l && l->normed && mode == TRAINEE_TRAIN)
                norm_from_batch(t, l, t->units[node].n->c, r->parts, pixels_of_batch(t, node));
        }
    }
    return t->logits;
}

void trainee_backward(struct trainee *t, const float *dlogits)
{
    memcpy(t->units[t->g.output].gradient, dlogits, (size_t)t->images * t->units[t->g.output].elements * sizeof(float));
    run(&(struct job){.t = t, .backward = 1}, run_prepare);
    for (int region = t->region_count - 1; region >= 0; region--) {
        const struct region *r = &t->regions[region];
        run(&(struct job){.t = t, .region = region, .backward = 1}, run_parts);
        for (int i = 0; i < r->complete.count; i++) {
            const int node = r->complete.nodes[i];
            norm_backward(t, t->units[node].linear, t->units[node].n->c, r->parts, pixels_of_batch(t, node));
        }
        run(&(struct job){.t = t, .region = region}, run_finish);
    }
}

/* ---- looking in, and out again ---- */

struct parameter *trainee_parameters(struct trainee *t, int *count)
{
    *count = t->parameter_count;
    return t->parameters;
}

const struct graph *trainee_graph(const struct trainee *t)
{
    return &t->g;
}

int trainee_classes(const struct trainee *t)
{
    return t->g.nodes[t->g.output].c;
}

size_t trainee_bytes(const struct trainee *t)
{
    return t->bytes;
}

void trainee_output(struct trainee *t, int node, int index, float *y)
{
    const struct unit *u = &t->units[node];
    const size_t at = (size_t)index * u->elements;
    const struct linear *l = u->linear;
    if (l)
        t->kernels->channels->affine(u->pixels, u->n->c, u->out + at, l->mult, l->shift, NULL, u->n->relu, y);
    else
        memcpy(y, node == 0 ? t->x + at : u->out + at, u->elements * sizeof *y);
}

static int copy_layer(const struct trainee *t, const struct linear *l, int channels, struct layer *out)
{
    const size_t weights = (size_t)l->weight->count * sizeof(float), biases = (size_t)channels * sizeof(float);
    float *w = out->weight = malloc(weights), *b = out->bias = malloc(biases);
    if (!w || !b)
        return -1;
    memcpy(w, l->weight->value, weights);
    if (!l->normed) {
        memcpy(b, l->bias->value, biases);
        return 0;
    }
    const struct batch_norm bn = {l->gamma->value, l->beta->value, l->mean->value, l->var->value, t->eps};
    fold_batch_norm(&bn, channels, l->weight->count / channels, w, NULL, b);
    return 0;
}

int trainee_to_network(const struct trainee *t, struct network *out, struct err *e)
{
    struct network n = {.precision = PRECISION_FP32};
    n.layers = calloc((size_t)t->g.count, sizeof *n.layers);
    int bad = !n.layers || graph_copy(&t->g, &n.graph, e);
    for (int i = 0; i < t->g.count && !bad; i++)
        if (t->units[i].linear)
            bad = copy_layer(t, t->units[i].linear, t->g.nodes[i].c, &n.layers[i]);
    if (bad) {
        network_free(&n);
        return err_set(e, ERR_MEMORY, "no memory for a copy of the trained network");
    }
    out->precision = n.precision;
    out->graph = n.graph;
    out->layers = n.layers;
    return 0;
}

int trainee_from_network(const struct network *n, const struct trainee_options *o, struct trainee **out, struct err *e)
{
    struct trainee_options plain = *o;
    plain.batch_norm = 0;
    if (n->precision != PRECISION_FP32)
        return err_set(e, ERR_UNSUPPORTED, "training starts from an fp32 network, and '%s' is %s", n->name,
                       precision_name(n->precision));
    struct trainee *t;
    if (trainee_new(&n->graph, &plain, &t, e))
        return -1;
    for (int i = 0; i < t->g.count; i++) {
        const struct linear *l = t->units[i].linear;
        if (!l)
            continue;
        memcpy(l->weight->value, n->layers[i].weight, (size_t)l->weight->count * sizeof(float));
        if (n->layers[i].bias)
            memcpy(l->bias->value, n->layers[i].bias, (size_t)l->bias->count * sizeof(float));
    }
    *out = t;
    return 0;
}

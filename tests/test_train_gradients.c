// SPDX-License-Identifier: MIT
//
// The gradients of every parameter against central differences of the loss, which a second implementation computes in double:
// node by node, and for whole networks. Also: statistics of batch norm, the same bits with any number of threads, and the way to
// a network and back.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <math.h>
#include <pthreadpool.h>
#include <cmocka.h>

#include "kernels/cpu.h"
#include "kernels/kernels.h"
#include "models/model.h"
#include "models/session.h"
#include "models/train/loss.h"
#include "models/train/random.h"
#include "models/train/trainee.h"
#include "tests/networks.h"
#include "tests/train_reference.h"

#define IMAGES  3
#define STEP    1e-6
#define CLASSES 7

/* ---- graphs ---- */

static int add(struct graph *g, enum op op, int in0, int in1)
{
    struct node *n = graph_add(g, op, "n%d", g->count);
    assert_non_null(n);
    n->in[0] = in0;
    n->in[1] = in1;
    return g->count - 1;
}

static int add_conv(struct graph *g, int in, int c, int kernel, int stride, int before, int after, int groups, int relu)
{
    const int i = add(g, OP_CONV, in, -1);
    struct node *n = &g->nodes[i];
    n->c = c;
    n->kernel_h = n->kernel_w = kernel;
    n->stride_h = n->stride_w = stride;
    n->pad_top = n->pad_left = before;
    n->pad_bottom = n->pad_right = after;
    n->groups = groups;
    n->relu = relu;
    return i;
}

static int add_sum(struct graph *g, int a, int b, int relu)
{
    const int i = add(g, OP_ADD, a, b);
    g->nodes[i].relu = relu;
    return i;
}

static int add_shortcut(struct graph *g, int in, int stride, int before, int after)
{
    const int i = add(g, OP_SHORTCUT, in, -1);
    g->nodes[i].stride_h = g->nodes[i].stride_w = stride;
    g->nodes[i].pad_before = before;
    g->nodes[i].pad_after = after;
    return i;
}

static int begin(struct graph *g, int side)
{
    *g = (struct graph){0};
    const int i = add(g, OP_INPUT, -1, -1);
    g->nodes[i].h = g->nodes[i].w = side;
    g->nodes[i].c = 3;
    return i;
}

/* Pooling and a dense layer behind node `in`. */
static void end(struct graph *g, int in)
{
    in = add(g, OP_AVGPOOL, in, -1);
    in = add(g, OP_DENSE, in, -1);
    g->nodes[in].c = CLASSES;
    g->output = in;
    struct err e;
    if (graph_check(g, &e))
        fail_msg("%s", e.text);
}

/* ---- a trainee beside its reference ---- */

struct pair {
    struct trainee *t;
    struct reference r;
    struct parameter *p;
    int count;
    float *x, *targets, *dlogits;
    double *x_double, *targets_double;
};

static double *reference_value(const struct pair *s, const struct parameter *p)
{
    const struct reference_node *n = &s->r.nodes[p->node];
    const char *what = strrchr(p->name, '.') + 1;
    return strcmp(what, "weight") == 0  ? n->weight
           : strcmp(what, "bias") == 0  ? n->bias
           : strcmp(what, "gamma") == 0 ? n->gamma
           : strcmp(what, "beta") == 0  ? n->beta
           : strcmp(what, "mean") == 0  ? n->mean
                                        : n->var;
}

static void copy_parameters(struct pair *s)
{
    for (int i = 0; i < s->count; i++) {
        double *to = reference_value(s, &s->p[i]);
        for (int64_t k = 0; k < s->p[i].count; k++)
            to[k] = (double)s->p[i].value[k];
    }
}

static struct pair make_pair_from(const struct graph *g, int first_node, int batch_norm, struct pthreadpool *pool,
                                  const struct kernels *k)
{
    struct pair s = {.r = reference_new(g, IMAGES, batch_norm)};
    const struct trainee_options o = {
        .batch = IMAGES + 2, .pool = pool, .batch_norm = batch_norm, .kernels = k, .first_node = first_node};
    struct err e;
    if (trainee_new(g, &o, &s.t, &e))
        fail_msg("%s", e.text);
    trainee_initialise(s.t, 3);
    s.p = trainee_parameters(s.t, &s.count);
    struct random r = random_stream(4, RANDOM_INITIALISE, 1, 2);
    for (int i = 0; i < s.count; i++)
        if (!s.p[i].decay)
            for (int64_t j = 0; j < s.p[i].count; j++)
                s.p[i].value[j] += (float)(random_unit(&r) * (s.p[i].grad ? 0.4 : 0.2) - 0.05);
    copy_parameters(&s);
    const struct node *in = &g->nodes[0];
    const int classes = g->nodes[g->output].c, size = IMAGES * in->h * in->w * in->c;
    s.x = test_calloc((size_t)size, sizeof *s.x);
    s.x_double = test_calloc((size_t)size, sizeof *s.x_double);
    for (int i = 0; i < size; i++)
        s.x_double[i] = (double)(s.x[i] = (float)random_normal(&r));
    s.r.x = s.x_double;
    s.targets = test_calloc((size_t)(IMAGES * classes), sizeof *s.targets);
    s.dlogits = test_calloc((size_t)(IMAGES * classes), sizeof *s.dlogits);
    s.targets_double = test_calloc((size_t)(IMAGES * classes), sizeof *s.targets_double);
    for (int i = 0; i < IMAGES; i++) {
        const int label = random_below(&r, classes), partner = random_below(&r, classes);
        s.targets[i * classes + label] += 0.75f;
        s.targets[i * classes + partner] += 0.25f;
    }
    for (int i = 0; i < IMAGES * classes; i++)
        s.targets_double[i] = (double)s.targets[i];
    return s;
}

static struct pair make_pair(const struct graph *g, int batch_norm, struct pthreadpool *pool, const struct kernels *k)
{
    return make_pair_from(g, 0, batch_norm, pool, k);
}

static void free_pair(struct pair *s)
{
    for (int node = 0; node < s->r.g->count; node++)
        if (s->r.passes[node])
            test_free((void *)(uintptr_t)s->r.passes[node]);
    trainee_free(s->t);
    reference_free(&s->r);
    test_free(s->x);
    test_free(s->x_double);
    test_free(s->targets);
    test_free(s->dlogits);
    test_free(s->targets_double);
}

static double step(struct pair *s, enum trainee_mode mode)
{
    const struct loss l = {.classes = trainee_classes(s->t)};
    const struct loss_batch b = {.images = IMAGES, .targets = s->targets};
    const float *logits = trainee_forward(s->t, s->x, IMAGES, mode);
    const double loss = loss_run(&l, &b, logits, s->dlogits);
    trainee_backward(s->t, s->dlogits);
    return loss;
}

/* From here on the reference's ReLUs let through what the trainee's do. */
static void share_decisions(struct pair *s)
{
    for (int node = 0; node < s->r.g->count; node++) {
        const struct node *n = &s->r.g->nodes[node];
        const int size = n->h * n->w * n->c;
        if (!n->relu)
            continue;
        float *y = test_calloc((size_t)(IMAGES * size), sizeof *y);
        for (int i = 0; i < IMAGES; i++)
            trainee_output(s->t, node, i, y + i * size);
        s->r.passes[node] = y;
    }
}

/* The slope of the loss when parameter p moves along v. */
static double slope(struct pair *s, const struct parameter *p, const double *v)
{
    double *value = reference_value(s, p), loss[2];
    for (int side = 0; side < 2; side++) {
        for (int64_t i = 0; i < p->count; i++)
            value[i] = (double)p->value[i] + (side ? STEP : -STEP) * v[i];
        loss[side] = reference_loss(&s->r, p->node, s->targets_double);
    }
    for (int64_t i = 0; i < p->count; i++)
        value[i] = (double)p->value[i];
    reference_run(&s->r, p->node);
    return (loss[1] - loss[0]) / (2 * STEP);
}

/* Each parameter along a random direction, and `single` of its elements alone. */
static void check_parameter(struct pair *s, const struct parameter *p, int single)
{
    double *v = test_calloc((size_t)p->count, sizeof *v), size = 0;
    struct random r = random_stream(5, RANDOM_INITIALISE, (uint64_t)p->node, (uint64_t)p->name[strlen(p->name) - 1]);
    for (int64_t i = 0; i < p->count; i++)
        size += (double)p->grad[i] * (double)p->grad[i];
    size = sqrt(size);
    for (int trial = 0; trial < 1 + single; trial++) {
        double along = 0;
        const int64_t only = random_below(&r, (int)p->count);
        for (int64_t i = 0; i < p->count; i++) {
            v[i] = trial < 1 ? random_unit(&r) < 0.5 ? 1 : -1 : i == only;
            along += v[i] * (double)p->grad[i];
        }
        const double want = slope(s, p, v);
        if (!(fabs(along - want) <= 1e-4 * size + 1e-6))
            fail_msg("%s: the loss rises by %.8g, the gradient (norm %g) says %.8g", p->name, want, size, along);
    }
    test_free(v);
}

static void check_graph(struct graph *g, int single)
{
    const struct {
        int batch_norm;
        enum trainee_mode mode;
    } ways[] = {{1, TRAINEE_TRAIN}, {1, TRAINEE_FROZEN}, {0, TRAINEE_TRAIN}};
    for (size_t way = 0; way < sizeof ways / sizeof *ways; way++) {
        struct pair s = make_pair(g, ways[way].batch_norm, NULL, NULL);
        s.r.batch_statistics = ways[way].mode == TRAINEE_TRAIN;
        const double loss = step(&s, ways[way].mode), want = reference_loss(&s.r, 0, s.targets_double);
        if (!(fabs(loss - want) <= 1e-5 * want))
            fail_msg("the loss is %.9g, not %.9g", loss, want);
        /* Running statistics have moved; what the reference uses has not. */
        for (int i = 0; i < s.count; i++) {
            const struct reference_node *n = &s.r.nodes[s.p[i].node];
            const double share = ways[way].mode == TRAINEE_TRAIN ? 0.1 : 0,
                         rows = IMAGES * g->nodes[s.p[i].node].h * g->nodes[s.p[i].node].w;
            for (int64_t c = 0; c < s.p[i].count && !s.p[i].grad; c++) {
                const int is_var = strstr(s.p[i].name, ".var") != NULL;
                const double new = is_var ? n->batch_var[c] * rows / (rows > 1 ? rows - 1 : 1) : n->batch_mean[c];
                const double old = (is_var ? n->var : n->mean)[c], now = (1 - share) * old + share * new;
                if (!(fabs((double)s.p[i].value[c] - now) <= 1e-5 * (fabs(now) + 1e-2)))
                    fail_msg("%s[%d] is %.8g, not %.8g", s.p[i].name, (int)c, (double)s.p[i].value[c], now);
            }
        }
        share_decisions(&s);
        for (int i = 0; i < s.count; i++)
            if (s.p[i].grad)
                check_parameter(&s, &s.p[i], single);
        free_pair(&s);
    }
    graph_free(g);
}

/* ---- node by node ---- */

static void test_conv(void **unused)
{
    (void)unused;
    const struct {
        int c, kernel, stride, before, after, groups;
    } shapes[] = {{6, 3, 1, 1, 1, 1}, {6, 3, 2, 1, 1, 1}, {6, 3, 2, 0, 1, 2}, {9, 1, 2, 0, 0, 3},
                  {6, 5, 3, 2, 4, 1}, {6, 2, 1, 1, 0, 6}, {32, 3, 1, 1, 1, 1}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int relu = 0; relu < 2; relu++) {
            struct graph g;
            int x = begin(&g, 8);
            x = add_conv(&g, x, shapes[i].c > 16 ? 32 : 6, 3, 1, 1, 1, 1,
                         1); /* so that the one behind it has an input's gradient */
            x = add_conv(&g, x, shapes[i].c, shapes[i].kernel, shapes[i].stride, shapes[i].before, shapes[i].after,
                         shapes[i].groups, relu);
            end(&g, x);
            check_graph(&g, 3);
        }
}

static void test_pools(void **unused)
{
    (void)unused;
    struct graph g;
    int x = begin(&g, 9);
    x = add_conv(&g, x, 6, 3, 1, 1, 1, 1, 0);
    x = add(&g, OP_MAXPOOL, x, -1);
    struct node *n = &g.nodes[x];
    n->kernel_h = n->kernel_w = 3;
    n->stride_h = n->stride_w = 2;
    n->pad_top = n->pad_left = n->pad_right = 1; /* not below */
    x = add_conv(&g, x, 5, 1, 1, 0, 0, 1, 1);
    end(&g, x);
    check_graph(&g, 3);
}

/* A maxpool before anything learns, a dense with ReLU, one behind the other. */
static void test_dense(void **unused)
{
    (void)unused;
    struct graph g;
    int x = begin(&g, 6);
    x = add(&g, OP_MAXPOOL, x, -1);
    g.nodes[x].kernel_h = g.nodes[x].kernel_w = g.nodes[x].stride_h = g.nodes[x].stride_w = 2;
    x = add(&g, OP_AVGPOOL, x, -1);
    x = add(&g, OP_DENSE, x, -1);
    g.nodes[x].c = 8;
    g.nodes[x].relu = 1;
    x = add(&g, OP_DENSE, x, -1);
    g.nodes[x].c = CLASSES;
    g.output = x;
    struct err e;
    assert_int_equal(graph_check(&g, &e), 0);
    check_graph(&g, 5);
}

/* Sums of everything with everything: what an add hands on is shared until someone else adds to it. */
static void test_adds(void **unused)
{
    (void)unused;
    for (int relu = 0; relu < 2; relu++) {
        struct graph g;
        int x = begin(&g, 8);
        const int a = add_conv(&g, x, 6, 3, 1, 1, 1, 1, 1), b = add_conv(&g, a, 6, 3, 1, 1, 1, 1, 0);
        const int c = add_sum(&g, b, a, relu), d = add_sum(&g, c, c, relu), e = add_sum(&g, d, a, relu);
        const int f = add_conv(&g, e, 6, 1, 1, 0, 0, 1, 0), h = add_sum(&g, f, b, relu), i = add_sum(&g, h, e, !relu);
        x = add_shortcut(&g, i, 2, 1, 2);
        const int j = add_conv(&g, i, 9, 3, 2, 1, 1, 1, 1);
        end(&g, add_sum(&g, x, j, relu));
        check_graph(&g, 2);
    }
}

/* Logits that are no dense layer's, and an add of the input. */
static void test_outputs(void **unused)
{
    (void)unused;
    struct graph g;
    int x = begin(&g, 7);
    const int a = add_conv(&g, x, 3, 3, 1, 1, 1, 1, 0), s = add_sum(&g, x, a, 1);
    x = add_conv(&g, s, CLASSES, 3, 2, 0, 0, 1, 0);
    g.output = add(&g, OP_AVGPOOL, x, -1);
    struct err e;
    assert_int_equal(graph_check(&g, &e), 0);
    check_graph(&g, 2);
    x = begin(&g, 1);
    x = add_conv(&g, x, 4, 1, 1, 0, 0, 1, 1);
    g.output = add_conv(&g, x, CLASSES, 1, 1, 0, 0, 1, 0);
    assert_int_equal(graph_check(&g, &e), 0);
    check_graph(&g, 2);
}

/* ---- whole networks ---- */

/* The ResNet-8 of MLPerf Tiny: three blocks of two, 16, 32 and 64 channels, projections with TensorFlow's padding. The images are
   smaller, which changes no layer. */
static void make_resnet8(struct graph *g)
{
    int x = begin(g, 16);
    x = add_conv(g, x, 16, 3, 1, 1, 1, 1, 1);
    for (int c = 16; c <= 64; c *= 2) {
        const int stride = c == 16 ? 1 : 2, before = stride == 1;
        int a = add_conv(g, x, c, 3, stride, before, 1, 1, 1);
        a = add_conv(g, a, c, 3, 1, 1, 1, 1, 0);
        if (stride == 2)
            x = add_conv(g, x, c, 1, 2, 0, 0, 1, 0);
        x = add_sum(g, x, a, 1);
    }
    end(g, x);
}

static void test_resnet8(void **unused)
{
    (void)unused;
    struct graph g;
    make_resnet8(&g);
    check_graph(&g, 0);
}

static void test_every_op(void **unused)
{
    (void)unused;
    struct network n = make_network(1);
    struct graph g;
    assert_int_equal(graph_copy(&n.graph, &g, NULL), 0);
    network_free(&n);
    check_graph(&g, 0);
}

/* ---- ---- */

/* Two steps in a row, with the values moved along the gradient in between: all gradients, one after the other. */
static float *gradients(const struct graph *g, int threads, const struct kernels *k, int64_t *count)
{
    struct pthreadpool *pool = threads ? pthreadpool_create((size_t)threads) : NULL;
    struct pair s = make_pair(g, 1, pool, k);
    step(&s, TRAINEE_TRAIN);
    *count = 0;
    for (int i = 0; i < s.count; i++) {
        *count += s.p[i].count;
        for (int64_t j = 0; j < s.p[i].count && s.p[i].grad; j++)
            s.p[i].value[j] -= 0.01f * s.p[i].grad[j];
    }
    step(&s, TRAINEE_TRAIN);
    float *all = test_calloc((size_t)*count, sizeof *all), *at = all;
    for (int i = 0; i < s.count; at += s.p[i++].count)
        memcpy(at, s.p[i].grad ? s.p[i].grad : s.p[i].value, (size_t)s.p[i].count * sizeof *at);
    free_pair(&s);
    pthreadpool_destroy(pool);
    return all;
}

static void test_threads(void **unused)
{
    (void)unused;
    struct graph g;
    make_resnet8(&g);
    int64_t count;
    float *alone = gradients(&g, 0, NULL, &count);
    for (int threads = 1; threads <= 3; threads++) {
        float *with = gradients(&g, threads, NULL, &count);
        assert_memory_equal(alone, with, (size_t)count * sizeof *with);
        test_free(with);
    }
    test_free(alone);
    graph_free(&g);
}

/* Layers that stay as they are have no gradients, and change no bit of the others'. */
static void test_frozen_layers(void **unused)
{
    (void)unused;
    struct graph g;
    make_resnet8(&g);
    for (int first = 0; first < g.count + 1; first += 4) {
        struct pair all = make_pair(&g, 0, NULL, NULL), some = make_pair_from(&g, first, 0, NULL, NULL);
        for (int i = 0; i < all.count; i++) /* random values were drawn in another order */
            memcpy(some.p[i].value, all.p[i].value, (size_t)all.p[i].count * sizeof(float));
        memcpy(some.x, all.x, (size_t)(IMAGES * 16 * 16 * 3) * sizeof(float));
        memcpy(some.targets, all.targets, IMAGES * CLASSES * sizeof(float));
        assert_true(step(&all, TRAINEE_TRAIN) == step(&some, TRAINEE_TRAIN));
        for (int i = 0; i < all.count; i++)
            if (all.p[i].node < first)
                assert_null(some.p[i].grad);
            else
                assert_memory_equal(all.p[i].grad, some.p[i].grad, (size_t)all.p[i].count * sizeof(float));
        assert_true(first == 0 || trainee_bytes(some.t) < trainee_bytes(all.t));
        free_pair(&all);
        free_pair(&some);
    }
    graph_free(&g);
}

/* Every implementation gives nearly the same gradients. */
static void test_kernels(void **unused)
{
    (void)unused;
    struct graph g;
    make_resnet8(&g);
    int64_t count;
    float *want = gradients(&g, 0, kernels_find("ref"), &count);
    double size = 0;
    for (int64_t i = 0; i < count; i++)
        size = fmax(size, fabs((double)want[i]));
    for (const struct kernels *k = kernels_table; k->name; k++) {
        if (k->need & ~cpu_features())
            continue;
        float *got = gradients(&g, 0, k, &count);
        for (int64_t i = 0; i < count; i++)
            if (!(fabs((double)(got[i] - want[i])) <= 1e-4 * size))
                fail_msg("%s: gradient %d is %g, not %g", k->name, (int)i, (double)got[i], (double)want[i]);
        test_free(got);
    }
    test_free(want);
    graph_free(&g);
}

/* To a network, which a session runs, and from it to a trainee without batch norm: the same logits. */
static void test_networks(void **unused)
{
    (void)unused;
    struct network made = make_network(2), n = {0};
    struct pair s = make_pair(&made.graph, 1, NULL, NULL);
    struct err e;
    const float *logits = trainee_forward(s.t, s.x, IMAGES, TRAINEE_EVAL);
    assert_int_equal(trainee_to_network(s.t, &n, &e), 0);
    n.preprocess = made.preprocess;
    struct model *m;
    struct session *session;
    if (model_from_network(&n, kernels_pick(cpu_features(), NULL), &m, &e) || session_new(m, IMAGES, NULL, &session, &e))
        fail_msg("%s", e.text);
    for (int i = 0; i < IMAGES; i++)
        session_set_values(session, i, s.x + i * 32 * 32 * 3);
    const float *served = session_run(session, IMAGES);
    struct trainee *again;
    const struct trainee_options o = {.batch = IMAGES, .batch_norm = 1};
    assert_int_equal(trainee_from_network(&n, &o, &again, &e), 0);
    const float *folded = trainee_forward(again, s.x, IMAGES, TRAINEE_TRAIN);
    for (int i = 0; i < IMAGES * CLASSES; i++) {
        assert_true(fabs((double)(logits[i] - served[i])) <= 2e-5 * (1 + fabs((double)logits[i])));
        assert_true(fabs((double)(folded[i] - served[i])) <= 2e-5 * (1 + fabs((double)logits[i])));
    }
    /* What nodes put out, those whose output is made late too. */
    reference_run(&s.r, 0);
    for (int node = 0; node < made.graph.count; node++) {
        const struct node *of = &made.graph.nodes[node];
        const int size = of->h * of->w * of->c;
        float *y = test_calloc((size_t)size, sizeof *y);
        trainee_output(s.t, node, 2, y);
        for (int i = 0; i < size; i++)
            assert_true(fabs((double)y[i] - s.r.out[node][2 * size + i]) <= 1e-4 * (1 + fabs((double)y[i])));
        test_free(y);
    }
    trainee_free(again);
    session_free(session);
    model_free(m);
    network_free(&n);
    free_pair(&s);
    network_free(&made);
}

static void test_refusals(void **unused)
{
    (void)unused;
    struct network n = make_network(2);
    struct trainee *t = NULL;
    struct err e;
    struct trainee_options o = {.batch = 0};
    assert_int_equal(trainee_new(&n.graph, &o, &t, &e), -1);
    assert_string_equal(e.text, "a batch of 0 images: must be 1 to 4096");
    o.batch = TRAINEE_BATCH_MAX + 1;
    assert_int_equal(trainee_new(&n.graph, &o, &t, &e), -1);
    assert_int_equal(e.code, ERR_INPUT);
    o.batch = 1;
    struct network int8 = convert_network(&n, PRECISION_INT8);
    assert_int_equal(trainee_from_network(&int8, &o, &t, &e), -1);
    assert_int_equal(e.code, ERR_UNSUPPORTED);
    assert_null(t);
    network_free(&int8);
    network_free(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conv),     cmocka_unit_test(test_pools),    cmocka_unit_test(test_dense),
        cmocka_unit_test(test_adds),     cmocka_unit_test(test_outputs),  cmocka_unit_test(test_resnet8),
        cmocka_unit_test(test_every_op), cmocka_unit_test(test_threads),  cmocka_unit_test(test_frozen_layers),
        cmocka_unit_test(test_kernels),  cmocka_unit_test(test_networks), cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

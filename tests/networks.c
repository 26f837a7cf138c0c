// SPDX-License-Identifier: MIT

#include "tests/networks.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu.h"
#include "kernels/half.h"
#include "kernels/kernels.h"
#include "kernels/pool.h"

static uint64_t state;

static float uniform(float lo, float hi)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return lo + (hi - lo) * (float)(state >> 40) / (float)(1 << 24);
}

static void *must(void *p)
{
    if (!p) {
        puts("out of memory in a test");
        exit(99);
    }
    return p;
}

static void check(int bad, const struct err *e)
{
    if (bad) {
        printf("making a network failed: %s\n", e->text);
        exit(99);
    }
}

/* ---- making ---- */

static int add(struct network *n, enum op op, const char *name, int in0, int in1)
{
    struct node *node = must(graph_add(&n->graph, op, "%s", name));
    node->in[0] = in0;
    node->in[1] = in1;
    return n->graph.count - 1;
}

static int conv(struct network *n, const char *name, int in, int channels, int kernel, int stride, int groups, int relu)
{
    int i = add(n, OP_CONV, name, in, -1);
    struct node *c = &n->graph.nodes[i];
    c->c = channels;
    c->kernel_h = c->kernel_w = kernel;
    c->stride_h = c->stride_w = stride;
    c->pad_top = c->pad_left = c->pad_bottom = c->pad_right = kernel / 2;
    c->groups = groups;
    c->relu = relu;
    return i;
}

static int relu_add(struct network *n, const char *name, int a, int b)
{
    int i = add(n, OP_ADD, name, a, b);
    n->graph.nodes[i].relu = 1;
    return i;
}

struct network make_network(unsigned seed)
{
    struct network n = {.precision = PRECISION_FP32};
    struct err e;
    state = seed;
    snprintf(n.name, sizeof n.name, "test");
    check(preprocess_preset("cifar10", &n.preprocess, &e), &e);
    int x = add(&n, OP_INPUT, "input", -1, -1);
    n.graph.nodes[x].h = n.graph.nodes[x].w = 32;
    n.graph.nodes[x].c = 3;
    x = conv(&n, "conv1", x, 16, 7, 2, 1, 1);
    x = add(&n, OP_MAXPOOL, "maxpool", x, -1);
    struct node *pool = &n.graph.nodes[x];
    pool->kernel_h = pool->kernel_w = 3;
    pool->stride_h = pool->stride_w = 2;
    pool->pad_top = pool->pad_left = pool->pad_bottom = pool->pad_right = 1;
    /* bottleneck, grouped, with projection and stride */
    int a = conv(&n, "b1.conv1", x, 12, 1, 1, 1, 1);
    a = conv(&n, "b1.conv2", a, 12, 3, 2, 4, 1);
    a = conv(&n, "b1.conv3", a, 22, 1, 1, 1, 0);
    int s = conv(&n, "b1.downsample", x, 22, 1, 2, 1, 0);
    x = relu_add(&n, "b1.add", a, s);
    /* option A, odd number of new channels, the projection first among the add's operands */
    a = conv(&n, "b2.conv1", x, 27, 3, 2, 1, 1);
    a = conv(&n, "b2.conv2", a, 27, 3, 1, 1, 0);
    s = add(&n, OP_SHORTCUT, "b2.shortcut", x, -1);
    n.graph.nodes[s].stride_h = n.graph.nodes[s].stride_w = 2;
    n.graph.nodes[s].pad_before = 2;
    n.graph.nodes[s].pad_after = 3;
    x = relu_add(&n, "b2.add", s, a);
    /* identity, then an add of two sums, which no convolution can take over */
    a = conv(&n, "b3.conv1", x, 27, 3, 1, 1, 1);
    a = conv(&n, "b3.conv2", a, 27, 3, 1, 1, 0);
    a = add(&n, OP_ADD, "b3.add", a, x);
    x = relu_add(&n, "b4.add", x, a);
    x = add(&n, OP_AVGPOOL, "avgpool", x, -1);
    x = add(&n, OP_DENSE, "fc", x, -1);
    n.graph.nodes[x].c = 7;
    n.graph.output = x;
    check(graph_check(&n.graph, &e), &e);

    n.layers = must(calloc((size_t)n.graph.count, sizeof *n.layers));
    for (int i = 0; i < n.graph.count; i++) {
        if (!node_has_weights(&n.graph.nodes[i]))
            continue;
        int64_t count = node_weights(&n.graph, i), depth = node_depth(&n.graph, i);
        float *w = n.layers[i].weight = must(malloc((size_t)count * sizeof *w)), limit = 2 / sqrtf((float)depth);
        for (int64_t k = 0; k < count; k++)
            w[k] = uniform(-limit, limit);
        n.layers[i].bias = must(malloc((size_t)n.graph.nodes[i].c * sizeof(float)));
        for (int o = 0; o < n.graph.nodes[i].c; o++)
            n.layers[i].bias[o] = uniform(-0.3f, 0.3f);
    }
    return n;
}

void make_image(unsigned seed, uint8_t *rgb)
{
    state = seed + 1000;
    for (int i = 0; i < 32 * 32 * 3; i++)
        rgb[i] = (uint8_t)uniform(0, 256);
}

static int next(void *user, uint8_t *rgb, int *label, struct err *e)
{
    (void)e;
    (void)label;
    unsigned *i = user;
    make_image(100 + *i, rgb);
    return (*i)++ < 8;
}

struct network convert_network(const struct network *n, enum precision p)
{
    struct network q;
    struct err e;
    struct calibration *c = NULL;
    const struct quantize_options plain = {.ranges = 1u << RANGE_MINMAX, .weights = 1u << WEIGHTS_NEAREST, .plain_bias = 1};
    unsigned first = 0;
    if (p == PRECISION_INT8)
        check(calibration_new(n, kernels_pick(cpu_features(), NULL), NULL, next, &first, &c, &e), &e);
    check(quantize_network(n, p, &plain, c, &q, NULL, &e), &e);
    calibration_free(c);
    return q;
}

/* ---- the second way ---- */

static struct conv_shape shape_of(const struct graph *g, int i)
{
    const struct node *n = &g->nodes[i], *in = &g->nodes[n->in[0]];
    return (struct conv_shape){in->h, in->w, in->c, n->h, n->w, n->c, n->kernel_h, n->kernel_w,
                               n->stride_h, n->stride_w, n->pad_top, n->pad_left, n->groups};
}

static void run_conv(const struct network *n, int i, int out, const void *x, const void *residual, int residual_node, int relu, void *y)
{
    const struct node *v = &n->graph.nodes[i];
    const struct layer *l = &n->layers[i];
    struct conv_shape s = shape_of(&n->graph, i);
    struct conv_params p = {.weight = l->weight, .scale = l->scale, .bias = l->bias, .bias_s32 = l->bias_s32, .relu = relu};
    const enum precision precision = node_precision(v, n->precision);
    if (precision == PRECISION_INT8) {
        p.in = n->quants[v->in[0]];
        p.out = n->quants[out];
        p.float_out = i == n->graph.output && !v->keep_output;
        if (residual)
            p.residual = n->quants[residual_node];
    }
    struct conv_io io = {x, residual, y, 1};
    conv_reference(precision, &s, &p, &io);
}

/* In int8 a convolution before an add has no tensor of its own (docs/numerics.md), so the add computes it. */
static int fused_into_add(const struct network *n, int i)
{
    if (node_precision(&n->graph.nodes[i], n->precision) != PRECISION_INT8 || n->graph.nodes[i].op != OP_CONV || n->graph.nodes[i].relu ||
        n->graph.nodes[i].keep_output)
        return 0;
    for (int k = 0; k < n->graph.count; k++)
        if (n->graph.nodes[k].op == OP_ADD && (n->graph.nodes[k].in[0] == i || n->graph.nodes[k].in[1] == i)) {
            int other = n->graph.nodes[k].in[n->graph.nodes[k].in[0] == i];
            /* of two candidates the first operand is taken */
            return n->graph.nodes[k].in[0] == i || n->graph.nodes[other].op != OP_CONV || n->graph.nodes[other].relu ||
                   n->graph.nodes[other].keep_output;
        }
    return 0;
}

void evaluate(const struct network *n, const uint8_t *rgb, float *logits)
{
    const struct graph *g = &n->graph;
    void **t = must(calloc((size_t)g->count, sizeof *t));
    for (int i = 0; i < g->count; i++) {
        const struct node *v = &g->nodes[i];
        const struct node *in = v->in[0] >= 0 ? &g->nodes[v->in[0]] : NULL;
        const enum precision p = node_precision(v, n->precision);
        const struct quant *q = n->quants;
        size_t count = (size_t)v->h * (size_t)v->w * (size_t)v->c;
        t[i] = must(malloc(count * 4));
        if (fused_into_add(n, i))
            continue;
        switch (v->op) {
        case OP_INPUT:
            for (size_t k = 0; k < count; k++) {
                float x = preprocess_value(&n->preprocess, (int)(k % 3), rgb[k]);
                if (p == PRECISION_INT8) {
                    double y = rint((double)(x / q[0].scale)) + q[0].zero;
                    ((int8_t *)t[i])[k] = (int8_t)(y < -128 ? -128 : y > 127 ? 127 : y);
                } else if (p == PRECISION_FP16) {
                    ((uint16_t *)t[i])[k] = half_from_float(x);
                } else {
                    ((float *)t[i])[k] = x;
                }
            }
            break;
        case OP_CONV:
        case OP_DENSE:
            run_conv(n, i, i, t[v->in[0]], NULL, -1, v->relu, t[i]);
            break;
        case OP_ADD: {
            int which = fused_into_add(n, v->in[0]) ? 0 : fused_into_add(n, v->in[1]) ? 1 : -1;
            if (which >= 0)
                run_conv(n, v->in[which], i, t[g->nodes[v->in[which]].in[0]], t[v->in[1 - which]], v->in[1 - which], v->relu, t[i]);
            else
                add_run(p, count, v->relu, q ? &q[v->in[0]] : NULL, q ? &q[v->in[1]] : NULL, q ? &q[i] : NULL, t[v->in[0]],
                        t[v->in[1]], t[i], 0, 1);
            break;
        }
        case OP_MAXPOOL: {
            struct pool_shape s = {in->h, in->w, in->c, v->h, v->w, v->kernel_h, v->kernel_w, v->stride_h, v->stride_w, v->pad_top, v->pad_left};
            maxpool_run(kernels_find("ref"), p, &s, t[v->in[0]], t[i], 1, 0, 1);
            break;
        }
        case OP_AVGPOOL:
            avgpool_run(kernels_find("ref"), p, in->h * in->w, in->c, q ? &q[v->in[0]] : NULL, q ? &q[i] : NULL, t[v->in[0]], t[i], 1, 0, 1);
            break;
        case OP_SHORTCUT: {
            struct shortcut_shape s = {in->h, in->w, in->c, v->h, v->w, v->stride_h, v->stride_w, v->pad_before, v->pad_after};
            shortcut_run(p, &s, q ? q[i].zero : 0, t[v->in[0]], t[i], 1, 0, 1);
            break;
        }
        case OP_QUANTIZE:
            for (size_t k = 0; k < count; k++) {
                double y = rint((double)(half_to_float(((uint16_t *)t[v->in[0]])[k]) * (1 / q[i].scale))) + q[i].zero;
                ((int8_t *)t[i])[k] = (int8_t)(y < -128 ? -128 : y > 127 ? 127 : y);
            }
            break;
        case OP_DEQUANTIZE:
            for (size_t k = 0; k < count; k++)
                ((uint16_t *)t[i])[k] =
                    half_from_float(q[v->in[0]].scale * (float)(((int8_t *)t[v->in[0]])[k] - q[v->in[0]].zero));
            break;
        }
    }
    const enum precision p = node_precision(&g->nodes[g->output], n->precision);
    for (int k = 0; k < g->nodes[g->output].c; k++)
        if (p == PRECISION_INT8 && g->nodes[g->output].keep_output)
            logits[k] = n->quants[g->output].scale * (float)(((int8_t *)t[g->output])[k] - n->quants[g->output].zero);
        else
            logits[k] = p == PRECISION_FP16 ? half_to_float(((uint16_t *)t[g->output])[k]) : ((float *)t[g->output])[k];
    for (int i = 0; i < g->count; i++)
        free(t[i]);
    free(t);
}

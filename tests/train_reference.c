// SPDX-License-Identifier: MIT

#include "tests/train_reference.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double *take(int64_t count)
{
    double *p = calloc((size_t)count, sizeof *p);
    if (!p) {
        puts("out of memory in a test");
        exit(99);
    }
    return p;
}

struct reference reference_new(const struct graph *g, int images, int batch_norm)
{
    struct reference r = {.g = g, .images = images, .eps = 1e-5};
    r.nodes = calloc((size_t)g->count, sizeof *r.nodes);
    r.out = calloc((size_t)g->count, sizeof *r.out);
    r.passes = calloc((size_t)g->count, sizeof *r.passes);
    if (!r.nodes || !r.out || !r.passes)
        exit(99);
    for (int i = 0; i < g->count; i++) {
        const struct node *n = &g->nodes[i];
        struct reference_node *p = &r.nodes[i];
        r.out[i] = take((int64_t)images * n->h * n->w * n->c);
        if (!node_has_weights(n))
            continue;
        p->weight = take(node_weights(g, i));
        if (batch_norm && n->op == OP_CONV) {
            double **all[] = {&p->gamma, &p->beta, &p->mean, &p->var, &p->batch_mean, &p->batch_var};
            for (size_t k = 0; k < sizeof all / sizeof *all; k++)
                *all[k] = take(n->c);
        } else {
            p->bias = take(n->c);
        }
    }
    return r;
}

void reference_free(struct reference *r)
{
    for (int i = 0; i < r->g->count; i++) {
        struct reference_node *p = &r->nodes[i];
        double *all[] = {p->weight, p->bias, p->gamma, p->beta, p->mean, p->var, p->batch_mean, p->batch_var, r->out[i]};
        for (size_t k = 0; k < sizeof all / sizeof *all; k++)
            free(all[k]);
    }
    free(r->nodes);
    free(r->out);
    free(r->passes);
}

static void conv(const struct node *n, const struct node *in, const double *x, const double *weight, double *y)
{
    const int ins = in->c / n->groups, outs = n->c / n->groups, depth = n->kernel_h * n->kernel_w * ins;
    for (int oy = 0; oy < n->h; oy++)
        for (int ox = 0; ox < n->w; ox++)
            for (int o = 0; o < n->c; o++, y++) {
                *y = 0;
                for (int kh = 0; kh < n->kernel_h; kh++)
                    for (int kw = 0; kw < n->kernel_w; kw++) {
                        const int iy = oy * n->stride_h + kh - n->pad_top, ix = ox * n->stride_w + kw - n->pad_left;
                        if (iy < 0 || iy >= in->h || ix < 0 || ix >= in->w)
                            continue;
                        const double *from = x + (iy * in->w + ix) * in->c + o / outs * ins;
                        const double *w = weight + o * depth + (kh * n->kernel_w + kw) * ins;
                        for (int i = 0; i < ins; i++)
                            *y += from[i] * w[i];
                    }
            }
}

static void maxpool(const struct node *n, const struct node *in, const double *x, double *y)
{
    for (int oy = 0; oy < n->h; oy++)
        for (int ox = 0; ox < n->w; ox++)
            for (int c = 0; c < n->c; c++, y++) {
                *y = -HUGE_VAL;
                for (int kh = 0; kh < n->kernel_h; kh++)
                    for (int kw = 0; kw < n->kernel_w; kw++) {
                        const int iy = oy * n->stride_h + kh - n->pad_top, ix = ox * n->stride_w + kw - n->pad_left;
                        if (iy >= 0 && iy < in->h && ix >= 0 && ix < in->w)
                            *y = fmax(*y, x[(iy * in->w + ix) * in->c + c]);
                    }
            }
}

static void shortcut(const struct node *n, const struct node *in, const double *x, double *y)
{
    for (int oy = 0; oy < n->h; oy++)
        for (int ox = 0; ox < n->w; ox++)
            for (int c = 0; c < n->c; c++, y++) {
                const int from = c - n->pad_before;
                *y = from < 0 || from >= in->c ? 0 : x[(oy * n->stride_h * in->w + ox * n->stride_w) * in->c + from];
            }
}

/* Batch norm or bias, over all images. */
static void finish(struct reference *r, int node)
{
    const struct node *n = &r->g->nodes[node];
    struct reference_node *p = &r->nodes[node];
    const int64_t rows = (int64_t)r->images * n->h * n->w;
    double *y = r->out[node];
    for (int c = 0; c < n->c; c++) {
        double mult = 1, shift = p->bias ? p->bias[c] : 0;
        if (p->gamma) {
            double mean = 0, var = 0;
            for (int64_t i = 0; i < rows; i++)
                mean += y[i * n->c + c] / (double)rows;
            for (int64_t i = 0; i < rows; i++)
                var += (y[i * n->c + c] - mean) * (y[i * n->c + c] - mean) / (double)rows;
            p->batch_mean[c] = mean;
            p->batch_var[c] = var;
            mean = r->batch_statistics ? mean : p->mean[c];
            var = r->batch_statistics ? var : p->var[c];
            mult = p->gamma[c] / sqrt(var + r->eps);
            shift = p->beta[c] - mean * mult;
        }
        for (int64_t i = 0; i < rows; i++)
            y[i * n->c + c] = y[i * n->c + c] * mult + shift;
    }
}

static void run_node(struct reference *r, int node)
{
    const struct node *n = &r->g->nodes[node], *in = &r->g->nodes[n->in[0]];
    const int64_t size = (int64_t)n->h * n->w * n->c, in_size = (int64_t)in->h * in->w * in->c;
    for (int image = 0; image < r->images; image++) {
        const double *x = r->out[n->in[0]] + image * in_size;
        double *y = r->out[node] + image * size;
        switch (n->op) {
        case OP_CONV:
        case OP_DENSE:
            conv(n, in, x, r->nodes[node].weight, y);
            break;
        case OP_ADD:
            for (int64_t i = 0; i < size; i++)
                y[i] = x[i] + r->out[n->in[1]][image * size + i];
            break;
        case OP_MAXPOOL:
            maxpool(n, in, x, y);
            break;
        case OP_AVGPOOL:
            memset(y, 0, (size_t)n->c * sizeof *y);
            for (int64_t i = 0; i < in_size; i++)
                y[i % n->c] += x[i] / (in->h * in->w);
            break;
        case OP_SHORTCUT:
            shortcut(n, in, x, y);
            break;
        default:
            exit(99);
        }
    }
    if (node_has_weights(n))
        finish(r, node);
    for (int64_t i = 0; n->relu && i < size * r->images; i++)
        if (r->passes[node] ? r->passes[node][i] <= 0 : r->out[node][i] <= 0)
            r->out[node][i] = 0;
}

const double *reference_run(struct reference *r, int first)
{
    const struct node *in = &r->g->nodes[0];
    memcpy(r->out[0], r->x, (size_t)(r->images * in->h * in->w * in->c) * sizeof(double));
    for (int i = first > 1 ? first : 1; i < r->g->count; i++)
        run_node(r, i);
    return r->out[r->g->output];
}

double reference_loss(struct reference *r, int first, const double *targets)
{
    const double *z = reference_run(r, first);
    const int classes = r->g->nodes[r->g->output].c;
    double loss = 0;
    for (int i = 0; i < r->images; i++, z += classes, targets += classes) {
        double sum = 0;
        for (int c = 0; c < classes; c++)
            sum += exp(z[c]);
        for (int c = 0; c < classes; c++)
            loss -= targets[c] * (z[c] - log(sum)) / r->images;
    }
    return loss;
}

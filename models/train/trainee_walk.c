// SPDX-License-Identifier: MIT
//
// One region, forwards and backwards, for a few images of a part.

#include <string.h>

#include "kernels/pool.h"
#include "models/train/trainee_parts.h"

/* The images at hand, and where things are in scratch. */
struct walk {
    struct trainee *t;
    const struct region *r;
    const struct list *slots; /* whose outputs are in slots now */
    int part, first, count;
    float *dz, *slot;
    void *work;
};

static struct walk walk_of(struct trainee *t, int region, int part, int first, int count, const struct list *slots, char *scratch)
{
    struct walk w = {.t = t, .r = &t->regions[region], .slots = slots, .part = part, .first = first, .count = count};
    w.dz = (float *)(void *)scratch;
    w.slot = w.dz + w.r->slot;
    w.work = w.slot + (size_t)slots->count * w.r->slot;
    return w;
}

/* A node's values for the images at hand, in a buffer for all images. */
static float *here(const struct walk *w, float *all, int node)
{
    return all + (size_t)w->first * w->t->units[node].elements;
}

static size_t pixels_of(const struct walk *w, int node)
{
    return (size_t)w->count * w->t->units[node].pixels;
}

static size_t floats_of(const struct walk *w, int node)
{
    return (size_t)w->count * w->t->units[node].elements;
}

/* Makes a node's output from its sums. */
static void finish(const struct walk *w, int node, float *y)
{
    struct trainee *t = w->t;
    const struct unit *u = &t->units[node];
    const struct linear *l = u->linear;
    t->kernels->channels->affine(pixels_of(w, node), u->n->c, here(w, u->out, node), l->mult, l->shift, NULL, u->n->relu, y);
}

static void fill_slots(const struct walk *w)
{
    for (int i = 0; i < w->slots->count; i++)
        finish(w, w->slots->nodes[i], w->slot + (size_t)i * w->r->slot);
}

static const float *output(const struct walk *w, int node)
{
    for (int i = 0; i < w->slots->count; i++)
        if (w->slots->nodes[i] == node)
            return w->slot + (size_t)i * w->r->slot;
    return node == 0 ? w->t->x + (size_t)w->first * w->t->units[0].elements : here(w, w->t->units[node].out, node);
}

/* ---- forwards ---- */

static void linear_forward(const struct walk *w, int node)
{
    struct trainee *t = w->t;
    const struct unit *u = &t->units[node];
    struct linear *l = u->linear;
    float *z = here(w, u->out, node);
    conv_run(l->conv, &(struct conv_io){output(w, u->n->in[0]), NULL, z, w->count}, 0, 1, w->work);
    if (l->normed && t->mode == TRAINEE_TRAIN) {
        double *moments = l->moments + 2 * w->part * u->n->c;
        t->kernels->channels->moments(pixels_of(w, node), u->n->c, z, l->center, moments, moments + u->n->c);
    }
}

static void add_forward(const struct walk *w, int node)
{
    struct trainee *t = w->t;
    const struct unit *u = &t->units[node];
    const int fused = fused_input(t, node);
    float *y = here(w, u->out, node);
    if (fused < 0) {
        t->kernels->channels->sum_of(floats_of(w, node), output(w, u->n->in[0]), output(w, u->n->in[1]), u->n->relu, y);
    } else {
        const int in = u->n->in[fused];
        const struct linear *l = t->units[in].linear;
        t->kernels->channels->affine(pixels_of(w, node), u->n->c, here(w, t->units[in].out, in), l->mult, l->shift,
                                     output(w, u->n->in[!fused]), u->n->relu, y);
    }
}

static struct pool_shape pool_shape(const struct trainee *t, const struct node *n)
{
    const struct node *in = &t->g.nodes[n->in[0]];
    return (struct pool_shape){in->h,       in->w,       n->c,        n->h,       n->w,       n->kernel_h,
                               n->kernel_w, n->stride_h, n->stride_w, n->pad_top, n->pad_left};
}

static struct shortcut_shape shortcut_shape(const struct trainee *t, const struct node *n)
{
    const struct node *in = &t->g.nodes[n->in[0]];
    return (struct shortcut_shape){in->h, in->w, in->c, n->h, n->w, n->stride_h, n->stride_w, n->pad_before, n->pad_after};
}

void region_forward(struct trainee *t, int region, int part, int first, int count, char *scratch)
{
    const struct region *r = &t->regions[region];
    const struct walk w = walk_of(t, region, part, first, count, &r->inputs, scratch);
    fill_slots(&w);
    for (int i = 0; i < r->nodes.count; i++) {
        const int node = r->nodes.nodes[i];
        const struct unit *u = &t->units[node];
        const struct node *n = u->n;
        float *y = here(&w, u->out, node);
        switch (n->op) {
        case OP_CONV:
        case OP_DENSE:
            linear_forward(&w, node);
            break;
        case OP_ADD:
            add_forward(&w, node);
            break;
        case OP_AVGPOOL:
            avgpool_run(t->kernels, PRECISION_FP32, (int)t->units[n->in[0]].pixels, n->c, NULL, NULL, output(&w, n->in[0]), y,
                        count, 0, 1);
            break;
        case OP_MAXPOOL: {
            const struct pool_shape s = pool_shape(t, n);
            maxpool_run(t->kernels, PRECISION_FP32, &s, output(&w, n->in[0]), y, count, 0, 1);
            break;
        }
        case OP_SHORTCUT: {
            const struct shortcut_shape s = shortcut_shape(t, n);
            shortcut_run(PRECISION_FP32, &s, 0, output(&w, n->in[0]), y, count, 0, 1);
            break;
        }
        default:
            break;
        }
    }
    if (region == t->region_count - 1) {
        const struct unit *u = &t->units[t->g.output];
        float *y = here(&w, t->logits, t->g.output);
        if (u->linear)
            finish(&w, t->g.output, y);
        else
            memcpy(y, here(&w, u->out, t->g.output), floats_of(&w, t->g.output) * sizeof *y);
    }
}

/* ---- backwards ---- */

/* The whole gradient of a node's output. */
static const float *gradient(const struct walk *w, int node)
{
    const int holder = w->t->units[node].holder;
    return here(w, w->t->units[holder].gradient, holder);
}

/* What lies there for an input before this node adds to it, or NULL; and where the sum is to go. */
static const float *before(const struct walk *w, int node, int input)
{
    const int from = w->t->units[node].edges[input].from;
    return from < 0 ? NULL : here(w, w->t->units[from].gradient, from);
}

static float *after(const struct walk *w, int node, int input)
{
    const int to = w->t->units[node].edges[input].to;
    return here(w, w->t->units[to].gradient, to);
}

static void linear_backward(const struct walk *w, int node, int more)
{
    struct trainee *t = w->t;
    const struct unit *u = &t->units[node];
    struct linear *l = u->linear;
    float *z = here(w, u->out, node), *dz = w->dz;
    t->kernels->channels->affine_gradient(pixels_of(w, node), u->n->c, z, l->mult, l->shift, u->n->relu, gradient(w, node),
                                          l->of_gradient, l->of_z, l->constant, dz);
    float *sums = t->weight_sums + (size_t)w->part * w->r->sums + l->sums_at;
    conv_to_weights_run(&l->to_weights, output(w, u->n->in[0]), dz, w->count, more, sums, w->work);
    if (l->to_input)
        conv_to_input_run(l->to_input, dz, before(w, node, 0), after(w, node, 0), w->count, w->work);
}

static void add_backward(const struct walk *w, int node)
{
    struct trainee *t = w->t;
    const struct unit *u = &t->units[node];
    const float *dy = gradient(w, node);
    if (u->n->relu) {
        float *masked = here(w, u->gradient, node);
        t->kernels->channels->mask(floats_of(w, node), here(w, u->out, node), dy, masked);
        dy = masked;
    }
    for (int k = 0; k < 2; k++) {
        const float *there = before(w, node, k);
        if (t->units[u->n->in[k]].learns && there)
            t->kernels->channels->sum_of(floats_of(w, node), there, dy, 0, after(w, node, k));
    }
}

static void avgpool_backward(const struct walk *w, int node)
{
    const struct unit *u = &w->t->units[node];
    const size_t c = (size_t)u->n->c, pixels = w->t->units[u->n->in[0]].pixels;
    const float *dy = gradient(w, node), *there = before(w, node, 0), share = 1 / (float)pixels;
    float *to = after(w, node, 0);
    for (int i = 0; i < w->count; i++, dy += c)
        for (size_t p = 0; p < pixels; p++, to += c)
            for (size_t j = 0; j < c; j++)
                to[j] = dy[j] * share + (there ? *there++ : 0);
}

/* The first largest pixel of each window gets the gradient. */
static void maxpool_backward(const struct walk *w, int node)
{
    const struct node *n = w->t->units[node].n;
    const struct pool_shape s = pool_shape(w->t, n);
    const int in = n->in[0], c = s.c;
    const float *x = output(w, in), *dy = gradient(w, node), *there = before(w, node, 0);
    const float *y = here(w, w->t->units[node].out, node);
    float *to = after(w, node, 0);
    if (there != to) {
        if (there)
            memcpy(to, there, floats_of(w, in) * sizeof *to);
        else
            memset(to, 0, floats_of(w, in) * sizeof *to);
    }
    for (int image = 0; image < w->count; image++, x += s.in_h * s.in_w * c, to += s.in_h * s.in_w * c)
        for (int oy = 0; oy < s.out_h; oy++)
            for (int ox = 0; ox < s.out_w; ox++, y += c, dy += c)
                for (int j = 0; j < c; j++)
                    for (int tap = 0; tap < s.kernel_h * s.kernel_w; tap++) {
                        const int iy = oy * s.stride_h - s.pad_top + tap / s.kernel_w,
                                  ix = ox * s.stride_w - s.pad_left + tap % s.kernel_w;
                        if (iy < 0 || iy >= s.in_h || ix < 0 || ix >= s.in_w || x[(iy * s.in_w + ix) * c + j] < y[j])
                            continue;
                        to[(iy * s.in_w + ix) * c + j] += dy[j];
                        break;
                    }
}

static void shortcut_backward(const struct walk *w, int node)
{
    const struct node *n = w->t->units[node].n;
    const struct shortcut_shape s = shortcut_shape(w->t, n);
    const float *dy = gradient(w, node), *there = before(w, node, 0);
    float *to = after(w, node, 0);
    for (int image = 0; image < w->count; image++, dy += n->h * n->w * n->c)
        for (int y = 0; y < s.in_h; y++)
            for (int x = 0; x < s.in_w; x++, to += s.in_c) {
                const int read = y % s.stride_h == 0 && x % s.stride_w == 0;
                const float *d = dy + (y / s.stride_h * n->w + x / s.stride_w) * n->c + s.pad_before;
                for (int j = 0; j < s.in_c; j++)
                    to[j] = (there ? *there++ : 0) + (read ? d[j] : 0);
            }
}

void region_backward(struct trainee *t, int region, int part, int first, int count, int more, char *scratch)
{
    const struct region *r = &t->regions[region];
    const struct walk w = walk_of(t, region, part, first, count, &r->again, scratch);
    fill_slots(&w);
    for (int i = r->nodes.count - 1; i >= 0; i--) {
        const int node = r->nodes.nodes[i];
        if (!t->units[node].learns)
            continue;
        switch (t->units[node].n->op) {
        case OP_CONV:
        case OP_DENSE:
            linear_backward(&w, node, more);
            break;
        case OP_ADD:
            add_backward(&w, node);
            break;
        case OP_AVGPOOL:
            avgpool_backward(&w, node);
            break;
        case OP_MAXPOOL:
            maxpool_backward(&w, node);
            break;
        case OP_SHORTCUT:
            shortcut_backward(&w, node);
            break;
        default:
            break;
        }
    }
    for (int i = 0; i < r->complete.count; i++) {
        const int node = r->complete.nodes[i];
        const struct unit *u = &t->units[node];
        const struct linear *l = u->linear;
        double *moments = u->linear->moments + 2 * part * u->n->c;
        t->kernels->channels->gradient_moments(pixels_of(&w, node), u->n->c, here(&w, u->out, node), l->mult, l->shift,
                                               u->n->relu, l->center, gradient(&w, node), moments, moments + u->n->c);
    }
}

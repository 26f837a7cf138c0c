// SPDX-License-Identifier: MIT

#include "daemon/ctl_loss.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NOWHERE SIZE_MAX

/* What both runs of one image share. */
struct run {
    struct loss *l;
    size_t *place;  /* node of fp32 -> where its output starts in values, NOWHERE: it has none of its own */
    float *values;  /* fp32's outputs */
    int *reference; /* node of q -> that of fp32 with its name, or of what it casts; -1 */
};

/* session_see: keeps what fp32 gives. */
static void keep_values(void *user, int node, const float *values, size_t count)
{
    const struct run *r = user;
    memcpy(r->values + r->place[node], values, count * sizeof *values);
}

/* The last convolution or dense layer of int8 gives floats, whatever its quantisation says. */
static int is_clipped(const struct network *q, int node)
{
    const struct node *n = &q->graph.nodes[node];
    return q->quants && q->quants[node].scale > 0 && (node != q->graph.output || n->keep_output || !node_has_weights(n));
}

/* session_see: holds what the other gives against it. Beyond the range is what would round to a 257th step. */
static void hold_values(void *user, int node, const float *y, size_t count)
{
    const struct run *r = user;
    const int reference = r->reference[node];
    if (reference < 0 || r->place[reference] == NOWHERE)
        return;
    const float *x = r->values + r->place[reference];
    struct loss_layer *l = &r->l->layers[node];
    float least = -INFINITY, most = INFINITY;
    if (is_clipped(r->l->q, node)) {
        const struct quant *s = &r->l->q->quants[node];
        least = s->scale * (-128.5f - (float)s->zero);
        most = s->scale * (127.5f - (float)s->zero);
    }
    double signal = 0, noise = 0, product = 0, power = 0;
    size_t low = 0, high = 0;
    for (size_t i = 0; i < count; i++) {
        const double a = (double)x[i], b = (double)y[i], d = b - a;
        signal += a * a;
        noise += d * d;
        product += a * b;
        power += b * b;
        low += x[i] < least;
        high += x[i] > most;
    }
    l->signal += signal;
    l->noise += noise;
    l->product += product;
    l->power += power;
    l->count += (double)count;
    l->low += (double)low;
    l->high += (double)high;
}

/* Falling by what the caller wants to see first; the last of a full list falls out. */
static void rank(struct loss_image *list, int *count, const struct loss_image *image, double (*by)(const struct loss_image *))
{
    int at = *count;
    while (at > 0 && by(&list[at - 1]) < by(image))
        at--;
    if (at == LOSS_IMAGES)
        return;
    const int last = *count < LOSS_IMAGES ? *count : LOSS_IMAGES - 1;
    memmove(&list[at + 1], &list[at], (size_t)(last - at) * sizeof *list);
    list[at] = *image;
    *count = last + 1;
}

static double by_noise(const struct loss_image *i)
{
    return i->noise;
}

static double by_margin(const struct loss_image *i)
{
    return i->margin;
}

static void add_image(struct loss *l, struct loss_image image, const float *x, const float *y, int classes)
{
    int best[2];
    ctl_compare_add(&l->logits, x, y, classes);
    top_k(y, classes, 1, &image.have);
    top_k(x, classes, classes < 2 ? 1 : 2, best);
    image.want = best[0];
    image.margin = classes < 2 ? 0 : (double)x[best[0]] - (double)x[best[1]];
    for (int i = 0; i < classes; i++) {
        const double d = (double)y[i] - (double)x[i];
        image.signal += (double)x[i] * (double)x[i];
        image.noise += d * d;
        image.largest = fabs(d) > image.largest ? fabs(d) : image.largest;
    }
    if (image.noise > 0)
        rank(l->worst, &l->worst_count, &image, by_noise);
    if (image.want != image.have)
        rank(l->flips, &l->flip_count, &image, by_margin);
    if (image.label >= 0) {
        l->labelled++;
        l->right[0] += image.want == image.label;
        l->right[1] += image.have == image.label;
    }
}

/* Which nodes have an output of their own, and memory for those of fp32. */
static int make_places(struct run *r, const struct ctl_model *fp32, struct err *e)
{
    const struct graph *g = &r->l->fp32->graph, *h = &r->l->q->graph;
    struct graph_name *names = graph_names(g);
    size_t sum = 0;
    r->place = malloc((size_t)g->count * sizeof *r->place);
    r->reference = malloc((size_t)h->count * sizeof *r->reference);
    r->l->layers = calloc((size_t)h->count, sizeof *r->l->layers);
    if (names && r->place && r->reference && r->l->layers) {
        for (int i = 0; i < h->count; i++) {
            const struct node *n = &h->nodes[i];
            const int cast = n->op == OP_QUANTIZE || n->op == OP_DEQUANTIZE;
            r->reference[i] = cast ? r->reference[n->in[0]] : graph_names_find(names, g->count, n->name);
        }
        for (int i = 0; i < g->count; i++)
            r->place[i] = NOWHERE;
        for (int i = 0; i < model_steps(fp32->model); i++) {
            struct model_step step;
            model_step(fp32->model, i, &step);
            r->place[graph_names_find(names, g->count, step.name)] = sum;
            sum += (size_t)step.h * (size_t)step.w * (size_t)step.c;
        }
        r->values = malloc(sum * sizeof *r->values);
    }
    free(names);
    return r->values ? 0 : err_set(e, ERR_MEMORY, "no memory for %zu activations", sum);
}

static int run_image(struct run *r, const struct ctl_model *a, const struct ctl_model *b, const struct loss_image *image,
                     const uint8_t *rgb, struct err *e)
{
    session_set_pixels(a->session, 0, rgb);
    session_set_pixels(b->session, 0, rgb);
    const float *x, *y;
    if (r->values) {
        x = session_run_observed(a->session, 1, keep_values, r);
        y = session_run_observed(b->session, 1, hold_values, r);
    } else {
        x = session_run(a->session, 1);
        y = session_run(b->session, 1);
    }
    if (!x || !y)
        return err_set(e, ERR_MEMORY, "no memory for the outputs of layers");
    add_image(r->l, *image, x, y, a->classes);
    return 0;
}

static void measure_memory(struct loss_memory *m, const struct ctl_model *model)
{
    m->weights = model_weight_bytes(model->model);
    m->unplanned = model_unplanned_bytes(model->model);
    m->arena = session_bytes(model->session);
}

int loss_measure(struct loss *l, const struct kernels *k, struct pthreadpool *pool, const struct loss_source *images,
                 int with_layers, struct err *e)
{
    const struct node *input = &l->fp32->graph.nodes[0];
    struct ctl_model a = {0}, b = {0};
    struct run r = {.l = l};
    uint8_t *rgb = malloc(3u * (size_t)input->w * (size_t)input->h);
    int rc = rgb ? 0 : err_set(e, ERR_MEMORY, "no memory for an image");
    if (rc == 0)
        rc = ctl_model_make(l->fp32, k, pool, &a, e);
    if (rc == 0)
        rc = ctl_model_make(l->q, k, pool, &b, e);
    if (rc == 0) {
        measure_memory(&l->memory[0], &a);
        measure_memory(&l->memory[1], &b);
    }
    if (rc == 0 && with_layers)
        rc = make_places(&r, &a, e);
    struct loss_image image = {0};
    while (rc == 0 && (rc = images->next(images->user, rgb, &image.label, e)) == 1) {
        snprintf(image.file, sizeof image.file, "%s", images->file);
        rc = run_image(&r, &a, &b, &image, rgb, e);
    }
    ctl_model_close(&a);
    ctl_model_close(&b);
    free(r.place);
    free(r.values);
    free(r.reference);
    free(rgb);
    return rc;
}

static size_t stored_bytes(const struct network *n)
{
    size_t sum = 0;
    for (int i = 0; i < n->graph.count; i++) {
        const struct layer *l = &n->layers[i];
        const size_t channels = (size_t)n->graph.nodes[i].c, one = weight_bytes(node_precision(&n->graph.nodes[i], n->precision));
        if (l->weight)
            sum += (size_t)node_weights(&n->graph, i) * one + 4 * channels + (l->scale ? 4 * channels : 0);
    }
    return sum;
}

void loss_start(struct loss *l, const struct network *fp32, const struct network *q)
{
    l->fp32 = fp32;
    l->q = q;
    l->memory[0].stored = stored_bytes(fp32);
    l->memory[1].stored = stored_bytes(q);
}

void loss_free(struct loss *l)
{
    free(l->layers);
    l->layers = NULL;
}

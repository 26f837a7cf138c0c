// SPDX-License-Identifier: MIT

#include "models/session.h"

#include <math.h>
#include <pthreadpool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "kernels/half.h"
#include "kernels/tflite.h"
#include "models/model_parts.h"

struct session {
    struct model *model; /* a reference */
    int batch, tasks;
    pthreadpool_t pool;
    char *arena; /* one mapping: tensors, then scratch of each task, then logits */
    size_t arena_bytes;
    char *scratch;
    float *logits;
    float *seen; /* session_run_observed: the largest tensor as floats */
    union {      /* input values of each channel's 256 pixels, as the network takes them */
        float f32[3][256];
        uint16_t f16[3][256];
        int8_t s8[3][256];
    } table;
};

static int8_t quantise(const struct network *n, float x)
{
    const struct quant *q = &n->quants[0];
    float v = x / q->scale;
    v = v < -512 ? -512 : v > 512 ? 512 : v;
    long y = (n->rounding == ROUNDING_TFLITE ? lroundf(v) : lrintf(v)) + q->zero;
    return (int8_t)(y < -128 ? -128 : y > 127 ? 127 : y);
}

static enum precision input_precision(const struct network *n)
{
    return node_precision(&n->graph.nodes[0], n->precision);
}

static void make_table(struct session *s)
{
    const struct network *n = model_network(s->model);
    const enum precision p = input_precision(n);
    for (int c = 0; c < 3; c++)
        for (int i = 0; i < 256; i++) {
            float v = preprocess_value(&n->preprocess, c, (uint8_t)i);
            if (p == PRECISION_INT8)
                s->table.s8[c][i] = quantise(n, v);
            else if (p == PRECISION_FP16)
                s->table.f16[c][i] = half_from_float(v);
            else
                s->table.f32[c][i] = v;
        }
}

int session_new(struct model *m, int batch, struct pthreadpool *pool, struct session **out, struct err *e)
{
    if (batch < 1 || batch > SESSION_BATCH_MAX)
        return err_set(e, ERR_INPUT, "batch of %d images: 1 to %d are possible", batch, SESSION_BATCH_MAX);
    const struct graph *g = &model_network(m)->graph;
    for (int i = 0; i < g->count; i++)
        if ((int64_t)g->nodes[i].h * g->nodes[i].w * batch > INT32_MAX / 2)
            return err_set(e, ERR_TOO_LARGE, "batch of %d images is too large for node %s", batch, g->nodes[i].name);
    struct session *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(e, ERR_MEMORY, "no memory for a session");
    s->batch = batch;
    s->pool = pool;
    s->tasks = pool ? (int)pthreadpool_get_threads_count(pool) : 1;
    s->arena_bytes = model_arena_bytes(m, batch, s->tasks);
    void *p = mmap(NULL, s->arena_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        free(s);
        return err_set(e, ERR_MEMORY, "no memory for an arena of %zu bytes", model_arena_bytes(m, batch, 1));
    }
    s->arena = p;
    s->scratch = s->arena + (size_t)batch * model_plan(m)->arena_bytes;
    s->logits = (float *)(void *)(s->scratch + (size_t)s->tasks * model_scratch_bytes(m));
    s->model = model_ref(m);
    make_table(s);
    *out = s;
    return 0;
}

void session_free(struct session *s)
{
    if (!s)
        return;
    munmap(s->arena, s->arena_bytes);
    free(s->seen);
    model_free(s->model);
    free(s);
}

/* Offsets are per image and tensors of a batch lie together, so a place scales with the batch. */
static void *tensor(const struct session *s, int node)
{
    return s->arena + model_plan(s->model)->offset[node] * (size_t)s->batch;
}

/* Where image `index` of the input starts. */
static void *input(const struct session *s, int index)
{
    const struct network *n = model_network(s->model);
    const struct node *in = &n->graph.nodes[0];
    return (char *)tensor(s, 0) + (size_t)index * (size_t)in->h * (size_t)in->w * 3 * activation_bytes(input_precision(n));
}

/* table: three times 256 values of `size` bytes, a constant where this is expanded, or the copies would cost as much again. */
static inline __attribute__((always_inline)) void look_up(const void *table, size_t size, const uint8_t *rgb, size_t pixels, int bgr,
                                                          char *y)
{
    const char *t0 = table, *t1 = t0 + 256 * size, *t2 = t1 + 256 * size;
    const int first = bgr ? 2 : 0;
    for (const uint8_t *end = rgb + 3 * pixels; rgb != end; rgb += 3, y += 3 * size) {
        memcpy(y, t0 + rgb[first] * size, size);
        memcpy(y + size, t1 + rgb[1] * size, size);
        memcpy(y + 2 * size, t2 + rgb[2 - first] * size, size);
    }
}

void session_set_pixels(struct session *s, int index, const uint8_t *rgb)
{
    const struct network *n = model_network(s->model);
    const size_t pixels = (size_t)n->graph.nodes[0].h * (size_t)n->graph.nodes[0].w;
    const enum precision p = input_precision(n);
    void *to = input(s, index);
    if (p == PRECISION_INT8)
        look_up(s->table.s8, 1, rgb, pixels, n->preprocess.bgr, to);
    else if (p == PRECISION_FP16)
        look_up(s->table.f16, 2, rgb, pixels, n->preprocess.bgr, to);
    else
        look_up(s->table.f32, 4, rgb, pixels, n->preprocess.bgr, to);
}

void session_set_values(struct session *s, int index, const float *x)
{
    const struct network *n = model_network(s->model);
    const size_t count = (size_t)n->graph.nodes[0].h * (size_t)n->graph.nodes[0].w * 3;
    const enum precision p = input_precision(n);
    void *to = input(s, index);
    if (p == PRECISION_INT8)
        for (size_t i = 0; i < count; i++)
            ((int8_t *)to)[i] = quantise(n, x[i]);
    else if (p == PRECISION_FP16)
        for (size_t i = 0; i < count; i++)
            ((uint16_t *)to)[i] = half_from_float(x[i]);
    else
        memcpy(to, x, count * sizeof *x);
}

struct work {
    const struct session *s;
    int step, images;
};

static void run_task(void *user, size_t task)
{
    const struct work *w = user;
    const struct session *s = w->s;
    const struct network *n = model_network(s->model);
    const struct graph *g = &n->graph;
    const struct step *step = &model_plan(s->model)->steps[w->step];
    const struct node *in = &g->nodes[step->in[0]], *node = &g->nodes[step->node];
    const void *x = tensor(s, step->in[0]), *x2 = step->in[1] >= 0 ? tensor(s, step->in[1]) : NULL;
    void *y = tensor(s, step->node);
    const size_t count = (size_t)w->images * (size_t)node->h * (size_t)node->w * (size_t)node->c;
    const enum precision p = node_precision(node, n->precision);
    const struct quant *q = n->quants;
    const int t = (int)task;

    switch (step->op) {
    case OP_CONV: {
        struct conv_io io = {x, x2, step_writes_logits(n, step) ? (void *)s->logits : y, w->images};
        conv_run(model_conv(s->model, w->step), &io, t, s->tasks, s->scratch + task * model_scratch_bytes(s->model));
        break;
    }
    case OP_MAXPOOL: {
        struct pool_shape shape = {in->h,           in->w,           in->c,           node->h,       node->w,       node->kernel_h,
                                   node->kernel_w, node->stride_h, node->stride_w, node->pad_top, node->pad_left};
        maxpool_run(model_kernels(s->model), p, &shape, x, y, w->images, t, s->tasks);
        break;
    }
    case OP_AVGPOOL:
        if (n->rounding == ROUNDING_TFLITE)
            tflite_avgpool_run(model_kernels(s->model), in->h * in->w, in->c, &q[step->in[0]], &q[step->node], x, y, w->images, t,
                               s->tasks);
        else
            avgpool_run(model_kernels(s->model), p, in->h * in->w, in->c, q ? &q[step->in[0]] : NULL,
                        q ? &q[step->node] : NULL, x, y, w->images, t, s->tasks);
        break;
    case OP_ADD:
        if (n->rounding == ROUNDING_TFLITE)
            tflite_add_run(count, step->relu, &q[step->in[0]], &q[step->in[1]], &q[step->node], x, x2, y, t, s->tasks);
        else
            add_run(p, count, step->relu, q ? &q[step->in[0]] : NULL, q ? &q[step->in[1]] : NULL, q ? &q[step->node] : NULL, x, x2,
                    y, t, s->tasks);
        break;
    case OP_SHORTCUT: {
        struct shortcut_shape shape = {in->h,   in->w,          in->c,          node->h,         node->w,
                                       node->stride_h, node->stride_w, node->pad_before, node->pad_after};
        shortcut_run(p, &shape, q ? q[step->node].zero : 0, x, y, w->images, t, s->tasks);
        break;
    }
    case OP_QUANTIZE:
        quantize_run(model_kernels(s->model), &q[step->node], count, x, y, t, s->tasks);
        break;
    case OP_DEQUANTIZE:
        dequantize_run(&q[step->in[0]], count, x, y, t, s->tasks);
        break;
    case OP_INPUT:
    case OP_DENSE: /* planned as OP_CONV */
        break;
    }
}

static void run_step(struct session *s, int step, int images)
{
    struct work w = {s, step, images};
    /* Between steps the other threads wait actively, because the next one starts at once; after the last they sleep. */
    const uint32_t flags = step == model_plan(s->model)->count - 1 ? PTHREADPOOL_FLAG_YIELD_WORKERS : 0;
    if (s->tasks == 1)
        run_task(&w, 0);
    else
        pthreadpool_parallelize_1d(s->pool, run_task, &w, (size_t)s->tasks, flags);
}

/* count activations of one tensor as floats. */
static void to_float(const struct network *n, int node, const void *x, size_t count, float *out)
{
    const enum precision p = node_precision(&n->graph.nodes[node], n->precision);
    if (p == PRECISION_INT8) {
        const struct quant *q = &n->quants[node];
        for (size_t i = 0; i < count; i++)
            out[i] = q->scale * (float)(((const int8_t *)x)[i] - q->zero);
    } else if (p == PRECISION_FP16) {
        for (size_t i = 0; i < count; i++)
            out[i] = half_to_float(((const uint16_t *)x)[i]);
    } else {
        memcpy(out, x, count * sizeof *out);
    }
}

/* The last step of int8 writes logits itself; everything else leaves them in its tensor. */
static int writes_logits(const struct session *s)
{
    const struct plan *p = model_plan(s->model);
    return step_writes_logits(model_network(s->model), &p->steps[p->count - 1]);
}

static const float *finish(struct session *s, int images)
{
    const struct network *n = model_network(s->model);
    if (!writes_logits(s))
        to_float(n, n->graph.output, tensor(s, n->graph.output), (size_t)images * (size_t)model_classes(s->model), s->logits);
    return s->logits;
}

const float *session_run(struct session *s, int images)
{
    for (int i = 0; i < model_plan(s->model)->count; i++)
        run_step(s, i, images);
    return finish(s, images);
}

const float *session_run_observed(struct session *s, int images, session_see *see, void *user)
{
    const struct network *n = model_network(s->model);
    const struct plan *p = model_plan(s->model);
    if (!s->seen) {
        size_t largest = 0;
        for (int i = 0; i < n->graph.count; i++) {
            const struct node *v = &n->graph.nodes[i];
            const size_t count = (size_t)v->h * (size_t)v->w * (size_t)v->c;
            largest = count > largest ? count : largest;
        }
        s->seen = malloc(largest * sizeof(float) * (size_t)s->batch);
        if (!s->seen)
            return NULL;
    }
    for (int i = 0; i < p->count; i++) {
        const int node = p->steps[i].node;
        const struct node *v = &n->graph.nodes[node];
        const size_t count = (size_t)images * (size_t)v->h * (size_t)v->w * (size_t)v->c;
        run_step(s, i, images);
        if (step_writes_logits(n, &p->steps[i])) {
            see(user, node, s->logits, count);
        } else {
            to_float(n, node, tensor(s, node), count, s->seen);
            see(user, node, s->seen, count);
        }
    }
    return finish(s, images);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

const float *session_run_timed(struct session *s, int images, double *seconds)
{
    for (int i = 0; i < model_plan(s->model)->count; i++) {
        const double start = now();
        run_step(s, i, images);
        seconds[i] = now() - start;
    }
    return finish(s, images);
}

struct model *session_model(const struct session *s)
{
    return s->model;
}

size_t session_bytes(const struct session *s)
{
    return s->arena_bytes;
}

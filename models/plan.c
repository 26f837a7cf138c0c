// SPDX-License-Identifier: MIT

#include "models/plan.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define UNIT 64 /* of offsets: a cache line, and the widest vector */

size_t plan_tensor_bytes(const struct graph *g, int i, size_t bytes)
{
    const struct node *n = &g->nodes[i];
    size_t size = (size_t)n->h * (size_t)n->w * (size_t)n->c * (n->half ? sizeof(uint16_t) : bytes);
    return (size + UNIT - 1) / UNIT * UNIT;
}

/* The operand of an add that its step can compute itself, or -1. */
static int fusable(const struct graph *g, const struct node *add, const int *readers)
{
    for (int i = 0; i < 2; i++) {
        int in = add->in[i];
        const struct node *n = &g->nodes[in];
        if (n->op == OP_CONV && !n->relu && !n->keep_output && readers[in] == 1 && add->in[0] != add->in[1] && in != g->output)
            return i;
    }
    return -1;
}

static int make_steps(const struct graph *g, struct plan *p, struct err *e)
{
    int *readers = calloc((size_t)g->count, sizeof *readers);
    char *fused = calloc((size_t)g->count, 1);
    p->steps = calloc((size_t)g->count, sizeof *p->steps);
    if (!readers || !fused || !p->steps) {
        free(readers);
        free(fused);
        return err_set(e, ERR_MEMORY, "no memory for a plan of %d nodes", g->count);
    }
    for (int i = 0; i < g->count; i++)
        for (int j = 0; j < 2; j++)
            if (g->nodes[i].in[j] >= 0)
                readers[g->nodes[i].in[j]]++;
    for (int i = 0; i < g->count; i++)
        if (g->nodes[i].op == OP_ADD) {
            int which = fusable(g, &g->nodes[i], readers);
            if (which >= 0)
                fused[g->nodes[i].in[which]] = 1;
        }
    for (int i = 1; i < g->count; i++) {
        const struct node *n = &g->nodes[i];
        if (fused[i])
            continue;
        struct step *s = &p->steps[p->count++];
        *s = (struct step){n->op, i, -1, {n->in[0], n->in[1]}, n->relu};
        if (node_has_weights(n)) {
            s->op = OP_CONV;
            s->weights = i;
        } else if (n->op == OP_ADD) {
            int which = fused[n->in[0]] ? 0 : fused[n->in[1]] ? 1 : -1;
            if (which >= 0) {
                s->op = OP_CONV;
                s->weights = n->in[which];
                s->in[0] = g->nodes[s->weights].in[0];
                s->in[1] = n->in[1 - which];
            }
        }
    }
    free(readers);
    free(fused);
    return 0;
}

struct tensor {
    int node;
    int first, last;  /* steps during which it lives; the input is written before step 0 */
    int shares;       /* tensor over which it is written, -1 */
    size_t size;
};

/* Largest first: the few large tensors decide the arena's size. Ties by node for the same plan everywhere. */
static int by_size(const void *a, const void *b)
{
    const struct tensor *x = *(const struct tensor *const *)a, *y = *(const struct tensor *const *)b;
    return x->size != y->size ? (x->size < y->size ? 1 : -1) : x->node - y->node;
}

static int by_offset(const void *a, const void *b)
{
    const size_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

/* Lowest place for t beside those already placed that live at the same time. gaps has room for 2 per placed tensor. */
static size_t place(const struct tensor *t, struct tensor *const *placed, int count, const size_t *offset, size_t (*busy)[2])
{
    int n = 0;
    for (int i = 0; i < count; i++)
        if (placed[i]->first <= t->last && t->first <= placed[i]->last) {
            busy[n][0] = offset[placed[i]->node];
            busy[n++][1] = offset[placed[i]->node] + placed[i]->size;
        }
    qsort(busy, (size_t)n, sizeof *busy, by_offset);
    size_t at = 0;
    for (int i = 0; i < n; i++) {
        if (busy[i][0] >= at + t->size)
            break;
        if (busy[i][1] > at)
            at = busy[i][1];
    }
    return at;
}

static int make_arena(const struct graph *g, size_t bytes, struct plan *p, struct err *e)
{
    struct tensor *tensors = calloc((size_t)g->count, sizeof *tensors);
    struct tensor **order = calloc((size_t)g->count, sizeof *order);
    size_t(*busy)[2] = calloc((size_t)g->count, sizeof *busy);
    p->offset = calloc((size_t)g->count, sizeof *p->offset);
    if (!tensors || !order || !busy || !p->offset) {
        free(tensors);
        free(order);
        free(busy);
        return err_set(e, ERR_MEMORY, "no memory for a plan of %d nodes", g->count);
    }
    for (int i = 0; i < g->count; i++) {
        tensors[i] = (struct tensor){i, -1, -1, -1, plan_tensor_bytes(g, i, bytes)};
        p->offset[i] = SIZE_MAX;
        p->sum_bytes += tensors[i].size;
    }
    for (int s = 0; s < p->count; s++) {
        const struct step *step = &p->steps[s];
        tensors[step->node].first = tensors[step->node].last = s;
        for (int j = 0; j < 2; j++)
            if (step->in[j] >= 0)
                tensors[step->in[j]].last = s;
    }
    tensors[g->output].last = p->count;
    /* The sum may replace the residual, element by element, when nobody reads that later. Its memory then lives on. */
    for (int s = p->count - 1; s >= 0; s--) {
        const struct step *step = &p->steps[s];
        int r = step->in[1];
        if (step->op == OP_CONV && r >= 0 && r != step->in[0] && tensors[r].last == s && step->node != g->output) {
            tensors[step->node].shares = r;
            tensors[r].last = tensors[step->node].last;
        }
    }
    int count = 0;
    for (int i = 0; i < g->count; i++)
        if (tensors[i].shares < 0 && (i == 0 || tensors[i].first >= 0))
            order[count++] = &tensors[i];
    qsort(order, (size_t)count, sizeof *order, by_size);
    for (int i = 0; i < count; i++) {
        size_t at = place(order[i], order, i, p->offset, busy);
        p->offset[order[i]->node] = at;
        if (at + order[i]->size > p->arena_bytes)
            p->arena_bytes = at + order[i]->size;
    }
    for (int i = 0; i < g->count; i++) /* sharers follow their residual: it has a smaller index */
        if (tensors[i].shares >= 0)
            p->offset[i] = p->offset[tensors[i].shares];
    free(tensors);
    free(order);
    free(busy);
    return 0;
}

int plan_make(const struct graph *g, size_t bytes, struct plan *out, struct err *e)
{
    struct plan p = {0};
    if (make_steps(g, &p, e) < 0 || make_arena(g, bytes, &p, e) < 0) {
        plan_free(&p);
        return -1;
    }
    *out = p;
    return 0;
}

void plan_free(struct plan *p)
{
    free(p->steps);
    free(p->offset);
    memset(p, 0, sizeof *p);
}

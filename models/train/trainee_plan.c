// SPDX-License-Identifier: MIT
//
// Which node computes in which region, and how large everything is.

#include <stdlib.h>
#include <string.h>

#include "models/train/trainee_parts.h"

#define CHUNK_BYTES (128 * 1024) /* of the largest tensor of a region: several of them share the second cache level */
#define SUMS_BYTES  (64UL << 20) /* of all parts' gradients of weights in a region */
#define PARTS_LEAST 4

void *trainee_take(struct trainee *t, size_t bytes)
{
    bytes = conv_align(bytes ? bytes : 1);
    if (t->owned_count % 64 == 0) {
        void **more = realloc(t->owned, ((size_t)t->owned_count + 64) * sizeof *more);
        if (!more)
            return NULL;
        t->owned = more;
    }
    void *p = aligned_alloc(CONV_ALIGN, bytes);
    if (!p)
        return NULL;
    memset(p, 0, bytes);
    t->owned[t->owned_count++] = p;
    t->bytes += bytes;
    return p;
}

int fused_input(const struct trainee *t, int node)
{
    const struct node *n = t->units[node].n;
    if (n->op != OP_ADD || n->in[0] == n->in[1])
        return -1;
    for (int k = 0; k < 2; k++)
        if (t->units[n->in[k]].linear && !t->units[n->in[k]].n->relu)
            return k;
    return -1;
}

static void choose_regions(struct trainee *t)
{
    t->region_count = 1;
    for (int i = 0; i < t->g.count; i++) {
        struct unit *u = &t->units[i];
        u->learns = u->linear && i >= t->first_node;
        for (int k = 0; k < inputs_of(u->n); k++) {
            const struct unit *in = &t->units[u->n->in[k]];
            const int ready = in->region + (in->linear != NULL);
            u->region = ready > u->region ? ready : u->region;
            u->learns |= in->learns;
        }
        if (u->region + 2 > t->region_count)
            t->region_count = u->region + 2;
    }
}

static void append(struct list *l, int node)
{
    for (int i = 0; i < l->count; i++)
        if (l->nodes[i] == node)
            return;
    l->nodes[l->count++] = node;
}

/* Lists of one region; there is room for every node. */
static void fill_region(const struct trainee *t, int region, struct region *r, int *earliest)
{
    for (int i = 0; i < t->g.count; i++) {
        const struct unit *u = &t->units[i];
        if (i > 0 && u->region == region) {
            append(&r->nodes, i);
            for (int k = 0; k < inputs_of(u->n); k++) {
                const int in = u->n->in[k];
                if (!t->units[in].linear)
                    continue;
                if (k != fused_input(t, i))
                    append(&r->inputs, in);
                if (u->learns && (u->linear || u->n->op == OP_MAXPOOL))
                    append(&r->again, in);
            }
        }
        if (u->linear && u->learns && earliest[i] == region)
            append(&r->complete, i);
    }
}

static int make_regions(struct trainee *t)
{
    choose_regions(t);
    t->regions = trainee_take(t, (size_t)t->region_count * sizeof *t->regions);
    int *earliest = malloc((size_t)t->g.count * sizeof *earliest), *room = malloc(4 * (size_t)t->g.count * sizeof *room);
    int bad = !t->regions || !earliest || !room;
    for (int i = 0; i < t->g.count && !bad; i++)
        earliest[i] = t->region_count - 1;
    for (int i = 0; i < t->g.count && !bad; i++)
        for (int k = 0; k < inputs_of(t->units[i].n); k++) {
            int *e = &earliest[t->units[i].n->in[k]];
            *e = t->units[i].region < *e ? t->units[i].region : *e;
        }
    for (int i = 0; i < t->region_count && !bad; i++) {
        struct region *r = &t->regions[i];
        struct list *lists[] = {&r->nodes, &r->inputs, &r->again, &r->complete};
        for (int k = 0; k < 4; k++)
            *lists[k] = (struct list){room + k * t->g.count, 0};
        fill_region(t, i, r, earliest);
        for (int k = 0; k < 4 && !bad; k++) {
            const size_t size = (size_t)lists[k]->count * sizeof(int);
            int *kept = trainee_take(t, size);
            bad = !kept;
            if (kept)
                memcpy(kept, lists[k]->nodes, size);
            lists[k]->nodes = kept;
        }
    }
    free(earliest);
    free(room);
    return bad ? -1 : 0;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void size_region(struct trainee *t, struct region *r)
{
    size_t most = 1, work = 0;
    for (int i = 0; i < r->nodes.count; i++) {
        struct unit *u = &t->units[r->nodes.nodes[i]];
        most = larger(most, u->elements);
        for (int k = 0; k < inputs_of(u->n); k++)
            most = larger(most, t->units[u->n->in[k]].elements);
        if (u->linear && u->learns) {
            u->linear->sums_at = r->sums;
            r->sums += u->linear->sums;
        }
    }
    for (int i = 0; i < r->complete.count; i++)
        most = larger(most, t->units[r->complete.nodes[i]].elements);
    r->parts = TRAINEE_PARTS;
    while (r->parts > PARTS_LEAST && (size_t)r->parts * r->sums * sizeof(float) > SUMS_BYTES)
        r->parts /= 2;
    const int images = (t->batch + r->parts - 1) / r->parts, fit = (int)(CHUNK_BYTES / sizeof(float) / most);
    r->chunk = fit < 1 ? 1 : fit < images ? fit : images;
    r->slot = conv_align((size_t)r->chunk * most * sizeof(float)) / sizeof(float);
    for (int i = 0; i < r->nodes.count; i++) {
        const struct linear *l = t->units[r->nodes.nodes[i]].linear;
        if (!l)
            continue;
        work = larger(work, conv_scratch_bytes(l->conv));
        work = larger(work, conv_to_weights_scratch_bytes(&l->to_weights, r->chunk));
        if (l->to_input)
            work = larger(work, conv_to_input_scratch_bytes(l->to_input, r->chunk));
    }
    const int slots = r->inputs.count > r->again.count ? r->inputs.count : r->again.count;
    t->scratch_bytes = larger(t->scratch_bytes, (size_t)(slots + 1) * r->slot * sizeof(float) + work);
}

static float *take_floats(struct trainee *t, size_t count)
{
    return trainee_take(t, count * sizeof(float));
}

static int make_linear(struct trainee *t, struct unit *u)
{
    struct linear *l = u->linear;
    const struct node *n = u->n, *in = &t->g.nodes[n->in[0]];
    const size_t c = (size_t)n->c;
    l->s = (struct conv_shape){in->h,       in->w,       in->c,       n->h,       n->w,        n->c,     n->kernel_h,
                               n->kernel_w, n->stride_h, n->stride_w, n->pad_top, n->pad_left, n->groups};
    const struct kernels *k = t->kernels;
    float **factors[] = {&l->mult, &l->shift, &l->center, &l->of_gradient, &l->of_z, &l->constant};
    for (size_t i = 0; i < sizeof factors / sizeof *factors; i++)
        if (!(*factors[i] = take_floats(t, c)))
            return -1;
    l->inverse = trainee_take(t, c * sizeof(double));
    l->moments = trainee_take(t, 2 * TRAINEE_PARTS * c * sizeof(double));
    l->memory = trainee_take(t, conv_bytes(k, PRECISION_FP32, &l->s));
    if (!l->inverse || !l->moments || !l->memory)
        return -1;
    /* Packed once now, because only then is the scratch known that they take. */
    l->conv = conv_init(l->memory, k, PRECISION_FP32, &l->s, &(struct conv_params){.weight = l->weight->value});
    conv_to_weights_plan(&l->to_weights, t->kernels, &l->s);
    l->sums = conv_to_weights_sums(&l->to_weights);
    if (!t->units[n->in[0]].learns)
        return 0;
    const size_t turned = conv_to_input_turned(&l->s) * sizeof(float);
    t->scratch_bytes = larger(t->scratch_bytes, turned);
    float *room = aligned_alloc(CONV_ALIGN, conv_align(turned));
    l->input_memory = trainee_take(t, conv_to_input_bytes(t->kernels, &l->s));
    if (room && l->input_memory)
        l->to_input = conv_to_input_init(l->input_memory, t->kernels, &l->s, l->weight->value, room);
    free(room);
    return l->to_input ? 0 : -1;
}

int trainee_plan(struct trainee *t, struct err *e)
{
    int bad = make_regions(t);
    if (!bad)
        gradients_follow(t);
    for (int i = 0; i < t->g.count && !bad; i++)
        if (t->units[i].linear)
            bad = make_linear(t, &t->units[i]);
    size_t sums = 0;
    for (int i = 0; i < t->region_count && !bad; i++) {
        struct region *r = &t->regions[i];
        size_region(t, r);
        sums = larger(sums, (size_t)r->parts * r->sums);
    }
    for (int i = 0; i < t->g.count && !bad; i++) {
        struct unit *u = &t->units[i];
        const size_t all = (size_t)t->batch * u->elements;
        if (i > 0)
            bad = !(u->out = take_floats(t, all));
    }
    bad = bad || gradients_take(t);
    if (!bad)
        bad = !(t->weight_sums = take_floats(t, sums)) ||
              !(t->logits = take_floats(t, (size_t)t->batch * t->units[t->g.output].elements)) ||
              !(t->scratch = trainee_take(t, (size_t)t->threads * t->scratch_bytes));
    return bad ? err_set(e, ERR_MEMORY, "no memory for training with batches of %d images: choose a smaller batch", t->batch) : 0;
}

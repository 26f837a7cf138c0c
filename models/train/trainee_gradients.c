// SPDX-License-Identifier: MIT
//
// Where gradients of node outputs lie. They are complete when all readers have added theirs, in the order of the walk backwards.
// What an add hands on is the same for both inputs, and is not copied: it lies in the add's buffer until someone adds to it.

#include <stdlib.h>
#include <string.h>

#include "models/train/trainee_parts.h"

void gradients_follow(struct trainee *t)
{
    for (int i = 0; i < t->g.count; i++) {
        struct unit *u = &t->units[i];
        u->holder = u->edges[0].from = u->edges[1].from = -1;
    }
    t->units[t->g.output].holder = t->g.output;
    for (int region = t->region_count - 1; region >= 0; region--) {
        const struct list *nodes = &t->regions[region].nodes;
        for (int j = nodes->count - 1; j >= 0; j--) {
            struct unit *u = &t->units[nodes->nodes[j]];
            /* What an add hands on: its own gradient, which a ReLU puts into its own buffer. */
            const int shared = u->n->op == OP_ADD;
            const int source = u->n->relu ? nodes->nodes[j] : u->holder;
            for (int k = 0; k < inputs_of(u->n); k++) {
                const int in = u->n->in[k];
                if (!t->units[in].learns)
                    continue;
                u->edges[k].from = t->units[in].holder;
                u->edges[k].to = shared && u->edges[k].from < 0 ? source : in;
                t->units[in].holder = u->edges[k].to;
            }
        }
    }
}

/* The regions, on the way backwards, from that in which a buffer is first written to that in which it is last read. */
struct life {
    int from, to; /* from >= to; -1: there is no such buffer */
};

static void lives(struct life *l, int region)
{
    l->from = region > l->from ? region : l->from;
    l->to = l->to < 0 || region < l->to ? region : l->to;
}

static void find_lives(const struct trainee *t, struct life *lives_of)
{
    memset(lives_of, -1, (size_t)t->g.count * sizeof *lives_of);
    lives(&lives_of[t->g.output], t->region_count - 1);
    for (int i = 0; i < t->g.count; i++) {
        const struct unit *u = &t->units[i];
        if (!u->learns)
            continue;
        lives(&lives_of[u->holder], u->region);
        if (u->n->op == OP_ADD && u->n->relu)
            lives(&lives_of[i], u->region);
        for (int k = 0; k < inputs_of(u->n); k++) {
            if (!t->units[u->n->in[k]].learns)
                continue;
            lives(&lives_of[u->edges[k].to], u->region);
            if (u->edges[k].from >= 0)
                lives(&lives_of[u->edges[k].from], u->region);
        }
    }
}

/* Buffers whose lives do not meet share memory. Parts are in one region at a time, but anywhere in it: lives meet in a region. */
int gradients_take(struct trainee *t)
{
    struct slot {
        size_t size;
        int free_below; /* regions: where its last user is read for the last time */
    } *slots = malloc((size_t)t->g.count * sizeof *slots);
    struct life *lives_of = malloc((size_t)t->g.count * sizeof *lives_of);
    int *slot_of = malloc((size_t)t->g.count * sizeof *slot_of), count = 0;
    int bad = !slots || !lives_of || !slot_of;
    if (!bad)
        find_lives(t, lives_of);
    for (int region = t->region_count - 1; region >= 0 && !bad; region--)
        for (int i = 0; i < t->g.count; i++) {
            if (lives_of[i].from != region)
                continue;
            const size_t size = t->units[i].elements;
            int best = -1; /* the smallest that is large enough, else the largest */
            for (int s = 0; s < count; s++)
                if (slots[s].free_below > region &&
                    (best < 0 || (slots[s].size < size ? slots[s].size > slots[best].size
                                                       : slots[best].size < size || slots[s].size < slots[best].size)))
                    best = s;
            if (best < 0)
                slots[best = count++].size = 0;
            slots[best].size = slots[best].size > size ? slots[best].size : size;
            slots[best].free_below = lives_of[i].to;
            slot_of[i] = best;
        }
    for (int s = 0; s < count && !bad; s++) {
        float *memory = trainee_take(t, (size_t)t->batch * slots[s].size * sizeof *memory);
        bad = !memory;
        for (int i = 0; i < t->g.count; i++)
            if (lives_of[i].from >= 0 && slot_of[i] == s)
                t->units[i].gradient = memory;
    }
    free(slots);
    free(lives_of);
    free(slot_of);
    return bad ? -1 : 0;
}

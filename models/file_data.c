// SPDX-License-Identifier: MIT
//
// file_data.c - the data section of a model file, a window at a time: read into one buffer, then hashed by one thread while the
// others check and hand on its layers. A window is some neighbouring layers, or one large one, so that the memory taken is that
// of the largest layer, and what is hashed and packed still lies in the caches.

#include <nettle/sha2.h>
#include <pthreadpool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/file_layout.h"

#define WINDOW_BYTES  (1 << 20) /* more only for a layer that is larger */
#define WINDOW_LAYERS 32

struct job { /* of a window's work */
    int node;
    uint64_t weight, scale, bias; /* where a layer's tensors begin in the data section; 0: none, the metadata lies there */
    int failed;
    struct err err;
};

struct window {
    const struct st_file *file;
    const struct layer_sink *to;
    const struct network *n;
    struct sha256_ctx sha;
    struct layout at; /* behind the window */
    uint64_t begin, end;
    int layers, shares;
    struct job jobs[WINDOW_LAYERS];
    char *bytes;
};

/* The next layer into *p, and the layout to its end: 1, or 0 when no layer is left. */
static int next_layer(struct layout *l, struct job *p)
{
    struct slot slot;
    *p = (struct job){0};
    while (layout_next(l, &slot)) {
        const uint64_t begin = l->offset - slot.bytes;
        p->node = slot.node;
        if (slot.part == PART_WEIGHT)
            p->weight = begin;
        if (slot.part == PART_SCALE)
            p->scale = begin;
        if (slot.part == PART_BIAS) {
            p->bias = begin;
            return 1;
        }
    }
    return 0;
}

/* Moves on by as many layers as fit, at least one: 1, or 0 at the end of the data. */
static int next_window(struct window *w)
{
    w->begin = w->at.offset;
    for (w->layers = 0; w->layers < WINDOW_LAYERS; w->layers++) {
        struct layout next = w->at;
        const int more = next_layer(&next, &w->jobs[w->layers]);
        if (w->layers > 0 && next.offset - w->begin > WINDOW_BYTES)
            break;
        w->at = next;
        if (!more)
            break;
    }
    w->end = w->at.offset;
    return w->end > w->begin;
}

/* Task `i` reads its share. */
static void read_share(void *user, size_t i)
{
    struct window *w = user;
    const uint64_t bytes = w->end - w->begin, share = bytes / (uint64_t)w->shares + 1;
    const uint64_t from = share * i < bytes ? share * i : bytes, to = from + share < bytes ? from + share : bytes;
    struct job *p = &w->jobs[i];
    p->failed = from < to && st_read_span(w->file, w->begin + from, w->begin + to, w->bytes + from, &p->err) < 0;
}

static void take_layer(struct window *w, struct job *p)
{
    struct layer l = {.weight = w->bytes + (p->weight - w->begin)};
    void *bias = w->bytes + (p->bias - w->begin);
    if (p->scale)
        l.scale = (float *)(void *)(w->bytes + (p->scale - w->begin));
    if (w->n->precision == PRECISION_INT8)
        l.bias_s32 = bias;
    else
        l.bias = bias;
    p->failed = layer_check(w->n, p->node, &l, &p->err) < 0 ||
                (w->to->layer && w->to->layer(w->to->user, w->n, p->node, &l, &p->err) < 0);
}

/* Task 0 is the digest, the longest; task i the layer i - 1. */
static void do_job(void *user, size_t i)
{
    struct window *w = user;
    if (i == 0)
        sha256_update(&w->sha, (size_t)(w->end - w->begin), (const uint8_t *)w->bytes);
    else
        take_layer(w, &w->jobs[i - 1]);
}

/* The jobs' failures in the order of the file: -1 with e set. Without threads nothing behind the first is tried. */
static int run(struct window *w, struct pthreadpool *pool, pthreadpool_task_1d_t task, int tasks, int first_job, struct err *e)
{
    if (pool)
        pthreadpool_parallelize_1d(pool, task, w, (size_t)tasks, 0);
    for (int i = 0; i < tasks; i++) {
        if (!pool)
            task(w, (size_t)i);
        if (i < first_job || !w->jobs[i - first_job].failed)
            continue;
        if (e)
            *e = w->jobs[i - first_job].err;
        return -1;
    }
    return 0;
}

static int stream(struct window *w, struct pthreadpool *pool, const char *path, struct err *e)
{
    const struct layout start = w->at;
    uint64_t largest = 0;
    while (next_window(w))
        largest = w->end - w->begin > largest ? w->end - w->begin : largest;
    w->at = start;
    w->bytes = largest <= SIZE_MAX / 2 ? malloc((size_t)largest) : NULL;
    if (!w->bytes)
        return err_set(e, ERR_MEMORY, "%s: no memory for %llu bytes of weights", path, (unsigned long long)largest);
    while (next_window(w)) {
        if (run(w, pool, read_share, w->shares, 0, e) < 0)
            return -1;
        st_will_read(w->file, w->end, w->end + largest);
        if (run(w, pool, do_job, 1 + w->layers, 1, e) < 0)
            return err_prefix(e, "%s", path);
    }
    return 0;
}

static int check_metadata(const struct st_file *f, const char *path, const uint8_t metadata[FILE_DIGEST_BYTES], struct err *e)
{
    const struct st_tensor *t = st_get(f, 0);
    uint8_t stored[FILE_DIGEST_BYTES];
    if (st_read(f, t, stored, e) < 0)
        return -1;
    if (memcmp(stored, metadata, sizeof stored) != 0)
        return err_set(e, ERR_DAMAGED, "%s: the metadata does not match its SHA-256 in '%s'", path, t->name);
    return 0;
}

int file_data_stream(const struct st_file *f, const char *path, struct pthreadpool *pool, const struct layer_sink *to,
                     const struct network *n, const uint8_t metadata[FILE_DIGEST_BYTES], struct err *e)
{
    if (check_metadata(f, path, metadata, e) < 0)
        return -1;
    struct window *w = calloc(1, sizeof *w);
    if (!w)
        return err_set(e, ERR_MEMORY, "%s: no memory", path);
    const int threads = pool ? (int)pthreadpool_get_threads_count(pool) : 1;
    w->file = f;
    w->to = to;
    w->n = n;
    w->at = (struct layout){.graph = &n->graph, .precision = n->precision};
    w->shares = threads < WINDOW_LAYERS ? threads : WINDOW_LAYERS;
    sha256_init(&w->sha);
    int failed = 0;
    if (to->begin && to->begin(to->user, n, e) < 0)
        failed = err_prefix(e, "%s", path);
    if (!failed)
        failed = stream(w, threads > 1 ? pool : NULL, path, e);
    if (!failed) {
        uint8_t digest[FILE_DIGEST_BYTES];
        char hex[2 * FILE_DIGEST_BYTES + 1];
        sha256_digest(&w->sha, sizeof digest, digest);
        for (int i = 0; i < FILE_DIGEST_BYTES; i++)
            snprintf(hex + 2 * i, 3, "%02x", digest[i]);
        if (strcmp(hex, n->digest) != 0)
            failed = err_set(e, ERR_DAMAGED, "%s: the data does not match sha256: the file is damaged or was altered", path);
    }
    free(w->bytes);
    free(w);
    return failed ? -1 : 0;
}

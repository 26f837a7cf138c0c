// SPDX-License-Identifier: MIT
//
// file_data.c - the data section of a model file, a window at a time: some neighbouring layers, or one large one. Two windows go
// round. Whichever thread has nothing to do looks for the most urgent piece of work: the digest, which only one can continue,
// then a layer to check and hand on, then the next window to read. So the memory taken is that of two windows; what is hashed and
// packed still lies in the caches; and the disk, the digest and the packing do not wait for each other. One thread alone does the
// same in turns, with one window.

#include <nettle/sha2.h>
#include <pthread.h>
#include <pthreadpool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/file_layout.h"

#define WINDOW_BYTES  (1 << 20) /* more only for a layer that is larger */
#define WINDOW_LAYERS 32

struct place { /* of a layer: where its tensors begin in the data section */
    int node;
    uint64_t weight, scale, bias; /* 0: none, the metadata lies there */
};

struct window {
    uint64_t begin, end;
    int layers, taken; /* in it, and handed out */
    int open;          /* pieces of work that are not finished: its layers and the digest; 0: free to be read into */
    struct place places[WINDOW_LAYERS];
    char *bytes;
};

struct stream {
    const struct st_file *file;
    const struct layer_sink *to;
    const struct network *n;
    uint64_t total;       /* bytes of the data section */
    pthread_mutex_t lock; /* guards all below; not held while working */
    pthread_cond_t changed;
    struct layout at; /* behind the last window read */
    struct sha256_ctx sha;
    struct window windows[2];
    int slots;             /* of windows in use; window i of the file is in slot i % slots */
    unsigned read, hashed; /* windows */
    int reading, hashing;  /* a thread is at it */
    int ended;             /* all windows have been read */
    int failed;
    unsigned failed_window; /* the first failure in the order of the file: in this window ... */
    int failed_piece;       /* ... when reading (-1) or at this layer */
    struct err err;
};

/* The next layer into *p, and the layout to its end: 1, or 0 when no layer is left. */
static int next_layer(struct layout *l, struct place *p)
{
    struct slot slot;
    *p = (struct place){0};
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

/* As many layers as fit, at least one: 1, or 0 at the end of the data. */
static int next_window(struct layout *at, struct window *w)
{
    w->begin = at->offset;
    for (w->layers = 0; w->layers < WINDOW_LAYERS; w->layers++) {
        struct layout next = *at;
        const int more = next_layer(&next, &w->places[w->layers]);
        if (w->layers > 0 && next.offset - w->begin > WINDOW_BYTES)
            break;
        *at = next;
        if (!more)
            break;
    }
    w->end = at->offset;
    return w->end > w->begin;
}

/* Layers are taken in the order of the file, so that nothing before the first failure is left undone. */
static void note_failure(struct stream *s, unsigned window, int piece, const struct err *e)
{
    if (s->failed && (s->failed_window < window || (s->failed_window == window && s->failed_piece < piece)))
        return;
    s->failed = 1;
    s->failed_window = window;
    s->failed_piece = piece;
    s->err = *e;
}

/* The functions below do one piece of work: 1, or 0 when there is none. The lock is held on entry and on return. */

static int hash_one(struct stream *s)
{
    if (s->hashing || s->hashed == s->read)
        return 0;
    struct window *w = &s->windows[s->hashed % (unsigned)s->slots];
    s->hashing = 1;
    pthread_mutex_unlock(&s->lock);
    sha256_update(&s->sha, (size_t)(w->end - w->begin), (const uint8_t *)w->bytes);
    pthread_mutex_lock(&s->lock);
    s->hashing = 0;
    s->hashed++;
    w->open--;
    return 1;
}

static int take_layer(const struct stream *s, const struct window *w, const struct place *p, struct err *e)
{
    struct layer l = {.weight = w->bytes + (p->weight - w->begin)};
    void *bias = w->bytes + (p->bias - w->begin);
    if (p->scale)
        l.scale = (float *)(void *)(w->bytes + (p->scale - w->begin));
    if (node_precision(&s->n->graph.nodes[p->node], s->n->precision) == PRECISION_INT8)
        l.bias_s32 = bias;
    else
        l.bias = bias;
    if (layer_check(s->n, p->node, &l, e) < 0)
        return -1;
    return s->to->layer ? s->to->layer(s->to->user, s->n, p->node, &l, e) : 0;
}

static int take_one(struct stream *s)
{
    for (unsigned i = s->read < (unsigned)s->slots ? 0 : s->read - (unsigned)s->slots; i < s->read; i++) {
        struct window *w = &s->windows[i % (unsigned)s->slots];
        if (w->taken == w->layers)
            continue;
        const int piece = w->taken++;
        struct err e;
        pthread_mutex_unlock(&s->lock);
        const int rc = take_layer(s, w, &w->places[piece], &e);
        pthread_mutex_lock(&s->lock);
        if (rc < 0)
            note_failure(s, i, piece, &e);
        w->open--;
        return 1;
    }
    return 0;
}

static int read_one(struct stream *s)
{
    struct window *w = &s->windows[s->read % (unsigned)s->slots];
    if (s->reading || s->ended || w->open)
        return 0;
    next_window(&s->at, w);
    w->taken = w->layers; /* none to be had yet */
    s->reading = 1;
    struct err e;
    pthread_mutex_unlock(&s->lock);
    const int rc = st_read_span(s->file, w->begin, w->end, w->bytes, &e);
    st_will_read(s->file, w->end, w->end + WINDOW_BYTES);
    pthread_mutex_lock(&s->lock);
    s->reading = 0;
    if (rc < 0)
        note_failure(s, s->read, -1, &e);
    w->taken = 0;
    w->open = w->layers + 1;
    s->read++;
    s->ended = w->end == s->total;
    return 1;
}

/* One thread's share; a task of the pool. After the end only the digest can still bring work, to the thread that is at it. */
static void work(void *user, size_t task)
{
    struct stream *s = user;
    (void)task;
    pthread_mutex_lock(&s->lock);
    while (!s->failed) {
        if (hash_one(s) || take_one(s) || read_one(s))
            pthread_cond_broadcast(&s->changed);
        else if (s->ended)
            break;
        else
            pthread_cond_wait(&s->changed, &s->lock);
    }
    pthread_mutex_unlock(&s->lock);
}

static int take_memory(struct stream *s, struct err *e)
{
    uint64_t largest = 0;
    struct layout at = s->at;
    struct window *w = &s->windows[0];
    while (next_window(&at, w))
        largest = w->end - w->begin > largest ? w->end - w->begin : largest;
    for (int i = 0; i < s->slots; i++) {
        s->windows[i].bytes = largest <= SIZE_MAX / 2 ? malloc((size_t)largest) : NULL;
        if (!s->windows[i].bytes)
            return err_set(e, ERR_MEMORY, "no memory for %llu bytes of weights", (unsigned long long)largest);
    }
    return 0;
}

static int check_digest(struct stream *s, struct err *e)
{
    uint8_t digest[FILE_DIGEST_BYTES];
    char hex[2 * FILE_DIGEST_BYTES + 1];
    sha256_digest(&s->sha, sizeof digest, digest);
    for (int i = 0; i < FILE_DIGEST_BYTES; i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    return strcmp(hex, s->n->digest) == 0
               ? 0
               : err_set(e, ERR_DAMAGED, "the data does not match sha256: the file is damaged or was altered");
}

static int check_metadata(const struct st_file *f, const uint8_t metadata[FILE_DIGEST_BYTES], struct err *e)
{
    const struct st_tensor *t = st_get(f, 0);
    uint8_t stored[FILE_DIGEST_BYTES];
    if (st_read_span(f, t->begin, t->end, stored, e) < 0)
        return -1;
    return memcmp(stored, metadata, sizeof stored) == 0
               ? 0
               : err_set(e, ERR_DAMAGED, "the metadata does not match its SHA-256 in '%s'", t->name);
}

static int run(struct stream *s, struct pthreadpool *pool, const uint8_t metadata[FILE_DIGEST_BYTES], struct err *e)
{
    if (check_metadata(s->file, metadata, e) < 0 || (s->to->begin && s->to->begin(s->to->user, s->n, e) < 0) ||
        take_memory(s, e) < 0)
        return -1;
    if (s->slots > 1)
        pthreadpool_parallelize_1d(pool, work, s, pthreadpool_get_threads_count(pool), 0);
    else
        work(s, 0);
    if (s->failed) {
        if (e)
            *e = s->err;
        return -1;
    }
    return check_digest(s, e);
}

int file_data_stream(const struct st_file *f, struct pthreadpool *pool, const struct layer_sink *to, const struct network *n,
                     const uint8_t metadata[FILE_DIGEST_BYTES], struct err *e)
{
    struct stream *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(e, ERR_MEMORY, "no memory");
    s->file = f;
    s->to = to;
    s->n = n;
    s->slots = pool && pthreadpool_get_threads_count(pool) > 1 ? 2 : 1;
    s->at = layout_begin(n);
    s->total = st_get(f, st_count(f) - 1)->end;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    sha256_init(&s->sha);
    const int rc = run(s, pool, metadata, e);
    for (int i = 0; i < s->slots; i++)
        free(s->windows[i].bytes);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->changed);
    free(s);
    return rc;
}

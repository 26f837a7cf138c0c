// SPDX-License-Identifier: MIT
#include "daemon/worker.h"

#include <errno.h>
#include <pthread.h>
#include <pthreadpool.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clock.h"
#include "daemon/job.h"
#include "daemon/request.h"
#include "daemon/threads.h"

#define MODELS_HELD 8 /* by one worker */

/* What computes one image at a time. */
struct lane {
    struct session *session;
    uint8_t *rgb;
};

/* Under load each thread computes an image of its own, decoding included: no thread waits for another after every layer. A single
   request is done sooner when all threads share its layers. */
struct held {
    struct loaded *loaded; /* a reference; NULL: free */
    struct lane whole;     /* all threads */
    struct lane *side;     /* room for one per thread: one thread each */
    int sides;             /* how many are made: as many as were needed and fit into the budget */
    size_t reserved;
    unsigned long used; /* a count: the smallest was used longest ago */
};

struct worker {
    struct workers *all;
    pthread_t thread;
    struct pthreadpool *pool; /* NULL with one thread */
    struct held held[MODELS_HELD];
    unsigned long uses;
    atomic_int busy;
    _Atomic int64_t *since_ms; /* per thread: when it began what it is at, 0: nothing */
};

struct workers {
    struct server *server;
    int count, threads;
    _Atomic int64_t mean_us; /* of a request, recent ones weigh most */
    struct worker w[];
};

/* ---- sessions ---- */

static int lane_make(struct worker *w, struct held *h, struct loaded *l, struct pthreadpool *pool, struct lane *out,
                     struct err *e)
{
    int width, height;
    model_input_size(l->model, &width, &height);
    size_t rgb_bytes = (size_t)width * (size_t)height * 3;
    size_t need = model_arena_bytes(l->model, 1, pool ? w->all->threads : 1) + rgb_bytes;
    struct lane lane;
    if (budget_reserve(&w->all->server->budget, need, "a session", e) < 0)
        return -1;
    lane.rgb = malloc(rgb_bytes);
    if (!lane.rgb || session_new(l->model, 1, pool, &lane.session, e) < 0) {
        if (!lane.rgb)
            err_set(e, ERR_MEMORY, "no memory for a session");
        free(lane.rgb);
        budget_release(&w->all->server->budget, need);
        return -1;
    }
    h->reserved += need;
    *out = lane;
    return 0;
}

static void lane_free(struct lane *lane)
{
    session_free(lane->session);
    free(lane->rgb);
}

static void held_clear(struct worker *w, struct held *h)
{
    if (!h->loaded)
        return;
    lane_free(&h->whole);
    for (int i = 0; i < h->sides; i++)
        lane_free(&h->side[i]);
    free(h->side);
    budget_release(&w->all->server->budget, h->reserved);
    loaded_free(h->loaded);
    *h = (struct held){0};
}

static void drop_retired(struct worker *w)
{
    for (int i = 0; i < MODELS_HELD; i++)
        if (w->held[i].loaded && atomic_load(&w->held[i].loaded->retired))
            held_clear(w, &w->held[i]);
}

/* What this worker has for l, made now if there is nothing. NULL: ERR_BUSY, ERR_MEMORY. */
static struct held *hold(struct worker *w, struct loaded *l, struct err *e)
{
    struct held *h = &w->held[0];
    for (int i = 0; i < MODELS_HELD; i++) {
        if (w->held[i].loaded == l) {
            w->held[i].used = ++w->uses;
            return &w->held[i];
        }
        if (w->held[i].used < h->used)
            h = &w->held[i];
    }
    held_clear(w, h);
    struct lane *side = calloc((size_t)w->all->threads, sizeof *side);
    if (!side) {
        err_set(e, ERR_MEMORY, "no memory for a session");
        return NULL;
    }
    if (lane_make(w, h, l, l->tasks > 1 ? w->pool : NULL, &h->whole, e) < 0) {
        free(side);
        return NULL;
    }
    atomic_fetch_add(&l->refs, 1);
    h->loaded = l;
    h->side = side;
    h->used = ++w->uses;
    return h;
}

/* ---- requests side by side ---- */

struct run {
    struct worker *w;
    struct held *held;
    pthread_mutex_t lock;
    struct request *open; /* those with inputs that no thread has taken */
    int taken, most;      /* images */
    atomic_int requests, computed;
};

/* The next input for a thread: of a request that is open, else of the first one that waits for the same model. NULL: none. */
static struct request *next(struct run *run, int *index)
{
    for (;;) {
        struct request *r, *popped = NULL;
        pthread_mutex_lock(&run->lock);
        if ((r = run->open)) {
            *index = r->job.begun++;
            if (r->job.begun == r->job.count)
                run->open = r->job.next;
        } else if (run->taken < run->most) {
            popped = queue_pop_key(run->w->all->server->queue, run->held->loaded);
            run->taken += popped != NULL;
        }
        pthread_mutex_unlock(&run->lock);
        if (!popped)
            return r;
        atomic_fetch_add(&run->requests, 1);
        if (!job_open(popped))
            continue;
        pthread_mutex_lock(&run->lock);
        run->taken += popped->job.count - 1;
        popped->job.next = run->open;
        run->open = popped;
        pthread_mutex_unlock(&run->lock);
    }
}

static void side(void *user, size_t thread)
{
    struct run *run = user;
    const struct lane *lane = &run->held->side[thread];
    _Atomic int64_t *since = &run->w->since_ms[thread];
    struct request *r;
    int index;
    while (atomic_store(since, clock_ms()), (r = next(run, &index)))
        atomic_fetch_add(&run->computed, job_compute(r, index, lane->session, lane->rgb));
    atomic_store(since, 0);
}

/* How many threads should go side by side for an open request and those that wait with it: 1 when all of them had better share
   one image after the other, because there are not enough images for all, or when the budget has no room. */
static int side_by_side(struct worker *w, struct held *h, const struct request *r)
{
    struct err e;
    int images = r->job.count + queue_count_key(w->all->server->queue, h->loaded), threads = w->all->threads;
    if (!w->pool || r->conf->max_batch == 1 || images == 1 || images < h->loaded->tasks)
        return 1;
    int want = images < threads ? images : threads;
    while (h->sides < want && lane_make(w, h, h->loaded, NULL, &h->side[h->sides], &e) == 0)
        h->sides++;
    return h->sides < want ? h->sides : want;
}

/* Computes an open request, and under load those that wait for the same model. Returns how many requests. */
static int compute(struct worker *w, struct held *h, struct request *r)
{
    struct run run = {.w = w, .held = h, .open = r, .taken = r->job.count, .most = (int)r->conf->max_batch};
    int threads = side_by_side(w, h, r), count = r->job.count;
    atomic_init(&run.requests, 1);
    if (threads > 1) {
        pthread_mutex_init(&run.lock, NULL);
        pthreadpool_parallelize_1d(w->pool, side, &run, (size_t)threads, PTHREADPOOL_FLAG_YIELD_WORKERS);
        pthread_mutex_destroy(&run.lock);
    } else {
        for (int i = 0; i < count; i++) {
            atomic_store(&w->since_ms[0], clock_ms());
            run.computed += job_compute(r, i, h->whole.session, h->whole.rgb);
        }
    }
    if (run.computed)
        metrics_batch(w->all->server->metrics, run.computed);
    return run.requests;
}

static void serve(struct worker *w, struct request *r)
{
    struct loaded *l = r->job.loaded;
    struct err e;
    int64_t begin = clock_us(), mean = atomic_load(&w->all->mean_us);
    int requests = 1;
    atomic_store(&w->since_ms[0], begin / 1000);
    if (job_open(r)) {
        struct held *h = hold(w, l, &e);
        if (h)
            requests = compute(w, h, r);
        else
            job_refuse(r, &e);
    }
    atomic_store(&w->since_ms[0], 0);
    int64_t each = (clock_us() - begin) / requests;
    atomic_store(&w->all->mean_us, mean ? mean + (each - mean) / 8 : each);
}

static void *run(void *user)
{
    struct worker *w = user;
    unsigned seen = 0;
    int closed = 0;
    while (!closed) {
        struct request *r = queue_pop(w->all->server->queue, &seen, &closed);
        drop_retired(w);
        if (!r)
            continue;
        atomic_store(&w->busy, 1);
        serve(w, r);
        drop_retired(w); /* a request that waited through a switch brought a replaced model back */
        atomic_store(&w->busy, 0);
    }
    for (int i = 0; i < MODELS_HELD; i++)
        held_clear(w, &w->held[i]);
    return NULL;
}

/* ---- start and stop ---- */

int workers_start(struct server *s, struct workers **out, struct err *e)
{
    int count = (int)s->conf->workers, tasks = (int)s->conf->threads;
    struct workers *all = calloc(1, sizeof *all + (size_t)count * sizeof all->w[0]);
    if (!all)
        return err_set(e, ERR_MEMORY, "no memory for the workers");
    all->server = s;
    all->threads = tasks;
    for (int i = 0; i < count; i++) {
        struct worker *w = &all->w[i];
        w->all = all;
        w->since_ms = calloc((size_t)tasks, sizeof *w->since_ms);
        int rc = !w->since_ms ? ENOMEM : tasks > 1 ? threads_pool(tasks, 1, &w->pool) : 0; /* and one for the worker */
        if (rc == 0)
            rc = pthread_create(&w->thread, NULL, run, w);
        if (rc != 0) {
            if (w->pool)
                pthreadpool_destroy(w->pool);
            free((void *)w->since_ms);
            queue_close(s->queue);
            workers_stop(all);
            workers_free(all);
            return err_set(e, ERR_MEMORY, "cannot start worker %d of %d with %d threads: %s", i + 1, count, tasks, strerror(rc));
        }
        all->count++;
    }
    *out = all;
    return 0;
}

void workers_stop(struct workers *all)
{
    for (int i = 0; all && i < all->count; i++) {
        pthread_join(all->w[i].thread, NULL);
        if (all->w[i].pool)
            pthreadpool_destroy(all->w[i].pool);
    }
}

void workers_free(struct workers *all)
{
    for (int i = 0; all && i < all->count; i++)
        free((void *)all->w[i].since_ms);
    free(all);
}

int workers_busy(struct workers *all)
{
    int n = 0;
    for (int i = 0; i < all->count; i++)
        n += atomic_load(&all->w[i].busy);
    return n;
}

int64_t workers_stalled_ms(struct workers *all)
{
    int64_t now = clock_ms(), worst = 0;
    for (int i = 0; i < all->count; i++)
        for (int t = 0; t < all->threads; t++) {
            int64_t since = atomic_load(&all->w[i].since_ms[t]);
            if (since && now - since > worst)
                worst = now - since;
        }
    return worst;
}

int workers_retry_after(struct workers *all)
{
    int64_t wait_us = atomic_load(&all->mean_us) * queue_depth(all->server->queue) / all->count;
    return wait_us < 1000000 ? 1 : wait_us > 60000000 ? 60 : (int)((wait_us + 999999) / 1000000);
}

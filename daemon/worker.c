// SPDX-License-Identifier: MIT
#include "daemon/worker.h"

#include <errno.h>
#include <pthread.h>
#include <pthreadpool.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clock.h"
#include "daemon/http.h"
#include "daemon/predict.h"

#define SESSIONS_MAX 8 /* of one worker */

struct worker_slot {
    struct loaded *loaded; /* a reference; NULL: free */
    struct session *session;
    uint8_t *rgb;
    size_t reserved;
    unsigned long used; /* a count: the smallest was used longest ago */
};

struct worker {
    struct workers *all;
    pthread_t thread;
    struct pthreadpool *pool; /* NULL with one thread */
    struct worker_slot slots[SESSIONS_MAX];
    unsigned long uses;
    _Atomic int64_t busy_since_ms; /* 0: waiting */
};

struct workers {
    struct server *server;
    int count;
    _Atomic int64_t mean_us; /* of a request, recent ones weigh most */
    struct worker w[];
};

static void slot_clear(struct worker *w, struct worker_slot *s)
{
    if (!s->loaded)
        return;
    session_free(s->session);
    free(s->rgb);
    budget_release(&w->all->server->budget, s->reserved);
    loaded_free(s->loaded);
    *s = (struct worker_slot){0};
}

static void drop_retired(struct worker *w)
{
    for (int i = 0; i < SESSIONS_MAX; i++)
        if (w->slots[i].loaded && atomic_load(&w->slots[i].loaded->retired))
            slot_clear(w, &w->slots[i]);
}

struct session *worker_session(struct worker *w, struct loaded *l, uint8_t **rgb, struct err *e)
{
    struct worker_slot *s = &w->slots[0];
    for (int i = 0; i < SESSIONS_MAX; i++) {
        if (w->slots[i].loaded == l) {
            w->slots[i].used = ++w->uses;
            *rgb = w->slots[i].rgb;
            return w->slots[i].session;
        }
        if (w->slots[i].used < s->used)
            s = &w->slots[i];
    }
    slot_clear(w, s);
    int width, height;
    model_input_size(l->model, &width, &height);
    size_t rgb_bytes = (size_t)width * (size_t)height * 3, need = l->arena_bytes + rgb_bytes;
    if (budget_reserve(&w->all->server->budget, need, "a session", e) < 0)
        return NULL;
    uint8_t *pixels = malloc(rgb_bytes);
    if (!pixels || session_new(l->model, 1, l->tasks > 1 ? w->pool : NULL, &s->session, e) < 0) {
        if (!pixels)
            err_set(e, ERR_MEMORY, "no memory for a session");
        free(pixels);
        budget_release(&w->all->server->budget, need);
        return NULL;
    }
    atomic_fetch_add(&l->refs, 1);
    s->loaded = l;
    s->rgb = *rgb = pixels;
    s->reserved = need;
    s->used = ++w->uses;
    return s->session;
}

static void *run(void *user)
{
    struct worker *w = user;
    struct server *server = w->all->server;
    unsigned seen = 0;
    int closed = 0;
    while (!closed) {
        struct request *r = queue_pop(server->queue, &seen, &closed);
        drop_retired(w);
        if (!r)
            continue;
        int64_t begin = clock_us();
        atomic_store(&w->busy_since_ms, begin / 1000);
        predict_run(r, w);
        drop_retired(w); /* a request that waited through a switch brought a replaced model back */
        http_resume(r);
        atomic_store(&w->busy_since_ms, 0);
        int64_t mean = atomic_load(&w->all->mean_us);
        atomic_store(&w->all->mean_us, mean + (clock_us() - begin - mean) / 8);
    }
    for (int i = 0; i < SESSIONS_MAX; i++)
        slot_clear(w, &w->slots[i]);
    return NULL;
}

static void *visit(void *gate)
{
    pthread_mutex_lock(gate);
    pthread_mutex_unlock(gate);
    return NULL;
}

/* pthreadpool_create waits for ever for a thread that the system refused to start, so the system is asked first: 0 when it gives
   n threads at a time, else why not. */
static int threads_available(int n)
{
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    pthread_t *threads = malloc((size_t)n * sizeof *threads);
    int started = 0, rc = 0;
    if (!threads)
        return ENOMEM;
    pthread_mutex_lock(&gate);
    while (started < n && (rc = pthread_create(&threads[started], NULL, visit, &gate)) == 0)
        started++;
    pthread_mutex_unlock(&gate);
    for (int i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    free(threads);
    return rc;
}

int workers_start(struct server *s, struct workers **out, struct err *e)
{
    int count = (int)s->conf->workers, tasks = (int)s->conf->threads;
    struct workers *all = calloc(1, sizeof *all + (size_t)count * sizeof all->w[0]);
    if (!all)
        return err_set(e, ERR_MEMORY, "no memory for the workers");
    all->server = s;
    for (int i = 0; i < count; i++) {
        struct worker *w = &all->w[i];
        w->all = all;
        int rc = tasks > 1 ? threads_available(tasks + 1) : 0; /* and one for the worker */
        if (tasks > 1 && rc == 0 && !(w->pool = pthreadpool_create((size_t)tasks)))
            rc = ENOMEM;
        if (rc == 0)
            rc = pthread_create(&w->thread, NULL, run, w);
        if (rc != 0) {
            if (w->pool)
                pthreadpool_destroy(w->pool);
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
    free(all);
}

int workers_busy(struct workers *all)
{
    int n = 0;
    for (int i = 0; i < all->count; i++)
        n += atomic_load(&all->w[i].busy_since_ms) != 0;
    return n;
}

int64_t workers_stalled_ms(struct workers *all)
{
    int64_t now = clock_ms(), worst = 0;
    for (int i = 0; i < all->count; i++) {
        int64_t since = atomic_load(&all->w[i].busy_since_ms);
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

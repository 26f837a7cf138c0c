// SPDX-License-Identifier: MIT
#include "daemon/change.h"

#include <pthread.h>
#include <stdlib.h>

#include "daemon/log.h"
#include "daemon/notify.h"
#include "daemon/request.h"

#define WAITING_MAX 64

struct task {
    struct request *request; /* NULL: a reload */
    change_fn *fn;
};

struct change {
    struct server *server;
    struct queue *queue; /* of struct task * */
    pthread_t thread;
    atomic_int busy;
};

static void reload(struct server *s)
{
    struct err e;
    notify_reloading();
    if (server_reload(s, &e) < 0)
        log_error("reload failed, the old configuration goes on: %s", e.text);
    notify_ready();
}

static void *run(void *user)
{
    struct change *c = user;
    unsigned seen = 0;
    int closed = 0;
    while (!closed) {
        struct task *t = queue_pop(c->queue, &seen, &closed);
        if (!t)
            continue;
        if (t->request) {
            t->fn(t->request);
            request_resume(t->request);
        } else {
            reload(c->server);
        }
        free(t);
        atomic_fetch_sub(&c->busy, 1);
    }
    return NULL;
}

int change_start(struct server *s, struct change **out, struct err *e)
{
    struct change *c = calloc(1, sizeof *c);
    struct queue *q = queue_new(WAITING_MAX);
    if (c && q) {
        c->server = s;
        c->queue = q;
        if (pthread_create(&c->thread, NULL, run, c) == 0) {
            *out = c;
            return 0;
        }
    }
    queue_free(q);
    free(c);
    return err_set(e, ERR_MEMORY, "cannot start the thread for changes");
}

void change_stop(struct change *c)
{
    if (!c)
        return;
    queue_close(c->queue);
    pthread_join(c->thread, NULL);
}

void change_free(struct change *c)
{
    if (!c)
        return;
    queue_free(c->queue);
    free(c);
}

static int push(struct change *c, struct request *r, change_fn *fn, struct err *e)
{
    struct task *t = malloc(sizeof *t);
    if (!t)
        return err_set(e, ERR_MEMORY, "no memory for a change");
    *t = (struct task){r, fn};
    atomic_fetch_add(&c->busy, 1);
    if (queue_push(c->queue, t, NULL, INT64_MAX) == 0)
        return 0;
    atomic_fetch_sub(&c->busy, 1);
    free(t);
    return err_set(e, ERR_BUSY, "%d changes are waiting, which is the limit", WAITING_MAX);
}

enum api_state change_push(struct change *c, struct request *r, change_fn *fn)
{
    struct err e;
    if (push(c, r, fn, &e) == 0)
        return API_PENDING;
    if (atomic_load(&r->server->draining))
        reply_problem(&r->reply, PROBLEM_DRAINING, "the daemon is stopping");
    else
        reply_problem(&r->reply, e.code == ERR_MEMORY ? PROBLEM_MEMORY : PROBLEM_QUEUE_FULL, "%s", e.text);
    return API_DONE;
}

void change_reload(struct change *c)
{
    struct err e;
    if (push(c, NULL, NULL, &e) < 0)
        log_warning("reload refused: %s", e.text);
}

int change_busy(struct change *c)
{
    return atomic_load(&c->busy);
}

// SPDX-License-Identifier: MIT
//
// server.h - the parts of the running daemon, as one value that main makes and hands to all.

#ifndef DAEMON_SERVER_H
#define DAEMON_SERVER_H

#include <pthread.h>
#include <stdatomic.h>

#include "daemon/budget.h"
#include "daemon/conf.h"
#include "daemon/conn.h"
#include "daemon/metrics.h"
#include "daemon/queue.h"
#include "daemon/registry.h"

struct workers;
struct change;
struct http;

struct server {
    const char *conf_path; /* NULL: none */
    const struct conf_override *overrides;
    int override_count, cpus;
    const char *standard_precision; /* of the bundled model when no other is configured; NULL: auto */

    pthread_mutex_t conf_lock; /* guards the pointer */
    struct conf *conf;

    const struct kernels *kernels;
    struct budget budget;
    struct metrics *metrics;
    struct registry *registry;
    struct queue *queue;       /* of struct request * */
    pthread_rwlock_t decoding; /* held while an image is decoded; for writing by one that needs the budget alone */
    struct workers *workers;
    struct change *change;
    struct conns conns;
    struct http *http;
    int with_tls; /* since the start */

    atomic_int draining, drain_asked;
    atomic_int inflight; /* requests whose header is read and whose reply is not sent */
    atomic_int reload_failed;
    int64_t started_ms;  /* clock_ms */
    double started_unix; /* for process_start_time_seconds */
};

/* Makes the parts and opens the doors, models loaded before; kernels, conf, budget.limit and the locks are set by the caller.
   -1: ERR_* of the part that could not; server_stop takes away those that could. */
int server_start(struct server *s, struct err *e);

/* The beginning of that: the parts without threads, and the models. */
int server_load(struct server *s, struct err *e);

/* Ends what server_start or server_load began, and conf. No request may be in work that will not end. */
void server_stop(struct server *s);

/* 0 when requests are answered: models loaded, their self-tests passed, not stopping; else -1 with the reason. */
int server_ready(struct server *s, struct err *e);

/* The configuration of now; end it with conf_free. */
struct conf *server_conf(struct server *s);

/* Reads the configuration again and makes it the one of now. Called by the change thread. */
int server_reload(struct server *s, struct err *e);

/* Loads path with the command line's overrides and the standard model when none is given. For start, -t and reload. */
int server_read_conf(const struct server *s, struct conf **out, struct err *e);

/* Makes the configured certificate the one that connections get. For http_start; reloads do it by themselves. */
int server_start_tls(struct server *s, struct err *e);

/* Puts the values that can change while running where they act: log, memory limit. */
void server_use_conf(struct server *s, const struct conf *c);

#endif

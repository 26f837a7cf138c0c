// SPDX-License-Identifier: MIT
//
// test_worker.c - a worker beside its budget: what it holds after a precision switch.
// libmicrohttpd is replaced by a counter: there is no HTTP here.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/clock.h"
#include "daemon/conn.h"
#include "daemon/http.h"
#include "daemon/predict.h"
#include "daemon/worker.h"
#include "kernels/cpu.h"
#include "kernels/kernels.h"
#include "tests/files.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t answered = PTHREAD_COND_INITIALIZER;
static int answers;

void __wrap_MHD_resume_connection(struct MHD_Connection *connection);
void __wrap_MHD_resume_connection(struct MHD_Connection *connection)
{
    (void)connection;
    pthread_mutex_lock(&lock);
    answers++;
    pthread_cond_signal(&answered);
    pthread_mutex_unlock(&lock);
}

static struct server server;
static struct conn client;
static char *photo;
static size_t photo_size;

static const char *source(void)
{
    const char *srcdir = getenv("srcdir");
    return srcdir ? srcdir : ".";
}

static int start(void **state)
{
    char text[1200], path[1100];
    struct err e;
    int fds[2];
    (void)state;
    memset(&server, 0, sizeof server);
    pthread_mutex_init(&server.conf_lock, NULL);
    snprintf(text, sizeof text,
             "[inference]\nthreads = 1\n[model.m]\npath = %s/models/resnet20-cifar10\nprecision = int8\nkeep = fp32\n", source());
    assert_int_equal(conf_parse("f", text, strlen(text), NULL, 0, 1, &server.conf, &e), 0);
    atomic_store(&server.budget.limit, (size_t)1 << 40);
    server.kernels = kernels_pick(cpu_features(), "auto");
    server.metrics = metrics_new();
    server.registry = registry_new(&server.budget, server.kernels, 1);
    server.queue = queue_new(4);
    assert_true(server.metrics && server.registry && server.queue);
    if (registry_apply(server.registry, server.conf, &e) < 0)
        fail_msg("%s", e.text);
    assert_int_equal(workers_start(&server, &server.workers, &e), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    client = (struct conn){.fd = fds[0]};
    snprintf(path, sizeof path, "%s/tests/data/ship.jpg", source());
    photo = files_read(path, &photo_size);
    assert_non_null(photo);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    queue_close(server.queue);
    workers_stop(server.workers);
    workers_free(server.workers);
    registry_free(server.registry);
    assert_int_equal(atomic_load(&server.budget.used), 0);
    queue_free(server.queue);
    metrics_free(server.metrics);
    conf_free(server.conf);
    close(client.fd);
    free(photo);
    return 0;
}

static struct loaded *get(int precision)
{
    struct err e;
    struct loaded *l = registry_get(server.registry, NULL, precision, &e);
    assert_non_null(l);
    return l;
}

static void make_active(enum precision p)
{
    enum precision previous;
    struct err e;
    int slot;
    assert_int_equal(registry_switch(server.registry, NULL, p, &previous, &slot, &e), 0);
    queue_wake(server.queue);
}

/* Asks l, whose reference is taken over, and returns the status. */
static int ask(struct loaded *l)
{
    struct request r = {.server = &server, .conf = server.conf, .conn = &client};
    r.body = malloc(photo_size);
    assert_non_null(r.body);
    memcpy(r.body, photo, photo_size);
    r.body_len = photo_size;
    r.predict = (struct predict){.top_k = 1};
    r.job = (struct job){.kind = &predict_kind, .loaded = l, .deadline_ms = clock_ms() + 60000};
    pthread_mutex_lock(&lock);
    answers = 0;
    assert_int_equal(job_push(&r), API_PENDING);
    while (!answers)
        pthread_cond_wait(&answered, &lock);
    pthread_mutex_unlock(&lock);
    int status = r.reply.status;
    reply_free(&r.reply);
    request_drop_body(&r);
    job_free(&r);
    return status;
}

/* What is taken of the budget, once it is `wanted` or has had its time. */
static size_t settled(size_t wanted)
{
    for (int i = 0; i < 200 && atomic_load(&server.budget.used) != wanted; i++)
        usleep(10000);
    return atomic_load(&server.budget.used);
}

/* A request that waited while its model was replaced is computed on it; afterwards nothing of it is left, though the worker was
   told of the switch before that request. */
static void replaced_while_waiting(void **state)
{
    struct loaded *fresh = get(PRECISION_FP32), *old = get(PRECISION_AUTO);
    size_t fresh_weights = fresh->reserved, weights = fresh_weights + old->reserved;
    (void)state;
    loaded_free(fresh);
    assert_int_equal(settled(weights), weights);
    atomic_fetch_add(&old->refs, 1);
    assert_int_equal(ask(old), 200);
    assert_true(settled(weights) > weights); /* the worker keeps its session */
    make_active(PRECISION_FP32);
    assert_int_equal(settled(weights), weights); /* and lets it go */
    assert_int_equal(ask(old), 200);
    assert_int_equal(settled(fresh_weights), fresh_weights);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replaced_while_waiting),
    };
    return cmocka_run_group_tests(tests, start, stop);
}

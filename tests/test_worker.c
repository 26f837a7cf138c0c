// SPDX-License-Identifier: MIT
//
// test_worker.c - a worker of two threads: one request at a time and many side by side give the same bits; what fails, comes too
// late or is given up fails alone; what the worker holds after a switch; order, progress, Retry-After.
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
#include "daemon/estimate.h"
#include "daemon/predict.h"
#include "daemon/request.h"
#include "daemon/worker.h"
#include "kernels/cpu.h"
#include "kernels/kernels.h"
#include "tests/files.h"
#include "tests/scarce.h"

enum { CAPACITY = 24, CLASSES = 10, SIDE = 32, PATIENCE = 3000 /* times 10 ms: an emulator on a busy machine */ };

struct MHD_Connection {
    struct ask *ask;
};

/* One request and what became of it. */
struct ask {
    struct request r;
    struct MHD_Connection connection;
    struct conn client;
    int peer, answered; /* the other end; answered as the n-th since the test began */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int answers, inside, gate_open[2];
static const struct job_kind *behind_gate;

void __wrap_MHD_resume_connection(struct MHD_Connection *connection);
void __wrap_MHD_resume_connection(struct MHD_Connection *connection)
{
    pthread_mutex_lock(&lock);
    connection->ask->answered = ++answers;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static struct server server;
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
    (void)state;
    memset(&server, 0, sizeof server);
    pthread_mutex_init(&server.conf_lock, NULL);
    snprintf(text, sizeof text,
             "[inference]\nthreads = 2\nqueue = %d\nmax_batch = 6\n[model.m]\npath = %s/models/resnet20-cifar10\nprecision = "
             "int8\nkeep = fp32\n",
             CAPACITY, source());
    if (conf_parse("f", text, strlen(text), NULL, 0, 2, &server.conf, &e) < 0)
        fail_msg("%s", e.text);
    atomic_store(&server.budget.limit, (size_t)1 << 40);
    server.kernels = kernels_pick(cpu_features(), "auto");
    if (server_load(&server, &e) < 0)
        fail_msg("%s", e.text);
    assert_int_equal(workers_start(&server, &server.workers, &e), 0);
    snprintf(path, sizeof path, "%s/tests/data/ship.jpg", source());
    photo = files_read(path, &photo_size);
    assert_non_null(photo);
    answers = inside = gate_open[0] = gate_open[1] = 0;
    behind_gate = &predict_kind;
    return 0;
}

static int stop(void **state)
{
    (void)state;
    server_stop(&server);
    assert_int_equal(atomic_load(&server.budget.used), 0);
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

/* ---- requests ---- */

/* The first `size` bytes of the photo for l. */
static void prepare(struct ask *a, const struct job_kind *kind, struct loaded *l, size_t size)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    memset(a, 0, sizeof *a);
    a->connection.ask = a;
    a->client = (struct conn){.fd = fds[0], .is_unix = 1};
    a->peer = fds[1];
    a->r = (struct request){.server = &server, .conf = server.conf, .conn = &a->client, .connection = &a->connection};
    a->r.body = malloc(size);
    assert_non_null(a->r.body);
    memcpy(a->r.body, photo, size);
    a->r.body_len = size;
    a->r.predict = (struct predict){.top_k = 1};
    atomic_fetch_add(&l->refs, 1);
    a->r.job = (struct job){.kind = kind, .loaded = l, .deadline_ms = clock_ms() + 60000};
}

static void push(struct ask *a)
{
    assert_int_equal(job_push(&a->r), API_PENDING);
}

static void await(const int *what, int value)
{
    pthread_mutex_lock(&lock);
    while (*what < value)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

/* Returns the status and leaves the logits in out (NULL: not wanted). */
static int end(struct ask *a, float *out)
{
    await(&a->answered, 1);
    int status = a->r.reply.status;
    if (status == 200 && out)
        memcpy(out, a->r.job.logits, (size_t)a->r.job.count * CLASSES * sizeof *out);
    reply_free(&a->r.reply);
    request_drop_body(&a->r);
    job_free(&a->r);
    close(a->client.fd);
    if (a->peer >= 0)
        close(a->peer);
    return status;
}

static int ask(struct loaded *l, float *logits)
{
    struct ask a;
    prepare(&a, &predict_kind, l, photo_size);
    push(&a);
    return end(&a, logits);
}

/* ---- kinds of jobs that are not /predict ---- */

static void plain_reply(struct request *r)
{
    struct text t = {0};
    text_puts(&t, "{}");
    reply_json(&r->reply, &t);
}

/* They stay inside until their gate opens, meanwhile others can be made to wait, then they go on like behind_gate. */
static int enter(int gate, struct request *r, struct err *e)
{
    pthread_mutex_lock(&lock);
    inside++;
    pthread_cond_broadcast(&changed);
    while (!gate_open[gate])
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    return behind_gate->open(r, e);
}

static int first_enter(struct request *r, struct err *e)
{
    return enter(0, r, e);
}

static int second_enter(struct request *r, struct err *e)
{
    return enter(1, r, e);
}
static const struct job_kind gate_kinds[2] = {{first_enter, plain_reply}, {second_enter, plain_reply}};

static void open_gate(int gate)
{
    pthread_mutex_lock(&lock);
    gate_open[gate] = 1;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

/* The worker is inside a first request of l afterwards. */
static void occupy(struct ask *a, struct loaded *l)
{
    answers = inside = gate_open[0] = gate_open[1] = 0;
    prepare(a, &gate_kinds[0], l, photo_size);
    push(a);
    await(&inside, 1);
}

/* The photo as the network takes it. */
static float *photo_values(const struct preprocess *p)
{
    struct image image;
    struct err e;
    uint8_t rgb[SIDE * SIDE * 3];
    float *values = malloc(sizeof rgb * sizeof *values);
    assert_non_null(values);
    assert_int_equal(image_decode((const uint8_t *)photo, photo_size, &image_limits_default, p, &image, &e), 0);
    assert_int_equal(image_preprocess(&image, p, rgb, &e), 0);
    image_free(&image);
    for (size_t i = 0; i < sizeof rgb; i++)
        values[i] = preprocess_value(p, (int)(i % 3), rgb[p->bgr ? i - i % 3 + 2 - i % 3 : i]);
    return values;
}

static atomic_int held;

static void values_free(void *values)
{
    atomic_fetch_sub(&held, 1);
    free(values);
}

static float *hold_values(struct request *r)
{
    atomic_fetch_add(&held, 1);
    r->job.held = photo_values(&model_network(r->job.loaded->model)->preprocess);
    r->job.held_free = values_free;
    return r->job.held;
}

/* The photo, the photo as values, and what is in the body. */
static int three_open(struct request *r, struct err *e)
{
    if (job_inputs(r, 3, e) < 0)
        return -1;
    r->job.inputs[0] = (struct job_input){.bytes = (const uint8_t *)photo, .size = photo_size};
    r->job.inputs[1] = (struct job_input){.values = hold_values(r)};
    r->job.inputs[2] = (struct job_input){.bytes = r->body, .size = r->body_len};
    return 0;
}
static const struct job_kind three_kind = {three_open, plain_reply};

static int values_open(struct request *r, struct err *e)
{
    if (job_inputs(r, 1, e) < 0)
        return -1;
    r->job.inputs[0].values = hold_values(r);
    return 0;
}
static const struct job_kind values_kind = {values_open, plain_reply};

/* The photo and what is in the body; takes no memory of its own. */
static int two_open(struct request *r, struct err *e)
{
    if (job_inputs(r, 2, e) < 0)
        return -1;
    r->job.inputs[0] = (struct job_input){.bytes = (const uint8_t *)photo, .size = photo_size};
    r->job.inputs[1] = (struct job_input){.bytes = r->body, .size = r->body_len};
    return 0;
}
static const struct job_kind two_kind = {two_open, plain_reply};

static int many_open(struct request *r, struct err *e)
{
    return job_inputs(r, JOB_INPUTS_MAX + 1, e);
}
static const struct job_kind many_kind = {many_open, plain_reply};

/* ---- the tests ---- */

/* What is taken of the budget, once it is `wanted` or has had its time. */
static size_t settled(size_t wanted)
{
    for (int i = 0; i < PATIENCE && atomic_load(&server.budget.used) != wanted; i++)
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
    assert_int_equal(ask(old, NULL), 200);
    assert_true(atomic_load(&server.budget.used) > weights); /* the worker keeps its session */
    make_active(PRECISION_FP32);
    assert_int_equal(settled(weights), weights); /* and lets it go */
    assert_int_equal(ask(old, NULL), 200);
    loaded_free(old);
    assert_int_equal(settled(fresh_weights), fresh_weights);
}

static double batches(const char *name)
{
    struct text t = {0};
    struct exposition x = {&t, 0};
    const struct metrics_model models[MODELS_MAX] = {{"m", 0}};
    const char *p;
    metrics_write(server.metrics, models, &x);
    assert_non_null(t.s);
    p = strstr(t.s, name);
    assert_non_null(p);
    double v = strtod(p + strlen(name), NULL);
    text_free(&t);
    return v;
}

/* Waits for what is counted after the answers. */
static void expect_batches(double runs, double images)
{
    for (int i = 0; i < PATIENCE && batches("\nresnetd_batch_size_count ") < runs; i++)
        usleep(10000);
    assert_int_equal((int)batches("\nresnetd_batch_size_count "), (int)runs);
    assert_int_equal((int)batches("\nresnetd_batch_size_sum "), (int)images);
}

/* Good, damaged, late and given up, of two models, with a switch while they wait: each gets what it would get alone. */
static void mixed_batch(void **state)
{
    enum { N = 14 };
    float want[2][CLASSES], got[CLASSES];
    struct loaded *l[2] = {get(PRECISION_INT8), get(PRECISION_FP32)};
    struct ask gate, a[N];
    (void)state;
    for (int i = 0; i < 2; i++)
        assert_int_equal(ask(l[i], want[i]), 200);
    expect_batches(2, 2);
    occupy(&gate, l[0]);
    for (int i = 0; i < N; i++) {
        prepare(&a[i], &predict_kind, l[i >= 10], i == 3 ? photo_size / 2 : photo_size);
        if (i == 5)
            memset(a[i].r.body, 'x', a[i].r.body_len);
        if (i == 6 || i == 11)
            a[i].r.job.deadline_ms = clock_ms() - 1;
        if (i == 1 || i == 12) {
            close(a[i].peer);
            a[i].peer = -1;
        }
        push(&a[i]);
    }
    make_active(PRECISION_FP32); /* int8 is replaced while ten wait for it */
    open_gate(0);
    assert_int_equal(end(&gate, NULL), 200);
    for (int i = 0; i < N; i++) {
        int status = end(&a[i], got);
        assert_int_equal(status, i == 3 ? 422 : i == 5 ? 415 : i == 6 || i == 11 ? 504 : i == 1 || i == 12 ? 400 : 200);
        if (status == 200)
            assert_memory_equal(got, want[i >= 10], sizeof got);
    }
    expect_batches(2 + 3, 2 + 7 + 2); /* max_batch = 6: int8 takes two runs for 11 requests, of which 7 are good */
    /* Of int8 nothing is left; of fp32 the weights, the session for one request at a time, and one for each thread. */
    size_t left = l[1]->reserved + 3 * (model_arena_bytes(l[1]->model, 1, 1) + SIDE * SIDE * 3);
    for (int i = 0; i < 2; i++)
        loaded_free(l[i]);
    assert_int_equal(settled(left), left);
}

/* Several images of one request, with and without others beside it. */
static void several_inputs(void **state)
{
    float want[CLASSES], got[3 * CLASSES];
    struct loaded *l = get(PRECISION_INT8);
    struct ask gate, a[4];
    (void)state;
    assert_int_equal(ask(l, want), 200);
    prepare(&a[0], &three_kind, l, photo_size);
    push(&a[0]);
    assert_int_equal(end(&a[0], got), 200);
    for (int i = 0; i < 3; i++)
        assert_memory_equal(got + i * CLASSES, want, sizeof want);
    assert_int_equal(atomic_load(&held), 0);
    occupy(&gate, l);
    for (int i = 0; i < 4; i++) {
        prepare(&a[i], i == 2 ? &many_kind : &three_kind, l, i == 1 ? photo_size / 2 : photo_size);
        push(&a[i]);
    }
    open_gate(0);
    assert_int_equal(end(&gate, NULL), 200);
    for (int i = 0; i < 4; i++) {
        int status = end(&a[i], got);
        assert_int_equal(status, i == 1 ? 422 : i == 2 ? 400 : 200);
        for (int k = 0; status == 200 && k < 3; k++)
            assert_memory_equal(got + k * CLASSES, want, sizeof want);
    }
    assert_int_equal(atomic_load(&held), 0);
    loaded_free(l);
}

/* Where the budget has no room for more sessions, images go one after the other; where it has room for decoding one image, the
   threads decode one at a time. */
static void tight_budget(void **state)
{
    enum { N = 5 };
    const struct image_limits *limits = &image_limits_default;
    float want[CLASSES], got[CLASSES];
    struct loaded *l = get(PRECISION_INT8);
    struct ask gate, a[N];
    (void)state;
    const struct preprocess *p = &model_network(l->model)->preprocess;
    size_t decode = estimate_decode((const uint8_t *)photo, photo_size, limits, p);
    size_t room[2] = {100, 2 * (model_arena_bytes(l->model, 1, 1) + SIDE * SIDE * 3) + decode * 3 / 2};
    assert_int_equal(ask(l, want), 200);
    for (int i = 0; i < 2; i++) {
        behind_gate = i ? &predict_kind : &values_kind; /* values need no decoding */
        occupy(&gate, l);
        for (int k = 0; k < N; k++) {
            prepare(&a[k], behind_gate, l, photo_size);
            push(&a[k]);
        }
        atomic_store(&server.budget.limit, atomic_load(&server.budget.used) + room[i]);
        if (i) { /* somebody else is decoding */
            pthread_rwlock_rdlock(&server.decoding);
            assert_int_equal(budget_reserve(&server.budget, decode, "a test", NULL), 0);
        }
        open_gate(0);
        if (i) {
            usleep(50000);
            assert_int_equal(answers, 0); /* they wait */
            budget_release(&server.budget, decode);
            pthread_rwlock_unlock(&server.decoding);
        }
        assert_int_equal(end(&gate, NULL), 200);
        for (int k = 0; k < N; k++) {
            assert_int_equal(end(&a[k], got), 200);
            assert_memory_equal(got, want, sizeof got);
        }
        expect_batches(1 + N + 1 + i, 1 + (N + 1) * (1 + i));
        atomic_store(&server.budget.limit, (size_t)1 << 40);
    }
    loaded_free(l);
}

/* At most max_batch images of one model go before a request for another that came first. */
static void order(void **state)
{
    enum { N = 13 };
    struct loaded *l[2] = {get(PRECISION_INT8), get(PRECISION_FP32)};
    struct ask gate, a[N];
    (void)state;
    occupy(&gate, l[0]);
    for (int i = 0; i < N; i++) {
        prepare(&a[i], &predict_kind, l[i == 0], photo_size);
        push(&a[i]);
    }
    open_gate(0);
    assert_int_equal(end(&gate, NULL), 200);
    for (int i = 0; i < N; i++)
        await(&a[i].answered, 1);
    assert_int_equal(a[0].answered, 7);
    for (int i = 0; i < N; i++) {
        assert_true(i == 0 || (i <= 5) == (a[i].answered < 7));
        assert_int_equal(end(&a[i], NULL), 200);
    }
    for (int i = 0; i < 2; i++)
        loaded_free(l[i]);
}

/* One thread of several that is stuck is seen, while the other goes on with the rest. */
static void stuck_thread(void **state)
{
    enum { N = 4 };
    struct loaded *l = get(PRECISION_INT8);
    struct ask gate, stuck, a[N];
    (void)state;
    occupy(&gate, l);
    prepare(&stuck, &gate_kinds[1], l, photo_size);
    push(&stuck);
    for (int i = 0; i < N; i++) {
        prepare(&a[i], &predict_kind, l, photo_size);
        push(&a[i]);
    }
    open_gate(0);
    assert_int_equal(end(&gate, NULL), 200);
    for (int i = 0; i < N; i++)
        assert_int_equal(end(&a[i], NULL), 200);
    assert_int_equal(stuck.answered, 0);
    usleep(60000);
    assert_true(workers_stalled_ms(server.workers) >= 50);
    assert_int_equal(workers_busy(server.workers), 1);
    open_gate(1);
    assert_int_equal(end(&stuck, NULL), 200);
    for (int i = 0; i < PATIENCE && workers_busy(server.workers); i++)
        usleep(10000);
    assert_int_equal(workers_busy(server.workers), 0);
    assert_int_equal(workers_stalled_ms(server.workers), 0);
    loaded_free(l);
}

/* Full is told at once, with the time that those who wait will take. */
static void full_queue(void **state)
{
    struct loaded *l = get(PRECISION_INT8);
    struct ask gate, a[CAPACITY], refused;
    (void)state;
    occupy(&gate, l);
    usleep(200000);
    open_gate(0);
    assert_int_equal(end(&gate, NULL), 200);
    for (int i = 0; i < PATIENCE && workers_busy(server.workers); i++)
        usleep(10000); /* its time is known afterwards */
    occupy(&gate, l);
    for (int i = 0; i < CAPACITY; i++) {
        prepare(&a[i], &predict_kind, l, photo_size);
        assert_int_equal(job_no_room(&a[i].r), 0);
        push(&a[i]);
    }
    prepare(&refused, &predict_kind, l, photo_size);
    assert_int_equal(job_no_room(&refused.r), 1);
    assert_int_equal(refused.r.reply.status, 503);
    assert_in_range(refused.r.reply.retry_after, 5, 60);
    refused.r.reply.retry_after = 0;
    assert_int_equal(job_push(&refused.r), API_DONE);
    assert_int_equal(refused.r.reply.status, 503);
    assert_in_range(refused.r.reply.retry_after, 5, 60); /* 24 of 0.2 s and more */
    refused.answered = 1;
    assert_int_equal(end(&refused, NULL), 503);
    open_gate(0);
    assert_int_equal(end(&gate, NULL), 200);
    for (int i = 0; i < CAPACITY; i++)
        assert_int_equal(end(&a[i], NULL), 200);
    loaded_free(l);
}

/* Asks and is told that there is no room for `what`. */
static void no_room_for(const char *what, const struct job_kind *kind, struct loaded *l)
{
    struct ask a;
    const size_t used = atomic_load(&server.budget.used);
    atomic_store(&server.budget.limit, used);
    prepare(&a, kind, l, photo_size);
    push(&a);
    await(&a.answered, 1);
    assert_non_null(strstr(a.r.reply.body.s, what));
    assert_int_equal(end(&a, NULL), 503);
    assert_int_equal(settled(used), used);
    atomic_store(&server.budget.limit, (size_t)1 << 40);
}

static void no_room(void **state)
{
    float want[CLASSES], got[CLASSES];
    struct loaded *l = get(PRECISION_INT8);
    (void)state;
    no_room_for("a session", &predict_kind, l);
    assert_int_equal(ask(l, want), 200);
    no_room_for("decoding this image", &predict_kind, l);
    no_room_for("the request's images", &two_kind, l);
    assert_int_equal(ask(l, got), 200);
    assert_memory_equal(got, want, sizeof got);
    loaded_free(l);
}

/* Every allocation on the way of a request fails once, the first session's among them. */
static void no_memory(void **state)
{
    static const struct job_kind *const kinds[] = {&predict_kind, &two_kind};
    float want[CLASSES], got[CLASSES];
    struct loaded *l = get(PRECISION_INT8);
    (void)state;
    for (int i = 0; i < 2; i++)
        for (int n = 0, left = 0; left == 0; n++) {
            struct ask a;
            assert_true(n < 200);
            prepare(&a, kinds[i], l, photo_size);
            scarce_left = n;
            push(&a);
            await(&a.answered, 1);
            left = scarce_left;
            scarce_left = -1;
            const int status = end(&a, i ? NULL : want);
            if (status != 503)
                assert_int_equal(status, 200);
        }
    assert_int_equal(ask(l, got), 200);
    assert_memory_equal(got, want, sizeof got);
    loaded_free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(replaced_while_waiting, start, stop),
        cmocka_unit_test_setup_teardown(mixed_batch, start, stop),
        cmocka_unit_test_setup_teardown(several_inputs, start, stop),
        cmocka_unit_test_setup_teardown(tight_budget, start, stop),
        cmocka_unit_test_setup_teardown(order, start, stop),
        cmocka_unit_test_setup_teardown(stuck_thread, start, stop),
        cmocka_unit_test_setup_teardown(full_queue, start, stop),
        cmocka_unit_test_setup_teardown(no_room, start, stop),
        cmocka_unit_test_setup_teardown(no_memory, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

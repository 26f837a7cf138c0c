// SPDX-License-Identifier: MIT
//
// test_change.c - the thread that makes changes, and GET and PUT /precision: order, the limit, reloads, bodies that are refused,
// what does not fit or cannot be loaded, and what no memory and no thread do. There is no HTTP here.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <cJSON.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/api_precision.h"
#include "daemon/api_routes.h"
#include "daemon/change.h"
#include "daemon/log.h"
#include "daemon/request.h"
#include "kernels/cpu.h"
#include "tests/files.h"
#include "tests/scarce.h"

#define WAITING 64 /* may wait behind the one that is being done */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int answers, inside, gate_open, no_threads;

void __wrap_MHD_resume_connection(struct MHD_Connection *connection);
void __wrap_MHD_resume_connection(struct MHD_Connection *connection)
{
    (void)connection;
    pthread_mutex_lock(&lock);
    answers++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *user);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *user);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *user)
{
    return no_threads ? EAGAIN : __real_pthread_create(thread, attr, fn, user);
}

static void open_gate(void)
{
    pthread_mutex_lock(&lock);
    gate_open = 1;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static struct server server;
static char *dir, conf_path[4200];

static void write_conf(const char *extra)
{
    char text[8000];
    int n = snprintf(text, sizeof text, "[log]\nlevel = error\n[model.m]\npath = %s/m\n%s", dir, extra);
    files_write(dir, "conf", text, (size_t)n);
}

/* From the bundled model. */
static void copy_model(enum precision p)
{
    const char *source = getenv("srcdir");
    char path[4200], name[64];
    size_t size;
    snprintf(path, sizeof path, "%s/models/resnet20-cifar10/%s.safetensors", source ? source : ".", precision_name(p));
    char *bytes = files_read(path, &size);
    assert_non_null(bytes);
    snprintf(name, sizeof name, "m/%s.safetensors", precision_name(p));
    files_write(dir, name, bytes, size);
    free(bytes);
}

static int start(void **state)
{
    struct err e;
    (void)state;
    memset(&server, 0, sizeof server);
    dir = files_make_dir();
    snprintf(conf_path, sizeof conf_path, "%s/m", dir);
    assert_int_equal(mkdir(conf_path, 0700), 0);
    snprintf(conf_path, sizeof conf_path, "%s/conf", dir);
    copy_model(PRECISION_INT8);
    copy_model(PRECISION_FP16);
    files_write(dir, "m/hybrid.safetensors", "damaged", 7);
    write_conf("");
    pthread_mutex_init(&server.conf_lock, NULL);
    server.conf_path = conf_path;
    server.cpus = 2;
    if (server_read_conf(&server, &server.conf, &e) < 0)
        fail_msg("%s", e.text);
    log_setup(LOG_LEVEL_ERROR, LOG_TEXT, LOG_PREFIX_OFF);
    atomic_store(&server.budget.limit, (size_t)1 << 40);
    server.kernels = kernels_pick(cpu_features(), "auto");
    if (server_load(&server, &e) < 0)
        fail_msg("%s", e.text);
    assert_int_equal(change_start(&server, &server.change, &e), 0);
    answers = inside = gate_open = 0;
    return 0;
}

static int stop(void **state)
{
    (void)state;
    open_gate(); /* a test that failed may have left it closed */
    server_stop(&server);
    assert_int_equal(atomic_load(&server.budget.used), 0);
    files_remove_dir(dir);
    return 0;
}

/* ---- requests ---- */

static struct request new_request(const char *uri, const char *body)
{
    struct request r = {.server = &server, .conf = server.conf, .uri = strdup(uri), .body_len = body ? strlen(body) : 0};
    r.body = body ? (uint8_t *)strdup(body) : NULL;
    return r;
}

static void end(struct request *r)
{
    free(r->uri);
    free(r->body);
    reply_free(&r->reply);
}

static void await(int *what, int n)
{
    pthread_mutex_lock(&lock);
    while (*what < n)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

static void answered(const struct request *r, int status, const char *part)
{
    if (r->reply.status != status || !strstr(r->reply.body.s, part))
        fail_msg("%d instead of %d: %s without %s", r->reply.status, status, r->reply.body.s, part);
}

static void get(const char *uri, int status, const char *part)
{
    struct request r = new_request(uri, NULL);
    assert_int_equal(api_precision(&r), API_DONE);
    answered(&r, status, part);
    end(&r);
}

/* Through the thread. */
static void put(const char *body, int status, const char *part)
{
    struct request r = new_request("/precision", body);
    const int before = answers;
    assert_int_equal(api_precision_put(&r), API_PENDING);
    await(&answers, before + 1);
    answered(&r, status, part);
    end(&r);
}

static void behind_gate(struct request *r)
{
    pthread_mutex_lock(&lock);
    inside++;
    pthread_cond_broadcast(&changed);
    while (!gate_open)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    r->reply.status = 200;
}

static void done(void)
{
    for (int i = 0; change_busy(server.change) && i < 30000; i++)
        usleep(1000);
    assert_false(change_busy(server.change));
}

/* ---- tests ---- */

static void look(void **state)
{
    (void)state;
    get("/precision", 200, "\"active\":\"int8\",\"resident\":[\"int8\"],\"available\":[\"fp16\",\"hybrid\",\"int8\"]");
    get("/precision?model=m", 200, "\"model\":\"m\"");
    get("/precision?model=n", 404, "no such model");
    get("/precision?modell=m", 400, "modell");
    get("/precision?model=%", 400, "hexadecimal");
}

static void bodies(void **state)
{
    (void)state;
    put("", 400, "the body is empty");
    put("{", 400, "send {");
    put("[]", 400, "not an object");
    put("{}", 400, "precision");
    put("{\"precision\":8}", 400, "precision");
    put("{\"precision\":\"int4\"}", 400, "int8");
    put("{\"precision\":\"fp16\",\"model\":1}", 400, "model");
    put("{\"precision\":\"fp16\",\"modell\":\"m\"}", 400, "modell");
    get("/precision", 200, "\"active\":\"int8\"");
}

static void switches(void **state)
{
    (void)state;
    put("{\"precision\":\"fp32\"}", 404, "not installed");
    put("{\"precision\":\"fp16\",\"model\":\"n\"}", 404, "no model 'n'");
    put("{\"precision\":\"hybrid\"}", 500, "what was active goes on serving");
    atomic_store(&server.budget.limit, atomic_load(&server.budget.used));
    put("{\"precision\":\"fp16\"}", 503, "memory_limit");
    atomic_store(&server.budget.limit, (size_t)1 << 40);
    get("/precision", 200, "\"active\":\"int8\"");
    put("{\"precision\":\"fp16\"}", 200, "\"active\":\"fp16\",\"previous\":\"int8\"");
    put("{\"precision\":\"fp16\",\"model\":\"m\"}", 200, "\"active\":\"fp16\",\"previous\":\"fp16\"");
    get("/precision", 200, "\"active\":\"fp16\",\"resident\":[\"fp16\"]");
}

/* The second of two models: the answer speaks of that one. */
static void second_model(void **state)
{
    char extra[4400];
    (void)state;
    snprintf(extra, sizeof extra, "[model.n]\npath = %s/m\n", dir);
    write_conf(extra);
    change_reload(server.change);
    done();
    assert_false(atomic_load(&server.reload_failed));
    put("{\"precision\":\"fp16\",\"model\":\"n\"}", 200, "{\"model\":\"n\",\"active\":\"fp16\"");
    get("/precision?model=n", 200, "\"active\":\"fp16\"");
    get("/precision", 200, "\"active\":\"int8\"");
}

static void reloads(void **state)
{
    (void)state;
    write_conf("precision = fp16\n");
    change_reload(server.change);
    done();
    assert_false(atomic_load(&server.reload_failed));
    get("/precision", 200, "\"active\":\"fp16\"");
    write_conf("precision = int4\n");
    change_reload(server.change);
    done();
    assert_true(atomic_load(&server.reload_failed));
    get("/precision", 200, "\"active\":\"fp16\"");
}

static void limit(void **state)
{
    static struct request all[1 + WAITING + 2];
    (void)state;
    for (int i = 0; i < 1 + WAITING + 2; i++)
        all[i] = new_request("/precision", NULL);
    assert_int_equal(change_push(server.change, &all[0], behind_gate), API_PENDING);
    await(&inside, 1);
    assert_true(change_busy(server.change));
    for (int i = 1; i <= WAITING; i++)
        assert_int_equal(change_push(server.change, &all[i], behind_gate), API_PENDING);
    assert_int_equal(change_push(server.change, &all[WAITING + 1], behind_gate), API_DONE);
    answered(&all[WAITING + 1], 503, "problem:queue-full");
    write_conf("precision = fp16\n");
    change_reload(server.change); /* is left out, with a word in the log */
    open_gate();
    await(&answers, 1 + WAITING);
    done();
    get("/precision", 200, "\"active\":\"int8\"");
    atomic_store(&server.draining, 1);
    change_stop(server.change);
    assert_int_equal(change_push(server.change, &all[WAITING + 2], behind_gate), API_DONE);
    answered(&all[WAITING + 2], 503, "stopping");
    change_free(server.change);
    server.change = NULL;
    for (int i = 0; i < 1 + WAITING + 2; i++)
        end(&all[i]);
}

static void *scarce_malloc(size_t size)
{
    return malloc(size);
}

static void no_memory(void **state)
{
    cJSON_Hooks scarce = {scarce_malloc, free}; /* the library's own memory is as scarce */
    struct change *none = NULL;
    struct err e;
    (void)state;
    cJSON_InitHooks(&scarce);
    for (int n = 0; n < 2; n++) {
        scarce_left = n;
        assert_int_equal(change_start(&server, &none, &e), -1);
        scarce_left = -1;
        assert_int_equal(e.code, ERR_MEMORY);
    }
    no_threads = 1;
    assert_int_equal(change_start(&server, &none, &e), -1);
    no_threads = 0;
    assert_null(none);
    struct request r = new_request("/precision", "{\"precision\":\"fp16\"}");
    scarce_left = 0;
    change_reload(server.change);
    assert_int_equal(api_precision_put(&r), API_DONE);
    scarce_left = -1;
    assert_int_equal(r.reply.status, 503);
    reply_free(&r.reply);
    assert_false(change_busy(server.change));
    for (int n = 0, left = 0; left == 0; n++) { /* as that thread does it */
        r.reply = (struct reply){0};
        assert_true(n < 1000);
        scarce_left = n;
        api_precision_switch(&r);
        left = scarce_left;
        scarce_left = -1;
        assert_true(r.reply.status == 200 || r.reply.status == 503 || r.reply.body.failed);
        if (r.reply.status == 200)
            get("/precision", 200, "\"active\":\"fp16\"");
        if (left == 0)
            put("{\"precision\":\"int8\"}", 200, "\"active\":\"int8\"");
        reply_free(&r.reply);
    }
    end(&r);
    get("/precision", 200, "\"active\":\"fp16\"");
    cJSON_InitHooks(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(look, start, stop),      cmocka_unit_test_setup_teardown(bodies, start, stop),
        cmocka_unit_test_setup_teardown(switches, start, stop),  cmocka_unit_test_setup_teardown(second_model, start, stop),
        cmocka_unit_test_setup_teardown(reloads, start, stop),   cmocka_unit_test_setup_teardown(limit, start, stop),
        cmocka_unit_test_setup_teardown(no_memory, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

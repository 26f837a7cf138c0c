// SPDX-License-Identifier: MIT
//
// test_request.c - requests for which something is missing: every allocation, every answer of libmicrohttpd's and every step of
// the connection refused in turn, memory that runs out in the middle of a body. Whatever fails costs that request at most: the
// next one is answered, and nothing is left behind.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <microhttpd.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/conn.h"
#include "daemon/server.h"
#include "tests/http_server.h"
#include "tests/scarce.h"

#define BODY_MAX (200 * 1024)

static struct http_server *http;
static struct server *server;

/* ---- what fails: the n-th use from now; -1: nothing */

enum { INFO, ENTER, RESPONSE, RANDOM, KINDS };
static _Atomic int left[KINDS] = {-1, -1, -1, -1};

static int fails(int kind)
{
    int n = left[kind];
    if (n >= 0)
        left[kind] = n - 1;
    return n == 0;
}

const union MHD_ConnectionInfo *__real_MHD_get_connection_info(struct MHD_Connection *c, enum MHD_ConnectionInfoType type, ...);
const union MHD_ConnectionInfo *__wrap_MHD_get_connection_info(struct MHD_Connection *c, enum MHD_ConnectionInfoType type, ...);
const union MHD_ConnectionInfo *__wrap_MHD_get_connection_info(struct MHD_Connection *c, enum MHD_ConnectionInfoType type, ...)
{
    return fails(INFO) ? NULL : __real_MHD_get_connection_info(c, type);
}

int __real_conn_enter(struct conns *all, struct conn *c, enum conn_state state, int64_t deadline_ms);
int __wrap_conn_enter(struct conns *all, struct conn *c, enum conn_state state, int64_t deadline_ms);
int __wrap_conn_enter(struct conns *all, struct conn *c, enum conn_state state, int64_t deadline_ms)
{
    return fails(ENTER) ? -1 : __real_conn_enter(all, c, state, deadline_ms);
}

struct MHD_Response *__real_MHD_create_response_from_buffer(size_t size, void *buffer, enum MHD_ResponseMemoryMode mode);
struct MHD_Response *__wrap_MHD_create_response_from_buffer(size_t size, void *buffer, enum MHD_ResponseMemoryMode mode);
struct MHD_Response *__wrap_MHD_create_response_from_buffer(size_t size, void *buffer, enum MHD_ResponseMemoryMode mode)
{
    return fails(RESPONSE) ? NULL : __real_MHD_create_response_from_buffer(size, buffer, mode);
}

ssize_t __real_getrandom(void *buffer, size_t size, unsigned flags);
ssize_t __wrap_getrandom(void *buffer, size_t size, unsigned flags);
ssize_t __wrap_getrandom(void *buffer, size_t size, unsigned flags)
{
    return fails(RANDOM) ? -1 : __real_getrandom(buffer, size, flags);
}

/* ---- a client */

static char reply[1 << 20], bytes[BODY_MAX + 4096]; /* not of the memory that is scarce */

/* Sends header, n blanks and last on a connection of its own; everything that came back is in reply. The first status, 0: none.
 */
static int ask(const char *header, size_t n, const char *last)
{
    int fd = http_server_connect(http);
    size_t len = 0, head = strlen(header), tail = strlen(last);
    assert_true(fd >= 0 && head + n + tail <= sizeof bytes);
    memcpy(bytes, header, head);
    memset(bytes + head, ' ', n);
    memcpy(bytes + head + n, last, tail);
    (void)send(fd, bytes, head + n + tail, MSG_NOSIGNAL);
    shutdown(fd, SHUT_WR);
    for (ssize_t got; len < sizeof reply - 1 && (got = recv(fd, reply + len, sizeof reply - 1 - len, 0)) > 0;)
        len += (size_t)got;
    reply[len] = '\0';
    close(fd);
    return strncmp(reply, "HTTP/1.1 ", 9) == 0 ? atoi(reply + 9) : 0;
}

#define H    "Host: a\r\n"
#define NEXT "GET /livez HTTP/1.1\r\n" H "\r\n"

static int next_answered(void)
{
    const char *second = strstr(reply + 1, "HTTP/1.1 ");
    return second && strncmp(second, "HTTP/1.1 200", 12) == 0;
}

/* Nothing is left of any request, and the next one is answered. */
static void settled(void)
{
    for (int i = 0; i < 10000; i++) {
        if (!conns_count(&server->conns) && !atomic_load(&server->inflight) && !atomic_load(&server->budget.used))
            break;
        usleep(1000);
    }
    assert_int_equal(conns_count(&server->conns), 0);
    assert_int_equal(atomic_load(&server->inflight), 0);
    assert_int_equal(atomic_load(&server->budget.used), 0);
    assert_int_equal(ask(NEXT, 0, ""), 200);
}

/* ---- tests */

/* A body of 40000 bytes for a model that is not there; a GET; an upload that is refused at its header. */
static const struct {
    const char *header;
    size_t n;
    const char *last;
    int status;
} samples[] = {
    {"PUT /precision HTTP/1.1\r\n" H "Content-Length: 40020\r\n\r\n", 40000, "{\"precision\":\"int8\"}", 404},
    {"GET /v1/status HTTP/1.1\r\n" H "\r\n", 0, "", 200},
    {"POST /livez HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\n", 5, "", 405},
};
enum { SAMPLES = sizeof samples / sizeof samples[0] };

/* What may come in place of the answer: nothing, or that it cannot be given. */
static void each_fails(_Atomic int *countdown, int instead)
{
    for (int i = 0; i < SAMPLES; i++)
        for (int n = 0, all_done = 0; !all_done; n++) {
            assert_true(n < 500);
            *countdown = n;
            int status = ask(samples[i].header, samples[i].n, samples[i].last);
            all_done = *countdown > 0;
            *countdown = -1;
            if (status != samples[i].status && (all_done || (status != 0 && status != instead)))
                fail_msg("%s, failure %d: %d", samples[i].header, n, status);
            settled();
        }
}

static void no_memory(void **state)
{
    (void)state;
    each_fails(&scarce_left, 503);
}

static void no_connection(void **state)
{
    (void)state;
    each_fails(&left[ENTER], 0);
    each_fails(&left[INFO], 431); /* of which the size is not known is too large */
    each_fails(&left[RESPONSE], 0);
}

static void no_random(void **state)
{
    (void)state;
    left[RANDOM] = 0;
    assert_int_equal(ask(NEXT, 0, ""), 200);
    left[RANDOM] = -1;
    assert_non_null(strstr(reply, "X-Request-Id: 00000000000000000000000000000000\r\n"));
    settled();
}

/* The budget ends within the body: what follows is read and dropped, and the connection goes on. */
static void full_budget(void **state)
{
    static const char *const headers[] = {
        "PUT /precision HTTP/1.1\r\n" H "Content-Length: 150000\r\n\r\n",
        "PUT /precision HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n249f0\r\n",
    };
    static const char *const last[] = {NEXT, "\r\n0\r\n\r\n" NEXT};
    const size_t limit = atomic_load(&server->budget.limit), limits[] = {1000, 20000, 100000, 149999};
    (void)state;
    for (int i = 0; i < 2; i++) {
        for (size_t j = 0; j < sizeof limits / sizeof *limits; j++) {
            atomic_store(&server->budget.limit, limits[j]);
            assert_int_equal(ask(headers[i], 150000, last[i]), 503);
            assert_non_null(strstr(reply, "memory_limit"));
            assert_true(next_answered());
            settled();
        }
        atomic_store(&server->budget.limit, i ? BODY_MAX : 150000); /* chunks do not say how many will follow */
        assert_int_equal(ask(headers[i], 150000, last[i]), 400);
        assert_true(next_answered());
        settled();
    }
    atomic_store(&server->budget.limit, limit);
}

static void headers(void **state)
{
    static const char put[] = "PUT /precision HTTP/1.1\r\n" H "Content-Length: 20\r\n",
                      body[] = "\r\n{\"precision\":\"int8\"}" NEXT;
    char all[1000];
    (void)state;
    snprintf(all, sizeof all, "%sContent-Encoding: identity\r\n", put);
    assert_int_equal(ask(all, 0, body), 404); /* as good as none: there is no model */
    assert_true(next_answered());
    snprintf(all, sizeof all, "%sContent-Encoding: gzip\r\n", put);
    assert_int_equal(ask(all, 0, body), 415);
    assert_true(next_answered());
    snprintf(all, sizeof all, "%sContent-Type: %0300d\r\n", put, 1); /* as good as none */
    assert_int_equal(ask(all, 0, body), 404);
    assert_true(next_answered());
    assert_int_equal(ask("GET /v2x HTTP/1.1\r\n" H "\r\n" NEXT, 0, ""), 404);
    assert_null(strstr(reply, "\"error\":")); /* of the Open Inference Protocol only */
    assert_true(next_answered());
    assert_int_equal(ask("GET /livez HTTP/1.1\r\n" H "X-Request-Id: a b\r\n\r\n", 0, ""), 200);
    assert_null(strstr(reply, "X-Request-Id: a b"));
    settled();
}

static int start(void **state)
{
    (void)state;
    http = http_server_start("[server]\nmax_body = 200K\nidle_timeout = 60s\nheader_timeout = 60s\nbody_timeout = 60s\n");
    server = http ? http_server_parts(http) : NULL;
    return http ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    http_server_stop(http);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_memory), cmocka_unit_test(no_connection), cmocka_unit_test(no_random),
                                       cmocka_unit_test(full_budget), cmocka_unit_test(headers)};
    return cmocka_run_group_tests(tests, start, stop);
}

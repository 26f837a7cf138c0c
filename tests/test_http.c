// SPDX-License-Identifier: MIT
//
// test_http.c - bytes on a connection and what comes back: framing that must be refused, because a proxy in front may read it in
// another way (request smuggling), limits one past which is refused, and what a strict client may expect. Each request of the
// tables is sent whole and byte by byte; behind it comes a second one, which must never be answered once the first was refused.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <microhttpd.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/http_server.h"

#define PATIENCE_MS 60000
#define H           "Host: a\r\n"
#define NEXT        "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"

static struct http_server *server;

/* ---- a client that counts replies */

struct client {
    int fd, closed;
    char *text; /* everything that came */
    size_t len, read, cap;
    int head; /* replies have no body */
};

static void client_open(struct client *c)
{
    *c = (struct client){.fd = http_server_connect(server), .cap = 1 << 20};
    c->text = malloc(c->cap + 1);
    assert_true(c->fd >= 0 && c->text);
}

static void client_close(struct client *c)
{
    close(c->fd);
    free(c->text);
}

/* What the server no longer reads is not the client's fault. */
static void client_send(struct client *c, const char *bytes, size_t len, size_t at_a_time)
{
    for (size_t i = 0; i < len; i += at_a_time) {
        size_t n = len - i < at_a_time ? len - i : at_a_time;
        if (send(c->fd, bytes + i, n, MSG_NOSIGNAL) != (ssize_t)n)
            return;
    }
}

static int client_more(struct client *c, int patience_ms)
{
    struct pollfd p = {.fd = c->fd, .events = POLLIN};
    if (c->closed || poll(&p, 1, patience_ms) <= 0)
        return 0;
    ssize_t n = recv(c->fd, c->text + c->len, c->cap - c->len, 0);
    if (n <= 0)
        c->closed = 1;
    else
        c->len += (size_t)n;
    c->text[c->len] = '\0';
    return n > 0;
}

/* The status of the next whole reply; 0 when the connection ended before one, -1 when nothing came for too long. */
static int client_reply(struct client *c)
{
    for (;;) {
        char *start = c->text + c->read, *end = c->len > c->read ? strstr(start, "\r\n\r\n") : NULL;
        if (end) {
            int status = strncmp(start, "HTTP/1.1 ", 9) == 0 ? atoi(start + 9) : -1;
            const char *field = strcasestr(start, "\r\nContent-Length:");
            size_t body = field && field < end && !c->head && status >= 200 ? strtoul(field + 17, NULL, 10) : 0;
            if (c->len - c->read >= (size_t)(end + 4 - start) + body) {
                c->read += (size_t)(end + 4 - start) + body;
                return status;
            }
        }
        if (!client_more(c, PATIENCE_MS))
            return c->closed ? 0 : -1;
    }
}

/* ---- the tables */

struct row {
    const char *bytes;
    size_t len;
    int status;  /* 0: closed without a reply; 4: any 4xx */
    int refused; /* the connection ends, and what follows is not read as a request */
};
#define ROW(bytes, status, refused)                                                                                              \
    {                                                                                                                            \
        bytes, sizeof(bytes) - 1, status, refused                                                                                \
    }
#define FINE(bytes) ROW(bytes, 200, 0)
#define BAD(bytes)  ROW(bytes, 400, 1)
/* By libmicrohttpd before 1.0, and since: the later one reads fields as their grammar says, and refuses some by itself. */
#define BY_AGE(old, now) (MHD_VERSION < 0x01000000 ? (old) : (now))

static const struct row rows[] = {
    FINE("GET /livez HTTP/1.1\r\n" H "\r\n"),
    FINE("HEAD /livez HTTP/1.1\r\n" H "\r\n"),
    FINE("\r\nGET /livez HTTP/1.1\r\n" H "\r\n"),
    FINE("GET http://a/livez HTTP/1.1\r\n" H "\r\n"),
    FINE("GET https://a/livez HTTP/1.1\r\n" H "\r\n"),
    FINE("OPTIONS * HTTP/1.1\r\n" H "\r\n"),
    FINE("OPTIONS /predict HTTP/1.1\r\n" H "\r\n"),
    FINE("GET /livez HTTP/1.1\r\n" H "X-Empty:\r\nX-Blanks: \t \r\nX-Tab:\ta\tb\r\n\r\n"),
    FINE("GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
    ROW("GET /livez HTTP/1.0\r\n\r\n", 200, 1),
    ROW("GET /livez HTTP/1.1\r\n" H "Connection: close\r\n\r\n", 200, 1),
    FINE("GET /livez HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhello"),
    FINE("POST / HTTP/1.1\r\n" H "\r\n"),
    FINE("POST / HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n"),
    FINE("POST / HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhello"),
    FINE("POST / HTTP/1.1\r\n" H "Content-Length: 32\r\n\r\n" NEXT),
    FINE("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    FINE("POST / HTTP/1.1\r\n" H "Transfer-Encoding: CHUNKED\r\n\r\nA\r\nhelloworld\r\n0001\r\n!\r\n00\r\n\r\n"),
    ROW("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\nA;a=b\r\nhelloworld\r\n0\r\n\r\n", BY_AGE(200, 400),
        BY_AGE(0, 1)),
    /* trailer fields are read, and end the connection */
    ROW("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Sum: 1\r\n\r\n", 200, 1),
    ROW("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX: 1\r\n: 2\r\n", BY_AGE(200, 400), 1),
    ROW("GET /nothing HTTP/1.1\r\n" H "\r\n", 404, 0),
    ROW("OPTIONS /nothing HTTP/1.1\r\n" H "\r\n", 404, 0),
    ROW("PUT /livez HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhello", 405, 0),
    ROW("POST /predict HTTP/1.1\r\n" H "\r\n", 411, 0),
    ROW("POST /predict HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n", 404, 0), /* no model is loaded */

    /* the request line */
    BAD("GET /livez HTTP/1.1\n" H "\r\n"),
    BAD("GET  /livez HTTP/1.1\r\n" H "\r\n"),
    ROW("GET /li vez HTTP/1.1\r\n" H "\r\n", BY_AGE(0, 400), 1),
    ROW("GET /livez?\0 HTTP/1.1\r\n" H "\r\n", BY_AGE(400, 0), 1),
    ROW("GET /livez\0x HTTP/1.1\r\n" H "\r\n", BY_AGE(400, 0), 1),
    BAD("GET /livez%00 HTTP/1.1\r\n" H "\r\n"),
    BAD("GET /livez\x80 HTTP/1.1\r\n" H "\r\n"),
    BAD("GET /livez#top HTTP/1.1\r\n" H "\r\n"),
    BAD("GET livez HTTP/1.1\r\n" H "\r\n"),
    BAD("GET * HTTP/1.1\r\n" H "\r\n"),
    BAD("GET http://b/livez HTTP/1.1\r\n" H "\r\n"),
    BAD("G(T /livez HTTP/1.1\r\n" H "\r\n"),
    BAD("GET1234567890123456789012345678901 /livez HTTP/1.1\r\n" H "\r\n"),
    ROW("GET /livez HTTP/1.1 \r\n" H "\r\n", 4, 1),
    ROW("GET /livez http/1.1\r\n" H "\r\n", 4, 1),
    ROW("GET /livez HTTP/11\r\n" H "\r\n", 4, 1),
    ROW("GET /livez\r\n" H "\r\n", 4, 1),
    ROW("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, 1),
    ROW("CONNECT a:80 HTTP/1.1\r\n" H "\r\n", 405, 1),
    ROW("TRACE /livez HTTP/1.1\r\n" H "\r\n", 405, 1),

    /* the header's lines */
    BAD("GET /livez HTTP/1.1\r\n\r\n"),
    BAD("GET /livez HTTP/1.1\r\n" H H "\r\n"),
    BAD("GET /livez HTTP/1.1\r\nHost: a@b\r\n\r\n"),
    BAD("GET /livez HTTP/1.1\r\nHost: a\n\r\n"),
    BAD("GET /livez HTTP/1.1\r\n" H "X: a\nContent-Length: 32\r\n\r\n"),
    BAD("GET /livez HTTP/1.1\r\n" H "X: a\rContent-Length: 32\r\n\r\n"),
    BAD("GET /livez HTTP/1.1\r\n" H "X: a\0b\r\n\r\n"),
    BAD("GET /livez HTTP/1.1\r\n" H "X: a\x7f\r\n\r\n"),
    BAD("GET /livez HTTP/1.1\r\n" H "X\0: a\r\n\r\n"),
    BAD("GET /livez HTTP/1.1\r\n" H "X: a\r\n b\r\n\r\n"),
    BAD("GET /livez HTTP/1.1\r\n" H "X : a\r\n\r\n"),
    BAD("GET /livez HTTP/1.1\r\n" H "X\x80: a\r\n\r\n"),
    BAD("GET /livez HTTP/1.1\r\n" H "no colon\r\n\r\n"),
    BAD("GET /livez HTTP/1.1\r\n: a\r\n" H "\r\n"),
    BAD("POST / HTTP/1.1\r\n" H ": x\r\nContent-Length: 32\r\n\r\n"), /* libmicrohttpd's header ends before the length */
    BAD("POST / HTTP/1.1\r\n" H ":\r\nTransfer-Encoding: chunked\r\n\r\n"),
    BAD("POST / HTTP/1.1\r\n" H "\0: x\r\nTransfer-Encoding: chunked\r\n\r\n"),
    BAD("POST / HTTP/1.1\r\n" H "Content-Type: a/b\r\nContent-Type: c/d\r\n\r\n"),

    /* how long the body is */
    BAD("POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    BAD("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
    BAD("POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
    BAD("POST / HTTP/1.1\r\n" H "Content-Length: 0\r\nContent-Length: 32\r\n\r\n"),
    BAD("POST / HTTP/1.1\r\n" H "Content-Length: 5, 5\r\n\r\nhello"),
    BAD("POST / HTTP/1.1\r\n" H "Content-Length: +5\r\n\r\nhello"),
    BAD("POST / HTTP/1.1\r\n" H "Content-Length: -1\r\n\r\n"),
    BAD("POST / HTTP/1.1\r\n" H "Content-Length: 0x5\r\n\r\nhello"),
    BAD("POST / HTTP/1.1\r\n" H "Content-Length: 05\r\n\r\nhello"),
    BAD("POST / HTTP/1.1\r\n" H "Content-Length: 5 5\r\n\r\nhello"),
    ROW("POST / HTTP/1.1\r\n" H "Content-Length: 5 \r\n\r\nhello", BY_AGE(400, 200), BY_AGE(1, 0)),
    BAD("POST / HTTP/1.1\r\n" H "Content-Length:\r\n\r\nhello"),
    BAD("POST / HTTP/1.1\r\n" H "Content-Length:\r\n 32\r\n\r\n"),
    BAD("POST / HTTP/1.1\r\n" H "Content-Length : 32\r\n\r\n"),
    ROW("POST / HTTP/1.1\r\n" H "Content-Length: 99999999999999999999\r\n\r\n", 413, 1),
    ROW("POST / HTTP/1.1\r\n" H "Content-Length: 81921\r\n\r\n", 413, 1),
    ROW("POST / HTTP/1.1\r\n" H "Content-Length: 81921\r\nExpect: 100-continue\r\n\r\n", 413, 1),
    BAD("POST / HTTP/1.1\r\n" H "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    BAD("POST / HTTP/1.1\r\n" H "Transfer-Encoding: identity\r\n\r\n"),
    ROW("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked \r\n\r\n0\r\n\r\n", BY_AGE(400, 200), BY_AGE(1, 0)),
    BAD("POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    BAD("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    BAD("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
    BAD("POST / HTTP/1.1\r\n" H "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    BAD("POST / HTTP/1.1\r\n" H "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    BAD("POST / HTTP/1.1\r\n" H "Transfer-Encoding: \x0b"
        "chunked\r\n\r\n0\r\n\r\n"),
    BAD("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),

    /* chunks */
    BAD("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n0\r\n\r\n"),
    BAD("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n"),
    BAD("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n"),
    BAD("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n 1\r\nx\r\n0\r\n\r\n"),
    BAD("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1 \r\nx\r\n0\r\n\r\n"),
    BAD("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n;a\r\nx\r\n0\r\n\r\n"),
    BAD("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n\r\n0\r\n\r\n"),
    BAD("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n"),
    BAD("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1\r\nx0\r\n\r\n"),
    ROW("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n", 413, 1),
};

static const char *readable(const char *bytes, size_t len)
{
    static char out[600];
    size_t n = 0;
    for (size_t i = 0; i < len && n + 5 < sizeof out; i++)
        n += (size_t)snprintf(out + n, sizeof out - n,
                              (unsigned char)bytes[i] < 32 || (unsigned char)bytes[i] > 126 ? "\\x%02x" : "%c",
                              (unsigned char)bytes[i]);
    return out;
}

static int is_as_wanted(int status, int wanted)
{
    return wanted == 4 ? status >= 400 && status < 500 : status == wanted;
}

/* 1 when the row is answered as it says. */
static int try_row(const struct row *r, size_t at_a_time)
{
    struct client c;
    client_open(&c);
    c.head = strncmp(r->bytes, "HEAD", 4) == 0;
    client_send(&c, r->bytes, r->len, at_a_time);
    client_send(&c, NEXT, sizeof NEXT - 1, sizeof NEXT);
    int first = client_reply(&c);
    c.head = 0;
    int second = first == 0 ? 0 : client_reply(&c), fine = is_as_wanted(first, r->status) && second == (r->refused ? 0 : 200);
    if (!fine)
        print_error("%s\n    %zu bytes at a time: wanted %d, then %d; came %d, then %d\n", readable(r->bytes, r->len), at_a_time,
                    r->status, r->refused ? 0 : 200, first, second);
    client_close(&c);
    return fine;
}

static void tables(void **state)
{
    int bad = 0;
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        bad += !try_row(&rows[i], rows[i].len) + !try_row(&rows[i], 1);
    assert_int_equal(bad, 0);
}

/* ---- what no table holds */

static void pipelining(void **state)
{
    enum { COUNT = 100 };
    struct client c;
    (void)state;
    client_open(&c);
    for (int i = 0; i < COUNT; i++) {
        char request[200];
        int n = snprintf(request, sizeof request, "POST / HTTP/1.1\r\n" H "X-Request-Id: n%d\r\nContent-Length: %d\r\n\r\n%.*s",
                         i, i % 10, i % 10, "0123456789");
        client_send(&c, request, (size_t)n, (size_t)n);
    }
    for (int i = 0; i < COUNT; i++) {
        char id[40];
        size_t from = c.read;
        assert_int_equal(client_reply(&c), 200);
        snprintf(id, sizeof id, "X-Request-Id: n%d\r\n", i);
        const char *found = strstr(c.text + from, id);
        assert_true(found && found < c.text + c.read);
    }
    client_close(&c);
}

static void expect_continue(void **state)
{
    struct client c;
    (void)state;
    client_open(&c);
    const char *header = "POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    client_send(&c, header, strlen(header), strlen(header));
    assert_int_equal(client_reply(&c), 100);
    client_send(&c, "hello" NEXT, 5 + sizeof NEXT - 1, 100);
    assert_int_equal(client_reply(&c), 200);
    assert_int_equal(client_reply(&c), 200);
    client_close(&c);
    /* a final answer instead of 100 when it will not be read: a client that waits must not send for nothing */
    client_open(&c);
    header = "PUT /livez HTTP/1.1\r\n" H "Content-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    client_send(&c, header, strlen(header), strlen(header));
    assert_int_equal(client_reply(&c), 405);
    assert_int_equal(client_reply(&c), 0);
    client_close(&c);
}

static char *fill(char *at, char c, size_t n)
{
    memset(at, c, n);
    return at + n;
}

/* first, then n times c, then last; the status of the reply. */
static int flood(const char *first, char c, size_t n, const char *last)
{
    struct client client;
    char *bytes = malloc(strlen(first) + n + strlen(last) + 1);
    assert_non_null(bytes);
    char *end = fill(stpcpy(bytes, first), c, n);
    end = stpcpy(end, last);
    client_open(&client);
    client_send(&client, bytes, (size_t)(end - bytes), 4096);
    int status = client_reply(&client);
    if (status >= 400)
        assert_int_equal(client_reply(&client), 0);
    client_close(&client);
    free(bytes);
    return status;
}

static int many_fields(int n)
{
    char *bytes = malloc(64 + 16 * (size_t)n), *end;
    struct client c;
    assert_non_null(bytes);
    end = stpcpy(bytes, "GET /livez HTTP/1.1\r\n" H);
    for (int i = 1; i < n; i++)
        end += sprintf(end, "X-%d: y\r\n", i);
    end = stpcpy(end, "\r\n");
    client_open(&c);
    client_send(&c, bytes, (size_t)(end - bytes), (size_t)(end - bytes));
    int status = client_reply(&c);
    client_close(&c);
    free(bytes);
    return status;
}

/* first, n times one, last. */
static int many(const char *first, const char *one, int n, const char *last)
{
    char *bytes = malloc(strlen(first) + strlen(one) * (size_t)n + strlen(last) + 1), *end;
    struct client c;
    assert_non_null(bytes);
    end = stpcpy(bytes, first);
    for (int i = 0; i < n; i++)
        end = stpcpy(end, one);
    end = stpcpy(end, last);
    client_open(&c);
    client_send(&c, bytes, (size_t)(end - bytes), (size_t)(end - bytes));
    int status = client_reply(&c);
    client_close(&c);
    free(bytes);
    return status;
}

static int many_cookies(int n)
{
    return many("GET /livez HTTP/1.1\r\n" H "Cookie: ", "a=b; ", n, "\r\n\r\n");
}

static int many_chunks(int n)
{
    return many("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n", n, "0\r\n\r\n");
}

static void limits(void **state)
{
    static const char chunked[] = "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n";
    char first[200];
    (void)state;
    assert_int_equal(many_fields(100), 200);
    assert_int_equal(many_fields(101), 431);
    assert_int_equal(many_fields(9000), 431);
    assert_int_equal(flood("GET /livez HTTP/1.1\r\n" H "X: ", 'x', 32000, "\r\n\r\n"), 200);
    assert_int_equal(flood("GET /livez HTTP/1.1\r\n" H "X: ", 'x', 32768, "\r\n\r\n"), 431);
    assert_int_equal(flood("GET /livez HTTP/1.1\r\n" H "X: ", 'x', 1000000, "\r\n\r\n"), 431);
    assert_int_equal(flood("GET /", 'x', 1000000, " HTTP/1.1\r\n" H "\r\n"), 414);
    assert_int_equal(flood("GET /livez?a", '&', 255, " HTTP/1.1\r\n" H "\r\n"), 200);
    assert_int_equal(flood("GET /livez?a", '&', 256, " HTTP/1.1\r\n" H "\r\n"), 414);
    /* more of them than libmicrohttpd has room for: it ends the connection, and what belongs to the request goes with it */
    assert_int_equal(many_cookies(6000), BY_AGE(0, 431));
    int method = flood("", 'M', 1000000, " / HTTP/1.1\r\n" H "\r\n");
    assert_true((method >= 400 && method < 500) || method == BY_AGE(400, 0));
    assert_int_equal(flood("POST / HTTP/1.1\r\n" H "Content-Length: 81920\r\n\r\n", 'x', 81920, ""), 200);
    snprintf(first, sizeof first, "%s14000\r\n", chunked);
    assert_int_equal(flood(first, 'x', 81920, "\r\n0\r\n\r\n"), 200);
    snprintf(first, sizeof first, "%s14001\r\n", chunked);
    assert_int_equal(flood(first, 'x', 81921, "\r\n0\r\n\r\n"), 413);
    snprintf(first, sizeof first, "%s1;a=", chunked);
    assert_int_equal(flood(first, 'x', 65536, "\r\nx\r\n0\r\n\r\n"), BY_AGE(200, 400));
    assert_int_equal(many_chunks(65536), 200);
    assert_int_equal(many_chunks(65537), 413);
}

/* A body that never ends is told so; one whose sender goes away leaves nothing behind. */
static void short_bodies(void **state)
{
    static const char *const begun[] = {"POST / HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhel",
                                        "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5\r\nhel",
                                        "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
                                        "GET /livez HTTP/1.1\r\nHost: a\r\nX", "GET /li"};
    struct http_server *patient = server;
    (void)state;
    server = http_server_start("[server]\nheader_timeout = 300ms\nbody_timeout = 300ms\n");
    for (size_t i = 0; i < sizeof begun / sizeof begun[0]; i++) {
        struct client c;
        client_open(&c);
        client_send(&c, begun[i], strlen(begun[i]), strlen(begun[i]));
        int status = client_reply(&c);
        /* a request line that is not whole is not known as a request yet */
        assert_int_equal(status, i < 4 ? 408 : 0);
        assert_int_equal(client_reply(&c), 0);
        client_close(&c);
        client_open(&c);
        client_send(&c, begun[i], strlen(begun[i]), strlen(begun[i]));
        shutdown(c.fd, SHUT_WR);
        status = client_reply(&c);
        assert_true(status == 0 || status == 408);
        client_close(&c);
        client_open(&c); /* a reset */
        client_send(&c, begun[i], strlen(begun[i]), strlen(begun[i]));
        client_close(&c);
    }
    assert_true(try_row(&rows[0], 1));
    http_server_stop(server);
    server = patient;
}

/* Answered, and then not kept for as long as idle_timeout: its client has said that nothing more will come. */
static void half_closed(void **state)
{
    struct client c;
    time_t begin = time(NULL);
    (void)state;
    client_open(&c);
    client_send(&c, NEXT NEXT, 2 * (sizeof NEXT - 1), 1000);
    shutdown(c.fd, SHUT_WR);
    assert_int_equal(client_reply(&c), 200);
    assert_int_equal(client_reply(&c), 200);
    assert_int_equal(client_reply(&c), 0);
    assert_true(time(NULL) - begin < 30);
    client_close(&c);
}

static int start(void **state)
{
    (void)state;
    server = http_server_start("[server]\nmax_body = 80K\nidle_timeout = 60s\nheader_timeout = 60s\nbody_timeout = 60s\n");
    return server ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    http_server_stop(server);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(tables),          cmocka_unit_test(pipelining),
                                       cmocka_unit_test(expect_continue), cmocka_unit_test(limits),
                                       cmocka_unit_test(short_bodies),    cmocka_unit_test(half_closed)};
    return cmocka_run_group_tests(tests, start, stop);
}

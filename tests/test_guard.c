// SPDX-License-Identifier: MIT
//
// test_guard.c - the request guard rule by rule, loopback names, the query string, the constant-time comparison.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "daemon/access.h"
#include "daemon/guard.h"
#include "daemon/query.h"
#include "daemon/raw.h"

/* headers: "Name: value\n..." */
static struct guard_result check(const char *method, const char *uri, const char *version, const char *headers)
{
    static struct guard_request r;
    struct guard_result out;
    r = (struct guard_request){.method = method, .uri = uri, .version = version, .body_max = 1000};
    for (const char *p = headers; *p;) {
        const char *colon = strstr(p, ": "), *end = strchr(p, '\n');
        r.headers[r.header_count++] = (struct guard_header){p, colon + 2, (size_t)(colon - p), (size_t)(end - colon - 2)};
        p = end + 1;
    }
    guard_check(&r, &out);
    return out;
}

static void rules(void **state)
{
    static const struct {
        const char *method, *uri, *version, *headers;
        int status;
    } cases[] = {
        {"GET", "/", "HTTP/1.1", "Host: a\n", 0},
        {"GET", "/", "HTTP/1.0", "", 0},
        {"GET", "/", "HTTP/1.1", "", 400},
        {"GET", "/", "HTTP/1.1", "Host: a\nHost: a\n", 400},
        {"GET", "/", "HTTP/1.1", "Host: \n", 400},
        {"GET", "/", "HTTP/1.1", "Host: a@b\n", 400},
        {"GET", "/", "HTTP/1.1", "Host: a/b\n", 400},
        {"GET", "/", "HTTP/1.1", "Host: a,b\n", 400},
        {"GET", "/", "HTTP/1.1", "Host: a b\n", 400},
        {"GET", "/", "HTTP/1.1", "Host: a?\n", 400},
        {"GET", "/", "HTTP/1.1", "Host: a:80\n", 0},
        {"GET", "/", "HTTP/1.1", "Host: a:\n", 0},
        {"GET", "/", "HTTP/1.1", "Host: a:8x\n", 400},
        {"GET", "/", "HTTP/1.1", "Host: a:123456\n", 400},
        {"GET", "/", "HTTP/1.1", "Host: :80\n", 400},
        {"GET", "/", "HTTP/1.1", "Host: [::1]:80\n", 0},
        {"GET", "/", "HTTP/1.1", "Host: [::1\n", 400},
        {"GET", "/", "HTTP/1.1", "Host: [::g]\n", 400},
        {"GET", "/", "HTTP/1.1", "Host: [::1]x\n", 400},
        {"GET", "/", "HTTP/2.0", "Host: a\n", 505},
        {"GET", "/", "HTTP/1.2", "Host: a\n", 0},
        {"GET", "/", "HTTP/01.1", "Host: a\n", 400},
        {"GET", "/", "", "Host: a\n", 400},
        {"GET", "/", "XTTP/1.1", "Host: a\n", 400},
        {"GET", "/", "HTTP/:.1", "Host: a\n", 400},
        {"GET", "/", "HTTP//.1", "Host: a\n", 400},
        {"GET", "/", "HTTP/1x1", "Host: a\n", 400},
        {"GET", "/", "HTTP/1./", "Host: a\n", 400},
        {"GET", "/", "HTTP/1.:", "Host: a\n", 400},
        {"GET", "/", "HTTP/1.10", "Host: a\n", 400},
        {"abcdefghijklmnopqrstuvwxyz012345", "/", "HTTP/1.1", "Host: a\n", 0},
        {"abcdefghijklmnopqrstuvwxyz0123456", "/", "HTTP/1.1", "Host: a\n", 400},
        {"G[T", "/", "HTTP/1.1", "Host: a\n", 400},
        {"G{T", "/", "HTTP/1.1", "Host: a\n", 400},
        {"G~|9T", "/", "HTTP/1.1", "Host: a\n", 0},
        {"G T", "/", "HTTP/1.1", "Host: a\n", 400},
        {"", "/", "HTTP/1.1", "Host: a\n", 400},
        {"CONNECT", "/", "HTTP/1.1", "Host: a\n", 405},
        {"TRACE", "/", "HTTP/1.1", "Host: a\n", 405},
        {"GET", "/a b", "HTTP/1.1", "Host: a\n", 400},
        {"GET", "/a\x80", "HTTP/1.1", "Host: a\n", 400},
        {"GET", "/a#b", "HTTP/1.1", "Host: a\n", 400},
        {"GET", "/a\\b", "HTTP/1.1", "Host: a\n", 400},
        {"GET", "/a%00", "HTTP/1.1", "Host: a\n", 400},
        {"GET", "/a%20", "HTTP/1.1", "Host: a\n", 0},
        {"GET", "/a%0a", "HTTP/1.1", "Host: a\n", 0},
        {"GET", "/a%", "HTTP/1.1", "Host: a\n", 0},
        {"GET", "/a%0", "HTTP/1.1", "Host: a\n", 0},
        {"GET", "a", "HTTP/1.1", "Host: a\n", 400},
        {"GET", "*", "HTTP/1.1", "Host: a\n", 400},
        {"OPTIONS", "*", "HTTP/1.1", "Host: a\n", 0},
        {"GET", "http://a/x", "HTTP/1.1", "Host: a\n", 0},
        {"GET", "http://b/x", "HTTP/1.1", "Host: a\n", 400},
        {"GET", "HTTPS://a/x", "HTTP/1.1", "Host: a\n", 0},
        {"GET", "https://b/x", "HTTP/1.1", "Host: a\n", 400},
        {"GET", "ftp://a/x", "HTTP/1.1", "Host: a\n", 400},
        {"GET", "http:///x", "HTTP/1.1", "Host: a\n", 400},
        {"GET", "http://ab/x", "HTTP/1.1", "Host: a\n", 400},
        {"GET", "http://a/x", "HTTP/1.0", "", 0},
        {"GET", "http://a?x", "HTTP/1.1", "Host: a\n", 0},
        {"GET", "http://a", "HTTP/1.1", "Host: a\n", 0},
        {"OPTIONS", "/", "HTTP/1.1", "Host: a\n", 0},
        {"GET", "/", "HTTP/1.1", "Host: A{b\n", 400},
        {"GET", "/", "HTTP/1.1", "Host: Z9z-._~\n", 0},
        {"GET", "/", "HTTP/1.1", "Host: a[b]\n", 400},
        {"GET", "/", "HTTP/1.1", "Host: a;b=c\n", 0},
        {"GET", "/", "HTTP/1.1", "Host: a<b\n", 400},
        {"GET", "/", "HTTP/1.1", "Host: [::FFFF:127.0.0.1]\n", 0},
        {"GET", "/", "HTTP/1.1", "Host: [::G]\n", 400},
        {"GET", "/", "HTTP/1.1", "Host: [::/]\n", 400},
        {"GET", "/", "HTTP/1.1", "Host: a:/\n", 400},
        {"GET", "/", "HTTP/1.1", "Host: a\nX: a\tb\n", 0},
        {"GET", "/", "HTTP/1.1", "Host: a\nX: a\x7f\n", 400},
        {"GET", "/", "HTTP/1.1", "Host: a\nX Y: 1\n", 400},
        {"GET", "/", "HTTP/1.1", "Host: a\nX : 1\n", 400},
        {"GET", "/", "HTTP/1.1", "Host: a\n: 1\n", 400},
        {"GET", "/", "HTTP/1.1", "Host: a\nX: a\rb\n", 400},
        {"GET", "/", "HTTP/1.1", "Host: a\nX: a\x7f\n", 400},
        {"GET", "/", "HTTP/1.1", "Host: a\nX: a\tb\n", 0},
        {"POST", "/", "HTTP/1.1", "Host: a\nContent-Length: 5\n", 0},
        {"POST", "/", "HTTP/1.1", "Host: a\ncontent-length: 5\nContent-Length: 5\n", 400},
        {"POST", "/", "HTTP/1.1", "Host: a\nContent-Length: +5\n", 400},
        {"POST", "/", "HTTP/1.1", "Host: a\nContent-Length: 05\n", 400},
        {"POST", "/", "HTTP/1.1", "Host: a\nContent-Length: 0\n", 0},
        {"POST", "/", "HTTP/1.1", "Host: a\nContent-Type: a/b\nOrigin: null\nAuthorization: x\nExpect: y\n", 0},
        {"POST", "/", "HTTP/1.1", "Host: a\nContent-Type: a/b\nX: y\ncontent-type: a/b\n", 400},
        {"POST", "/", "HTTP/1.1", "Host: a\nContent-Encoding: identity\nContent-Encoding: gzip\n", 400},
        {"POST", "/", "HTTP/1.1", "Host: a\nInference-Header-Content-Length: 1\nInference-Header-Content-Length: 2\n", 400},
        {"POST", "/", "HTTP/1.1", "Host: a\nOrigin: null\nOrigin: null\n", 400},
        {"POST", "/", "HTTP/1.1", "Host: a\nAuthorization: x\nAuthorization: x\n", 400},
        {"POST", "/", "HTTP/1.1", "Host: a\nExpect: x\nExpect: y\n", 400},
        {"POST", "/", "HTTP/1.1", "Host: a\nContent-Length: 5, 5\n", 400},
        {"POST", "/", "HTTP/1.1", "Host: a\nContent-Length: \n", 400},
        {"POST", "/", "HTTP/1.1", "Host: a\nContent-Length: 1234567890123456789\n", 400},
        {"POST", "/", "HTTP/1.1", "Host: a\nContent-Length: 1000\n", 0},
        {"POST", "/", "HTTP/1.1", "Host: a\nContent-Length: 1001\n", 413},
        {"POST", "/", "HTTP/1.1", "Host: a\nTransfer-Encoding: chunked\n", 0},
        {"POST", "/", "HTTP/1.1", "Host: a\nTransfer-Encoding: Chunked\n", 0},
        {"POST", "/", "HTTP/1.1", "Host: a\nTransfer-Encoding: gzip, chunked\n", 400},
        {"POST", "/", "HTTP/1.1", "Host: a\nTransfer-Encoding: deflate\n", 400},
        {"POST", "/", "HTTP/1.1", "Host: a\nTransfer-Encoding: chunked\nTransfer-Encoding: chunked\n", 400},
        {"POST", "/", "HTTP/1.1", "Host: a\nTransfer-Encoding: chunked\nContent-Length: 5\n", 400},
        {"POST", "/", "HTTP/1.0", "Transfer-Encoding: chunked\n", 400},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct guard_result g = check(cases[i].method, cases[i].uri, cases[i].version, cases[i].headers);
        if (g.status != cases[i].status)
            print_message("case %zu: %s %s %s '%s': %d, wanted %d (%s)\n", i, cases[i].method, cases[i].uri, cases[i].version,
                          cases[i].headers, g.status, cases[i].status, g.detail ? g.detail : "");
        assert_int_equal(g.status, cases[i].status);
        assert_int_equal(g.detail != NULL, g.status != 0);
    }
}

static void results(void **state)
{
    (void)state;
    struct guard_result g = check("POST", "/x?y", "HTTP/1.1", "Host: Pi.LOCAL:8080\nContent-Length: 7\n");
    assert_string_equal(g.host, "pi.local");
    assert_string_equal(g.path, "/x?y");
    assert_true(g.has_body && g.length == 7 && !g.chunked);
    g = check("POST", "http://a/z", "HTTP/1.1", "Host: a\nTransfer-Encoding: chunked\n");
    assert_string_equal(g.path, "/z");
    assert_true(g.has_body && g.length == -1 && g.chunked);
    g = check("POST", "/", "HTTP/1.1", "Host: a\nContent-Length: 0\n");
    assert_true(!g.has_body && g.length == 0);
    /* a NUL in a name, in a host: no string of a test above can hold one */
    struct guard_request nul = {.method = "GET", .uri = "/", .version = "HTTP/1.0", .header_count = 1};
    nul.headers[0] = (struct guard_header){"X\0Y", "1", 3, 1};
    guard_check(&nul, &g);
    assert_int_equal(g.status, 400);
    nul.headers[0] = (struct guard_header){"Host", "a\0b", 4, 3};
    guard_check(&nul, &g);
    assert_int_equal(g.status, 400);
    char host[GUARD_HOST_MAX + 1];
    memset(host, 'a', sizeof host);
    nul.headers[0] = (struct guard_header){"Host", host, 4, GUARD_HOST_MAX};
    guard_check(&nul, &g);
    assert_int_equal(g.status, 400);
    nul.headers[0].value_len--;
    guard_check(&nul, &g);
    assert_int_equal(g.status, 0);
    assert_int_equal(strlen(g.host), GUARD_HOST_MAX - 1);
    struct guard_request r = {.method = "GET", .uri = "/", .version = "HTTP/1.0", .too_large = 1};
    guard_check(&r, &g);
    assert_int_equal(g.status, 431);
    r.too_large = 0;
    r.hidden = 1;
    guard_check(&r, &g);
    assert_int_equal(g.status, 400);
}

/* As libmicrohttpd leaves it: NULs where lines and names ended, all the rest where it was. */
static void raw_bytes(void **state)
{
    static const char header[] = "GET\0/a\0HTTP/1.1\0\nHost\0 b\0\nX\0\t \0\n\r\n";
    const char *uri = header + 4, *version = uri + 3, *host = version + 10, *x = host + 9;
    struct guard_request r = {.method = header, .uri = uri, .version = version, .header_count = 2};
    (void)state;
    r.headers[0] = (struct guard_header){host, host + 6, 4, 1};
    r.headers[1] = (struct guard_header){x, x + 4, 1, 0};
    assert_true(raw_is_whole(&r, header, version, sizeof header - 1));
    assert_false(raw_is_whole(&r, header, version, sizeof header));     /* something behind the last field */
    assert_false(raw_is_whole(&r, header, version, sizeof header - 2)); /* not even the empty line */
    assert_false(raw_is_whole(&r, header + 1, version, sizeof header - 1));
    r.headers[1].name++; /* something before a name */
    assert_false(raw_is_whole(&r, header, version, sizeof header - 1));
    r.headers[1].name--;
    r.headers[0].value++; /* before a value */
    assert_false(raw_is_whole(&r, header, version, sizeof header - 1));
    r.headers[0].value--;
    r.headers[0].value_len--; /* behind it */
    assert_false(raw_is_whole(&r, header, version, sizeof header - 1));
}

static void loopback_names(void **state)
{
    static const char *const yes[] = {"localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "[::1]", "[0:0:0:0:0:0:0:1]"};
    static const char *const no[] = {"",
                                     ".localhost",
                                     "localhost.evil.example",
                                     "evil.example",
                                     "128.0.0.1",
                                     "127.0.0.1.evil.example",
                                     "[::2]",
                                     "::1",
                                     "[]",
                                     "0.0.0.0",
                                     "mylocalhost",
                                     "127.1",
                                     "[::1",
                                     "x::1]",
                                     "[x]",
                                     "[1::1]",
                                     "[0:0:1::1]",
                                     "[::1:0:0:1]"};
    char longest[GUARD_HOST_MAX + 2] = "";
    (void)state;
    memset(longest, '1', GUARD_HOST_MAX);
    longest[0] = '[';
    longest[GUARD_HOST_MAX - 1] = ']';
    longest[GUARD_HOST_MAX] = '\0';
    assert_false(guard_is_loopback_name(longest));
    for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++)
        assert_true(guard_is_loopback_name(yes[i]));
    for (size_t i = 0; i < sizeof no / sizeof no[0]; i++) {
        if (guard_is_loopback_name(no[i]))
            print_message("'%s' counts as loopback\n", no[i]);
        assert_false(guard_is_loopback_name(no[i]));
    }
}

static void queries(void **state)
{
    static const char *const bad[] = {
        "/?a=%", "/?a=%4", "/?a=%4g", "/?a=1&a=2", "/?a=%0a", "/?a=%7f", "/?a&b&c&d&e&f&g&h&i&j&k&l&m&n&o&p&q"};
    static const char *const known[] = {"top_k", "threshold", NULL};
    struct query q;
    struct err e;
    long n = 5;
    double v = 0.5;
    (void)state;
    assert_int_equal(query_parse("/p?top_k=3&x=a%20b+c&empty=&flag&&", &q, &e), 0);
    assert_int_equal(q.count, 4);
    assert_string_equal(query_get(&q, "x"), "a b c");
    assert_string_equal(query_get(&q, "empty"), "");
    assert_string_equal(query_get(&q, "flag"), "");
    assert_null(query_get(&q, "nothing"));
    assert_int_equal(query_int(&q, "nothing", 1, 10, &n, &e), 0);
    assert_int_equal(n, 5);
    assert_int_equal(query_int(&q, "top_k", 1, 10, &n, &e), 0);
    assert_int_equal(n, 3);
    assert_int_equal(query_int(&q, "top_k", 4, 10, &n, &e), -1);
    assert_int_equal(query_int(&q, "empty", 0, 10, &n, &e), -1);
    assert_int_equal(query_int(&q, "x", 0, 10, &n, &e), -1);
    assert_int_equal(query_only(&q, known, &e), -1);
    assert_int_equal(query_parse("/p?threshold=0.25", &q, &e), 0);
    assert_int_equal(query_only(&q, known, &e), 0);
    assert_int_equal(query_number(&q, "threshold", 0, 1, &v, &e), 0);
    assert_true(v == 0.25);
    static const char *const numbers[] = {"/?t=1e3", "/?t=nan", "/?t=inf", "/?t=-0.1", "/?t=1.01", "/?t=0x1", "/?t=", "/?t=."};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        assert_int_equal(query_parse(numbers[i], &q, &e), 0);
        assert_int_equal(query_number(&q, "t", 0, 1, &v, &e), -1);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(query_parse(bad[i], &q, &e), -1);
    char uri[1100];
    for (int extra = 0; extra <= 1; extra++) { /* name, value and both NULs fill the room exactly, or by one too many */
        int len = (int)sizeof q.text - 3 + extra;
        snprintf(uri, sizeof uri, "/?a=%0*d", len, 1);
        assert_int_equal(query_parse(uri, &q, &e), extra ? -1 : 0);
    }
}

static void tokens(void **state)
{
    static const char secret[ACCESS_TOKEN_SIZE] = "secret", none[ACCESS_TOKEN_SIZE] = "";
    char longest[ACCESS_TOKEN_SIZE] = "", too_long[ACCESS_TOKEN_SIZE + 2] = "";
    (void)state;
    assert_true(access_equal("secret", 6, secret));
    assert_false(access_equal("secreT", 6, secret));
    assert_false(access_equal("Secret", 6, secret));
    assert_false(access_equal("secre", 5, secret));
    assert_false(access_equal("secrett", 7, secret));
    assert_false(access_equal("", 0, secret));
    assert_false(access_equal("a", 1, none));
    memset(longest, 'x', sizeof longest - 1);
    memset(too_long, 'x', sizeof too_long - 1);
    assert_true(access_equal(longest, sizeof longest - 1, longest));
    assert_false(access_equal(too_long, sizeof longest, longest));
    assert_false(access_equal(too_long, sizeof too_long - 1, longest));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rules),          cmocka_unit_test(results), cmocka_unit_test(raw_bytes),
                                       cmocka_unit_test(loopback_names), cmocka_unit_test(queries), cmocka_unit_test(tokens)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

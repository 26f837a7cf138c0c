// SPDX-License-Identifier: MIT
//
// test_access.c - who may talk and who may change things, as tables of Host, Origin, forwarding headers, peers and tokens. The
// headers come from the test: there is no HTTP here.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "daemon/access.h"
#include "daemon/conn.h"
#include "daemon/log.h"
#include "daemon/request.h"
#include "tests/files.h"

/* "Name: value\n..." of the request under test */
static const char *headers;
const char *__wrap_MHD_lookup_connection_value(struct MHD_Connection *connection, enum MHD_ValueKind kind, const char *name);
const char *__wrap_MHD_lookup_connection_value(struct MHD_Connection *connection, enum MHD_ValueKind kind, const char *name)
{
    size_t n = strlen(name);
    (void)connection, (void)kind;
    for (const char *p = headers; *p; p = strchr(p, '\n') + 1)
        if (strncasecmp(p, name, n) == 0 && strncmp(p + n, ": ", 2) == 0) {
            static char kept[8][1024]; /* some answers are in use at the same time */
            static int next;
            char *value = kept[next++ % 8];
            snprintf(value, sizeof kept[0], "%.*s", (int)strcspn(p + n + 2, "\n"), p + n + 2);
            return value;
        }
    return NULL;
}

static char *dir, token_file[4096];

static struct conf conf;

enum peer { UNIX, LOOPBACK, REMOTE };

static struct request *request(enum peer peer, int bound_loopback, const char *all)
{
    static struct request r;
    static struct conn c;
    headers = all;
    c = (struct conn){.is_unix = peer == UNIX, .is_loopback = peer == LOOPBACK, .bound_loopback = bound_loopback};
    r = (struct request){.conn = &c, .conf = &conf, .http_11 = 1};
    const char *host = request_header(&r, "Host"), *type = request_header(&r, "Content-Type");
    if (host) { /* as the guard leaves it */
        size_t n = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");
        for (size_t i = 0; i < n; i++)
            r.guard.host[i] = (char)(host[i] >= 'A' && host[i] <= 'Z' ? host[i] + 32 : host[i]);
    }
    snprintf(r.content_type, sizeof r.content_type, "%s", type ? type : "");
    return &r;
}

/* DNS rebinding: a page under evil.example that leads the browser to 127.0.0.1 still names evil.example. */
static void hosts(void **state)
{
    static const struct {
        const char *host;
        int bound_loopback, allowed;
    } cases[] = {
        {"Host: 127.0.0.1\n", 1, 1},
        {"Host: 127.0.0.1:8080\n", 1, 1},
        {"Host: 127.255.255.254\n", 1, 1},
        {"Host: localhost\n", 1, 1},
        {"Host: LOCALHOST:1\n", 1, 1},
        {"Host: app.localhost\n", 1, 1},
        {"Host: [::1]:8080\n", 1, 1},
        {"", 1, 1}, /* HTTP/1.0 */
        {"Host: kitchen.lan\n", 1, 1},
        {"Host: Kitchen.LAN:80\n", 1, 1},
        {"Host: pi\n", 1, 1},
        {"Host: evil.example\n", 1, 0},
        {"Host: evil.example:8080\n", 1, 0},
        {"Host: 127.0.0.1.evil.example\n", 1, 0},
        {"Host: localhost.evil.example\n", 1, 0},
        {"Host: evil.localhost.example\n", 1, 0},
        {"Host: 192.168.1.7\n", 1, 0},
        {"Host: 0.0.0.0\n", 1, 0},
        {"Host: [::]\n", 1, 0},
        {"Host: [::ffff:192.0.2.1]\n", 1, 0},
        {"Host: 2130706433\n", 1, 0},
        {"Host: 0x7f.1\n", 1, 0},
        {"Host: 127.1\n", 1, 0},
        {"Host: 0177.0.0.1\n", 1, 0},
        {"Host: kitchen\n", 1, 0},
        {"Host: kitchen.la\n", 1, 0},
        {"Host: kitchen.lan.evil.example\n", 1, 0},
        {"Host: xkitchen.lan\n", 1, 0},
        {"Host: localhost.\n", 1, 0},
        {"Host: evil.example\n", 0, 1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int allowed = access_host(request(LOOPBACK, cases[i].bound_loopback, cases[i].host));
        if (allowed != cases[i].allowed)
            print_error("%s", cases[i].host);
        assert_int_equal(allowed, cases[i].allowed);
    }
}

#define JSON  "Content-Type: application/json\n"
#define LOCAL "Host: 127.0.0.1:8080\n"
#define TOKEN "correct-horse-battery-staple"

static void changes(void **state)
{
    static const struct {
        enum peer peer;
        int with_token_file, allowed;
        const char *headers;
    } cases[] = {
        {LOOPBACK, 0, 1, LOCAL JSON},
        {LOOPBACK, 1, 1, LOCAL JSON},
        {LOOPBACK, 0, 1, "Host: [::1]:8080\n" JSON},
        {LOOPBACK, 0, 1, "Host: localhost\nContent-Type: Application/JSON; charset=utf-8\n"},
        {LOOPBACK, 0, 1, LOCAL "Content-Type: application/json\t\n"},
        {UNIX, 0, 1, "Host: anything\n"},
        {UNIX, 0, 1, "Host: anything\nOrigin: http://evil.example\n"},
        {UNIX, 0, 0, "Host: anything\nX-Forwarded-For: 192.0.2.1\n"}, /* a proxy on the socket is not its clients */
        {UNIX, 1, 1, "Host: anything\nVia: 1.1 a\nAuthorization: Bearer " TOKEN "\n"},
        /* simple requests that any page may cause */
        {LOOPBACK, 0, 0, LOCAL},
        {LOOPBACK, 0, 0, LOCAL "Content-Type: text/plain\n"},
        {LOOPBACK, 0, 0, LOCAL "Content-Type: application/x-www-form-urlencoded\n"},
        {LOOPBACK, 0, 0, LOCAL "Content-Type: multipart/form-data; boundary=application/json\n"},
        {LOOPBACK, 0, 0, LOCAL "Content-Type: application/jsonp\n"},
        {LOOPBACK, 0, 0, LOCAL "Content-Type: text/plain; application/json\n"},
        /* names */
        {LOOPBACK, 0, 0, "Host: evil.example\n" JSON},
        {LOOPBACK, 0, 0, "Host: kitchen.lan\n" JSON}, /* allowed to ask, not to change */
        {LOOPBACK, 0, 0, JSON},
        /* origins */
        {LOOPBACK, 0, 1, LOCAL JSON "Origin: http://127.0.0.1:8080\n"},
        {LOOPBACK, 0, 1, LOCAL JSON "Origin: HTTPS://127.0.0.1:8080\n"},
        {LOOPBACK, 0, 0, LOCAL JSON "Origin: http://127.0.0.1:8081\n"},
        {LOOPBACK, 0, 0, LOCAL JSON "Origin: http://127.0.0.1\n"},
        {LOOPBACK, 0, 0, LOCAL JSON "Origin: http://localhost:8080\n"},
        {LOOPBACK, 0, 0, LOCAL JSON "Origin: http://evil.example\n"},
        {LOOPBACK, 0, 0, LOCAL JSON "Origin: http://127.0.0.1:8080.evil.example\n"},
        {LOOPBACK, 0, 0, LOCAL JSON "Origin: http://evil.example/127.0.0.1:8080\n"},
        {LOOPBACK, 0, 0, LOCAL JSON "Origin: file://127.0.0.1:8080\n"},
        {LOOPBACK, 0, 0, LOCAL JSON "Origin: 127.0.0.1:8080\n"},
        {LOOPBACK, 0, 0, LOCAL JSON "Origin: null\n"},
        {LOOPBACK, 0, 0, LOCAL JSON "Origin: \n"},
        /* forwarded: whatever the header says, it never widens */
        {LOOPBACK, 0, 0, LOCAL JSON "Forwarded: for=127.0.0.1\n"},
        {LOOPBACK, 0, 0, LOCAL JSON "X-Forwarded-For: 127.0.0.1\n"},
        {LOOPBACK, 0, 0, LOCAL JSON "X-Forwarded-Host: localhost\n"},
        {LOOPBACK, 0, 0, LOCAL JSON "X-Forwarded-Proto: https\n"},
        {LOOPBACK, 0, 0, LOCAL JSON "X-Forwarded-Port: 443\n"},
        {LOOPBACK, 0, 0, LOCAL JSON "X-Forwarded-Server: a\n"},
        {LOOPBACK, 0, 0, LOCAL JSON "X-Real-IP: 127.0.0.1\n"},
        {LOOPBACK, 0, 0, LOCAL JSON "Via: 1.1 a\n"},
        {REMOTE, 0, 0, LOCAL JSON},
        {REMOTE, 0, 0, LOCAL JSON "X-Forwarded-For: 127.0.0.1\nX-Real-IP: 127.0.0.1\nForwarded: for=127.0.0.1\n"},
        {REMOTE, 0, 0, LOCAL JSON "Origin: http://127.0.0.1:8080\n"},
        /* tokens */
        {REMOTE, 1, 1, "Authorization: Bearer " TOKEN "\n"},
        {REMOTE, 1, 1, "Host: evil.example\nVia: 1.1 a\nauthorization: bearer " TOKEN "\n"},
        {REMOTE, 1, 0, "Authorization: Bearer " TOKEN "x\n"},
        {REMOTE, 1, 0, "Authorization: Bearer correct-horse-battery-stapl\n"},
        {REMOTE, 1, 0, "Authorization: Bearer \n"},
        {REMOTE, 1, 0, "Authorization: Basic " TOKEN "\n"},
        {REMOTE, 1, 0, "Authorization: " TOKEN "\n"},
        {REMOTE, 1, 0, "Authorization: Bearer  " TOKEN "\n"},
        {REMOTE, 1, 0, LOCAL JSON},
        {REMOTE, 0, 0, "Authorization: Bearer " TOKEN "\n"}, /* there is none */
        {REMOTE, 0, 0, "Authorization: Bearer \n"},
        {LOOPBACK, 1, 0, LOCAL JSON "Authorization: Bearer wrong\n"}, /* who tries a token must have it */
    };
    char why[256];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        strcpy(why, "");
        conf.admin_token_file = cases[i].with_token_file ? token_file : (char *)"";
        int allowed = access_change(request(cases[i].peer, 1, cases[i].headers), why, sizeof why);
        if (allowed != cases[i].allowed)
            print_error("case %zu, peer %d: %s%s\n", i, (int)cases[i].peer, cases[i].headers, why);
        assert_int_equal(allowed, cases[i].allowed);
        assert_true(allowed || strlen(why) > 20);
        int details = access_details(request(cases[i].peer, 1, cases[i].headers));
        assert_int_equal(details, allowed || strstr(why, "need 'Content-Type") != NULL);
        assert_null(strstr(why, dir)); /* no path */
        assert_null(strstr(why, TOKEN));
    }
}

/* A page of another site may link to us, and no more. */
static void sites(void **state)
{
    static const struct {
        const char *method, *headers;
        int allowed;
    } cases[] = {
        {"POST", LOCAL, 1},
        {"POST", LOCAL "Sec-Fetch-Site: none\n", 1},
        {"POST", LOCAL "Sec-Fetch-Site: same-origin\n", 1},
        {"POST", LOCAL "Sec-Fetch-Site: same-site\n", 1},
        {"POST", LOCAL "Sec-Fetch-Site: cross-site\n", 0},
        {"PUT", LOCAL "sec-fetch-site: Cross-Site\n", 0},
        {"POST", "Host: evil.example\nSec-Fetch-Site: cross-site\n", 0},
        {"GET", LOCAL "Sec-Fetch-Site: cross-site\n", 1},
        {"HEAD", LOCAL "Sec-Fetch-Site: cross-site\n", 1},
        {"OPTIONS", LOCAL "Sec-Fetch-Site: cross-site\n", 1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct request *r = request(LOOPBACK, 1, cases[i].headers);
        snprintf(r->method, sizeof r->method, "%s", cases[i].method);
        if (access_site(r) != cases[i].allowed)
            fail_msg("%s, %s", cases[i].method, cases[i].headers);
    }
}

/* Who is on the same machine may be a proxy that says nothing of whom it serves. */
static void loopback(void **state)
{
    static const struct {
        enum peer peer;
        int loopback_changes, http_11, allowed;
        const char *headers;
    } cases[] = {
        {LOOPBACK, 1, 1, 1, LOCAL JSON},
        {LOOPBACK, 1, 0, 0, LOCAL JSON},
        {LOOPBACK, 0, 1, 0, LOCAL JSON},
        {LOOPBACK, 0, 1, 0, "Host: localhost\nOrigin: http://localhost\n" JSON},
        {LOOPBACK, 0, 0, 1, LOCAL "Authorization: Bearer " TOKEN "\n"},
        {REMOTE, 1, 1, 0, LOCAL JSON},
        {UNIX, 0, 0, 1, LOCAL},
    };
    char why[256];
    (void)state;
    conf.admin_token_file = token_file;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct request *r = request(cases[i].peer, 1, cases[i].headers);
        conf.loopback_changes = cases[i].loopback_changes;
        r->http_11 = cases[i].http_11;
        if (access_change(r, why, sizeof why) != cases[i].allowed || access_details(r) != cases[i].allowed)
            fail_msg("case %zu: %s", i, why);
    }
    conf.loopback_changes = 1;
}

/* What is in the file: its first line without blanks at its end, at least 16 characters. */
static void token_files(void **state)
{
    static const struct {
        const char *text, *given;
        int allowed;
    } cases[] = {
        {TOKEN, TOKEN, 1},
        {TOKEN "\n", TOKEN, 1},
        {TOKEN " \t\r\nsecond line\n", TOKEN, 1},
        {"0123456789abcdef", "0123456789abcdef", 1},
        {"0123456789abcde", "0123456789abcde", 0},
        {"\n" TOKEN, TOKEN, 0},
        {"\n" TOKEN, "", 0},
        {"", "", 0},
        {"                      \n", "", 0},
    };
    char why[256], all[256];
    (void)state;
    conf.admin_token_file = token_file;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        files_write(dir, "token", cases[i].text, strlen(cases[i].text));
        snprintf(all, sizeof all, "Authorization: Bearer %s\n", cases[i].given);
        if (access_change(request(REMOTE, 0, all), why, sizeof why) != cases[i].allowed)
            fail_msg("token file %zu", i);
    }
    assert_int_equal(remove(token_file), 0);
    snprintf(all, sizeof all, "Authorization: Bearer %s\n", TOKEN);
    assert_int_equal(access_change(request(REMOTE, 0, all), why, sizeof why), 0);
}

static int start(void **state)
{
    (void)state;
    dir = files_make_dir();
    snprintf(token_file, sizeof token_file, "%s/token", dir);
    conf.loopback_changes = 1;
    conf.hosts = (char *)"kitchen.lan pi";
    log_setup(LOG_LEVEL_ERROR, LOG_TEXT, LOG_PREFIX_OFF);
    files_write(dir, "token", TOKEN "\n", sizeof TOKEN);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    files_remove_dir(dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(hosts), cmocka_unit_test(changes), cmocka_unit_test(sites),
                                       cmocka_unit_test(loopback), cmocka_unit_test(token_files)};
    return cmocka_run_group_tests(tests, start, stop);
}

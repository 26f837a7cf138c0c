// SPDX-License-Identifier: MIT
//
// test_log.c - what clients send cannot write the log: every place of a request that may get there holds every kind of hostile
// text, in both formats, with and without the journal's prefix. One event stays one line of printable characters, a line of JSON
// stays an object, and a value stays in its place.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "daemon/log.h"
#include "models/json.h"
#include "tests/files.h"
#include "tests/http_server.h"

#define PATIENCE_S 60

static const char *const hostile[] = {
    "\x01\x02\x1f",
    "\x1b[31mred\x1b[0m\x1b]0;title\x07",
    "a\nfake: line",
    "a\r\nX-Other: b",
    "\r",
    "\"quoted\",\"level\":\"error\"",
    "a\\\"b\\",
    "\\x0a\\n",
    "%0d%0a%1b%5b%00%22%5c",
    "\xff\xfe\xc3",
    "\xc3\xa4\xc2\x9b\xe2\x80\xa8",
    "\x7f",
    "\t\v\f",
    "<3>fake",
    "a request_id=fake status=200",
    "a=\"b\" request_id=\"fake\"",
    "{\"ts\":\"x\"}",
    "%s%n%n%d",
    "../../etc/passwd",
    NULL, /* stands for a long one */
};
enum { HOSTILE = sizeof hostile / sizeof hostile[0] };

/* %s: where it goes; "" behind it when there is no body. */
static const char *const places[] = {
    "GET /%s HTTP/1.1\r\nHost: a\r\n",
    "GET /livez?%s HTTP/1.1\r\nHost: a\r\n",
    "GET /v2/models/%s/ready HTTP/1.1\r\nHost: a\r\n",
    "GET /precision?model=%s HTTP/1.1\r\nHost: a\r\n",
    "GET /livez HTTP/1.1\r\nHost: %s\r\n",
    "GET /livez HTTP/1.1\r\nHost: a\r\nX-Request-Id: %s\r\n",
    "GET /livez HTTP/1.1\r\nHost: a\r\ntraceparent: %s\r\n",
    "GET /livez HTTP/1.1\r\nHost: a\r\ntraceparent: 00-%s-00f067aa0ba902b7-01\r\n",
    "GET /livez HTTP/1.1\r\nHost: a\r\nUser-Agent: %s\r\nReferer: %s\r\n",
    "GET /livez HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n",
    "GET /livez HTTP/1.1\r\nHost: a\r\n%s: b\r\n",
    "%s /livez HTTP/1.1\r\nHost: a\r\n",
    "GET /livez HTTP/%s\r\nHost: a\r\n",
    "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: %s\r\nContent-Length: 0\r\n",
    "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Encoding: %s\r\nContent-Length: 0\r\n",
    "PUT /precision HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\nTransfer-Encoding: "
    "chunked\r\n\r\n%s",
};
enum { PLACES = sizeof places / sizeof places[0] };

static struct http_server *server;
static char *dir, path[4096];
static char ids[PLACES * HOSTILE][80];
static int id_count;

/* {"precision":"int8","model":"<text as a JSON string>"} in one chunk. */
static void json_chunk(const char *text, char *out, size_t size)
{
    cJSON *o = cJSON_CreateObject();
    assert_non_null(o);
    assert_non_null(cJSON_AddStringToObject(o, "precision", "int8"));
    assert_non_null(cJSON_AddStringToObject(o, "model", text));
    char *s = cJSON_PrintUnformatted(o);
    assert_non_null(s);
    snprintf(out, size, "%zx\r\n%s\r\n0", strlen(s), s);
    free(s);
    cJSON_Delete(o);
}

/* Sends it, waits for the end, and keeps the id that the reply names. */
static void ask(const char *bytes)
{
    char reply[8192];
    size_t n = 0;
    ssize_t more;
    int fd = http_server_connect(server);
    assert_true(fd >= 0);
    (void)!send(fd, bytes, strlen(bytes), MSG_NOSIGNAL); /* it may be refused before all of it is read */
    while (n + 1 < sizeof reply && (more = recv(fd, reply + n, sizeof reply - 1 - n, 0)) > 0)
        n += (size_t)more;
    close(fd);
    reply[n] = '\0';
    const char *id = strstr(reply, "X-Request-Id: ");
    if (id)
        snprintf(ids[id_count++], sizeof ids[0], "%.*s", (int)strcspn(id + 14, "\r"), id + 14);
}

static void ask_all(void)
{
    static char very_long[19000], text[20000], bytes[3 * sizeof text];
    id_count = 0;
    memset(very_long, 'y', sizeof very_long - 1);
    for (int p = 0; p < PLACES; p++)
        for (int h = 0; h < HOSTILE; h++) {
            int is_body = strncmp(places[p], "PUT", 3) == 0;
            const char *what = hostile[h] ? hostile[h] : very_long;
            if (is_body)
                json_chunk(what, text, sizeof text);
            else
                snprintf(text, sizeof text, "%s", what);
            int n = snprintf(bytes, sizeof bytes, places[p], text, text);
            snprintf(bytes + n, sizeof bytes - (size_t)n, is_body ? "\r\n\r\n" : "Connection: close\r\n\r\n");
            ask(bytes);
        }
}

/* The log so far; to be freed. */
static char *read_log(void)
{
    size_t size;
    char *text = files_read(path, &size);
    assert_non_null(text);
    assert_int_equal(strlen(text), size);
    return text;
}

/* A line is written when the reply has gone out: the client may be faster. */
static char *wait_for_all(void)
{
    for (time_t end = time(NULL) + PATIENCE_S;;) {
        char *log = read_log();
        int missing = 0;
        for (int i = 0; i < id_count; i++)
            missing += !strstr(log, ids[i]);
        if (!missing || time(NULL) > end) {
            assert_int_equal(missing, 0);
            return log;
        }
        free(log);
        usleep(20000);
    }
}

static int is_known(const char *id)
{
    for (int i = 0; i < id_count; i++)
        if (strcmp(ids[i], id) == 0)
            return 1;
    return 0;
}

/* 1 when it is the line of a request. */
static int check_json(const char *line)
{
    struct err e;
    cJSON *o = json_parse(line, strlen(line), &e);
    if (!cJSON_IsObject(o))
        fail_msg("not an object: %s", line);
    static const char *const needed[] = {"ts", "level", "msg"};
    for (size_t i = 0; i < 3; i++)
        assert_true(cJSON_IsString(cJSON_GetObjectItemCaseSensitive(o, needed[i])));
    const char *level = cJSON_GetObjectItemCaseSensitive(o, "level")->valuestring;
    assert_true(strcmp(level, "info") == 0 || strcmp(level, "warning") == 0 || strcmp(level, "debug") == 0);
    const char *id = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "request_id"));
    if (id && !is_known(id))
        fail_msg("an id that nobody was told: %s", line);
    int is_request = id && cJSON_GetObjectItemCaseSensitive(o, "status");
    cJSON_Delete(o);
    return is_request;
}

static int check_text(const char *line)
{
    const char *id = strstr(line, " request_id=");
    int ms = 0;
    for (const char *p = line; (p = strstr(p, " ms request_id=")); p++)
        ms++;
    if (!ms)
        return 0;
    char value[80];
    snprintf(value, sizeof value, "%.*s", (int)strcspn(id + 12, " "), id + 12);
    if (ms > 1 || !is_known(value) || strstr(id + 1, " request_id="))
        fail_msg("another id than the one that was told: %s", line);
    return 1;
}

static void formats(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        const enum log_format format = i & 1 ? LOG_JSON : LOG_TEXT;
        const int prefixed = i >> 1;
        int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600), kept = dup(STDERR_FILENO);
        assert_true(file >= 0 && kept >= 0);
        assert_true(dup2(file, STDERR_FILENO) >= 0);
        log_setup(LOG_LEVEL_DEBUG, format, prefixed ? LOG_PREFIX_ON : LOG_PREFIX_OFF);
        ask_all();
        char *log = wait_for_all();
        log_setup(LOG_LEVEL_ERROR, LOG_TEXT, LOG_PREFIX_OFF);
        assert_true(dup2(kept, STDERR_FILENO) >= 0);
        close(kept);
        close(file);

        assert_true(id_count > PLACES * HOSTILE / 2);
        int requests = 0, others = 0;
        size_t len = strlen(log);
        assert_true(len > 0 && log[len - 1] == '\n');
        for (char *line = strtok(log, "\n"); line; line = strtok(NULL, "\n")) {
            for (const unsigned char *p = (const unsigned char *)line; *p; p++)
                if (*p < 0x20 || *p > 0x7e)
                    fail_msg("format %d: byte 0x%02x in: %s", i, *p, line);
            assert_true(strlen(line) < 4096); /* a write that a pipe takes whole */
            if (prefixed) {
                assert_true(line[0] == '<' && line[1] >= '3' && line[1] <= '7' && line[2] == '>');
                line += 3;
            } else if (format == LOG_TEXT) {
                assert_true(strncmp(line, "20", 2) == 0 && line[10] == 'T' && line[23] == 'Z' && line[24] == ' ');
            }
            int is_request = format == LOG_JSON ? check_json(line) : check_text(line);
            requests += is_request;
            others += !is_request;
        }
        assert_int_equal(requests, id_count); /* one line each, and none that somebody made up */
        assert_true(others > 0);              /* switches to models with such names */
        free(log);
    }
}

/* Values that come from elsewhere keep in their place, too. */
static void fields(void **state)
{
    char *log;
    (void)state;
    const struct log_field f[] = {{.key = "a", .text = "x\" b=\"y\\"}, {.key = "c", .text = ""}, {.key = "d", .number = 0.5}};
    for (int json = 0; json < 2; json++) {
        int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600), kept = dup(STDERR_FILENO);
        assert_true(file >= 0 && kept >= 0);
        assert_true(dup2(file, STDERR_FILENO) >= 0);
        log_setup(LOG_LEVEL_INFO, json ? LOG_JSON : LOG_TEXT, LOG_PREFIX_ON);
        log_fields(LOG_LEVEL_INFO, f, 3, "m\\\n\"");
        log_setup(LOG_LEVEL_ERROR, LOG_TEXT, LOG_PREFIX_OFF);
        assert_true(dup2(kept, STDERR_FILENO) >= 0);
        close(kept);
        close(file);
        log = read_log();
        if (json)
            assert_non_null(strstr(log, "\"msg\":\"m\\\\\\u000a\\\"\",\"a\":\"x\\\" b=\\\"y\\\\\",\"c\":\"\",\"d\":0.5}\n"));
        else
            assert_string_equal(log, "<6>m\\\\\\x0a\" a=\"x\\\" b=\\\"y\\\\\" c=\"\" d=0.5\n");
        free(log);
    }
}

static int start(void **state)
{
    (void)state;
    dir = files_make_dir();
    snprintf(path, sizeof path, "%s/log", dir);
    server = http_server_start("[log]\naccess = yes\n");
    return server ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    http_server_stop(server);
    files_remove_dir(dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(formats), cmocka_unit_test(fields)};
    return cmocka_run_group_tests(tests, start, stop);
}

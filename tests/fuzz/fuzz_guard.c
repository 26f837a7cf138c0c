// SPDX-License-Identifier: MIT
//
// fuzz_guard.c - headers as libmicrohttpd hands them on, to the request guard: lines are method, target, version, then
// "name:value". What it lets through must be what the rest of the daemon relies on.

#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/guard.h"
#include "daemon/raw.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Ends the line with a NUL; the next one, NULL behind the last. */
static char *cut(char *line)
{
    char *end = strchr(line, '\n');
    if (end)
        *end++ = '\0';
    return end;
}

static void must(int holds)
{
    if (!holds)
        abort();
}

static void check(const struct guard_request *r)
{
    struct guard_result g;
    guard_check(r, &g);
    must((g.status == 0) == (g.detail == NULL) && (g.status == 0 || (g.status >= 400 && g.status <= 505)));
    must(strlen(g.host) < GUARD_HOST_MAX);
    guard_is_loopback_name(g.host);
    if (g.status)
        return;
    must(g.path[0] == '/' || strcmp(g.path, "*") == 0);
    must(!(g.chunked && g.length >= 0) && g.length <= r->body_max && g.has_body == (g.chunked || g.length > 0));
    for (const char *p = g.host; *p; p++)
        must(!isupper((unsigned char)*p) && !strchr("@/,?# \t\r\n\"\\", *p));
    for (const char *p = r->uri; *p; p++)
        must(*p > 0x20 && *p < 0x7f);
    int n;
    guard_find(r, "Content-Length", &n);
    must(n <= 1);
    guard_find(r, "Host", &n);
    must(n <= 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct guard_request r;
    char *text = malloc(size + 1), *line = text, *next;
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    memset(&r, 0, sizeof r);
    r.body_max = 1000;
    r.method = line;
    r.uri = line = (next = cut(line)) ? next : line + strlen(line);
    r.version = line = (next = cut(line)) ? next : line + strlen(line);
    for (line = cut(line); line && r.header_count < GUARD_HEADERS_MAX; line = next) {
        next = cut(line);
        size_t name = strcspn(line, ":"), all = strlen(line), value = name + (line[name] == ':');
        r.headers[r.header_count++] = (struct guard_header){line, line + value, name, all - value};
    }
    r.too_large = line != NULL;
    r.hidden = !raw_is_whole(&r, text, r.version, size);
    check(&r);
    r.hidden = 0;
    check(&r);
    free(text);
    return 0;
}

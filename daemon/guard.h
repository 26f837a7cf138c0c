// SPDX-License-Identifier: MIT
//
// guard.h - the request guard: what RFC 9110 and 9112 forbid and libmicrohttpd 0.9.75 lets through, as one table of rules.
//
// Ambiguous framing (two lengths, a length and chunks) is how requests are smuggled past proxies; a strange Host is how a
// browser is turned against a service on loopback. Every rule sees the request before any of its body is read.

#ifndef DAEMON_GUARD_H
#define DAEMON_GUARD_H

#include <stddef.h>
#include <stdint.h>

#define GUARD_HEADERS_MAX 100
#define GUARD_HOST_MAX    256

struct guard_header {
    const char *name, *value;
    size_t name_len, value_len;
};

struct guard_request {
    const char *method, *version; /* as received */
    const char *uri;              /* as received, before unescaping */
    struct guard_header headers[GUARD_HEADERS_MAX];
    int header_count, too_large;
    int hidden; /* the header holds more than this shows, see raw.h */
    int64_t body_max;
};

struct guard_result {
    int status; /* 0: fine */
    const char *detail;
    int has_body;   /* a length above 0, or chunks */
    int64_t length; /* Content-Length, -1 without */
    int chunked;
    char host[GUARD_HOST_MAX]; /* lower case, without the port; "" when HTTP/1.0 left it out */
    const char *path;          /* in uri: from its first '/'; "*" for OPTIONS * */
};

void guard_check(const struct guard_request *r, struct guard_result *out);

/* The value of a header, NULL when absent; *count how often it is there (NULL: not wanted). */
const struct guard_header *guard_find(const struct guard_request *r, const char *name, int *count);

/* localhost, *.localhost, 127.0.0.0/8, [::1]. host as in guard_result. */
int guard_is_loopback_name(const char *host);

#endif

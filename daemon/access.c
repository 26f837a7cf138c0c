// SPDX-License-Identifier: MIT
#include "daemon/access.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "daemon/conn.h"
#include "daemon/log.h"
#include "daemon/request.h"

struct wanted {
    const char *host;
};

static int same_host(void *user, const char *word, size_t len)
{
    const struct wanted *w = user;
    return strlen(w->host) == len && strncasecmp(w->host, word, len) == 0;
}

static int is_configured(const struct request *r, const char *host)
{
    struct wanted w = {host};
    return conf_words(r->conf->hosts, same_host, &w);
}

int access_host(const struct request *r)
{
    const char *host = r->guard.host;
    if (!r->conn->bound_loopback || !*host) /* no Host is HTTP/1.0, which no browser speaks */
        return 1;
    return guard_is_loopback_name(host) || is_configured(r, host);
}

int access_site(const struct request *r)
{
    const char *site = request_header(r, "Sec-Fetch-Site");
    int looks = strcmp(r->method, "GET") == 0 || strcmp(r->method, "HEAD") == 0 || strcmp(r->method, "OPTIONS") == 0;
    return looks || !site || strcasecmp(site, "cross-site") != 0;
}

int access_equal(const char *given, size_t given_len, const char token[ACCESS_TOKEN_SIZE])
{
    volatile unsigned char differ = given_len >= ACCESS_TOKEN_SIZE;
    for (size_t i = 0; i < ACCESS_TOKEN_SIZE; i++) {
        size_t inside = -(size_t)(i < given_len), at = (i & inside) | (given_len & ~inside);
        differ |= (unsigned char)(given[at] ^ token[i]);
    }
    return !differ;
}

/* The file is read each time: changing the token needs no reload. */
static int token_matches(const struct request *r, const char *given)
{
    char token[ACCESS_TOKEN_SIZE] = "";
    static struct log_limit limit;
    int fd = open(r->conf->admin_token_file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    ssize_t n = fd < 0 ? -1 : read(fd, token, sizeof token);
    if (fd >= 0)
        close(fd);
    const char *eol = n > 0 ? memchr(token, '\n', (size_t)n) : NULL;
    int whole = eol || n < (ssize_t)sizeof token, same = 0;
    n = eol ? eol - token : n; /* the first line, as resnetctl --token-file reads it */
    while (n > 0 && strchr(" \t\r", token[n - 1]))
        n--;
    if (n < 16 || !whole) {
        log_limited(&limit, LOG_LEVEL_ERROR, "admin_token_file %s: cannot be read, or holds no line of 16 to %d characters",
                    r->conf->admin_token_file, ACCESS_TOKEN_SIZE - 1);
    } else {
        memset(token + n, 0, sizeof token - (size_t)n);
        same = access_equal(given, strlen(given), token);
    }
    explicit_bzero(token, sizeof token);
    return same;
}

static int is_json(const char *type)
{
    return strncasecmp(type, "application/json", 16) == 0 && strchr("; \t", type[16]);
}

/* An Origin is ours when it names the very Host that was asked: another port is another site. */
static int origin_is_ours(const struct request *r, const char *origin)
{
    const char *name = strncasecmp(origin, "http://", 7) == 0    ? origin + 7
                       : strncasecmp(origin, "https://", 8) == 0 ? origin + 8
                                                                 : NULL;
    const char *host = request_header(r, "Host");
    return name && host && strcasecmp(host, name) == 0;
}

static int refuse(char *why, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static int refuse(char *why, size_t size, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, size, fmt, ap);
    va_end(ap);
    return 0;
}

/* 0: nobody in particular. 1: may do anything. 2: a peer on this machine whom no other site and no proxy stands behind, as far as
   its headers tell; a page could still have made it ask for something simple. */
static int identify(const struct request *r, char *why, size_t size)
{
    static const char *const forwarding[] = {"Forwarded",        "X-Forwarded-For",    "X-Forwarded-Host", "X-Forwarded-Proto",
                                             "X-Forwarded-Port", "X-Forwarded-Server", "X-Real-IP",        "Via"};
    const char *how = *r->conf->admin_token_file
                          ? "send the token of admin_token_file as 'Authorization: Bearer ...'"
                          : "use a unix socket, or set admin_token_file and send 'Authorization: Bearer ...'";
    const char *bearer = request_header(r, "Authorization"), *origin = request_header(r, "Origin");
    if (bearer && strncasecmp(bearer, "Bearer ", 7) == 0 && *r->conf->admin_token_file)
        return token_matches(r, bearer + 7) ? 1 : refuse(why, size, "the bearer token is not the one of admin_token_file");
    for (size_t i = 0; i < sizeof forwarding / sizeof forwarding[0]; i++)
        if (request_header(r, forwarding[i]))
            return refuse(why, size, "the request was forwarded (%s), so where it came from is not known; %s", forwarding[i],
                          how);
    if (r->conn->is_unix)
        return 1;
    if (!r->conn->is_loopback)
        return refuse(why, size, "changes are accepted from this machine only; from elsewhere, %s", how);
    if (!r->conf->loopback_changes)
        return refuse(why, size, "loopback_changes is off; %s", how);
    if (!r->http_11) /* what nginx speaks to those behind it, without a word of who asks */
        return refuse(why, size, "the request came by HTTP/1.0, as from a proxy; %s", how);
    if (!guard_is_loopback_name(r->guard.host))
        return refuse(why, size, "changes need a Host that names the loopback interface, such as 127.0.0.1 or localhost; else %s",
                      how);
    if (origin && !origin_is_ours(r, origin))
        return refuse(why, size, "the request comes from a page of another site (Origin)");
    return 2;
}

int access_change(const struct request *r, char *why, size_t size)
{
    int who = identify(r, why, size);
    if (who == 2 && !is_json(r->content_type))
        return refuse(why, size, "changes need 'Content-Type: application/json'; else send a token, or use a unix socket");
    return who != 0;
}

int access_details(const struct request *r)
{
    char why[256];
    return identify(r, why, sizeof why) != 0;
}

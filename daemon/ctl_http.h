// SPDX-License-Identifier: MIT
//
// ctl_http.h - one request to a running daemon, over HTTP or its unix socket, within limits.

#ifndef DAEMON_CTL_HTTP_H
#define DAEMON_CTL_HTTP_H

#include <stddef.h>

#include "models/err.h"

struct ctl_server {
    const char *url;        /* http://HOST:PORT, https://HOST:PORT or unix:/PATH */
    const char *ca_file;    /* NULL: those that the system trusts; or a PEM file with certificates to trust instead */
    const char *token_file; /* NULL, or a file with the admin token on its first line */
    int timeout;            /* seconds */
};

struct ctl_request {
    const char *method, *path, *content_type; /* content_type NULL: no body */
    const void *body;
    size_t size;
};

struct ctl_reply {
    char *text; /* terminated; NULL when empty. To be freed by the caller */
    size_t size;
};

/* What --url may be, and what to say about anything else. */
int ctl_is_url(const char *url);
#define CTL_URL_WANTED "--url takes http://HOST:PORT, https://HOST:PORT or unix:/PATH, not %s"
#define CTL_URL_HELP   "http://HOST:PORT, https://HOST:PORT or unix:/PATH (default http://127.0.0.1:8080)"
#define CTL_CA_HELP    "PEM file with the certificates to trust, instead of the system's"

/* 0 with the reply when its status is 2xx. Else -1 with the reason: title and detail of an application/problem+json reply, or
   what kept the connection from working. */
int ctl_ask(const struct ctl_server *s, const struct ctl_request *q, struct ctl_reply *r, struct err *e);

#endif

// SPDX-License-Identifier: MIT
//
// http_server.h - the daemon's HTTP inside a test: the real listener, guard, routes and workers, no model, on a unix socket.

#ifndef TESTS_HTTP_SERVER_H
#define TESTS_HTTP_SERVER_H

struct http_server;

/* conf: lines of a configuration, such as "[server]\nmax_body = 4K\n"; listen is set here. NULL when it cannot start, with the
   reason on stderr. */
struct http_server *http_server_start(const char *conf);
void http_server_stop(struct http_server *h);

/* What it is made of. */
struct server;
struct server *http_server_parts(struct http_server *h);

/* A connection, or -1. */
int http_server_connect(const struct http_server *h);

#endif

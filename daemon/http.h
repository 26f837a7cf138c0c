// SPDX-License-Identifier: MIT
//
// http.h - libmicrohttpd set up: the doors that clients come in by, and how they are shut. What happens to a request is in
// request.h.

#ifndef DAEMON_HTTP_H
#define DAEMON_HTTP_H

#include "daemon/server.h"

/* Listens and answers. Needs server->conf and everything a route uses. */
int http_start(struct server *s, struct http **out, struct err *e);

/* Closes connections whose total time for header, body or reply is over. Call every 100 ms or so. */
void http_reap(struct http *h);

/* Stops accepting; what arrives on open connections is still answered, with Connection: close. */
void http_quiesce(struct http *h);

void http_stop(struct http *h); /* no request may be suspended any more; NULL is fine */

#endif

// SPDX-License-Identifier: MIT
//
// change.h - one thread that does what takes long and must not overlap: precision switches and reloads, one after another, while
// HTTP and the workers go on.

#ifndef DAEMON_CHANGE_H
#define DAEMON_CHANGE_H

#include "daemon/api.h"
#include "daemon/server.h"

struct change;
struct request;

typedef void change_fn(struct request *r); /* leaves a reply in the request */

int change_start(struct server *s, struct change **out, struct err *e);
void change_stop(struct change *c); /* finishes what waits and takes no more; NULL is fine */
void change_free(struct change *c); /* after change_stop; NULL is fine */

/* Hands a request on; API_DONE with a 503 in it when too many wait. */
enum api_state change_push(struct change *c, struct request *r, change_fn *fn);

/* A reload that nobody waits for (SIGHUP). */
void change_reload(struct change *c);

/* 1 while something is being changed or waits for it. */
int change_busy(struct change *c);

#endif

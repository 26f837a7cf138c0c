// SPDX-License-Identifier: MIT
//
// worker.h - the threads that compute: take a request from the queue, run it on a session, resume it with its reply.

#ifndef DAEMON_WORKER_H
#define DAEMON_WORKER_H

#include "daemon/server.h"
#include "models/session.h"

struct workers;
struct worker;

/* Starts conf->workers threads with conf->threads each. */
int workers_start(struct server *s, struct workers **out, struct err *e);

/* The queue must be closed: waits for all to end. What can be asked of them can still be asked. NULL is fine. */
void workers_stop(struct workers *w);
void workers_free(struct workers *w); /* after workers_stop; NULL is fine */

int workers_busy(struct workers *w);

/* Milliseconds for which the slowest worker has been at one request, 0 when none is working. */
int64_t workers_stalled_ms(struct workers *w);

/* Seconds after which a request that came now would be taken, from the mean time of the last ones; at least 1. */
int workers_retry_after(struct workers *w);

/* The session of this worker for l, made now if there is none. rgb: room for one input image. NULL: ERR_BUSY, ERR_MEMORY. */
struct session *worker_session(struct worker *w, struct loaded *l, uint8_t **rgb, struct err *e);

#endif

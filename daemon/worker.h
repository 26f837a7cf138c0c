// SPDX-License-Identifier: MIT
//
// worker.h - the threads that compute. A worker takes a request from the queue (job.h) and lets all its threads share the layers
// of that one; when others wait for the same model it takes up to max_batch of them at once, and each thread computes an image
// alone.

#ifndef DAEMON_WORKER_H
#define DAEMON_WORKER_H

#include "daemon/server.h"

struct workers;

/* Starts conf->workers threads with conf->threads each. */
int workers_start(struct server *s, struct workers **out, struct err *e);

/* The queue must be closed: waits for all to end. What can be asked of them can still be asked. NULL is fine. */
void workers_stop(struct workers *w);
void workers_free(struct workers *w); /* after workers_stop; NULL is fine */

int workers_busy(struct workers *w);

/* Milliseconds for which the slowest thread has been at one image, 0 when none is working. */
int64_t workers_stalled_ms(struct workers *w);

/* Seconds after which a request that came now would be taken, from the mean time of the last ones; at least 1. */
int workers_retry_after(struct workers *w);

#endif

// SPDX-License-Identifier: MIT
//
// queue.h - the bounded queue between HTTP and the workers. Full is an answer (503), not a wait.

#ifndef DAEMON_QUEUE_H
#define DAEMON_QUEUE_H

#include <stdint.h>

struct queue;

struct queue *queue_new(int capacity); /* NULL: no memory */
void queue_free(struct queue *q);      /* must be empty; NULL is fine */

/* key: what items that can be worked on together have in common; NULL: nothing. deadline_ms is on clock_ms. -1 when full or
   closed: the caller keeps the item. */
int queue_push(struct queue *q, void *item, const void *key, int64_t deadline_ms);

/* Waits for an item, for queue_wake or for queue_close. NULL: woken without an item; *closed tells whether for good. *seen is the
   caller's count of answered wakes, 0 at first. */
void *queue_pop(struct queue *q, unsigned *seen, int *closed);

/* Takes out the first item with that key, NULL when there is none: never waits. */
void *queue_pop_key(struct queue *q, const void *key);
int queue_count_key(struct queue *q, const void *key);

/* Takes out the first item whose deadline has passed, NULL when there is none. */
void *queue_pop_expired(struct queue *q, int64_t now_ms);

void queue_wake(struct queue *q);  /* every waiting or next queue_pop of each caller returns once, if only with NULL */
void queue_close(struct queue *q); /* no more pushes; pops go on until it is empty */
int queue_depth(struct queue *q);
int queue_capacity(const struct queue *q);

#endif

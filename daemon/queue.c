// SPDX-License-Identifier: MIT
#include "daemon/queue.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct slot {
    void *item;
    const void *key;
    int64_t deadline_ms;
};

struct queue {
    pthread_mutex_t lock;
    pthread_cond_t filled;
    int capacity, count, closed;
    unsigned wakes;      /* counts queue_wake calls */
    struct slot slots[]; /* the oldest first: capacity is small, so taking one out moves the rest */
};

struct queue *queue_new(int capacity)
{
    struct queue *q = calloc(1, sizeof *q + (size_t)capacity * sizeof q->slots[0]);
    if (!q)
        return NULL;
    q->capacity = capacity;
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->filled, NULL);
    return q;
}

void queue_free(struct queue *q)
{
    if (!q)
        return;
    pthread_cond_destroy(&q->filled);
    pthread_mutex_destroy(&q->lock);
    free(q);
}

static void *take(struct queue *q, int i)
{
    void *item = q->slots[i].item;
    memmove(&q->slots[i], &q->slots[i + 1], (size_t)(--q->count - i) * sizeof q->slots[0]);
    return item;
}

int queue_push(struct queue *q, void *item, const void *key, int64_t deadline_ms)
{
    pthread_mutex_lock(&q->lock);
    int ok = !q->closed && q->count < q->capacity;
    if (ok) {
        q->slots[q->count++] = (struct slot){item, key, deadline_ms};
        pthread_cond_signal(&q->filled);
    }
    pthread_mutex_unlock(&q->lock);
    return ok ? 0 : -1;
}

void *queue_pop(struct queue *q, unsigned *seen, int *closed)
{
    void *item = NULL;
    pthread_mutex_lock(&q->lock);
    while (!q->count && !q->closed && *seen == q->wakes)
        pthread_cond_wait(&q->filled, &q->lock);
    *seen = q->wakes;
    if (q->count)
        item = take(q, 0);
    *closed = q->closed && !item;
    pthread_mutex_unlock(&q->lock);
    return item;
}

void *queue_pop_key(struct queue *q, const void *key)
{
    void *item = NULL;
    pthread_mutex_lock(&q->lock);
    for (int i = 0; i < q->count && !item; i++)
        if (q->slots[i].key == key)
            item = take(q, i);
    pthread_mutex_unlock(&q->lock);
    return item;
}

int queue_count_key(struct queue *q, const void *key)
{
    int n = 0;
    pthread_mutex_lock(&q->lock);
    for (int i = 0; i < q->count; i++)
        n += q->slots[i].key == key;
    pthread_mutex_unlock(&q->lock);
    return n;
}

void *queue_pop_expired(struct queue *q, int64_t now_ms)
{
    void *item = NULL;
    pthread_mutex_lock(&q->lock);
    for (int i = 0; i < q->count && !item; i++)
        if (q->slots[i].deadline_ms <= now_ms)
            item = take(q, i);
    pthread_mutex_unlock(&q->lock);
    return item;
}

void queue_wake(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->wakes++;
    pthread_cond_broadcast(&q->filled);
    pthread_mutex_unlock(&q->lock);
}

void queue_close(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->closed = 1;
    pthread_cond_broadcast(&q->filled);
    pthread_mutex_unlock(&q->lock);
}

int queue_depth(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    int n = q->count;
    pthread_mutex_unlock(&q->lock);
    return n;
}

int queue_capacity(const struct queue *q)
{
    return q->capacity;
}

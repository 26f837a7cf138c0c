// SPDX-License-Identifier: MIT

#include "daemon/threads.h"

#include <errno.h>
#include <pthread.h>
#include <pthreadpool.h>
#include <stdlib.h>

static void *visit(void *gate)
{
    pthread_mutex_lock(gate);
    pthread_mutex_unlock(gate);
    return NULL;
}

/* 0 when the system gives n threads at a time. */
static int available(int n)
{
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    pthread_t *threads = malloc((size_t)n * sizeof *threads);
    int started = 0, rc = 0;
    if (!threads)
        return ENOMEM;
    pthread_mutex_lock(&gate);
    while (started < n && (rc = pthread_create(&threads[started], NULL, visit, &gate)) == 0)
        started++;
    pthread_mutex_unlock(&gate);
    for (int i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    free(threads);
    return rc;
}

int threads_pool(int n, int more, struct pthreadpool **out)
{
    const int rc = available(n + more);
    if (rc == 0)
        *out = pthreadpool_create((size_t)n);
    return rc ? rc : *out ? 0 : ENOMEM;
}

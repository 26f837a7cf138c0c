// SPDX-License-Identifier: MIT
//
// threads.h - pools of threads on a system that may refuse them.

#ifndef DAEMON_THREADS_H
#define DAEMON_THREADS_H

struct pthreadpool;

/* A pool of n > 1 threads into *out, while `more` others could still be started. 0, or why not, as an errno value.
   pthreadpool_create waits for ever for a thread that the system refused, so the system is asked first. */
int threads_pool(int n, int more, struct pthreadpool **out);

#endif

// SPDX-License-Identifier: MIT
//
// tsan_pthreadpool.c - tells ThreadSanitizer what pthreadpool orders. The library synchronises by atomics and futexes of its own,
// which it was built without instrumentation for, so every loop would look like a race with its caller. Linked into builds with
// --enable-tsan alone, in front of the library (--wrap). What the caller did before a loop comes before its tasks, and these come
// before what the caller does next; the tasks of one loop stay unordered, so that races between them are still found.

#include <pthreadpool.h>
#include <sanitizer/tsan_interface.h>

struct loop {
    pthreadpool_task_1d_t task;
    void *user;
    char begin, end; /* places that stand for the two moments */
};

void __real_pthreadpool_parallelize_1d(pthreadpool_t pool, pthreadpool_task_1d_t task, void *user, size_t range, uint32_t flags);
void __wrap_pthreadpool_parallelize_1d(pthreadpool_t pool, pthreadpool_task_1d_t task, void *user, size_t range, uint32_t flags);

static void run(void *user, size_t i)
{
    struct loop *l = user;
    __tsan_acquire(&l->begin);
    l->task(l->user, i);
    __tsan_release(&l->end);
}

void __wrap_pthreadpool_parallelize_1d(pthreadpool_t pool, pthreadpool_task_1d_t task, void *user, size_t range, uint32_t flags)
{
    struct loop l = {.task = task, .user = user};
    __tsan_release(&l.begin);
    __real_pthreadpool_parallelize_1d(pool, run, &l, range, flags);
    __tsan_acquire(&l.end);
}

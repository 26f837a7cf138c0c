// SPDX-License-Identifier: MIT
//
// no_memory.c - to be preloaded: refuses the allocation that struct no_memory names. Memory mapped for weights and arenas counts
// as well. It stands in front of glibc's allocator, which exports itself under second names.

#include "tests/proof/no_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void *__libc_memalign(size_t align, size_t size);

static struct no_memory *control;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv(NO_MEMORY_FILE);
    const int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *p = (void *)syscall(SYS_mmap, NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0L);
    close(fd);
    if (p != MAP_FAILED)
        control = p;
}

static int refused(void)
{
    if (!control || !atomic_load(&control->armed))
        return 0;
    const long i = atomic_fetch_add(&control->counted, 1) + 1, n = atomic_load(&control->n);
    if (n == 0 || (atomic_load(&control->from) ? i < n : i != n))
        return 0;
    atomic_fetch_add(&control->refused, 1);
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t size)
{
    return refused() ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return refused() ? NULL : __libc_calloc(count, size);
}

void *realloc(void *p, size_t size)
{
    return refused() ? NULL : __libc_realloc(p, size);
}

void *aligned_alloc(size_t align, size_t size)
{
    return refused() ? NULL : __libc_memalign(align, size);
}

int posix_memalign(void **out, size_t align, size_t size)
{
    if (refused())
        return ENOMEM;
    void *p = __libc_memalign(align, size);
    if (p)
        *out = p;
    return p ? 0 : ENOMEM;
}

void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    return flags & MAP_ANONYMOUS && refused() ? MAP_FAILED
                                              : (void *)syscall(SYS_mmap, at, size, protection, flags, fd, (long)offset);
}

/* The kernel's memory for a descriptor that is to be watched. */
int epoll_ctl(int set, int op, int fd, struct epoll_event *event)
{
    return op == EPOLL_CTL_ADD && refused() ? -1 : (int)syscall(SYS_epoll_ctl, set, op, fd, event);
}

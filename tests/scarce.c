// SPDX-License-Identifier: MIT

#include "tests/scarce.h"

#include <stddef.h>

_Atomic int scarce_left = -1;

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
char *__real_strdup(const char *s);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
char *__wrap_strdup(const char *s);

static int none_left(void)
{
    if (scarce_left <= 0)
        return scarce_left == 0;
    scarce_left--;
    return 0;
}

void *__wrap_malloc(size_t size)
{
    return none_left() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return none_left() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
    return none_left() ? NULL : __real_realloc(p, size);
}

char *__wrap_strdup(const char *s)
{
    return none_left() ? NULL : __real_strdup(s);
}

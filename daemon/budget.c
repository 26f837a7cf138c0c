// SPDX-License-Identifier: MIT
#include "daemon/budget.h"

int budget_reserve(struct budget *b, size_t bytes, const char *what, struct err *e)
{
    size_t used = atomic_load(&b->used);
    for (;;) {
        size_t limit = atomic_load(&b->limit);
        if (used > limit || bytes > limit - used)
            return err_set(e, ERR_BUSY, "%s needs %zu kB; of memory_limit %zu kB, %zu kB are taken", what, (bytes + 1023) / 1024,
                           limit / 1024, used / 1024);
        if (atomic_compare_exchange_weak(&b->used, &used, used + bytes))
            return 0;
    }
}

void budget_release(struct budget *b, size_t bytes)
{
    atomic_fetch_sub(&b->used, bytes);
}

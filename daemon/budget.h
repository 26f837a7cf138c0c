// SPDX-License-Identifier: MIT
//
// budget.h - memory_limit as a promise kept by admission (design section 7): weights, arenas, bodies and decode buffers are
// reserved here before they are allocated. What does not fit is refused, never tried.

#ifndef DAEMON_BUDGET_H
#define DAEMON_BUDGET_H

#include <stdatomic.h>
#include <stddef.h>

#include "models/err.h"

struct budget {
    _Atomic size_t limit, used;
};

/* -1, ERR_BUSY with the numbers in words when `bytes` more would exceed the limit. */
int budget_reserve(struct budget *b, size_t bytes, const char *what, struct err *e);
void budget_release(struct budget *b, size_t bytes);

#endif

// SPDX-License-Identifier: MIT
//
// no_memory.h - what the preloaded allocator of no_memory.c and whoever steers it share: a mapped file, so that one daemon can be
// refused memory again and again at another place while it runs.

#ifndef TESTS_PROOF_NO_MEMORY_H
#define TESTS_PROOF_NO_MEMORY_H

#include <stdatomic.h>

#define NO_MEMORY_FILE "NO_MEMORY_FILE" /* the environment variable that names it */

struct no_memory {
    atomic_int armed;    /* 0: allocations are neither counted nor refused */
    atomic_int from;     /* 1: the n-th allocation and all after it; 0: that one alone */
    atomic_long n;       /* 1 is the first; 0: none */
    atomic_long counted; /* since it was armed */
    atomic_long refused;
};

#endif

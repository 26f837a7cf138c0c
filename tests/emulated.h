// SPDX-License-Identifier: MIT
//
// emulated.h - whether this test runs under an emulator ($EMULATOR), where what takes a second takes a minute: there the bits
// matter that the architecture gives, not what holds on every machine once it holds on one.

#ifndef TESTS_EMULATED_H
#define TESTS_EMULATED_H

#include <stdlib.h>

static inline int emulated(void)
{
    const char *emulator = getenv("EMULATOR");
    return emulator && *emulator;
}

#endif

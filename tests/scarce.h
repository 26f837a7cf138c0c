// SPDX-License-Identifier: MIT
//
// scarce.h - makes the n-th allocation of the code under test fail. The test is linked with
// -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup, so shared libraries are not touched.

#ifndef TESTS_SCARCE_H
#define TESTS_SCARCE_H

/* This many allocations succeed, all later ones fail; -1: plenty, as at the start. */
extern _Atomic int scarce_left;

#endif

// SPDX-License-Identifier: MIT
//
// make_tar.h - tar archives for tests, member by member, with room for what is wrong.

#ifndef TESTS_MAKE_TAR_H
#define TESTS_MAKE_TAR_H

#include <stddef.h>
#include <stdint.h>

struct tar_archive {
    uint8_t bytes[1 << 16];
    size_t size;
};

enum { TAR_USTAR, TAR_GNU, TAR_OLD };

/* Adds a header, whose field of the size says `size`, and the content; returns the header, which may be changed, then
   tar_seal gives it its checksum again. */
uint8_t *tar_add(struct tar_archive *a, int format, char type, const char *name, const void *content, size_t size);
void tar_seal(uint8_t *header);

/* A pax header with these records in front of the next member: "KEY=VALUE" each, ended by NULL. */
void tar_add_pax(struct tar_archive *a, char type, const char *const *records);

void tar_end(struct tar_archive *a); /* two blocks of zeros */

#endif

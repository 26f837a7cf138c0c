// SPDX-License-Identifier: MIT
//
// tar.h - what lies where in a tar archive. Nothing is unpacked: members are found by their headers and read in place.
//
// Read are the formats that tar programs write: POSIX ustar and pax (path and size of extended headers count), GNU tar with its
// long names, and the old one without a magic number. Source: POSIX.1-2017, utility pax; GNU tar's manual, "Basic Tar Format".

#ifndef MODELS_TAR_H
#define MODELS_TAR_H

#include <stddef.h>
#include <stdint.h>

#include "models/err.h"

#define TAR_BLOCK        512
#define TAR_NAME_MAX     4096  /* bytes of a member's name */
#define TAR_EXTENDED_MAX 65536 /* bytes of an extended header */

enum tar_kind { TAR_FILE, TAR_LINK, TAR_OTHER }; /* TAR_OTHER: directories, devices */

struct tar_member {
    const char *name; /* without "./" in front; borrowed for the call */
    enum tar_kind kind;
    uint64_t offset, size; /* of the content, inside the archive; 0 unless TAR_FILE */
};

/* Calls see() for each member in the archive's order; -1 from it ends the walk. ERR_DAMAGED for a wrong checksum, a number that
   is none, a member that ends behind the archive's end, an archive without its end mark; ERR_UNSUPPORTED for sparse files and
   archives in several parts; ERR_TOO_LARGE; ERR_IO. Errors give the place, not the archive's name. */
typedef int tar_see(void *user, const struct tar_member *m, struct err *e);
int tar_walk(int fd, uint64_t bytes, tar_see *see, void *user, struct err *e);

/* Whether the first block of a file is a member's header, going by the magic number. */
int tar_recognise(const uint8_t *block, size_t size);

#endif

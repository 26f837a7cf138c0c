// SPDX-License-Identifier: MIT
//
// memory_file.h - an input as a file, for targets that open one. It is in memory, and one file serves every run: to make and drop
// one costs more than to parse it.

#ifndef TESTS_FUZZ_MEMORY_FILE_H
#define TESTS_FUZZ_MEMORY_FILE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* The path of a file that holds just these bytes, until the next call. fd: NULL, or where its descriptor goes; do not close. */
static inline const char *memory_file(const uint8_t *data, size_t size, int *fd)
{
    static char path[64];
    static int file = -1;
    if (file < 0) {
        file = memfd_create("fuzz", MFD_CLOEXEC);
        snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    }
    if (file < 0 || ftruncate(file, (off_t)size) < 0 || pwrite(file, data, size, 0) != (ssize_t)size) {
        perror("memory_file");
        abort();
    }
    if (fd)
        *fd = file;
    return path;
}

#endif

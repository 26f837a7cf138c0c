// SPDX-License-Identifier: MIT
//
// input.h - regular files, read by position: what others may shrink or replace meanwhile is an error value, not a signal.

#ifndef MODELS_INPUT_H
#define MODELS_INPUT_H

#include <stddef.h>
#include <stdint.h>

#include "models/err.h"

/* Opens a regular file for reading; name is relative to dir, a descriptor or AT_FDCWD. Its descriptor, to be closed, and its
   size; or -1, ERR_NOT_FOUND, ERR_IO, or ERR_INPUT for what is not a regular file. Errors give the reason, not the name. */
int input_open(int dir, const char *name, uint64_t *bytes, struct err *e);

/* Exactly size bytes from offset. ERR_DAMAGED when the file has become shorter; ERR_IO. */
int input_read(int fd, void *out, uint64_t size, uint64_t offset, struct err *e);

#endif

// SPDX-License-Identifier: MIT
//
// multipart.h - finds the one file in a multipart/form-data body (RFC 7578, RFC 2046), strictly, without copying.
//
// Everything is whole in memory, so this is a search and not a state machine. Refused: a missing or odd boundary, parts without
// Content-Disposition: form-data, no file or two, unknown transfer encodings, a body that does not end with the closing
// delimiter.

#ifndef DAEMON_MULTIPART_H
#define DAEMON_MULTIPART_H

#include <stddef.h>
#include <stdint.h>

#include "models/err.h"

#define MULTIPART_PARTS_MAX  16
#define MULTIPART_HEADER_MAX 4096 /* bytes of one part's header lines */

/* The boundary parameter of a Content-Type value into out (RFC 2046: 1 to 70 characters). -1, ERR_INPUT. */
int multipart_boundary(const char *content_type, char out[71], struct err *e);

/* The bytes of the one part with a filename, or, when none has one, of the one part named image or file; borrowed from body. */
int multipart_file(const uint8_t *body, size_t size, const char *boundary, const uint8_t **file, size_t *file_size,
                   struct err *e);

#endif

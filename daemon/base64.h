// SPDX-License-Identifier: MIT
//
// base64.h - RFC 4648 base64, strict: the standard alphabet, padding required, unused bits zero, nothing else in between.

#ifndef DAEMON_BASE64_H
#define DAEMON_BASE64_H

#include <stddef.h>

#include "models/err.h"

/* Decodes in place: the result lies at text and is never longer than what it came from. -1, ERR_INPUT with the position. */
int base64_decode(char *text, size_t len, size_t *out_len, struct err *e);

#endif

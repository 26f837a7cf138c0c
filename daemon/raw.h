// SPDX-License-Identifier: MIT
//
// raw.h - what libmicrohttpd before 1.0 hides of a header. It cuts lines and fields at NULs, takes a lone LF for CR LF, glues a
// folded line to the field's name in a copy elsewhere, and ends the header at a line whose name is empty, so that what follows is
// read as the next request. All of that shows when the bytes are counted.

#ifndef DAEMON_RAW_H
#define DAEMON_RAW_H

#include "daemon/guard.h"

/* 1 when every byte of the header is accounted for: a request line with single blanks, then for each field its name, a colon,
   blanks, its value and CR LF, then an empty line. start: of the request line; version: where it stands in that line; size: of
   the whole header. The fields of r lie in the same buffer, whose delimiters libmicrohttpd has overwritten. */
int raw_is_whole(const struct guard_request *r, const char *start, const char *version, size_t size);

#endif

// SPDX-License-Identifier: MIT
//
// access.h - who may talk, and who may change things (design section 5, "Who may change things").

#ifndef DAEMON_ACCESS_H
#define DAEMON_ACCESS_H

#include <stddef.h>

struct request;

/* 1 when the Host may be used with the address this came in on: browsers can be led to loopback under any name (DNS rebinding),
   so there only loopback names and those of `hosts` count. */
int access_host(const struct request *r);

/* 1 when the request may change things; else why not and how to, in words. */
int access_change(const struct request *r, char *why, size_t size);

/* 1 when the answer may name places in the file system: whoever could change things, be it with another Content-Type. */
int access_details(const struct request *r);

/* In time that does not depend on where they differ. Unequal lengths differ. */
int access_equal(const char *a, size_t a_len, const char *b, size_t b_len);

#endif

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

/* 0 when a browser says that a page of another site caused this request, and that it is more than a look (Sec-Fetch-Site): such a
   page could not read the answer, only have this machine work. */
int access_site(const struct request *r);

/* 1 when the request may change things; else why not and how to, in words. */
int access_change(const struct request *r, char *why, size_t size);

/* 1 when the answer may name places in the file system: whoever could change things, be it with another Content-Type. */
int access_details(const struct request *r);

#define ACCESS_TOKEN_SIZE 512 /* of a token, with the NUL behind it */

/* 1 when the string given is the token, behind which the array holds NULs. In time that depends neither on where they differ nor
   on how long they are; tests/proof/constant_time.c measures it. */
int access_equal(const char *given, size_t given_len, const char token[ACCESS_TOKEN_SIZE]);

#endif

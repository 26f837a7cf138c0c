// SPDX-License-Identifier: MIT
//
// listen.h - the sockets of `listen`: ADDR:PORT, [v6]:PORT, unix:/path.

#ifndef DAEMON_LISTEN_H
#define DAEMON_LISTEN_H

#include <stddef.h>

#include "models/err.h"

struct listener {
    int fd;
    int is_unix;
    int is_loopback; /* bound to a loopback address */
    char path[108];  /* of a unix socket, to be unlinked; else "" */
};

/* word, len: one of the addresses. Errors name it. */
int listen_open(const char *word, size_t len, struct listener *out, struct err *e);

/* Unlinks a unix socket's path, once; the descriptor is left alone. */
void listen_remove(struct listener *l);

/* Checks the form only. */
int listen_check(const char *word, size_t len, struct err *e);

#endif

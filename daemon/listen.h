// SPDX-License-Identifier: MIT
//
// listen.h - the sockets of `listen`: ADDR:PORT, [v6]:PORT, unix:/path; or those that systemd opened for us.

#ifndef DAEMON_LISTEN_H
#define DAEMON_LISTEN_H

#include <stddef.h>

#include "models/err.h"

struct listener {
    int fd;
    int is_unix;
    int is_loopback; /* bound to a loopback address */
    char path[108];  /* of a unix socket, to be unlinked; else "" */
    int inherited;   /* systemd keeps it open, too: who waits in it is served by the next daemon */
};

/* word, len: one of the addresses. Errors name it. */
int listen_open(const char *word, size_t len, struct listener *out, struct err *e);

/* Socket activation (sd_listen_fds(3)): the sockets passed to this process, or 0 of them. -1: one of them cannot be served. */
int listen_inherit(struct listener *out, int max, struct err *e);

/* What to call a listener in a log line: its address. */
void listen_describe(const struct listener *l, char *out, size_t size);

/* Unlinks a unix socket's path, once; the descriptor is left alone. */
void listen_remove(struct listener *l);

/* Checks the form only. */
int listen_check(const char *word, size_t len, struct err *e);

#endif

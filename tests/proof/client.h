// SPDX-License-Identifier: MIT
//
// client.h - an HTTP/1.1 client on one kept connection to 127.0.0.1, for the proofs: small, and honest about what came.

#ifndef TESTS_PROOF_CLIENT_H
#define TESTS_PROOF_CLIENT_H

#include <stddef.h>
#include <stdint.h>

struct client {
    int port, fd, fresh; /* fd -1: not connected; fresh: nothing was answered on it yet */
    int patience_s;      /* for a read or write; 0: 60 */
    char *reply;         /* the body of the last answer, as a string; NULL before the first */
    size_t length;
};

int client_dial(struct client *c);
void client_hang_up(struct client *c);
int client_send(struct client *c, const char *p, size_t size);

/* Sends a request and takes its answer: the status, or -1. A kept connection that the daemon closed meanwhile is dialled again.
   type NULL: no Content-Type. */
int client_ask(struct client *c, const char *method, const char *path, const char *type, const char *body, size_t size);
void client_free(struct client *c);

int64_t now_us(void);

/* A small file, and the same as {"image":{"b64":"..."}}. They end the program on failure. */
char *file_read(const char *path, size_t *size);
char *file_as_json(const char *bytes, size_t size);

#endif

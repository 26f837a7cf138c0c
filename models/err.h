// SPDX-License-Identifier: MIT
//
// err.h - the error value shared by models/ and daemon/: a code that decides what happens, a text that a person can act on.

#ifndef MODELS_ERR_H
#define MODELS_ERR_H

enum err_code {
    ERR_INPUT,       /* what was given makes no sense: bad parameter, wrong shape */
    ERR_UNSUPPORTED, /* well formed, but of a kind we do not read */
    ERR_DAMAGED,     /* truncated, corrupt, contradicts itself */
    ERR_TOO_LARGE,   /* beyond a limit */
    ERR_NOT_FOUND,
    ERR_BUSY,        /* no room now, later perhaps */
    ERR_MEMORY,
    ERR_IO,
    ERR_INTERNAL
};

struct err {
    enum err_code code;
    char text[320];
};

/* Writes code and text (cut to fit, between UTF-8 characters; control characters replaced) and returns -1, so that a caller can `return err_set(...)`.
   e may be NULL. */
int err_set(struct err *e, enum err_code code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " in front of the text, keeping the code; returns -1. */
int err_prefix(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif

// SPDX-License-Identifier: MIT
//
// conf_value.h - one value of the configuration: from text into its field, and back.

#ifndef DAEMON_CONF_VALUE_H
#define DAEMON_CONF_VALUE_H

#include <stddef.h>
#include <stdio.h>

#include "models/err.h"

enum conf_type {
    CONF_INT,       /* int64_t */
    CONF_BYTES,     /* int64_t; suffix K, M, G (powers of 1024) */
    CONF_TIME,      /* int64_t milliseconds; suffix ms, s, m, h */
    CONF_BOOL,      /* int; yes or no */
    CONF_CHOICE,    /* int; a name of choices */
    CONF_TEXT,      /* char *, min..max bytes */
    CONF_WORDS,     /* char *, min..max blank-separated words */
    CONF_PRECISION, /* int; auto or a precision */
    CONF_PRECISIONS /* int; bits of precisions */
};

struct conf_choice {
    const char *name; /* NULL ends the list */
    int value;
};

struct conf_row {
    const char *section, *key;
    enum conf_type type;
    size_t at;          /* offset of the field */
    long long min, max; /* of the number, the bytes of a text, the count of words */
    const char *standard;
    const struct conf_choice *choices;
    int flags;
};

/* The field keeps its old value on failure. Texts are owned by the field. */
int conf_value_set(const struct conf_row *row, void *base, const char *text, struct err *e);
void conf_value_free(const struct conf_row *row, void *base);
void conf_value_print(const struct conf_row *row, const void *base, FILE *f);               /* "key = value\n" */
int conf_value_copy(const struct conf_row *row, void *to, const void *from, struct err *e); /* -1: no memory */
int conf_value_equal(const struct conf_row *row, const void *a, const void *b);

#endif

// SPDX-License-Identifier: MIT
//
// text.h - a text that grows: replies, metrics and log lines are written with it. The first failed allocation sticks, so that
// callers check once at the end.

#ifndef DAEMON_TEXT_H
#define DAEMON_TEXT_H

#include <stddef.h>

struct text {
    char *s; /* NUL-terminated once anything was written */
    size_t len, cap;
    int failed;
};

void text_add(struct text *t, const char *s, size_t len);
void text_puts(struct text *t, const char *s);
void text_printf(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The string as JSON, quotes included. Bytes that are not UTF-8 become U+FFFD. */
void text_json(struct text *t, const char *s);

/* A finite number with the fewest digits that read back as the same float; others become null. */
void text_float(struct text *t, float v);

void text_free(struct text *t); /* leaves it empty and usable */

#endif

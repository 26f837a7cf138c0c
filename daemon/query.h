// SPDX-License-Identifier: MIT
//
// query.h - the query string of a request target: names, percent-decoded values, strict numbers.

#ifndef DAEMON_QUERY_H
#define DAEMON_QUERY_H

#include <stddef.h>

#include "models/err.h"

#define QUERY_MAX 16

struct query {
    char text[1024]; /* decoded names and values, each NUL-terminated */
    struct {
        const char *name, *value;
    } items[QUERY_MAX];
    int count;
};

/* uri: the raw target; what follows its first '?'. -1, ERR_INPUT: too long, too many, a name twice, a bad escape, a control
   character. Pointers reach into *out, so it must not be copied. */
int query_parse(const char *uri, struct query *out, struct err *e);

const char *query_get(const struct query *q, const char *name); /* NULL when absent */

/* 0 when every name is in the NULL-ended list, else -1 with e naming the stranger and the list. */
int query_only(const struct query *q, const char *const *names, struct err *e);

/* The value as a number; *out keeps its value when the name is absent. -1, ERR_INPUT. */
int query_int(const struct query *q, const char *name, long min, long max, long *out, struct err *e);
int query_number(const struct query *q, const char *name, double min, double max, double *out, struct err *e);

#endif

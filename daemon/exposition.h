// SPDX-License-Identifier: MIT
//
// exposition.h - how metrics are written: the Prometheus text format 0.0.4, or OpenMetrics 1.0, which adds units, exemplars and
// an end mark and names a family of counters without its _total. Which of the two, the client's Accept decides.

#ifndef DAEMON_EXPOSITION_H
#define DAEMON_EXPOSITION_H

#include <stdint.h>

#include "daemon/text.h"

#define BUCKETS      16 /* upper bounds: 0.1 ms .. 10 s, then infinity */
#define EXEMPLAR_MAX 64 /* characters of its id; with its name below the 128 that OpenMetrics allows */
extern const double metrics_bounds[BUCKETS];

/* The last observation of a bucket that somebody can be asked about. */
struct exemplar {
    const char *label;         /* "trace_id" or "request_id"; NULL: none */
    char id[EXEMPLAR_MAX + 1]; /* of characters that need no escaping */
    double value, unix_time;
};

struct histogram {
    uint64_t bucket[BUCKETS + 1]; /* not cumulative; the last is beyond the largest bound */
    double sum;
    struct exemplar exemplar[BUCKETS + 1];
};

struct exposition {
    struct text *t;
    int openmetrics;
};

/* 1 when the client likes OpenMetrics 1.0 at least as much as the text format. NULL and nonsense: 0. */
int exposition_accept(const char *accept);
const char *exposition_type(int openmetrics); /* Content-Type */

/* A family, once, before its samples. name is that of the samples; type "counter" (name ends with _total), "gauge", "histogram"
   or "info" (name ends with _info). */
void exposition_family(struct exposition *x, const char *name, const char *type, const char *help);

/* name{labels} value; labels "" or "a=\"b\",..." made with exposition_label. */
void exposition_sample(struct exposition *x, const char *name, const char *labels, double value);
void exposition_histogram(struct exposition *x, const char *name, const char *labels, const struct histogram *h,
                          const double *bounds, int bound_count);
void exposition_end(struct exposition *x);

void exposition_label(struct text *t, const char *name, const char *value); /* name="escaped value" */
void exposition_value(struct text *t, double v);                            /* as Prometheus reads it */

#endif

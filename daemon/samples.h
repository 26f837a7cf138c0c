// SPDX-License-Identifier: MIT
//
// samples.h - what GET /metrics says, for resnetctl: a text in Prometheus' format 0.0.4 becomes a list of samples that can be
// summed and whose histograms can be asked for quantiles.

#ifndef DAEMON_SAMPLES_H
#define DAEMON_SAMPLES_H

#include <stddef.h>

#include "models/err.h"

#define SAMPLES_MAX        200000
#define SAMPLES_BOUNDS_MAX 32

struct metric {
    const char *name, *labels; /* labels: what stood in braces; "" without */
    double value;
};

struct samples {
    char *text; /* owned; names and labels point into it */
    struct metric *s;
    int count;
};

/* Takes text, which malloc made, over; it is changed. ERR_DAMAGED names the line that is none of the format. */
int samples_parse(char *text, struct samples *out, struct err *e);
void samples_free(struct samples *s); /* an empty one is fine */

/* The value of a label, its escapes resolved, what is no printable ASCII as '?'; 0: there is no such label, out is "". */
int samples_label(const struct metric *s, const char *label, char *out, size_t size);

/* Sum of the values of all series of that name whose label has that value (label NULL: of all); *found, when not NULL: how many.
 */
double samples_sum(const struct samples *s, const char *name, const char *label, const char *value, int *found);

/* A histogram's buckets: cumulative counts by upper bound, the last one infinite. */
struct buckets {
    int n;
    double bound[SAMPLES_BOUNDS_MAX], count[SAMPLES_BOUNDS_MAX];
};

/* Sums the buckets name_bucket of all series that match as above into b. */
void samples_buckets(const struct samples *s, const char *name, const char *label, const char *value, struct buckets *b);

/* What was added since before; a count that fell starts anew. */
void buckets_since(struct buckets *b, const struct buckets *before);

/* As histogram_quantile() of Prometheus: linear within a bucket, the largest finite bound beyond it; NAN without observations. */
double buckets_quantile(const struct buckets *b, double q);

#endif

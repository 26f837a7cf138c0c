// SPDX-License-Identifier: MIT
//
// metrics.h - counters and histograms of the service, and the Prometheus text format 0.0.4.
//
// Every label comes from a fixed set, so the number of series does not depend on what clients send. One lock guards all numbers:
// a scrape sees histograms whose sum and count belong together.

#ifndef DAEMON_METRICS_H
#define DAEMON_METRICS_H

#include "daemon/conf.h"
#include "daemon/text.h"

#define BUCKETS 16 /* upper bounds: 0.1 ms .. 10 s, then infinity */
extern const double metrics_bounds[BUCKETS];

struct histogram {
    uint64_t bucket[BUCKETS + 1]; /* not cumulative; the last is beyond the largest bound */
    double sum;
};
void histogram_add(struct histogram *h, double seconds);

enum stage { STAGE_QUEUE, STAGE_DECODE, STAGE_PREPROCESS, STAGE_INFERENCE, STAGES };
extern const char *const stage_names[STAGES];

enum reject {
    REJECT_QUEUE_FULL,
    REJECT_DEADLINE,
    REJECT_MEMORY,
    REJECT_TOO_LARGE,
    REJECT_BAD_REQUEST, /* the request guard */
    REJECT_HOST,
    REJECT_FORBIDDEN,
    REJECT_SLOW,
    REJECT_CLIENT_GONE,
    REJECTS
};

struct metrics;

struct metrics *metrics_new(void); /* NULL: no memory */
void metrics_free(struct metrics *m);

/* route: a row of the routes table's names or "other"; method likewise. */
void metrics_request(struct metrics *m, const char *route, const char *method, int status, double seconds);
void metrics_reject(struct metrics *m, enum reject reason);
void metrics_stage(struct metrics *m, int model, enum precision p, enum stage stage, double seconds);
void metrics_inference(struct metrics *m, int model, enum precision p); /* one image */
void metrics_batch(struct metrics *m, int images);                       /* computed in one run of a worker */
void metrics_switch(struct metrics *m, int model, enum precision from, enum precision to, double seconds);
void metrics_reload(struct metrics *m, int successful);

/* Writes the families that live in here. model_names[MODELS_MAX]: NULL where there is none. */
void metrics_write(struct metrics *m, const char *const *model_names, struct text *t);

/* Pieces of the format, used for the families that other parts own. help and type once per family; labels as "a=\"b\"" made with
   metrics_label. */
void metrics_family(struct text *t, const char *name, const char *type, const char *help);
void metrics_label(struct text *t, const char *name, const char *value); /* name="escaped value" */
void metrics_value(struct text *t, double v);                            /* as Prometheus reads it, with the line end */
void metrics_histogram(struct text *t, const char *name, const char *labels, const struct histogram *h);

#endif

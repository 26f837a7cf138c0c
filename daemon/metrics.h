// SPDX-License-Identifier: MIT
//
// metrics.h - counters and histograms of the service.
//
// Every label comes from a fixed set, so the number of series does not depend on what clients send: it is settled by the routes
// and the installed models, and all of them are there from the start, at 0. A histogram is copied under the lock: its sum and its
// count belong together, and nobody waits while it is written.

#ifndef DAEMON_METRICS_H
#define DAEMON_METRICS_H

#include "daemon/conf.h"
#include "daemon/exposition.h"

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

/* Whose observation it is, for the exemplar of its bucket: the trace if there is one, else the request. Borrowed. */
struct origin {
    const char *request_id, *trace_id; /* "" or NULL: none */
};

struct metrics;

struct metrics *metrics_new(void); /* NULL: no memory */
void metrics_free(struct metrics *m);

/* route: a row of the routes table's names or "other"; method likewise. */
void metrics_request(struct metrics *m, const char *route, const char *method, int status, double seconds,
                     const struct origin *o);
void metrics_reject(struct metrics *m, enum reject reason);
void metrics_stage(struct metrics *m, int model, enum precision p, enum stage stage, double seconds, const struct origin *o);
void metrics_inference(struct metrics *m, int model, enum precision p); /* one image */
void metrics_batch(struct metrics *m, int images);                      /* computed in one run of a worker */
void metrics_switch(struct metrics *m, int model, enum precision from, enum precision to, double seconds);
void metrics_reload(struct metrics *m, int successful);

/* A model as the metrics know it; by its slot. */
struct metrics_model {
    const char *name; /* NULL: there is none */
    int precisions;   /* bits: installed */
};

/* Writes the families that live in here. models[MODELS_MAX]. */
void metrics_write(struct metrics *m, const struct metrics_model *models, struct exposition *x);

#endif

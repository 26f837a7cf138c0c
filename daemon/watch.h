// SPDX-License-Identifier: MIT
//
// watch.h - what two readings of GET /metrics say about the time between them: rates, times by stage, memory, temperature.

#ifndef DAEMON_WATCH_H
#define DAEMON_WATCH_H

#include <cjson/cJSON.h>

#include "daemon/samples.h"

enum { WATCH_QUEUE, WATCH_DECODE, WATCH_PREPROCESS, WATCH_INFERENCE, WATCH_REQUEST, WATCH_STAGES };
extern const char *const watch_stages[WATCH_STAGES]; /* the last is the whole request */

#define WATCH_MODELS_MAX 16
#define WATCH_CPUS_MAX   64

struct watch_model {
    char name[80], precision[16]; /* the active one */
    char others[64];              /* more precisions in memory, or "" */
    double images_per_second, weights_bytes;
};

/* NAN: the daemon does not tell. */
struct watch {
    char version[40], kernels[40];
    double seconds, uptime_s; /* between the readings; of the daemon */
    double requests_per_second, images_per_second, refused_per_second, in_flight, connections;
    double queue_depth, queue_capacity;
    double resident_bytes, admitted_bytes, limit_bytes;
    double cpu_percent, celsius, throttled;
    double hertz[WATCH_CPUS_MAX];
    int cpus;
    struct {
        double per_second, p50_ms, p99_ms;
    } stages[WATCH_STAGES];
    struct watch_model models[WATCH_MODELS_MAX];
    int model_count;
};

/* unix_now: for the uptime. Where the daemon was started anew in between, everything since counts. */
void watch_compare(const struct samples *before, const struct samples *now, double seconds, double unix_now, struct watch *w);

cJSON *watch_json(const struct watch *w); /* NULL: no memory */

#endif

// SPDX-License-Identifier: MIT
#include "daemon/metrics.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/api.h"

const char *const stage_names[STAGES] = {"queue", "decode", "preprocess", "inference"};

static const char *const reject_names[REJECTS] = {"queue_full", "deadline",  "memory", "too_large",  "bad_request",
                                                  "host",       "forbidden", "slow",   "client_gone"};

static const char *const methods[] = {"GET", "HEAD", "POST", "PUT", "OPTIONS", "other"};
enum { METHODS = sizeof methods / sizeof methods[0] };

/* Status codes and the kinds of routes that may answer with them. A code that a kind does not expect counts as "other", so that
   the series stay the same; the last row stands for it. */
enum kind { ANY = 1, BODY = 2, ADMIN = 4, NO_ROUTE = 8 };
static const struct code {
    int code, kinds;
} codes[] = {
    {200, ANY | NO_ROUTE},
    {202, ADMIN},
    {400, ANY | NO_ROUTE},
    {401, ADMIN | NO_ROUTE},
    {403, ADMIN | NO_ROUTE},
    {404, ANY | NO_ROUTE},
    {405, NO_ROUTE},
    {408, ANY | NO_ROUTE},
    {409, BODY | ADMIN},
    {411, BODY | ADMIN},
    {413, ANY | NO_ROUTE},
    {414, NO_ROUTE},
    {415, BODY},
    {422, BODY},
    {431, NO_ROUTE},
    {500, ANY},
    {501, BODY | NO_ROUTE},
    {503, ANY | NO_ROUTE},
    {504, BODY},
    {505, NO_ROUTE},
    {0, ANY | NO_ROUTE},
};
enum { CODES = sizeof codes / sizeof codes[0] };

struct metrics {
    pthread_mutex_t lock;
    uint64_t requests[API_ROUTES_MAX][METHODS][CODES];
    struct histogram duration[API_ROUTES_MAX];
    uint64_t rejects[REJECTS];
    struct histogram stages[MODELS_MAX][PRECISIONS][STAGES];
    uint64_t inferences[MODELS_MAX][PRECISIONS];
    uint64_t switches[MODELS_MAX][PRECISIONS][PRECISIONS];
    struct histogram switch_duration;
    struct histogram batch; /* its bounds are batch_bounds */
    uint64_t reloads[2];
};

struct metrics *metrics_new(void)
{
    struct metrics *m = calloc(1, sizeof *m);
    if (m)
        pthread_mutex_init(&m->lock, NULL);
    return m;
}

void metrics_free(struct metrics *m)
{
    if (!m)
        return;
    pthread_mutex_destroy(&m->lock);
    free(m);
}

static void add(struct histogram *h, const double *bounds, int n, double v, const struct origin *o)
{
    int i = 0;
    while (i < n && v > bounds[i])
        i++;
    h->bucket[i]++;
    h->sum += v;
    const char *trace = o ? o->trace_id : NULL, *id = trace && *trace ? trace : o ? o->request_id : NULL;
    if (!id || !*id || strlen(id) > EXEMPLAR_MAX)
        return;
    struct exemplar *e = &h->exemplar[i];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    e->label = id == trace ? "trace_id" : "request_id";
    memcpy(e->id, id, strlen(id) + 1);
    e->value = v;
    e->unix_time = (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void add_seconds(struct histogram *h, double seconds, const struct origin *o)
{
    add(h, metrics_bounds, BUCKETS, seconds, o);
}

static int index_of(const char *const *names, int n, const char *name)
{
    for (int i = 0; i < n - 1; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return n - 1; /* "other" */
}

/* Row 0 .. CODES - 1 of a status on a route of that kind. */
static int code_index(int status, int kinds)
{
    int c = 0;
    while (c < CODES - 1 && (codes[c].code != status || !(codes[c].kinds & kinds)))
        c++;
    return c;
}

/* What kind of route it is for that method; 0: it is never asked that. */
static int kinds_of(int route, const char *method)
{
    int flags = api_route_flags(route, method);
    if (!api_route_name(route + 1)) /* the last: what has no route */
        return NO_ROUTE;
    return flags < 0 ? 0 : ANY | (flags & (API_BODY | API_SLOW) ? BODY : 0) | (flags & API_ADMIN ? ADMIN : 0);
}

void metrics_request(struct metrics *m, const char *route, const char *method, int status, double seconds, const struct origin *o)
{
    int r = api_route_index(route), me = index_of(methods, METHODS, method), c = code_index(status, kinds_of(r, method));
    pthread_mutex_lock(&m->lock);
    m->requests[r][me][c]++;
    add_seconds(&m->duration[r], seconds, o);
    pthread_mutex_unlock(&m->lock);
}

void metrics_reject(struct metrics *m, enum reject reason)
{
    pthread_mutex_lock(&m->lock);
    m->rejects[reason]++;
    pthread_mutex_unlock(&m->lock);
}

void metrics_stage(struct metrics *m, int model, enum precision p, enum stage stage, double seconds, const struct origin *o)
{
    pthread_mutex_lock(&m->lock);
    add_seconds(&m->stages[model][p][stage], seconds, o);
    pthread_mutex_unlock(&m->lock);
}

static const double batch_bounds[] = {1, 2, 4, 8, 16, 32};
enum { BATCH_BOUNDS = sizeof batch_bounds / sizeof batch_bounds[0] };

void metrics_inference(struct metrics *m, int model, enum precision p)
{
    pthread_mutex_lock(&m->lock);
    m->inferences[model][p]++;
    pthread_mutex_unlock(&m->lock);
}

void metrics_batch(struct metrics *m, int images)
{
    pthread_mutex_lock(&m->lock);
    add(&m->batch, batch_bounds, BATCH_BOUNDS, images, NULL);
    pthread_mutex_unlock(&m->lock);
}

void metrics_switch(struct metrics *m, int model, enum precision from, enum precision to, double seconds)
{
    pthread_mutex_lock(&m->lock);
    m->switches[model][from][to]++;
    add_seconds(&m->switch_duration, seconds, NULL);
    pthread_mutex_unlock(&m->lock);
}

void metrics_reload(struct metrics *m, int successful)
{
    pthread_mutex_lock(&m->lock);
    m->reloads[successful != 0]++;
    pthread_mutex_unlock(&m->lock);
}

/* ---- writing ---- */

static double read_count(struct metrics *m, const uint64_t *n)
{
    pthread_mutex_lock(&m->lock);
    uint64_t v = *n;
    pthread_mutex_unlock(&m->lock);
    return (double)v;
}

static void write_histogram(struct metrics *m, struct exposition *x, const char *name, const char *labels,
                            const struct histogram *h, const double *bounds, int bound_count)
{
    pthread_mutex_lock(&m->lock);
    const struct histogram copy = *h;
    pthread_mutex_unlock(&m->lock);
    exposition_histogram(x, name, labels, &copy, bounds, bound_count);
}

static void write_route(struct metrics *m, struct exposition *x, int route)
{
    for (int me = 0; me < METHODS; me++)
        for (int c = 0; c < CODES; c++) {
            char code[16] = "other", labels[160];
            if (!(codes[c].kinds & kinds_of(route, methods[me])))
                continue;
            if (codes[c].code)
                snprintf(code, sizeof code, "%d", codes[c].code);
            snprintf(labels, sizeof labels, "route=\"%s\",method=\"%s\",code=\"%s\"", api_route_name(route), methods[me], code);
            exposition_sample(x, "resnetd_http_requests_total", labels, read_count(m, &m->requests[route][me][c]));
        }
}

static void write_requests(struct metrics *m, struct exposition *x)
{
    char labels[128];
    exposition_family(x, "resnetd_http_requests_total", "counter", "Requests answered, by route, method and status code.");
    for (int r = 0; api_route_name(r); r++)
        write_route(m, x, r);
    exposition_family(x, "resnetd_http_request_duration_seconds", "histogram",
                      "From the end of the header to the end of the reply.");
    for (int r = 0; api_route_name(r); r++) {
        snprintf(labels, sizeof labels, "route=\"%s\"", api_route_name(r));
        write_histogram(m, x, "resnetd_http_request_duration_seconds", labels, &m->duration[r], metrics_bounds, BUCKETS);
    }
    exposition_family(x, "resnetd_requests_rejected_total", "counter", "Requests refused or dropped, by reason.");
    for (int i = 0; i < REJECTS; i++) {
        snprintf(labels, sizeof labels, "reason=\"%s\"", reject_names[i]);
        exposition_sample(x, "resnetd_requests_rejected_total", labels, read_count(m, &m->rejects[i]));
    }
}

/* Walks the installed precisions of all models: *at is -1 at first and then slot * PRECISIONS + precision; labels name both. 0 at
   the end. */
static int next_model(const struct metrics_model *models, int *at, struct text *labels)
{
    while (++*at < MODELS_MAX * PRECISIONS) {
        const struct metrics_model *m = &models[*at / PRECISIONS];
        enum precision p = (enum precision)(*at % PRECISIONS);
        if (!m->name || !(m->precisions & 1 << p))
            continue;
        text_free(labels);
        exposition_label(labels, "model", m->name);
        text_printf(labels, ",precision=\"%s\"", precision_name(p));
        return 1;
    }
    text_free(labels);
    return 0;
}

static const char *string(const struct text *t)
{
    return t->s ? t->s : "";
}

static void write_models(struct metrics *m, const struct metrics_model *models, struct exposition *x)
{
    struct text labels = {0};
    exposition_family(x, "resnetd_inferences_total", "counter", "Images computed.");
    for (int at = -1; next_model(models, &at, &labels);)
        exposition_sample(x, "resnetd_inferences_total", string(&labels),
                          read_count(m, &m->inferences[at / PRECISIONS][at % PRECISIONS]));
    exposition_family(x, "resnetd_stage_duration_seconds", "histogram", "Time one request spends in one stage.");
    for (int at = -1; next_model(models, &at, &labels);)
        for (int s = 0; s < STAGES; s++) {
            struct text more = {0};
            text_printf(&more, "%s,stage=\"%s\"", string(&labels), stage_names[s]);
            write_histogram(m, x, "resnetd_stage_duration_seconds", string(&more),
                            &m->stages[at / PRECISIONS][at % PRECISIONS][s], metrics_bounds, BUCKETS);
            text_free(&more);
        }
}

static void write_switches(struct metrics *m, const struct metrics_model *models, struct exposition *x)
{
    struct text labels = {0};
    exposition_family(x, "resnetd_precision_switches_total", "counter", "Changes of the active precision.");
    for (int i = 0; i < MODELS_MAX; i++)
        for (int from = 0; models[i].name && from < PRECISIONS; from++)
            for (int to = 0; to < PRECISIONS; to++) {
                if (from == to || !(models[i].precisions & 1 << from) || !(models[i].precisions & 1 << to))
                    continue;
                exposition_label(&labels, "model", models[i].name);
                text_printf(&labels, ",from=\"%s\",to=\"%s\"", precision_name((enum precision)from),
                            precision_name((enum precision)to));
                exposition_sample(x, "resnetd_precision_switches_total", string(&labels),
                                  read_count(m, &m->switches[i][from][to]));
                text_free(&labels);
            }
    exposition_family(x, "resnetd_precision_switch_duration_seconds", "histogram", "From the request to the published model.");
    write_histogram(m, x, "resnetd_precision_switch_duration_seconds", "", &m->switch_duration, metrics_bounds, BUCKETS);
}

void metrics_write(struct metrics *m, const struct metrics_model *models, struct exposition *x)
{
    write_requests(m, x);
    write_models(m, models, x);
    write_switches(m, models, x);
    exposition_family(x, "resnetd_batch_size", "histogram", "Images computed in one run.");
    write_histogram(m, x, "resnetd_batch_size", "", &m->batch, batch_bounds, BATCH_BOUNDS);
    exposition_family(x, "resnetd_config_reloads_total", "counter", "Reloads of configuration and models, by outcome.");
    exposition_sample(x, "resnetd_config_reloads_total", "outcome=\"failed\"", read_count(m, &m->reloads[0]));
    exposition_sample(x, "resnetd_config_reloads_total", "outcome=\"done\"", read_count(m, &m->reloads[1]));
}

// SPDX-License-Identifier: MIT
#include "daemon/metrics.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/api.h"

const double metrics_bounds[BUCKETS] = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
                                        0.05,   0.1,     0.25,   0.5,   1,      2.5,   5,    10};

const char *const stage_names[STAGES] = {"queue", "decode", "preprocess", "inference"};

static const char *const reject_names[REJECTS] = {"queue_full", "deadline",  "memory", "too_large",  "bad_request",
                                                  "host",       "forbidden", "slow",   "client_gone"};

static const char *const methods[] = {"GET", "HEAD", "POST", "PUT", "OPTIONS", "other"};
enum { METHODS = sizeof methods / sizeof methods[0] };

static const int codes[] = {200, 202, 400, 403, 404, 405, 408, 409, 411, 413, 414, 415, 422, 431, 500, 501, 503, 504, 505, 0};
enum { CODES = sizeof codes / sizeof codes[0] }; /* the last stands for any other */

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

static void add(struct histogram *h, const double *bounds, int n, double v)
{
    int i = 0;
    while (i < n && v > bounds[i])
        i++;
    h->bucket[i]++;
    h->sum += v;
}

void histogram_add(struct histogram *h, double seconds)
{
    add(h, metrics_bounds, BUCKETS, seconds);
}

static int index_of(const char *const *names, int n, const char *name)
{
    for (int i = 0; i < n - 1; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return n - 1; /* "other" */
}

void metrics_request(struct metrics *m, const char *route, const char *method, int status, double seconds)
{
    int r = api_route_index(route), me = index_of(methods, METHODS, method), c = 0;
    while (c < CODES - 1 && codes[c] != status)
        c++;
    pthread_mutex_lock(&m->lock);
    m->requests[r][me][c]++;
    histogram_add(&m->duration[r], seconds);
    pthread_mutex_unlock(&m->lock);
}

void metrics_reject(struct metrics *m, enum reject reason)
{
    pthread_mutex_lock(&m->lock);
    m->rejects[reason]++;
    pthread_mutex_unlock(&m->lock);
}

void metrics_stage(struct metrics *m, int model, enum precision p, enum stage stage, double seconds)
{
    pthread_mutex_lock(&m->lock);
    histogram_add(&m->stages[model][p][stage], seconds);
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
    add(&m->batch, batch_bounds, BATCH_BOUNDS, images);
    pthread_mutex_unlock(&m->lock);
}

void metrics_switch(struct metrics *m, int model, enum precision from, enum precision to, double seconds)
{
    pthread_mutex_lock(&m->lock);
    m->switches[model][from][to]++;
    histogram_add(&m->switch_duration, seconds);
    pthread_mutex_unlock(&m->lock);
}

void metrics_reload(struct metrics *m, int successful)
{
    pthread_mutex_lock(&m->lock);
    m->reloads[successful != 0]++;
    pthread_mutex_unlock(&m->lock);
}

void metrics_family(struct text *t, const char *name, const char *type, const char *help)
{
    text_printf(t, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void metrics_label(struct text *t, const char *name, const char *value)
{
    text_printf(t, "%s=\"", name);
    for (const char *p = value; *p; p++) {
        if (*p == '\\' || *p == '"')
            text_printf(t, "\\%c", *p);
        else if (*p == '\n')
            text_puts(t, "\\n");
        else
            text_add(t, p, 1);
    }
    text_puts(t, "\"");
}

void metrics_value(struct text *t, double v)
{
    if (isnan(v))
        text_puts(t, " NaN\n");
    else if (isinf(v))
        text_puts(t, v > 0 ? " +Inf\n" : " -Inf\n");
    else if (v == floor(v) && fabs(v) < 1e15)
        text_printf(t, " %.0f\n", v);
    else
        text_printf(t, " %.9g\n", v);
}

static void write_histogram(struct text *t, const char *name, const char *labels, const struct histogram *h, const double *bounds,
                            int n)
{
    uint64_t total = 0;
    const char *comma = *labels ? "," : "", *open = *labels ? "{" : "", *close = *labels ? "}" : "";
    for (int i = 0; i <= n; i++) {
        total += h->bucket[i];
        if (i == n)
            text_printf(t, "%s_bucket{%s%sle=\"+Inf\"}", name, labels, comma);
        else if (bounds[i] == floor(bounds[i])) /* Prometheus 3 normalises integers to this form */
            text_printf(t, "%s_bucket{%s%sle=\"%.1f\"}", name, labels, comma, bounds[i]);
        else
            text_printf(t, "%s_bucket{%s%sle=\"%g\"}", name, labels, comma, bounds[i]);
        metrics_value(t, (double)total);
    }
    text_printf(t, "%s_sum%s%s%s", name, open, labels, close);
    metrics_value(t, h->sum);
    text_printf(t, "%s_count%s%s%s", name, open, labels, close);
    metrics_value(t, (double)total);
}

void metrics_histogram(struct text *t, const char *name, const char *labels, const struct histogram *h)
{
    write_histogram(t, name, labels, h, metrics_bounds, BUCKETS);
}

static void write_requests(struct metrics *m, struct text *t)
{
    metrics_family(t, "resnetd_http_requests_total", "counter", "Requests answered, by route, method and status code.");
    for (int r = 0; r < API_ROUTES_MAX; r++)
        for (int me = 0; me < METHODS; me++)
            for (int c = 0; c < CODES; c++) {
                /* what can be expected starts at 0; the rest appears when it happens */
                if (!m->requests[r][me][c] && !(codes[c] == 200 && api_route_has(r, methods[me])))
                    continue;
                char code[16] = "other";
                if (codes[c])
                    snprintf(code, sizeof code, "%d", codes[c]);
                text_printf(t, "resnetd_http_requests_total{route=\"%s\",method=\"%s\",code=\"%s\"}", api_route_name(r),
                            methods[me], code);
                metrics_value(t, (double)m->requests[r][me][c]);
            }
    metrics_family(t, "resnetd_http_request_duration_seconds", "histogram",
                   "From the end of the header to the end of the reply.");
    for (int r = 0; r < API_ROUTES_MAX; r++) {
        char labels[64];
        if (!api_route_name(r))
            continue;
        snprintf(labels, sizeof labels, "route=\"%s\"", api_route_name(r));
        metrics_histogram(t, "resnetd_http_request_duration_seconds", labels, &m->duration[r]);
    }
    metrics_family(t, "resnetd_requests_rejected_total", "counter", "Requests refused or dropped, by reason.");
    for (int i = 0; i < REJECTS; i++) {
        text_printf(t, "resnetd_requests_rejected_total{reason=\"%s\"}", reject_names[i]);
        metrics_value(t, (double)m->rejects[i]);
    }
}

static void model_labels(struct text *t, const char *model, int precision)
{
    text_free(t);
    metrics_label(t, "model", model);
    text_puts(t, ",");
    metrics_label(t, "precision", precision_name((enum precision)precision));
}

static void write_models(struct metrics *m, const char *const *names, struct text *t)
{
    struct text labels = {0};
    metrics_family(t, "resnetd_inferences_total", "counter", "Images computed.");
    for (int i = 0; i < MODELS_MAX; i++)
        for (int p = 0; names[i] && p < PRECISIONS; p++) {
            model_labels(&labels, names[i], p);
            text_printf(t, "resnetd_inferences_total{%s}", labels.s ? labels.s : "");
            metrics_value(t, (double)m->inferences[i][p]);
        }
    metrics_family(t, "resnetd_stage_duration_seconds", "histogram", "Time one request spends in one stage.");
    for (int i = 0; i < MODELS_MAX; i++)
        for (int p = 0; names[i] && p < PRECISIONS; p++)
            for (int s = 0; s < STAGES; s++) {
                if (!m->inferences[i][p])
                    continue; /* sixteen histograms per model are too many to send for nothing */
                model_labels(&labels, names[i], p);
                text_printf(&labels, ",stage=\"%s\"", stage_names[s]);
                metrics_histogram(t, "resnetd_stage_duration_seconds", labels.s ? labels.s : "", &m->stages[i][p][s]);
            }
    metrics_family(t, "resnetd_precision_switches_total", "counter", "Changes of the active precision.");
    for (int i = 0; i < MODELS_MAX; i++)
        for (int from = 0; names[i] && from < PRECISIONS; from++)
            for (int to = 0; to < PRECISIONS; to++) {
                if (!m->switches[i][from][to])
                    continue;
                text_puts(t, "resnetd_precision_switches_total{");
                metrics_label(t, "model", names[i]);
                text_printf(t, ",from=\"%s\",to=\"%s\"}", precision_name((enum precision)from),
                            precision_name((enum precision)to));
                metrics_value(t, (double)m->switches[i][from][to]);
            }
    text_free(&labels);
}

void metrics_write(struct metrics *m, const char *const *model_names, struct text *t)
{
    pthread_mutex_lock(&m->lock);
    write_requests(m, t);
    write_models(m, model_names, t);
    metrics_family(t, "resnetd_precision_switch_duration_seconds", "histogram", "From the request to the published model.");
    metrics_histogram(t, "resnetd_precision_switch_duration_seconds", "", &m->switch_duration);
    metrics_family(t, "resnetd_batch_size", "histogram", "Images computed in one run.");
    write_histogram(t, "resnetd_batch_size", "", &m->batch, batch_bounds, BATCH_BOUNDS);
    metrics_family(t, "resnetd_config_reloads_total", "counter", "Reloads of configuration and models, by outcome.");
    text_printf(t, "resnetd_config_reloads_total{outcome=\"failed\"} %llu\nresnetd_config_reloads_total{outcome=\"done\"} %llu\n",
                (unsigned long long)m->reloads[0], (unsigned long long)m->reloads[1]);
    pthread_mutex_unlock(&m->lock);
}

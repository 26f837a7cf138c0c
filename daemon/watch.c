// SPDX-License-Identifier: MIT
#include "daemon/watch.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "daemon/ctl.h"

const char *const watch_stages[WATCH_STAGES] = {"queue", "decode", "preprocess", "inference", "request"};

struct span {
    const struct samples *before, *now;
    double seconds;
};

/* What a counter grew; one that fell began anew. */
static double grown(const struct span *t, const char *name, const char *label, const char *value)
{
    double was = samples_sum(t->before, name, label, value, NULL), is = samples_sum(t->now, name, label, value, NULL);
    return is >= was ? is - was : is;
}

static double rate(const struct span *t, const char *name, const char *label, const char *value)
{
    return grown(t, name, label, value) / t->seconds;
}

static double gauge(const struct span *t, const char *name)
{
    int found;
    double v = samples_sum(t->now, name, NULL, NULL, &found);
    return found ? v : NAN;
}

static void take_stage(const struct span *t, int stage, struct watch *w)
{
    struct buckets b = {0}, before = {0};
    if (stage == WATCH_REQUEST) {
        samples_buckets(t->now, "resnetd_http_request_duration_seconds", "route", "/predict", &b);
        samples_buckets(t->before, "resnetd_http_request_duration_seconds", "route", "/predict", &before);
    } else {
        samples_buckets(t->now, "resnetd_stage_duration_seconds", "stage", watch_stages[stage], &b);
        samples_buckets(t->before, "resnetd_stage_duration_seconds", "stage", watch_stages[stage], &before);
    }
    buckets_since(&b, &before);
    w->stages[stage].per_second = b.n ? b.count[b.n - 1] / t->seconds : 0;
    w->stages[stage].p50_ms = buckets_quantile(&b, 0.5) * 1000;
    w->stages[stage].p99_ms = buckets_quantile(&b, 0.99) * 1000;
}

static struct watch_model *find_model(struct watch *w, const char *name)
{
    for (int i = 0; i < w->model_count; i++)
        if (strcmp(w->models[i].name, name) == 0)
            return &w->models[i];
    return NULL;
}

static void take_models(const struct span *t, struct watch *w)
{
    char name[80], precision[16], kind[16];
    for (int i = 0; i < t->now->count; i++) {
        const struct metric *s = &t->now->s[i];
        if (strcmp(s->name, "resnetd_active_precision") != 0 || s->value != 1 || w->model_count == WATCH_MODELS_MAX)
            continue;
        struct watch_model *m = &w->models[w->model_count++];
        samples_label(s, "model", m->name, sizeof m->name);
        samples_label(s, "precision", m->precision, sizeof m->precision);
        m->images_per_second = rate(t, "resnetd_inferences_total", "model", m->name);
    }
    for (int i = 0; i < t->now->count; i++) {
        const struct metric *s = &t->now->s[i];
        if (strcmp(s->name, "resnetd_model_memory_bytes") != 0 || !(s->value > 0) ||
            !samples_label(s, "kind", kind, sizeof kind) || strcmp(kind, "weights") != 0)
            continue;
        samples_label(s, "model", name, sizeof name);
        samples_label(s, "precision", precision, sizeof precision);
        struct watch_model *m = find_model(w, name);
        if (!m)
            continue;
        m->weights_bytes += s->value;
        size_t n = strlen(m->others);
        if (strcmp(precision, m->precision) != 0)
            snprintf(m->others + n, sizeof m->others - n, "%s%s", n ? " " : "", precision);
    }
}

static void take_frequencies(const struct span *t, struct watch *w)
{
    for (int i = 0; i < t->now->count && w->cpus < WATCH_CPUS_MAX; i++)
        if (strcmp(t->now->s[i].name, "resnetd_cpu_frequency_hertz") == 0)
            w->hertz[w->cpus++] = t->now->s[i].value;
}

void watch_compare(const struct samples *before, const struct samples *now, double seconds, double unix_now, struct watch *w)
{
    const struct span t = {before, now, seconds > 0 ? seconds : NAN};
    *w = (struct watch){.seconds = seconds};
    for (int i = 0; i < now->count; i++)
        if (strcmp(now->s[i].name, "resnetd_build_info") == 0) {
            samples_label(&now->s[i], "version", w->version, sizeof w->version);
            samples_label(&now->s[i], "kernels", w->kernels, sizeof w->kernels);
        }
    w->uptime_s = unix_now - gauge(&t, "process_start_time_seconds");
    /* the readings themselves are no work */
    double requests =
        grown(&t, "resnetd_http_requests_total", NULL, NULL) - grown(&t, "resnetd_http_requests_total", "route", "/metrics");
    w->requests_per_second = (requests > 0 ? requests : 0) / t.seconds;
    w->images_per_second = rate(&t, "resnetd_inferences_total", NULL, NULL);
    w->refused_per_second = rate(&t, "resnetd_requests_rejected_total", NULL, NULL);
    w->in_flight = gauge(&t, "resnetd_inflight_requests");
    w->connections = gauge(&t, "resnetd_open_connections");
    w->queue_depth = gauge(&t, "resnetd_queue_depth");
    w->queue_capacity = gauge(&t, "resnetd_queue_capacity");
    w->resident_bytes = gauge(&t, "process_resident_memory_bytes");
    w->admitted_bytes = gauge(&t, "resnetd_memory_admitted_bytes");
    w->limit_bytes = gauge(&t, "resnetd_memory_limit_bytes");
    w->cpu_percent = 100 * rate(&t, "process_cpu_seconds_total", NULL, NULL);
    w->celsius = gauge(&t, "resnetd_soc_temperature_celsius");
    w->throttled = gauge(&t, "resnetd_throttled");
    take_frequencies(&t, w);
    for (int stage = 0; stage < WATCH_STAGES; stage++)
        take_stage(&t, stage, w);
    take_models(&t, w);
}

/* ---- for machines ---- */

static cJSON *stages_json(const struct watch *w, int *bad)
{
    cJSON *all = cJSON_CreateObject();
    for (int i = 0; i < WATCH_STAGES; i++) {
        cJSON *o = cJSON_CreateObject();
        *bad |= ctl_put_number(o, "per_second", w->stages[i].per_second, 6);
        *bad |= ctl_put_number(o, "p50_ms", w->stages[i].p50_ms, 4);
        *bad |= ctl_put_number(o, "p99_ms", w->stages[i].p99_ms, 4);
        *bad |= ctl_put_item(all, watch_stages[i], o);
    }
    return all;
}

static cJSON *models_json(const struct watch *w, int *bad)
{
    cJSON *all = cJSON_CreateArray();
    for (int i = 0; i < w->model_count; i++) {
        cJSON *o = cJSON_CreateObject();
        *bad |= ctl_put_text(o, "name", w->models[i].name);
        *bad |= ctl_put_text(o, "precision", w->models[i].precision);
        *bad |= ctl_put_text(o, "also_in_memory", w->models[i].others);
        *bad |= ctl_put_number(o, "images_per_second", w->models[i].images_per_second, 6);
        *bad |= ctl_put_number(o, "weights_bytes", w->models[i].weights_bytes, 15);
        *bad |= ctl_append(all, o);
    }
    return all;
}

cJSON *watch_json(const struct watch *w)
{
    cJSON *o = cJSON_CreateObject(), *queue = cJSON_CreateObject(), *memory = cJSON_CreateObject(), *hertz = cJSON_CreateArray();
    int bad = 0;
    bad |= ctl_put_text(o, "version", w->version);
    bad |= ctl_put_text(o, "kernels", w->kernels);
    bad |= ctl_put_number(o, "uptime_s", w->uptime_s, 10);
    bad |= ctl_put_number(o, "interval_s", w->seconds, 6);
    bad |= ctl_put_number(o, "requests_per_second", w->requests_per_second, 6);
    bad |= ctl_put_number(o, "images_per_second", w->images_per_second, 6);
    bad |= ctl_put_number(o, "refused_per_second", w->refused_per_second, 6);
    bad |= ctl_put_number(o, "in_flight", w->in_flight, 15);
    bad |= ctl_put_number(o, "connections", w->connections, 15);
    bad |= ctl_put_number(queue, "depth", w->queue_depth, 15);
    bad |= ctl_put_number(queue, "capacity", w->queue_capacity, 15);
    bad |= ctl_put_item(o, "queue", queue);
    bad |= ctl_put_number(memory, "resident_bytes", w->resident_bytes, 15);
    bad |= ctl_put_number(memory, "admitted_bytes", w->admitted_bytes, 15);
    bad |= ctl_put_number(memory, "limit_bytes", w->limit_bytes, 15);
    bad |= ctl_put_item(o, "memory", memory);
    bad |= ctl_put_number(o, "cpu_percent", w->cpu_percent, 4);
    bad |= ctl_put_number(o, "temperature_celsius", w->celsius, 5);
    bad |= ctl_put_number(o, "throttled", w->throttled, 1);
    for (int i = 0; i < w->cpus; i++)
        bad |= ctl_append(hertz, ctl_number(w->hertz[i], 10));
    bad |= ctl_put_item(o, "frequency_hertz", hertz);
    bad |= ctl_put_item(o, "stages", stages_json(w, &bad));
    bad |= ctl_put_item(o, "models", models_json(w, &bad));
    return ctl_whole(o, bad);
}

// SPDX-License-Identifier: MIT
//
// api_metrics.c - GET /metrics: the counters of metrics.c, and what other parts of the daemon and the kernel know.

#include "config.h"

#include "daemon/api_routes.h"
#include "daemon/http.h"
#include "daemon/process.h"
#include "daemon/worker.h"

static void gauge(struct text *t, const char *name, const char *help, double v)
{
    metrics_family(t, name, "gauge", help);
    text_puts(t, name);
    metrics_value(t, v);
}

static void build_info(const struct server *s, struct text *t)
{
#if defined(__aarch64__)
    const char *isa = "aarch64";
#elif defined(__x86_64__)
    const char *isa = "x86-64";
#else
    const char *isa = "other";
#endif
    metrics_family(t, "resnetd_build_info", "gauge", "Always 1; what this daemon is.");
    text_puts(t, "resnetd_build_info{");
    metrics_label(t, "version", PACKAGE_VERSION);
    text_printf(t, ",isa=\"%s\",", isa);
    metrics_label(t, "kernels", s->kernels->name);
    text_puts(t, ",blas=\"none\"}");
    metrics_value(t, 1);
}

static void model_memory(const struct model_state *states, int n, struct text *t)
{
    metrics_family(t, "resnetd_model_memory_bytes", "gauge", "Memory of a model: packed weights, and the arena of one session.");
    for (int i = 0; i < n; i++)
        for (int p = 0; p < PRECISIONS; p++) {
            const struct loaded *l = states[i].resident[p];
            if (!l)
                continue;
            for (int kind = 0; kind < 2; kind++) {
                text_puts(t, "resnetd_model_memory_bytes{");
                metrics_label(t, "model", l->name);
                text_printf(t, ",precision=\"%s\",kind=\"%s\"}", precision_name(l->precision), kind ? "arena" : "weights");
                metrics_value(t, (double)(kind ? l->arena_bytes : l->weight_bytes));
            }
        }
    metrics_family(t, "resnetd_active_precision", "gauge", "1 for the precision that answers, 0 for the others.");
    for (int i = 0; i < n; i++)
        for (int p = 0; p < PRECISIONS; p++) {
            text_puts(t, "resnetd_active_precision{");
            metrics_label(t, "model", states[i].name);
            text_printf(t, ",precision=\"%s\"}", precision_name((enum precision)p));
            metrics_value(t, p == states[i].active);
        }
}

struct frequencies {
    struct text *t;
    int count;
};

static void frequency(void *user, int cpu, double hertz)
{
    struct frequencies *f = user;
    if (f->count++ == 0)
        metrics_family(f->t, "resnetd_cpu_frequency_hertz", "gauge", "Clock of a CPU.");
    text_printf(f->t, "resnetd_cpu_frequency_hertz{cpu=\"%d\"}", cpu);
    metrics_value(f->t, hertz);
}

static void machine(struct text *t)
{
    double celsius;
    struct frequencies f = {t, 0};
    if (process_temperature(&celsius) == 0)
        gauge(t, "resnetd_soc_temperature_celsius", "Temperature of the first thermal zone.", celsius);
    process_frequencies(frequency, &f);
    int throttled = process_throttled();
    if (throttled >= 0)
        gauge(t, "resnetd_throttled", "1 while the board reports under-voltage.", throttled);
}

static void process(const struct server *s, struct text *t)
{
    struct process p;
    process_read(&p);
    metrics_family(t, "process_cpu_seconds_total", "counter", "User and system CPU time.");
    text_puts(t, "process_cpu_seconds_total");
    metrics_value(t, p.cpu_seconds);
    gauge(t, "process_max_fds", "Limit of open file descriptors.", (double)p.max_fds);
    if (p.rss_bytes > 0) { /* /proc is there; without it a 0 would be a lie */
        gauge(t, "process_open_fds", "Open file descriptors.", (double)p.open_fds);
        gauge(t, "process_virtual_memory_bytes", "Virtual memory.", (double)p.virtual_bytes);
        gauge(t, "process_resident_memory_bytes", "Resident memory.", (double)p.rss_bytes);
        gauge(t, "process_threads", "Threads.", (double)p.threads);
    }
    metrics_family(t, "process_start_time_seconds", "gauge", "Start of the process since the epoch.");
    text_printf(t, "process_start_time_seconds %.3f\n", s->started_unix);
}

enum api_state api_metrics(struct request *r)
{
    struct server *s = r->server;
    struct model_state states[MODELS_MAX];
    const char *names[MODELS_MAX] = {NULL};
    struct text t = {0};
    int n = registry_states(s->registry, states);
    for (int i = 0; i < n; i++)
        names[states[i].slot] = states[i].name;
    build_info(s, &t);
    metrics_write(s->metrics, names, &t);
    gauge(&t, "resnetd_queue_depth", "Requests waiting for a worker.", queue_depth(s->queue));
    gauge(&t, "resnetd_queue_capacity", "Requests that may wait.", queue_capacity(s->queue));
    gauge(&t, "resnetd_inflight_requests", "Requests whose header was read and whose reply is not finished.",
          atomic_load(&s->inflight));
    gauge(&t, "resnetd_open_connections", "Client connections.", http_connections(s->http));
    gauge(&t, "resnetd_memory_limit_bytes", "The configured memory_limit.", (double)atomic_load(&s->budget.limit));
    gauge(&t, "resnetd_memory_admitted_bytes", "What admission has handed out of it.", (double)atomic_load(&s->budget.used));
    gauge(&t, "resnetd_config_last_reload_successful", "1 unless the last reload failed.", !atomic_load(&s->reload_failed));
    model_memory(states, n, &t);
    machine(&t);
    process(s, &t);
    registry_release(states, n);
    reply_text(&r->reply, "text/plain; version=0.0.4; charset=utf-8", &t);
    return API_DONE;
}

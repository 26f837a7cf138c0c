// SPDX-License-Identifier: MIT
//
// api_metrics.c - GET /metrics: the counters of metrics.c, and what other parts of the daemon and the kernel know.

#include "config.h"

#include "daemon/api_routes.h"
#include "daemon/process.h"
#include "daemon/request.h"
#include "daemon/worker.h"

static void gauge(struct exposition *x, const char *name, const char *help, double v)
{
    exposition_family(x, name, "gauge", help);
    exposition_sample(x, name, "", v);
}

static void build_info(const struct server *s, struct exposition *x)
{
#if defined(__aarch64__)
    const char *isa = "aarch64";
#elif defined(__x86_64__)
    const char *isa = "x86-64";
#else
    const char *isa = "other";
#endif
    char labels[256];
    snprintf(labels, sizeof labels, "version=\"%s\",isa=\"%s\",kernels=\"%s\",blas=\"none\"", PACKAGE_VERSION, isa,
             s->kernels->name);
    exposition_family(x, "resnetd_build_info", "info", "Always 1; what this daemon is.");
    exposition_sample(x, "resnetd_build_info", labels, 1);
}

static void model_sample(struct exposition *x, const char *name, const struct model_state *m, int precision, const char *more,
                         double value)
{
    struct text labels = {0};
    exposition_label(&labels, "model", m->name);
    text_printf(&labels, ",precision=\"%s\"%s", precision_name((enum precision)precision), more);
    exposition_sample(x, name, labels.s ? labels.s : "", value);
    text_free(&labels);
}

/* What is not in memory takes none: its 0 keeps the series there. */
static void model_memory(struct exposition *x, const struct model_state *states, int n)
{
    exposition_family(x, "resnetd_model_memory_bytes", "gauge",
                      "Memory of a model: packed weights, and the arena of one session.");
    for (int i = 0; i < n; i++)
        for (int p = 0; p < PRECISIONS; p++) {
            const struct loaded *l = states[i].resident[p];
            if (!(states[i].available & 1 << p) && !l)
                continue;
            model_sample(x, "resnetd_model_memory_bytes", &states[i], p, ",kind=\"weights\"", l ? (double)l->weight_bytes : 0);
            model_sample(x, "resnetd_model_memory_bytes", &states[i], p, ",kind=\"arena\"", l ? (double)l->arena_bytes : 0);
        }
    exposition_family(x, "resnetd_active_precision", "gauge", "1 for the precision that answers, 0 for the others.");
    for (int i = 0; i < n; i++)
        for (int p = 0; p < PRECISIONS; p++)
            model_sample(x, "resnetd_active_precision", &states[i], p, "", p == states[i].active);
}

struct frequencies {
    struct exposition *x;
    int count;
};

static void frequency(void *user, int cpu, double hertz)
{
    struct frequencies *f = user;
    char labels[32];
    snprintf(labels, sizeof labels, "cpu=\"%d\"", cpu);
    if (f->count++ == 0)
        exposition_family(f->x, "resnetd_cpu_frequency_hertz", "gauge", "Clock of a CPU.");
    exposition_sample(f->x, "resnetd_cpu_frequency_hertz", labels, hertz);
}

static void machine(struct exposition *x, const char *sysfs)
{
    double celsius;
    struct frequencies f = {x, 0};
    if (process_temperature(sysfs, &celsius) == 0)
        gauge(x, "resnetd_soc_temperature_celsius", "Temperature of the CPU.", celsius);
    process_frequencies(sysfs, frequency, &f);
    int throttled = process_throttled(sysfs);
    if (throttled >= 0)
        gauge(x, "resnetd_throttled", "1 while the board reports under-voltage or slows its clocks down.", throttled);
}

static void process(const struct server *s, struct exposition *x)
{
    struct process p;
    process_read(&p);
    exposition_family(x, "process_cpu_seconds_total", "counter", "User and system CPU time.");
    exposition_sample(x, "process_cpu_seconds_total", "", p.cpu_seconds);
    gauge(x, "process_max_fds", "Limit of open file descriptors.", (double)p.max_fds);
    gauge(x, "process_virtual_memory_max_bytes", "Limit of virtual memory.", p.virtual_max_bytes);
    gauge(x, "process_heap_bytes", "Memory that the allocator has taken from the system.", (double)p.heap_bytes);
    if (p.rss_bytes > 0) { /* /proc is there; without it a 0 would be a lie */
        gauge(x, "process_open_fds", "Open file descriptors.", (double)p.open_fds);
        gauge(x, "process_virtual_memory_bytes", "Virtual memory.", (double)p.virtual_bytes);
        gauge(x, "process_resident_memory_bytes", "Resident memory.", (double)p.rss_bytes);
        gauge(x, "process_threads", "Threads.", (double)p.threads);
    }
    gauge(x, "process_start_time_seconds", "Start of the process since the epoch.", s->started_unix);
}

enum api_state api_metrics(struct request *r)
{
    struct server *s = r->server;
    struct model_state states[MODELS_MAX];
    struct metrics_model models[MODELS_MAX] = {{0}};
    struct text t = {0};
    struct exposition x = {&t, exposition_accept(request_header(r, "Accept"))};
    int n = registry_states(s->registry, states);
    for (int i = 0; i < n; i++)
        models[states[i].slot] = (struct metrics_model){states[i].name, states[i].available | 1 << states[i].active};
    build_info(s, &x);
    metrics_write(s->metrics, models, &x);
    gauge(&x, "resnetd_queue_depth", "Requests waiting for a worker.", queue_depth(s->queue));
    gauge(&x, "resnetd_queue_capacity", "Requests that may wait.", queue_capacity(s->queue));
    gauge(&x, "resnetd_inflight_requests", "Requests whose header was read and whose reply is not finished.",
          atomic_load(&s->inflight));
    gauge(&x, "resnetd_open_connections", "Client connections.", conns_count(&s->conns));
    gauge(&x, "resnetd_memory_limit_bytes", "The configured memory_limit.", (double)atomic_load(&s->budget.limit));
    gauge(&x, "resnetd_memory_admitted_bytes", "What admission has handed out of it.", (double)atomic_load(&s->budget.used));
    gauge(&x, "resnetd_config_last_reload_successful", "1 unless the last reload failed.", !atomic_load(&s->reload_failed));
    model_memory(&x, states, n);
    machine(&x, r->conf->sysfs);
    process(s, &x);
    exposition_end(&x);
    registry_release(states, n);
    reply_text(&r->reply, exposition_type(x.openmetrics), &t);
    return API_DONE;
}

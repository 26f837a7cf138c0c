// SPDX-License-Identifier: MIT
//
// api_status.c - GET /models and GET /v1/status: what is loaded, and how the daemon is doing, as JSON.

#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/access.h"
#include "daemon/api_precision.h"
#include "daemon/api_routes.h"
#include "daemon/clock.h"
#include "daemon/process.h"
#include "daemon/request.h"
#include "daemon/worker.h"

static void describe_precision(struct text *t, const struct loaded *l)
{
    const struct network *n = model_network(l->model);
    int w, h;
    model_input_size(l->model, &w, &h);
    char *preprocess = preprocess_to_json(&n->preprocess);
    text_printf(t, "{\"precision\":\"%s\",\"digest\":\"sha256:%s\",\"kernels\":\"%s\",\"weights_bytes\":%zu,\"arena_bytes\":%zu,",
                precision_name(l->precision), n->digest, model_kernels(l->model)->name, l->weight_bytes, l->arena_bytes);
    text_printf(
        t, "\"macs\":%lld,\"classes\":%d,\"labels\":%d,\"input\":{\"width\":%d,\"height\":%d},\"preprocess\":%s,\"accuracy\":%s}",
        (long long)graph_macs(&n->graph), model_classes(l->model), n->label_count, w, h, preprocess ? preprocess : "null",
        n->accuracy ? n->accuracy : "null");
    free(preprocess);
}

static void describe_models(struct text *t, struct registry *registry)
{
    struct model_state states[MODELS_MAX];
    int n = registry_states(registry, states);
    text_puts(t, "\"models\":[");
    for (int i = 0; i < n; i++) {
        text_printf(t, "%s{\"name\":", i ? "," : "");
        text_json(t, states[i].name);
        text_printf(t, ",\"default\":%s,\"active\":\"%s\",", i == 0 ? "true" : "false",
                    precision_name((enum precision)states[i].active));
        api_precision_lists(t, &states[i]);
        text_puts(t, ",\"loaded\":[");
        for (int p = 0, first = 1; p < PRECISIONS; p++)
            if (states[i].resident[p]) {
                text_puts(t, first ? "" : ",");
                describe_precision(t, states[i].resident[p]);
                first = 0;
            }
        text_puts(t, "]}");
    }
    text_puts(t, "]");
    registry_release(states, n);
}

enum api_state api_models(struct request *r)
{
    struct text t = {0};
    text_puts(&t, "{");
    describe_models(&t, r->server->registry);
    text_puts(&t, "}");
    reply_json(&r->reply, &t);
    return API_DONE;
}

/* The configuration's own text, as an object of sections: what --print-config prints. Without details nothing that names a place
   in the file system. */
static void describe_conf(struct text *t, const struct conf *c, int details)
{
    char *ini = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&ini, &size);
    if (!f) {
        t->failed = 1;
        return;
    }
    conf_print(c, f);
    int failed = ferror(f);
    if (fclose(f) != 0 || failed || !ini) {
        free(ini);
        t->failed = 1;
        return;
    }
    int open = 0, first = 1;
    text_puts(t, "{");
    for (char *line = ini, *next; *line; line = next) {
        char *end = strchr(line, '\n'), *equal;
        next = end ? end + 1 : line + strlen(line);
        if (end)
            *end = '\0';
        if (*line == '[') {
            line[strlen(line) - 1] = '\0';
            text_puts(t, open ? "}," : "");
            text_json(t, line + 1);
            text_puts(t, ":{");
            open = first = 1;
        } else if ((equal = strstr(line, " = "))) {
            *equal = '\0';
            text_puts(t, first ? "" : ",");
            text_json(t, line);
            text_puts(t, ":");
            text_json(t, details || !strchr(equal + 3, '/') ? equal + 3 : "(a path)");
            first = 0;
        }
    }
    text_puts(t, open ? "}}" : "}");
    free(ini);
}

enum api_state api_status(struct request *r)
{
    struct server *s = r->server;
    struct process p;
    struct text t = {0};
    double celsius;
    process_read(&p);
    text_printf(&t, "{\"version\":\"%s\",\"uptime_s\":%.3f,\"ready\":%s,\"draining\":%s,\"kernels\":\"%s\",", PACKAGE_VERSION,
                (double)(clock_ms() - s->started_ms) / 1000, server_ready(s, NULL) == 0 ? "true" : "false",
                atomic_load(&s->draining) ? "true" : "false", s->kernels->name);
    text_printf(&t, "\"queue\":{\"depth\":%d,\"capacity\":%d},\"workers\":{\"count\":%lld,\"threads\":%lld,\"busy\":%d},",
                queue_depth(s->queue), queue_capacity(s->queue), (long long)r->conf->workers, (long long)r->conf->threads,
                workers_busy(s->workers));
    text_printf(&t, "\"requests\":{\"inflight\":%d,\"connections\":%d},", atomic_load(&s->inflight), conns_count(&s->conns));
    text_printf(&t,
                "\"memory\":{\"limit_bytes\":%zu,\"admitted_bytes\":%zu,\"resident_bytes\":%lld,\"peak_resident_bytes\":%lld},",
                atomic_load(&s->budget.limit), atomic_load(&s->budget.used), p.rss_bytes, p.peak_rss_bytes);
    if (process_temperature(r->conf->sysfs, &celsius) == 0)
        text_printf(&t, "\"temperature_celsius\":%.1f,", celsius);
    else
        text_puts(&t, "\"temperature_celsius\":null,");
    text_printf(&t, "\"last_reload\":\"%s\",", atomic_load(&s->reload_failed) ? "failed" : "done");
    describe_models(&t, s->registry);
    text_puts(&t, ",\"configuration\":");
    describe_conf(&t, r->conf, access_details(r));
    text_puts(&t, "}");
    reply_json(&r->reply, &t);
    return API_DONE;
}

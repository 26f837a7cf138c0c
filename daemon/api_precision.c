// SPDX-License-Identifier: MIT
//
// api_precision.c - GET and PUT /precision: what is active, resident, available; switching.

#include "daemon/api_precision.h"

#include <string.h>

#include "daemon/api_routes.h"
#include "daemon/change.h"
#include "daemon/clock.h"
#include "daemon/log.h"
#include "daemon/query.h"
#include "daemon/request.h"
#include "models/json.h"

static void name_list(struct text *t, int bits)
{
    text_puts(t, "[");
    for (int p = 0, first = 1; p < PRECISIONS; p++)
        if (bits & 1 << p) {
            text_printf(t, "%s\"%s\"", first ? "" : ",", precision_name((enum precision)p));
            first = 0;
        }
    text_puts(t, "]");
}

void api_precision_lists(struct text *t, const struct model_state *m)
{
    int resident = 0;
    for (int p = 0; p < PRECISIONS; p++)
        resident |= (m->resident[p] != NULL) << p;
    text_puts(t, "\"resident\":");
    name_list(t, resident);
    text_puts(t, ",\"available\":");
    name_list(t, m->available);
}

static const struct model_state *state_of(const struct model_state *states, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (!name || strcmp(states[i].name, name) == 0)
            return &states[i];
    return NULL;
}

enum api_state api_precision(struct request *r)
{
    static const char *const known[] = {"model", NULL};
    struct query q;
    struct err e;
    if (query_parse(r->uri, &q, &e) < 0 || query_only(&q, known, &e) < 0) {
        reply_problem(&r->reply, PROBLEM_PARAMETER, "%s", e.text);
        return API_DONE;
    }
    struct model_state states[MODELS_MAX];
    int n = registry_states(r->server->registry, states);
    const struct model_state *m = state_of(states, n, query_get(&q, "model"));
    if (!m) {
        reply_problem(&r->reply, PROBLEM_MODEL_NOT_FOUND, "there is no such model here");
    } else {
        struct text t = {0};
        text_puts(&t, "{\"model\":");
        text_json(&t, m->name);
        text_printf(&t, ",\"active\":\"%s\",", precision_name((enum precision)m->active));
        api_precision_lists(&t, m);
        text_puts(&t, "}");
        reply_json(&r->reply, &t);
    }
    registry_release(states, n);
    return API_DONE;
}

enum api_state api_precision_put(struct request *r)
{
    return change_push(r->server->change, r, api_precision_switch);
}

/* {"precision":"int8"[,"model":"name"]} */
static cJSON *read_body(struct request *r, enum precision *p, const char **model, struct err *e)
{
    static const char *const members[] = {"precision", "model", NULL};
    const char *text;
    cJSON *json = r->body_len ? json_parse_few((const char *)r->body, r->body_len, REQUEST_VALUES_MAX, e) : NULL;
    if (!r->body_len)
        err_set(e, ERR_INPUT, "the body is empty");
    if (!json)
        return NULL;
    *model = NULL;
    if (!cJSON_IsObject(json))
        err_set(e, ERR_INPUT, "the body is not an object");
    else if (json_only(json, members, e) == 0 && json_string(json, "precision", &text, e) == 0 &&
             precision_parse(text, p, e) == 0 &&
             (!cJSON_HasObjectItem(json, "model") || json_string(json, "model", model, e) == 0))
        return json;
    cJSON_Delete(json);
    return NULL;
}

void api_precision_switch(struct request *r)
{
    struct server *s = r->server;
    enum precision wanted, previous;
    const char *model;
    struct err e;
    int slot;
    cJSON *json = read_body(r, &wanted, &model, &e);
    if (!json) {
        reply_problem(&r->reply, e.code == ERR_MEMORY ? PROBLEM_MEMORY : PROBLEM_PARAMETER, "%s; send {\"precision\":\"int8\"}",
                      e.text);
        return;
    }
    int64_t begin = clock_us();
    int rc = registry_switch(s->registry, model, wanted, &previous, &slot, &e);
    int64_t took = clock_us() - begin;
    if (rc < 0) {
        log_warning("switch to %s failed, %s", precision_name(wanted), e.text);
        enum problem p = e.code == ERR_NOT_FOUND                      ? PROBLEM_MODEL_NOT_FOUND
                         : e.code == ERR_BUSY || e.code == ERR_MEMORY ? PROBLEM_MEMORY
                                                                      : PROBLEM_INTERNAL;
        reply_problem(&r->reply, p, "%s; what was active goes on serving", e.text);
    } else {
        struct model_state states[MODELS_MAX];
        int n = registry_states(s->registry, states);
        const struct model_state *m = states;
        struct text t = {0};
        while (m->slot != slot) /* it is there: only this thread changes the list */
            m++;
        if (previous != wanted) {
            metrics_switch(s->metrics, slot, previous, wanted, (double)took / 1e6);
            log_info("switched %s from %s to %s in %.1f ms", m->name, precision_name(previous), precision_name(wanted),
                     (double)took / 1000);
        }
        text_puts(&t, "{\"model\":");
        text_json(&t, m->name);
        text_printf(&t, ",\"active\":\"%s\",\"previous\":\"%s\",\"switch_ms\":%.3f,\"dropped_requests\":0,",
                    precision_name(wanted), precision_name(previous), (double)took / 1000);
        api_precision_lists(&t, m);
        text_puts(&t, "}");
        reply_json(&r->reply, &t);
        registry_release(states, n);
        queue_wake(s->queue); /* idle workers let go of sessions of the old model */
    }
    cJSON_Delete(json);
}

// SPDX-License-Identifier: MIT
//
// api_admin.c - POST /v1/reload and /v1/drain: what SIGHUP and SIGTERM do, over HTTP.

#include "daemon/api_routes.h"
#include "daemon/change.h"
#include "daemon/log.h"
#include "daemon/request.h"

static void reload(struct request *r)
{
    struct err e;
    if (server_reload(r->server, &e) < 0) {
        log_error("reload failed, the old configuration goes on: %s", e.text);
        reply_problem(&r->reply, PROBLEM_NOT_RELOADED, "%s; the old configuration goes on", e.text);
        return;
    }
    struct text t = {0};
    text_puts(&t, "{\"reloaded\":true}");
    reply_json(&r->reply, &t);
}

enum api_state api_reload(struct request *r)
{
    return change_push(r->server->change, r, reload);
}

enum api_state api_drain(struct request *r)
{
    struct text t = {0};
    atomic_store(&r->server->drain_asked, 1);
    text_puts(&t, "{\"draining\":true}");
    reply_json(&r->reply, &t);
    return API_DONE;
}

// SPDX-License-Identifier: MIT
//
// api_health.c - /livez, /readyz, the index at / and, for POST there, what arrived of a request.

#include "config.h"

#include "daemon/access.h"
#include "daemon/api_routes.h"
#include "daemon/conn.h"
#include "daemon/request.h"
#include "daemon/worker.h"

static enum api_state ok(struct request *r)
{
    struct text t = {0};
    text_puts(&t, "{\"status\":\"ok\"}");
    reply_json(&r->reply, &t);
    return API_DONE;
}

enum api_state api_livez(struct request *r)
{
    int64_t stalled = workers_stalled_ms(r->server->workers);
    if (stalled <= r->conf->stall_timeout)
        return ok(r);
    reply_problem(&r->reply, PROBLEM_NOT_READY, "a worker has been at one request for %lld s", (long long)stalled / 1000);
    return API_DONE;
}

/* A full queue does not flip readiness: that would make a whole fleet flap under load. */
enum api_state api_readyz(struct request *r)
{
    struct err e;
    if (server_ready(r->server, &e) == 0)
        return ok(r);
    reply_problem(&r->reply, atomic_load(&r->server->draining) ? PROBLEM_DRAINING : PROBLEM_NOT_READY, "%s", e.text);
    return API_DONE;
}

enum api_state api_index(struct request *r)
{
    struct text t = {0};
    text_printf(&t, "{\"name\":\"resnetd\",\"version\":\"%s\",\"routes\":[", PACKAGE_VERSION);
    for (const struct route *p = api_routes; p->path; p++) {
        text_printf(&t, "%s{\"method\":\"%s\",\"path\":\"%s\",\"help\":", p == api_routes ? "" : ",", p->method, p->path);
        text_json(&t, p->help);
        text_puts(&t, "}");
    }
    text_puts(&t, "]}");
    reply_json(&r->reply, &t);
    return API_DONE;
}

/* What a proxy in between made of a request shows here, without a model having to compute. The body is only counted. */
enum api_state api_arrived(struct request *r)
{
    struct text t = {0};
    char why[256] = "";
    int may = access_change(r, why, sizeof why);
    text_printf(&t, "{\"body_bytes\":%zu,\"chunked\":%s,\"host\":", r->received, r->guard.chunked ? "true" : "false");
    text_json(&t, r->guard.host);
    text_printf(&t, ",\"peer\":\"%s\",\"may_change\":%s,\"why\":",
                r->conn->is_unix       ? "unix"
                : r->conn->is_loopback ? "loopback"
                                       : "remote",
                may ? "true" : "false");
    text_json(&t, may ? "" : why);
    text_puts(&t, "}");
    reply_json(&r->reply, &t);
    return API_DONE;
}

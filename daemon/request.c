// SPDX-License-Identifier: MIT
#include "daemon/request.h"

#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#include "daemon/access.h"
#include "daemon/clock.h"
#include "daemon/conn.h"
#include "daemon/log.h"
#include "daemon/raw.h"

#define REFUSED_BODY_MAX      (256 * 1024) /* read and dropped to keep the connection of a refused request */
#define HEADER_BYTES          (32 * 1024)
#define TARGET_PARAMETERS_MAX 256
#define LOGGED_TARGET_MAX     480 /* bytes; escaped, too, they leave room in a line for what follows */

enum phase { PHASE_LINE, PHASE_BODY, PHASE_DISCARD, PHASE_WORK };

/* ---- the request's struct ---- */

static void make_id(char id[REQUEST_ID_MAX + 1])
{
    unsigned char random[16];
    if (getrandom(random, sizeof random, GRND_NONBLOCK) != (ssize_t)sizeof random)
        memset(random, 0, sizeof random);
    for (int i = 0; i < 16; i++)
        snprintf(id + 2 * i, 3, "%02x", random[i]);
}

/* The client's own id when it is made of harmless characters. */
static void take_id(struct request *r)
{
    const char *given = request_header(r, "X-Request-Id");
    size_t n = given ? strlen(given) : 0;
    if (n >= 1 && n <= REQUEST_ID_MAX &&
        strspn(given, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._:/+=") == n)
        memcpy(r->id, given, n + 1);
    else
        make_id(r->id);
}

struct only {
    const char *name, *value;
    int count;
};

static enum MHD_Result find_only(void *user, enum MHD_ValueKind kind, const char *name, const char *value)
{
    struct only *o = user;
    (void)kind;
    if (strcasecmp(name, o->name) == 0 && o->count++ == 0)
        o->value = value;
    return MHD_YES;
}

/* Two traceparents are none: nobody knows which of them is meant. */
static void take_trace(struct request *r)
{
    struct only o = {"traceparent", NULL, 0};
    MHD_get_connection_values(r->connection, MHD_HEADER_KIND, find_only, &o);
    trace_parse(o.count == 1 ? o.value : NULL, &r->trace);
}

struct origin request_origin(const struct request *r)
{
    return (struct origin){r->id, r->trace.id};
}

/* What every line about a request begins with. Returns how many. */
static int origin_fields(const struct request *r, struct log_field *f)
{
    int n = 0;
    f[n++] = (struct log_field){.key = "request_id", .text = r->id};
    if (*r->trace.id) {
        f[n++] = (struct log_field){.key = "trace_id", .text = r->trace.id};
        f[n++] = (struct log_field){.key = "parent_id", .text = r->trace.parent};
    }
    f[n++] = (struct log_field){.key = "route", .text = r->route ? r->route->path : "other", .said = 1};
    return n;
}

void request_log(const struct request *r, enum log_level level, const char *fmt, ...)
{
    struct log_field fields[4];
    char message[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    log_fields(level, fields, origin_fields(r, fields), "%s", message);
}

void request_drop_body(struct request *r)
{
    free(r->body);
    budget_release(&r->server->budget, r->body_cap);
    r->body = NULL;
    r->body_len = r->body_cap = 0;
}

const char *request_header(const struct request *r, const char *name)
{
    return MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, name);
}

int request_client_gone(const struct request *r)
{
    return conn_gone(r->conn, r->http_11 && !r->conn->is_tls); /* what it asks would be plain text */
}

static void request_free(struct request *r)
{
    if (!r)
        return;
    request_drop_body(r);
    job_free(r);
    reply_free(&r->reply);
    conf_free(r->conf);
    free(r->uri);
    free(r);
}

void request_forget(struct conn *c)
{
    request_free(c->request);
    c->request = NULL;
}

/* libmicrohttpd keeps every parameter of the target in its memory for the connection; when that is full it says nothing until a
   deadline passes. */
static int has_many_parameters(const char *uri)
{
    int n = 0;
    for (const char *p = uri; (p = strchr(p, '&')); p++)
        if (++n == TARGET_PARAMETERS_MAX)
            return 1;
    return 0;
}

void *request_begin(void *user, const char *uri, struct MHD_Connection *connection)
{
    struct server *s = user;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct conn *c = info ? info->socket_context : NULL;
    struct request *r = calloc(1, sizeof *r);
    if (!r || !c) {
        free(r);
        return NULL;
    }
    r->server = s;
    r->conf = server_conf(s);
    r->connection = connection;
    r->conn = c;
    r->uri = strdup(uri);
    r->reply.oip = strncmp(uri, "/v2", 3) == 0 && strchr("/?", uri[3]); /* or the end of the string */
    c->oip = r->reply.oip;
    /* the first header has had its time since the connection was made */
    int64_t deadline = c->served ? clock_ms() + r->conf->header_timeout : c->deadline_ms;
    int many = has_many_parameters(uri);
    if (many) {
        metrics_reject(s->metrics, REJECT_BAD_REQUEST);
        conn_abort(&s->conns, c, 414, "URI Too Long", "uri-too-long", "the request target has more than 256 parameters");
    }
    if (many || !r->uri || conn_enter(&s->conns, c, CONN_HEADER, deadline) < 0) {
        request_free(r);
        return NULL;
    }
    request_forget(c);
    c->request = r;
    return r;
}

/* ---- replies ---- */

static enum MHD_Result send_reply(struct request *r)
{
    struct reply *p = &r->reply;
    struct server *s = r->server;
    if (atomic_load(&s->draining))
        p->close = 1;
    if (p->body.failed) {
        text_free(&p->body);
        p->status = 503;
    }
    struct MHD_Response *m = MHD_create_response_from_buffer(p->body.len, p->body.s, MHD_RESPMEM_MUST_FREE);
    if (!m)
        return MHD_NO;
    int status = p->status;
    p->body = (struct text){0}; /* libmicrohttpd frees it */
    char number[24];
    snprintf(number, sizeof number, "%d", p->retry_after);
    if (p->type)
        MHD_add_response_header(m, "Content-Type", p->type);
    MHD_add_response_header(m, "X-Request-Id", r->id);
    MHD_add_response_header(m, "Cache-Control", "no-store");
    MHD_add_response_header(m, "X-Content-Type-Options", "nosniff");
    if (p->allow[0])
        MHD_add_response_header(m, "Allow", p->allow);
    if (p->timing[0])
        MHD_add_response_header(m, "Server-Timing", p->timing);
    if (p->retry_after)
        MHD_add_response_header(m, "Retry-After", number);
    snprintf(number, sizeof number, "%lld", (long long)p->json_bytes);
    if (p->json_bytes)
        MHD_add_response_header(m, "Inference-Header-Content-Length", number);
    if (p->close)
        MHD_add_response_header(m, "Connection", "close");
    enum MHD_Result rc = MHD_NO;
    if (conn_enter(&s->conns, r->conn, CONN_REPLY, clock_ms() + r->conf->write_timeout) == 0)
        rc = MHD_queue_response(r->connection, (unsigned)status, m);
    MHD_destroy_response(m);
    return rc;
}

/* The client will be some time at sending the body, or asks before. */
static int is_long(const struct request *r)
{
    return r->guard.length > REFUSED_BODY_MAX || request_header(r, "Expect");
}

/* A request that ends at its header. A small body is still read, so that the framing is checked and the connection can go on: a
   reply before the body, even before none, would end it. Otherwise it ends, because what is left must not be taken for a request.
 */
static enum MHD_Result refuse(struct request *r)
{
    if (!r->guard.status && !is_long(r)) {
        r->phase = PHASE_DISCARD;
        return conn_enter(&r->server->conns, r->conn, CONN_BODY, clock_ms() + r->conf->body_timeout) == 0 ? MHD_YES : MHD_NO;
    }
    r->reply.close = 1;
    conn_swallow(&r->server->conns, r->conn);
    return send_reply(r);
}

/* ---- the header is there ---- */

static enum MHD_Result add_header(void *user, enum MHD_ValueKind kind, const char *name, size_t name_len, const char *value,
                                  size_t value_len)
{
    struct guard_request *g = user;
    (void)kind;
    if (g->header_count == GUARD_HEADERS_MAX) {
        g->too_large = 1;
        return MHD_NO;
    }
    g->headers[g->header_count++] = (struct guard_header){name, value, name_len, value_len};
    return MHD_YES;
}

/* method, version: as libmicrohttpd gave them, in the buffer that holds the header. */
static void check_guard(struct request *r, const char *method, const char *version)
{
    struct guard_request g;
    g.method = r->method;
    g.version = strlen(method) < sizeof r->method ? version : "";
    g.uri = r->uri;
    g.header_count = g.too_large = g.hidden = 0;
    g.body_max = r->conf->max_body;
    MHD_get_connection_values_n(r->connection, MHD_HEADER_KIND, add_header, &g);
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    size_t size = info ? info->header_size : SIZE_MAX;
    g.too_large |= size > HEADER_BYTES;
#if MHD_VERSION < 0x01000000
    g.hidden = !raw_is_whole(&g, method, version, size);
#endif
    guard_check(&g, &r->guard);
}

/* The reply is filled when the request ends here. */
static void admit(struct request *r)
{
    char why[256], path[128];
    int known;
    struct server *s = r->server;
    if (r->guard.status) {
        metrics_reject(s->metrics, r->guard.status == 413 ? REJECT_TOO_LARGE : REJECT_BAD_REQUEST);
        reply_problem(&r->reply, problem_of_status(r->guard.status), "%s", r->guard.detail);
        if (r->guard.status == 405)
            api_allow(r->guard.path, r->reply.allow, sizeof r->reply.allow);
        return;
    }
    if (!access_host(r)) {
        metrics_reject(s->metrics, REJECT_HOST);
        reply_problem(&r->reply, PROBLEM_HOST, "Host '%s' is not a loopback name; name it in [server] hosts to allow it",
                      r->guard.host);
        return;
    }
    if (!access_site(r)) {
        metrics_reject(s->metrics, REJECT_FORBIDDEN);
        reply_problem(&r->reply, PROBLEM_SITE, "the request comes from a page of another site (Sec-Fetch-Site)");
        return;
    }
    size_t n = strcspn(r->guard.path, "?");
    snprintf(path, sizeof path, "%.*s", (int)(n < sizeof path ? n : sizeof path - 1), r->guard.path);
    r->route = api_find(path, r->method, &known, &r->parts);
    if (!r->route && strcmp(r->method, "OPTIONS") == 0 && (known || strcmp(path, "*") == 0)) {
        struct text empty = {0};
        reply_text(&r->reply, NULL, &empty);
        api_allow(path, r->reply.allow, sizeof r->reply.allow);
        return;
    }
    if (!r->route && !known) {
        reply_problem(&r->reply, PROBLEM_NOT_FOUND, "there is nothing at '%s'; GET / lists what there is", path);
        return;
    }
    if (!r->route) {
        reply_problem(&r->reply, PROBLEM_METHOD, "'%s' does not answer %s", path, r->method);
        api_allow(path, r->reply.allow, sizeof r->reply.allow);
        return;
    }
    if (r->route->flags & API_ADMIN && !access_change(r, why, sizeof why)) {
        metrics_reject(s->metrics, REJECT_FORBIDDEN);
        reply_problem(&r->reply, PROBLEM_FORBIDDEN, "%s", why);
        return;
    }
    const char *coding = request_header(r, "Content-Encoding");
    if (r->route->flags & API_BODY && coding && strcasecmp(coding, "identity") != 0)
        reply_problem(&r->reply, PROBLEM_CODING, "the body has the content coding '%.40s'; send it as it is", coding);
    else if (r->route->flags & API_BODY && !r->guard.chunked && r->guard.length < 0)
        reply_problem(&r->reply, PROBLEM_LENGTH, "a body is needed here, with Content-Length or chunked");
    else if (r->route->flags & API_QUEUE && is_long(r))
        job_no_room(r); /* not sent for nothing */
}

static enum MHD_Result on_header(struct request *r, const char *method, const char *version)
{
    struct server *s = r->server;
    r->started_us = clock_us();
    snprintf(r->method, sizeof r->method, "%s", method);
    r->http_11 = strcmp(version, "HTTP/1.1") == 0;
    atomic_fetch_add(&s->inflight, 1);
    take_id(r);
    take_trace(r);
    const char *type = request_header(r, "Content-Type");
    if (type && strlen(type) < sizeof r->content_type)
        memcpy(r->content_type, type, strlen(type) + 1);
    check_guard(r, method, version);
    admit(r);
    if (r->reply.status)
        return refuse(r);
    r->phase = r->route->flags & API_BODY ? PHASE_BODY : PHASE_DISCARD;
    if (conn_enter(&s->conns, r->conn, CONN_BODY, clock_ms() + r->conf->body_timeout) < 0)
        return MHD_NO;
    return MHD_YES;
}

/* ---- the body ---- */

static int body_grow(struct request *r, size_t need, struct err *e)
{
    size_t cap = r->body_cap ? r->body_cap * 2 : 16 * 1024, most = (size_t)r->conf->max_body;
    if (r->guard.length >= 0 && (size_t)r->guard.length < most)
        most = (size_t)r->guard.length;
    while (cap < need)
        cap *= 2;
    if (cap > most)
        cap = most;
    if (budget_reserve(&r->server->budget, cap - r->body_cap, "the request's body", e) < 0)
        return -1;
    uint8_t *body = realloc(r->body, cap);
    if (!body) {
        budget_release(&r->server->budget, cap - r->body_cap);
        return err_set(e, ERR_MEMORY, "no memory for the request's body");
    }
    r->body = body;
    r->body_cap = cap;
    return 0;
}

static enum MHD_Result on_data(struct request *r, const char *data, size_t size)
{
    struct server *s = r->server;
    struct conns *conns = &s->conns;
    struct err e;
    if (r->guard.chunked && ++r->pieces > BODY_PIECES_MAX) {
        metrics_reject(s->metrics, REJECT_TOO_LARGE);
        conn_abort(conns, r->conn, 413, "Content Too Large", "body-too-large", "the body comes in more than 65536 pieces");
        return MHD_NO;
    }
    size_t most = r->phase == PHASE_DISCARD && r->reply.status ? REFUSED_BODY_MAX : (size_t)r->conf->max_body;
    if (size > most - r->body_len) {
        metrics_reject(s->metrics, REJECT_TOO_LARGE);
        conn_abort(conns, r->conn, 413, "Content Too Large", "body-too-large", "the body is larger than max_body");
        return MHD_NO;
    }
    if (r->phase == PHASE_DISCARD || r->reply.status) {
        r->body_len += size; /* counts towards the limit, though nothing is kept */
        return MHD_YES;
    }
    if (r->body_len + size > r->body_cap && body_grow(r, r->body_len + size, &e) < 0) {
        metrics_reject(s->metrics, REJECT_MEMORY);
        request_drop_body(r);
        reply_problem(&r->reply, PROBLEM_MEMORY, "%s", e.text); /* sent when the body is over */
        return MHD_YES;
    }
    memcpy(r->body + r->body_len, data, size);
    r->body_len += size;
    return MHD_YES;
}

static enum MHD_Result on_end(struct request *r)
{
    struct server *s = r->server;
    if (r->phase == PHASE_DISCARD) {
        r->received = r->body_len;
        r->body_len = 0;
    }
    /* Fields behind the chunks: where they end is for libmicrohttpd alone to know, so nothing that follows counts as a request.
     */
    if (r->guard.chunked && MHD_get_connection_values_n(r->connection, MHD_FOOTER_KIND, NULL, NULL) > 0) {
        r->reply.close = 1;
        conn_swallow(&s->conns, r->conn);
    }
    if (r->reply.status)
        return send_reply(r);
    if (!(r->route->flags & API_SLOW)) {
        r->route->fn(r);
        return send_reply(r);
    }
    r->phase = PHASE_WORK;
    if (conn_enter(&s->conns, r->conn, CONN_WORK, 0) < 0)
        return MHD_NO;
    /* Suspended first: whoever finishes the request may resume it before the call below returns. */
    MHD_suspend_connection(r->connection);
    if (r->route->fn(r) == API_DONE)
        MHD_resume_connection(r->connection);
    return MHD_YES;
}

void request_resume(struct request *r)
{
    MHD_resume_connection(r->connection);
}

enum MHD_Result request_step(void *user, struct MHD_Connection *connection, const char *url, const char *method,
                             const char *version, const char *data, size_t *size, void **state)
{
    struct request *r = *state;
    (void)user, (void)connection, (void)url;
    if (!r)
        return MHD_NO; /* no memory when it began */
    if (!r->started_us)
        return on_header(r, method, version);
    if (*size) {
        size_t n = *size;
        *size = 0;
        return on_data(r, data, n);
    }
    return r->phase == PHASE_WORK ? send_reply(r) : on_end(r);
}

static void access_line(const struct request *r, int status, double seconds)
{
    const struct job *j = &r->job;
    struct log_field f[9 + STAGES];
    char keys[STAGES][24];
    int n = origin_fields(r, f);
    f[n++] = (struct log_field){.key = "method", .text = r->method, .said = 1};
    f[n++] = (struct log_field){.key = "status", .number = status, .said = 1};
    f[n++] = (struct log_field){.key = "duration_ms", .number = seconds * 1000, .said = 1};
    if (j->count && status == 200) {
        f[n++] = (struct log_field){.key = "model", .text = j->loaded->name};
        f[n++] = (struct log_field){.key = "precision", .text = precision_name(j->loaded->precision)};
        for (int stage = 0; stage < STAGES; stage++) {
            int64_t us = 0;
            for (int i = 0; i < (stage == STAGE_QUEUE ? 1 : j->count); i++)
                us += j->inputs[i].us[stage];
            snprintf(keys[stage], sizeof keys[stage], "%s_ms", stage_names[stage]);
            f[n++] = (struct log_field){.key = keys[stage], .number = (double)us / 1000};
        }
    }
    log_fields(LOG_LEVEL_INFO, f, n, "%s %.*s%s %d %.1f ms", r->method, LOGGED_TARGET_MAX, r->uri,
               strlen(r->uri) > LOGGED_TARGET_MAX ? "..." : "", status, seconds * 1000);
}

void request_end(void *user, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode code)
{
    struct request *r = *state;
    (void)user, (void)connection;
    *state = NULL;
    if (!r)
        return;
    struct server *s = r->server;
    int told = conn_told(&s->conns, r->conn), done = code == MHD_REQUEST_TERMINATED_COMPLETED_OK;
    if (told == 408 || told == 0)
        metrics_reject(s->metrics, REJECT_SLOW);
    if (r->started_us) {
        double seconds = (double)(clock_us() - r->started_us) / 1e6;
        int status = done ? r->reply.status : told;
        const struct origin o = request_origin(r);
        if (status > 0)
            metrics_request(s->metrics, r->route ? r->route->path : "other", r->method, status, seconds, &o);
        else if (told < 0)
            metrics_reject(s->metrics, REJECT_CLIENT_GONE);
        if (r->conf->access_log)
            access_line(r, status > 0 ? status : 0, seconds);
        atomic_fetch_sub(&s->inflight, 1);
    }
    conn_enter(&s->conns, r->conn, CONN_IDLE, clock_ms() + r->conf->idle_timeout);
    request_forget(r->conn);
}

// SPDX-License-Identifier: MIT
//
// api_v2_infer.c - POST /v2/models/{m}[/versions/{p}]/infer: between HTTP, the protocol's bodies (oip.h) and the workers (job.h).

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/api_routes.h"
#include "daemon/api_v2.h"
#include "daemon/oip.h"
#include "daemon/request.h"

struct infer {
    int64_t header; /* Inference-Header-Content-Length, -1: not given */
    struct oip_model model;
    struct oip_request request;
};

/* The tensor's values as the session takes them, [count][h][w][3]. */
static int hold_values(struct request *r, struct infer *v, struct err *e)
{
    struct job *j = &r->job;
    const size_t each = (size_t)v->model.height * (size_t)v->model.width * 3, bytes = each * sizeof(float) * (size_t)j->count;
    if (budget_reserve(&r->server->budget, bytes, "this tensor", e) < 0)
        return -1;
    j->held_bytes = bytes;
    j->held_free = free;
    float *values = j->held = malloc(bytes);
    if (!values)
        return err_set(e, ERR_MEMORY, "no memory for this tensor");
    for (int i = 0; i < j->count; i++) {
        j->inputs[i].values = values + (size_t)i * each;
        if (oip_values(&v->request, &v->model, values + (size_t)i * each, e) < 0)
            return -1;
    }
    request_drop_body(r);
    return 0;
}

static int infer_open(struct request *r, struct err *e)
{
    struct infer *v = r->job.params;
    struct oip_request *q = &v->request;
    if (oip_parse(r->body, r->body_len, v->header, &v->model, q, e) < 0 || job_inputs(r, q->count, e) < 0)
        return -1;
    if (q->timeout_us) {
        int64_t most_us = r->conf->max_timeout * 1000;
        r->job.deadline_ms = (r->started_us + (q->timeout_us < most_us ? q->timeout_us : most_us)) / 1000;
    }
    if (!q->encoded)
        return hold_values(r, v, e);
    for (int i = 0; i < q->count; i++) {
        r->job.inputs[i].bytes = q->image[i].bytes;
        r->job.inputs[i].size = q->image[i].size;
    }
    return 0;
}

/* What the images took together; side by side that may be more than the time that passed. */
static void timing(struct request *r)
{
    const struct job *j = &r->job;
    double ms[STAGES] = {0};
    for (int i = 0; i < j->count; i++)
        for (int s = 0; s < STAGES; s++)
            ms[s] = s == STAGE_QUEUE ? (double)j->inputs[i].us[s] / 1000 : ms[s] + (double)j->inputs[i].us[s] / 1000;
    snprintf(r->reply.timing, sizeof r->reply.timing, "queue;dur=%.3f, decode;dur=%.3f, preprocess;dur=%.3f, inference;dur=%.3f",
             ms[STAGE_QUEUE], ms[STAGE_DECODE], ms[STAGE_PREPROCESS], ms[STAGE_INFERENCE]);
}

static void infer_reply(struct request *r)
{
    const struct infer *v = r->job.params;
    struct text out = {0};
    int64_t json_bytes = oip_write(&v->request, &v->model, r->job.logits, &out);
    timing(r);
    if (json_bytes < 0) {
        reply_json(&r->reply, &out);
    } else {
        r->reply.json_bytes = json_bytes;
        reply_text(&r->reply, "application/octet-stream", &out);
    }
}

static const struct job_kind infer_kind = {infer_open, infer_reply};

/* The header's value; -1 when it is not there, -2 when it is no number. */
static int64_t header_length(const struct request *r)
{
    const char *s = request_header(r, "Inference-Header-Content-Length");
    size_t n = s ? strlen(s) : 0;
    if (!s)
        return -1;
    return n < 1 || n > 18 || strspn(s, "0123456789") != n ? -2 : strtoll(s, NULL, 10);
}

enum api_state api_v2_infer(struct request *r)
{
    struct err e;
    struct loaded *l = api_v2_loaded(r, &e);
    struct infer *v = calloc(1, sizeof *v);
    r->job = (struct job){.kind = &infer_kind, .loaded = l, .params = v};
    if (!l || !v) {
        if (!l)
            api_v2_refuse_model(r, &e);
        else
            reply_problem(&r->reply, PROBLEM_MEMORY, "no memory for the request");
        return API_DONE;
    }
    r->job.deadline_ms = r->started_us / 1000 + r->conf->request_timeout;
    v->header = header_length(r);
    if (v->header == -2 || r->body_len == 0) {
        reply_problem(&r->reply, PROBLEM_BAD_REQUEST, "%s",
                      r->body_len ? "Inference-Header-Content-Length is not a number"
                                  : "the body is empty; send a request as JSON");
        return API_DONE;
    }
    const struct network *n = model_network(l->model);
    v->model = (struct oip_model){l->name, precision_name(l->precision), 0, 0, model_classes(l->model), NULL};
    v->model.labels = n->label_count ? n->labels : NULL;
    model_input_size(l->model, &v->model.width, &v->model.height);
    return job_push(r);
}

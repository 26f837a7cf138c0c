// SPDX-License-Identifier: MIT
//
// api_predict.c - POST /predict: reads the parameters, takes a reference on the model, hands the request to the queue.

#include "daemon/api_routes.h"
#include "daemon/predict.h"
#include "daemon/query.h"
#include "daemon/request.h"

static int parameters(struct request *r, struct query *q, struct err *e)
{
    static const char *const known[] = {"top_k", "threshold", "precision", "model", "timeout_ms", "logits", NULL};
    struct predict *p = &r->predict;
    long timeout_ms = (long)r->conf->request_timeout;
    int precision = PRECISION_AUTO;
    enum precision named;
    const char *text;
    if (query_parse(r->uri, q, e) < 0 || query_only(q, known, e) < 0 ||
        query_int(q, "timeout_ms", 1, (long)r->conf->max_timeout, &timeout_ms, e) < 0 ||
        query_int(q, "logits", 0, 1, &p->logits, e) < 0 || query_number(q, "threshold", 0, 1, &p->threshold, e) < 0)
        return -1;
    if ((text = query_get(q, "precision"))) {
        if (precision_parse(text, &named, e) < 0)
            return err_set(e, ERR_INPUT, "precision must be fp32, fp16, hybrid or int8");
        precision = (int)named;
    }
    struct loaded *l = registry_get(r->server->registry, query_get(q, "model"), precision, e);
    if (!l)
        return -1;
    r->job = (struct job){.kind = &predict_kind, .loaded = l, .deadline_ms = r->started_us / 1000 + timeout_ms};
    int classes = model_classes(l->model);
    p->top_k = classes < 5 ? classes : 5;
    return query_int(q, "top_k", 1, classes, &p->top_k, e);
}

enum api_state api_predict(struct request *r)
{
    struct query q;
    struct err e;
    if (parameters(r, &q, &e) < 0) {
        enum problem p = e.code == ERR_NOT_FOUND ? PROBLEM_MODEL_NOT_FOUND
                         : e.code == ERR_BUSY    ? PROBLEM_NOT_RESIDENT
                         : e.code == ERR_DAMAGED ? PROBLEM_NOT_READY
                                                 : PROBLEM_PARAMETER;
        reply_problem(&r->reply, p, "%s", e.text);
        return API_DONE;
    }
    if (r->body_len == 0) {
        reply_problem(&r->reply, PROBLEM_BAD_REQUEST, "the body is empty; send the bytes of an image");
        return API_DONE;
    }
    return job_push(r);
}

// SPDX-License-Identifier: MIT
#include "daemon/job.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clock.h"
#include "daemon/estimate.h"
#include "daemon/log.h"
#include "daemon/request.h"
#include "daemon/worker.h"

static void tell_full(struct request *r)
{
    struct server *s = r->server;
    metrics_reject(s->metrics, REJECT_QUEUE_FULL);
    r->reply.retry_after = workers_retry_after(s->workers);
    reply_problem(&r->reply, PROBLEM_QUEUE_FULL, "%d requests are waiting, which is the limit; try again in about %d s",
                  queue_capacity(s->queue), r->reply.retry_after);
}

enum api_state job_push(struct request *r)
{
    struct job *j = &r->job;
    j->queued_us = clock_us();
    if (queue_push(r->server->queue, r, j->loaded, j->deadline_ms) == 0)
        return API_PENDING;
    tell_full(r);
    return API_DONE;
}

int job_no_room(struct request *r)
{
    const struct server *s = r->server;
    if (queue_depth(s->queue) < queue_capacity(s->queue))
        return 0;
    tell_full(r);
    return 1;
}

int job_inputs(struct request *r, int count, struct err *e)
{
    struct job *j = &r->job;
    if (count < 1 || count > JOB_INPUTS_MAX)
        return err_set(e, ERR_INPUT, "%d images in one request: 1 to %d are possible", count, JOB_INPUTS_MAX);
    if (count > 1) {
        size_t each = sizeof *j->inputs + (size_t)model_classes(j->loaded->model) * sizeof *j->logits;
        if (budget_reserve(&r->server->budget, each * (size_t)count, "the request's images", e) < 0)
            return -1;
        j->reserved = each * (size_t)count;
    }
    j->inputs = count == 1 ? &j->one : calloc((size_t)count, sizeof *j->inputs);
    j->logits = malloc((size_t)count * (size_t)model_classes(j->loaded->model) * sizeof *j->logits);
    if (!j->inputs || !j->logits)
        return err_set(e, ERR_MEMORY, "no memory for the images of a request");
    j->count = count;
    return 0;
}

static void drop_held(struct request *r)
{
    struct job *j = &r->job;
    if (j->held)
        j->held_free(j->held);
    budget_release(&r->server->budget, j->held_bytes);
    j->held = NULL;
    j->held_bytes = 0;
}

void job_free(struct request *r)
{
    struct job *j = &r->job;
    drop_held(r);
    if (j->inputs != &j->one)
        free(j->inputs);
    free(j->logits);
    budget_release(&r->server->budget, j->reserved);
    free(j->params);
    loaded_free(j->loaded);
}

/* ---- what ends a job early ---- */

/* What an error of the body or of image.h means to the client. */
static void tell(struct request *r, const struct err *e)
{
    switch (e->code) {
    case ERR_UNSUPPORTED:
        reply_problem(&r->reply, PROBLEM_IMAGE_UNSUPPORTED, "%s", e->text);
        break;
    case ERR_DAMAGED:
        reply_problem(&r->reply, PROBLEM_IMAGE_DAMAGED, "%s", e->text);
        break;
    case ERR_TOO_LARGE:
        reply_problem(&r->reply, PROBLEM_IMAGE_TOO_LARGE, "%s", e->text);
        break;
    case ERR_BUSY:
    case ERR_MEMORY:
        metrics_reject(r->server->metrics, REJECT_MEMORY);
        reply_problem(&r->reply, PROBLEM_MEMORY, "%s", e->text);
        break;
    case ERR_INPUT:
    case ERR_NOT_FOUND:
        reply_problem(&r->reply, PROBLEM_BAD_REQUEST, "%s", e->text);
        break;
    case ERR_IO:
    case ERR_INTERNAL:
        request_log(r, LOG_LEVEL_ERROR, "%s", e->text);
        reply_problem(&r->reply, PROBLEM_INTERNAL, "%s", e->text);
        break;
    }
}

static void tell_late(struct request *r, const char *where)
{
    metrics_reject(r->server->metrics, REJECT_DEADLINE);
    reply_problem(&r->reply, PROBLEM_DEADLINE, "the deadline passed %s; timeout_ms allows up to %lld", where,
                  (long long)r->conf->max_timeout);
}

/* 1 when this thread is the first to see the job fail: it writes the reply. */
static int fail_first(struct request *r)
{
    return !atomic_exchange(&r->job.failed, 1);
}

static int late(struct request *r, const char *where)
{
    if (clock_ms() <= r->job.deadline_ms)
        return 0;
    if (fail_first(r))
        tell_late(r, where);
    return 1;
}

/* Neither late nor given up by its client: worth the next step. */
static int wanted(struct request *r, const char *where)
{
    if (atomic_load(&r->job.failed) || late(r, where))
        return 0;
    if (!request_client_gone(r))
        return 1;
    if (fail_first(r)) { /* counted when the reply cannot be sent */
        reply_problem(&r->reply, PROBLEM_BAD_REQUEST, "the client closed its side before the answer was computed");
        r->reply.close = 1;
    }
    return 0;
}

void job_refuse(struct request *r, const struct err *e)
{
    tell(r, e);
    request_resume(r);
}

void job_expire(struct request *r)
{
    tell_late(r, "while the request was waiting");
    request_resume(r);
}

/* ---- the way of an input ---- */

int job_open(struct request *r)
{
    struct job *j = &r->job;
    struct err e;
    if (wanted(r, "while the request was waiting")) {
        int64_t begin = clock_us();
        if (j->kind->open(r, &e) == 0) {
            atomic_store(&j->undecoded, j->count);
            atomic_store(&j->left, j->count);
            for (int i = 0; i < j->count; i++)
                j->inputs[i].us[STAGE_QUEUE] = begin - j->queued_us;
            j->inputs[0].us[STAGE_DECODE] = clock_us() - begin; /* finding the image is part of decoding it */
            return 1;
        }
        tell(r, &e);
    }
    request_resume(r);
    return 0;
}

/* Several threads may decode at a time; one that finds no room in the budget waits until it is alone, because what the others
   have taken comes back soon. On success the caller gives back both, the bytes and the lock. */
static int decode_begin(struct server *s, size_t need, struct err *e)
{
    pthread_rwlock_rdlock(&s->decoding);
    if (budget_reserve(&s->budget, need, "decoding this image", e) == 0)
        return 0;
    pthread_rwlock_unlock(&s->decoding);
    pthread_rwlock_wrlock(&s->decoding);
    if (budget_reserve(&s->budget, need, "decoding this image", e) == 0)
        return 0;
    pthread_rwlock_unlock(&s->decoding);
    return -1;
}

/* Decodes and preprocesses an encoded image into rgb, within the budget. */
static int pixels(struct request *r, struct job_input *in, uint8_t *rgb, struct err *e)
{
    const struct preprocess *p = &model_network(r->job.loaded->model)->preprocess;
    const struct conf *c = r->conf;
    struct image_limits limits = image_limits_default;
    limits.width = (int)c->max_width;
    limits.height = (int)c->max_height;
    limits.pixels = c->max_pixels;
    limits.scans = (int)c->max_scans;
    limits.decoder_bytes = (size_t)c->decoder_memory;
    limits.lenient = c->lenient;
    /* however patient the client is: what takes as long as a stuck worker must not be taken for one */
    limits.deadline_ms = clock_ms() + c->stall_timeout / 2;
    if (limits.deadline_ms > r->job.deadline_ms)
        limits.deadline_ms = r->job.deadline_ms;

    struct image image = {0};
    size_t need = estimate_decode(in->bytes, in->size, &limits, p);
    int64_t begin = clock_us();
    if (decode_begin(r->server, need, e) < 0)
        return -1;
    int rc = image_decode(in->bytes, in->size, &limits, p, &image, e);
    int64_t decoded = clock_us();
    if (rc == 0)
        rc = image_preprocess(&image, p, rgb, e);
    in->us[STAGE_DECODE] += decoded - begin;
    in->us[STAGE_PREPROCESS] = clock_us() - decoded;
    in->image = image;
    in->image.rgb = NULL;
    image_free(&image);
    budget_release(&r->server->budget, need);
    pthread_rwlock_unlock(&r->server->decoding);
    return rc;
}

/* Puts the input into the session. */
static int fill(struct request *r, struct job_input *in, struct session *s, uint8_t *rgb)
{
    struct err e;
    if (in->values) {
        session_set_values(s, 0, in->values);
        return 1;
    }
    if (pixels(r, in, rgb, &e) == 0) {
        session_set_pixels(s, 0, rgb);
        return 1;
    }
    if (late(r, "while an image was decoded"))
        return 0;
    if (r->job.count > 1)
        err_prefix(&e, "image %d", (int)(in - r->job.inputs) + 1);
    if (fail_first(r))
        tell(r, &e);
    return 0;
}

static void count(struct request *r, const struct job_input *in)
{
    struct metrics *m = r->server->metrics;
    const struct loaded *l = r->job.loaded;
    const struct origin o = request_origin(r);
    metrics_inference(m, l->slot, l->precision);
    for (int i = 0; i < STAGES; i++)
        metrics_stage(m, l->slot, l->precision, (enum stage)i, (double)in->us[i] / 1e6, &o);
}

static void infer(struct request *r, int index, struct session *s)
{
    struct job *j = &r->job;
    struct job_input *in = &j->inputs[index];
    const int classes = model_classes(j->loaded->model);
    int64_t begin = clock_us();
    const float *logits = session_run(s, 1);
    in->us[STAGE_INFERENCE] = clock_us() - begin;
    count(r, in);
    memcpy(j->logits + (size_t)index * (size_t)classes, logits, (size_t)classes * sizeof *logits);
    for (int i = 0; i < classes; i++)
        if (!isfinite(logits[i])) {
            if (fail_first(r)) {
                request_log(r, LOG_LEVEL_ERROR, "logit %d of %s %s is not finite", i, j->loaded->name,
                            precision_name(j->loaded->precision));
                reply_problem(&r->reply, PROBLEM_NOT_FINITE, "the network's output for this image is not a number");
            }
            return;
        }
}

int job_compute(struct request *r, int index, struct session *s, uint8_t *rgb)
{
    struct job *j = &r->job;
    /* job_open has just looked; the others may have waited for their turn. */
    int ran = 0,
        good = (index == 0 || wanted(r, "while the images before it were computed")) && fill(r, &j->inputs[index], s, rgb);
    if (atomic_fetch_sub(&j->undecoded, 1) == 1) {
        drop_held(r);
        request_drop_body(r);
    }
    if (good && wanted(r, "while the image was decoded")) {
        infer(r, index, s);
        ran = 1;
    }
    if (atomic_fetch_sub(&j->left, 1) == 1) {
        if (!atomic_load(&j->failed) && !late(r, "while the image was computed"))
            j->kind->reply(r);
        request_resume(r);
    }
    return ran;
}

// SPDX-License-Identifier: MIT
#include "daemon/predict.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "daemon/base64.h"
#include "daemon/clock.h"
#include "daemon/estimate.h"
#include "daemon/http.h"
#include "daemon/image.h"
#include "daemon/log.h"
#include "daemon/multipart.h"
#include "daemon/worker.h"
#include "models/json.h"

#define JSON_FORM "the JSON body must be {\"image\":{\"b64\":\"...\"}}"

struct timing {
    int64_t queue_us, decode_us, preprocess_us, inference_us;
};

/* The encoded image within the body. */
struct source {
    const uint8_t *bytes;
    size_t size;
    cJSON *json;     /* owns bytes when the body was JSON */
    size_t reserved; /* for json */
};

static void source_free(struct source *s, struct budget *b)
{
    cJSON_Delete(s->json);
    budget_release(b, s->reserved);
    *s = (struct source){0};
}

static int is_type(const char *content_type, const char *type)
{
    size_t n = strlen(type);
    return strncasecmp(content_type, type, n) == 0 && strchr("; \t", content_type[n]);
}

static int source_from_json(struct request *r, struct source *out, struct err *e)
{
    static const char *const members[] = {"image", NULL}, *const image_members[] = {"b64", NULL};
    struct err why;
    if (budget_reserve(&r->server->budget, r->body_len, "the JSON body", e) < 0)
        return -1;
    out->reserved = r->body_len;
    out->json = json_parse_few((const char *)r->body, r->body_len, REQUEST_VALUES_MAX, e);
    if (!out->json)
        return e->code == ERR_TOO_LARGE ? err_set(e, ERR_INPUT, JSON_FORM) : -1;
    const cJSON *image = cJSON_GetObjectItemCaseSensitive(out->json, "image");
    cJSON *b64 = cJSON_GetObjectItemCaseSensitive(image, "b64");
    if (!cJSON_IsObject(out->json) || json_only(out->json, members, &why) < 0 || !cJSON_IsObject(image) ||
        json_only(image, image_members, &why) < 0 || !cJSON_IsString(b64))
        return err_set(e, ERR_INPUT, JSON_FORM);
    if (base64_decode(b64->valuestring, strlen(b64->valuestring), &out->size, e) < 0)
        return -1;
    out->bytes = (const uint8_t *)b64->valuestring;
    request_drop_body(r);
    return 0;
}

static int source_find(struct request *r, struct source *out, struct err *e)
{
    if (is_type(r->content_type, "application/json"))
        return source_from_json(r, out, e);
    if (is_type(r->content_type, "multipart/form-data")) {
        char boundary[71];
        return multipart_boundary(r->content_type, boundary, e) < 0
                   ? -1
                   : multipart_file(r->body, r->body_len, boundary, &out->bytes, &out->size, e);
    }
    out->bytes = r->body;
    out->size = r->body_len;
    return 0;
}

/* What an error of the body or of image.h means to the client. */
static void refuse(struct request *r, const struct err *e)
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
        log_error("request %s: %s", r->id, e->text);
        reply_problem(&r->reply, PROBLEM_INTERNAL, "%s", e->text);
        break;
    }
}

void predict_late(struct request *r, const char *where)
{
    metrics_reject(r->server->metrics, REJECT_DEADLINE);
    reply_problem(&r->reply, PROBLEM_DEADLINE, "the deadline passed %s; timeout_ms allows up to %lld", where,
                  (long long)r->conf->max_timeout);
}

static int late(const struct request *r)
{
    return clock_ms() > r->predict.deadline_ms;
}

/* Decodes and preprocesses into rgb, within the budget; gives the body back as soon as it is decoded. */
static int pixels(struct request *r, uint8_t *rgb, struct image *info, struct timing *t, struct err *e)
{
    const struct preprocess *p = &model_network(r->predict.loaded->model)->preprocess;
    const struct conf *c = r->conf;
    struct image_limits limits = image_limits_default;
    limits.width = (int)c->max_width;
    limits.height = (int)c->max_height;
    limits.pixels = c->max_pixels;
    limits.scans = (int)c->max_scans;
    limits.decoder_bytes = (size_t)c->decoder_memory;
    limits.lenient = c->lenient;

    struct source source = {0};
    struct image image = {0};
    int64_t begin = clock_us();
    int rc = source_find(r, &source, e);
    size_t need = rc < 0 ? 0 : estimate_decode(source.bytes, source.size, &limits, p);
    if (rc == 0 && budget_reserve(&r->server->budget, need, "decoding this image", e) < 0) {
        rc = -1;
        need = 0;
    }
    if (rc == 0)
        rc = image_decode(source.bytes, source.size, &limits, p, &image, e);
    source_free(&source, &r->server->budget);
    request_drop_body(r);
    int64_t decoded = clock_us();
    t->decode_us = decoded - begin;
    if (rc == 0)
        rc = image_preprocess(&image, p, rgb, e);
    t->preprocess_us = clock_us() - decoded;
    *info = image;
    info->rgb = NULL;
    image_free(&image);
    budget_release(&r->server->budget, need);
    return rc;
}

static double ms(int64_t us)
{
    return (double)us / 1000;
}

static void write_reply(struct request *r, const float *logits, const struct image *image, const struct timing *t)
{
    const struct loaded *l = r->predict.loaded;
    const struct network *n = model_network(l->model);
    int classes = model_classes(l->model), k = (int)r->predict.top_k;
    float *p = malloc((size_t)classes * sizeof *p);
    int *best = malloc((size_t)k * sizeof *best);
    struct text out = {0};
    if (!p || !best) {
        out.failed = 1;
        goto done;
    }
    softmax(logits, classes, p);
    top_k(logits, classes, k, best);
    text_puts(&out, "{\"model\":{\"name\":");
    text_json(&out, l->name);
    text_printf(&out, ",\"precision\":\"%s\",\"digest\":\"sha256:%s\",\"kernels\":\"%s\"},\"predictions\":[",
                precision_name(l->precision), n->digest, model_kernels(l->model)->name);
    for (int i = 0, first = 1; i < k; i++) {
        if ((double)p[best[i]] < r->predict.threshold)
            break;
        char index[16];
        snprintf(index, sizeof index, "%d", best[i]);
        text_printf(&out, "%s{\"class\":%d,\"label\":", first ? "" : ",", best[i]);
        text_json(&out, n->label_count ? n->labels[best[i]] : index);
        text_printf(&out, ",\"probability\":%.6f}", (double)p[best[i]]);
        first = 0;
    }
    text_puts(&out, "]");
    if (r->predict.logits) {
        text_puts(&out, ",\"logits\":[");
        for (int i = 0; i < classes; i++) {
            text_puts(&out, i ? "," : "");
            text_float(&out, logits[i]);
        }
        text_puts(&out, "]");
    }
    double total = ms(clock_us() - r->started_us);
    text_printf(&out, ",\"image\":{\"format\":\"%s\",\"width\":%d,\"height\":%d,\"orientation\":%d}",
                image_format_name(image->format), image->file_width, image->file_height, image->orientation);
    text_printf(&out, ",\"timing_ms\":{\"queue\":%.3f,\"decode\":%.3f,\"preprocess\":%.3f,\"inference\":%.3f,\"total\":%.3f}}",
                ms(t->queue_us), ms(t->decode_us), ms(t->preprocess_us), ms(t->inference_us), total);
    snprintf(r->reply.timing, sizeof r->reply.timing,
             "queue;dur=%.3f, decode;dur=%.3f, preprocess;dur=%.3f, inference;dur=%.3f, total;dur=%.3f", ms(t->queue_us),
             ms(t->decode_us), ms(t->preprocess_us), ms(t->inference_us), total);
done:
    free(p);
    free(best);
    reply_json(&r->reply, &out);
}

static void count(struct request *r, const struct timing *t)
{
    struct metrics *m = r->server->metrics;
    const struct loaded *l = r->predict.loaded;
    metrics_inference(m, l->slot, l->precision, 1);
    metrics_stage(m, l->slot, l->precision, STAGE_QUEUE, (double)t->queue_us / 1e6);
    metrics_stage(m, l->slot, l->precision, STAGE_DECODE, (double)t->decode_us / 1e6);
    metrics_stage(m, l->slot, l->precision, STAGE_PREPROCESS, (double)t->preprocess_us / 1e6);
    metrics_stage(m, l->slot, l->precision, STAGE_INFERENCE, (double)t->inference_us / 1e6);
}

void predict_run(struct request *r, struct worker *w)
{
    struct loaded *l = r->predict.loaded;
    struct timing t = {.queue_us = clock_us() - r->predict.queued_us};
    struct image image;
    struct err e;
    uint8_t *rgb;
    if (late(r)) {
        predict_late(r, "while the request was waiting");
        return;
    }
    if (request_client_gone(r)) {
        metrics_reject(r->server->metrics, REJECT_CLIENT_GONE);
        reply_problem(&r->reply, PROBLEM_BAD_REQUEST, "the client closed its side before the answer was computed");
        r->reply.close = 1;
        return;
    }
    struct session *s = worker_session(w, l, &rgb, &e);
    if (!s || pixels(r, rgb, &image, &t, &e) < 0) {
        refuse(r, &e);
        return;
    }
    if (late(r)) {
        predict_late(r, "while the image was decoded");
        return;
    }
    int64_t begin = clock_us();
    session_set_pixels(s, 0, rgb);
    const float *logits = session_run(s, 1);
    t.inference_us = clock_us() - begin;
    count(r, &t);
    for (int i = 0; i < model_classes(l->model); i++)
        if (!isfinite(logits[i])) {
            log_error("request %s: logit %d of %s %s is not finite", r->id, i, l->name, precision_name(l->precision));
            reply_problem(&r->reply, PROBLEM_NOT_FINITE, "the network's output for this image is not a number");
            return;
        }
    if (late(r))
        predict_late(r, "while the image was computed");
    else
        write_reply(r, logits, &image, &t);
}

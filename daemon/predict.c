// SPDX-License-Identifier: MIT
#include "daemon/predict.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "daemon/base64.h"
#include "daemon/clock.h"
#include "daemon/multipart.h"
#include "daemon/request.h"
#include "models/json.h"

#define JSON_FORM "the JSON body must be {\"image\":{\"b64\":\"...\"}}"

static void json_free(void *json)
{
    cJSON_Delete(json);
}

static int is_type(const char *content_type, const char *type)
{
    size_t n = strlen(type);
    return strncasecmp(content_type, type, n) == 0 && strchr("; \t", content_type[n]);
}

static int open_json(struct request *r, struct job_input *in, struct err *e)
{
    static const char *const members[] = {"image", NULL}, *const image_members[] = {"b64", NULL};
    struct job *j = &r->job;
    struct err why;
    if (budget_reserve(&r->server->budget, r->body_len, "the JSON body", e) < 0)
        return -1;
    j->held_bytes = r->body_len;
    cJSON *json = json_parse_few((const char *)r->body, r->body_len, REQUEST_VALUES_MAX, e);
    if (!json)
        return e->code == ERR_TOO_LARGE ? err_set(e, ERR_INPUT, JSON_FORM) : -1;
    j->held = json;
    j->held_free = json_free;
    const cJSON *image = cJSON_GetObjectItemCaseSensitive(json, "image");
    cJSON *b64 = cJSON_GetObjectItemCaseSensitive(image, "b64");
    if (!cJSON_IsObject(json) || json_only(json, members, &why) < 0 || !cJSON_IsObject(image) ||
        json_only(image, image_members, &why) < 0 || !cJSON_IsString(b64))
        return err_set(e, ERR_INPUT, JSON_FORM);
    if (base64_decode(b64->valuestring, strlen(b64->valuestring), &in->size, e) < 0)
        return -1;
    in->bytes = (const uint8_t *)b64->valuestring;
    request_drop_body(r);
    return 0;
}

static int predict_open(struct request *r, struct err *e)
{
    if (job_inputs(r, 1, e) < 0)
        return -1;
    struct job_input *in = r->job.inputs;
    if (is_type(r->content_type, "application/json"))
        return open_json(r, in, e);
    if (is_type(r->content_type, "multipart/form-data")) {
        char boundary[71];
        return multipart_boundary(r->content_type, boundary, e) < 0
                   ? -1
                   : multipart_file(r->body, r->body_len, boundary, &in->bytes, &in->size, e);
    }
    in->bytes = r->body;
    in->size = r->body_len;
    return 0;
}

static double ms(int64_t us)
{
    return (double)us / 1000;
}

static void predict_reply(struct request *r)
{
    const struct loaded *l = r->job.loaded;
    const struct job_input *in = r->job.inputs;
    const float *logits = r->job.logits;
    const double queue = ms(in->us[STAGE_QUEUE]), decode = ms(in->us[STAGE_DECODE]), preprocess = ms(in->us[STAGE_PREPROCESS]),
                 inference = ms(in->us[STAGE_INFERENCE]);
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
                image_format_name(in->image.format), in->image.file_width, in->image.file_height, in->image.orientation);
    text_printf(&out, ",\"timing_ms\":{\"queue\":%.3f,\"decode\":%.3f,\"preprocess\":%.3f,\"inference\":%.3f,\"total\":%.3f}}",
                queue, decode, preprocess, inference, total);
    snprintf(r->reply.timing, sizeof r->reply.timing,
             "queue;dur=%.3f, decode;dur=%.3f, preprocess;dur=%.3f, inference;dur=%.3f, total;dur=%.3f", queue, decode,
             preprocess, inference, total);
done:
    free(p);
    free(best);
    reply_json(&r->reply, &out);
}

const struct job_kind predict_kind = {predict_open, predict_reply};

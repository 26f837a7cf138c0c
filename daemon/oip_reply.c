// SPDX-License-Identifier: MIT
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/oip.h"
#include "models/session.h"

static void put_u32(struct text *t, uint32_t v)
{
    const char bytes[4] = {(char)(v & 0xff), (char)(v >> 8 & 0xff), (char)(v >> 16 & 0xff), (char)(v >> 24)};
    text_add(t, bytes, sizeof bytes);
}

static void put_f32(struct text *t, float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    put_u32(t, bits);
}

/* One output, with room for what writing it takes. */
struct writer {
    const struct oip_model *model;
    struct text *json, *data; /* data: what goes behind the JSON */
    float *values;            /* [classes] of one image */
    int *best;                /* [classes] */
};

static void write_tensor(const struct writer *w, int binary, int first)
{
    for (int i = 0; i < w->model->classes; i++) {
        if (binary) {
            put_f32(w->data, w->values[i]);
        } else {
            text_puts(w->json, first && i == 0 ? "" : ",");
            text_float(w->json, w->values[i]);
        }
    }
}

/* "value:index:label" of the k largest. */
static void write_classes(const struct writer *w, int k, int binary, int first)
{
    top_k(w->values, w->model->classes, k, w->best);
    for (int i = 0; i < k; i++) {
        struct text s = {0};
        text_float(&s, w->values[w->best[i]]);
        text_printf(&s, ":%d", w->best[i]);
        if (w->model->labels)
            text_printf(&s, ":%s", w->model->labels[w->best[i]]);
        if (s.failed) {
            w->json->failed = 1;
        } else if (binary) {
            put_u32(w->data, (uint32_t)s.len);
            text_add(w->data, s.s, s.len);
        } else {
            text_puts(w->json, first && i == 0 ? "" : ",");
            text_json(w->json, s.s);
        }
        text_free(&s);
    }
}

static void write_output(const struct oip_request *r, int output, const float *logits, const struct writer *w)
{
    const int classes = w->model->classes, k = r->outputs[output].classification, binary = r->outputs[output].binary;
    const enum oip_tensor tensor = r->outputs[output].tensor;
    const size_t before = w->data->len;
    text_printf(w->json, "%s{\"name\":\"%s\",\"datatype\":\"%s\",\"shape\":[%d,%d]", output ? "," : "", oip_tensor_names[tensor],
                k ? "BYTES" : "FP32", r->count, k ? k : classes);
    if (!binary)
        text_puts(w->json, ",\"data\":[");
    for (int i = 0; i < r->count; i++, logits += classes) {
        if (tensor == OIP_PROBABILITIES)
            softmax(logits, classes, w->values);
        else
            memcpy(w->values, logits, (size_t)classes * sizeof *logits);
        if (k)
            write_classes(w, k, binary, i == 0);
        else
            write_tensor(w, binary, i == 0);
    }
    if (binary)
        text_printf(w->json, ",\"parameters\":{\"binary_data_size\":%zu}}", w->data->len - before);
    else
        text_puts(w->json, "]}");
}

int64_t oip_write(const struct oip_request *r, const struct oip_model *m, const float *logits, struct text *out)
{
    struct text data = {0};
    struct writer w = {m, out, &data, malloc((size_t)m->classes * sizeof *w.values), malloc((size_t)m->classes * sizeof *w.best)};
    int64_t header = -1;
    if (!w.values || !w.best) {
        out->failed = 1;
        goto done;
    }
    text_puts(out, "{\"model_name\":");
    text_json(out, m->name);
    text_puts(out, ",\"model_version\":");
    text_json(out, m->version);
    if (r->has_id) {
        text_puts(out, ",\"id\":");
        text_json(out, r->id);
    }
    text_puts(out, ",\"outputs\":[");
    for (int i = 0; i < r->output_count; i++)
        write_output(r, i, logits, &w);
    text_puts(out, "]}");
    out->failed |= data.failed;
    for (int i = 0; i < r->output_count && !out->failed; i++)
        if (r->outputs[i].binary)
            header = (int64_t)out->len;
    if (header >= 0)
        text_add(out, data.s, data.len);
done:
    text_free(&data);
    free(w.values);
    free(w.best);
    return header;
}

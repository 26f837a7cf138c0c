// SPDX-License-Identifier: MIT
//
// file_write.c - writes model files: the same network gives the same bytes.

#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/file.h"
#include "models/file_layout.h"
#include "models/json.h"

static int add_quant(cJSON *tensors, const char *node, struct quant q)
{
    char scale[32];
    snprintf(scale, sizeof scale, "%.9g", (double)q.scale); /* nine digits bring back every float */
    cJSON *o = cJSON_AddObjectToObject(tensors, node);
    return o && cJSON_AddRawToObject(o, "scale", scale) && cJSON_AddNumberToObject(o, "zero_point", q.zero);
}

/* int8: the text of n->quantization with `rounding` and `tensors` as n says, at its end. */
static int quantization_to_json(const struct network *n, char **out, struct err *e)
{
    cJSON *o = n->quantization ? json_parse(n->quantization, strlen(n->quantization), e) : cJSON_CreateObject();
    if (!o)
        return n->quantization ? err_prefix(e, "quantization") : err_set(e, ERR_MEMORY, "quantization: no memory");
    if (!cJSON_IsObject(o)) {
        cJSON_Delete(o);
        return err_set(e, ERR_INPUT, "quantization: not a JSON object");
    }
    cJSON_DeleteItemFromObjectCaseSensitive(o, "rounding");
    cJSON_DeleteItemFromObjectCaseSensitive(o, "tensors");
    int ok = n->rounding != ROUNDING_TFLITE || cJSON_AddStringToObject(o, "rounding", "tflite");
    cJSON *tensors = cJSON_AddObjectToObject(o, "tensors");
    ok = ok && tensors;
    for (int i = 0; ok && i < n->graph.count; i++)
        ok = n->graph.nodes[i].half || add_quant(tensors, n->graph.nodes[i].name, n->quants[i]);
    *out = ok ? cJSON_PrintUnformatted(o) : NULL;
    cJSON_Delete(o);
    return *out ? 0 : err_set(e, ERR_MEMORY, "quantization: no memory");
}

struct texts { /* fields made here; the others are borrowed from the network */
    char *graph, *labels, *preprocess, *quantization;
};

static int make_texts(const struct network *n, struct texts *t, const char *values[FILE_KEYS], struct err *e)
{
    if (!n->layers)
        return err_set(e, ERR_INPUT, "the network has no weights");
    if (n->precision == PRECISION_INT8) {
        if (!n->quants)
            return err_set(e, ERR_INPUT, "an int8 network needs the quantisation of each node");
        if (quantization_to_json(n, &t->quantization, e))
            return -1;
    }
    t->graph = graph_to_json(&n->graph);
    t->preprocess = preprocess_to_json(&n->preprocess);
    t->labels = n->label_count ? labels_to_json(n) : NULL;
    if (!t->graph || !t->preprocess || (n->label_count && !t->labels))
        return err_set(e, ERR_MEMORY, "no memory for the header");
    values[KEY_FORMAT] = "resnetd";
    values[KEY_VERSION] = "1";
    values[KEY_NAME] = n->name;
    values[KEY_GRAPH] = t->graph;
    values[KEY_PRECISION] = precision_name(n->precision);
    values[KEY_LABELS] = t->labels ? t->labels : "[]";
    values[KEY_PREPROCESS] = t->preprocess;
    values[KEY_QUANTIZATION] = t->quantization ? t->quantization : n->quantization;
    values[KEY_PROVENANCE] = n->provenance;
    values[KEY_ACCURACY] = n->accuracy;
    return 0;
}

/* Nothing is written that the reader would refuse. */
static int check(const struct network *n, const char *const values[FILE_KEYS], struct err *e)
{
    struct network read = {0};
    int r = metadata_parse(values, &read, e);
    for (int i = 0; i < read.graph.count && r == 0; i++) {
        const struct node *a = &n->graph.nodes[i], *b = &read.graph.nodes[i];
        if (a->h != b->h || a->w != b->w || a->c != b->c)
            r = err_set(e, ERR_INPUT, "graph: node '%s' has another shape than its inputs give", a->name);
        else if (node_has_weights(b))
            r = layer_check(&read, i, &n->layers[i], e);
    }
    network_free(&read);
    return r ? r : selftest_check(n, e);
}

static const void *part_data(const struct network *n, const struct slot *s, const uint8_t *metadata)
{
    static const uint8_t zeros[FILE_ALIGN];
    if (s->part == PART_METADATA)
        return metadata;
    if (s->part == PART_PAD)
        return zeros;
    if (s->part == PART_SELFTEST_INPUT)
        return n->selftest.input;
    if (s->part == PART_SELFTEST_LOGITS)
        return n->selftest.logits;
    const struct layer *l = &n->layers[s->node];
    if (s->part == PART_WEIGHT)
        return l->weight;
    if (s->part == PART_SCALE)
        return l->scale;
    return s->dtype == ST_I32 ? (const void *)l->bias_s32 : l->bias;
}

static int write_tensors(const char *path, const struct network *n, const char *values[FILE_KEYS], struct err *e)
{
    const size_t room = 6 * (size_t)n->graph.count + 6; /* three tensors of a node and as many others, each with its padding */
    struct slot *slots = calloc(room, sizeof *slots);
    struct st_item *items = calloc(room, sizeof *items);
    int r = -1, count = 0, metas = 0;
    if (!slots || !items) {
        err_set(e, ERR_MEMORY, "%s: no memory for a file of %d nodes", path, n->graph.count);
        goto out;
    }

    uint8_t metadata[FILE_DIGEST_BYTES], digest[FILE_DIGEST_BYTES];
    metadata_digest(values, metadata);
    struct layout l = layout_begin(n);
    struct sha256_ctx sha;
    sha256_init(&sha);
    for (struct slot *s = slots; layout_next(&l, s); s++, count++) {
        struct st_item *item = &items[count];
        *item = (struct st_item){.name = s->name, .dtype = s->dtype, .rank = s->rank, .data = part_data(n, s, metadata)};
        memcpy(item->shape, s->shape, sizeof s->shape);
        sha256_update(&sha, (size_t)s->bytes, item->data);
    }
    sha256_digest(&sha, sizeof digest, digest);
    char hex[2 * FILE_DIGEST_BYTES + 1];
    for (int i = 0; i < FILE_DIGEST_BYTES; i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    values[KEY_SHA256] = hex;

    struct st_meta meta[FILE_KEYS];
    for (int k = 0; k < FILE_KEYS; k++)
        if (values[k])
            meta[metas++] = (struct st_meta){file_keys[k], values[k]};
    r = st_write(path, items, count, meta, metas, FILE_ALIGN, e);
out:
    free(slots);
    free(items);
    return r;
}

int model_file_write(const char *path, const struct network *n, struct err *e)
{
    const char *values[FILE_KEYS] = {0};
    struct texts t = {0};
    int r = make_texts(n, &t, values, e) || check(n, values, e);
    if (r)
        err_prefix(e, "%s", path);
    else
        r = write_tensors(path, n, values, e);
    free(t.graph);
    free(t.labels);
    free(t.preprocess);
    free(t.quantization);
    return r ? -1 : 0;
}

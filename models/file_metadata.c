// SPDX-License-Identifier: MIT
//
// file_metadata.c - the text fields of a model file: what they say about a network, and whether they agree.

#include <math.h>
#include <nettle/sha2.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/half.h"
#include "models/file_layout.h"
#include "models/json.h"

const char *const file_keys[FILE_KEYS] = {
    [KEY_FORMAT] = "format",
    [KEY_VERSION] = "format_version",
    [KEY_NAME] = "name",
    [KEY_GRAPH] = "graph",
    [KEY_PRECISION] = "precision",
    [KEY_LABELS] = "labels",
    [KEY_PREPROCESS] = "preprocess",
    [KEY_QUANTIZATION] = "quantization",
    [KEY_PROVENANCE] = "provenance",
    [KEY_ACCURACY] = "accuracy",
    [KEY_SHA256] = "sha256",
};

void metadata_digest(const char *const values[FILE_KEYS], uint8_t out[FILE_DIGEST_BYTES])
{
    struct sha256_ctx sha;
    sha256_init(&sha);
    for (int k = 0; k < FILE_KEYS; k++) {
        if (k == KEY_SHA256 || !values[k])
            continue;
        sha256_update(&sha, strlen(file_keys[k]) + 1, (const uint8_t *)file_keys[k]);
        sha256_update(&sha, strlen(values[k]) + 1, (const uint8_t *)values[k]);
    }
    sha256_digest(&sha, FILE_DIGEST_BYTES, out);
}

/* "1" and "1.anything" are ours. */
static int check_format(const char *const values[FILE_KEYS], struct err *e)
{
    const char *format = values[KEY_FORMAT], *version = values[KEY_VERSION];
    if (!format || strcmp(format, "resnetd") != 0)
        return err_set(e, ERR_UNSUPPORTED, "not a model file: metadata has no format = resnetd (a checkpoint is imported first)");
    if (!version || version[0] != '1' || (version[1] && version[1] != '.'))
        return err_set(e, ERR_UNSUPPORTED, "format_version is '%.16s', this version reads 1", version ? version : "");
    return 0;
}

/* Keeps the text of a field that must be a JSON object when there; the parsed object goes to *object when that is not NULL. */
static int take_object(const char *const values[FILE_KEYS], enum file_key key, char **out, cJSON **object, struct err *e)
{
    const char *text = values[key];
    if (!text)
        return 0;
    cJSON *o = json_parse(text, strlen(text), e);
    if (!o)
        return err_prefix(e, "%s", file_keys[key]);
    int r = 0;
    if (!cJSON_IsObject(o))
        r = err_set(e, ERR_INPUT, "%s: not a JSON object", file_keys[key]);
    else if (!(*out = strdup(text)))
        r = err_set(e, ERR_MEMORY, "%s: no memory", file_keys[key]);
    if (r == 0 && object)
        *object = o;
    else
        cJSON_Delete(o);
    return r;
}

static int read_quant(const cJSON *o, struct quant *out, struct err *e)
{
    static const char *const keys[] = {"scale", "zero_point", NULL};
    double scale;
    long long zero;
    if (json_only(o, keys, e) || json_number(o, "scale", &scale, e) || json_int(o, "zero_point", -128, 127, &zero, e))
        return -1;
    *out = (struct quant){(float)scale, (int)zero};
    if (!(out->scale > 0 && out->scale <= FILE_SCALE_MAX))
        return err_set(e, ERR_INPUT, "'scale' must be greater than 0 and at most 2^30");
    return 0;
}

/* {"tensors":{"<node>":{"scale":s,"zero_point":z},...}}: each node once, but those whose output is half not at all. */
static int read_quants(const cJSON *quantization, struct network *n, struct err *e)
{
    const cJSON *tensors = cJSON_GetObjectItemCaseSensitive(quantization, "tensors");
    if (!cJSON_IsObject(tensors))
        return err_set(e, ERR_INPUT, "quantization: int8 needs 'tensors', the scale and zero point of each node");
    struct graph_name *names = graph_names(&n->graph);
    n->quants = calloc((size_t)n->graph.count, sizeof *n->quants);
    int r = 0, found = 0;
    if (!names || !n->quants)
        r = err_set(e, ERR_MEMORY, "quantization: no memory");
    for (const cJSON *o = r ? NULL : tensors->child; o && r == 0; o = o->next, found++) { /* no key comes twice: json_parse */
        const int i = graph_names_find(names, n->graph.count, o->string);
        if (i < 0)
            r = err_set(e, ERR_INPUT, "quantization: tensors: '%.96s' is no node", o->string);
        else if (n->graph.nodes[i].half)
            r = err_set(e, ERR_INPUT, "quantization: tensors: '%s' works in half and has no scale", o->string);
        else if (read_quant(o, &n->quants[i], e))
            r = err_prefix(e, "quantization: tensors: '%s'", o->string);
    }
    free(names);
    for (int i = 0; i < n->graph.count && r == 0 && found != n->graph.count; i++)
        if (n->quants[i].scale == 0 && !n->graph.nodes[i].half)
            r = err_set(e, ERR_INPUT, "quantization: tensors: node '%s' is missing", n->graph.nodes[i].name);
    return r;
}

static int read_rounding(const cJSON *quantization, struct network *n, struct err *e)
{
    const cJSON *o = cJSON_GetObjectItemCaseSensitive(quantization, "rounding");
    if (!o)
        return 0;
    if (!cJSON_IsString(o) || strcmp(o->valuestring, "tflite") != 0)
        return err_set(e, ERR_INPUT, "quantization: rounding must be \"tflite\" where it is given");
    n->rounding = ROUNDING_TFLITE;
    return rounding_check(n, e);
}

/* What the kernels take for granted (kernels/pool.h, conv.h) about the quantisation of one node. */
static int check_quant(const struct network *n, int node, struct err *e)
{
    const struct node *d = &n->graph.nodes[node];
    const struct quant q = n->quants[node];
    const char *wrong = NULL;
    if (d->half && d->op != OP_DEQUANTIZE)
        return 0;
    switch (d->op) {
    case OP_MAXPOOL:
    case OP_SHORTCUT:
        if (q.scale != n->quants[d->in[0]].scale || q.zero != n->quants[d->in[0]].zero)
            wrong = "must have the scale and zero point of its input";
        break;
    case OP_ADD:
    case OP_AVGPOOL:
        for (int k = 0; k < op_infos[d->op].inputs; k++)
            if ((double)n->quants[d->in[k]].scale / (double)q.scale > (double)FILE_SCALE_MAX)
                wrong = "has a scale too small for that of its input";
        break;
    case OP_DEQUANTIZE:
        if (n->quants[d->in[0]].scale * 255 > HALF_MAX)
            wrong = "has an input beyond the largest half";
        break;
    case OP_INPUT:
    case OP_QUANTIZE:
        break; /* any: a network that was quantised elsewhere brings its own */
    case OP_CONV:
    case OP_DENSE:
        break; /* layer_check, with the scales of the weights */
    }
    return wrong ? err_set(e, ERR_INPUT, "quantization: node '%s' %s", d->name, wrong) : 0;
}

static int check_input_size(const struct network *n, struct err *e)
{
    const struct preprocess *p = &n->preprocess;
    const struct node *input = &n->graph.nodes[0];
    int w, h;
    if (p->resize == RESIZE_NONE && p->crop_w == 0)
        return 0; /* images come at the size of the graph */
    preprocess_output_size(p, 0, 0, &w, &h);
    if (w == 0)
        return err_set(e, ERR_INPUT, "preprocess: resize by the shorter side needs a crop: a graph has one input size");
    if (w != input->w || h != input->h)
        return err_set(e, ERR_INPUT, "preprocess gives %dx%d pixels, the graph takes %dx%d", w, h, input->w, input->h);
    return 0;
}

static int check_digest_text(const char *text, struct err *e)
{
    if (strlen(text) != 2 * FILE_DIGEST_BYTES || strspn(text, "0123456789abcdef") != 2 * FILE_DIGEST_BYTES)
        return err_set(e, ERR_DAMAGED, "sha256 is not 64 hexadecimal digits");
    return 0;
}

int metadata_parse(const char *const values[FILE_KEYS], struct network *out, struct err *e)
{
    static const enum file_key required[] = {KEY_NAME, KEY_GRAPH, KEY_PRECISION, KEY_PREPROCESS};
    if (check_format(values, e))
        return -1;
    for (size_t i = 0; i < sizeof required / sizeof *required; i++)
        if (!values[required[i]])
            return err_set(e, ERR_DAMAGED, "metadata field '%s' is missing", file_keys[required[i]]);

    if (name_check(values[KEY_NAME], e))
        return err_prefix(e, "name");
    memcpy(out->name, values[KEY_NAME], strlen(values[KEY_NAME]) + 1);
    if (precision_parse(values[KEY_PRECISION], &out->precision, e))
        return err_prefix(e, "precision");
    if (graph_from_json(values[KEY_GRAPH], &out->graph, e) || preprocess_from_json(values[KEY_PREPROCESS], &out->preprocess, e) ||
        check_input_size(out, e))
        return -1;
    const char *labels = values[KEY_LABELS];
    const int classes = out->graph.nodes[out->graph.output].c;
    if (labels && labels_from_json(labels, strlen(labels), classes, &out->labels, &out->label_count, e))
        return err_prefix(e, "labels");

    cJSON *quantization = NULL;
    if (take_object(values, KEY_QUANTIZATION, &out->quantization, &quantization, e) ||
        take_object(values, KEY_PROVENANCE, &out->provenance, NULL, e) ||
        take_object(values, KEY_ACCURACY, &out->accuracy, NULL, e)) {
        cJSON_Delete(quantization);
        return -1;
    }
    int r =
        out->precision == PRECISION_INT8 ? read_quants(quantization, out, e) || read_rounding(quantization, out, e) ? -1 : 0 : 0;
    cJSON_Delete(quantization);
    if (r == 0)
        r = half_check(out, e);
    for (int i = 0; out->quants && i < out->graph.count && r == 0; i++)
        r = check_quant(out, i, e);
    if (r == 0 && values[KEY_SHA256]) {
        r = check_digest_text(values[KEY_SHA256], e);
        if (r == 0)
            memcpy(out->digest, values[KEY_SHA256], sizeof out->digest);
    }
    return r;
}

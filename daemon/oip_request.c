// SPDX-License-Identifier: MIT
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base64.h"
#include "daemon/image.h"
#include "daemon/oip.h"
#include "models/json.h" /* JSON_NUMBER_MAX */

#define RANK_MAX 4

const char *const oip_tensor_names[OIP_TENSORS] = {"probabilities", "logits"};

/* What a nested or flat array of data turned out to be. */
struct layout {
    int depth;
    int64_t dims[RANK_MAX]; /* of each level */
    int64_t leaves;
    int numbers, strings, others;
};

struct input {
    int tensor; /* 1: `tensor`, 0: `image` */
    int fp32;   /* datatype: 1 FP32, 0 BYTES */
    int64_t shape[RANK_MAX];
    int rank;
    int64_t binary_size; /* -1: not given */
    const char *data;    /* the array's text; NULL: not given */
    size_t data_size;
    struct layout layout;
};

struct parser {
    char *text; /* what the scan reads: strings are resolved in place */
    struct json_scan s;
    int ended; /* s has nothing more to say */
    struct err *e;
    struct oip_request *out;
    const struct oip_model *model;
    struct input input;
    int inputs;
    int binary_output;                  /* binary_data_output */
    signed char binary_of[OIP_TENSORS]; /* binary_data of each output: -1 not given */
};

/* ---- small steps ---- */

static enum json_event next(struct parser *p)
{
    enum json_event event = json_scan_next(&p->s, p->e);
    p->ended = event == JSON_ERROR || event == JSON_END;
    return event;
}

static int wrong(struct parser *p, enum json_event event, const char *what)
{
    return event == JSON_ERROR ? -1 : err_set(p->e, ERR_INPUT, "%s", what);
}

/* The last KEY or STRING, resolved; it may hold NUL characters, so it is compared with its length. */
static const char *string(struct parser *p, size_t *len)
{
    char *at = p->text + (p->s.token - p->text);
    *len = json_scan_string(&p->s, at);
    return at;
}

static int is(const char *s, size_t len, const char *name)
{
    return strlen(name) == len && memcmp(s, name, len) == 0;
}

/* Reads to the end of the value that began with the event. */
static int skip(struct parser *p, enum json_event event)
{
    if (event == JSON_ERROR)
        return -1;
    if (event != JSON_OBJECT && event != JSON_ARRAY)
        return 0;
    for (int outside = p->s.depth - 1; p->s.depth > outside;)
        if (next(p) == JSON_ERROR)
            return -1;
    return 0;
}

/* The last NUMBER as a whole number of 0 or more. */
static int whole(struct parser *p, const char *what, int64_t *out)
{
    int64_t v = 0;
    for (size_t i = 0; i < p->s.length; i++) {
        char c = p->s.token[i];
        if (c < '0' || c > '9' || v > (INT64_MAX - 9) / 10)
            return err_set(p->e, ERR_INPUT, "%s must be a whole number, not %.*s", what, p->s.length < 40 ? (int)p->s.length : 40,
                           p->s.token);
        v = v * 10 + (c - '0');
    }
    *out = v;
    return 0;
}

/* Walks the members of an object whose JSON_OBJECT has been read: member() gets the index of a known name, once each, and must
   read the value that starts with the event; unknown members are skipped, as the protocol wants to grow. */
typedef int member_fn(struct parser *p, int name, enum json_event event, void *user);

static int members(struct parser *p, const char *const *names, member_fn *member, void *user)
{
    unsigned seen = 0;
    for (;;) {
        enum json_event event = next(p);
        if (event == JSON_OBJECT_END)
            return 0;
        if (event == JSON_ERROR)
            return -1;
        size_t len;
        const char *key = string(p, &len);
        int i = 0;
        while (names[i] && !is(key, len, names[i]))
            i++;
        if (names[i] && seen & 1u << i)
            return err_set(p->e, ERR_INPUT, "'%s' is given twice in one object", names[i]);
        seen |= names[i] ? 1u << i : 0;
        event = next(p);
        if (event == JSON_ERROR || (names[i] ? member(p, i, event, user) : skip(p, event)) < 0)
            return -1;
    }
}

/* ---- parameters: names with a string, a number, or a boolean ---- */

enum parameter { BINARY_DATA_SIZE, BINARY_DATA, BINARY_DATA_OUTPUT, CLASSIFICATION, TIMEOUT };
static const char *const parameter_names[] = {"binary_data_size", "binary_data", "binary_data_output",
                                              "classification",   "timeout",     NULL};

struct parameters {
    int64_t binary_data_size, classification, timeout;
    int binary_data, binary_data_output; /* -1: not given */
};

static int parameter(struct parser *p, int name, enum json_event event, void *user)
{
    struct parameters *q = user;
    int flag = name == BINARY_DATA || name == BINARY_DATA_OUTPUT;
    if (flag ? event != JSON_TRUE && event != JSON_FALSE : event != JSON_NUMBER)
        return err_set(p->e, ERR_INPUT, "parameter '%s' must be %s", parameter_names[name], flag ? "true or false" : "a number");
    switch ((enum parameter)name) {
    case BINARY_DATA:
        q->binary_data = event == JSON_TRUE;
        return 0;
    case BINARY_DATA_OUTPUT:
        q->binary_data_output = event == JSON_TRUE;
        return 0;
    case BINARY_DATA_SIZE:
        return whole(p, "parameter 'binary_data_size'", &q->binary_data_size);
    case CLASSIFICATION:
        return whole(p, "parameter 'classification'", &q->classification);
    case TIMEOUT:
        return whole(p, "parameter 'timeout'", &q->timeout);
    }
    return 0;
}

static int parameters(struct parser *p, enum json_event event, struct parameters *out)
{
    *out = (struct parameters){-1, 0, 0, -1, -1};
    if (event != JSON_OBJECT)
        return wrong(p, event, "'parameters' must be an object");
    return members(p, parameter_names, parameter, out);
}

/* ---- an input ---- */

static int shape(struct parser *p, enum json_event event)
{
    struct input *in = &p->input;
    if (event != JSON_ARRAY)
        return wrong(p, event, "'shape' must be an array of numbers");
    while ((event = next(p)) != JSON_ARRAY_END) {
        if (event != JSON_NUMBER)
            return wrong(p, event, "'shape' must be an array of numbers");
        if (in->rank == RANK_MAX)
            return err_set(p->e, ERR_INPUT, "'shape' has more than %d dimensions", RANK_MAX);
        if (whole(p, "a dimension of 'shape'", &in->shape[in->rank++]) < 0)
            return -1;
    }
    return 0;
}

/* Reads an array to its end and measures it. */
static int measure(struct parser *p, struct layout *l)
{
    int64_t counts[RANK_MAX] = {0};
    int level = 1, leaf_level = 0;
    *l = (struct layout){.depth = 1, .dims = {-1, -1, -1, -1}};
    while (level) {
        enum json_event event = next(p);
        int ragged = 0;
        switch (event) {
        case JSON_ERROR:
            return -1;
        case JSON_ARRAY:
            if (level == RANK_MAX)
                return err_set(p->e, ERR_INPUT, "'data' is nested deeper than %d levels", RANK_MAX);
            counts[level - 1]++;
            counts[level++] = 0;
            ragged = leaf_level && level > leaf_level;
            l->depth = level > l->depth ? level : l->depth;
            break;
        case JSON_ARRAY_END:
            level--;
            ragged = l->dims[level] >= 0 && l->dims[level] != counts[level];
            l->dims[level] = counts[level];
            break;
        case JSON_OBJECT:
            return err_set(p->e, ERR_INPUT, "'data' holds an object; numbers or strings are possible");
        default:
            ragged = level != l->depth || (leaf_level && level != leaf_level);
            leaf_level = level;
            counts[level - 1]++;
            l->leaves++;
            l->numbers |= event == JSON_NUMBER;
            l->strings |= event == JSON_STRING;
            l->others |= event != JSON_NUMBER && event != JSON_STRING;
        }
        if (ragged)
            return err_set(p->e, ERR_INPUT, "'data' is ragged: arrays of one level differ in length or depth");
    }
    return 0;
}

enum input_member { INPUT_NAME, INPUT_SHAPE, INPUT_DATATYPE, INPUT_PARAMETERS, INPUT_DATA };
static const char *const input_names[] = {"name", "shape", "datatype", "parameters", "data", NULL};

static int input_member(struct parser *p, int name, enum json_event event, void *user)
{
    struct input *in = &p->input;
    struct parameters q;
    const char *s = "";
    size_t len = 0;
    (void)user;
    if (name == INPUT_NAME || name == INPUT_DATATYPE) {
        if (event != JSON_STRING)
            return err_set(p->e, ERR_INPUT, "'%s' of an input must be a string", input_names[name]);
        s = string(p, &len);
    }
    switch ((enum input_member)name) {
    case INPUT_NAME:
        in->tensor = is(s, len, "tensor") ? 1 : is(s, len, "image") ? 0 : -1;
        return in->tensor < 0 ? err_set(p->e, ERR_INPUT, "there is no such input; the inputs are 'image' and 'tensor'") : 0;
    case INPUT_DATATYPE:
        in->fp32 = is(s, len, "FP32") ? 1 : is(s, len, "BYTES") ? 0 : -1;
        return in->fp32 < 0 ? err_set(p->e, ERR_INPUT, "this datatype is not read here: 'image' is BYTES, 'tensor' is FP32") : 0;
    case INPUT_SHAPE:
        return shape(p, event);
    case INPUT_PARAMETERS:
        if (parameters(p, event, &q) < 0)
            return -1;
        in->binary_size = q.binary_data_size;
        return 0;
    case INPUT_DATA:
        if (event != JSON_ARRAY)
            return err_set(p->e, ERR_INPUT, "'data' must be an array");
        in->data = p->s.at - 1; /* the bracket */
        if (measure(p, &in->layout) < 0)
            return -1;
        in->data_size = (size_t)(p->s.at - in->data);
        return 0;
    }
    return 0;
}

static int input(struct parser *p)
{
    struct input *in = &p->input;
    if (p->inputs++)
        return err_set(p->e, ERR_INPUT, "more than one input; give 'image' or 'tensor'");
    *in = (struct input){.tensor = -1, .fp32 = -1, .binary_size = -1};
    if (members(p, input_names, input_member, NULL) < 0)
        return -1;
    return in->tensor < 0 ? err_set(p->e, ERR_INPUT, "the input has no 'name'")
           : in->fp32 < 0 ? err_set(p->e, ERR_INPUT, "the input has no 'datatype'")
           : !in->rank    ? err_set(p->e, ERR_INPUT, "the input has no 'shape', or an empty one")
                          : 0;
}

/* ---- a requested output ---- */

enum output_member { OUTPUT_NAME, OUTPUT_PARAMETERS };
static const char *const output_names[] = {"name", "parameters", NULL};

struct output {
    int tensor;
    struct parameters q;
};

static int output_member(struct parser *p, int name, enum json_event event, void *user)
{
    struct output *o = user;
    if (name == OUTPUT_PARAMETERS)
        return parameters(p, event, &o->q);
    if (event != JSON_STRING)
        return err_set(p->e, ERR_INPUT, "'name' of an output must be a string");
    size_t len;
    const char *s = string(p, &len);
    for (o->tensor = 0; o->tensor < OIP_TENSORS && !is(s, len, oip_tensor_names[o->tensor]);)
        o->tensor++;
    return o->tensor < OIP_TENSORS
               ? 0
               : err_set(p->e, ERR_INPUT, "there is no such output; the outputs are 'probabilities' and 'logits'");
}

static int output(struct parser *p)
{
    struct output o = {-1, {-1, 0, 0, -1, -1}};
    struct oip_request *r = p->out;
    if (members(p, output_names, output_member, &o) < 0)
        return -1;
    if (o.tensor < 0)
        return err_set(p->e, ERR_INPUT, "an output has no 'name'");
    for (int i = 0; i < r->output_count; i++)
        if ((int)r->outputs[i].tensor == o.tensor)
            return err_set(p->e, ERR_INPUT, "output '%s' is asked for twice", oip_tensor_names[o.tensor]);
    if (o.q.classification > p->model->classes)
        return err_set(p->e, ERR_INPUT, "classification may ask for up to %d classes, not %lld", p->model->classes,
                       (long long)o.q.classification);
    p->binary_of[r->output_count] = (signed char)o.q.binary_data;
    r->outputs[r->output_count].tensor = (enum oip_tensor)o.tensor;
    r->outputs[r->output_count++].classification = (int)o.q.classification;
    return 0;
}

/* ---- the whole ---- */

enum request_member { REQUEST_ID, REQUEST_PARAMETERS, REQUEST_INPUTS, REQUEST_OUTPUTS };
static const char *const request_names[] = {"id", "parameters", "inputs", "outputs", NULL};

static int request_id(struct parser *p, enum json_event event)
{
    if (event != JSON_STRING)
        return wrong(p, event, "'id' must be a string");
    size_t len;
    const char *s = string(p, &len);
    if (len > OIP_ID_MAX || memchr(s, '\0', len))
        return err_set(p->e, ERR_INPUT, "'id' must be at most %d bytes, without NUL", OIP_ID_MAX);
    memcpy(p->out->id, s, len);
    p->out->id[len] = '\0';
    p->out->has_id = 1;
    return 0;
}

static int objects(struct parser *p, enum json_event event, int (*object)(struct parser *), const char *what)
{
    if (event != JSON_ARRAY)
        return wrong(p, event, what);
    while ((event = next(p)) != JSON_ARRAY_END)
        if (event != JSON_OBJECT ? wrong(p, event, what) < 0 : object(p) < 0)
            return -1;
    return 0;
}

static int request_member(struct parser *p, int name, enum json_event event, void *user)
{
    struct parameters q;
    (void)user;
    switch ((enum request_member)name) {
    case REQUEST_ID:
        return request_id(p, event);
    case REQUEST_PARAMETERS:
        if (parameters(p, event, &q) < 0)
            return -1;
        p->binary_output = q.binary_data_output > 0;
        p->out->timeout_us = q.timeout;
        return 0;
    case REQUEST_INPUTS:
        return objects(p, event, input, "'inputs' must be an array of objects");
    case REQUEST_OUTPUTS:
        return objects(p, event, output, "'outputs' must be an array of objects");
    }
    return 0;
}

static void all_outputs(struct oip_request *r)
{
    for (int i = 0; i < OIP_TENSORS; i++)
        r->outputs[i].tensor = (enum oip_tensor)i;
    r->output_count = OIP_TENSORS;
}

static int document(struct parser *p)
{
    enum json_event event = next(p);
    if (event != JSON_OBJECT)
        return wrong(p, event, "the request is not a JSON object");
    if (members(p, request_names, request_member, NULL) < 0 || next(p) == JSON_ERROR)
        return -1;
    if (!p->inputs)
        return err_set(p->e, ERR_INPUT, "the request has no 'inputs'");
    int all = p->out->output_count == 0;
    if (all)
        all_outputs(p->out);
    for (int i = 0; i < p->out->output_count; i++)
        p->out->outputs[i].binary = all || p->binary_of[i] < 0 ? p->binary_output : p->binary_of[i];
    return 0;
}

/* Does what the input says of itself agree with the model? */
static int check_shape(struct parser *p)
{
    const struct input *in = &p->input;
    const struct oip_model *m = p->model;
    if (in->tensor != in->fp32)
        return err_set(p->e, ERR_INPUT, in->tensor ? "'tensor' must be FP32" : "'image' must be BYTES");
    if (in->shape[0] < 1 || in->shape[0] > OIP_IMAGES_MAX)
        return err_set(p->e, ERR_INPUT, "a request takes 1 to %d images, not %lld", OIP_IMAGES_MAX, (long long)in->shape[0]);
    if (!in->tensor && in->rank != 1)
        return err_set(p->e, ERR_INPUT, "the shape of 'image' must be [n], n being the number of images");
    if (in->tensor && (in->rank != 4 || in->shape[1] != 3 || in->shape[2] != m->height || in->shape[3] != m->width))
        return err_set(p->e, ERR_INPUT, "the shape of 'tensor' must be [n,3,%d,%d]", m->height, m->width);
    if ((in->data != NULL) == (in->binary_size >= 0))
        return err_set(p->e, ERR_INPUT,
                       in->data ? "the input has both 'data' and 'binary_data_size'"
                                : "the input has neither 'data' nor 'binary_data_size'");
    return 0;
}

static int check_data(struct parser *p)
{
    const struct input *in = &p->input;
    const struct layout *l = &in->layout;
    int64_t elements = 1;
    int same = l->depth == in->rank;
    for (int i = 0; i < in->rank; i++) {
        elements *= in->shape[i];
        same = same && l->dims[i] == in->shape[i];
    }
    if (l->others || (in->tensor ? l->strings : l->numbers))
        return err_set(p->e, ERR_INPUT,
                       in->tensor ? "'data' of 'tensor' must be numbers" : "'data' of 'image' must be strings, images in base64");
    if (!same && !(l->depth == 1 && l->leaves == elements))
        return err_set(p->e, ERR_INPUT,
                       "'data' does not have the shape that 'shape' says, nor is it flat with %lld elements (it has %lld)",
                       (long long)elements, (long long)l->leaves);
    return 0;
}

static int images_from_json(struct parser *p)
{
    struct oip_request *r = p->out;
    json_scan_start(&p->s, p->input.data, p->input.data_size);
    for (int i = 0; i < r->count;) {
        if (next(p) != JSON_STRING)
            continue;
        size_t len;
        char *text = p->text + (p->s.token - p->text);
        len = json_scan_string(&p->s, text);
        if (base64_decode(text, len, &r->image[i].size, p->e) < 0) {
            err_prefix(p->e, "image %d", i + 1);
            return -1;
        }
        r->image[i++].bytes = (const uint8_t *)text;
    }
    return 0;
}

static size_t tensor_bytes(const struct oip_model *m)
{
    return (size_t)m->height * (size_t)m->width * 3 * sizeof(float);
}

/* Images one after the other, each a length of four bytes and so many bytes. */
static int images_from_binary(struct parser *p, const uint8_t *at, size_t left)
{
    struct oip_request *r = p->out;
    for (int i = 0; i < r->count; i++) {
        size_t n = left < 4 ? 0 : (size_t)at[0] | (size_t)at[1] << 8 | (size_t)at[2] << 16 | (size_t)at[3] << 24;
        if (left < 4 || n > left - 4)
            return err_set(p->e, ERR_INPUT, "the binary data ends within image %d of %d", i + 1, r->count);
        r->image[i].bytes = at + 4;
        r->image[i].size = n;
        at += 4 + n;
        left -= 4 + n;
    }
    return left ? err_set(p->e, ERR_INPUT, "%zu bytes follow the last image of the binary data", left) : 0;
}

static int from_binary(struct parser *p, const uint8_t *at, size_t size)
{
    const struct input *in = &p->input;
    if ((uint64_t)in->binary_size != size)
        return err_set(p->e, ERR_INPUT, "binary_data_size says %lld bytes, but %zu follow the JSON", (long long)in->binary_size,
                       size);
    if (!in->tensor)
        return images_from_binary(p, at, size);
    size_t need = tensor_bytes(p->model) * (size_t)p->out->count;
    if (size != need)
        return err_set(p->e, ERR_INPUT, "the binary data of this tensor must be %zu bytes, not %zu", need, size);
    p->out->binary = at;
    return 0;
}

/* The whole body is the input, and all outputs are wanted as binary data. What it is shows: an image by its first bytes, bare or
   behind its length; a tensor by its size. */
static int raw(const uint8_t *body, size_t size, const struct oip_model *m, struct oip_request *out, struct err *e)
{
    out->count = 1;
    all_outputs(out);
    for (int i = 0; i < OIP_TENSORS; i++)
        out->outputs[i].binary = 1;
    size_t counted = size > 4 && image_recognise(body + 4, size - 4) != IMAGE_UNKNOWN &&
                             ((size_t)body[0] | (size_t)body[1] << 8 | (size_t)body[2] << 16 | (size_t)body[3] << 24) == size - 4
                         ? 4
                         : 0;
    if (counted || image_recognise(body, size) != IMAGE_UNKNOWN) {
        out->encoded = 1;
        out->image[0].bytes = body + counted;
        out->image[0].size = size - counted;
        return 0;
    }
    out->binary = body;
    return size == tensor_bytes(m) ? 0
                                   : err_set(e, ERR_INPUT, "the body is neither an image nor a tensor [1,3,%d,%d] of %zu bytes",
                                             m->height, m->width, tensor_bytes(m));
}

int oip_parse(uint8_t *body, size_t size, int64_t header, const struct oip_model *m, struct oip_request *out, struct err *e)
{
    memset(out, 0, sizeof *out);
    if (header > 0 && (uint64_t)header > size)
        return err_set(e, ERR_INPUT, "Inference-Header-Content-Length is %lld, the body has %zu bytes", (long long)header, size);
    if (header == 0)
        return raw(body, size, m, out, e);
    size_t text_size = header < 0 ? size : (size_t)header;
    struct parser p = {.text = (char *)body, .e = e, .out = out, .model = m};
    json_scan_start(&p.s, p.text, text_size);
    if (document(&p) < 0) {
        struct err syntax;
        p.e = &syntax; /* a text that is no JSON is told so, whatever else is wrong with what it says */
        while (!p.ended)
            if (next(&p) == JSON_ERROR)
                *e = syntax;
        e->code = ERR_INPUT; /* or it was too deep */
        return -1;
    }
    if (check_shape(&p) < 0)
        return -1;
    out->count = (int)p.input.shape[0];
    out->encoded = !p.input.tensor;
    if (p.input.binary_size >= 0 && header < 0)
        return err_set(e, ERR_INPUT, "binary_data_size needs the header Inference-Header-Content-Length");
    if (p.input.binary_size >= 0)
        return from_binary(&p, body + text_size, size - text_size);
    if (text_size != size)
        return err_set(e, ERR_INPUT, "%zu bytes follow the JSON, but no input has binary_data_size", size - text_size);
    if (check_data(&p) < 0)
        return -1;
    if (out->encoded)
        return images_from_json(&p);
    json_scan_start(&out->scan, p.input.data, p.input.data_size);
    return 0;
}

/* The next number of a layout that has been checked. Whatever follows it in the array ends it for strtof, too. */
static float number(struct json_scan *s)
{
    struct err e;
    while (json_scan_next(s, &e) != JSON_NUMBER)
        ; /* brackets */
    return s->length > JSON_NUMBER_MAX ? INFINITY : strtof(s->token, NULL);
}

int oip_values(struct oip_request *r, const struct oip_model *m, float *out, struct err *e)
{
    const size_t plane = (size_t)m->height * (size_t)m->width;
    for (size_t c = 0; c < 3; c++)
        for (size_t i = 0; i < plane; i++) {
            float v;
            if (r->binary) {
                const uint8_t *b = r->binary;
                uint32_t bits = (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
                memcpy(&v, &bits, sizeof v);
                r->binary += sizeof v;
            } else {
                v = number(&r->scan);
            }
            if (!isfinite(v))
                return err_set(e, ERR_INPUT, "a value of 'tensor' is not finite, or beyond FP32");
            out[i * 3 + c] = v;
        }
    return 0;
}

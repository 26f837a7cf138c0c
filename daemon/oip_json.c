// SPDX-License-Identifier: MIT
#include "daemon/oip_json.h"

#include <string.h>

const char *const oip_tensor_names[OIP_TENSORS] = {"probabilities", "logits"};

/* ---- small steps ---- */

static enum json_event next(struct oip_json *p)
{
    enum json_event event = json_scan_next(&p->s, p->e);
    p->ended = event == JSON_ERROR || event == JSON_END;
    return event;
}

static int wrong(struct oip_json *p, enum json_event event, const char *what)
{
    return event == JSON_ERROR ? -1 : err_set(p->e, ERR_INPUT, "%s", what);
}

/* The last KEY or STRING, resolved; it may hold NUL characters, so it is compared with its length. */
static const char *string(struct oip_json *p, size_t *len)
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
static int skip(struct oip_json *p, enum json_event event)
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
static int whole(struct oip_json *p, const char *what, int64_t *out)
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
typedef int member_fn(struct oip_json *p, int name, enum json_event event, void *user);

static int members(struct oip_json *p, const char *const *names, member_fn *member, void *user)
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

static int parameter(struct oip_json *p, int name, enum json_event event, void *user)
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

static int parameters(struct oip_json *p, enum json_event event, struct parameters *out)
{
    *out = (struct parameters){-1, 0, 0, -1, -1};
    if (event != JSON_OBJECT)
        return wrong(p, event, "'parameters' must be an object");
    return members(p, parameter_names, parameter, out);
}

/* ---- an input ---- */

static int shape(struct oip_json *p, enum json_event event)
{
    struct oip_input *in = &p->input;
    if (event != JSON_ARRAY)
        return wrong(p, event, "'shape' must be an array of numbers");
    while ((event = next(p)) != JSON_ARRAY_END) {
        if (event != JSON_NUMBER)
            return wrong(p, event, "'shape' must be an array of numbers");
        if (in->rank == OIP_RANK_MAX)
            return err_set(p->e, ERR_INPUT, "'shape' has more than %d dimensions", OIP_RANK_MAX);
        if (whole(p, "a dimension of 'shape'", &in->shape[in->rank++]) < 0)
            return -1;
    }
    return 0;
}

/* Reads an array to its end and measures it. */
static int measure(struct oip_json *p, struct oip_layout *l)
{
    int64_t counts[OIP_RANK_MAX] = {0};
    int level = 1, leaf_level = 0;
    *l = (struct oip_layout){.depth = 1, .dims = {-1, -1, -1, -1}};
    while (level) {
        enum json_event event = next(p);
        int ragged = 0;
        switch (event) {
        case JSON_ERROR:
            return -1;
        case JSON_ARRAY:
            if (level == OIP_RANK_MAX)
                return err_set(p->e, ERR_INPUT, "'data' is nested deeper than %d levels", OIP_RANK_MAX);
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

static int input_member(struct oip_json *p, int name, enum json_event event, void *user)
{
    struct oip_input *in = &p->input;
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

static int input(struct oip_json *p)
{
    struct oip_input *in = &p->input;
    if (p->inputs++)
        return err_set(p->e, ERR_INPUT, "more than one input; give 'image' or 'tensor'");
    *in = (struct oip_input){.tensor = -1, .fp32 = -1, .binary_size = -1};
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

static int output_member(struct oip_json *p, int name, enum json_event event, void *user)
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

static int output(struct oip_json *p)
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

static int request_id(struct oip_json *p, enum json_event event)
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

static int objects(struct oip_json *p, enum json_event event, int (*object)(struct oip_json *), const char *what)
{
    if (event != JSON_ARRAY)
        return wrong(p, event, what);
    while ((event = next(p)) != JSON_ARRAY_END)
        if (event != JSON_OBJECT ? wrong(p, event, what) < 0 : object(p) < 0)
            return -1;
    return 0;
}

static int request_member(struct oip_json *p, int name, enum json_event event, void *user)
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

void oip_all_outputs(struct oip_request *r)
{
    for (int i = 0; i < OIP_TENSORS; i++)
        r->outputs[i].tensor = (enum oip_tensor)i;
    r->output_count = OIP_TENSORS;
}

static int document(struct oip_json *p)
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
        oip_all_outputs(p->out);
    for (int i = 0; i < p->out->output_count; i++)
        p->out->outputs[i].binary = all || p->binary_of[i] < 0 ? p->binary_output : p->binary_of[i];
    return 0;
}

int oip_json_read(struct oip_json *p, char *text, size_t size, struct err *e)
{
    struct err syntax;
    p->text = text;
    p->e = e;
    json_scan_start(&p->s, text, size);
    if (document(p) == 0)
        return 0;
    /* A text that is no JSON is told so, whatever else is wrong with what it says. */
    for (enum json_event event = JSON_NULL; !p->ended && event != JSON_END;) {
        event = json_scan_next(&p->s, &syntax);
        if (event == JSON_ERROR) {
            *e = syntax;
            break;
        }
    }
    e->code = ERR_INPUT; /* or it was too deep */
    return -1;
}

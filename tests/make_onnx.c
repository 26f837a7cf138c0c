// SPDX-License-Identifier: MIT

#include "tests/make_onnx.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t state = 1;

static void *must(void *p)
{
    if (!p) {
        puts("out of memory in a test");
        exit(99);
    }
    return p;
}

float onnx_uniform(float least, float most)
{
    state = state * 1664525u + 1013904223u;
    return least + (most - least) * (float)(state >> 8) / (float)(1 << 24);
}

/* One more place at the end of a repeated field of messages or strings. */
static void push(void ***list, size_t *count, void *item)
{
    *list = must(realloc(*list, (*count + 1) * sizeof **list));
    (*list)[(*count)++] = item;
}
#define PUSH(message, field, item) push((void ***)(void *)&(message)->field, &(message)->n_##field, item)

static char *copy(const char *text, size_t length)
{
    return must(strndup(text, length));
}

/* "3,4" into a list of numbers; "" has none. */
static int64_t *numbers(const char *text, size_t *count)
{
    int64_t *v = must(malloc((strlen(text) + 1) * sizeof *v));
    char *end = (char *)(uintptr_t)text;
    for (*count = 0; *end; end += *end == ',')
        v[(*count)++] = strtoll(end, &end, 10);
    return v;
}

static Onnx__ValueInfoProto *value_info(const char *name, const int64_t *dims, size_t count)
{
    Onnx__ValueInfoProto *v = must(malloc(sizeof *v));
    onnx__value_info_proto__init(v);
    v->name = copy(name, strlen(name));
    v->type = must(malloc(sizeof *v->type));
    onnx__type_proto__init(v->type);
    Onnx__TypeProto__Tensor *t = v->type->tensor_type = must(malloc(sizeof *t));
    onnx__type_proto__tensor__init(t);
    t->has_elem_type = 1;
    t->elem_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
    t->shape = must(malloc(sizeof *t->shape));
    onnx__tensor_shape_proto__init(t->shape);
    for (size_t i = 0; i < count; i++) {
        Onnx__TensorShapeProto__Dimension *d = must(malloc(sizeof *d));
        onnx__tensor_shape_proto__dimension__init(d);
        d->value_case =
            dims[i] ? ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE : ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
        if (dims[i])
            d->dim_value = dims[i];
        else
            d->dim_param = copy("N", 1);
        PUSH(t->shape, dim, d);
    }
    return v;
}

Onnx__ModelProto *onnx_new(int opset, const int64_t dims[4])
{
    Onnx__ModelProto *m = must(malloc(sizeof *m));
    onnx__model_proto__init(m);
    m->has_ir_version = 1;
    m->ir_version = 8;
    m->graph = must(malloc(sizeof *m->graph));
    onnx__graph_proto__init(m->graph);
    Onnx__OperatorSetIdProto *set = must(malloc(sizeof *set));
    onnx__operator_set_id_proto__init(set);
    set->has_version = 1;
    set->version = opset;
    PUSH(m, opset_import, set);
    PUSH(m->graph, input, value_info("x", dims, 4));
    PUSH(m->graph, output, value_info("y", dims, 1));
    return m;
}

void onnx_free(Onnx__ModelProto *m)
{
    onnx__model_proto__free_unpacked(m, NULL);
}

static void split(const char *names, char ***list, size_t *count)
{
    for (const char *at = names; *names; at += *at == ',') {
        size_t n = strcspn(at, ",");
        push((void ***)(void *)list, count, copy(at, n));
        at += n;
        if (!*at)
            return;
    }
}

Onnx__NodeProto *onnx_node(Onnx__ModelProto *m, const char *type, const char *inputs, const char *outputs)
{
    Onnx__NodeProto *n = must(malloc(sizeof *n));
    char name[80];
    onnx__node_proto__init(n);
    snprintf(name, sizeof name, "%s_%s", type, outputs);
    n->op_type = copy(type, strlen(type));
    n->name = copy(name, strlen(name));
    split(inputs, &n->input, &n->n_input);
    split(outputs, &n->output, &n->n_output);
    PUSH(m->graph, node, n);
    return n;
}

static Onnx__AttributeProto *attribute(Onnx__NodeProto *n, const char *name)
{
    Onnx__AttributeProto *a = must(malloc(sizeof *a));
    onnx__attribute_proto__init(a);
    a->name = copy(name, strlen(name));
    PUSH(n, attribute, a);
    return a;
}

void onnx_set_int(Onnx__NodeProto *n, const char *name, int64_t v)
{
    Onnx__AttributeProto *a = attribute(n, name);
    a->has_i = 1;
    a->i = v;
}

void onnx_set_float(Onnx__NodeProto *n, const char *name, float v)
{
    Onnx__AttributeProto *a = attribute(n, name);
    a->has_f = 1;
    a->f = v;
}

void onnx_set_text(Onnx__NodeProto *n, const char *name, const char *v)
{
    Onnx__AttributeProto *a = attribute(n, name);
    a->has_s = 1;
    a->s.len = strlen(v);
    a->s.data = (uint8_t *)copy(v, a->s.len);
}

void onnx_set_ints(Onnx__NodeProto *n, const char *name, const char *text)
{
    Onnx__AttributeProto *a = attribute(n, name);
    a->ints = numbers(text, &a->n_ints);
}

/* ---- tensors ---- */

static Onnx__TensorProto *tensor(Onnx__ModelProto *m, const char *name, const char *dims, int type, size_t *count)
{
    Onnx__TensorProto *t = must(malloc(sizeof *t));
    onnx__tensor_proto__init(t);
    t->name = copy(name, strlen(name));
    t->dims = numbers(dims, &t->n_dims);
    t->has_data_type = 1;
    t->data_type = type;
    *count = 1;
    for (size_t i = 0; i < t->n_dims; i++)
        *count *= (size_t)t->dims[i];
    PUSH(m->graph, initializer, t);
    return t;
}

Onnx__TensorProto *onnx_floats(Onnx__ModelProto *m, const char *name, const char *dims, const float *v)
{
    size_t count;
    Onnx__TensorProto *t = tensor(m, name, dims, ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, &count);
    t->has_raw_data = 1;
    t->raw_data.len = count * sizeof *v;
    t->raw_data.data = must(malloc(t->raw_data.len + 1));
    memcpy(t->raw_data.data, v, t->raw_data.len);
    return t;
}

Onnx__TensorProto *onnx_random(Onnx__ModelProto *m, const char *name, const char *dims, float limit)
{
    size_t count;
    Onnx__TensorProto *t = tensor(m, name, dims, ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, &count);
    t->n_float_data = count;
    t->float_data = must(malloc(count * sizeof *t->float_data));
    for (size_t i = 0; i < count; i++)
        t->float_data[i] = onnx_uniform(-limit, limit);
    return t;
}

Onnx__TensorProto *onnx_ints(Onnx__ModelProto *m, const char *name, const char *dims, int type, const int64_t *v)
{
    size_t count;
    Onnx__TensorProto *t = tensor(m, name, dims, type, &count);
    if (type == ONNX__TENSOR_PROTO__DATA_TYPE__INT64) {
        t->n_int64_data = count;
        t->int64_data = must(malloc((count + 1) * sizeof *t->int64_data));
        memcpy(t->int64_data, v, count * sizeof *v);
        return t;
    }
    t->n_int32_data = count;
    t->int32_data = must(malloc((count + 1) * sizeof *t->int32_data));
    for (size_t i = 0; i < count; i++)
        t->int32_data[i] = (int32_t)v[i];
    return t;
}

/* int8 and uint8 as raw bytes, as exporters write weights. */
Onnx__TensorProto *onnx_random_ints(Onnx__ModelProto *m, const char *name, const char *dims, int type, int least, int most)
{
    size_t count;
    Onnx__TensorProto *t = tensor(m, name, dims, type, &count);
    const size_t bytes = type == ONNX__TENSOR_PROTO__DATA_TYPE__INT32 ? 4 : 1;
    t->has_raw_data = 1;
    t->raw_data.len = count * bytes;
    t->raw_data.data = must(malloc(count * bytes));
    for (size_t i = 0; i < count; i++) {
        const int32_t v = least + (int32_t)onnx_uniform(0, (float)(most - least) + 0.999f);
        for (size_t b = 0; b < bytes; b++)
            t->raw_data.data[i * bytes + b] = (uint8_t)((uint32_t)v >> (8 * b));
    }
    return t;
}

void onnx_number(Onnx__ModelProto *m, const char *name, float v)
{
    onnx_floats(m, name, "", &v);
}

void onnx_integer(Onnx__ModelProto *m, const char *name, int type, int v)
{
    onnx_ints(m, name, "", type, &(int64_t){v});
}

uint8_t *onnx_bytes(const Onnx__ModelProto *m, size_t *size)
{
    *size = onnx__model_proto__get_packed_size(m);
    uint8_t *bytes = must(malloc(*size + 1));
    onnx__model_proto__pack(m, bytes);
    return bytes;
}

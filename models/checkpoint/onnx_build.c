// SPDX-License-Identifier: MIT

#include "models/checkpoint/onnx_build.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { METADATA_MAX = 16, ATTRIBUTES_MAX = 8 };

struct chunk {
    struct chunk *next;
    max_align_t data[];
};

/* Zeroed; NULL: no memory. */
static void *take(struct onnx_build *b, size_t size)
{
    struct chunk *c = calloc(1, sizeof *c + size);
    if (!c) {
        b->failed = 1;
        return NULL;
    }
    c->next = b->chunks;
    b->chunks = c;
    return c->data;
}

/* A message whose initialiser is given; the compiler knows its type by the pointer. */
#define TAKE(b, pointer, init) ((pointer) = take((b), sizeof *(pointer)), (pointer) ? (init(pointer), (pointer)) : NULL)

void onnx_build_start(struct onnx_build *b, size_t room, int opset)
{
    Onnx__ModelProto *m;
    Onnx__GraphProto *g;
    Onnx__OperatorSetIdProto *o;
    *b = (struct onnx_build){.room = room};
    if (!TAKE(b, m, onnx__model_proto__init) || !TAKE(b, g, onnx__graph_proto__init) ||
        !TAKE(b, o, onnx__operator_set_id_proto__init))
        return;
    o->domain = take(b, 1);
    o->has_version = 1;
    o->version = opset;
    m->graph = g;
    m->opset_import = take(b, sizeof *m->opset_import);
    m->metadata_props = take(b, METADATA_MAX * sizeof *m->metadata_props);
    g->node = take(b, room * sizeof *g->node);
    g->initializer = take(b, room * sizeof *g->initializer);
    if (b->failed)
        return;
    m->opset_import[0] = o;
    m->n_opset_import = 1;
    b->model = m;
}

void onnx_build_end(struct onnx_build *b)
{
    for (struct chunk *c = b->chunks, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    *b = (struct onnx_build){.failed = 1};
}

const char *onnx_put_text(struct onnx_build *b, const char *fmt, ...)
{
    char text[ONNX_BUILD_TEXT_MAX];
    va_list args;
    va_start(args, fmt);
    const int length = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    assert(length >= 0 && length < (int)sizeof text);
    char *copy = take(b, (size_t)length + 1);
    return copy ? memcpy(copy, text, (size_t)length + 1) : NULL;
}

/* The schema's strings are char *, but nobody writes to them. */
static char *unconst(const char *s)
{
    return (char *)(uintptr_t)s;
}

Onnx__NodeProto *onnx_put_node(struct onnx_build *b, const char *op, const char *name, const char *const *inputs,
                               const char *output)
{
    Onnx__NodeProto *n;
    size_t count = 0;
    while (inputs[count])
        count++;
    if (b->failed || !TAKE(b, n, onnx__node_proto__init))
        return NULL;
    n->op_type = unconst(op);
    n->name = unconst(name);
    n->input = take(b, count * sizeof *n->input);
    n->output = take(b, sizeof *n->output);
    n->attribute = take(b, ATTRIBUTES_MAX * sizeof *n->attribute);
    if (b->failed)
        return NULL;
    for (; n->n_input < count; n->n_input++)
        n->input[n->n_input] = unconst(inputs[n->n_input]);
    n->output[0] = unconst(output);
    n->n_output = 1;
    Onnx__GraphProto *g = b->model->graph;
    assert(g->n_node < b->room);
    g->node[g->n_node++] = n;
    return n;
}

static Onnx__AttributeProto *put_attribute(struct onnx_build *b, Onnx__NodeProto *n, const char *name, int type)
{
    Onnx__AttributeProto *a;
    if (!n || !TAKE(b, a, onnx__attribute_proto__init))
        return NULL;
    a->name = unconst(name);
    a->has_type = 1;
    a->type = type;
    assert(n->n_attribute < ATTRIBUTES_MAX);
    n->attribute[n->n_attribute++] = a;
    return a;
}

void onnx_put_ints(struct onnx_build *b, Onnx__NodeProto *n, const char *attribute, int count, const int *values)
{
    Onnx__AttributeProto *a = put_attribute(b, n, attribute, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS);
    if (!a || !(a->ints = take(b, (size_t)count * sizeof *a->ints)))
        return;
    a->n_ints = (size_t)count;
    for (int i = 0; i < count; i++)
        a->ints[i] = values[i];
}

void onnx_put_int(struct onnx_build *b, Onnx__NodeProto *n, const char *attribute, int value)
{
    Onnx__AttributeProto *a = put_attribute(b, n, attribute, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT);
    if (!a)
        return;
    a->has_i = 1;
    a->i = value;
}

static size_t element_bytes(int type)
{
    return type == ONNX__TENSOR_PROTO__DATA_TYPE__INT64                                                  ? 8
           : type == ONNX__TENSOR_PROTO__DATA_TYPE__INT8 || type == ONNX__TENSOR_PROTO__DATA_TYPE__UINT8 ? 1
                                                                                                         : 4;
}

void *onnx_put_tensor(struct onnx_build *b, const char *name, int type, int rank, const int64_t *dims)
{
    Onnx__TensorProto *t;
    size_t bytes = element_bytes(type);
    if (b->failed || !TAKE(b, t, onnx__tensor_proto__init))
        return NULL;
    for (int i = 0; i < rank; i++)
        bytes *= (size_t)dims[i];
    t->name = unconst(name);
    t->has_data_type = t->has_raw_data = 1;
    t->data_type = type;
    t->dims = take(b, (size_t)rank * sizeof *t->dims);
    t->raw_data.data = take(b, bytes);
    if (b->failed)
        return NULL;
    t->n_dims = (size_t)rank;
    t->raw_data.len = bytes;
    for (int i = 0; i < rank; i++)
        t->dims[i] = dims[i];
    Onnx__GraphProto *g = b->model->graph;
    assert(g->n_initializer < b->room);
    g->initializer[g->n_initializer++] = t;
    return t->raw_data.data;
}

void onnx_put_metadata(struct onnx_build *b, const char *key, const char *value)
{
    Onnx__StringStringEntryProto *p;
    if (b->failed || !value || !TAKE(b, p, onnx__string_string_entry_proto__init))
        return;
    p->key = unconst(key);
    p->value = unconst(value);
    Onnx__ModelProto *m = b->model;
    assert(m->n_metadata_props < METADATA_MAX);
    m->metadata_props[m->n_metadata_props++] = p;
}

static Onnx__ValueInfoProto *value_info(struct onnx_build *b, const char *name, int rank, const int64_t *dims)
{
    Onnx__ValueInfoProto *v;
    Onnx__TypeProto *type;
    Onnx__TypeProto__Tensor *tensor;
    Onnx__TensorShapeProto *shape;
    if (b->failed || !TAKE(b, v, onnx__value_info_proto__init) || !TAKE(b, type, onnx__type_proto__init) ||
        !TAKE(b, tensor, onnx__type_proto__tensor__init) || !TAKE(b, shape, onnx__tensor_shape_proto__init) ||
        !(shape->dim = take(b, (size_t)rank * sizeof *shape->dim)))
        return NULL;
    v->name = unconst(name);
    v->type = type;
    type->tensor_type = tensor;
    tensor->has_elem_type = 1;
    tensor->elem_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
    tensor->shape = shape;
    for (int i = 0; i < rank; i++) {
        Onnx__TensorShapeProto__Dimension *d;
        if (!TAKE(b, d, onnx__tensor_shape_proto__dimension__init))
            return NULL;
        if (i == 0) {
            d->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
            d->dim_param = unconst("N");
        } else {
            d->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
            d->dim_value = dims[i];
        }
        shape->dim[shape->n_dim++] = d;
    }
    return v;
}

static void put_value(struct onnx_build *b, Onnx__ValueInfoProto *v, Onnx__ValueInfoProto ***list, size_t *count)
{
    if (!v || !(*list = take(b, sizeof **list)))
        return;
    (*list)[0] = v;
    *count = 1;
}

void onnx_put_input(struct onnx_build *b, const char *name, int rank, const int64_t *dims)
{
    Onnx__ValueInfoProto *v = value_info(b, name, rank, dims);
    if (v)
        put_value(b, v, &b->model->graph->input, &b->model->graph->n_input);
}

void onnx_put_output(struct onnx_build *b, const char *name, int rank, const int64_t *dims)
{
    Onnx__ValueInfoProto *v = value_info(b, name, rank, dims);
    if (v)
        put_value(b, v, &b->model->graph->output, &b->model->graph->n_output);
}

// SPDX-License-Identifier: MIT
//
// Offsets of a FlatBuffer lead forward, so parents are written first, with room for each field, and linked when a child is
// written.

#include "tests/tflite_build.h"

#include <stdlib.h>
#include <string.h>

struct out {
    uint8_t *data;
    size_t size, room;
};

static size_t put(struct out *o, const void *data, size_t size)
{
    if (o->size + size > o->room) {
        o->room = 2 * (o->size + size) + 4096;
        o->data = realloc(o->data, o->room);
        if (!o->data)
            abort();
    }
    if (data)
        memcpy(o->data + o->size, data, size);
    else
        memset(o->data + o->size, 0, size);
    o->size += size;
    return o->size - size;
}

static void poke(struct out *o, size_t at, int64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        o->data[at + i] = (uint8_t)((uint64_t)value >> (8 * i));
}

/* A table of absent fields, each with 8 bytes of room, to which the offset at `link` leads. */
static size_t table(struct out *o, size_t link, int fields)
{
    const size_t vtable = put(o, NULL, 4 + 2 * (size_t)fields), at = put(o, NULL, 4 + 8 * (size_t)fields);
    poke(o, vtable, 4 + 2 * fields, 2);
    poke(o, vtable + 2, 4 + 8 * fields, 2);
    poke(o, at, (int64_t)(at - vtable), 4);
    poke(o, link, (int64_t)(at - link), 4);
    return at;
}

static size_t slot(struct out *o, size_t table_at, int field)
{
    const size_t vtable = table_at - (size_t)(o->data[table_at] | o->data[table_at + 1] << 8);
    poke(o, vtable + 4 + 2 * (size_t)field, 4 + 8 * field, 2);
    return table_at + 4 + 8 * (size_t)field;
}

static void set(struct out *o, size_t table_at, int field, int64_t value, size_t bytes)
{
    poke(o, slot(o, table_at, field), value, bytes);
}

static size_t vector(struct out *o, size_t table_at, int field, int count, size_t size, const void *data)
{
    uint8_t length[4] = {(uint8_t)count, (uint8_t)(count >> 8), (uint8_t)(count >> 16), (uint8_t)(count >> 24)};
    const size_t link = slot(o, table_at, field);
    poke(o, link, (int64_t)(o->size - link), 4);
    put(o, length, sizeof length);
    return put(o, data, (size_t)count * size);
}

static void write_tensor(struct out *o, size_t link, const struct build_tensor *t, int index)
{
    const size_t at = table(o, link, 5);
    if (t->rank)
        vector(o, at, 0, t->rank, 4, t->shape);
    set(o, at, 1, t->type, 1);
    set(o, at, 2, t->data ? index + 1 : 0, 4);
    vector(o, at, 3, 4, 1, "name");
    if (!t->scales)
        return;
    const size_t q = table(o, slot(o, at, 4), 7);
    const int64_t zeros[4] = {t->zero, t->zero, t->zero, t->zero};
    vector(o, q, 2, t->scales, 4, t->scale);
    vector(o, q, 3, t->scales, 8, zeros);
    set(o, q, 6, t->axis, 4);
}

static void write_op(struct out *o, size_t link, const struct build_op *op, int index)
{
    const size_t at = table(o, link, 5);
    set(o, at, 0, index, 4);
    vector(o, at, 1, op->inputs, 4, op->in);
    vector(o, at, 2, 1, 4, &op->out);
    if (!op->options)
        return;
    set(o, at, 3, op->options, 1);
    const size_t options = table(o, slot(o, at, 4), 6);
    for (int i = 0; i < 6; i++)
        if (op->option[i].bytes)
            set(o, options, i, op->option[i].value, (size_t)op->option[i].bytes);
}

static void write_graph(struct out *o, size_t link, const struct build *b)
{
    const size_t at = table(o, link, 4);
    vector(o, at, 1, 1, 4, &b->input);
    vector(o, at, 2, 1, 4, &b->output);
    size_t list = vector(o, at, 0, b->tensor_count + b->extra_tensors, 4, NULL);
    for (int i = 0; i < b->tensor_count + b->extra_tensors; i++) {
        if (i < b->tensor_count)
            write_tensor(o, list + 4 * (size_t)i, &b->tensors[i], i);
        else
            table(o, list + 4 * (size_t)i, 0);
    }
    list = vector(o, at, 3, b->op_count + b->extra_ops, 4, NULL);
    for (int i = 0; i < b->op_count + b->extra_ops; i++) {
        const int which = i < b->op_count ? i : b->op_count - 1;
        write_op(o, list + 4 * (size_t)i, &b->ops[which], which);
    }
}

uint8_t *build_file(const struct build *b, size_t *size)
{
    struct out o = {0};
    put(&o, NULL, 4);
    put(&o, "TFL3", 4);
    const size_t model = table(&o, 0, 5);
    set(&o, model, 0, b->version ? b->version : 3, 4);

    size_t list = vector(&o, model, 4, b->tensor_count + 1, 4, NULL);
    for (int i = -1; i < b->tensor_count; i++) {
        const size_t at = table(&o, list + 4 * (size_t)(i + 1), 1);
        if (i >= 0 && b->tensors[i].data)
            vector(&o, at, 0, b->tensors[i].bytes, 1, b->tensors[i].data);
    }
    list = vector(&o, model, 1, b->op_count + b->extra_codes, 4, NULL);
    for (int i = 0; i < b->op_count + b->extra_codes; i++) {
        const int code = b->ops[i < b->op_count ? i : 0].code;
        const size_t at = table(&o, list + 4 * (size_t)i, 4);
        set(&o, at, 0, code < 127 ? code : 127, 1);
        if (code == CUSTOM)
            vector(&o, at, 1, 5, 1, "Magic");
        set(&o, at, 3, code, 4);
    }

    const int subgraphs = b->subgraphs ? b->subgraphs : 1;
    list = vector(&o, model, 2, subgraphs, 4, NULL);
    for (int i = 0; i < subgraphs; i++)
        write_graph(&o, list + 4 * (size_t)i, b);

    *size = o.size;
    return o.data;
}

/* ---- two networks */

struct build build_int8(int mean)
{
    static const int8_t w1[] = {1, 0, 0, 0, 1, -1}, w2[] = {1, 1, 2, -1}, w3[] = {1, -1, 3, 2};
    static const int32_t b1[] = {3, -2}, b3[] = {1, -4}, shape[] = {-1, 2}, axes[] = {-2, 1};
    struct build b = {.tensors = {{I8, 4, {1, 2, 2, 3}, NULL, 0, {1}, 1, -128, 0},
                                  {I8, 4, {2, 1, 1, 3}, w1, sizeof w1, {0.5f, 0.25f}, 2, 0, 0},
                                  {I32, 1, {2}, b1, sizeof b1, {0.5f, 0.25f}, 2, 0, 0},
                                  {I8, 4, {1, 2, 2, 2}, NULL, 0, {1}, 1, -128, 0},
                                  {I8, 4, {2, 1, 1, 2}, w2, sizeof w2, {0.5f}, 1, 0, 0},
                                  {I8, 4, {1, 2, 2, 2}, NULL, 0, {0.5f}, 1, 10, 0},
                                  {I8, 4, {1, 2, 2, 2}, NULL, 0, {2}, 1, -128, 0},
                                  {I8, 4, {1, 1, 1, 2}, NULL, 0, {mean ? 1 : 2}, 1, -128, 0},
                                  {I8, 2, {1, 2}, NULL, 0, {mean ? 1 : 2}, 1, -128, 0},
                                  {I32, 1, {2}, mean ? axes : shape, sizeof shape, {0}, 0, 0, 0},
                                  {I8, 2, {2, 2}, w3, sizeof w3, {0.5f}, 1, 0, 0},
                                  {I32, 1, {2}, b3, sizeof b3, {mean ? 0.5f : 1}, 1, 0, 0},
                                  {I8, 2, {1, 2}, NULL, 0, {0.5f}, 1, 3, 0},
                                  {I8, 2, {1, 2}, NULL, 0, {1 / 256.0f}, 1, -128, 0}},
                      .tensor_count = 14,
                      .ops = {{CONV, {0, 1, 2}, 3, 3, 1, {{1, 0}, {4, 1}, {4, 1}, {1, 1}}},
                              {CONV, {3, 4, -1}, 3, 5, 1, {{1, 1}, {4, 1}, {4, 1}}},
                              {ADD, {3, 5}, 2, 6, 11, {{1, 1}}},
                              {AVERAGE_POOL, {6}, 1, 7, 5, {{1, 1}, {4, 2}, {4, 2}, {4, 2}, {4, 2}}},
                              {RESHAPE, {7, 9}, 2, 8, 0, {{0, 0}}},
                              {DENSE, {8, 10, 11}, 3, 12, 8, {{0, 0}}},
                              {SOFTMAX, {12}, 1, 13, 9, {{4, 0x3f800000}}}},
                      .op_count = 7,
                      .output = 13};
    if (mean) {
        b.ops[3] = (struct build_op){MEAN, {6, 9}, 2, 7, 0, {{0, 0}}};
        b.ops[4].inputs = 1;
    }
    return b;
}

struct build build_float(void)
{
    /* halves [2][2][2][3]: 1, 0.5, -2 at the first place under the kernel, and 0, 1, 0 at the second; int8: 2, -4 by 0.5, 1, 6 by
       0.25 */
    static const uint16_t w1[24] = {0x3c00, 0x3800, 0xc000, [12 + 3 + 1] = 0x3c00};
    static const int8_t w2[] = {2, -4, 1, 6};
    static const float b1[] = {0.25f, -1}, b2[] = {10, 20};
    static const int32_t pads[] = {0, 0, 1, 0, 0, 1, 0, 0}, axes[] = {1, 2};
    return (struct build){.tensors = {{F32, 4, {1, 2, 2, 3}, NULL, 0, {0}, 0, 0, 0},
                                      {F32, 4, {1, 3, 3, 3}, NULL, 0, {0}, 0, 0, 0},
                                      {I32, 2, {4, 2}, pads, sizeof pads, {0}, 0, 0, 0},
                                      {F16, 4, {2, 2, 2, 3}, w1, sizeof w1, {0}, 0, 0, 0},
                                      {F32, 4, {2, 2, 2, 3}, NULL, 0, {0}, 0, 0, 0},
                                      {F32, 1, {2}, b1, sizeof b1, {0}, 0, 0, 0},
                                      {F32, 4, {1, 2, 2, 2}, NULL, 0, {0}, 0, 0, 0},
                                      {F32, 4, {1, 2, 2, 2}, NULL, 0, {0}, 0, 0, 0},
                                      {F32, 2, {1, 2}, NULL, 0, {0}, 0, 0, 0},
                                      {I32, 1, {2}, axes, sizeof axes, {0}, 0, 0, 0},
                                      {I8, 2, {2, 2}, w2, sizeof w2, {0.5f, 0.25f}, 2, 0, 0},
                                      {F32, 1, {2}, b2, sizeof b2, {0}, 0, 0, 0},
                                      {F32, 2, {1, 2}, NULL, 0, {0}, 0, 0, 0}},
                          .tensor_count = 13,
                          .ops = {{PAD, {0, 2}, 2, 1, 0, {{0, 0}}},
                                  {DEQUANTIZE, {3}, 1, 4, 0, {{0, 0}}},
                                  {CONV, {1, 4, 5}, 3, 6, 1, {{1, 1}, {4, 1}, {4, 1}}},
                                  {RELU, {6}, 1, 7, 0, {{0, 0}}},
                                  {MEAN, {7, 9}, 2, 8, 0, {{0, 0}}},
                                  {DENSE, {8, 10, 11}, 3, 12, 8, {{0, 0}}}},
                          .op_count = 6,
                          .output = 12};
}

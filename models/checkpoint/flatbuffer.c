// SPDX-License-Identifier: MIT

#include "models/checkpoint/flatbuffer.h"

#include <string.h>

static uint64_t little_endian(const struct flatbuffer *b, size_t at, int bytes)
{
    uint64_t v = 0;
    for (int i = bytes - 1; i >= 0; i--)
        v = v << 8 | b->data[at + (size_t)i];
    return v;
}

static void fault(struct flatbuffer *b, size_t at, const char *what)
{
    if (!b->wrong) {
        b->wrong = what;
        b->wrong_at = at;
    }
}

static int inside(const struct flatbuffer *b, uint64_t at, uint64_t bytes)
{
    return at <= b->size && bytes <= b->size - at;
}

int fb_check(const struct flatbuffer *b, struct err *e)
{
    return b->wrong ? err_set(e, ERR_DAMAGED, "byte %zu: %s", b->wrong_at, b->wrong) : 0;
}

/* What the offset at `at` (inside the buffer) points to, with room for a number of 32 bits; 0: nothing. */
static uint32_t follow(struct flatbuffer *b, size_t at)
{
    const uint32_t offset = (uint32_t)little_endian(b, at, 4);
    if (offset >= 4 && inside(b, (uint64_t)at + offset, 4))
        return (uint32_t)(at + offset);
    fault(b, at, "an offset leads out of the file");
    return 0;
}

static struct fb_table table(struct flatbuffer *b, uint32_t at)
{
    const struct fb_table none = {.b = b};
    if (at == 0 || b->wrong)
        return none;
    const int64_t vtable = (int64_t)at - (int32_t)little_endian(b, at, 4);
    if (vtable < 4 || !inside(b, (uint64_t)vtable, 4)) {
        fault(b, at, "a table's vtable lies outside of the file");
        return none;
    }
    const struct fb_table t = {b, at, (uint32_t)vtable, (uint16_t)little_endian(b, (size_t)vtable, 2),
                               (uint16_t)little_endian(b, (size_t)vtable + 2, 2)};
    if (t.vtable_bytes < 4 || t.vtable_bytes % 2 || !inside(b, t.vtable, t.vtable_bytes) || t.bytes < 4 ||
        !inside(b, at, t.bytes)) {
        fault(b, t.vtable, "a table or its vtable does not fit into the file");
        return none;
    }
    return t;
}

struct fb_table fb_root(struct flatbuffer *b, const char *identifier)
{
    if (b->size < 8 || b->size > FB_SIZE_MAX || memcmp(b->data + 4, identifier, 4) != 0) {
        fault(b, 4, "not a file of this kind, or too short or too long for one");
        return (struct fb_table){.b = b};
    }
    return table(b, follow(b, 0));
}

/* Where a field of that many bytes lies, 0: absent. */
static size_t find(const struct fb_table *t, int field, uint32_t bytes)
{
    const uint32_t entry = 4 + 2 * (uint32_t)field;
    if (!t->vtable || t->b->wrong || entry + 2 > t->vtable_bytes)
        return 0;
    const uint32_t offset = (uint32_t)little_endian(t->b, t->vtable + entry, 2);
    if (offset == 0)
        return 0;
    if (offset >= 4 && offset + bytes <= t->bytes)
        return t->at + offset;
    fault(t->b, t->vtable + entry, "a field lies outside of its table");
    return 0;
}

int fb_has(const struct fb_table *t, int field)
{
    return find(t, field, 1) != 0;
}

int8_t fb_int8(const struct fb_table *t, int field, int8_t absent)
{
    const size_t at = find(t, field, 1);
    return at ? (int8_t)t->b->data[at] : absent;
}

int32_t fb_int32(const struct fb_table *t, int field, int32_t absent)
{
    return (int32_t)fb_uint32(t, field, (uint32_t)absent);
}

uint32_t fb_uint32(const struct fb_table *t, int field, uint32_t absent)
{
    const size_t at = find(t, field, 4);
    return at ? (uint32_t)little_endian(t->b, at, 4) : absent;
}

uint64_t fb_uint64(const struct fb_table *t, int field, uint64_t absent)
{
    const size_t at = find(t, field, 8);
    return at ? little_endian(t->b, at, 8) : absent;
}

struct fb_table fb_sub(const struct fb_table *t, int field)
{
    const size_t at = find(t, field, 4);
    return table(t->b, at ? follow(t->b, at) : 0);
}

struct fb_vector fb_numbers(const struct fb_table *t, int field, uint32_t size)
{
    const struct fb_vector none = {.b = t->b, .size = size};
    const size_t field_at = find(t, field, 4);
    const uint32_t at = field_at ? follow(t->b, field_at) : 0;
    if (at == 0)
        return none;
    const uint32_t count = (uint32_t)little_endian(t->b, at, 4);
    if (inside(t->b, (uint64_t)at + 4, (uint64_t)count * size))
        return (struct fb_vector){t->b, at + 4, count, size};
    fault(t->b, at, "a vector does not fit into the file");
    return none;
}

struct fb_vector fb_tables(const struct fb_table *t, int field)
{
    return fb_numbers(t, field, 4);
}

struct fb_table fb_at(const struct fb_vector *v, uint32_t i)
{
    return table(v->b, v->b->wrong ? 0 : follow(v->b, v->at + (size_t)i * 4));
}

int32_t fb_int32_at(const struct fb_vector *v, uint32_t i)
{
    return (int32_t)little_endian(v->b, v->at + (size_t)i * 4, 4);
}

int64_t fb_int64_at(const struct fb_vector *v, uint32_t i)
{
    return (int64_t)little_endian(v->b, v->at + (size_t)i * 8, 8);
}

float fb_float_at(const struct fb_vector *v, uint32_t i)
{
    const uint32_t bits = (uint32_t)little_endian(v->b, v->at + (size_t)i * 4, 4);
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

const uint8_t *fb_bytes(const struct fb_vector *v)
{
    return v->count ? v->b->data + v->at : NULL;
}

void fb_string(const struct fb_table *t, int field, char *text, size_t size)
{
    const struct fb_vector v = fb_numbers(t, field, 1);
    const size_t n = v.count < size - 1 ? v.count : size - 1;
    if (n)
        memcpy(text, fb_bytes(&v), n);
    text[n] = '\0';
}

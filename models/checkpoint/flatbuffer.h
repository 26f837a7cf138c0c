// SPDX-License-Identifier: MIT
//
// flatbuffer.h - reads FlatBuffers in place, strictly: no offset, table, vector or string is followed that does not lie in the
// buffer.
//
// A buffer is a tree of tables. A table starts with the distance to its vtable, which says at which byte of the table each field
// is; fields that are at their default are absent. Anything larger than a number is an offset forward. All numbers are
// little-endian, anywhere: no alignment is asked for (the format: https://flatbuffers.dev/internals).
//
// Functions do not return errors one by one: the first thing that is wrong is kept in the buffer, and from then on everything is
// absent or empty, so loops end. A caller looks at fb_wrong where it matters. Depth and number of tables are the caller's:
// nothing here walks on its own.

#ifndef MODELS_CHECKPOINT_FLATBUFFER_H
#define MODELS_CHECKPOINT_FLATBUFFER_H

#include <stddef.h>
#include <stdint.h>

#include "models/err.h"

struct flatbuffer { /* {data, size}; the rest zero */
    const uint8_t *data;
    size_t size;       /* at most FB_SIZE_MAX */
    const char *wrong; /* the first fault, NULL: none; a constant text */
    size_t wrong_at;   /* its byte */
};

#define FB_SIZE_MAX ((size_t)INT32_MAX) /* offsets have 31 bits */

struct fb_table { /* absent: vtable is 0 */
    struct flatbuffer *b;
    uint32_t at, vtable;
    uint16_t vtable_bytes, bytes;
};

struct fb_vector { /* absent or empty: count 0 */
    struct flatbuffer *b;
    uint32_t at; /* of the first element */
    uint32_t count;
    uint32_t size; /* bytes of an element */
};

/* ERR_DAMAGED with the place of the first fault and -1, or 0. */
int fb_check(const struct flatbuffer *b, struct err *e);

/* The outermost table. identifier: the four characters that must stand at byte 4. */
struct fb_table fb_root(struct flatbuffer *b, const char *identifier);

int fb_has(const struct fb_table *t, int field);
int8_t fb_int8(const struct fb_table *t, int field, int8_t absent);
int32_t fb_int32(const struct fb_table *t, int field, int32_t absent);
uint32_t fb_uint32(const struct fb_table *t, int field, uint32_t absent);
uint64_t fb_uint64(const struct fb_table *t, int field, uint64_t absent);

struct fb_table fb_sub(const struct fb_table *t, int field);                     /* a table within a table */
struct fb_vector fb_numbers(const struct fb_table *t, int field, uint32_t size); /* elements of that many bytes */
struct fb_vector fb_tables(const struct fb_table *t, int field);                 /* elements for fb_at */

/* Element i, which must be < count. */
struct fb_table fb_at(const struct fb_vector *v, uint32_t i);
int32_t fb_int32_at(const struct fb_vector *v, uint32_t i);
int64_t fb_int64_at(const struct fb_vector *v, uint32_t i);
float fb_float_at(const struct fb_vector *v, uint32_t i);
const uint8_t *fb_bytes(const struct fb_vector *v); /* count * size of them; NULL when there are none */

/* A string cut to fit into text, "" when absent. */
void fb_string(const struct fb_table *t, int field, char *text, size_t size);

#endif

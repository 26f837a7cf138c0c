// SPDX-License-Identifier: MIT
//
// json_scan.h - RFC 8259 as a stream of events, without taking memory. The one place that knows JSON's grammar: json.c builds
// trees from it, the safetensors reader takes what it wants and builds none (a tree can be forty times the size of its text).

#ifndef MODELS_JSON_SCAN_H
#define MODELS_JSON_SCAN_H

#include <stddef.h>
#include <stdint.h>

#include "models/err.h"

#define JSON_DEPTH_MAX 64 /* of nested arrays and objects */

enum json_event {
    JSON_ERROR = -1,
    JSON_END, /* after the one value that a text holds */
    JSON_OBJECT,
    JSON_OBJECT_END,
    JSON_ARRAY,
    JSON_ARRAY_END,
    JSON_KEY,
    JSON_STRING,
    JSON_NUMBER,
    JSON_TRUE,
    JSON_FALSE,
    JSON_NULL
};

struct json_scan {
    const char *text, *at, *end;
    const char *token; /* KEY, STRING: between the quotes, still escaped; NUMBER: its characters */
    size_t length;     /* of token */
    int depth;
    uint64_t objects; /* bit d: the container at depth d is an object, not an array */
    int state;
};

/* text is borrowed while events are read; no terminator needed. */
void json_scan_start(struct json_scan *s, const char *text, size_t len);

/* The next event. JSON_ERROR with e set (line and column in the text): not RFC 8259 or not UTF-8, an escape that stands for no
   character (half a surrogate pair), or deeper than JSON_DEPTH_MAX (ERR_TOO_LARGE). Do not call again after JSON_ERROR or
   JSON_END. */
enum json_event json_scan_next(struct json_scan *s, struct err *e);

/* ERR_INPUT with the place of the last token in front of the text; returns -1. For what a caller finds wrong with an event. */
int json_scan_fail(const struct json_scan *s, struct err *e, const char *what);

/* Resolves the escapes of the last KEY or STRING and terminates it: out holds s->length + 1 bytes, or is s->token itself (the
   text must then be writable; the closing quote gives the room). Returns the length, which strlen(out) undercuts when the
   string contains \u0000. */
size_t json_scan_string(const struct json_scan *s, char *out);

#endif

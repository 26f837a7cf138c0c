// SPDX-License-Identifier: MIT
//
// json.h - JSON texts as cJSON trees, read strictly: RFC 8259 and nothing more, no duplicate keys, bounded, exact types.

#ifndef MODELS_JSON_H
#define MODELS_JSON_H

#include <cjson/cJSON.h>
#include <stddef.h>

#include "models/err.h"
#include "models/json_scan.h" /* JSON_DEPTH_MAX */

#define JSON_VALUES_MAX 1000000 /* each takes 80 bytes, however short its text */
#define JSON_NUMBER_MAX 1000    /* characters of one number */

/* Parses exactly len bytes (no terminator needed). NULL with e set: not RFC 8259 JSON, not UTF-8, a NUL character in a string
   (C could not carry it), a number beyond double, an object with the same key twice (ERR_INPUT); beyond JSON_DEPTH_MAX,
   JSON_VALUES_MAX or JSON_NUMBER_MAX (ERR_TOO_LARGE); no memory. The caller ends it with cJSON_Delete. */
cJSON *json_parse(const char *text, size_t len, struct err *e);

/* The same with a limit of its own on values: what a stranger sends has few, or is refused before it takes memory. */
cJSON *json_parse_few(const char *text, size_t len, size_t most, struct err *e);

/* The item of that name and type in an object, -1 with e set otherwise. Strings are borrowed from the object. */
int json_int(const cJSON *object, const char *name, long long min, long long max, long long *out, struct err *e);
int json_number(const cJSON *object, const char *name, double *out, struct err *e);
int json_string(const cJSON *object, const char *name, const char **out, struct err *e);

/* 0 when every key of object is in the NULL-ended list, -1 with e naming the unknown key otherwise. */
int json_only(const cJSON *object, const char *const *names, struct err *e);

#endif

// SPDX-License-Identifier: MIT
//
// cJSON's own parser is not used: it accepts texts that are no JSON (leading zeros, raw control characters, bad escapes), cuts
// strings at a NUL and numbers at 63 characters. The tree is its, the grammar is json_scan's.

#include "models/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void no_memory(struct err *e)
{
    err_set(e, ERR_MEMORY, "no memory for a JSON text");
}

/* The last KEY or STRING as a string that cJSON frees. */
static char *take_string(const struct json_scan *s, struct err *e)
{
    char *text = cJSON_malloc(s->length + 1);
    if (!text) {
        no_memory(e);
        return NULL;
    }
    size_t len = json_scan_string(s, text);
    if (strlen(text) != len) {
        json_scan_fail(s, e, "a NUL character in a string");
        cJSON_free(text);
        return NULL;
    }
    return text;
}

/* Numbers are read in the C locale, which the programs never leave. */
static cJSON *take_number(const struct json_scan *s, struct err *e)
{
    char text[JSON_NUMBER_MAX + 1];
    if (s->length > JSON_NUMBER_MAX) {
        json_scan_fail(s, e, "a number of too many digits");
        if (e)
            e->code = ERR_TOO_LARGE;
        return NULL;
    }
    memcpy(text, s->token, s->length);
    text[s->length] = '\0';
    double value = strtod(text, NULL);
    if (!isfinite(value)) {
        json_scan_fail(s, e, "a number too large for double precision");
        return NULL;
    }
    cJSON *item = cJSON_CreateNumber(value);
    if (!item)
        no_memory(e);
    return item;
}

static cJSON *take_value(const struct json_scan *s, enum json_event event, struct err *e)
{
    cJSON *item;
    switch (event) {
    case JSON_NUMBER:
        return take_number(s, e);
    case JSON_OBJECT:
        item = cJSON_CreateObject();
        break;
    case JSON_ARRAY:
        item = cJSON_CreateArray();
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        item = cJSON_CreateBool(event == JSON_TRUE);
        break;
    default:
        item = cJSON_CreateNull();
        break;
    }
    if (!item) {
        no_memory(e);
        return NULL;
    }
    if (event == JSON_STRING) {
        item->type = cJSON_String; /* cJSON_CreateString would copy once more */
        item->valuestring = take_string(s, e);
        if (!item->valuestring) {
            cJSON_Delete(item);
            return NULL;
        }
    }
    return item;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(cJSON *const *)a)->string, (*(cJSON *const *)b)->string);
}

static int duplicate(const char *key, struct err *e)
{
    return err_set(e, ERR_INPUT, "JSON has the key '%.100s' twice in one object", key);
}

/* -1 when two of the n members have the same name. */
static int check_members(const cJSON *object, size_t n, struct err *e)
{
    if (n <= 16) { /* most objects: cheaper than taking memory and sorting */
        for (const cJSON *a = object->child; a; a = a->next)
            for (const cJSON *b = a->next; b; b = b->next)
                if (strcmp(a->string, b->string) == 0)
                    return duplicate(a->string, e);
        return 0;
    }
    const cJSON **members = malloc(n * sizeof *members);
    if (!members)
        return err_set(e, ERR_MEMORY, "no memory for a JSON text");
    size_t i = 0;
    for (const cJSON *m = object->child; m; m = m->next)
        members[i++] = m;
    qsort(members, n, sizeof *members, by_name);
    int result = 0;
    for (i = 1; i < n && result == 0; i++)
        if (strcmp(members[i - 1]->string, members[i]->string) == 0)
            result = duplicate(members[i]->string, e);
    free(members);
    return result;
}

cJSON *json_parse(const char *text, size_t len, struct err *e)
{
    return json_parse_few(text, len, JSON_VALUES_MAX, e);
}

cJSON *json_parse_few(const char *text, size_t len, size_t most, struct err *e)
{
    struct json_scan s;
    struct {
        cJSON *item;
        size_t members;
    } open[JSON_DEPTH_MAX]; /* the containers around the cursor */
    cJSON *root = NULL;
    char *key = NULL;
    size_t values = 0;

    json_scan_start(&s, text, len);
    for (;;) {
        enum json_event event = json_scan_next(&s, e);
        if (event == JSON_ERROR)
            goto fail;
        if (event == JSON_END)
            return root;
        if (event == JSON_KEY) {
            if (!(key = take_string(&s, e)))
                goto fail;
            continue;
        }
        if (event == JSON_ARRAY_END)
            continue;
        if (event == JSON_OBJECT_END) {
            if (check_members(open[s.depth].item, open[s.depth].members, e) < 0)
                goto fail;
            continue;
        }
        if (++values > most) {
            err_set(e, ERR_TOO_LARGE, "JSON has more than %zu values", most);
            goto fail;
        }
        cJSON *item = take_value(&s, event, e);
        if (!item)
            goto fail;
        item->string = key;
        key = NULL;
        int container = event == JSON_OBJECT || event == JSON_ARRAY;
        int parent = s.depth - container - 1;
        if (parent < 0) {
            root = item;
        } else {
            cJSON_AddItemToArray(open[parent].item, item); /* links in constant time; objects are lists of the same kind */
            open[parent].members++;
        }
        if (container) {
            open[s.depth - 1].item = item;
            open[s.depth - 1].members = 0;
        }
    }
fail:
    cJSON_free(key);
    cJSON_Delete(root);
    return NULL;
}

static const cJSON *find(const cJSON *object, const char *name, struct err *e)
{
    if (!cJSON_IsObject(object)) {
        err_set(e, ERR_INPUT, "expected a JSON object with '%s'", name);
        return NULL;
    }
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    if (!item)
        err_set(e, ERR_INPUT, "'%s' is missing", name);
    return item;
}

int json_int(const cJSON *object, const char *name, long long min, long long max, long long *out, struct err *e)
{
    const cJSON *item = find(object, name, e);
    if (!item)
        return -1;
    double v = cJSON_IsNumber(item) ? item->valuedouble : NAN;
    /* Beyond 2^53 a double no longer tells neighbours apart; comparing with it first makes the conversion safe, NaN included. */
    if (!(fabs(v) <= 9007199254740992.0) || v != floor(v) || (long long)v < min || (long long)v > max)
        return err_set(e, ERR_INPUT, "'%s' must be an integer from %lld to %lld", name, min, max);
    *out = (long long)v;
    return 0;
}

int json_number(const cJSON *object, const char *name, double *out, struct err *e)
{
    const cJSON *item = find(object, name, e);
    if (!item)
        return -1;
    if (!cJSON_IsNumber(item))
        return err_set(e, ERR_INPUT, "'%s' must be a number", name);
    *out = item->valuedouble;
    return 0;
}

int json_string(const cJSON *object, const char *name, const char **out, struct err *e)
{
    const cJSON *item = find(object, name, e);
    if (!item)
        return -1;
    if (!cJSON_IsString(item))
        return err_set(e, ERR_INPUT, "'%s' must be a string", name);
    *out = item->valuestring;
    return 0;
}

int json_only(const cJSON *object, const char *const *names, struct err *e)
{
    if (!cJSON_IsObject(object))
        return err_set(e, ERR_INPUT, "expected a JSON object");
    for (const cJSON *item = object->child; item; item = item->next) {
        size_t i = 0;
        while (names[i] && strcmp(names[i], item->string) != 0)
            i++;
        if (!names[i])
            return err_set(e, ERR_INPUT, "unknown key '%.100s'", item->string);
    }
    return 0;
}

// SPDX-License-Identifier: MIT
//
// Read without a JSON tree: names are unescaped where they lie, so the memory taken is the header and at most a few times as much
// again for its tensors; offsets are exact up to 2^63, which a double is not.

#include "models/checkpoint/safetensors_header.h"

#include "models/json_scan.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    size_t bytes;
} dtypes[] = {
    [ST_F64] = {"F64", 8}, [ST_F32] = {"F32", 4}, [ST_F16] = {"F16", 2}, [ST_BF16] = {"BF16", 2}, [ST_I64] = {"I64", 8},
    [ST_I32] = {"I32", 4}, [ST_I16] = {"I16", 2}, [ST_I8] = {"I8", 1},   [ST_U8] = {"U8", 1},     [ST_BOOL] = {"BOOL", 1},
};
enum { DTYPES = sizeof dtypes / sizeof *dtypes };

size_t st_dtype_bytes(enum st_dtype d)
{
    return dtypes[d].bytes;
}

const char *st_dtype_name(enum st_dtype d)
{
    return dtypes[d].name;
}

void st_header_free(struct st_header *h)
{
    free(h->json);
    free(h->tensors);
    free(h->by_name);
    free(h->meta);
    *h = (struct st_header){0};
}

/* The last KEY or STRING, unescaped in place; NULL with e set when C cannot carry it. */
static const char *take_string(const struct json_scan *s, struct err *e)
{
    char *text = (char *)s->token; /* in st_header.json, which is ours to write */
    size_t len = json_scan_string(s, text);
    if (strlen(text) != len) {
        json_scan_fail(s, e, "a NUL character in a name or value");
        return NULL;
    }
    return text;
}

static int expect(struct json_scan *s, enum json_event want, const char *what, struct err *e)
{
    enum json_event event = json_scan_next(s, e);
    if (event == JSON_ERROR)
        return -1;
    return event == want ? 0 : json_scan_fail(s, e, what);
}

/* The last NUMBER as an integer that fits int64_t. */
static int take_integer(const struct json_scan *s, uint64_t *out, struct err *e)
{
    uint64_t v = 0;
    for (size_t i = 0; i < s->length; i++) {
        uint64_t digit = (uint64_t)(s->token[i] - '0'); /* '-', '.' and 'e' become huge or more than 9 */
        if (digit > 9 || v > ((uint64_t)INT64_MAX - digit) / 10)
            return json_scan_fail(s, e, "sizes and offsets are integers from 0 to 2^63 - 1");
        v = 10 * v + digit;
    }
    *out = v;
    return 0;
}

static int parse_dtype(struct json_scan *s, struct st_tensor *t, struct err *e)
{
    if (expect(s, JSON_STRING, "dtype must be a string", e) < 0)
        return -1;
    const char *name = take_string(s, e);
    if (!name)
        return -1;
    for (int d = 0; d < DTYPES; d++)
        if (strcmp(name, dtypes[d].name) == 0) {
            t->dtype = (enum st_dtype)d;
            return 0;
        }
    return err_set(e, ERR_UNSUPPORTED, "dtype '%.40s' is not one that is read here", name);
}

/* An array of at most max integers. */
static int parse_integers(struct json_scan *s, const char *what, uint64_t *out, int max, int *count, struct err *e)
{
    if (expect(s, JSON_ARRAY, what, e) < 0)
        return -1;
    for (*count = 0;; ++*count) {
        enum json_event event = json_scan_next(s, e);
        if (event == JSON_ARRAY_END)
            return 0;
        if (event == JSON_ERROR)
            return -1;
        if (event != JSON_NUMBER)
            return json_scan_fail(s, e, what);
        if (*count == max)
            return err_set(e, ERR_UNSUPPORTED, "%s, at most %d of them", what, max);
        if (take_integer(s, &out[*count], e) < 0)
            return -1;
    }
}

static int parse_shape(struct json_scan *s, struct st_tensor *t, struct err *e)
{
    uint64_t dims[ST_RANK_MAX], count = 1;
    if (parse_integers(s, "shape must be an array of integers", dims, ST_RANK_MAX, &t->rank, e) < 0)
        return -1;
    for (int i = 0; i < t->rank; i++) {
        t->shape[i] = (int64_t)dims[i];
        if (dims[i] && count > INT64_MAX / dims[i])
            return err_set(e, ERR_DAMAGED, "shape has more elements than 2^63 - 1");
        count *= dims[i];
    }
    t->count = (int64_t)count;
    return 0;
}

static int parse_offsets(struct json_scan *s, struct st_tensor *t, struct err *e)
{
    uint64_t v[2];
    int n;
    if (parse_integers(s, "data_offsets must be an array of two integers", v, 2, &n, e) < 0)
        return -1;
    if (n != 2)
        return err_set(e, ERR_DAMAGED, "data_offsets must be an array of two integers");
    t->begin = v[0];
    t->end = v[1];
    if (t->begin > t->end)
        return err_set(e, ERR_DAMAGED, "data_offsets end before they begin");
    return 0;
}

static int parse_tensor(struct json_scan *s, struct st_tensor *t, struct err *e)
{
    static const struct {
        const char *key;
        int (*parse)(struct json_scan *s, struct st_tensor *t, struct err *e);
    } fields[] = {{"dtype", parse_dtype}, {"shape", parse_shape}, {"data_offsets", parse_offsets}};
    enum { FIELDS = sizeof fields / sizeof *fields };
    unsigned seen = 0;

    if (expect(s, JSON_OBJECT, "a tensor must be an object", e) < 0)
        return -1;
    for (;;) {
        enum json_event event = json_scan_next(s, e);
        if (event == JSON_ERROR)
            return -1;
        if (event == JSON_OBJECT_END)
            break;
        const char *key = take_string(s, e);
        if (!key)
            return -1;
        int i = 0;
        while (i < FIELDS && strcmp(key, fields[i].key) != 0)
            i++;
        if (i == FIELDS)
            return err_set(e, ERR_UNSUPPORTED, "unknown field '%.40s'", key);
        if (seen & 1u << i)
            return err_set(e, ERR_DAMAGED, "%s appears twice", key);
        seen |= 1u << i;
        if (fields[i].parse(s, t, e) < 0)
            return -1;
    }
    for (int i = 0; i < FIELDS; i++)
        if (!(seen & 1u << i))
            return err_set(e, ERR_DAMAGED, "%s is missing", fields[i].key);
    uint64_t bytes = st_dtype_bytes(t->dtype);
    if ((uint64_t)t->count > INT64_MAX / bytes || (uint64_t)t->count * bytes != t->end - t->begin)
        return err_set(e, ERR_DAMAGED, "shape and dtype disagree with data_offsets (%llu bytes)",
                       (unsigned long long)(t->end - t->begin));
    return 0;
}

/* Room for one more element in an array that doubles; count stays below a limit of the format, so nothing overflows. */
static void *grow(void *array, int count, size_t size, struct err *e)
{
    if (count & (count - 1))
        return array; /* it grows when count is 0 or a power of two */
    void *bigger = realloc(array, (count ? 2 * (size_t)count : 1) * size);
    if (!bigger)
        err_set(e, ERR_MEMORY, "no memory for a safetensors header");
    return bigger;
}

static int parse_metadata(struct json_scan *s, struct st_header *h, struct err *e)
{
    if (expect(s, JSON_OBJECT, "__metadata__ must be an object of strings", e) < 0)
        return -1;
    for (;;) {
        struct st_meta m;
        enum json_event event = json_scan_next(s, e);
        if (event == JSON_ERROR)
            return -1;
        if (event == JSON_OBJECT_END)
            return 0;
        if (h->meta_count == ST_METADATA_MAX)
            return err_set(e, ERR_TOO_LARGE, "__metadata__ has more than %d entries", ST_METADATA_MAX);
        if (!(m.key = take_string(s, e)) || expect(s, JSON_STRING, "__metadata__ must be an object of strings", e) < 0 ||
            !(m.value = take_string(s, e)))
            return -1;
        struct st_meta *meta = grow(h->meta, h->meta_count, sizeof *meta, e);
        if (!meta)
            return -1;
        h->meta = meta;
        h->meta[h->meta_count++] = m;
    }
}

static int parse_entry(struct json_scan *s, struct st_header *h, int *metadata_seen, struct err *e)
{
    size_t len = s->length; /* escaped, so never less than the name's own */
    const char *name = take_string(s, e);
    if (!name)
        return -1;
    if (strcmp(name, "__metadata__") == 0) {
        if (*metadata_seen)
            return err_set(e, ERR_DAMAGED, "__metadata__ appears twice");
        *metadata_seen = 1;
        return parse_metadata(s, h, e);
    }
    if (len > ST_NAME_MAX && strlen(name) > ST_NAME_MAX)
        return err_set(e, ERR_TOO_LARGE, "a tensor's name is longer than %d bytes: '%.40s...'", ST_NAME_MAX, name);
    if (h->count == ST_TENSORS_MAX)
        return err_set(e, ERR_TOO_LARGE, "more than %d tensors", ST_TENSORS_MAX);
    struct st_tensor *tensors = grow(h->tensors, h->count, sizeof *tensors, e);
    if (!tensors)
        return -1;
    h->tensors = tensors;
    struct st_tensor *t = &tensors[h->count];
    *t = (struct st_tensor){.name = name};
    if (parse_tensor(s, t, e) < 0)
        return err_prefix(e, "tensor '%.80s'", name);
    h->count++;
    return 0;
}

static int compare_offsets(const void *a, const void *b)
{
    const struct st_tensor *ta = a, *tb = b;
    if (ta->begin != tb->begin)
        return ta->begin < tb->begin ? -1 : 1;
    if (ta->end != tb->end) /* those without bytes first */
        return ta->end < tb->end ? -1 : 1;
    return strcmp(ta->name, tb->name);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp((*(const struct st_tensor *const *)a)->name, (*(const struct st_tensor *const *)b)->name);
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(((const struct st_meta *)a)->key, ((const struct st_meta *)b)->key);
}

/* Every byte of data belongs to exactly one tensor. */
static int check_offsets(const struct st_header *h, uint64_t data_bytes, struct err *e)
{
    uint64_t at = 0;
    for (int i = 0; i < h->count; i++) {
        const struct st_tensor *t = &h->tensors[i];
        if (t->begin != at)
            return err_set(e, ERR_DAMAGED, "tensor '%.80s' begins at byte %llu of the data, the one before it ends at %llu: %s",
                           t->name, (unsigned long long)t->begin, (unsigned long long)at,
                           t->begin > at ? "a hole" : "they overlap");
        at = t->end;
    }
    if (at != data_bytes)
        return err_set(e, ERR_DAMAGED, "the tensors take %llu bytes, the file has %llu: %s", (unsigned long long)at,
                       (unsigned long long)data_bytes, at > data_bytes ? "it is truncated" : "something was appended");
    return 0;
}

static int sort_and_check(struct st_header *h, uint64_t data_bytes, struct err *e)
{
    if (h->count > 0) {
        h->by_name = malloc((size_t)h->count * sizeof *h->by_name);
        if (!h->by_name)
            return err_set(e, ERR_MEMORY, "no memory for a safetensors header");
        qsort(h->tensors, (size_t)h->count, sizeof *h->tensors, compare_offsets);
        for (int i = 0; i < h->count; i++)
            h->by_name[i] = &h->tensors[i];
        qsort(h->by_name, (size_t)h->count, sizeof *h->by_name, compare_names);
    }
    for (int i = 1; i < h->count; i++)
        if (strcmp(h->by_name[i - 1]->name, h->by_name[i]->name) == 0)
            return err_set(e, ERR_DAMAGED, "tensor '%.80s' appears twice", h->by_name[i]->name);
    if (h->meta_count > 0)
        qsort(h->meta, (size_t)h->meta_count, sizeof *h->meta, compare_keys);
    for (int i = 1; i < h->meta_count; i++)
        if (strcmp(h->meta[i - 1].key, h->meta[i].key) == 0)
            return err_set(e, ERR_DAMAGED, "__metadata__ has '%.80s' twice", h->meta[i].key);
    return check_offsets(h, data_bytes, e);
}

static int parse(struct st_header *h, size_t len, uint64_t data_bytes, struct err *e)
{
    if (len == 0 || h->json[0] != '{')
        return err_set(e, ERR_DAMAGED, "the header does not start with '{'");
    while (len > 1 && h->json[len - 1] == ' ')
        len--;
    if (h->json[len - 1] != '}')
        return err_set(e, ERR_DAMAGED, "the header does not end with '}' and spaces");

    struct json_scan s;
    int metadata_seen = 0;
    json_scan_start(&s, h->json, len);
    if (json_scan_next(&s, e) == JSON_ERROR)
        return -1;
    for (;;) {
        enum json_event event = json_scan_next(&s, e);
        if (event == JSON_ERROR)
            return -1;
        if (event == JSON_OBJECT_END)
            break;
        if (parse_entry(&s, h, &metadata_seen, e) < 0)
            return -1;
    }
    if (json_scan_next(&s, e) != JSON_END)
        return -1;
    return sort_and_check(h, data_bytes, e);
}

int st_header_parse(char *json, size_t len, uint64_t data_bytes, struct st_header *out, struct err *e)
{
    struct st_header h = {.json = json};
    if (parse(&h, len, data_bytes, e) < 0) {
        if (e && e->code == ERR_INPUT)
            e->code = ERR_DAMAGED; /* the JSON of a stored file, not of a request */
        st_header_free(&h);
        return -1;
    }
    *out = h;
    return 0;
}

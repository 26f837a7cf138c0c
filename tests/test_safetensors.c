// SPDX-License-Identifier: MIT

#include "models/checkpoint/safetensors.h"
#include "models/json.h"
#include "tests/files.h"
#include "tests/scarce.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char *dir; /* of this run */

/* Writes a file of this header and data; returns its path. */
static const char *make_file(const char *header, size_t header_len, const void *data, size_t data_len)
{
    char *file = malloc(8 + header_len + data_len + 1);
    assert_non_null(file);
    for (int i = 0; i < 8; i++)
        file[i] = (char)((uint64_t)header_len >> 8 * i);
    memcpy(file + 8, header, header_len);
    if (data_len)
        memcpy(file + 8 + header_len, data, data_len);
    files_write(dir, "t.safetensors", file, 8 + header_len + data_len);
    free(file);
    return files_path(dir, "t.safetensors");
}

static const char zeros[64];

/* Opens header + data_len zeros: the error's code, or -1 when it is accepted. */
static int open_code(const char *header, size_t data_len, struct err *e)
{
    struct st_file *f = NULL;
    if (st_open(make_file(header, strlen(header), zeros, data_len), &f, e) < 0) {
        assert_null(f);
        assert_non_null(strstr(e->text, "t.safetensors: "));
        return (int)e->code;
    }
    st_close(f);
    return -1;
}

#define T(name, dtype, shape, offsets) "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static const struct {
    const char *header;
    int data_len;
    int code; /* -1: accepted */
    const char *says;
} headers[] = {
    {"{}", 0, -1, ""},
    {"{}      ", 0, -1, ""},
    {"{\"__metadata__\":{}}", 0, -1, ""},
    {"{" T("a", "I8", "[]", "[0,1]") "}", 1, -1, ""},
    {"{" T("", "I8", "[1]", "[0,1]") "}", 1, -1, ""},
    {"{" T("b", "F32", "[2,1]", "[4,12]") "," T("a", "I32", "[1]", "[0,4]") "}", 12, -1, ""}, /* any order in the header */
    {"{" T("z", "I8", "[0]", "[1,1]") "," T("a", "I8", "[1]", "[0,1]") "," T("y", "F64", "[3,0,2]", "[0,0]") "}", 1, -1, ""},
    {"{ \"a\" : { \"data_offsets\" : [ 0 , 2 ] , \"shape\" : [ 2 ] , \"d\\u0074ype\" : \"\\u0049\\u0038\" } }", 2, -1, ""},
    {"{" T("a", "I8", "[1,1,1,1,1,1,1,1]", "[0,1]") "}", 1, -1, ""},
    {"{" T("a", "I8", "[1,1,1,1,1,1,1,1,1]", "[0,1]") "}", 1, ERR_UNSUPPORTED, "at most 8"},
    {"", 0, ERR_DAMAGED, "too short"},
    {" {}", 0, ERR_DAMAGED, "'{'"},
    {"[]", 0, ERR_DAMAGED, "'{'"},
    {"{}\n", 0, ERR_DAMAGED, "end with"},
    {"{} x", 0, ERR_DAMAGED, "end with"},
    {"{}}", 0, ERR_DAMAGED, "follows"},
    {"{}{}", 0, ERR_DAMAGED, "follows"},
    {"{", 0, ERR_DAMAGED, ""},
    {"{\"a\":}", 0, ERR_DAMAGED, "value"},
    {"{\"a\":1}", 0, ERR_DAMAGED, "'a'"},
    {"{\"a\":{}}", 0, ERR_DAMAGED, "dtype is missing"},
    {"{\"a\":{\"dtype\":\"I8\",\"data_offsets\":[0,0]}}", 0, ERR_DAMAGED, "shape is missing"},
    {"{\"a\":{\"dtype\":\"I8\",\"shape\":[0]}}", 0, ERR_DAMAGED, "data_offsets is missing"},
    {"{\"a\":{\"dtype\":\"I8\",\"shape\":[0],\"data_offsets\":[0,0],\"x\":1}}", 0, ERR_UNSUPPORTED, "'x'"},
    {"{\"a\":{\"dtype\":\"I8\",\"dtype\":\"I8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, ERR_DAMAGED, "dtype appears twice"},
    {"{" T("a", "I8", "[0]", "[0,0]") "," T("\\u0061", "I8", "[0]", "[0,0]") "}", 0, ERR_DAMAGED, "'a' appears twice"},
    {"{" T("a\\u0000", "I8", "[0]", "[0,0]") "}", 0, ERR_DAMAGED, "NUL"},
    {"{" T("a", "I8\\u0000", "[0]", "[0,0]") "}", 0, ERR_DAMAGED, "NUL"},
    {"{" T("a\xff", "I8", "[0]", "[0,0]") "}", 0, ERR_DAMAGED, "UTF-8"},
    {"{" T("a", "i8", "[0]", "[0,0]") "}", 0, ERR_UNSUPPORTED, "'i8'"},
    {"{" T("a", "F8_E4M3", "[0]", "[0,0]") "}", 0, ERR_UNSUPPORTED, "'F8_E4M3'"},
    {"{\"a\":{\"dtype\":null,\"shape\":[0],\"data_offsets\":[0,0]}}", 0, ERR_DAMAGED, "dtype"},
    {"{" T("a", "I8", "1", "[0,1]") "}", 1, ERR_DAMAGED, "shape"},
    {"{" T("a", "I8", "[\"1\"]", "[0,1]") "}", 1, ERR_DAMAGED, "shape"},
    {"{" T("a", "I8", "[[1]]", "[0,1]") "}", 1, ERR_DAMAGED, "shape"},
    {"{" T("a", "I8", "[1.0]", "[0,1]") "}", 1, ERR_DAMAGED, "integers"},
    {"{" T("a", "I8", "[1e0]", "[0,1]") "}", 1, ERR_DAMAGED, "integers"},
    {"{" T("a", "I8", "[-1]", "[0,1]") "}", 1, ERR_DAMAGED, "integers"},
    {"{" T("a", "I8", "[-0]", "[0,0]") "}", 0, ERR_DAMAGED, "integers"},
    {"{" T("a", "I8", "[01]", "[0,1]") "}", 1, ERR_DAMAGED, ""},
    {"{" T("a", "I8", "[0,9223372036854775807]", "[0,0]") "}", 0, -1, ""},
    {"{" T("a", "I8", "[0,9223372036854775808]", "[0,0]") "}", 0, ERR_DAMAGED, "integers"},
    {"{" T("a", "I8", "[18446744073709551617]", "[0,1]") "}", 1, ERR_DAMAGED, "integers"},
    {"{" T("a", "I8", "[9223372036854775807]", "[0,9223372036854775807]") "}", 1, ERR_DAMAGED, "truncated"},
    {"{" T("a", "I8", "[4294967296,4294967296]", "[0,0]") "}", 0, ERR_DAMAGED, "elements"},
    {"{" T("a", "I8", "[4294967296,2147483648]", "[0,0]") "}", 0, ERR_DAMAGED, "elements"},
    {"{" T("a", "I16", "[4611686018427387904]", "[0,0]") "}", 0, ERR_DAMAGED, "disagree"},
    {"{" T("a", "F64", "[2305843009213693952]", "[0,0]") "}", 0, ERR_DAMAGED, "disagree"},
    {"{" T("a", "I8", "[2]", "[0,1]") "}", 1, ERR_DAMAGED, "disagree"},
    {"{" T("a", "F32", "[1]", "[0,1]") "}", 1, ERR_DAMAGED, "disagree"},
    {"{" T("a", "I8", "[1]", "[1,0]") "}", 1, ERR_DAMAGED, "before"},
    {"{" T("a", "I8", "[1]", "[0]") "}", 1, ERR_DAMAGED, "two"},
    {"{" T("a", "I8", "[1]", "[0,1,2]") "}", 1, ERR_UNSUPPORTED, "two"},
    {"{" T("a", "I8", "[1]", "{}") "}", 1, ERR_DAMAGED, "two"},
    {"{" T("a", "I8", "[1]", "[1,2]") "}", 2, ERR_DAMAGED, "hole"},
    {"{" T("a", "I8", "[1]", "[0,1]") "," T("b", "I8", "[1]", "[2,3]") "}", 3, ERR_DAMAGED, "hole"},
    {"{" T("a", "I8", "[2]", "[0,2]") "," T("b", "I8", "[2]", "[1,3]") "}", 3, ERR_DAMAGED, "overlap"},
    {"{" T("a", "I8", "[2]", "[0,2]") "," T("b", "I8", "[2]", "[0,2]") "}", 2, ERR_DAMAGED, "overlap"},
    {"{" T("a", "I8", "[3]", "[0,3]") "," T("b", "I8", "[0]", "[1,1]") "}", 3, ERR_DAMAGED, "overlap"},
    {"{" T("a", "I8", "[2]", "[0,2]") "}", 1, ERR_DAMAGED, "truncated"},
    {"{" T("a", "I8", "[2]", "[0,2]") "}", 3, ERR_DAMAGED, "appended"},
    {"{}", 1, ERR_DAMAGED, "appended"},
    {"{\"__metadata__\":1}", 0, ERR_DAMAGED, "strings"},
    {"{\"__metadata__\":null}", 0, ERR_DAMAGED, "strings"},
    {"{\"__metadata__\":{\"k\":1}}", 0, ERR_DAMAGED, "strings"},
    {"{\"__metadata__\":{\"k\":{}}}", 0, ERR_DAMAGED, "strings"},
    {"{\"__metadata__\":{\"k\":\"a\\u0000\"}}", 0, ERR_DAMAGED, "NUL"},
    {"{\"__metadata__\":{\"k\":\"a\",\"k\":\"b\"}}", 0, ERR_DAMAGED, "'k' twice"},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, ERR_DAMAGED, "twice"},
};

static void header_rules(void **state)
{
    (void)state;
    int bad = 0;
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        struct err e = {0};
        int code = open_code(headers[i].header, (size_t)headers[i].data_len, &e);
        if (code != headers[i].code || (code >= 0 && !strstr(e.text, headers[i].says)))
            bad++, print_error("%s\n    code %d, expected %d '%s'; says: %s\n", headers[i].header, code, headers[i].code,
                               headers[i].says, e.text);
    }
    assert_int_equal(bad, 0);
}

/* Whatever becomes of one byte, or where the file ends: no crash, and what is accepted can be read. */
static void damaged_anywhere(void **state)
{
    (void)state;
    static const char good[] =
        "{\"__metadata__\":{\"k\":\"\\u00e9\"}," T("a", "I8", "[2]", "[0,2]") "," T("b", "F16", "[1]", "[2,4]") "}  ";
    static const char replacements[] = {0, ' ', '"', '\\', '{', '}', ',', '9', '-', (char)0xff};
    char header[sizeof good], out[64];
    struct err e;
    struct st_file *f;
    for (size_t i = 0; i < sizeof good - 1; i++)
        for (size_t r = 0; r < sizeof replacements; r++) {
            memcpy(header, good, sizeof good);
            header[i] = replacements[r];
            if (st_open(make_file(header, sizeof good - 1, zeros, 4), &f, &e) < 0)
                continue;
            for (int t = 0; t < st_count(f); t++)
                assert_int_equal(st_read(f, st_get(f, t), out, &e), 0);
            st_close(f);
        }
    const char *path = make_file(good, sizeof good - 1, zeros, 4);
    for (off_t size = 8 + sizeof good - 1 + 3; size >= 0; size--) {
        assert_int_equal(truncate(path, size), 0);
        assert_int_equal(st_open(path, &f, &e), -1);
        assert_int_equal(e.code, ERR_DAMAGED);
    }
}

static int limit_tensors(int n)
{
    char *text = malloc((size_t)n * 64 + 8), *p = text;
    struct err e;
    *p++ = '{';
    for (int i = 0; i < n; i++)
        p += sprintf(p, "%s" T("%d", "I8", "[0]", "[0,0]"), i ? "," : "", i);
    strcpy(p, "}");
    int code = open_code(text, 0, &e);
    free(text);
    return code;
}

static int limit_metadata(int n)
{
    char *text = malloc((size_t)n * 16 + 32), *p = text;
    struct err e;
    p = stpcpy(p, "{\"__metadata__\":{");
    for (int i = 0; i < n; i++)
        p += sprintf(p, "%s\"%d\":\"\"", i ? "," : "", i);
    strcpy(p, "}}");
    int code = open_code(text, 0, &e);
    free(text);
    return code;
}

static int limit_name(int n)
{
    char text[2000];
    struct err e;
    sprintf(text, "{\"%0*d\\u0041\":{\"dtype\":\"I8\",\"shape\":[0],\"data_offsets\":[0,0]}}", n - 1,
            0); /* escapes do not count */
    return open_code(text, 0, &e);
}

/* The error of a file whose header is '{' and nothing but a hole behind it. */
static int limit_header(uint64_t len, uint64_t file_bytes)
{
    struct st_file *f;
    struct err e;
    char start[9];
    for (int i = 0; i < 8; i++)
        start[i] = (char)(len >> 8 * i);
    start[8] = '{';
    files_write(dir, "t.safetensors", start, sizeof start);
    assert_int_equal(truncate(files_path(dir, "t.safetensors"), (off_t)file_bytes), 0);
    assert_int_equal(st_open(files_path(dir, "t.safetensors"), &f, &e), -1);
    return (int)e.code;
}

static void limits(void **state)
{
    (void)state;
    assert_int_equal(limit_tensors(ST_TENSORS_MAX), -1);
    assert_int_equal(limit_tensors(ST_TENSORS_MAX + 1), ERR_TOO_LARGE);
    assert_int_equal(limit_metadata(ST_METADATA_MAX), -1);
    assert_int_equal(limit_metadata(ST_METADATA_MAX + 1), ERR_TOO_LARGE);
    assert_int_equal(limit_name(ST_NAME_MAX), -1);
    assert_int_equal(limit_name(ST_NAME_MAX + 1), ERR_TOO_LARGE);
    assert_int_equal(limit_header(ST_HEADER_MAX, 8 + (uint64_t)ST_HEADER_MAX), ERR_DAMAGED); /* read, and found to be no JSON */
    assert_int_equal(limit_header(ST_HEADER_MAX + 1, 9 + (uint64_t)ST_HEADER_MAX), ERR_TOO_LARGE);
    assert_int_equal(limit_header(1000, 1000), ERR_DAMAGED); /* 8 bytes too short */
    assert_int_equal(limit_header(UINT64_MAX, 1000), ERR_DAMAGED);
}

static void not_a_file(void **state)
{
    (void)state;
    struct st_file *f = NULL;
    struct err e;
    assert_int_equal(st_open(files_path(dir, "none.safetensors"), &f, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_non_null(strstr(e.text, "none.safetensors"));
    assert_int_equal(st_open(dir, &f, &e), -1);
    assert_int_equal(e.code, ERR_INPUT);
    assert_int_equal(mkfifo(files_path(dir, "fifo"), 0600), 0);
    assert_int_equal(st_open(files_path(dir, "fifo"), &f, &e), -1); /* and does not wait */
    assert_int_equal(e.code, ERR_INPUT);
    assert_int_equal(unlink(files_path(dir, "fifo")), 0);
    char *deep = malloc(3000);
    memset(deep, 'd', 2999);
    deep[2999] = '\0';
    assert_int_equal(st_open(deep, &f, &e), -1); /* of a long path the text keeps the reason */
    assert_non_null(strstr(e.text, strerror(ENAMETOOLONG)));
    free(deep);
    assert_null(f);
    st_close(NULL);
}

/* One tensor of each type, values that tell the types apart. */
static const double f64[] = {1.5, -2.25, 1e-3};
static const float f32[] = {1.5f, -INFINITY, 3e38f};
static const uint16_t f16[] = {0x3c00, 0xc500, 0x0001, 0x7bff}; /* 1, -5, 2^-24, 65504 */
static const uint16_t bf16[] = {0x3f80, 0xc0a0, 0x7f7f};        /* 1, -5, 3.3895314e38 */
static const int64_t i64[] = {-(1ll << 40), 1ll << 53};
static const int32_t i32[] = {INT32_MIN, 7};
static const int16_t i16[] = {-32768, 32767, 1};
static const int8_t i8[] = {-128, 127, 0, 3, -1};
static const uint8_t u8[] = {0, 255, 1};
static const uint8_t boolean[] = {1, 0, 1};

static const struct st_item items[] = {
    {"f64", ST_F64, 1, {3}, f64},
    {"layer.\"quoted\\\".\x01\n\t\x7f\xc3\xa9\xf0\x9f\x98\x80", ST_F32, 2, {1, 3}, f32},
    {"f16", ST_F16, 4, {1, 2, 1, 2}, f16},
    {"bf16", ST_BF16, 1, {3}, bf16},
    {"nothing", ST_F32, 2, {4, 0}, NULL},
    {"i64", ST_I64, 1, {2}, i64},
    {"i32", ST_I32, 8, {1, 1, 1, 1, 1, 1, 1, 2}, i32},
    {"i16", ST_I16, 1, {3}, i16},
    {"i8", ST_I8, 1, {5}, i8},
    {"u8", ST_U8, 1, {3}, u8},
    {"bool", ST_BOOL, 1, {3}, boolean},
    {"scalar", ST_I8, 0, {0}, &i8[3]},
};
enum { ITEMS = sizeof items / sizeof *items };
static const struct st_meta meta[] = {{"format", "test"}, {"json", "{\"a\":[1,\"\\u00e9\"]}\r\n"}, {"", "empty key"}, {"e", ""}};
enum { METAS = sizeof meta / sizeof *meta };

static size_t bytes_of(const struct st_item *item)
{
    size_t n = st_dtype_bytes(item->dtype);
    for (int i = 0; i < item->rank; i++)
        n *= (size_t)item->shape[i];
    return n;
}

static void check_items(const char *path)
{
    struct st_file *f;
    struct err e;
    char out[64];
    assert_int_equal(st_open(path, &f, &e), 0);
    assert_int_equal(st_count(f), ITEMS);
    for (int i = 0; i < ITEMS; i++) {
        const struct st_tensor *t = st_find(f, items[i].name);
        assert_non_null(t);
        assert_string_equal(t->name, items[i].name);
        assert_int_equal(t->dtype, items[i].dtype);
        assert_int_equal(t->rank, items[i].rank);
        for (int d = 0; d < t->rank; d++)
            assert_int_equal(t->shape[d], items[i].shape[d]);
        assert_int_equal(t->end - t->begin, bytes_of(&items[i]));
        assert_int_equal((size_t)t->count * st_dtype_bytes(t->dtype), bytes_of(&items[i]));
        assert_int_equal(st_read(f, t, out, &e), 0);
        if (bytes_of(&items[i]))
            assert_memory_equal(out, items[i].data, bytes_of(&items[i]));
    }
    for (int i = 1; i < ITEMS; i++)
        assert_true(st_get(f, i - 1)->end == st_get(f, i)->begin);
    for (int i = 0; i < METAS; i++)
        assert_string_equal(st_metadata(f, meta[i].key), meta[i].value);
    assert_null(st_find(f, "none"));
    assert_null(st_metadata(f, "none"));
    st_close(f);
}

/* Read with another parser, as a stranger would: layout by the specification. */
static void check_layout(const char *path, int align)
{
    size_t size = 0;
    struct err e;
    char *file = files_read(path, &size);
    uint64_t len = 0, at = 0;
    assert_non_null(file);
    for (int i = 7; i >= 0; i--)
        len = len << 8 | (unsigned char)file[i];
    assert_true(8 + len <= size);
    assert_int_equal((8 + len) % (uint64_t)align, 0);
    assert_int_equal(file[8], '{');
    cJSON *root = json_parse(file + 8, len, &e);
    assert_non_null(root);
    for (const cJSON *t = root->child; t; t = t->next) {
        if (strcmp(t->string, "__metadata__") == 0)
            continue;
        const cJSON *offsets = cJSON_GetObjectItem(t, "data_offsets");
        assert_true(cJSON_GetArrayItem(offsets, 0)->valuedouble == (double)at);
        at = (uint64_t)cJSON_GetArrayItem(offsets, 1)->valuedouble;
    }
    assert_int_equal(8 + len + at, size);
    cJSON_Delete(root);
    free(file);
}

static void round_trip(void **state)
{
    (void)state;
    static const int aligns[] = {1, 8, 64, 4096};
    struct err e;
    const char *path = files_path(dir, "w.safetensors");
    for (size_t i = 0; i < sizeof aligns / sizeof *aligns; i++) {
        assert_int_equal(st_write(path, items, ITEMS, meta, METAS, aligns[i], &e), 0);
        check_items(path);
        check_layout(path, aligns[i]);
    }
    assert_int_equal(st_write(path, NULL, 0, NULL, 0, 1, &e), 0); /* nothing at all is a file too */
    check_layout(path, 1);
    assert_int_equal(st_write(path, items, 1, NULL, 0, 1, &e), 0);
    check_layout(path, 1);
    struct stat st;
    mode_t mask = umask(0);
    umask(mask);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0644 & ~mask);
    assert_int_equal(unlink(path), 0);
}

static void as_floats(void **state)
{
    (void)state;
    static const float expected[ITEMS][5] = {
        {1.5f, -2.25f, 1e-3f},
        {1.5f, -INFINITY, 3e38f},
        {1, -5, 5.9604645e-8f, 65504},
        {1, -5, 3.3895314e38f},
        {0},
        {-1099511627776.0f, 9007199254740992.0f},
        {-2147483648.0f, 7},
        {-32768, 32767, 1},
        {-128, 127, 0, 3, -1},
        {0, 255, 1},
        {1, 0, 1},
        {3},
    };
    struct st_file *f;
    struct err e;
    const char *path = files_path(dir, "w.safetensors");
    assert_int_equal(st_write(path, items, ITEMS, NULL, 0, 1, &e), 0);
    assert_int_equal(st_open(path, &f, &e), 0);
    for (int i = 0; i < ITEMS; i++) {
        float out[5];
        const struct st_tensor *t = st_find(f, items[i].name);
        assert_int_equal(st_read_float(f, t, out, &e), 0);
        for (int64_t j = 0; j < t->count; j++)
            assert_true(out[j] == expected[i][j]);
    }
    st_close(f);

    enum { N = 20001 }; /* more than one part of the conversion buffer, and an odd rest */
    int16_t *big = malloc(N * sizeof *big);
    float *out = malloc(N * sizeof *out);
    for (int i = 0; i < N; i++)
        big[i] = (int16_t)(i * 7);
    const struct st_item item = {"big", ST_I16, 1, {N}, big};
    assert_int_equal(st_write(path, &item, 1, NULL, 0, 1, &e), 0);
    assert_int_equal(st_open(path, &f, &e), 0);
    assert_int_equal(st_read_float(f, st_get(f, 0), out, &e), 0);
    for (int i = 0; i < N; i++)
        assert_true(out[i] == (float)big[i]);

    /* The file shrinks under us. */
    assert_int_equal(truncate(path, (off_t)st_file_bytes(f) - 1), 0);
    assert_int_equal(st_read_float(f, st_get(f, 0), out, &e), -1);
    assert_int_equal(e.code, ERR_DAMAGED);
    assert_non_null(strstr(e.text, "w.safetensors: tensor 'big'"));
    assert_int_equal(st_read(f, st_get(f, 0), big, &e), -1);
    assert_int_equal(e.code, ERR_DAMAGED);
    st_close(f);
    free(big);
    free(out);
    assert_int_equal(unlink(path), 0);
}

static void impossible_items(void **state)
{
    (void)state;
    static const char long_name[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    char name[ST_NAME_MAX + 2] = "";
    while (strlen(name) < ST_NAME_MAX)
        strcat(name, long_name);
    const struct st_item fits = {name, ST_I8, 1, {1}, i8};
    const struct st_item bad[] = {
        {"rank", ST_I8, ST_RANK_MAX + 1, {1}, i8}, {"rank", ST_I8, -1, {1}, i8},          {"negative", ST_I8, 1, {-1}, i8},
        {"large", ST_I8, 2, {INT64_MAX, 2}, i8},   {"large", ST_F64, 1, {INT64_MAX}, i8}, {"utf8 \xff", ST_I8, 1, {1}, i8},
        {"__metadata__", ST_I8, 1, {1}, i8},
    };
    const struct st_item twice[] = {{"a", ST_I8, 1, {1}, i8}, {"a", ST_I8, 1, {1}, i8}};
    const struct st_meta twice_meta[] = {{"a", ""}, {"a", ""}};
    struct err e;
    const char *path = files_path(dir, "w.safetensors");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        e.code = ERR_INTERNAL;
        assert_int_equal(st_write(path, &bad[i], 1, NULL, 0, 1, &e), -1);
        assert_int_equal(e.code, ERR_INPUT);
    }
    assert_int_equal(st_write(path, twice, 2, NULL, 0, 1, &e), -1);
    assert_int_equal(st_write(path, NULL, 0, twice_meta, 2, 1, &e), -1);
    assert_int_equal(st_write(path, NULL, 0, NULL, 0, 0, &e), -1);
    assert_int_equal(st_write(path, NULL, 0, NULL, 0, 4097, &e), -1);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(st_write(path, &fits, 1, NULL, 0, 1, &e), 0);
    strcat(name, "x");
    assert_int_equal(st_write(path, &fits, 1, NULL, 0, 1, &e), -1);
    assert_int_equal(unlink(path), 0);
}

static void failed_write_leaves_nothing(void **state)
{
    (void)state;
    struct err e;
    char *path = strdup(files_path(dir, "old.safetensors"));
    enum { BIG = 4 << 20 };
    char *big = calloc(BIG, 1);
    const struct st_item item = {"big", ST_I8, 1, {BIG}, big};
    assert_non_null(big);

    assert_int_equal(st_write(path, items, ITEMS, meta, METAS, 64, &e), 0);
    int before = files_count(dir);

    /* A limit on file size is a full disk that a test can make: a short write first, then an error. */
    struct rlimit old, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = BIG / 2;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int result = st_write(path, &item, 1, NULL, 0, 64, &e);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(result, -1);
    assert_int_equal(e.code, ERR_IO);
    assert_non_null(strstr(e.text, "old.safetensors"));
    assert_non_null(strstr(e.text, strerror(EFBIG)));
    check_items(path);
    assert_int_equal(files_count(dir), before);

    assert_int_equal(st_write(files_path(dir, "none/x.safetensors"), &item, 1, NULL, 0, 64, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_int_equal(st_write(files_path(path, "x.safetensors"), &item, 1, NULL, 0, 64, &e), -1); /* a file as directory */
    assert_int_equal(st_write(files_path(dir, ""), &item, 1, NULL, 0, 64, &e), -1);
    assert_int_equal(mkdir(files_path(dir, "taken"), 0700), 0);
    assert_int_equal(st_write(files_path(dir, "taken"), &item, 1, NULL, 0, 64, &e), -1); /* fails in the rename */
    assert_int_equal(rmdir(files_path(dir, "taken")), 0);
    assert_int_equal(files_count(dir), before);

    assert_int_equal(unlink(path), 0);
    free(big);
    free(path);
}

static void relative_path(void **state)
{
    (void)state;
    struct err e;
    int here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(here >= 0);
    assert_int_equal(chdir(dir), 0);
    assert_int_equal(st_write("plain.safetensors", items, ITEMS, meta, METAS, 64, &e), 0);
    check_items("plain.safetensors");
    assert_int_equal(unlink("plain.safetensors"), 0);
    assert_int_equal(fchdir(here), 0);
    close(here);
}

static void no_memory(void **state)
{
    (void)state;
    struct err e;
    struct st_file *f = NULL;
    int n, result = -1;
    const char *path = files_path(dir, "w.safetensors");
    for (n = 0; n < 100 && result < 0; n++) {
        int before = files_count(dir);
        scarce_left = n;
        result = st_write(path, items, ITEMS, meta, METAS, 64, &e);
        scarce_left = -1;
        if (result < 0) {
            assert_int_equal(e.code, ERR_MEMORY);
            assert_int_equal(files_count(dir), before);
        }
    }
    assert_in_range(n, 5, 50);
    for (n = 0, result = -1; n < 100 && result < 0; n++) {
        scarce_left = n;
        result = st_open(path, &f, &e);
        scarce_left = -1;
        if (result < 0)
            assert_int_equal(e.code, ERR_MEMORY);
    }
    assert_in_range(n, 5, 50);
    st_close(f);
    assert_int_equal(unlink(path), 0);
}

static const struct {
    const char *name;
    int accepted;
} hostile[] = {
    {"dtype_number", 0},
    {"dtype_unknown", 0},
    {"dup_key", 0},
    {"empty", 0},
    {"header_array", 0},
    {"header_len_100MB", 0},
    {"header_len_beyond_file", 0},
    {"header_not_json", 0},
    {"header_not_utf8", 0},
    {"header_too_large", 0},
    {"hole_polyglot", 0},
    {"json_depth_100000", 0},
    {"leading_space", 0},
    {"metadata_not_string", 0},
    {"name_64k", 0},
    {"name_traversal", 1}, /* a name, never a path */
    {"nul_in_name", 0},
    {"offset_1e308", 0},
    {"offset_2e64", 0},
    {"offset_float", 0},
    {"offset_negative", 0},
    {"offset_reversed", 0},
    {"ok_2x2", 1},
    {"overlap", 0},
    {"rank_0", 1},
    {"rank_10000", 0},
    {"seven_bytes", 0},
    {"shape_dtype_overflow", 0},
    {"shape_negative", 0},
    {"shape_overflow_2x2e63", 0},
    {"shape_overflow_wraps_to_16", 0},
    {"shape_zero", 1},
    {"size_mismatch", 0},
    {"trailing_data", 0},
    {"weights_all_zero", 1},
    {"weights_denormal", 1},
    {"weights_int8_min", 1},
    {"weights_nan_inf", 1},
};

static void hostile_files(void **state)
{
    (void)state;
    const char *corpora = files_shared("RESNETD_CORPORA", "corpora");
    if (!corpora)
        skip();
    int bad = 0;
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        char name[128];
        struct st_file *f = NULL;
        struct err e = {0};
        snprintf(name, sizeof name, "safetensors-bad/%s.safetensors", hostile[i].name);
        clock_t start = clock();
        int accepted = st_open(files_path(corpora, name), &f, &e) == 0;
        double ms = (double)(clock() - start) * 1e3 / CLOCKS_PER_SEC;
        if (accepted != hostile[i].accepted || (!accepted && e.code == ERR_NOT_FOUND) || ms > 50)
            bad++, print_error("%s: %s after %.1f ms: %s\n", hostile[i].name, accepted ? "accepted" : "refused", ms, e.text);
        st_close(f);
    }
    assert_int_equal(bad, 0);
}

static int make_dir(void **state)
{
    (void)state;
    dir = files_make_dir();
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    files_remove_dir(dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_rules),     cmocka_unit_test(damaged_anywhere),
        cmocka_unit_test(limits),           cmocka_unit_test(not_a_file),
        cmocka_unit_test(round_trip),       cmocka_unit_test(as_floats),
        cmocka_unit_test(impossible_items), cmocka_unit_test(failed_write_leaves_nothing),
        cmocka_unit_test(relative_path),    cmocka_unit_test(no_memory),
        cmocka_unit_test(hostile_files),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}

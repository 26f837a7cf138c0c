// SPDX-License-Identifier: MIT
//
// test_oip.c - bodies of the Open Inference Protocol: what is read, what is refused and why, what is written. The requests are
// those that the specification prints, for a network of 1 x 2 pixels and three classes.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/oip.h"

#define JPEG "\xff\xd8\xff\xe0 and so on"

static char *labels[] = {"cat", "a \"dog\"", "eel"};
static const struct oip_model model = {"net", "int8", 1, 2, 3, labels};

static uint8_t *body; /* of the last request: a block of exactly its size, so that a sanitizer sees one byte too many */

/* text with ' for ", then size bytes behind it; header -2: as long as the text. */
static int parse(const char *text, const void *data, size_t size, int64_t header, struct oip_request *out, struct err *e)
{
    size_t n = strlen(text);
    free(body);
    body = malloc(n + size ? n + size : 1);
    assert_non_null(body);
    for (size_t i = 0; i < n; i++)
        body[i] = text[i] == '\'' ? '"' : (uint8_t)text[i];
    if (size)
        memcpy(body + n, data, size);
    *e = (struct err){.text = ""};
    return oip_parse(body, n + size, header == -2 ? (int64_t)n : header, &model, out, e);
}

static struct oip_request accept(const char *text, const void *data, size_t size, int64_t header)
{
    struct oip_request r;
    struct err e;
    if (parse(text, data, size, header, &r, &e) < 0)
        fail_msg("%s\n%s", text, e.text);
    return r;
}

static void values(struct oip_request *r, const float *expected, int images)
{
    struct err e;
    float v[6];
    for (int n = 0; n < images; n++) {
        assert_int_equal(oip_values(r, &model, v, &e), 0);
        for (int i = 0; i < 6; i++) /* planes -> pixels */
            assert_true(v[i % 2 * 3 + i / 2] == expected[n * 6 + i]);
    }
}

static void json_tensors(void **state)
{
    static const float one[] = {1, -2.5F, 3e-3F, 0, 5, 6};
    static const char *const same[] = {
        "{'inputs':[{'name':'tensor','shape':[1,3,1,2],'datatype':'FP32','data':[1,-2.5,3e-3,0,5,6]}]}",
        "{'inputs':[{'name':'tensor','shape':[1,3,1,2],'datatype':'FP32','data':[[[[1,-2.5]],[[3e-3,-0.0]],[[5,6]]]]}]}",
        "{'inputs':[{'data':[ 1 ,-2.5\n,3e-3,0,5,6 ],'datatype':'FP32','shape':[1,3,1,2],'name':'tensor'}],'more':{'a':[{}]}}",
        "{'\\u0069nputs':[{'name':'tens\\u006fr','shape':[1,3,1,2],'datatype':'FP32','data':[1,-2.5,0.003,0,5,6]}]}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        struct oip_request r = accept(same[i], NULL, 0, -1);
        assert_int_equal(r.count, 1);
        assert_false(r.encoded);
        assert_false(r.has_id);
        assert_int_equal(r.output_count, OIP_TENSORS);
        assert_false(r.outputs[0].binary || r.outputs[1].binary || r.outputs[0].classification);
        values(&r, one, 1);
    }
    static const float two[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    struct oip_request r = accept("{'inputs':[{'name':'tensor','shape':[2,3,1,2],'datatype':'FP32',"
                                  "'data':[[[[1,2]],[[3,4]],[[5,6]]],[[[7,8]],[[9,10]],[[11,12]]]]}]}",
                                  NULL, 0, -1);
    assert_int_equal(r.count, 2);
    values(&r, two, 2);
}

/* Found when they are converted. */
static void values_beyond_float(void **state)
{
    static const float bad[6] = {0, 0, 0, 0, 0, INFINITY};
    struct err e;
    float v[6];
    (void)state;
    struct oip_request r =
        accept("{'inputs':[{'name':'tensor','shape':[1,3,1,2],'datatype':'FP32','data':[1,1,1,1,1,1e39]}]}", NULL, 0, -1);
    assert_int_equal(oip_values(&r, &model, v, &e), -1);
    r = accept("{'inputs':[{'name':'tensor','shape':[1,3,1,2],'datatype':'FP32','parameters':{'binary_data_size':24}}]}", bad, 24,
               -2);
    assert_int_equal(oip_values(&r, &model, v, &e), -1);
    assert_int_equal(e.code, ERR_INPUT);
}

static void binary_tensors(void **state)
{
    static const float x[] = {1, 2, 3, 4, 5, 6, -7, 8, 9, 10, 11, 12.25F};
    (void)state;
    struct oip_request r = accept("{'id':'42','model_name':'net','inputs':[{'name':'tensor','shape':[2,3,1,2],'datatype':'FP32',"
                                  "'parameters':{'binary_data_size':48}}],"
                                  "'outputs':[{'name':'logits','parameters':{'binary_data':true}}]}",
                                  x, sizeof x, -2);
    assert_int_equal(r.count, 2);
    assert_string_equal(r.id, "42");
    assert_int_equal(r.output_count, 1);
    assert_int_equal(r.outputs[0].tensor, OIP_LOGITS);
    assert_true(r.outputs[0].binary);
    values(&r, x, 2);
    r = accept("", x, 24, 0);
    assert_int_equal(r.count, 1);
    assert_int_equal(r.output_count, OIP_TENSORS);
    assert_true(r.outputs[0].binary && r.outputs[1].binary);
    values(&r, x, 1);
}

static void image_is(const struct oip_request *r, int i, const char *bytes, size_t size)
{
    assert_int_equal(r->image[i].size, size);
    assert_memory_equal(r->image[i].bytes, bytes, size);
}

static void images(void **state)
{
    static const char data[] = "\3\0\0\0abc\0\0\0\0\2\0\0\0de";
    (void)state;
    struct oip_request r =
        accept("{'inputs':[{'name':'image','shape':[3],'datatype':'BYTES','parameters':{'binary_data_size':17}}],"
               "'parameters':{'binary_data_output':true,'timeout':1500,'priority':1,'mine':'x'},"
               "'outputs':[{'name':'probabilities','parameters':{'classification':3}},"
               "{'name':'logits','parameters':{'binary_data':false}}]}",
               data, 17, -2);
    assert_int_equal(r.count, 3);
    assert_true(r.encoded);
    assert_int_equal(r.timeout_us, 1500);
    assert_int_equal(r.outputs[0].classification, 3);
    assert_true(r.outputs[0].binary);
    assert_false(r.outputs[1].binary);
    image_is(&r, 0, "abc", 3);
    image_is(&r, 1, "", 0);
    image_is(&r, 2, "de", 2);
    r = accept(
        "{'id':'','inputs':[{'name':'image','shape':[2],'datatype':'BYTES','data':['aGVsbG8=','\\u0059Wdl']}],'outputs':[]}",
        NULL, 0, -1);
    assert_int_equal(r.count, 2);
    assert_true(r.has_id);
    image_is(&r, 0, "hello", 5);
    image_is(&r, 1, "age", 3);
    r = accept("", JPEG, sizeof JPEG, 0);
    assert_true(r.encoded);
    image_is(&r, 0, JPEG, sizeof JPEG);
    r = accept("", "\x0f\0\0\0" JPEG, 4 + sizeof JPEG, 0);
    image_is(&r, 0, JPEG, sizeof JPEG);
}

#define TENSOR(members) "{'inputs':[{'name':'tensor','shape':[1,3,1,2],'datatype':'FP32'," members "}]}"
#define IMAGE(members)  "{'inputs':[{'name':'image','shape':[1],'datatype':'BYTES'," members "}]}"
#define WITH(more)      "{'inputs':[{'name':'image','shape':[1],'datatype':'BYTES','data':['']}]," more "}"

static void refused(void **state)
{
    static const struct {
        const char *text, *why;
        int64_t header;
        size_t size; /* bytes behind it */
    } cases[] = {
        {"", "", -1, 0},
        {"{}", "no 'inputs'", -1, 0},
        {"[]", "not a JSON object", -1, 0},
        {"[1,]", "JSON line 1", -1, 0},
        {"{'id':7,'inputs':[01]}", "JSON line 1", -1, 0},
        {"{'inputs':[]}", "no 'inputs'", -1, 0},
        {"{'inputs':{}}", "array of objects", -1, 0},
        {"{'inputs':[1]}", "array of objects", -1, 0},
        {"{'inputs':[{}]}", "no 'name'", -1, 0},
        {"{'inputs':[{'name':'image'}]}", "no 'datatype'", -1, 0},
        {"{'inputs':[{'name':'image','datatype':'BYTES'}]}", "no 'shape'", -1, 0},
        {"{'inputs':[{'name':'image','datatype':'BYTES','shape':[]}]}", "no 'shape'", -1, 0},
        {"{'inputs':[{'name':'image\\u0000'}]}", "no such input", -1, 0},
        {"{'inputs':[{'name':7}]}", "must be a string", -1, 0},
        {"{'inputs':[{'name':'input0'}]}", "'image' and 'tensor'", -1, 0},
        {"{'inputs':[{'datatype':'FP16'}]}", "datatype", -1, 0},
        {"{'inputs':[{'shape':1}]}", "array of numbers", -1, 0},
        {"{'inputs':[{'shape':['1']}]}", "array of numbers", -1, 0},
        {"{'inputs':[{'shape':[1.0]}]}", "whole number", -1, 0},
        {"{'inputs':[{'shape':[-1]}]}", "whole number", -1, 0},
        {"{'inputs':[{'shape':[99999999999999999999]}]}", "whole number", -1, 0},
        {"{'inputs':[{'shape':[1,1,1,1,1]}]}", "more than 4", -1, 0},
        {"{'inputs':[{'shape':[1],'shape':[1]}]}", "twice", -1, 0},
        {"{'inputs':[{'data':7}]}", "must be an array", -1, 0},
        {"{'inputs':[{'data':[{}]}]}", "object", -1, 0},
        {"{'inputs':[{'data':[[[[[1]]]]]}]}", "deeper", -1, 0},
        {"{'inputs':[{'data':[1,[2]]}]}", "ragged", -1, 0},
        {"{'inputs':[{'data':[[2],1]}]}", "ragged", -1, 0},
        {"{'inputs':[{'data':[[1,2],[3]]}]}", "ragged", -1, 0},
        {"{'inputs':[{'data':[[],[3]]}]}", "ragged", -1, 0},
        {"{'inputs':[],'inputs':[]}", "twice", -1, 0},
        {TENSOR("'data':[1,2,3,4,5]"), "6 elements (it has 5)", -1, 0},
        {TENSOR("'data':[1,2,3,4,5,6,7]"), "6 elements", -1, 0},
        {TENSOR("'data':[[1,2],[3,4],[5,6]]"), "shape", -1, 0},
        {TENSOR("'data':[[[[1,2,3]],[[4,5,6]]]]"), "shape", -1, 0},
        {TENSOR("'data':['1',2,3,4,5,6]"), "numbers", -1, 0},
        {TENSOR("'data':[null,2,3,4,5,6]"), "numbers", -1, 0},
        {TENSOR("'data':[01,2,3,4,5,6]"), "", -1, 0},
        {TENSOR("'data':[1,2,3,4,5,NaN]"), "", -1, 0},
        {TENSOR("'data':[1,2,3,4,5,6],"), "key", -1, 0},
        {TENSOR("'more':1"), "neither", -1, 0},
        {TENSOR("'data':[1,2,3,4,5,6],'parameters':{'binary_data_size':24}"), "both", -2, 24},
        {TENSOR("'parameters':{'binary_data_size':24}"), "needs the header", -1, 0},
        {TENSOR("'parameters':{'binary_data_size':24}"), "23 follow", -2, 23},
        {TENSOR("'parameters':{'binary_data_size':24}"), "25 follow", -2, 25},
        {TENSOR("'parameters':{'binary_data_size':20}"), "must be 24 bytes", -2, 20},
        {TENSOR("'parameters':{'binary_data_size':28}"), "must be 24 bytes", -2, 28},
        {TENSOR("'parameters':{'binary_data_size':-1}"), "whole number", -2, 24},
        {TENSOR("'parameters':{'binary_data_size':'24'}"), "must be a number", -2, 24},
        {TENSOR("'parameters':[]"), "must be an object", -2, 24},
        {TENSOR("'data':[1,2,3,4,5,6]"), "no input has binary_data_size", -2, 1},
        {TENSOR("'data':[1,2,3,4,5,6]"), "the body has", 1000, 0},
        {TENSOR("'data':[1,2,3,4,5,6]"), "", 81, 0},
        {"{'inputs':[{'name':'tensor','shape':[0,3,1,2],'datatype':'FP32','data':[]}]}", "1 to 32", -1, 0},
        {"{'inputs':[{'name':'tensor','shape':[33,3,1,2],'datatype':'FP32','data':[]}]}", "1 to 32", -1, 0},
        {"{'inputs':[{'name':'tensor','shape':[3,1,2],'datatype':'FP32','data':[]}]}", "[n,3,1,2]", -1, 0},
        {"{'inputs':[{'name':'tensor','shape':[1,1,2,3],'datatype':'FP32','data':[]}]}", "[n,3,1,2]", -1, 0},
        {"{'inputs':[{'name':'tensor','shape':[1],'datatype':'BYTES','data':[]}]}", "FP32", -1, 0},
        {"{'inputs':[{'name':'image','shape':[1],'datatype':'FP32','data':[]}]}", "BYTES", -1, 0},
        {"{'inputs':[{'name':'image','shape':[1,1],'datatype':'BYTES','data':['']}]}", "[n]", -1, 0},
        {"{'inputs':[{'name':'image','shape':[33],'datatype':'BYTES','data':['']}]}", "1 to 32", -1, 0},
        {"{'inputs':[{'name':'image','shape':[1],'datatype':'BYTES','data':['']},{}]}", "more than one", -1, 0},
        {IMAGE("'data':['','']"), "1 elements (it has 2)", -1, 0},
        {IMAGE("'data':[1]"), "base64", -1, 0},
        {IMAGE("'data':['a']"), "image 1", -1, 0},
        {IMAGE("'data':['a\\u0000==']"), "alphabet", -1, 0},
        {IMAGE("'parameters':{'binary_data_size':3}"), "within image 1", -2, 3},
        {IMAGE("'parameters':{'binary_data_size':5}"), "within image 1", -2, 5},
        {WITH("'id':7"), "must be a string", -1, 0},
        {WITH("'id':'a\\u0000b'"), "NUL", -1, 0},
        {WITH("'parameters':7"), "must be an object", -1, 0},
        {WITH("'parameters':{'binary_data_output':1}"), "true or false", -1, 0},
        {WITH("'parameters':{'timeout':'1'}"), "a number", -1, 0},
        {WITH("'parameters':{'timeout':1,'timeout':1}"), "twice", -1, 0},
        {WITH("'outputs':[7]"), "array of objects", -1, 0},
        {WITH("'outputs':[{}]"), "no 'name'", -1, 0},
        {WITH("'outputs':[{'name':'output0'}]"), "'probabilities' and 'logits'", -1, 0},
        {WITH("'outputs':[{'name':'logits'},{'name':'logits'}]"), "twice", -1, 0},
        {WITH("'outputs':[{'name':'logits','parameters':{'classification':4}}]"), "up to 3", -1, 0},
        {WITH("'outputs':[{'name':'logits','parameters':{'classification':true}}]"), "a number", -1, 0},
        {WITH("'x':1}") "x", "", -1, 0},
        {"\xff", "", -1, 0},
        {"", "neither an image nor a tensor", 0, 23},
        {"", "neither an image nor a tensor", 0, 0},
    };
    static const char zeros[32];
    struct oip_request r;
    struct err e;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char data[32];
        memcpy(data, zeros, sizeof data);
        data[0] = 2; /* as an image's length: more than any has here */
        if (parse(cases[i].text, data, cases[i].size, cases[i].header, &r, &e) == 0)
            fail_msg("accepted: %s", cases[i].text);
        if (e.code != ERR_INPUT || !e.text[0] || !strstr(e.text, cases[i].why))
            fail_msg("%s\n%d: %s\nexpected: %s", cases[i].text, e.code, e.text, cases[i].why);
    }
}

/* One below and at each limit that a text can reach. */
static void limits(void **state)
{
    char text[1000], id[OIP_ID_MAX + 2];
    struct oip_request r;
    struct err e;
    (void)state;
    memset(id, 'x', sizeof id);
    for (int over = 0; over < 2; over++) {
        snprintf(text, sizeof text, WITH("'id':'%.*s'"), OIP_ID_MAX + over, id);
        assert_int_equal(parse(text, NULL, 0, -1, &r, &e), -over);
    }
    uint8_t empty[33 * 4] = {0};
    for (int n = 32; n <= 33; n++) {
        snprintf(text, sizeof text,
                 "{'inputs':[{'name':'image','shape':[%d],'datatype':'BYTES','parameters':{'binary_data_size':%d}}]}", n, 4 * n);
        assert_int_equal(parse(text, empty, (size_t)n * 4, -2, &r, &e), n == 32 ? 0 : -1);
    }
    char deep[200] = "{'x':";
    for (int depth = 63; depth <= 64; depth++) { /* and the object */
        memset(deep + 5, '[', (size_t)depth);
        memset(deep + 5 + depth, ']', (size_t)depth);
        strcpy(deep + 5 + 2 * depth, "}");
        assert_int_equal(parse(deep, NULL, 0, -1, &r, &e), -1);
        assert_int_equal(e.code, ERR_INPUT);
        assert_int_equal(strstr(e.text, "no 'inputs'") != NULL, depth == 63);
    }
}

/* Every request cut at every length is refused or read, and never past its end. */
static void cuts(void **state)
{
    static const char *const whole[] = {
        TENSOR("'data':[1,-2.5,3e-3,0,5,6]"),
        IMAGE("'data':['aGVsbG8=']"),
        WITH("'id':'\\u00e9','outputs':[{'name':'logits','parameters':{'classification':2}}]"),
    };
    struct oip_request r;
    struct err e;
    char text[300];
    (void)state;
    for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++)
        for (size_t n = 0; n < strlen(whole[i]); n++) {
            snprintf(text, sizeof text, "%.*s", (int)n, whole[i]);
            assert_int_equal(parse(text, NULL, 0, -1, &r, &e), -1);
            assert_int_equal(e.code, ERR_INPUT);
        }
}

static void replies(void **state)
{
    static const float logits[] = {0, 1, 0.5F, -3, -1e-3F, -2};
    static const unsigned char tail[] = {0, 0, 0, 0, 0, 0, 0x80, 0x3f, 0, 0, 0, 0x3f};
    struct text t = {0};
    (void)state;
    struct oip_request r = accept(
        "{'id':'4\\\\2','inputs':[{'name':'tensor','shape':[2,3,1,2],'datatype':'FP32','data':[1,2,3,4,5,6,7,8,9,10,11,12]}],"
        "'outputs':[{'name':'logits'},{'name':'probabilities','parameters':{'classification':1}}]}",
        NULL, 0, -1);
    assert_int_equal(oip_write(&r, &model, logits, &t), -1);
    assert_string_equal(t.s, "{\"model_name\":\"net\",\"model_version\":\"int8\",\"id\":\"4\\\\2\",\"outputs\":["
                             "{\"name\":\"logits\",\"datatype\":\"FP32\",\"shape\":[2,3],\"data\":[0,1,0.5,-3,-0.001,-2]},"
                             "{\"name\":\"probabilities\",\"datatype\":\"BYTES\",\"shape\":[2,1],\"data\":["
                             "\"0.5064804:1:a \\\"dog\\\"\",\"0.84366286:1:a \\\"dog\\\"\"]}]}");
    text_free(&t);
    t = (struct text){0};
    r = accept("{'inputs':[{'name':'tensor','shape':[1,3,1,2],'datatype':'FP32','data':[1,2,3,4,5,6]}],"
               "'outputs':[{'name':'logits','parameters':{'binary_data':true}},{'name':'probabilities','parameters':"
               "{'classification':3,'binary_data':true}}]}",
               NULL, 0, -1);
    int64_t header = oip_write(&r, &model, logits, &t);
    static const char json[] =
        "{\"model_name\":\"net\",\"model_version\":\"int8\",\"outputs\":[{\"name\":\"logits\",\"datatype\":\"FP32\","
        "\"shape\":[1,3],\"parameters\":{\"binary_data_size\":12}},{\"name\":\"probabilities\",\"datatype\":\"BYTES\","
        "\"shape\":[1,3],\"parameters\":{\"binary_data_size\":63}}]}";
    assert_int_equal(header, strlen(json));
    assert_memory_equal(t.s, json, strlen(json));
    assert_int_equal(t.len, (size_t)header + 12 + 63);
    assert_memory_equal(t.s + header, tail, 12);
    assert_memory_equal(t.s + header + 12,
                        "\x13\0\0\0"
                        "0.5064804:1:a \"dog\"",
                        23);
    text_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_tensors),   cmocka_unit_test(values_beyond_float),
        cmocka_unit_test(binary_tensors), cmocka_unit_test(images),
        cmocka_unit_test(refused),        cmocka_unit_test(limits),
        cmocka_unit_test(cuts),           cmocka_unit_test(replies),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(body);
    return failed;
}

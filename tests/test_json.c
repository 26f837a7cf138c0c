// SPDX-License-Identifier: MIT

#include "models/json.h"
#include "tests/files.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* From a block of exactly len bytes, so that a sanitizer sees any step beyond. */
static cJSON *parse(const char *text, size_t len, struct err *e)
{
    char *copy = malloc(len ? len : 1);
    assert_non_null(copy);
    memcpy(copy, text, len);
    cJSON *root = json_parse(copy, len, e);
    free(copy);
    return root;
}

static int accepts(const char *text, size_t len)
{
    struct err e;
    cJSON *root = parse(text, len, &e);
    int ok = root != NULL;
    cJSON_Delete(root);
    return ok;
}

static const char *const valid[] = {
    "0",
    "-0",
    "12",
    "-1.5e+3",
    "1E5",
    "0.1",
    "0e0",
    "true",
    "false",
    "null",
    "\"\"",
    "[]",
    "{}",
    " [ 1 , 2 ] ",
    "\t\r\n{\"a\":{}}",
    "[[],{},[[]]]",
    "{\"\":0}",
    "{\"a\":1,\"A\":2}",
    "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00\"",
    "\"\x7f\"",
    "\"\xc2\x80 \xdf\xbf \xe0\xa0\x80 \xed\x9f\xbf \xee\x80\x80 \xef\xbf\xbf \xf0\x90\x80\x80 \xf4\x8f\xbf\xbf\"",
    "[-0.000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000001]",
};

static const char *const invalid[] = {
    "",
    " ",
    "[",
    "]",
    "{",
    "}",
    "[1",
    "[1,",
    "[1,]",
    "[,1]",
    "[1 2]",
    "[1,,2]",
    "[1}",
    "{\"a\":1]",
    "1 2",
    "[] []",
    "{} x",
    "[]]",
    "{1:2}",
    "{a:1}",
    "{'a':1}",
    "{\"a\"}",
    "{\"a\":}",
    "{\"a\":1,}",
    "{,\"a\":1}",
    "{\"a\" 1}",
    "{\"a\":1 \"b\":2}",
    "{\"a\"::1}",
    "01",
    "-01",
    "00",
    "+1",
    "-",
    "1.",
    ".5",
    "-.5",
    "1e",
    "1e+",
    "1.e5",
    "0x10",
    "1_0",
    "--1",
    "NaN",
    "nan",
    "Infinity",
    "-Infinity",
    "1e400",
    "-1e400",
    "tru",
    "truee",
    "True",
    "nul",
    "NULL",
    "undefined",
    "\"",
    "\"a",
    "'a'",
    "\"\\\"",
    "\"\\",
    "\"\\x41\"",
    "\"\\u12\"",
    "\"\\u12g4\"",
    "\"\\U0041\"",
    "\"\\0\"",
    "\"\\a\"",
    "\"\n\"",
    "\"\t\"",
    "\"\x01\"",
    "\"\x1f\"",
    "\f1",
    "\v1",
    "1\f",
    "\xc2\xa0"
    "1",
    "/* */ 1",
    "1 // x",
    "\xef\xbb\xbf{}",
    "\"\\ud800\"",
    "\"\\udc00\"",
    "\"\\ud800x\"",
    "\"\\ud800\\n\"",
    "\"\\ud800\\u0041\"",
    "\"\\ud800\\ud800\"",
    "\"\\udc00\\ud800\"",
    "\"\\udc00\\udc00\"",
    "\"\\ud83d\\ude0\"",
    "\"\\u0000\"",
    "{\"a\\u0000\":1}",
    "\"\x80\"",
    "\"\xbf\"",
    "\"\xc0\x80\"",
    "\"\xc1\xbf\"",
    "\"\xc2\"",
    "\"\xc2\x41\"",
    "\"\xe0\x9f\xbf\"",
    "\"\xe2\x82\"",
    "\"\xe2\x28\xa1\"",
    "\"\xed\xa0\x80\"",
    "\"\xed\xbf\xbf\"",
    "\"\xf0\x8f\xbf\xbf\"",
    "\"\xf0\x9f\x98\"",
    "\"\xf4\x90\x80\x80\"",
    "\"\xf5\x80\x80\x80\"",
    "\"\xff\"",
    "\"\xe2\x82\xff\"",
    "{\"a\":1,\"a\":2}",
    "{\"a\":1,\"b\":2,\"\\u0061\":3}",
    "[{\"x\":{\"k\":[],\"k\":[]}}]",
};

static void grammar(void **state)
{
    (void)state;
    int bad = 0;
    for (size_t i = 0; i < sizeof valid / sizeof *valid; i++)
        if (!accepts(valid[i], strlen(valid[i])))
            bad++, print_error("refused: %s\n", valid[i]);
    for (size_t i = 0; i < sizeof invalid / sizeof *invalid; i++)
        if (accepts(invalid[i], strlen(invalid[i])))
            bad++, print_error("accepted: %s\n", invalid[i]);
    if (accepts("[1,\0 2]", 7) || accepts("1\0", 2) || accepts("\"a\0b\"", 5) || accepts("\0", 1))
        bad++, print_error("accepted a raw NUL\n");
    assert_int_equal(bad, 0);
}

static void prefixes_fail(void **state)
{
    (void)state;
    static const char text[] = "{\"a\":[1.5e3,true,null,\"x\\u00e9\\ud83d\\ude00\xe2\x82\xac\"],\"b\":{\"c\":-0}}";
    assert_true(accepts(text, sizeof text - 1));
    for (size_t n = 0; n < sizeof text - 1; n++)
        assert_false(accepts(text, n));
}

static void values(void **state)
{
    (void)state;
    struct err e;
    static const char text[] =
        "{\"s\":\"\\\"\\\\\\/"
        "\\b\\f\\n\\r\\tA\\u00e9\\u20ac\\uD83D\\ude00\",\"n\":[-1.25e2,0,true,false,null,[],{}],\"k\\u0065y\":1}";
    cJSON *root = parse(text, sizeof text - 1, &e);
    assert_non_null(root);
    const char *s;
    assert_int_equal(json_string(root, "s", &s, &e), 0);
    assert_string_equal(s, "\"\\/\b\f\n\r\tA\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
    const cJSON *n = cJSON_GetObjectItemCaseSensitive(root, "n");
    assert_int_equal(cJSON_GetArraySize(n), 7);
    assert_true(cJSON_GetArrayItem(n, 0)->valuedouble == -125);
    assert_true(cJSON_IsTrue(cJSON_GetArrayItem(n, 2)) && cJSON_IsFalse(cJSON_GetArrayItem(n, 3)) &&
                cJSON_IsNull(cJSON_GetArrayItem(n, 4)));
    assert_true(cJSON_IsArray(cJSON_GetArrayItem(n, 5)) && cJSON_IsObject(cJSON_GetArrayItem(n, 6)));
    assert_non_null(cJSON_GetObjectItemCaseSensitive(root, "key"));
    char *printed = cJSON_PrintUnformatted(root); /* the tree is one that cJSON itself can walk and change */
    assert_non_null(printed);
    cJSON *again = parse(printed, strlen(printed), &e);
    assert_true(cJSON_Compare(root, again, 1));
    cJSON_free(printed);
    cJSON_Delete(again);
    cJSON_Delete(root);
}

static void getters(void **state)
{
    (void)state;
    struct err e;
    static const char text[] = "{\"i\":7,\"big\":9007199254740993,\"huge\":1e300,\"f\":0.5,\"one\":1.0,\"s\":\"x\",\"neg\":-3}";
    cJSON *root = parse(text, sizeof text - 1, &e);
    long long i = 0;
    double f = 0;
    const char *s = NULL;
    assert_int_equal(json_int(root, "i", 7, 7, &i, &e), 0);
    assert_int_equal(i, 7);
    assert_int_equal(json_int(root, "one", 0, 9, &i, &e), 0);
    assert_int_equal(json_int(root, "neg", -3, -3, &i, &e), 0);
    assert_int_equal(i, -3);
    assert_int_equal(json_int(root, "i", 8, 9, &i, &e), -1);
    assert_int_equal(json_int(root, "i", 0, 6, &i, &e), -1);
    assert_non_null(strstr(e.text, "'i'"));
    assert_int_equal(json_int(root, "huge", INT64_MIN, INT64_MAX, &i, &e), -1);
    assert_int_equal(json_int(root, "f", 0, 9, &i, &e), -1);
    assert_int_equal(json_int(root, "s", 0, 9, &i, &e), -1);
    assert_int_equal(json_int(root, "none", 0, 9, &i, &e), -1);
    assert_int_equal(json_int(root, "I", 0, 9, &i, &e), -1); /* case matters */
    assert_int_equal(i, -3);                                 /* untouched by failures */
    assert_int_equal(json_number(root, "f", &f, &e), 0);
    assert_true(f == 0.5);
    assert_int_equal(json_number(root, "s", &f, &e), -1);
    assert_int_equal(json_string(root, "f", &s, &e), -1);
    assert_null(s);
    assert_int_equal(json_string(cJSON_GetObjectItem(root, "f"), "x", &s, &e), -1);
    assert_int_equal(json_string(NULL, "x", &s, &e), -1);
    static const char *const all[] = {"i", "big", "huge", "f", "one", "s", "neg", NULL}, *const few[] = {"i", "big", NULL};
    assert_int_equal(json_only(root, all, &e), 0);
    assert_int_equal(json_only(root, few, &e), -1);
    assert_non_null(strstr(e.text, "'huge'"));
    assert_int_equal(json_only(NULL, all, &e), -1);
    cJSON_Delete(root);
}

static char *repeat(const char *head, const char *part, int n, const char *tail)
{
    char *text = malloc(strlen(head) + strlen(part) * (size_t)n + strlen(tail) + 1);
    assert_non_null(text);
    char *p = stpcpy(text, head);
    for (int i = 0; i < n; i++)
        p = stpcpy(p, part);
    strcpy(p, tail);
    return text;
}

static void expect_code(char *text, int code /* -1: accepted */)
{
    struct err e = {0};
    cJSON *root = parse(text, strlen(text), &e);
    if (code < 0 && !root)
        print_error("%s\n", e.text);
    assert_int_equal(root != NULL, code < 0);
    if (!root)
        assert_int_equal((int)e.code, code);
    cJSON_Delete(root);
    free(text);
}

static void limits(void **state)
{
    (void)state;
    char *tail = repeat("1", "]", JSON_DEPTH_MAX, "");
    expect_code(repeat("", "[", JSON_DEPTH_MAX, tail), -1);
    expect_code(repeat("[", "[", JSON_DEPTH_MAX, tail), ERR_TOO_LARGE);
    expect_code(repeat("", "{\"a\":", JSON_DEPTH_MAX + 1, "1"), ERR_TOO_LARGE);
    expect_code(repeat("", "[", 200000, ""), ERR_TOO_LARGE);
    free(tail);
    expect_code(repeat("[", "0,", JSON_VALUES_MAX - 2, "0]"), -1); /* the array counts */
    expect_code(repeat("[", "0,", JSON_VALUES_MAX - 1, "0]"), ERR_TOO_LARGE);
    expect_code(repeat("0.", "1", JSON_NUMBER_MAX - 2, ""), -1);
    expect_code(repeat("0.", "1", JSON_NUMBER_MAX - 1, ""), ERR_TOO_LARGE);
}

static char *many_keys(int n, int last)
{
    char *text = malloc((size_t)n * 64 + 64), *p = text;
    assert_non_null(text);
    *p++ = '{';
    for (int i = 0; i < n; i++)
        p += sprintf(p, "\"a.rather.long.common.prefix.%d\":%d,", i, i);
    sprintf(p, "\"a.rather.long.common.prefix.%d\":0}", last);
    return text;
}

static void many_keys_are_quick(void **state)
{
    (void)state;
    clock_t start = clock();
    expect_code(many_keys(100000, 100000), -1);
    expect_code(many_keys(100000, 31), ERR_INPUT);
    expect_code(many_keys(16, 16), -1); /* around the size where pairs give way to sorting */
    expect_code(many_keys(16, 3), ERR_INPUT);
    expect_code(many_keys(15, 3), ERR_INPUT);
    expect_code(many_keys(17, 17), -1);
    expect_code(many_keys(17, 0), ERR_INPUT);
    expect_code(many_keys(17, 9), ERR_INPUT);                     /* the last when sorted */
    assert_true((double)(clock() - start) / CLOCKS_PER_SEC < 10); /* quadratic: minutes */
}

static void place_in_text(void **state)
{
    (void)state;
    struct err e;
    assert_null(parse("{\n \"a\": 1,\n  x\n}", 16, &e));
    assert_int_equal(e.code, ERR_INPUT);
    assert_non_null(strstr(e.text, "line 3, column 3"));
    assert_null(parse("[1,\n", 4, &e));
    assert_non_null(strstr(e.text, "ends too early"));
    assert_null(parse("{\"a\":1,\"a\":2}", 13, &e));
    assert_non_null(strstr(e.text, "'a'"));
    assert_null(json_parse("[", 1, NULL)); /* the error may be unwanted */
}

static int allocations_left;

static void *scarce(size_t size)
{
    return allocations_left-- > 0 ? malloc(size) : NULL;
}

static void no_memory(void **state)
{
    (void)state;
    static const char text[] = "{\"a\":[1,\"two\",{\"three\":[]}],\"b\":true}";
    cJSON_Hooks hooks = {scarce, free};
    struct err e;
    cJSON *root = NULL;
    int n;
    cJSON_InitHooks(&hooks);
    for (n = 0; n < 100 && !root; n++) {
        allocations_left = n;
        root = json_parse(text, sizeof text - 1, &e);
        if (!root)
            assert_int_equal(e.code, ERR_MEMORY);
    }
    cJSON_InitHooks(NULL);
    cJSON_Delete(root);
    assert_in_range(n, 10, 30);
}

/* Valid JSON that is refused all the same: no C string can carry a NUL, and of two values for a key nobody knows which counts. */
static int is_deviation(const char *name)
{
    static const char *const names[] = {"y_string_null_escape.json", "y_object_escaped_null_in_key.json",
                                        "y_object_duplicated_key.json", "y_object_duplicated_key_and_value.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return 1;
    return 0;
}

static int is_grammatical(const char *text, size_t len)
{
    struct json_scan s;
    enum json_event event;
    struct err e;
    json_scan_start(&s, text, len);
    do
        event = json_scan_next(&s, &e);
    while (event != JSON_END && event != JSON_ERROR);
    return event == JSON_END;
}

/* JSONTestSuite (Nicolas Seriot): y_ must be accepted, n_ refused, i_ is free. The scanner knows the grammar alone. */
static void test_suite(void **state)
{
    (void)state;
    const char *corpora = files_shared("RESNETD_CORPORA", "corpora");
    if (!corpora)
        skip();
    char *dir = strdup(files_path(corpora, "json/test_parsing"));
    DIR *d = opendir(dir);
    assert_non_null(d);
    int seen = 0, bad = 0;
    for (struct dirent *item; (item = readdir(d)) != NULL;) {
        size_t len = 0;
        if (item->d_name[0] == '.')
            continue;
        char *text = files_read(files_path(dir, item->d_name), &len);
        assert_non_null(text);
        int ok = accepts(text, len);
        if ((item->d_name[0] == 'y' && ok == is_deviation(item->d_name)) || (item->d_name[0] == 'n' && ok))
            bad++, print_error("%s %s\n", ok ? "accepted" : "refused", item->d_name);
        if (item->d_name[0] != 'i' && is_grammatical(text, len) != (item->d_name[0] == 'y'))
            bad++, print_error("the scanner is wrong about %s\n", item->d_name);
        free(text);
        seen++;
    }
    closedir(d);
    free(dir);
    assert_int_equal(bad, 0);
    assert_in_range(seen, 300, 400);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grammar),   cmocka_unit_test(prefixes_fail), cmocka_unit_test(values),
        cmocka_unit_test(getters),   cmocka_unit_test(limits),        cmocka_unit_test(many_keys_are_quick),
        cmocka_unit_test(no_memory), cmocka_unit_test(test_suite),    cmocka_unit_test(place_in_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

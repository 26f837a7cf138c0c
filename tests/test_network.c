// SPDX-License-Identifier: MIT
//
// test_network.c - names of models and precisions, and labels from a file.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "models/file.h"
#include "tests/files.h"
#include "tests/small_network.h"

static void names(void **state)
{
    (void)state;
    static const char *const bad[] = {"", ".a", "a/b", "a b", "caf\xc3\xa9", "%41", "a\n"};
    struct err e;
    enum precision p;
    char name[NETWORK_NAME_MAX + 1];
    memset(name, 'a', sizeof name);
    name[NETWORK_NAME_MAX] = 0;
    assert_int_equal(name_check(name, &e), -1);
    name[NETWORK_NAME_MAX - 1] = 0;
    assert_int_equal(name_check(name, &e), 0);
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_int_equal(name_check(bad[i], &e), -1);
    for (int i = 0; i < PRECISIONS; i++) {
        assert_int_equal(precision_parse(precision_name((enum precision)i), &p, &e), 0);
        assert_int_equal(p, i);
    }
    assert_int_equal(precision_parse("INT8", &p, &e), -1);
    assert_non_null(strstr(e.text, "hybrid"));
}

static void labels(void **state)
{
    (void)state;
    char longest[LABEL_MAX + 2];
    memset(longest, 'l', sizeof longest);
    longest[LABEL_MAX + 1] = 0;
    char too_long[400], fits[400];
    snprintf(too_long, sizeof too_long, "a\nb\nc\nd\n%s\n", longest);
    snprintf(fits, sizeof fits, "a\nb\nc\nd\n%s\n", longest + 1);
    const struct {
        const char *text, *first, *last; /* labels, or first NULL and a word of the error */
    } cases[] = {
        {"a\nb\nc\nd\ne\n", "a", "e"},
        {"a\r\nb\r\nc\r\nd\r\ne", "a", "e"},
        {"n01440764 tench, Tinca\nb\nc\nd\nn12 x\n\n", "tench, Tinca", "n12 x"},
        {"\xef\xbb\xbf"
         "a\nb\nc\nd\ncaf\xc3\xa9",
         "a", "caf\xc3\xa9"},
        {" [\"a\",\"b\",\"c\",\"d\",\"\\u00e9\"]\n", "a", "\xc3\xa9"},
        {fits, "a", longest + 1},
        {too_long, NULL, "line 5"},
        {"a\nb\nc\nd\n", NULL, "4 labels for 5 classes"},
        {"a\nb\nc\nd\ne\nf\n", NULL, "6 labels for 5 classes"},
        {"a\n\nc\nd\ne\n", NULL, "line 2"},
        {"a\nb\tb\nc\nd\ne\n", NULL, "line 2"},
        {"a\nb\nc\nd\n\xc3\n", NULL, "UTF-8"},
        {"a\nb\nc\nd\n\xed\xa0\x80\n", NULL, "UTF-8"},
        {"a\nb\nc\nd\n\xc0\x80\n", NULL, "UTF-8"},
        {"a\nb\nc\nd\n\xf4\x90\x80\x80\n", NULL, "UTF-8"},
        {"", NULL, "0 labels"},
        {"[]", NULL, "0 labels"},
        {"[\"a\"]", NULL, "labels"},
        {"[\"a\",\"b\",\"c\",\"d\",5]", NULL, "label 4"},
        {"[\"a\",\"b\",\"c\",\"d\",\"e\"", NULL, other},
    };
    struct network n = make_network(PRECISION_FP32);
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct err e = {0};
        files_write(dir, "other.safetensors", cases[i].text, strlen(cases[i].text));
        const int r = network_labels_from_file(&n, other, &e);
        if ((r == 0) != (cases[i].first != NULL))
            fail_msg("case %zu: %s", i, r ? e.text : "accepted");
        assert_int_equal(n.label_count, 5);
        if (r == 0) {
            assert_string_equal(n.labels[0], cases[i].first);
            assert_string_equal(n.labels[4], cases[i].last);
        } else if (!strstr(e.text, cases[i].last) || !strstr(e.text, other)) {
            fail_msg("case %zu: '%s' does not name '%s'", i, e.text, cases[i].last);
        }
    }
    struct err e;
    assert_int_equal(network_labels_from_file(&n, dir, &e), -1);
    unlink(other);
    assert_int_equal(network_labels_from_file(&n, other, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    network_free(&n);
}

/* As many labels as there are; 65,537 are one too many. */
static void labels_of_any_number(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int count;
        const char *last; /* label, or a word of the error */
    } cases[] = {{"a\nb\nc\n", 3, "c"},   {"a\r\n\r\n", 1, "a"},      {"[\"x\",\"y\"]", 2, "y"},   {"", -1, "labels"},
                 {"[]", -1, "no labels"}, {"a\n\nb\n", -1, "line 2"}, {"[\"a\",7]", -1, "label 1"}};
    char **list;
    int count;
    struct err e;
    for (size_t i = 0; i < COUNT(cases); i++) {
        files_write(dir, "other.safetensors", cases[i].text, strlen(cases[i].text));
        const int r = labels_from_file(other, 0, &list, &count, &e);
        if ((r == 0) != (cases[i].count > 0))
            fail_msg("case %zu: %s", i, r ? e.text : "accepted");
        if (r == 0) {
            assert_int_equal(count, cases[i].count);
            assert_string_equal(list[count - 1], cases[i].last);
            labels_free(list, count);
        } else if (!strstr(e.text, cases[i].last) || !strstr(e.text, other)) {
            fail_msg("case %zu: '%s' does not name '%s'", i, e.text, cases[i].last);
        }
    }
    char *many = malloc(2 * (GRAPH_CHANNELS_MAX + 1));
    assert_non_null(many);
    for (int more = 0; more < 2; more++) {
        for (int i = 0; i < GRAPH_CHANNELS_MAX + more; i++)
            memcpy(many + 2 * i, "l\n", 2);
        files_write(dir, "other.safetensors", many, 2 * (size_t)(GRAPH_CHANNELS_MAX + more));
        const int r = labels_from_file(other, 0, &list, &count, &e);
        assert_int_equal(r, more ? -1 : 0);
        if (r == 0)
            labels_free(list, count);
        else
            assert_int_equal(e.code, ERR_TOO_LARGE);
    }
    free(many);
    unlink(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(labels),
        cmocka_unit_test(labels_of_any_number),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}

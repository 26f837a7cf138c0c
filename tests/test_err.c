// SPDX-License-Identifier: MIT
//
// test_err.c - error texts: cut to fit between characters, nothing in them that a terminal would obey; and what UTF-8 is.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "models/err.h"
#include "models/utf8.h"

#define ROOM (sizeof((struct err *)0)->text - 1)

static void texts(void **state)
{
    struct err e;
    (void)state;
    assert_int_equal(err_set(&e, ERR_IO, "%s: %d", "a\033b\n", 7), -1);
    assert_int_equal(e.code, ERR_IO);
    assert_string_equal(e.text, "a?b?: 7");
    assert_int_equal(err_prefix(&e, "%s", "file\t1"), -1);
    assert_int_equal(e.code, ERR_IO);
    assert_string_equal(e.text, "file?1: a?b?: 7");
    assert_int_equal(err_set(NULL, ERR_IO, "x"), -1);
    assert_int_equal(err_prefix(NULL, "x"), -1);
}

/* For every character and every place of the cut: as much as fits, whole characters only. */
static void cuts(void **state)
{
    static const char *const characters[] = {"a", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x90\x8e"};
    char text[2 * ROOM];
    struct err e;
    (void)state;
    for (size_t c = 0; c < 4; c++) {
        size_t n = strlen(characters[c]);
        for (size_t before = ROOM - 8; before <= ROOM + 1; before++) {
            memset(text, 'x', before);
            strcpy(text + before, characters[c]);
            size_t wanted = before >= ROOM ? ROOM : before + n <= ROOM ? before + n : before;
            err_set(&e, ERR_INPUT, "%s", text);
            assert_int_equal(strlen(e.text), wanted);
            assert_memory_equal(e.text, text, wanted);
        }
        for (size_t prefix = ROOM - 12; prefix < ROOM - 2; prefix++) {
            memset(text, 'x', prefix);
            text[prefix] = '\0';
            err_set(&e, ERR_INPUT, "%s", characters[c]);
            err_prefix(&e, "%s", text);
            assert_int_equal(strlen(e.text), prefix + 2 + (prefix + 2 + n <= ROOM ? n : 0));
        }
    }
    memset(text, '\xa9', sizeof text - 1); /* not UTF-8 at all: left as it came */
    text[sizeof text - 1] = '\0';
    err_set(&e, ERR_INPUT, "%s", text);
    assert_int_equal(strlen(e.text), ROOM);
}

/* What a terminal would obey is not shown, whoever said it. */
static void controls(void **state)
{
    struct err e;
    (void)state;
    err_set(&e, ERR_INPUT, "%s",
            "a\x1b[31m\nb\x7f\xc2\x9b"
            "c\xc2\xa0\xc2\x80\xc2\x9f\xc3\x9b");
    assert_string_equal(e.text, "a?[31m?b???c\xc2\xa0????\xc3\x9b");
    err_prefix(&e, "\xc2\x9b");
    assert_int_equal(strncmp(e.text, "??: a?", 6), 0);
    err_set(&e, ERR_INPUT, "%s", "\xc2"); /* cut off */
    assert_string_equal(e.text, "\xc2");
    assert_int_equal(utf8_control("\xc2\x9f"), 2);
    assert_int_equal(utf8_control("\xc2\xa0"), 0);
    assert_int_equal(utf8_control("\x1f"), 1);
    assert_int_equal(utf8_control(" "), 0);
}

static void utf8(void **state)
{
    static const struct {
        const char *text;
        size_t length;
    } cases[] = {{"a", 1},
                 {"\x7f", 1},
                 {"\xc2\x80", 2},
                 {"\xdf\xbf", 2},
                 {"\xe0\xa0\x80", 3},
                 {"\xed\x9f\xbf", 3},
                 {"\xee\x80\x80", 3},
                 {"\xf0\x90\x80\x80", 4},
                 {"\xf4\x8f\xbf\xbf", 4},
                 {"\x80", 0},
                 {"\xc1\xbf", 0},         /* overlong */
                 {"\xe0\x9f\xbf", 0},     /* overlong */
                 {"\xed\xa0\x80", 0},     /* a surrogate */
                 {"\xf0\x8f\xbf\xbf", 0}, /* overlong */
                 {"\xf4\x90\x80\x80", 0}, /* beyond U+10FFFF */
                 {"\xf5\x80\x80\x80", 0}, /* beyond U+10FFFF */
                 {"\xc3"
                  "a",
                  0},
                 {"\xe2\x82"
                  "a",
                  0},
                 {"\xf0\x9f\x90"
                  "a",
                  0},
                 {"\xff", 0}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t n = strlen(cases[i].text);
        if (utf8_length(cases[i].text, n) != cases[i].length)
            fail_msg("case %zu", i);
        for (size_t left = 1; left < cases[i].length; left++) {
            char *cut = malloc(left); /* exactly, so that a sanitizer sees one byte too many */
            assert_non_null(cut);
            memcpy(cut, cases[i].text, left);
            assert_int_equal(utf8_length(cut, left), 0);
            free(cut);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts),
        cmocka_unit_test(cuts),
        cmocka_unit_test(controls),
        cmocka_unit_test(utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

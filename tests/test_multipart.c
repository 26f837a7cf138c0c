// SPDX-License-Identifier: MIT
//
// test_multipart.c - multipart/form-data and base64: what is taken, what is refused, every cut.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base64.h"
#include "daemon/multipart.h"

#define FILE_PART "Content-Disposition: form-data; name=\"image\"; filename=\"a.jpg\"\r\nContent-Type: image/jpeg\r\n\r\n"

static int find(const char *body, size_t size, const char **file, size_t *n)
{
    struct err e;
    /* a block of exactly that size, so that a sanitizer sees one byte too many */
    static uint8_t *copy;
    free(copy);
    copy = malloc(size ? size : 1);
    assert_non_null(copy);
    memcpy(copy, body, size);
    const uint8_t *f;
    int rc = multipart_file(copy, size, "b-1", &f, n, &e);
    *file = (const char *)f;
    return rc;
}

static void accepted(void **state)
{
    static const struct {
        const char *body, *file;
    } cases[] = {
        {"--b-1\r\n" FILE_PART "JPEG\r\n--b-1--\r\n", "JPEG"},
        {"--b-1\r\n" FILE_PART "JPEG\r\n--b-1--", "JPEG"},
        {"--b-1\r\n" FILE_PART "\r\n--b-1--\r\n", ""},
        {"--b-1\r\n" FILE_PART "a\r\n--b-\r\n--b-1--", "a\r\n--b-"},
        {"--b-1\r\nContent-Disposition: form-data; name=top\r\n\r\n5\r\n--b-1\r\n" FILE_PART "X\r\n--b-1--", "X"},
        {"--b-1\r\ncontent-disposition: FORM-DATA; name=image\r\n\r\nX\r\n--b-1--", "X"},
        {"--b-1\r\nContent-Disposition: form-data; name=\"file\"\r\nContent-Transfer-Encoding: binary\r\n\r\nX\r\n--b-1--", "X"},
        {"--b-1\r\nContent-Disposition: form-data; name=\"image\"\r\n\r\nlabel\r\n--b-1\r\n" FILE_PART "X\r\n--b-1--", "X"},
        {"--b-1\r\nContent-Disposition: form-data; filename=\"a\\\"; x\"; name=x\r\n\r\nX\r\n--b-1--", "X"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *file;
        size_t n;
        assert_int_equal(find(cases[i].body, strlen(cases[i].body), &file, &n), 0);
        assert_int_equal(n, strlen(cases[i].file));
        assert_memory_equal(file, cases[i].file, n);
    }
}

static void refused(void **state)
{
    static const char *const cases[] = {
        "",
        "--b-1--",                                                                   /* no file */
        "--b-2\r\n" FILE_PART "X\r\n--b-2--",                                        /* another boundary */
        "\r\n--b-1\r\n" FILE_PART "X\r\n--b-1--",                                    /* a preamble */
        "--b-1\n" FILE_PART "X\r\n--b-1--",                                          /* bare LF */
        "--b-1\r\n" FILE_PART "X\r\n--b-1",                                          /* not closed */
        "--b-1\r\n" FILE_PART "X\r\n--b-1--\r\nmore",                                /* an epilogue */
        "--b-1\r\n" FILE_PART "X\r\n--b-1\r\n" FILE_PART "Y\r\n--b-1--",             /* two files */
        "--b-1\r\n\r\nX\r\n--b-1--",                                                 /* no disposition */
        "--b-1\r\nContent-Disposition: attachment; filename=a\r\n\r\nX\r\n--b-1--",  /* not form-data */
        "--b-1\r\nContent-Disposition: form-data; name=\"image\r\n\r\nX\r\n--b-1--", /* open quote */
        "--b-1\r\nContent-Disposition form-data\r\n\r\nX\r\n--b-1--",                /* no colon */
        "--b-1\r\nContent-Disposition: form-data; name=text\r\n\r\nX\r\n--b-1--",    /* a field only */
        "--b-1\r\nContent-Transfer-Encoding: base64\r\n" FILE_PART "WA==\r\n--b-1--",
        "--b-1\r\nContent-Disposition: form-data; name=a\r\n" FILE_PART "X\r\n--b-1--", /* twice */
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *file;
        size_t n;
        if (find(cases[i], strlen(cases[i]), &file, &n) == 0)
            print_message("case %zu was taken\n", i);
        assert_int_equal(find(cases[i], strlen(cases[i]), &file, &n), -1);
    }
}

/* Whatever a body is cut to, it is refused: an image without its end must not be classified. */
static void cuts(void **state)
{
    static const char body[] = "--b-1\r\n" FILE_PART "JPEG\r\n--b-1--";
    (void)state;
    for (size_t n = 0; n < sizeof body - 1; n++) {
        const char *file;
        size_t size;
        assert_int_equal(find(body, n, &file, &size), -1);
    }
}

static void limits(void **state)
{
    char *body = calloc(1, 100000);
    const char *file;
    size_t n;
    (void)state;
    assert_non_null(body);
    for (int fields = MULTIPART_PARTS_MAX - 1; fields <= MULTIPART_PARTS_MAX; fields++) {
        char *p = body;
        for (int i = 0; i < fields; i++)
            p += sprintf(p, "--b-1\r\nContent-Disposition: form-data; name=f%d\r\n\r\n1\r\n", i);
        p += sprintf(p, "--b-1\r\n" FILE_PART "X\r\n--b-1--");
        assert_int_equal(find(body, (size_t)(p - body), &file, &n), fields < MULTIPART_PARTS_MAX ? 0 : -1);
    }
    for (int extra = 0; extra <= 1; extra++) {
        size_t fixed = strlen("Content-Disposition: form-data; name=image\r\nX: \r\n");
        int fill = (int)(MULTIPART_HEADER_MAX - fixed) + extra;
        int len = sprintf(body, "--b-1\r\nContent-Disposition: form-data; name=image\r\nX: %0*d\r\n\r\nX\r\n--b-1--", fill, 1);
        assert_int_equal(find(body, (size_t)len, &file, &n), extra ? -1 : 0);
    }
    free(body);
}

static void boundaries(void **state)
{
    static const struct {
        const char *type, *boundary; /* NULL: refused */
    } cases[] = {
        {"multipart/form-data; boundary=abc", "abc"},
        {"multipart/form-data; charset=x; BOUNDARY=\"a b\"", "a b"},
        {"multipart/form-data;boundary=a-'()+_,./:?", "a-'()+_,./:?"},
        {"multipart/form-data", NULL},
        {"multipart/form-data; boundary=", NULL},
        {"multipart/form-data; boundary=\"a", NULL},
        {"multipart/form-data; boundary=\"a \"", NULL},
        {"multipart/form-data; boundary=a; boundary=b", NULL},
        {"multipart/form-data; boundary=a<b", NULL},
        {"multipart/form-data; boundary", NULL},
        {"multipart/form-data; boundary=0123456789012345678901234567890123456789012345678901234567890123456789",
         "0123456789012345678901234567890123456789012345678901234567890123456789"},
        {"multipart/form-data; boundary=01234567890123456789012345678901234567890123456789012345678901234567890", NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char out[71];
        struct err e;
        int rc = multipart_boundary(cases[i].type, out, &e);
        assert_int_equal(rc, cases[i].boundary ? 0 : -1);
        if (cases[i].boundary)
            assert_string_equal(out, cases[i].boundary);
    }
}

static int decode(const char *text, char *out, size_t *n)
{
    struct err e;
    strcpy(out, text);
    return base64_decode(out, strlen(text), n, &e);
}

static void base64(void **state)
{
    static const struct {
        const char *text, *bytes; /* NULL: refused */
    } cases[] = {
        {"", ""},
        {"Zg==", "f"},
        {"Zm8=", "fo"},
        {"Zm9v", "foo"},
        {"Zm9vYg==", "foob"},
        {"Zm9vYmFy", "foobar"},
        {"+/+/", "\xfb\xff\xbf"},
        {"Zg", NULL},
        {"Zg=", NULL},
        {"Zh==", NULL},
        {"Zm9=", NULL},
        {"Zg==Zg==", NULL},
        {"Z===", NULL},
        {"====", NULL},
        {"Zm9v\r\n\r\n", NULL},
        {"Zm 9", NULL},
        {"-_-_", NULL},
        {"Zm9\x80", NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char out[32];
        size_t n = 99;
        assert_int_equal(decode(cases[i].text, out, &n), cases[i].bytes ? 0 : -1);
        if (cases[i].bytes) {
            assert_int_equal(n, strlen(cases[i].bytes));
            assert_memory_equal(out, cases[i].bytes, n);
        }
    }
    char out[8];
    size_t n;
    assert_int_equal(decode("AAEC", out, &n), 0); /* bytes 0, 1, 2 */
    assert_memory_equal(out, "\0\1\2", 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(accepted), cmocka_unit_test(refused),    cmocka_unit_test(cuts),
                                       cmocka_unit_test(limits),   cmocka_unit_test(boundaries), cmocka_unit_test(base64)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: MIT
//
// test_estimate.c - what admission reserves for an image: never less than the decoder takes of it, the least for what is refused.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "daemon/estimate.h"
#include "tests/make_image.h"

#define LEAST (512 * 1024)

static const struct preprocess whole = {.resize = RESIZE_NONE};

static size_t estimate(struct bytes b, const struct image_limits *limits)
{
    size_t n = estimate_decode(b.data, b.size, limits, &whole);
    free(b.data);
    return n;
}

static size_t jpeg(struct jpeg_kind kind, const struct image_limits *limits)
{
    return estimate(make_jpeg(640, 480, &kind), limits);
}

#define PIXELS (640 * 480)

static void coefficients(void **state)
{
    (void)state;
    size_t plain = jpeg((struct jpeg_kind){.components = 3}, &image_limits_default);
    assert_true(plain >= LEAST + PIXELS * 3);
    assert_true(jpeg((struct jpeg_kind){.components = 3, .progressive = 1}, &image_limits_default) >= plain + PIXELS * 3);
    /* sequential, but each component in a scan of its own: libjpeg keeps all of it as well */
    assert_true(jpeg((struct jpeg_kind){.components = 3, .scans = 3}, &image_limits_default) >= plain + PIXELS * 3);
}

/* Bytes that libjpeg passes over must not hide the frame. */
static void hidden_frame(void **state)
{
    (void)state;
    struct bytes b = make_jpeg(640, 480, &(struct jpeg_kind){.components = 3});
    size_t honest = estimate_decode(b.data, b.size, &image_limits_default, &whole);
    uint8_t *longer = malloc(b.size + 4);
    assert_non_null(longer);
    memcpy(longer, b.data, 2);
    memcpy(longer + 2, "\xff\x00\x7f\xf0", 4);
    memcpy(longer + 6, b.data + 2, b.size - 2);
    assert_int_equal(estimate_decode(longer, b.size + 4, &image_limits_default, &whole), honest);
    free(longer);
    free(b.data);
}

/* At a limit it is reserved for; one beyond, the decoder refuses it at its header. */
static void limits(void **state)
{
    struct image_limits l = image_limits_default;
    struct jpeg_kind kind = {.components = 3};
    (void)state;
    l.pixels = PIXELS;
    l.decoder_bytes = 1 << 20; /* less than the image: that is no reason to let it in for nothing */
    assert_true(jpeg(kind, &l) >= LEAST + PIXELS * 3);
    kind.progressive = 1;
    assert_true(jpeg(kind, &l) >= LEAST + PIXELS * 3 + (1 << 20));
    l.pixels = PIXELS - 1;
    assert_int_equal(jpeg(kind, &l), LEAST);
    l.pixels = PIXELS;
    l.width = 639;
    assert_int_equal(jpeg(kind, &l), LEAST);
#ifdef HAVE_PNG
    l.width = 640;
    assert_true(estimate(make_png(640, 480, 2, 8, 0, 0, 0), &l) >= LEAST + PIXELS * 3 + (1 << 20));
    l.height = 479;
    assert_int_equal(estimate(make_png(640, 480, 2, 8, 0, 0, 0), &l), LEAST);
#endif
}

static void every_cut(void **state)
{
    (void)state;
    struct bytes b = make_jpeg(16, 16, &(struct jpeg_kind){.components = 3, .progressive = 1});
    for (size_t n = 0; n <= b.size; n++) {
        uint8_t *cut = malloc(n ? n : 1); /* exactly, so that a sanitizer sees one byte too many */
        assert_non_null(cut);
        memcpy(cut, b.data, n);
        assert_true(estimate_decode(cut, n, &image_limits_default, &whole) >= LEAST);
        free(cut);
    }
    free(b.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(coefficients),
        cmocka_unit_test(hidden_frame),
        cmocka_unit_test(limits),
        cmocka_unit_test(every_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

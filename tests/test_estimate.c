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

/* ---- bytes made by hand */

/* Exactly these bytes, so that a sanitizer sees one too many. */
static size_t of(const char *bytes, size_t size, const struct preprocess *p)
{
    uint8_t *copy = malloc(size);
    assert_non_null(copy);
    memcpy(copy, bytes, size);
    size_t n = estimate_decode(copy, size, &image_limits_default, p);
    free(copy);
    return n;
}
#define OF(bytes) of(bytes, sizeof(bytes) - 1, &whole)

#define START           "\xff\xd8"
#define SIZE            "\x01\xe0\x02\x80"                                                           /* 480, 640 */
#define FRAME(marker)   "\xff" marker "\x00\x11\x08" SIZE "\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01" /* 4:2:0 */
#define SCAN            "\xff\xda\x00\x0c\x03\x01\x00\x02\x11\x03\x11\x00\x3f\x00"
#define DECODED(pixels) (LEAST + (size_t)(pixels)*3 * 2 + (size_t)(pixels)*3 / 2)

static void jpeg_markers(void **state)
{
    const size_t plain = DECODED(PIXELS), kept = plain + PIXELS * 2 * 6 / 4;
    (void)state;
    assert_int_equal(OF(START FRAME("\xc0") SCAN), plain);
    assert_int_equal(OF(START FRAME("\xc1") SCAN), plain);
    assert_int_equal(OF(START FRAME("\xc2") SCAN), kept);
    assert_int_equal(OF(START FRAME("\xca") SCAN), kept);
    assert_int_equal(OF(START FRAME("\xc0") "\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"), kept); /* one component alone */
    /* tables and other things that stand where a frame could */
    assert_int_equal(OF(START FRAME("\xc4") SCAN), LEAST);
    assert_int_equal(OF(START FRAME("\xc8") SCAN), LEAST);
    assert_int_equal(OF(START FRAME("\xcc") SCAN), LEAST);
    assert_int_equal(OF(START FRAME("\xfe") SCAN), LEAST);
    assert_int_equal(OF(START FRAME("\xc4") FRAME("\xc2") SCAN), kept);
    /* markers without a length */
    assert_int_equal(OF(START "\xff\x01\xff\xd0\xff\xd9" FRAME("\xc2") SCAN), kept);
    /* the first frame counts; what follows the first scan does not */
    assert_int_equal(OF(START FRAME("\xc2") "\xff\xc0\x00\x0b\x08\x00\x01\x00\x01\x01\x01\x11\x00" SCAN), kept);
    assert_int_equal(OF(START SCAN FRAME("\xc2")), LEAST);
    /* 255 components, of which none is there, then one */
    assert_int_equal(OF(START "\xff\xc2\x00\x08\x08" SIZE "\xff\xff\xda\x00\x02"), plain);
    assert_true(OF(START "\xff\xc2\x00\x08\x08" SIZE "\xff" SCAN) > plain);
}

/* What is decoded at a half, a quarter or an eighth takes that much less, and never less than the resize asks for. */
static void scales(void **state)
{
    static const struct {
        struct preprocess p;
        int d;
    } cases[] = {
        {{.resize = RESIZE_SHORTER, .size = 60}, 8},
        {{.resize = RESIZE_SHORTER, .size = 61}, 4},
        {{.resize = RESIZE_SHORTER, .size = 240}, 2},
        {{.resize = RESIZE_SHORTER, .size = 241}, 1},
        {{.resize = RESIZE_SHORTER, .size = 600}, 1},
        {{.resize = RESIZE_EXACT, .width = 32, .height = 120}, 4},
        {{.resize = RESIZE_EXACT, .width = 121, .height = 32}, 2},
        {{.resize = RESIZE_NONE}, 1},
    };
    static const char wide[] = START FRAME("\xc0") SCAN,
                      high[] = START "\xff\xc0\x00\x0b\x08\x02\x80\x01\xe0\x01\x01\x11\x00" SCAN;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const size_t expected = DECODED(PIXELS / cases[i].d / cases[i].d);
        assert_int_equal(of(wide, sizeof wide - 1, &cases[i].p), expected);
        assert_int_equal(of(high, sizeof high - 1, &cases[i].p), expected);
    }
}

static void other_formats(void **state)
{
    static const struct preprocess smaller = {.resize = RESIZE_SHORTER, .size = 10};
    static const struct {
        const char *bytes;
        size_t size;
    } cases[] = {
#define CASE(b) {b, sizeof(b) - 1}
        CASE("\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\x02\x80\0\0\x01\xe0\x08\x02\0\0\0"),
        CASE("RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\x7f\x02\0\xdf\x01\0"),
        CASE("RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f\x7f\xc2\x77\0\0\0\0\0\0"), /* 639 | 479 << 14 */
        CASE("RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a\x80\x02\xe0\x01"),
#undef CASE
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(of(cases[i].bytes, cases[i].size, &whole), DECODED(PIXELS) + PIXELS * 5);
        assert_int_equal(of(cases[i].bytes, cases[i].size, &smaller), DECODED(PIXELS) + PIXELS * 5); /* decoded whole */
        assert_int_equal(of(cases[i].bytes, cases[i].size - 1, &whole), LEAST);
    }
    assert_int_equal(OF("GIF89a"), LEAST);
#ifdef HAVE_WEBP
    const size_t all = DECODED(PIXELS) + PIXELS * 5;
    assert_int_equal(estimate(make_webp(640, 480, 0, 0, 0), &image_limits_default), all);
    assert_int_equal(estimate(make_webp(640, 480, 0, 1, 0), &image_limits_default), all);
    assert_int_equal(estimate(make_webp(640, 480, 1, 0, 0), &image_limits_default), all);
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
        cmocka_unit_test(coefficients), cmocka_unit_test(hidden_frame), cmocka_unit_test(limits),
        cmocka_unit_test(jpeg_markers), cmocka_unit_test(scales),       cmocka_unit_test(other_formats),
        cmocka_unit_test(every_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

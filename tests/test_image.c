// SPDX-License-Identifier: MIT
//
// test_image.c - what every kind of image decodes to: pixels, turns, conversions, scaled decoding; and real files where they are.
// Limits, damage and lack of memory are in test_image_limits.c.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "config.h"
#include "daemon/image.h"
#include "tests/files.h"
#include "tests/make_image.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef HAVE_PNG
#include <png.h>
#endif

static struct image decode(struct bytes b, const struct preprocess *want)
{
    struct image i;
    struct err e = {0};
    if (image_decode(b.data, b.size, &image_limits_default, want, &i, &e))
        fail_msg("not decoded: %s", e.text);
    return i;
}

/* The error of an image that must be refused; b is freed. */
static struct err refuse(struct bytes b)
{
    struct image i = {.width = 77};
    struct err e = {.code = ERR_INTERNAL};
    assert_int_equal(image_decode(b.data, b.size, &image_limits_default, NULL, &i, &e), -1);
    assert_int_equal(i.width, 77); /* written on success only */
    free(b.data);
    return e;
}

static struct bytes text_bytes(const char *text, size_t size)
{
    struct bytes b = {malloc(size ? size : 1), size};
    assert_non_null(b.data);
    memcpy(b.data, text, size);
    return b;
}

/* Every pixel of an upright decode is the pattern's within `slack`. */
static void assert_pattern(const struct image *i, int gray, int slack)
{
    for (int y = 0; y < i->height; y++)
        for (int x = 0; x < i->width; x++)
            for (int c = 0; c < 3; c++) {
                int is = i->rgb[(y * i->width + x) * 3 + c], should = pattern(x, y, i->width, i->height, gray ? 0 : c);
                if (abs(is - should) > slack)
                    fail_msg("pixel %d,%d channel %d is %d, not %d", x, y, c, is, should);
            }
}

static void recognises_by_content(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        enum image_format format;
    } cases[] = {
        {"\xff\xd8\xff\xe0", 4, IMAGE_JPEG},
        {"\xff\xd8", 2, IMAGE_JPEG},
        {"\xff", 1, IMAGE_UNKNOWN},
        {"", 0, IMAGE_UNKNOWN},
        {"\x89PNG\r\n\x1a\n", 8, IMAGE_PNG},
        {"\x89PNG\r\n\x1a", 7, IMAGE_UNKNOWN},
        {"\x89PNG\n\x1a\n\n", 8, IMAGE_UNKNOWN},
        {"RIFF\0\0\0\0WEBP", 12, IMAGE_WEBP},
        {"RIFX\0\0\0\0WEBP", 12, IMAGE_UNKNOWN},
        {"RIFF\0\0\0\0WAVE", 12, IMAGE_UNKNOWN},
        {"GIF89a", 6, IMAGE_UNKNOWN},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bytes b = text_bytes(cases[i].bytes, cases[i].size);
        assert_int_equal(image_recognise(b.data, b.size), cases[i].format);
        free(b.data);
    }
    assert_string_equal(image_format_name(IMAGE_JPEG), "jpeg");
    assert_string_equal(image_format_name(IMAGE_PNG), "png");
    assert_string_equal(image_format_name(IMAGE_WEBP), "webp");
    assert_string_equal(image_format_name(IMAGE_UNKNOWN), "unknown");
}

static void says_what_it_reads(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        const char *says;
    } cases[] = {{"", 0, "no image"},
                 {"<html>cat</html>", 16, "not an image"},
                 {"GIF89a", 6, "GIF"},
                 {"\0\0\0\x18"
                  "ftypheic",
                  12, "HEIC"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e = refuse(text_bytes(cases[i].bytes, cases[i].size));
        assert_int_equal(e.code, ERR_UNSUPPORTED);
        assert_non_null(strstr(e.text, cases[i].says));
        assert_non_null(strstr(e.text, "send JPEG"));
#ifdef HAVE_PNG
        assert_non_null(strstr(e.text, "PNG"));
#endif
#ifdef HAVE_WEBP
        assert_non_null(strstr(e.text, "WebP"));
#endif
    }
#ifndef HAVE_PNG
    assert_int_equal(refuse(text_bytes("\x89PNG\r\n\x1a\n", 8)).code, ERR_UNSUPPORTED);
#endif
#ifndef HAVE_WEBP
    assert_int_equal(refuse(text_bytes("RIFF\0\0\0\0WEBP", 12)).code, ERR_UNSUPPORTED);
#endif
}

static void decodes_jpeg_kinds(void **state)
{
    (void)state;
    static const struct jpeg_kind kinds[] = {{.components = 1},
                                             {.components = 1, .progressive = 1},
                                             {.components = 3},
                                             {.components = 3, .progressive = 1},
                                             {.components = 1, .scans = 100}};
    static const int sizes[][2] = {{1, 1}, {1, 40}, {37, 1}, {8, 8}, {17, 33}, {64, 31}};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            struct bytes b = make_jpeg(sizes[s][0], sizes[s][1], &kinds[k]);
            struct image i = decode(b, NULL);
            assert_int_equal(i.format, IMAGE_JPEG);
            assert_int_equal(i.width, sizes[s][0]);
            assert_int_equal(i.height, sizes[s][1]);
            assert_int_equal(i.orientation, 1);
            assert_int_equal(i.warnings, 0);
            assert_pattern(&i, kinds[k].components == 1, 6);
            image_free(&i);
            assert_null(i.rgb);
            free(b.data);
        }
    image_free(NULL);
}

/* Ink is stored inverted, so channel 3 is the white that black leaves; what is left of the light is ink times white. */
static void converts_cmyk(void **state)
{
    (void)state;
    for (int components = 4; components <= 5; components++) {
        struct bytes b = make_jpeg(40, 24, &(struct jpeg_kind){.components = components});
        struct image i = decode(b, NULL);
        for (int y = 0; y < 24; y++)
            for (int x = 0; x < 40; x++)
                for (int c = 0; c < 3; c++) {
                    int should = pattern(x, y, 40, 24, c) * pattern(x, y, 40, 24, 3) / 255;
                    assert_in_range(abs(i.rgb[(y * 40 + x) * 3 + c] - should), 0, 6);
                }
        image_free(&i);
        free(b.data);
    }
}

static void decodes_or_refuses_arithmetic(void **state)
{
    (void)state;
    if (!make_jpeg_arithmetic())
        skip();
    struct bytes b = make_jpeg(33, 17, &(struct jpeg_kind){.components = 3, .arithmetic = 1});
    struct image i;
    struct err e = {0};
    if (image_decode(b.data, b.size, &image_limits_default, NULL, &i, &e)) {
        assert_int_equal(e.code, ERR_UNSUPPORTED);
    } else {
        assert_pattern(&i, 0, 6);
        image_free(&i);
    }
    free(b.data);
}

/* Place of the first byte behind marker 0xff `code` and its length field: the marker's content. */
static uint8_t *marker(struct bytes b, int code)
{
    for (size_t at = 2; at + 4 <= b.size; at += 2U + b.data[at + 2] * 256U + b.data[at + 3])
        if (b.data[at + 1] == code)
            return b.data + at + 4;
    fail_msg("no marker %02x", (unsigned)code);
    return NULL;
}

static void refuses_kinds_of_jpeg(void **state)
{
    (void)state;
    const struct jpeg_kind gray = {.components = 1};
    struct bytes b = make_jpeg(16, 16, &gray);
    marker(b, 0xc0)[0] = 12; /* bits per sample */
    assert_int_equal(refuse(b).code, ERR_UNSUPPORTED);
    b = make_jpeg(16, 16, &gray);
    marker(b, 0xc0)[-3] = 0xf7; /* JPEG-LS */
    assert_int_equal(refuse(b).code, ERR_UNSUPPORTED);
    b = make_jpeg(16, 16, &gray);
    marker(b, 0xc0)[-3] = 0xc7; /* hierarchical, lossless: read by no version of libjpeg */
    assert_int_equal(refuse(b).code, ERR_UNSUPPORTED);
    b = make_jpeg(16, 16, &(struct jpeg_kind){.components = 2});
    struct err e = refuse(b);
    assert_int_equal(e.code, ERR_UNSUPPORTED);
    assert_non_null(strstr(e.text, "2 components"));
    b = make_jpeg(16, 16, &gray);
    memset(marker(b, 0xc0) + 1, 0, 2); /* height; DNL would state it later */
    assert_int_equal(refuse(b).code, ERR_DAMAGED);
}

/* EXIF 2.3, tag 0x0112: which side of the scene row 0 and column 0 of the file show. The file's pixel of upright pixel (x, y). */
static void source_of(int orientation, int x, int y, int w, int h, int *from_x, int *from_y)
{
    int right = w - 1 - x, bottom = h - 1 - y; /* w, h: of the upright image */
    int table[9][2] = {[1] = {x, y}, [2] = {right, y}, [3] = {right, bottom}, [4] = {x, bottom},
                       [5] = {y, x}, [6] = {y, right}, [7] = {bottom, right}, [8] = {bottom, x}};
    *from_x = table[orientation][0];
    *from_y = table[orientation][1];
}

static void assert_turned(struct bytes plain, struct bytes turned, int orientation)
{
    struct image p = decode(plain, NULL), t = decode(turned, NULL);
    assert_int_equal(p.orientation, 1);
    assert_int_equal(t.orientation, orientation);
    assert_int_equal(t.file_width, p.width);
    assert_int_equal(t.file_height, p.height);
    assert_int_equal(t.width, orientation >= 5 ? p.height : p.width);
    assert_int_equal(t.height, orientation >= 5 ? p.width : p.height);
    for (int y = 0; y < t.height; y++)
        for (int x = 0; x < t.width; x++) {
            int fx, fy;
            source_of(orientation, x, y, t.width, t.height, &fx, &fy);
            assert_memory_equal(t.rgb + (y * t.width + x) * 3, p.rgb + (fy * p.width + fx) * 3, 3);
        }
    image_free(&p);
    image_free(&t);
    free(plain.data);
    free(turned.data);
}

static void turns_upright(void **state)
{
    (void)state;
    for (int o = 1; o <= 8; o++) {
        struct bytes exif = make_exif(o & 1, o);
        struct jpeg_kind kind = {.components = 3};
        struct bytes plain = make_jpeg(45, 37, &kind);
        kind.app1 = exif.data;
        kind.app1_size = exif.size;
        assert_turned(plain, make_jpeg(45, 37, &kind), o);
        free(exif.data);
#ifdef HAVE_PNG
        assert_turned(make_png(45, 37, PNG_COLOR_TYPE_RGB, 8, 0, 0, 0), make_png(45, 37, PNG_COLOR_TYPE_RGB, 8, 0, 0, o), o);
        assert_turned(make_png(45, 37, PNG_COLOR_TYPE_RGBA, 8, 1, 0, 0), make_png(45, 37, PNG_COLOR_TYPE_RGBA, 8, 1, 0, o), o);
#endif
#ifdef HAVE_WEBP
        assert_turned(make_webp(45, 37, 0, 1, 0), make_webp(45, 37, 0, 1, o), o);
        assert_turned(make_webp(45, 37, 1, 1, 0), make_webp(45, 37, 1, 1, o), o);
#endif
    }
}

static void scales_while_decoding(void **state)
{
    (void)state;
    const struct preprocess shorter = {.resize = RESIZE_SHORTER, .size = 10}, none = {.resize = RESIZE_NONE};
    const struct preprocess wide = {.resize = RESIZE_EXACT, .width = 20, .height = 10};
    const struct {
        const struct preprocess *want;
        int w, h, orientation, out_w, out_h;
    } cases[] = {
        {&shorter, 100, 80, 1, 13, 10}, {&shorter, 100, 79, 1, 25, 20}, {&shorter, 40, 100, 1, 10, 25},
        {&shorter, 39, 100, 1, 20, 50}, {&shorter, 20, 20, 1, 10, 10},  {&shorter, 19, 100, 1, 19, 100},
        {&wide, 160, 80, 1, 20, 10},    {&wide, 159, 80, 1, 40, 20},    {&wide, 160, 79, 1, 40, 20},
        {&wide, 80, 160, 6, 20, 10},    {&wide, 80, 160, 1, 20, 40},    {&none, 160, 80, 1, 160, 80},
        {NULL, 160, 80, 1, 160, 80},
    };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        struct bytes exif = make_exif(0, cases[k].orientation);
        struct bytes b =
            make_jpeg(cases[k].w, cases[k].h, &(struct jpeg_kind){.components = 3, .app1 = exif.data, .app1_size = exif.size});
        struct image i = decode(b, cases[k].want);
        assert_int_equal(i.width, cases[k].out_w);
        assert_int_equal(i.height, cases[k].out_h);
        assert_int_equal(i.file_width, cases[k].w);
        assert_int_equal(i.file_height, cases[k].h);
        if (cases[k].orientation == 1) /* a scaled pixel is the mean of up to 8 steps of the pattern */
            assert_pattern(&i, 0, 20);
        image_free(&i);
        free(b.data);
        free(exif.data);
    }
}

static void decodes_every_png(void **state)
{
    (void)state;
#ifdef HAVE_PNG
    static const struct {
        int type, depths[6];
    } types[] = {{PNG_COLOR_TYPE_GRAY, {1, 2, 4, 8, 16}},
                 {PNG_COLOR_TYPE_PALETTE, {1, 2, 4, 8}},
                 {PNG_COLOR_TYPE_RGB, {8, 16}},
                 {PNG_COLOR_TYPE_GRAY_ALPHA, {8, 16}},
                 {PNG_COLOR_TYPE_RGB_ALPHA, {8, 16}}};
    const int w = 19, h = 35;
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (const int *depth = types[t].depths; *depth; depth++)
            for (int k = 0; k < 4; k++) {
                int interlaced = k & 1, trns = k / 2 && !(types[t].type & PNG_COLOR_MASK_ALPHA);
                struct bytes b = make_png(w, h, types[t].type, *depth, interlaced, trns, 0);
                struct image i = decode(b, NULL);
                assert_int_equal(i.format, IMAGE_PNG);
                assert_int_equal(i.width, w);
                assert_int_equal(i.height, h);
                for (int y = 0; y < h; y++)
                    for (int x = 0; x < w; x++)
                        for (int c = 0; c < 3; c++) {
                            int is = i.rgb[(y * w + x) * 3 + c];
                            int should = png_expected(x, y, w, h, types[t].type, *depth, trns, c);
                            if (is != should)
                                fail_msg("type %d depth %d interlaced %d trns %d: pixel %d,%d channel %d is %d, not %d",
                                         types[t].type, *depth, interlaced, trns, x, y, c, is, should);
                        }
                image_free(&i);
                free(b.data);
            }
#else
    skip();
#endif
}

static void decodes_webp(void **state)
{
    (void)state;
#ifdef HAVE_WEBP
    for (int k = 0; k < 4; k++) {
        int alpha = k & 1, lossless = k / 2, w = 41, h = 35;
        struct bytes b = make_webp(w, h, alpha, lossless, 0);
        struct image i = decode(b, NULL);
        assert_int_equal(i.format, IMAGE_WEBP);
        for (int y = 0; y < h; y++)
            for (int x = 0; x < w; x++)
                for (int c = 0; c < 3; c++) {
                    int v = pattern(x, y, w, h, c) * (alpha ? pattern(x, y, w, h, 3) : 255);
                    assert_in_range(abs(i.rgb[(y * w + x) * 3 + c] - (2 * v + 255) / 510), 0, lossless ? 0 : 12);
                }
        image_free(&i);
        free(b.data);
    }
    struct err e = refuse(make_webp_animation());
    assert_int_equal(e.code, ERR_UNSUPPORTED);
    assert_non_null(strstr(e.text, "animation"));
#else
    skip();
#endif
}

static int orientation_of(const struct bytes *exif, size_t size)
{
    struct bytes cut = text_bytes((const char *)exif->data, size);
    int o = exif_orientation(cut.data, cut.size);
    free(cut.data);
    return o;
}

static void reads_exif(void **state)
{
    (void)state;
    for (int big = 0; big <= 1; big++) {
        for (int o = 0; o <= 10; o++) {
            struct bytes b = make_exif(big, o);
            size_t value_end = EXIF_TIFF + 34;
            for (size_t n = 0; n <= b.size; n++)
                assert_int_equal(orientation_of(&b, n), n >= value_end && o >= 1 && o <= 8 ? o : 1);
            free(b.data);
        }
        /* Each of these alone makes the block one that says nothing. */
        static const struct {
            int at[2], value; /* for little and big endian */
        } flaws[] = {{{0, 0}, 'e'}, {{4, 4}, 'x'}, {{6, 6}, 'J'},    {{8, 9}, 43},  {{10, 13}, 250}, {{13, 10}, 255},
                     {{14, 15}, 1}, {{14, 15}, 0}, {{28, 29}, 0x13}, {{30, 31}, 4}, {{32, 35}, 2},   {{37, 36}, 1}};
        for (size_t k = 0; k < sizeof flaws / sizeof *flaws; k++) {
            struct bytes b = make_exif(big, 6);
            b.data[flaws[k].at[big]] = (uint8_t)flaws[k].value;
            if (exif_orientation(b.data, b.size) != 1)
                fail_msg("flaw %zu, byte order %d: %d", k, big, exif_orientation(b.data, b.size));
            free(b.data);
        }
        for (int at = 0; at < 60; at++) { /* a directory anywhere, also across the end */
            struct bytes b = make_exif(big, 6);
            b.data[big ? 13 : 10] = (uint8_t)at;
            assert_int_equal(exif_orientation(b.data, b.size), at == 8 ? 6 : 1);
            free(b.data);
        }
        struct bytes b = make_exif(big, 6);
        memset(b.data + 14, 0xff, 2); /* 65,535 entries, two of them there */
        assert_int_equal(exif_orientation(b.data, b.size), 6);
        free(b.data);
    }
    assert_int_equal(exif_tiff_orientation((const uint8_t *)"MM\0*\xff\xff\xff\xff\0\0", 10), 1);
}

/* ---- real files */

static struct bytes read_bytes(const char *path)
{
    struct bytes b = {0};
    char *text = files_read(path, &b.size);
    if (!text)
        fail_msg("cannot read %s", path);
    b = text_bytes(text, b.size);
    free(text);
    return b;
}

static void decodes_golden_files_exactly(void **state)
{
    (void)state;
    static const int sizes[][2] = {{408, 500}, {500, 375}, {500, 375}, {495, 500}, {500, 427}, {375, 500},
                                   {500, 375}, {500, 358}, {500, 375}, {470, 312}, {300, 211}, {229, 340}};
    const char *data = files_shared("RESNETD_DATA", "data");
    if (!data)
        skip();
    for (int k = 0; k < 12; k++) {
        char name[80];
        snprintf(name, sizeof name, "golden/preproc/pre%02d.jpg", k);
        struct bytes b = read_bytes(files_path(data, name));
        snprintf(name, sizeof name, "golden/preproc/pre%02d.decoded_%dx%d.rgb", k, sizes[k][0], sizes[k][1]);
        struct bytes golden = read_bytes(files_path(data, name));
        struct image i = decode(b, NULL);
        assert_int_equal(i.width, sizes[k][0]);
        assert_int_equal(i.height, sizes[k][1]);
        assert_int_equal((size_t)i.width * (size_t)i.height * 3, golden.size);
        assert_memory_equal(i.rgb, golden.data, golden.size);
        image_free(&i);
        free(b.data);
        free(golden.data);
    }
}

/* One line of INDEX.csv: file,bytes,sha256,sof,w,h,comps,prec,samp,exif_orient,adobe,djpeg_rc,... The file may be absent. */
static int check_indexed(const char *dir, char *line)
{
    char *field[12] = {0};
    for (int k = 0; k < 12 && line; k++)
        field[k] = strsep(&line, ",");
    if (!field[11])
        return 0;
    size_t size;
    char *text = files_read(files_path(dir, field[0]), &size);
    if (!text)
        return 0;
    struct bytes b = text_bytes(text, size);
    free(text);
    int w = atoi(field[4]), h = atoi(field[5]), orientation = atoi(field[9]), rc = atoi(field[11]);
    orientation = orientation ? orientation : 1;
    struct image i;
    struct err e = {0};
    clock_t start = clock();
    int failed = image_decode(b.data, b.size, &image_limits_default, NULL, &i, &e);
    double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    free(b.data);
    if (failed) {
        int large =
            w > image_limits_default.width || h > image_limits_default.height || (int64_t)w * h > image_limits_default.pixels;
        if ((rc == 0 && !large) || (large && e.code != ERR_TOO_LARGE))
            fail_msg("%s: %s", field[0], e.text);
        assert_in_range(e.code, ERR_UNSUPPORTED, ERR_TOO_LARGE);
        assert_in_range((int)seconds, 0, 2); /* milliseconds natively, but this also runs emulated and instrumented */
        return 1;
    }
    if (rc || i.file_width != w || i.file_height != h || i.orientation != orientation)
        fail_msg("%s: decoded to %dx%d, orientation %d", field[0], i.file_width, i.file_height, i.orientation);
    image_free(&i);
    return 1;
}

static void agrees_with_the_index(void **state)
{
    (void)state;
    const char *data = files_shared("RESNETD_DATA", "data");
    if (!data)
        skip();
    char dir[4096];
    snprintf(dir, sizeof dir, "%s/awkward", data);
    size_t size;
    char *index = files_read(files_path(dir, "INDEX.csv"), &size);
    assert_non_null(index);
    int n = 0;
    char *rest = index;
    for (char *line; (line = strsep(&rest, "\n"));)
        n += check_indexed(dir, line);
    printf("%d files of awkward/INDEX.csv\n", n);
    assert_true(n > 0);
    free(index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recognises_by_content),
        cmocka_unit_test(says_what_it_reads),
        cmocka_unit_test(decodes_jpeg_kinds),
        cmocka_unit_test(converts_cmyk),
        cmocka_unit_test(decodes_or_refuses_arithmetic),
        cmocka_unit_test(refuses_kinds_of_jpeg),
        cmocka_unit_test(turns_upright),
        cmocka_unit_test(scales_while_decoding),
        cmocka_unit_test(decodes_every_png),
        cmocka_unit_test(decodes_webp),
        cmocka_unit_test(reads_exif),
        cmocka_unit_test(decodes_golden_files_exactly),
        cmocka_unit_test(agrees_with_the_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: MIT
//
// test_image_limits.c - images that are too large, cut, altered or hostile, and a machine without memory: each limit at its value
// and one past it, each file cut at every length, each allocation failing in turn.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "config.h"
#include "daemon/clock.h"
#include "daemon/image.h"
#include "tests/files.h"
#include "tests/make_image.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef HAVE_PNG
#include <png.h>
#endif

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined __SANITIZE_ADDRESS__ || __has_feature(address_sanitizer) || !defined __GLIBC__
static long allocations_left = -1;
#else
/* Stands before the C library's, for the decoders' libraries too. Counts down to 0 and then gives nothing; -1: always gives. */
static long allocations_left = -1;
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);

static int refused(void)
{
    if (allocations_left > 0)
        allocations_left--;
    return allocations_left == 0;
}

void *malloc(size_t size)
{
    return refused() ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    return refused() ? NULL : __libc_calloc(n, size);
}
#endif

/* Not where a sanitizer or valgrind has its own functions in their place. */
static int can_fail_malloc(void)
{
    void *(*volatile take)(size_t) = malloc; /* the compiler knows of malloc that it looks at no variable */
    allocations_left = 0;
    void *p = take(1);
    allocations_left = -1;
    free(p);
    return !p;
}

/* 0 and the image is freed, else the error's code with *text. */
static int outcome(struct bytes b, const struct image_limits *limits, const struct preprocess *want, struct err *e)
{
    struct image i;
    struct err local = {0};
    e = e ? e : &local;
    if (image_decode(b.data, b.size, limits, want, &i, e) == 0) {
        image_free(&i);
        return -1;
    }
    return (int)e->code;
}
#define DECODED (-1)

struct sample {
    const char *name;
    struct bytes b;
};

/* 24 x 20 of every format and path: NULL ends them. */
static struct sample *samples(void)
{
    static struct sample all[16];
    int n = 0;
    struct bytes exif = make_exif(1, 6);
    all[n++] = (struct sample){"gray JPEG", make_jpeg(24, 20, &(struct jpeg_kind){.components = 1})};
    all[n++] = (struct sample){
        "JPEG", make_jpeg(24, 20, &(struct jpeg_kind){.components = 3, .app1 = exif.data, .app1_size = exif.size})};
    all[n++] = (struct sample){"CMYK JPEG", make_jpeg(24, 20, &(struct jpeg_kind){.components = 5})};
    all[n++] = (struct sample){"progressive JPEG", make_jpeg(24, 20, &(struct jpeg_kind){.components = 3, .progressive = 1})};
#ifdef HAVE_PNG
    all[n++] = (struct sample){"PNG", make_png(24, 20, PNG_COLOR_TYPE_RGB, 8, 0, 0, 6)};
    all[n++] = (struct sample){"interlaced PNG", make_png(24, 20, PNG_COLOR_TYPE_RGBA, 16, 1, 0, 0)};
#endif
#ifdef HAVE_WEBP
    all[n++] = (struct sample){"WebP", make_webp(24, 20, 0, 0, 0)};
    all[n++] = (struct sample){"lossless WebP", make_webp(24, 20, 1, 1, 6)};
#endif
    free(exif.data);
    all[n].name = NULL;
    return all;
}

static void samples_free(struct sample *s)
{
    for (; s->name; s++)
        free(s->b.data);
}

static void limits_sides_and_pixels(void **state)
{
    (void)state;
    struct sample *all = samples();
    for (struct sample *s = all; s->name; s++) {
        struct image_limits exact = image_limits_default, l;
        struct err e;
        exact.width = 24;
        exact.height = 20;
        exact.pixels = 480;
        assert_int_equal(outcome(s->b, &exact, NULL, NULL), DECODED);
        l = exact;
        l.width--;
        assert_int_equal(outcome(s->b, &l, NULL, &e), ERR_TOO_LARGE);
        assert_non_null(strstr(e.text, "24x20"));
        assert_non_null(strstr(e.text, "23x20"));
        l = exact;
        l.height--;
        assert_int_equal(outcome(s->b, &l, NULL, NULL), ERR_TOO_LARGE);
        l = exact;
        l.pixels--;
        assert_int_equal(outcome(s->b, &l, NULL, &e), ERR_TOO_LARGE);
        assert_non_null(strstr(e.text, "479"));
    }
    samples_free(all);
}

static void limits_scans(void **state)
{
    (void)state;
    for (int scans = 99; scans <= 101; scans++) {
        struct bytes b = make_jpeg(24, 20, &(struct jpeg_kind){.components = 1, .scans = scans});
        struct image_limits l = image_limits_default;
        struct err e;
        assert_int_equal(outcome(b, &l, NULL, &e), scans <= 100 ? DECODED : ERR_TOO_LARGE);
        if (scans > 100)
            assert_non_null(strstr(e.text, "100 scans"));
        l.scans = 99;
        assert_int_equal(outcome(b, &l, NULL, NULL), scans <= 99 ? DECODED : ERR_TOO_LARGE);
        free(b.data);
    }
    /* A sequential JPEG in several scans is counted as well, and at the pixel limit 20 scans are the most. */
    for (int scans = 20; scans <= 21; scans++) {
        struct bytes b = make_jpeg(24, 20, &(struct jpeg_kind){.components = 1, .scans = scans});
        struct image_limits l = image_limits_default;
        l.pixels = 480;
        assert_int_equal(outcome(b, &l, NULL, NULL), scans <= 20 ? DECODED : ERR_TOO_LARGE);
        free(b.data);
    }
}

static void limits_arithmetic_pixels(void **state)
{
    (void)state;
    if (!make_jpeg_arithmetic())
        skip();
    struct bytes b = make_jpeg(2048, 2048, &(struct jpeg_kind){.components = 1, .arithmetic = 1, .flat = 1});
    int code = outcome(b, &image_limits_default, NULL, NULL);
    free(b.data);
    if (code == ERR_UNSUPPORTED)
        skip();
    assert_int_equal(code, DECODED);
    b = make_jpeg(2048, 2049, &(struct jpeg_kind){.components = 1, .arithmetic = 1, .flat = 1});
    assert_int_equal(outcome(b, &image_limits_default, NULL, NULL), ERR_TOO_LARGE);
    free(b.data);
}

/* Of decoders that hold the whole image there is a number of bytes that just suffices; with one less the answer is "too large",
   not a damaged image. */
/* An hour is enough, the past is not; libwebp cannot be stopped. */
static void limits_time(void **state)
{
    (void)state;
    struct sample *all = samples();
    for (struct sample *s = all; s->name; s++) {
        struct image_limits l = image_limits_default;
        struct err e;
        l.deadline_ms = clock_ms() + 3600 * 1000;
        assert_int_equal(outcome(s->b, &l, NULL, NULL), DECODED);
        l.deadline_ms = clock_ms() - 1;
        if (image_recognise(s->b.data, s->b.size) == IMAGE_WEBP) {
            assert_int_equal(outcome(s->b, &l, NULL, NULL), DECODED);
            continue;
        }
        assert_int_equal(outcome(s->b, &l, NULL, &e), ERR_TOO_LARGE);
        assert_non_null(strstr(e.text, "longer than the time"));
    }
    samples_free(all);
}

static void limits_decoder_bytes(void **state)
{
    (void)state;
    const size_t pixels = 240 * 200;
    struct bytes whole[] = {
        make_jpeg(240, 200, &(struct jpeg_kind){.components = 3, .progressive = 1}),
#ifdef HAVE_PNG
        make_png(240, 200, PNG_COLOR_TYPE_RGB, 8, 1, 0, 0),
#endif
#ifdef HAVE_WEBP
        make_webp(240, 200, 0, 1, 0),
        make_webp(240, 200, 1, 0, 0),
#endif
    };
    int webps = 0;
    for (size_t k = 0; k < sizeof whole / sizeof *whole; k++) {
        size_t low = 0, high = 64 << 20; /* low fails, high suffices */
        struct image_limits l = image_limits_default;
        while (high - low > 1) {
            l.decoder_bytes = low + (high - low) / 2;
            if (outcome(whole[k], &l, NULL, NULL) == DECODED)
                high = l.decoder_bytes;
            else
                low = l.decoder_bytes;
        }
        assert_in_range(high, pixels * 3, pixels * 12);
        if (image_recognise(whole[k].data, whole[k].size) == IMAGE_WEBP)
            assert_int_equal(high, pixels * (webps++ ? 5 : 4)); /* lossless: 4; then RGBA and a plane of alpha */
        struct err e;
        l.decoder_bytes = high;
        assert_int_equal(outcome(whole[k], &l, NULL, NULL), DECODED);
        l.decoder_bytes = high - 1;
        assert_int_equal(outcome(whole[k], &l, NULL, &e), ERR_TOO_LARGE);
        assert_non_null(strstr(e.text, "memory"));
        l.decoder_bytes = 0;
        assert_int_equal(outcome(whole[k], &l, NULL, NULL), ERR_TOO_LARGE);
        free(whole[k].data);
    }
}

static void claims_of_size_cost_nothing(void **state)
{
    (void)state;
    struct bytes b = make_jpeg(16, 16, &(struct jpeg_kind){.components = 3, .progressive = 1});
    uint8_t *sof = b.data + 2;
    while (sof[1] != 0xc2)
        sof += 2 + sof[2] * 256 + sof[3];
    static const struct {
        int w, h;
        enum err_code code;
    } claims[] = {
        {65500, 65500, ERR_TOO_LARGE}, {65535, 65535, ERR_TOO_LARGE}, {1, 65535, ERR_TOO_LARGE},   {0, 16, ERR_DAMAGED},
        {16, 0, ERR_DAMAGED},          {16384, 16384, ERR_TOO_LARGE}, {7000, 7000, ERR_TOO_LARGE}, /* within the pixel limit: its
                                                                                                      coefficients take more than
                                                                                                      a decoder may */
        {3000, 3000, ERR_DAMAGED}};
    for (size_t k = 0; k < sizeof claims / sizeof *claims; k++) {
        sof[5] = (uint8_t)(claims[k].h >> 8);
        sof[6] = (uint8_t)claims[k].h;
        sof[7] = (uint8_t)(claims[k].w >> 8);
        sof[8] = (uint8_t)claims[k].w;
        assert_int_equal(outcome(b, &image_limits_default, NULL, NULL), claims[k].code);
    }
    free(b.data);
}

/* Complete at every shorter length: never, and what is missing is said to be damage. */
static void refuses_cut_images(void **state)
{
    (void)state;
    struct sample *all = samples();
    for (struct sample *s = all; s->name; s++)
        for (size_t n = 0; n < s->b.size; n++) {
            uint8_t *cut = malloc(n ? n : 1);
            assert_non_null(cut);
            memcpy(cut, s->b.data, n);
            struct err e = {0};
            int code = outcome((struct bytes){cut, n}, &image_limits_default, NULL, &e);
            int recognised = image_recognise(cut, n) != IMAGE_UNKNOWN;
            free(cut);
            /* WebP pads its last chunk and may end before metadata: the pixels are whole then. */
            int pixels_whole = strstr(s->name, "WebP") && n + 80 > s->b.size;
            if (code != (recognised ? ERR_DAMAGED : ERR_UNSUPPORTED) && !(pixels_whole && code == DECODED))
                fail_msg("%s cut to %zu of %zu bytes: %d %s", s->name, n, s->b.size, code, e.text);
        }
    samples_free(all);
}

/* Bytes that belong to nothing, between the last pixel and the end marker. */
static void refuses_surplus_before_the_end(void **state)
{
    (void)state;
    struct bytes plain = make_jpeg(24, 20, &(struct jpeg_kind){.components = 3}),
                 b = {calloc(1, plain.size + 100), plain.size + 100};
    assert_non_null(b.data);
    memcpy(b.data, plain.data, plain.size - 2);
    memcpy(b.data + b.size - 2, "\xff\xd9", 2);
    struct err e;
    assert_int_equal(outcome(plain, &image_limits_default, NULL, NULL), DECODED);
    assert_int_equal(outcome(b, &image_limits_default, NULL, &e), ERR_DAMAGED);
    assert_non_null(strstr(e.text, "extraneous"));
    free(plain.data);
    free(b.data);
}

static void ignores_what_follows(void **state)
{
    (void)state;
    struct sample *all = samples();
    for (struct sample *s = all; s->name; s++) {
        struct bytes b = {calloc(1, s->b.size + 1000), s->b.size + 1000};
        assert_non_null(b.data);
        memcpy(b.data, s->b.data, s->b.size);
        assert_int_equal(outcome(b, &image_limits_default, NULL, NULL), DECODED);
        free(b.data);
    }
    samples_free(all);
}

/* Each byte altered in turn: any answer that fits, no crash, no leak; and what checksums guard is never decoded. */
static void survives_altered_bytes(void **state)
{
    (void)state;
    struct sample *all = samples();
    struct image_limits lenient = image_limits_default;
    lenient.lenient = 1;
    for (struct sample *s = all; s->name; s++)
        for (size_t at = 0; at < s->b.size; at++) {
            uint8_t old = s->b.data[at];
            for (int k = 0; k < 3; k++) {
                s->b.data[at] = (uint8_t)(k == 0 ? old ^ 0x10 : k == 1 ? 0 : 0xff);
                struct err e = {0};
                int code = outcome(s->b, &image_limits_default, NULL, &e), changed = s->b.data[at] != old;
                outcome(s->b, &lenient, NULL, NULL);
                assert_true(code == DECODED || (code >= ERR_UNSUPPORTED && code <= ERR_TOO_LARGE));
                if (strstr(s->name, "PNG") && changed)
                    assert_int_not_equal(code, DECODED);
            }
            s->b.data[at] = old;
        }
    samples_free(all);
}

static void lenient_counts_warnings(void **state)
{
    (void)state;
    struct bytes b = make_jpeg(64, 64, &(struct jpeg_kind){.components = 3});
    struct image_limits l = image_limits_default;
    struct image i;
    struct err e;
    b.size -= 40;
    assert_int_equal(outcome(b, &l, NULL, &e), ERR_DAMAGED);
    l.lenient = 1;
    assert_int_equal(image_decode(b.data, b.size, &l, NULL, &i, &e), 0);
    assert_true(i.warnings > 0);
    assert_int_equal(i.width, 64);
    assert_in_range(abs(i.rgb[0] - pattern(0, 0, 64, 64, 0)), 0, 6);
    image_free(&i);
    free(b.data);
}

/* Every allocation from the n-th on fails, n = 1, 2, ... until the call succeeds: each failure is ERR_MEMORY and nothing else. */
static void reports_lack_of_memory(void **state)
{
    (void)state;
    if (!can_fail_malloc())
        skip();
    struct sample *all = samples();
    for (struct sample *s = all; s->name; s++) {
        /* Ours are the first three for lossless WebP. Within libwebp up to 1.3.2 the failure of a table is fatal (its table list
           is freed along an uninitialised pointer); image_webp asks for memory beforehand, which cannot be shown this way. */
        long n = 1, ours = strstr(s->name, "lossless") ? 3 : 1000;
        int code = ERR_MEMORY;
        for (; code == ERR_MEMORY && n < 1000; n++) {
            allocations_left = n <= ours ? n : -1;
            code = outcome(s->b, &image_limits_default, NULL, NULL);
            allocations_left = -1;
        }
        if (code != DECODED || n < 4)
            fail_msg("%s: error %d with %ld allocations", s->name, code, n - 2);
    }
    struct image i = {0};
    struct err e;
    assert_int_equal(image_decode(all[0].b.data, all[0].b.size, &image_limits_default, NULL, &i, &e), 0);
    struct preprocess p = {.resize = RESIZE_EXACT, .width = 7, .height = 5};
    uint8_t out[7 * 5 * 3];
    int rc = -1, n = 1;
    for (; rc && n < 100; n++) {
        allocations_left = n;
        rc = image_preprocess(&i, &p, out, &e);
        allocations_left = -1;
        assert_true(!rc || e.code == ERR_MEMORY);
    }
    assert_in_range(n, 4, 99);
    image_free(&i);
    samples_free(all);
}

static void withstands_hostile_files(void **state)
{
    (void)state;
    const char *corpora = files_shared("RESNETD_CORPORA", "corpora");
    if (!corpora)
        skip();
    static const char *const folders[] = {"jpeg-hostile", "jpeg-valid"};
    for (int k = 0; k < 2; k++) {
        char dir[4200];
        snprintf(dir, sizeof dir, "%s/%s", corpora, folders[k]);
        DIR *d = opendir(dir);
        assert_non_null(d);
        for (struct dirent *entry; (entry = readdir(d));) {
            struct bytes b;
            char *text = entry->d_name[0] == '.' ? NULL : files_read(files_path(dir, entry->d_name), &b.size);
            if (!text)
                continue;
            b.data = (uint8_t *)text;
            struct err e = {0};
            clock_t start = clock();
            int code = outcome(b, &image_limits_default, NULL, &e);
            double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
            if (k == 1 ? code != DECODED : code != DECODED && (code < ERR_UNSUPPORTED || code > ERR_TOO_LARGE))
                fail_msg("%s: %d %s", entry->d_name, code, e.text);
            assert_in_range((int)seconds, 0, 2); /* milliseconds natively, but this also runs emulated and instrumented */
            free(text);
        }
        closedir(d);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_sides_and_pixels),
        cmocka_unit_test(limits_scans),
        cmocka_unit_test(limits_time),
        cmocka_unit_test(limits_arithmetic_pixels),
        cmocka_unit_test(limits_decoder_bytes),
        cmocka_unit_test(claims_of_size_cost_nothing),
        cmocka_unit_test(refuses_cut_images),
        cmocka_unit_test(refuses_surplus_before_the_end),
        cmocka_unit_test(ignores_what_follows),
        cmocka_unit_test(survives_altered_bytes),
        cmocka_unit_test(lenient_counts_warnings),
        cmocka_unit_test(reports_lack_of_memory),
        cmocka_unit_test(withstands_hostile_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: MIT
//
// test_resize.c - resize and crop: the very bytes of Pillow 9.4 (as checksums), a plain double-precision twin, the geometry of
// torchvision's CenterCrop, the limits, and whole photographs where they are.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "daemon/image.h"
#include "tests/files.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Noise by a linear congruence, so that another program can make the same. contrast: only 0 and 255. */
static struct image noise(int w, int h, int contrast)
{
    struct image i = {.rgb = malloc((size_t)w * (size_t)h * 3), .width = w, .height = h};
    assert_non_null(i.rgb);
    uint32_t seed = 12345;
    for (size_t k = 0; k < (size_t)w * (size_t)h * 3; k++) {
        seed = seed * 1664525 + 1013904223;
        i.rgb[k] = (uint8_t)(contrast ? (seed >> 31) * 255 : seed >> 24);
    }
    return i;
}

/* The output, exactly as long as it should be, so that a sanitizer sees a write past it. */
static uint8_t *run(const struct image *i, const struct preprocess *p, int *w, int *h)
{
    struct err e = {0};
    preprocess_output_size(p, i->width, i->height, w, h);
    uint8_t *out = malloc((size_t)*w * (size_t)*h * 3);
    assert_non_null(out);
    memset(out, 77, (size_t)*w * (size_t)*h * 3);
    if (image_preprocess(i, p, out, &e))
        fail_msg("%dx%d: %s", i->width, i->height, e.text);
    return out;
}

static uint32_t fnv1a(const uint8_t *p, size_t n)
{
    uint32_t h = 2166136261U;
    while (n--)
        h = (h ^ *p++) * 16777619U;
    return h;
}

static void gives_the_bytes_of_pillow(void **state)
{
    (void)state;
    static const struct {
        int w, h, contrast;
        struct preprocess p;
        uint32_t sum; /* FNV-1a of Image.resize(...).crop(...).tobytes() */
    } cases[] = {
#define EXACT(w_, h_, f) {.resize = RESIZE_EXACT, .width = w_, .height = h_, .filter = f}
#define CROP(s, f, cw, ch)                                                                                                       \
    {                                                                                                                            \
        .resize = RESIZE_SHORTER, .size = s, .filter = f, .crop_w = cw, .crop_h = ch                                             \
    }
        {7, 5, 0, EXACT(4, 3, FILTER_BILINEAR), 0x1b26aa7b},         {4, 3, 0, EXACT(11, 9, FILTER_BILINEAR), 0x6b187fd4},
        {50, 40, 1, EXACT(13, 17, FILTER_BILINEAR), 0x94647dcc},     {13, 17, 1, EXACT(50, 40, FILTER_BILINEAR), 0x8fdbcf6a},
        {33, 20, 0, EXACT(33, 9, FILTER_BILINEAR), 0xf3e84b54},      {33, 20, 0, EXACT(12, 20, FILTER_BILINEAR), 0xa93404d5},
        {300, 2, 0, EXACT(3, 7, FILTER_BILINEAR), 0x884a2bff},       {64, 64, 0, EXACT(64, 64, FILTER_BILINEAR), 0x602bac19},
        {100, 75, 0, CROP(64, FILTER_BILINEAR, 56, 56), 0x0720b866}, {75, 100, 1, CROP(64, FILTER_BILINEAR, 56, 50), 0x3be96ccc},
        {30, 41, 0, CROP(64, FILTER_BILINEAR, 56, 56), 0x85a5e654},  {500, 9, 0, CROP(20, FILTER_BILINEAR, 18, 16), 0x5277097a},
        {7, 5, 0, EXACT(4, 3, FILTER_BICUBIC), 0x2b1870d9},          {4, 3, 0, EXACT(11, 9, FILTER_BICUBIC), 0x0b53c41e},
        {50, 40, 1, EXACT(13, 17, FILTER_BICUBIC), 0x3e904918},      {13, 17, 1, EXACT(50, 40, FILTER_BICUBIC), 0xa6993907},
        {33, 20, 0, EXACT(33, 9, FILTER_BICUBIC), 0x728c22e3},       {33, 20, 0, EXACT(12, 20, FILTER_BICUBIC), 0xe95872c7},
        {300, 2, 0, EXACT(3, 7, FILTER_BICUBIC), 0xe2a99c82},        {64, 64, 0, EXACT(64, 64, FILTER_BICUBIC), 0x602bac19},
        {100, 75, 0, CROP(64, FILTER_BICUBIC, 56, 56), 0xb93062c9},  {75, 100, 1, CROP(64, FILTER_BICUBIC, 56, 50), 0xb6005e05},
        {30, 41, 0, CROP(64, FILTER_BICUBIC, 56, 56), 0x52390330},   {500, 9, 0, CROP(20, FILTER_BICUBIC, 18, 16), 0x89000bbb},
    };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        int w, h;
        struct image i = noise(cases[k].w, cases[k].h, cases[k].contrast);
        uint8_t *out = run(&i, &cases[k].p, &w, &h);
        uint32_t sum = fnv1a(out, (size_t)w * (size_t)h * 3);
        if (sum != cases[k].sum)
            fail_msg("case %zu: %dx%d to %dx%d: checksum %08x", k, i.width, i.height, w, h, sum);
        free(out);
        image_free(&i);
    }
}

/* ---- the formula once more, slowly: no fixed point, no rounding between the passes */

static double kernel(enum resize_filter f, double x)
{
    x = fabs(x);
    if (f == FILTER_BILINEAR)
        return x < 1 ? 1 - x : 0;
    return x < 1 ? 1.5 * x * x * x - 2.5 * x * x + 1 : x < 2 ? -0.5 * x * x * x + 2.5 * x * x - 4 * x + 2 : 0;
}

static double twin(const struct image *i, int w, int h, enum resize_filter f, int x, int y, int c)
{
    double sx = (double)i->width / w, sy = (double)i->height / h, wide_x = fmax(sx, 1), wide_y = fmax(sy, 1), sum = 0,
           weights = 0;
    for (int v = 0; v < i->height; v++) {
        double wy = kernel(f, (v + 0.5 - (y + 0.5) * sy) / wide_y);
        for (int u = 0; wy != 0 && u < i->width; u++) {
            double weight = wy * kernel(f, (u + 0.5 - (x + 0.5) * sx) / wide_x);
            sum += weight * i->rgb[(v * i->width + u) * 3 + c];
            weights += weight;
        }
    }
    return fmin(fmax(sum / weights, 0), 255);
}

static void follows_the_formula(void **state)
{
    (void)state;
    static const int sizes[][4] = {{20, 20, 7, 9}, {9, 7, 21, 20}, {30, 3, 10, 8}, {1, 1, 5, 4}, {31, 17, 1, 1}, {16, 16, 16, 5}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int f = FILTER_BILINEAR; f <= FILTER_BICUBIC; f++) {
            struct preprocess p = {
                .resize = RESIZE_EXACT, .width = sizes[k][2], .height = sizes[k][3], .filter = (enum resize_filter)f};
            struct image i = noise(sizes[k][0], sizes[k][1], 0);
            int w, h;
            uint8_t *out = run(&i, &p, &w, &h);
            for (int n = 0; n < w * h * 3; n++) {
                /* The cubic overshoots: clamped between the passes, as Pillow does, it may differ more than by rounding. */
                double should = twin(&i, w, h, p.filter, n / 3 % w, n / 3 / w, n % 3);
                if (fabs(out[n] - should) > (f == FILTER_BICUBIC ? 12 : 1.1))
                    fail_msg("%dx%d to %dx%d, filter %d, place %d: %d, not %f", i.width, i.height, w, h, f, n, out[n], should);
            }
            free(out);
            image_free(&i);
        }
}

/* ---- geometry: pixels that tell their place, never resized */

static struct image places(int w, int h)
{
    struct image i = noise(w, h, 0);
    for (int n = 0; n < w * h; n++) {
        i.rgb[3 * n] = (uint8_t)(n % w + 1);
        i.rgb[3 * n + 1] = (uint8_t)(n / w + 1);
        i.rgb[3 * n + 2] = 200;
    }
    return i;
}

static void crops_as_torchvision_does(void **state)
{
    (void)state;
    static const struct {
        int n, crop, first; /* first: the image's column (row) that lands first; negative: so much black before */
    } cases[] = {{10, 10, 0},
                 {12, 10, 1},
                 {11, 10, 0} /* round(0.5) = 0 */,
                 {13, 10, 2} /* round(1.5) = 2 */,
                 {15, 10, 2} /* round(2.5) = 2 */,
                 {17, 10, 4},
                 {9, 10, 0},
                 {8, 10, -1},
                 {5, 10, -2},
                 {1, 4, -1}};
    enum { CASES = sizeof cases / sizeof *cases };
    for (int a = 0; a < CASES; a++)
        for (int b = 0; b < CASES; b++) {
            struct image i = places(cases[a].n, cases[b].n);
            struct preprocess p = {.crop_w = cases[a].crop, .crop_h = cases[b].crop};
            int w, h;
            uint8_t *out = run(&i, &p, &w, &h);
            assert_int_equal(w, p.crop_w);
            assert_int_equal(h, p.crop_h);
            for (int y = 0; y < h; y++)
                for (int x = 0; x < w; x++) {
                    int u = x + cases[a].first, v = y + cases[b].first, in = u >= 0 && u < i.width && v >= 0 && v < i.height;
                    const uint8_t *is = out + (y * w + x) * 3;
                    assert_int_equal(is[0], in ? u + 1 : 0);
                    assert_int_equal(is[1], in ? v + 1 : 0);
                    assert_int_equal(is[2], in ? 200 : 0);
                }
            free(out);
            image_free(&i);
        }
}

/* A crop of a resized image is a part of the whole resized image, wherever it lies. */
static void crop_is_a_part_of_the_whole(void **state)
{
    (void)state;
    static const int sizes[][3] = {{50, 31, 20}, {31, 50, 20}, {20, 20, 45}, {9, 60, 13}, {20, 33, 20}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int f = FILTER_BILINEAR; f <= FILTER_BICUBIC; f++) {
            struct image i = noise(sizes[k][0], sizes[k][1], 0);
            struct preprocess p = {.resize = RESIZE_SHORTER, .size = sizes[k][2], .filter = (enum resize_filter)f};
            int w, h, cw, ch, shorter = i.width < i.height ? i.width : i.height, longer = i.width + i.height - shorter;
            uint8_t *whole = run(&i, &p, &w, &h);
            assert_int_equal(i.width <= i.height ? w : h, p.size);
            assert_int_equal(i.width <= i.height ? h : w, p.size * longer / shorter);
            p.crop_w = 11;
            p.crop_h = 7;
            uint8_t *part = run(&i, &p, &cw, &ch);
            int left = (int)nearbyint((w - 11) / 2.0), top = (int)nearbyint((h - 7) / 2.0); /* half to even, as Python's round */
            for (int y = 0; y < 7; y++)
                assert_memory_equal(part + y * 33, whole + ((top + y) * w + left) * 3, 33);
            free(whole);
            free(part);
            image_free(&i);
        }
}

static void limits_sides_without_crop(void **state)
{
    (void)state;
    struct preprocess p = {.resize = RESIZE_SHORTER, .size = 8};
    struct err e;
    int w, h;
    struct image i = noise(PREPROCESS_SIDE_MAX, 8, 0);
    free(run(&i, &p, &w, &h));
    assert_int_equal(w, PREPROCESS_SIDE_MAX);
    image_free(&i);
    i = noise(PREPROCESS_SIDE_MAX + 1, 8, 0);
    uint8_t out[3];
    assert_int_equal(image_preprocess(&i, &p, out, &e), -1);
    assert_int_equal(e.code, ERR_TOO_LARGE);
    assert_non_null(strstr(e.text, "4097x8"));
    p.resize = RESIZE_NONE;
    assert_int_equal(image_preprocess(&i, &p, out, &e), -1);
    assert_int_equal(e.code, ERR_TOO_LARGE);
    image_free(&i);
}

/* 16384 x 8 becomes 524288 x 256, of which 224 columns are wanted; 8 x 16384 likewise. */
static void extreme_shapes_cost_little(void **state)
{
    (void)state;
    const struct preprocess p = {.resize = RESIZE_SHORTER, .size = 256, .crop_w = 224, .crop_h = 224};
    for (int turned = 0; turned <= 1; turned++) {
        struct image i = noise(turned ? 8 : 16384, turned ? 16384 : 8, 0);
        int w, h;
        clock_t start = clock();
        free(run(&i, &p, &w, &h));
        assert_in_range((clock() - start) / CLOCKS_PER_SEC, 0, 1); /* a millisecond natively */
        image_free(&i);
    }
}

static void meets_the_golden_crops(void **state)
{
    (void)state;
    static const int sizes[][2] = {{408, 500}, {500, 375}, {500, 375}, {495, 500}, {500, 427}, {375, 500},
                                   {500, 375}, {500, 358}, {500, 375}, {470, 312}, {300, 211}, {229, 340}};
    const struct preprocess p = {.resize = RESIZE_SHORTER, .size = 256, .crop_w = 224, .crop_h = 224};
    const char *data = files_shared("RESNETD_DATA", "data");
    if (!data)
        skip();
    for (int k = 0; k < 12; k++) {
        char name[80];
        size_t size, golden_size;
        int w, h;
        snprintf(name, sizeof name, "golden/preproc/pre%02d.decoded_%dx%d.rgb", k, sizes[k][0], sizes[k][1]);
        struct image i = {
            .rgb = (uint8_t *)files_read(files_path(data, name), &size), .width = sizes[k][0], .height = sizes[k][1]};
        snprintf(name, sizeof name, "golden/preproc/pre%02d.crop224.rgb", k);
        char *golden = files_read(files_path(data, name), &golden_size);
        assert_non_null(i.rgb);
        assert_non_null(golden);
        assert_int_equal(size, (size_t)i.width * (size_t)i.height * 3);
        uint8_t *out = run(&i, &p, &w, &h);
        assert_int_equal(golden_size, (size_t)w * (size_t)h * 3);
        assert_memory_equal(out, golden, golden_size);
        free(out);
        free(golden);
        image_free(&i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_the_bytes_of_pillow), cmocka_unit_test(follows_the_formula),
        cmocka_unit_test(crops_as_torchvision_does), cmocka_unit_test(crop_is_a_part_of_the_whole),
        cmocka_unit_test(limits_sides_without_crop), cmocka_unit_test(extreme_shapes_cost_little),
        cmocka_unit_test(meets_the_golden_crops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

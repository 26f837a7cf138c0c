// SPDX-License-Identifier: MIT
//
// test_preprocess.c - preprocessing as data: JSON both ways, sizes, values, and the quantisation that follows from it.

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "models/preprocess.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))
#define IMAGENET                                                                                                                 \
    "{\"color\":\"RGB\",\"resize\":{\"side\":\"shorter\",\"size\":256,\"filter\":\"bilinear\"},\"crop\":{\"width\":224,"         \
    "\"height\":224},\"scale\":255,\"mean\":[0.485,0.456,0.406],\"std\":[0.229,0.224,0.225]}"

static struct preprocess parse(const char *text)
{
    struct preprocess p;
    struct err e = {0};
    if (preprocess_from_json(text, &p, &e))
        fail_msg("%s\n  %s", e.text, text);
    return p;
}

static int same_floats(const float *a, const float *b, size_t n)
{
    return memcmp(a, b, n * sizeof *a) == 0;
}

static int same(const struct preprocess *a, const struct preprocess *b)
{
    return a->bgr == b->bgr && a->resize == b->resize && a->size == b->size && a->width == b->width && a->height == b->height &&
           a->filter == b->filter && a->crop_w == b->crop_w && a->crop_h == b->crop_h && same_floats(&a->scale, &b->scale, 1) &&
           same_floats(a->mean, b->mean, 3) && same_floats(a->std, b->std, 3);
}

static void check_round_trip(const struct preprocess *p)
{
    char *text = preprocess_to_json(p);
    assert_non_null(text);
    const struct preprocess back = parse(text);
    if (!same(p, &back))
        fail_msg("not the same after: %s", text);
    free(text);
}

static void presets(void **state)
{
    (void)state;
    struct preprocess p;
    struct err e = {0};
    assert_int_equal(preprocess_preset("imagenet", &p, &e), 0);
    char *text = preprocess_to_json(&p);
    assert_string_equal(text, IMAGENET);
    free(text);
    const struct preprocess read = parse(IMAGENET);
    assert_true(same(&p, &read));

    assert_int_equal(preprocess_preset("cifar10", &p, &e), 0);
    text = preprocess_to_json(&p);
    assert_string_equal(text,
                        "{\"color\":\"RGB\",\"resize\":{\"side\":\"exact\",\"width\":32,\"height\":32,\"filter\":\"bilinear\"},"
                        "\"crop\":null,\"scale\":255,\"mean\":[0.4914,0.4822,0.4465],\"std\":[0.247,0.2435,0.2616]}");
    free(text);

    assert_int_equal(preprocess_preset("imagenet1", &p, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_non_null(strstr(e.text, "cifar10"));
}

static void kinds_round_trip(void **state)
{
    (void)state;
    struct preprocess p = {.scale = 1, .std = {1, 1, 1}};
    check_round_trip(&p);
    p.bgr = 1;
    p.resize = RESIZE_EXACT;
    p.width = PREPROCESS_SIDE_MAX;
    p.height = 1;
    p.filter = FILTER_BICUBIC;
    p.crop_w = 1;
    p.crop_h = PREPROCESS_SIDE_MAX;
    check_round_trip(&p);
}

static void floats_survive(void **state)
{
    (void)state;
    uint32_t seed = 1;
    for (int i = 0; i < 20000; i++) {
        float v[7];
        for (int k = 0; k < 7; k++) {
            seed = seed * 1664525 + 1013904223;
            const uint32_t bits = (seed >> 9) | (uint32_t)(117 + (i + k) % 20) << 23; /* 2^-10 to 2^9, every mantissa */
            memcpy(&v[k], &bits, sizeof bits);
        }
        const struct preprocess p = {.scale = v[0], .mean = {v[1], -v[2], v[3]}, .std = {v[4], v[5], v[6]}};
        check_round_trip(&p);
    }
    const struct preprocess p = {
        .scale = 1e-10f, .mean = {FLT_MIN, -FLT_TRUE_MIN, 16777217.0f}, .std = {FLT_MIN * 1e20f, 1e20f, 1}};
    check_round_trip(&p);
}

static void refuses(void **state)
{
    (void)state;
    /* IMAGENET with one text replaced by another, and a word that the error must hold */
    static const struct {
        const char *from, *to, *word;
    } cases[] = {
        {IMAGENET, "", "preprocess"},
        {IMAGENET, "[]", "object"},
        {IMAGENET, "null", "object"},
        {"\"color\":\"RGB\",", "", "color"},
        {"\"RGB\"", "\"rgb\"", "color"},
        {"\"RGB\"", "3", "color"},
        {"\"scale\":255", "\"scale\":255,\"gamma\":2", "gamma"},
        {"\"scale\":255", "\"scale\":255,\"scale\":255", "scale"},
        {"\"scale\":255,", "", "scale"},
        {"\"scale\":255", "\"scale\":0", "scale"},
        {"\"scale\":255", "\"scale\":-255", "scale"},
        {"\"scale\":255", "\"scale\":\"255\"", "scale"},
        {"\"scale\":255", "\"scale\":1e39", "scale"},
        {"\"scale\":255", "\"scale\":1e-60", "scale"},
        {"\"scale\":255", "\"scale\":1e-38", "range of float"},
        {"\"scale\":255", "\"scale\":NaN", "preprocess"},
        {"[0.485,", "[", "mean"},
        {"[0.485,", "[0,0.485,", "mean"},
        {"[0.485,", "[null,", "mean"},
        {"[0.485,", "[1e40,", "mean"},
        {"[0.229,", "[0,", "std"},
        {"[0.229,", "[-0.229,", "std"},
        {"[0.229,", "[1e-39,", "std"},
        {"\"crop\":{\"width\":224,\"height\":224},", "", "crop"},
        {"{\"width\":224,\"height\":224}", "false", "crop"},
        {"{\"width\":224,\"height\":224}", "{\"width\":224}", "height"},
        {"{\"width\":224,\"height\":224}", "{\"width\":224,\"height\":224,\"x\":1}", "x"},
        {"{\"width\":224,\"height\":224}", "{\"width\":0,\"height\":224}", "width"},
        {"{\"width\":224,\"height\":224}", "{\"width\":4097,\"height\":224}", "width"},
        {"{\"width\":224,\"height\":224}", "{\"width\":224.5,\"height\":224}", "width"},
        {"\"size\":256", "\"size\":0", "size"},
        {"\"size\":256", "\"size\":4097", "size"},
        {"\"size\":256", "\"size\":256,\"width\":256", "width"},
        {"\"size\":256,", "", "size"},
        {"\"shorter\"", "\"longer\"", "side"},
        {"\"shorter\"", "\"exact\"", "size"},
        {"\"bilinear\"", "\"nearest\"", "filter"},
        {",\"filter\":\"bilinear\"", "", "filter"},
        {"\"resize\":{\"side\":\"shorter\",\"size\":256,\"filter\":\"bilinear\"},", "", "resize"},
        {"0.225]}", "0.225]}}", "preprocess"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *at = strstr(IMAGENET, cases[i].from);
        assert_non_null(at);
        char text[512];
        snprintf(text, sizeof text, "%.*s%s%s", (int)(at - IMAGENET), IMAGENET, cases[i].to, at + strlen(cases[i].from));
        struct preprocess p = {.size = 77};
        struct err e = {0};
        if (preprocess_from_json(text, &p, &e) != -1)
            fail_msg("accepted: %s", text);
        if (!strstr(e.text, cases[i].word))
            fail_msg("'%s' does not name '%s': %s", e.text, cases[i].word, text);
        assert_int_equal(p.size, 77);
    }
}

static void output_sizes(void **state)
{
    (void)state;
    static const struct {
        struct preprocess p;
        int w, h, out_w, out_h;
    } cases[] = {
        {{.resize = RESIZE_SHORTER, .size = 256, .crop_w = 224, .crop_h = 200}, 640, 480, 224, 200},
        {{.resize = RESIZE_SHORTER, .size = 256, .crop_w = 224, .crop_h = 200}, 0, 0, 224, 200},
        {{.crop_w = 224, .crop_h = 200}, 10, 10, 224, 200},
        {{.resize = RESIZE_EXACT, .width = 32, .height = 30}, 640, 480, 32, 30},
        {{.resize = RESIZE_EXACT, .width = 32, .height = 30}, 0, 0, 32, 30},
        {{.resize = RESIZE_SHORTER, .size = 256}, 640, 480, 341, 256},
        {{.resize = RESIZE_SHORTER, .size = 256}, 480, 640, 256, 341},
        {{.resize = RESIZE_SHORTER, .size = 256}, 100, 100, 256, 256},
        {{.resize = RESIZE_SHORTER, .size = 256}, 0, 0, 0, 0},
        {{.resize = RESIZE_SHORTER, .size = 4096}, 1, 2147483647, 4096, 2147483647},
        {{.resize = RESIZE_NONE}, 640, 480, 640, 480},
        {{.resize = RESIZE_NONE}, 0, 0, 0, 0},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        int w, h;
        preprocess_output_size(&cases[i].p, cases[i].w, cases[i].h, &w, &h);
        if (w != cases[i].out_w || h != cases[i].out_h)
            fail_msg("case %zu: %dx%d, not %dx%d", i, w, h, cases[i].out_w, cases[i].out_h);
    }
}

static void values(void **state)
{
    (void)state;
    const struct preprocess p = parse(IMAGENET);
    for (int c = 0; c < 3; c++)
        for (int v = 0; v < 256; v++) {
            const double exact = (v / 255.0 - p.mean[c]) / p.std[c];
            assert_true(fabs(preprocess_value(&p, c, (uint8_t)v) - exact) <= 1e-6);
        }
}

/* The range is as small as it can be, holds 0 and every value, and has 256 steps. */
static void input_quant(void **state)
{
    (void)state;
    static const struct preprocess cases[] = {
        {.scale = 255, .mean = {0.485f, 0.456f, 0.406f}, .std = {0.229f, 0.224f, 0.225f}},
        {.scale = 255, .mean = {0.5f, 0.5f, 0.5f}, .std = {0.5f, 0.25f, 0.5f}},
        {.scale = 1, .mean = {0, 0, 0}, .std = {1, 1, 1}},
        {.scale = 1, .mean = {103.9f, 116.8f, 123.7f}, .std = {1, 1, 1}},
        {.scale = 255, .mean = {-1, -2, -3}, .std = {1, 1, 1}}, /* all above 0 */
        {.scale = 255, .mean = {2, 3, 4}, .std = {1, 1, 1}},    /* all below 0 */
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        double min = 0, max = 0;
        for (int c = 0; c < 3; c++)
            for (int v = 0; v < 256; v++) {
                min = fmin(min, preprocess_value(&cases[i], c, (uint8_t)v));
                max = fmax(max, preprocess_value(&cases[i], c, (uint8_t)v));
            }
        const struct quant q = preprocess_quant(&cases[i]);
        assert_true(fabs(q.scale * 255.0 / (max - min) - 1) < 1e-6);
        assert_in_range(q.zero + 128, 0, 255);
        assert_true(fabs(q.scale * (-128.0 - q.zero) - min) <= 0.501 * q.scale);
        assert_true(fabs(q.scale * (127.0 - q.zero) - max) <= 0.501 * q.scale);
    }
    const struct quant raw = preprocess_quant(&cases[2]);
    assert_true(raw.scale == 1.0f);
    assert_int_equal(raw.zero, -128);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(presets),     cmocka_unit_test(kinds_round_trip), cmocka_unit_test(floats_survive),
        cmocka_unit_test(refuses),     cmocka_unit_test(output_sizes),     cmocka_unit_test(values),
        cmocka_unit_test(input_quant),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

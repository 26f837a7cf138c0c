// SPDX-License-Identifier: MIT
//
// Histograms and the ranges that follow from them, against numbers worked out by hand.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "models/quantize/ranges.h"

#define MIDDLE (HISTOGRAM_BINS / 2)

static void near(float a, float b, float tolerance)
{
    if (!(fabsf(a - b) <= tolerance))
        fail_msg("%g is not %g", (double)a, (double)b);
}

static void counting(void **unused)
{
    (void)unused;
    struct histogram h = {0};
    const float first[5] = {0, 0.75f, -0.5f, 0, 0.9999f}, second[2] = {3.5f, -0.0f};
    struct range r = histogram_add(&h, first, 5);
    assert_true(r.min == -0.5f && r.max == 0.9999f);
    assert_true(h.limit == 1 && h.count == 5 && h.zeros == 2 && h.images == 1);
    assert_int_equal(h.bins[MIDDLE + MIDDLE * 3 / 4], 1);
    assert_int_equal(h.bins[MIDDLE - MIDDLE / 2], 1);
    assert_int_equal(h.bins[HISTOGRAM_BINS - 1], 1);
    /* 3.5 needs [-4, 4): bins merge four by four. */
    histogram_add(&h, second, 2);
    assert_true(h.limit == 4 && h.min == -0.5f && h.max == 3.5f && h.zeros == 3 && h.count == 7);
    assert_int_equal(h.bins[MIDDLE + MIDDLE * 3 / 16], 1);
    assert_int_equal(h.bins[MIDDLE - MIDDLE / 8], 1);
    assert_int_equal(h.bins[MIDDLE + MIDDLE / 4 - 1], 1);
    assert_int_equal(h.bins[MIDDLE + MIDDLE * 7 / 8], 1);
    near(histogram_border(&h, MIDDLE + MIDDLE * 7 / 8), 3.5f, 0);
    near(histogram_border(&h, HISTOGRAM_BINS), 4, 0);
    const float wrong[2] = {1, NAN}, large[1] = {-INFINITY};
    assert_false(h.broken);
    histogram_add(&h, wrong, 2);
    assert_true(h.broken && h.count == 7);
    h.broken = 0;
    histogram_add(&h, large, 1);
    assert_true(h.broken);
}

/* What two threads saw apart is what one would have seen. */
static void merging(void **unused)
{
    (void)unused;
    static float values[3][1000];
    static struct histogram whole, a, b, empty;
    unsigned state = 1;
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 1000; k++) {
            state = state * 1103515245u + 12345u;
            values[i][k] = ((float)(state >> 16) / 32768 - 1) * (i == 1 ? 40.0f : 0.3f);
            histogram_add(i == 1 ? &b : &a, &values[i][k], 1);
            histogram_add(&whole, &values[i][k], 1);
        }
    assert_true(a.limit < b.limit);
    struct histogram other = b;
    histogram_merge(&b, &a); /* coarse from fine */
    assert_memory_equal(&b, &whole, sizeof b);
    histogram_merge(&a, &other); /* fine from coarse */
    assert_memory_equal(&a, &whole, sizeof a);
    histogram_merge(&a, &empty);
    histogram_merge(&empty, &a);
    assert_memory_equal(&empty, &whole, sizeof a);
}

static void average(void **unused)
{
    (void)unused;
    struct histogram h = {0};
    const float one[2] = {-1, 2}, two[2] = {-3, 1};
    histogram_average(&h, histogram_add(&h, one, 2));
    histogram_average(&h, histogram_add(&h, two, 2));
    struct range r = range_find(&h, RANGE_AVERAGE); /* -1 + 0.01 (-3 + 1), 2 + 0.01 (1 - 2) */
    near(r.min, -1.02f, 1e-6f);
    near(r.max, 1.99f, 1e-6f);
    r = range_find(&h, RANGE_MINMAX);
    assert_true(r.min == -3 && r.max == 2);
}

/* 100,000 values: 2 at 900, 13 at 500, the rest evenly over [0, 100). */
static struct histogram with_tail(void)
{
    static float values[100000];
    struct histogram h = {0};
    for (int i = 0; i < 99985; i++)
        values[i] = 100 * (float)i / 99985;
    for (int i = 0; i < 13; i++)
        values[99985 + i] = 500;
    values[99998] = values[99999] = 900;
    histogram_add(&h, values, 100000);
    return h;
}

static void percentile(void **unused)
{
    (void)unused;
    struct histogram h = with_tail();
    const float bin = h.limit / MIDDLE;
    struct range r = range_find(&h, RANGE_PERCENTILE_99_999); /* one value lies above */
    near(r.max, 900, bin);
    near(r.min, 0, bin);
    r = range_find(&h, RANGE_PERCENTILE_99_99); /* ten do, so it is among those of 500 */
    near(r.max, 500, bin);
    /* Zeros count: with as many again, the twenty beyond reach into the many. */
    h.zeros += 100000;
    h.count += 100000;
    r = range_find(&h, RANGE_PERCENTILE_99_99);
    near(r.max, 100, 2 * bin);
    assert_true(r.min >= 0);
}

static void squared_error(void **unused)
{
    (void)unused;
    static struct histogram h;
    /* Steps of 1: 10.25 costs 1/16 and 300, clipped to 255, costs 45 squared; 0 costs nothing. */
    const float values[3] = {10.25f, 300, 0};
    histogram_add(&h, values, 3);
    const double half_bin = 512.0 / MIDDLE / 2,
                 expected = ((0.25 + half_bin) * (0.25 + half_bin) + (45 + half_bin) * (45 + half_bin)) / 3;
    near((float)range_error(&h, (struct range){0, 255}), (float)expected, 1e-2f);
    /* Many small values and one tenfold outlier: it is clipped. Ten thousand evenly spread ones: nothing is. */
    static struct histogram clip, even;
    static float many[10001];
    for (int i = 0; i < 10000; i++)
        many[i] = (float)i / 10000;
    many[10000] = 1;
    histogram_add(&even, many, 10001);
    near(range_find(&even, RANGE_MSE).max, 1, 0.03f);
    many[10000] = 1.5f;
    histogram_add(&clip, many, 10001);
    const struct range r = range_find(&clip, RANGE_MSE);
    assert_true(range_error(&clip, r) <= range_error(&clip, (struct range){0, 1.5f}));
    for (float m = 0.6f; m <= 1.5f; m += 0.1f)
        assert_true(range_error(&clip, r) <= range_error(&clip, (struct range){0, m}) * 1.02);
}

static void entropy(void **unused)
{
    (void)unused;
    /* An even distribution keeps its range; a single value far outside is given up. */
    static struct histogram even, tail;
    static float values[100001];
    for (int i = 0; i < 100000; i++)
        values[i] = (float)(i + 1) / 100000;
    histogram_add(&even, values, 100000);
    assert_true(range_find(&even, RANGE_ENTROPY).max > 0.9f);
    for (int i = 0; i < 100000; i++)
        values[i] = -0.2f * logf(values[i]) + 1e-6f;
    values[100000] = 40; /* 17 times the next */
    histogram_add(&tail, values, 100001);
    struct range r = range_find(&tail, RANGE_ENTROPY);
    assert_true(r.max < 20 && r.max > 2);
    for (int i = 0; i < 100000; i++)
        values[i] = -(float)(i + 1) / 100000;
    static struct histogram both;
    histogram_add(&both, values, 100000);
    r = range_find(&both, RANGE_ENTROPY);
    assert_true(r.max <= 0 && r.min < -0.9f && r.min >= -1); /* never beyond what was seen */
}

static void nothing_but_zeros(void **unused)
{
    (void)unused;
    static struct histogram h;
    const float values[3] = {0, 0, 0};
    histogram_average(&h, histogram_add(&h, values, 3));
    for (int m = 0; m < RANGE_METHODS; m++) {
        const struct range r = range_find(&h, (enum range_method)m);
        assert_true(r.min == 0 && r.max == 0);
        assert_non_null(range_method_name((enum range_method)m));
    }
    assert_true(range_error(&h, (struct range){0, 0}) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counting),          cmocka_unit_test(merging),       cmocka_unit_test(average),
        cmocka_unit_test(percentile),        cmocka_unit_test(squared_error), cmocka_unit_test(entropy),
        cmocka_unit_test(nothing_but_zeros),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

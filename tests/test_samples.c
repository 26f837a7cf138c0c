// SPDX-License-Identifier: MIT
//
// test_samples.c - reading metrics: lines, labels with everything in them, sums, quantiles as Prometheus computes them.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/samples.h"

static int parse(const char *text, struct samples *out)
{
    struct err e;
    return samples_parse(strdup(text), out, &e);
}

static void lines(void **state)
{
    static const char *const wrong[] = {"a\n",     " 1\n",   "a{b=\"c\" 1\n", "a{b=\"}\\\" 1\n",
                                        "a one\n", "a 1x\n", "a{} \n",        "{} 1\n"};
    struct samples s;
    char text[32];
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        if (parse(wrong[i], &s) != -1)
            fail_msg("taken for a sample: %s", wrong[i]);
    assert_int_equal(parse("", &s), 0);
    assert_int_equal(s.count, 0);
    samples_free(&s);
    assert_int_equal(
        parse("# HELP a b\n# TYPE a counter\n\na 1\na{x=\"1\",y=\"}\\\"\\\\\\n\xc3\"} +Inf\nb{} -2.5e3 17\nlast NaN", &s), 0);
    assert_int_equal(s.count, 4);
    assert_string_equal(s.s[0].name, "a");
    assert_float_equal(s.s[0].value, 1, 0);
    assert_true(isinf(s.s[1].value));
    assert_int_equal(samples_label(&s.s[1], "x", text, sizeof text), 1);
    assert_string_equal(text, "1");
    assert_int_equal(samples_label(&s.s[1], "y", text, sizeof text), 1);
    assert_string_equal(text, "}\"\\n?"); /* a line end stays one letter: nobody's terminal shall obey it */
    assert_int_equal(samples_label(&s.s[1], "z", text, sizeof text), 0);
    assert_int_equal(samples_label(&s.s[1], "y", text, 3), 1);
    assert_string_equal(text, "}\"");
    assert_float_equal(s.s[2].value, -2500, 0);
    assert_true(isnan(s.s[3].value));
    samples_free(&s);
}

static void sums(void **state)
{
    struct samples s;
    int found;
    (void)state;
    assert_int_equal(parse("a{m=\"x\"} 1\na{m=\"y\"} 2\nab{m=\"x\"} 4\na{m=\"x\",n=\"1\"} 8\n", &s), 0);
    assert_float_equal(samples_sum(&s, "a", NULL, NULL, &found), 11, 0);
    assert_int_equal(found, 3);
    assert_float_equal(samples_sum(&s, "a", "m", "x", &found), 9, 0);
    assert_int_equal(found, 2);
    assert_float_equal(samples_sum(&s, "c", NULL, NULL, &found), 0, 0);
    assert_int_equal(found, 0);
    samples_free(&s);
}

static void quantiles(void **state)
{
    struct samples s;
    struct buckets b = {0}, before = {0}, none = {0};
    (void)state;
    assert_int_equal(
        parse("h_bucket{s=\"i\",le=\"+Inf\"} 10\nh_bucket{s=\"i\",le=\"0.1\"} 0\nh_bucket{s=\"i\",le=\"0.5\"} 8\n"
              "h_bucket{s=\"j\",le=\"0.1\"} 100\nh_bucket{s=\"j\",le=\"0.5\"} 100\nh_bucket{s=\"j\",le=\"+Inf\"} 100\n"
              "h_sum{s=\"i\"} 7\nh_count{s=\"i\"} 10\n",
              &s),
        0);
    samples_buckets(&s, "h", "s", "i", &b);
    assert_int_equal(b.n, 3);
    assert_float_equal(buckets_quantile(&b, 0.4), 0.3, 1e-12); /* half way through the second bucket */
    assert_float_equal(buckets_quantile(&b, 0.8), 0.5, 1e-12);
    assert_float_equal(buckets_quantile(&b, 0.99), 0.5, 1e-12); /* beyond the largest bound: that bound */
    samples_buckets(&s, "h", "s", "j", &b);                     /* added to it */
    assert_float_equal(b.count[2], 110, 0);
    assert_float_equal(buckets_quantile(&b, 0.5), 0.055, 1e-12);
    samples_buckets(&s, "h", "s", "j", &before);
    buckets_since(&b, &before);
    assert_float_equal(b.count[0], 0, 0);
    assert_float_equal(b.count[2], 10, 0);
    buckets_since(&b, &before); /* fewer than before: a new process */
    assert_float_equal(b.count[2], 10, 0);
    assert_true(isnan(buckets_quantile(&none, 0.5)));
    samples_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(lines), cmocka_unit_test(sums), cmocka_unit_test(quantiles)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: MIT
//
// test_metrics.c - the Prometheus text format: histograms, escaping, one family once, no series twice; JSON strings and numbers.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/metrics.h"

static void histograms(void **state)
{
    struct histogram h = {0};
    struct text t = {0};
    (void)state;
    histogram_add(&h, 0.0001); /* le: a bound belongs to its bucket */
    histogram_add(&h, 0.00011);
    histogram_add(&h, 10);
    histogram_add(&h, 11);
    metrics_histogram(&t, "x", "a=\"b\"", &h);
    assert_non_null(strstr(t.s, "x_bucket{a=\"b\",le=\"0.0001\"} 1\n"));
    assert_non_null(strstr(t.s, "x_bucket{a=\"b\",le=\"0.00025\"} 2\n"));
    assert_non_null(strstr(t.s, "x_bucket{a=\"b\",le=\"5.0\"} 2\n"));
    assert_non_null(strstr(t.s, "x_bucket{a=\"b\",le=\"10.0\"} 3\n"));
    assert_non_null(strstr(t.s, "x_bucket{a=\"b\",le=\"+Inf\"} 4\n"));
    assert_non_null(strstr(t.s, "x_sum{a=\"b\"} 21.00021\n"));
    assert_non_null(strstr(t.s, "x_count{a=\"b\"} 4\n"));
    text_free(&t);
    metrics_histogram(&t, "x", "", &h);
    assert_non_null(strstr(t.s, "x_bucket{le=\"0.0001\"} 1\n"));
    assert_non_null(strstr(t.s, "x_sum 21.00021\n"));
    text_free(&t);
    for (int i = 1; i < BUCKETS; i++)
        assert_true(metrics_bounds[i] > metrics_bounds[i - 1]);
}

static void escaping(void **state)
{
    struct text t = {0};
    (void)state;
    metrics_label(&t, "l", "a\\b\"c\nd");
    assert_string_equal(t.s, "l=\"a\\\\b\\\"c\\nd\"");
    text_free(&t);
    metrics_value(&t, NAN);
    metrics_value(&t, -INFINITY);
    metrics_value(&t, 12345678901.0);
    metrics_value(&t, 0.1);
    assert_string_equal(t.s, " NaN\n -Inf\n 12345678901\n 0.1\n");
    text_free(&t);
    text_json(&t, "a\"b\\c\n\x01\x7f \xc3\xa4 \xff\xc3 \xed\xa0\x80 \xf0\x9f\x98\x80");
    assert_string_equal(t.s,
                        "\"a\\\"b\\\\c\\u000a\\u0001\\u007f \xc3\xa4 \\ufffd\\ufffd \\ufffd\\ufffd\\ufffd \xf0\x9f\x98\x80\"");
    text_free(&t);
}

static void floats(void **state)
{
    static const float values[] = {0, 1, -1.5f, 0.1f, 1e-45f, 3.4028235e38f, 16777217, 0.30000001f};
    struct text t = {0};
    (void)state;
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        text_float(&t, values[i]);
        assert_true(strtof(t.s, NULL) == values[i]);
        text_free(&t);
    }
    text_float(&t, 0.1f);
    text_puts(&t, " ");
    text_float(&t, NAN);
    text_puts(&t, " ");
    text_float(&t, INFINITY);
    assert_string_equal(t.s, "0.1 null null");
    text_free(&t);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Every sample belongs to the family announced above it; no family and no series comes twice. */
static void check_format(char *text)
{
    char *families[200], *series[4000], family[200] = "";
    int family_count = 0, series_count = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        if (strncmp(line, "# HELP ", 7) == 0) {
            assert_true(family_count < 200);
            families[family_count++] = line + 7;
            size_t n = strcspn(line + 7, " ");
            assert_true(n < sizeof family && line[7 + n] == ' ' && line[8 + n]);
            memcpy(family, line + 7, n);
            family[n] = '\0';
            line[7 + n] = '\0';
        } else if (strncmp(line, "# TYPE ", 7) == 0) {
            assert_memory_equal(line + 7, family, strlen(family));
        } else {
            char *value = strrchr(line, ' ');
            assert_non_null(value);
            *value = '\0';
            assert_memory_equal(line, family, strlen(family));
            assert_true(series_count < 4000);
            series[series_count++] = line;
        }
    }
    qsort(families, (size_t)family_count, sizeof families[0], by_name);
    qsort(series, (size_t)series_count, sizeof series[0], by_name);
    for (int i = 1; i < family_count; i++)
        assert_string_not_equal(families[i], families[i - 1]);
    for (int i = 1; i < series_count; i++)
        assert_string_not_equal(series[i], series[i - 1]);
    assert_true(series_count > 50);
}

static void whole(void **state)
{
    const char *names[MODELS_MAX] = {"odd\"name", NULL, "b"};
    struct metrics *m = metrics_new();
    struct text t = {0};
    (void)state;
    assert_non_null(m);
    metrics_request(m, "/predict", "POST", 200, 0.01);
    metrics_request(m, "/predict", "POST", 200, 0.02);
    metrics_request(m, "/nowhere", "BREW", 418, 0.02); /* strangers share one series */
    metrics_request(m, "/elsewhere", "MOVE", 419, 0.02);
    metrics_reject(m, REJECT_QUEUE_FULL);
    metrics_stage(m, 0, PRECISION_INT8, STAGE_DECODE, 0.003);
    metrics_inference(m, 0, PRECISION_INT8);
    metrics_batch(m, 1);
    metrics_switch(m, 2, PRECISION_INT8, PRECISION_FP32, 0.5);
    metrics_reload(m, 1);
    metrics_write(m, names, &t);
    assert_false(t.failed);
    assert_non_null(strstr(t.s, "resnetd_http_requests_total{route=\"/predict\",method=\"POST\",code=\"200\"} 2\n"));
    assert_non_null(strstr(t.s, "resnetd_http_requests_total{route=\"other\",method=\"other\",code=\"other\"} 2\n"));
    assert_non_null(strstr(t.s, "resnetd_requests_rejected_total{reason=\"queue_full\"} 1\n"));
    assert_non_null(strstr(t.s, "resnetd_inferences_total{model=\"odd\\\"name\",precision=\"int8\"} 1\n"));
    assert_non_null(
        strstr(t.s, "resnetd_stage_duration_seconds_count{model=\"odd\\\"name\",precision=\"int8\",stage=\"decode\"} 1\n"));
    assert_non_null(strstr(t.s, "resnetd_precision_switches_total{model=\"b\",from=\"int8\",to=\"fp32\"} 1\n"));
    assert_non_null(strstr(t.s, "resnetd_precision_switch_duration_seconds_sum 0.5\n"));
    assert_non_null(strstr(t.s, "resnetd_batch_size_bucket{le=\"1.0\"} 1\n"));
    check_format(t.s);
    text_free(&t);
    metrics_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(histograms), cmocka_unit_test(escaping), cmocka_unit_test(floats),
                                       cmocka_unit_test(whole)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: MIT
//
// test_metrics.c - the text formats of metrics: histograms, exemplars, escaping, one family once, no series twice, always the
// same series; Accept; traceparent; JSON strings and numbers.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/metrics.h"
#include "daemon/trace.h"

static void histograms(void **state)
{
    struct histogram h = {.bucket = {[0] = 1, [1] = 1, [BUCKETS - 1] = 1, [BUCKETS] = 1}, .sum = 21.00021};
    struct text t = {0};
    struct exposition x = {&t, 0};
    (void)state;
    h.exemplar[1] = (struct exemplar){"trace_id", "4bf92f3577b34da6a3ce929d0e0e4736", 0.00011, 1700000000.5};
    exposition_histogram(&x, "x", "a=\"b\"", &h, metrics_bounds, BUCKETS);
    assert_non_null(strstr(t.s, "x_bucket{a=\"b\",le=\"0.0001\"} 1\n"));
    assert_non_null(strstr(t.s, "x_bucket{a=\"b\",le=\"0.00025\"} 2\n"));
    assert_non_null(strstr(t.s, "x_bucket{a=\"b\",le=\"5.0\"} 2\n"));
    assert_non_null(strstr(t.s, "x_bucket{a=\"b\",le=\"10.0\"} 3\n"));
    assert_non_null(strstr(t.s, "x_bucket{a=\"b\",le=\"+Inf\"} 4\n"));
    assert_non_null(strstr(t.s, "x_sum{a=\"b\"} 21.00021\n"));
    assert_non_null(strstr(t.s, "x_count{a=\"b\"} 4\n"));
    text_free(&t);
    exposition_histogram(&x, "x", "", &h, metrics_bounds, BUCKETS);
    assert_non_null(strstr(t.s, "x_bucket{le=\"0.0001\"} 1\n"));
    assert_non_null(strstr(t.s, "x_sum 21.00021\n"));
    assert_null(strchr(t.s, '#')); /* exemplars are OpenMetrics' */
    text_free(&t);
    x.openmetrics = 1;
    exposition_histogram(&x, "x", "", &h, metrics_bounds, BUCKETS);
    assert_non_null(
        strstr(t.s, "x_bucket{le=\"0.00025\"} 2 # {trace_id=\"4bf92f3577b34da6a3ce929d0e0e4736\"} 0.00011 1700000000.500\n"));
    assert_non_null(strstr(t.s, "x_bucket{le=\"0.0001\"} 1\n"));
    text_free(&t);
    for (int i = 1; i < BUCKETS; i++)
        assert_true(metrics_bounds[i] > metrics_bounds[i - 1]);
}

static void escaping(void **state)
{
    struct text t = {0};
    (void)state;
    exposition_label(&t, "l", "a\\b\"c\nd");
    assert_string_equal(t.s, "l=\"a\\\\b\\\"c\\nd\"");
    text_free(&t);
    static const double values[] = {NAN, -INFINITY, INFINITY, 12345678901.0, 0.1};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        exposition_value(&t, values[i]);
        text_puts(&t, " ");
    }
    assert_string_equal(t.s, "NaN -Inf +Inf 12345678901 0.1 ");
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

/* Prometheus 3 asks like this. */
#define PROMETHEUS                                                                                                               \
    "application/openmetrics-text;version=1.0.0;escaping=underscores;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"    \
    "text/plain;version=1.0.0;escaping=underscores;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"

static void accepting(void **state)
{
    static const struct {
        const char *accept;
        int openmetrics;
    } table[] = {
        {NULL, 0},
        {"", 0},
        {"*/*", 0},
        {"text/plain", 0},
        {"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", 0},
        {PROMETHEUS, 1},
        {"application/openmetrics-text; version=1.0.0; charset=utf-8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", 1},
        {"application/openmetrics-text", 1},
        {"APPLICATION/OpenMetrics-Text ; Version=\"1.0.0\" ; q=1.000", 1},
        {"application/openmetrics-text;version=0.0.1", 0},
        {"application/openmetrics-text;version=2.0.0", 0},
        {"application/openmetrics-text;q=0", 0},
        {"application/openmetrics-text;q=0.0,*/*;q=0", 0},
        {"application/openmetrics-text;q=0.5,text/plain;q=0.6", 0},
        {"application/openmetrics-text;q=0.5,text/plain;q=0.5", 1},
        {"application/openmetrics-text;q=0.5,text/*;q=0.7", 0},
        {"application/openmetrics-text;q=0.5,text/plain;q=0.1,*/*;q=0.7", 1}, /* the wildcard is for others than text/plain */
        {"application/openmetrics-text;q=0.5,text/plain;version=1.0.0;q=0.9", 1},
        {"application/openmetrics-text;q=2,text/plain;q=0.1", 0},
        {"application/openmetrics-text;q=1.001", 0},
        {"application/openmetrics-text;q=", 1}, /* no q at all */
        {"application/openmetrics-text;;;q=x", 0},
        {";,;,,;q=1;version", 0},
        {"application/openmetrics-textual", 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (exposition_accept(table[i].accept) != table[i].openmetrics)
            fail_msg("Accept: %s", table[i].accept ? table[i].accept : "(none)");
    assert_string_equal(exposition_type(0), "text/plain; version=0.0.4; charset=utf-8");
    assert_string_equal(exposition_type(1), "application/openmetrics-text; version=1.0.0; charset=utf-8");
}

static void families(void **state)
{
    struct text t = {0};
    struct exposition x = {&t, 0};
    (void)state;
    for (x.openmetrics = 0; x.openmetrics < 2; x.openmetrics++) {
        exposition_family(&x, "a_seconds_total", "counter", "H.");
        exposition_family(&x, "b_info", "info", "H.");
        exposition_family(&x, "c_celsius", "gauge", "H.");
        exposition_family(&x, "d", "gauge", "H.");
        exposition_end(&x);
    }
    assert_string_equal(t.s, "# HELP a_seconds_total H.\n# TYPE a_seconds_total counter\n"
                             "# HELP b_info H.\n# TYPE b_info gauge\n"
                             "# HELP c_celsius H.\n# TYPE c_celsius gauge\n"
                             "# HELP d H.\n# TYPE d gauge\n"
                             "# TYPE a_seconds counter\n# UNIT a_seconds seconds\n# HELP a_seconds H.\n"
                             "# TYPE b info\n# HELP b H.\n"
                             "# TYPE c_celsius gauge\n# UNIT c_celsius celsius\n# HELP c_celsius H.\n"
                             "# TYPE d gauge\n# HELP d H.\n# EOF\n");
    text_free(&t);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

#define SERIES_MAX 8000

/* Every sample belongs to the family announced above it; no family and no series comes twice. Returns how many series. */
static int check_format(char *text)
{
    char *names[200], **series = calloc(SERIES_MAX, sizeof *series), family[200] = "";
    int name_count = 0, n = 0;
    assert_non_null(series);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        if (strncmp(line, "# HELP ", 7) == 0) {
            assert_true(name_count < 200);
            names[name_count++] = line + 7;
            size_t len = strcspn(line + 7, " ");
            assert_true(len < sizeof family && line[7 + len] == ' ' && line[8 + len]);
            memcpy(family, line + 7, len);
            family[len] = '\0';
            line[7 + len] = '\0';
        } else if (strncmp(line, "# TYPE ", 7) == 0) {
            assert_memory_equal(line + 7, family, strlen(family));
        } else {
            char *value = strrchr(line, ' ');
            assert_non_null(value);
            *value = '\0';
            assert_memory_equal(line, family, strlen(family));
            assert_true(n < SERIES_MAX);
            series[n++] = line;
        }
    }
    qsort(names, (size_t)name_count, sizeof names[0], by_name);
    qsort(series, (size_t)n, sizeof series[0], by_name);
    for (int i = 1; i < name_count; i++)
        assert_string_not_equal(names[i], names[i - 1]);
    for (int i = 1; i < n; i++)
        assert_string_not_equal(series[i], series[i - 1]);
    free(series);
    return n;
}

static int count_series(struct metrics *m, const struct metrics_model *models)
{
    struct text t = {0};
    struct exposition x = {&t, 0};
    metrics_write(m, models, &x);
    assert_false(t.failed);
    int n = check_format(t.s);
    text_free(&t);
    return n;
}

/* Whatever is counted, the series stay those of the start. */
static void constant(void **state)
{
    static const char *const routes[] = {"/predict",  "/precision", "/metrics", "/v1/reload",
                                         "/v1/drain", "/",          "other",    "/nowhere"};
    static const char *const methods[] = {"GET", "HEAD", "POST", "PUT", "OPTIONS", "DELETE", "BREW"};
    struct metrics_model models[MODELS_MAX] = {{"odd\"name", 15}, {NULL, 0}, {"b", 1 << PRECISION_INT8 | 1 << PRECISION_FP32}};
    struct metrics *m = metrics_new();
    struct origin o = {"kitchen-42", ""};
    unsigned seed = 1;
    (void)state;
    assert_non_null(m);
    int before = count_series(m, models);
    assert_true(before > 500);
    for (int i = 0; i < 100000; i++) {
        seed = seed * 1103515245 + 12345;
        unsigned r = seed >> 8;
        metrics_request(m, routes[r % 8], methods[r / 8 % 7], 100 + (int)(r / 56 % 500), (double)(r % 10007) / 100, &o);
        metrics_reject(m, (enum reject)(r % REJECTS));
        metrics_stage(m, 2, PRECISION_INT8, (enum stage)(r % STAGES), (double)(r % 997) / 1000, &o);
        metrics_inference(m, 2, PRECISION_INT8);
        metrics_batch(m, (int)(r % 40));
        metrics_switch(m, 2, PRECISION_INT8, PRECISION_FP32, 0.5);
        metrics_reload(m, (int)(r % 2));
    }
    assert_int_equal(count_series(m, models), before);
    metrics_free(m);
}

static void whole(void **state)
{
    struct metrics_model models[MODELS_MAX] = {{"odd\"name", 15}, {NULL, 0}, {"b", 15}};
    struct metrics *m = metrics_new();
    struct text t = {0};
    struct exposition x = {&t, 0};
    struct origin o = {"kitchen-42", "4bf92f3577b34da6a3ce929d0e0e4736"}, plain = {"kitchen-43", ""};
    (void)state;
    assert_non_null(m);
    metrics_request(m, "/predict", "POST", 200, 0.01, &plain);
    metrics_request(m, "/predict", "POST", 200, 0.02, &plain);
    metrics_request(m, "/predict", "POST", 299, 0.02, &plain); /* what a route does not expect, it shares */
    metrics_request(m, "/nowhere", "BREW", 418, 0.02, &plain); /* and so do strangers */
    metrics_request(m, "/elsewhere", "MOVE", 419, 0.02, &plain);
    metrics_reject(m, REJECT_QUEUE_FULL);
    metrics_stage(m, 0, PRECISION_INT8, STAGE_DECODE, 0.003, &o);
    metrics_inference(m, 0, PRECISION_INT8);
    metrics_batch(m, 1);
    metrics_switch(m, 2, PRECISION_INT8, PRECISION_FP32, 0.5);
    metrics_reload(m, 1);
    metrics_write(m, models, &x);
    assert_false(t.failed);
    assert_non_null(strstr(t.s, "resnetd_http_requests_total{route=\"/predict\",method=\"POST\",code=\"200\"} 2\n"));
    assert_non_null(strstr(t.s, "resnetd_http_requests_total{route=\"/predict\",method=\"POST\",code=\"other\"} 1\n"));
    assert_non_null(strstr(t.s, "resnetd_http_requests_total{route=\"/precision\",method=\"PUT\",code=\"403\"} 0\n"));
    assert_non_null(strstr(t.s, "resnetd_http_requests_total{route=\"other\",method=\"other\",code=\"other\"} 2\n"));
    assert_non_null(strstr(t.s, "resnetd_requests_rejected_total{reason=\"queue_full\"} 1\n"));
    assert_non_null(strstr(t.s, "resnetd_inferences_total{model=\"odd\\\"name\",precision=\"int8\"} 1\n"));
    assert_non_null(
        strstr(t.s, "resnetd_stage_duration_seconds_count{model=\"odd\\\"name\",precision=\"int8\",stage=\"decode\"} 1\n"));
    assert_non_null(strstr(t.s, "resnetd_stage_duration_seconds_count{model=\"b\",precision=\"fp32\",stage=\"queue\"} 0\n"));
    assert_non_null(strstr(t.s, "resnetd_precision_switches_total{model=\"b\",from=\"int8\",to=\"fp32\"} 1\n"));
    assert_non_null(strstr(t.s, "resnetd_precision_switches_total{model=\"b\",from=\"fp32\",to=\"int8\"} 0\n"));
    assert_non_null(strstr(t.s, "resnetd_precision_switch_duration_seconds_sum 0.5\n"));
    assert_non_null(strstr(t.s, "resnetd_batch_size_bucket{le=\"1.0\"} 1\n"));
    assert_true(check_format(t.s) > 500);
    text_free(&t);

    x.openmetrics = 1;
    metrics_write(m, models, &x);
    assert_non_null(strstr(t.s, "# TYPE resnetd_http_requests counter\n"));
    assert_non_null(strstr(t.s, "# UNIT resnetd_stage_duration_seconds seconds\n"));
    assert_non_null(strstr(t.s, "stage=\"decode\",le=\"0.005\"} 1 # {trace_id=\"4bf92f3577b34da6a3ce929d0e0e4736\"} 0.003 "));
    assert_non_null(strstr(t.s, "route=\"/predict\",le=\"0.01\"} 1 # {request_id=\"kitchen-43\"} 0.01 "));
    text_free(&t);
    metrics_free(m);
}

static const char good[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

static void traces(void **state)
{
    static const char *const wrong[] = {
        "",
        "00",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",    /* short */
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",  /* long for version 00 */
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x", /* the same */
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "0x-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00F067AA0BA902B7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
        "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7_01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0G",
        "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
        " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    };
    struct trace t;
    (void)state;
    assert_int_equal(trace_parse(NULL, &t), -1);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        if (trace_parse(wrong[i], &t) != -1)
            fail_msg("taken for a traceparent: %s", wrong[i]);
        assert_string_equal(t.id, "");
        assert_string_equal(t.parent, "");
    }
    assert_int_equal(trace_parse(good, &t), 0);
    assert_string_equal(t.id, "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_string_equal(t.parent, "00f067aa0ba902b7");
    assert_int_equal(t.sampled, 1);
    assert_int_equal(trace_parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", &t), 0);
    assert_int_equal(t.sampled, 0);
    /* a later version: what is known of it */
    assert_int_equal(trace_parse("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", &t), 0);
    assert_int_equal(trace_parse("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-comes-then", &t), 0);
    assert_string_equal(t.id, "4bf92f3577b34da6a3ce929d0e0e4736");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(histograms), cmocka_unit_test(escaping), cmocka_unit_test(floats),
                                       cmocka_unit_test(accepting),  cmocka_unit_test(families), cmocka_unit_test(constant),
                                       cmocka_unit_test(whole),      cmocka_unit_test(traces)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: MIT
//
// What quantisation tries and what it keeps.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <pthreadpool.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu.h"
#include "kernels/kernels.h"
#include "models/json.h"
#include "models/quantize/balance.h"
#include "models/quantize/quantize.h"
#include "models/quantize/study.h"
#include "tests/networks.h"

struct feed {
    unsigned next, count;
};

static int next(void *user, uint8_t *rgb, int *label, struct err *e)
{
    struct feed *f = user;
    (void)e;
    *label = -1;
    make_image(500 + f->next, rgb);
    return f->next++ < f->count;
}

static struct calibration *calibrate(const struct network *n, unsigned images, struct pthreadpool *pool)
{
    struct calibration *c;
    struct feed f = {0, images};
    struct err e;
    if (calibration_new(n, kernels_pick(cpu_features(), NULL), pool, next, &f, &c, &e) < 0)
        fail_msg("%s", e.text);
    return c;
}

static void held_back(void **unused)
{
    (void)unused;
    struct network n = make_network(11);
    struct calibration *c = calibrate(&n, 40, NULL);
    assert_int_equal(calibration_images(c), 40);
    assert_int_equal(calibration_held(c), 16 + 2);
    assert_int_equal(calibration_fit(c), 16 + 6);
    assert_int_equal(calibration_walk_images(c, 10), 10);
    assert_int_equal(calibration_walk_images(c, 100), 22);
    assert_int_equal(calibration_histogram(c, 0)->images, 22);
    /* The fp32 network follows itself perfectly. */
    struct fidelity f;
    struct err e;
    assert_int_equal(calibration_compare(c, &n, 0, &f, &e), 0);
    assert_int_equal(f.images, 18);
    assert_int_equal(f.agree, 18);
    assert_true(f.noise == 0 && isinf(fidelity_db(&f)) && fidelity_percent(&f) == 100);
    assert_int_equal(calibration_compare(c, &n, 5, &f, &e), 0);
    assert_int_equal(f.images, 5);
    calibration_free(c);
    network_free(&n);
}

static void keeps_the_best(void **unused)
{
    (void)unused;
    struct network n = make_network(12), q;
    struct calibration *c = calibrate(&n, 64, NULL);
    struct quantize_result r;
    struct fidelity f;
    struct err e;
    assert_int_equal(quantize_network(&n, PRECISION_INT8, NULL, c, &q, &r, &e), 0);
    assert_int_equal(r.count, RANGE_METHODS + 3);
    for (int i = 0; i < r.count; i++) {
        assert_true(r.tries[i].fidelity.noise >= r.tries[r.chosen].fidelity.noise);
        assert_int_equal(r.tries[i].weights, i <= RANGE_METHODS ? WEIGHTS_BALANCED : WEIGHTS_GPTQ);
    }
    /* The network is that of the row. */
    assert_int_equal(calibration_compare(c, &q, 0, &f, &e), 0);
    assert_true(f.noise == r.tries[r.chosen].fidelity.noise);
    cJSON *json = json_parse(q.quantization, strlen(q.quantization), &e);
    assert_non_null(json);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(json, "tried")), r.count);
    assert_string_equal(cJSON_GetObjectItem(json, "method")->valuestring, range_method_name(r.tries[r.chosen].range));
    assert_string_equal(cJSON_GetObjectItem(json, "weights")->valuestring, weight_rounding_name(r.tries[r.chosen].weights));
    assert_int_equal(cJSON_GetObjectItem(json, "images")->valueint, 64);
    assert_int_equal(cJSON_GetObjectItem(json, "held_back")->valueint, 24);
    cJSON_Delete(json);
    network_free(&q);
    /* One method, no choice. */
    const struct quantize_options one = {.ranges = 1u << RANGE_ENTROPY, .weights = 1u << WEIGHTS_GPTQ, .plain_bias = 1};
    assert_int_equal(quantize_network(&n, PRECISION_INT8, &one, c, &q, &r, &e), 0);
    assert_int_equal(r.count, 1);
    assert_true(r.tries[0].range == RANGE_ENTROPY && r.tries[0].weights == WEIGHTS_GPTQ && !r.tries[0].bias_corrected);
    network_free(&q);
    assert_int_equal(quantize_network(&n, PRECISION_HYBRID, NULL, c, &q, &r, &e), 0);
    assert_int_equal(r.count, 3 * 2);
    for (int i = 0; i < r.count; i++) {
        assert_int_equal(r.tries[i].weights, i / 2);
        assert_int_equal(r.tries[i].bias_corrected, i % 2);
    }
    assert_null(q.quants);
    network_free(&q);
    calibration_free(c);
    network_free(&n);
}

/* Without images hybrid is balanced, or nearest where that is asked for; the file tells. Layers that were not studied, too. */
static void without_images(void **unused)
{
    (void)unused;
    struct network n = make_network(18), q[3];
    struct err e;
    static const unsigned weights[3] = {0, 1u << WEIGHTS_BALANCED, 1u << WEIGHTS_NEAREST};
    static const char *const names[3] = {"balanced", "balanced", "nearest"};
    for (int r = 0; r < 3; r++) {
        const struct quantize_options o = {.weights = weights[r]};
        assert_int_equal(quantize_network(&n, PRECISION_HYBRID, r ? &o : NULL, NULL, &q[r], NULL, &e), 0);
        cJSON *json = json_parse(q[r].quantization, strlen(q[r].quantization), &e);
        assert_non_null(json);
        assert_string_equal(cJSON_GetObjectItem(json, "weights")->valuestring, names[r]);
        cJSON_Delete(json);
    }
    struct network unstudied;
    const struct recipe gptq = {.precision = PRECISION_HYBRID, .weights = WEIGHTS_GPTQ};
    assert_int_equal(convert_network_by(&n, &gptq, &unstudied, &e), 0);
    int differ = 0;
    for (int i = 0; i < n.graph.count; i++) {
        const struct node *v = &n.graph.nodes[i];
        if (!node_has_weights(v))
            continue;
        const size_t count = (size_t)node_weights(&n.graph, i);
        int8_t *expected = malloc(count);
        float *scale = malloc((size_t)v->c * sizeof *scale);
        assert_true(expected && scale);
        quantize_weights(n.layers[i].weight, v->c, node_depth(&n.graph, i), expected, scale);
        assert_memory_equal(q[2].layers[i].weight, expected, count);
        balance_weights(n.layers[i].weight, v->c, node_depth(&n.graph, i), v->kernel_h * v->kernel_w, scale, expected);
        for (int r = 0; r < 2; r++)
            assert_memory_equal(q[r].layers[i].weight, expected, count);
        assert_memory_equal(unstudied.layers[i].weight, expected, count);
        assert_memory_equal(q[0].layers[i].scale, scale, (size_t)v->c * sizeof *scale);
        differ += memcmp(expected, q[2].layers[i].weight, count) != 0;
        free(expected);
        free(scale);
    }
    assert_true(differ > 2);
    const struct quantize_options o = {.weights = 1u << WEIGHTS_GPTQ};
    assert_int_equal(quantize_network(&n, PRECISION_HYBRID, &o, NULL, &q[0], NULL, &e), -1);
    assert_non_null(strstr(e.text, "calibration"));
    for (int r = 0; r < 3; r++)
        network_free(&q[r]);
    network_free(&unstudied);
    network_free(&n);
}

/* Whatever the method, the logits keep the range that was seen (their quants matter where a node has keep_output). */
static void logits_are_not_clipped(void **unused)
{
    (void)unused;
    struct network n = make_network(13), q;
    struct calibration *c = calibrate(&n, 32, NULL);
    const struct histogram *h = calibration_histogram(c, n.graph.output);
    const struct quant expected = quant_from_range(h->min, h->max);
    struct err e;
    for (unsigned m = 0; m < RANGE_METHODS; m++) {
        const struct quantize_options one = {.ranges = 1u << m, .weights = 1u << WEIGHTS_NEAREST, .plain_bias = 1};
        assert_int_equal(quantize_network(&n, PRECISION_INT8, &one, c, &q, NULL, &e), 0);
        assert_memory_equal(&q.quants[n.graph.output], &expected, sizeof expected);
        network_free(&q);
    }
    calibration_free(c);
    network_free(&n);
}

/* The correction is the weights' error times the mean input, per channel. */
static void bias_correction(void **unused)
{
    (void)unused;
    struct network n = make_network(14), plain, corrected;
    struct calibration *c = calibrate(&n, 32, NULL);
    struct layer_study *studies;
    const struct quantize_options o = {0};
    struct err e;
    assert_int_equal(studies_make(&n, c, 0, &o, &studies, &e), 0);
    struct recipe r = {.precision = PRECISION_HYBRID, .studies = studies};
    assert_int_equal(convert_network_by(&n, &r, &plain, &e), 0);
    r.correct_bias = 1;
    assert_int_equal(convert_network_by(&n, &r, &corrected, &e), 0);
    for (int i = 0; i < n.graph.count; i++) {
        const struct node *v = &n.graph.nodes[i];
        if (!node_has_weights(v))
            continue;
        const int64_t depth = node_depth(&n.graph, i);
        assert_non_null(studies[i].mean);
        assert_null(studies[i].rounded);
        assert_memory_equal(plain.layers[i].bias, n.layers[i].bias, (size_t)v->c * sizeof(float));
        for (int o2 = 0; o2 < v->c; o2++) {
            double sum = 0;
            for (int64_t k = 0; k < depth; k++)
                sum += ((double)((float *)n.layers[i].weight)[o2 * depth + k] -
                        (double)plain.layers[i].scale[o2] * ((int8_t *)plain.layers[i].weight)[o2 * depth + k]) *
                       (double)studies[i].mean[o2 / (v->c / v->groups) * depth + k];
            assert_true(fabs((double)corrected.layers[i].bias[o2] - (double)n.layers[i].bias[o2] - sum) < 1e-5);
        }
    }
    /* The input of the dense layer is one column per image: its means are exact. */
    const int dense = n.graph.output, in = n.graph.nodes[dense].in[0];
    double mean = 0, seen = 0;
    for (int k = 0; k < n.graph.nodes[in].c; k++)
        mean += (double)studies[dense].mean[k] / n.graph.nodes[in].c;
    const struct histogram *h = calibration_histogram(c, in);
    for (int b = 0; b < HISTOGRAM_BINS; b++)
        seen += h->bins[b] * (double)(histogram_border(h, b) + histogram_border(h, b + 1)) / 2 / (double)h->count;
    assert_true(fabs(mean - seen) < 1e-3 * (double)h->limit);
    studies_free(studies, n.graph.count);
    network_free(&plain);
    network_free(&corrected);
    calibration_free(c);
    network_free(&n);
}

/* Threads change when things are computed, never what. */
static void same_with_threads(void **unused)
{
    (void)unused;
    struct network n = make_network(15), q[2];
    struct err e;
    pthreadpool_t pool = pthreadpool_create(3);
    for (int i = 0; i < 2; i++) {
        struct calibration *c = calibrate(&n, 40, i ? pool : NULL);
        assert_int_equal(quantize_network(&n, PRECISION_INT8, NULL, c, &q[i], NULL, &e), 0);
        calibration_free(c);
    }
    assert_string_equal(q[0].quantization, q[1].quantization);
    assert_memory_equal(q[0].quants, q[1].quants, (size_t)n.graph.count * sizeof *q[0].quants);
    for (int i = 0; i < n.graph.count; i++)
        if (node_has_weights(&n.graph.nodes[i])) {
            assert_memory_equal(q[0].layers[i].weight, q[1].layers[i].weight, (size_t)node_weights(&n.graph, i));
            assert_memory_equal(q[0].layers[i].bias_s32, q[1].layers[i].bias_s32, (size_t)n.graph.nodes[i].c * sizeof(int32_t));
        }
    network_free(&q[0]);
    network_free(&q[1]);
    network_free(&n);
    if (pool)
        pthreadpool_destroy(pool);
}

static void fp16_activations(void **unused)
{
    (void)unused;
    struct network n = make_network(16), q;
    struct err e;
    n.layers[1].bias[3] = 70000; /* the weights fit, what comes out does not */
    struct calibration *c = calibrate(&n, 4, NULL);
    assert_int_equal(quantize_network(&n, PRECISION_FP16, NULL, c, &q, NULL, &e), -1);
    assert_non_null(strstr(e.text, n.graph.nodes[1].name));
    calibration_free(c);
    network_free(&n);
}

/* Pixels of -1 to 1 would all lie half way between two steps. */
static void input_between_steps(void **unused)
{
    (void)unused;
    struct network n = make_network(17), q;
    struct err e;
    n.preprocess.scale = 255;
    for (int c = 0; c < 3; c++)
        n.preprocess.mean[c] = n.preprocess.std[c] = 0.5f;
    q = convert_network(&n, PRECISION_INT8);
    double sum = 0, worst = 0;
    for (int i = 0; i < 256; i++) {
        const double x = (double)preprocess_value(&n.preprocess, 0, (uint8_t)i), s = (double)q.quants[0].scale;
        const double error = fabs(rint(x / s) * s - x) / s;
        sum += error * error / 256;
        worst = fmax(worst, fabs(rint(x / s) + q.quants[0].zero));
    }
    assert_true(sum < 0.1); /* half a step everywhere would be 0.25, spread evenly is 1/12 */
    assert_true(worst <= 128);
    network_free(&q);
    /* ImageNet's is as its range says. */
    assert_int_equal(preprocess_preset("imagenet", &n.preprocess, &e), 0);
    const struct quant plain = preprocess_quant(&n.preprocess);
    q = convert_network(&n, PRECISION_INT8);
    assert_memory_equal(&q.quants[0], &plain, sizeof plain);
    network_free(&q);
    network_free(&n);
}

static void words(void **unused)
{
    (void)unused;
    unsigned set;
    struct err e;
    assert_int_equal(quantize_parse_method("auto", &set, &e), 0);
    assert_int_equal(set, RANGES_ALL);
    assert_int_equal(quantize_parse_method("percentile", &set, &e), 0);
    assert_int_equal(set, 1u << RANGE_PERCENTILE_99_99 | 1u << RANGE_PERCENTILE_99_999);
    assert_int_equal(quantize_parse_method("mse", &set, &e), 0);
    assert_int_equal(set, 1u << RANGE_MSE);
    assert_int_equal(quantize_parse_method("magic", &set, &e), -1);
    assert_int_equal(quantize_parse_rounding("auto", &set, &e), 0);
    assert_int_equal(set, 0);
    assert_int_equal(quantize_parse_rounding("balanced", &set, &e), 0);
    assert_int_equal(set, 1u << WEIGHTS_BALANCED);
    assert_int_equal(quantize_parse_rounding("nearest", &set, &e), 0);
    assert_int_equal(set, 1u << WEIGHTS_NEAREST);
    assert_int_equal(quantize_parse_rounding("gptq", &set, &e), 0);
    assert_int_equal(set, 1u << WEIGHTS_GPTQ);
    assert_int_equal(quantize_parse_rounding("up", &set, &e), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(held_back),
        cmocka_unit_test(keeps_the_best),
        cmocka_unit_test(without_images),
        cmocka_unit_test(logits_are_not_clipped),
        cmocka_unit_test(bias_correction),
        cmocka_unit_test(same_with_threads),
        cmocka_unit_test(fp16_activations),
        cmocka_unit_test(input_between_steps),
        cmocka_unit_test(words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: MIT
//
// The formulas of quantisation, against numbers worked out by hand.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu.h"
#include "kernels/half.h"
#include "kernels/kernels.h"
#include "models/fold.h"
#include "models/json.h"
#include "models/quantize/quantize.h"
#include "tests/networks.h"

static void weights(void **unused)
{
    (void)unused;
    /* Channel 0: the largest magnitude is negative and becomes -127, never -128. Channel 1: zeros. Channel 2: ties to even. */
    static const float w[12] = {-2.54f, 1.27f, 0.01f, -0.02f, 0, 0, 0, 0, 127, 0.5f, 1.5f, -2.5f};
    static const int8_t expected[12] = {-127, 64, 0, -1, 0, 0, 0, 0, 127, 0, 2, -2};
    int8_t q[12];
    float scale[3];
    quantize_weights(w, 3, 4, q, scale);
    assert_true(fabsf(scale[0] - 0.02f) < 1e-8f && scale[1] == 1 && scale[2] == 1);
    assert_true(q[1] == 63 || q[1] == 64); /* 1.27 / 0.02 lies beside a tie in float */
    q[1] = 64;
    assert_memory_equal(q, expected, sizeof q);
    float tiny[2] = {1e-38f, -1e-39f};
    quantize_weights(tiny, 1, 2, q, scale);
    assert_true(scale[0] == 1 && q[0] == 0 && q[1] == 0);
}

static void ranges(void **unused)
{
    (void)unused;
    struct quant q = quant_from_range(0, 2.55f); /* after ReLU: the zero point is -128, the clamp is the ReLU */
    assert_true(q.zero == -128 && fabsf(q.scale - 0.01f) < 1e-8f);
    q = quant_from_range(-1, 1.55f);
    assert_true(q.zero == -28 && fabsf(q.scale - 0.01f) < 1e-8f);
    q = quant_from_range(1, 5.1f); /* 0 is always inside */
    assert_true(q.zero == -128 && fabsf(q.scale - 0.02f) < 1e-8f);
    q = quant_from_range(-5.1f, -1);
    assert_true(q.zero == 127 && fabsf(q.scale - 0.02f) < 1e-8f);
    q = quant_from_range(0, 0);
    assert_true(q.scale == 1 && q.zero == -128);
}

static void folding(void **unused)
{
    (void)unused;
    /* g = 2 / sqrt(3.99 + 0.01) = 1: y = conv + 5 - 3 + 7; and g = -1 / sqrt(0.24 + 0.01) = -2. */
    static const float gamma[2] = {2, -1}, beta[2] = {7, 1}, mean[2] = {3, -2}, var[2] = {3.99f, 0.24f}, bias[2] = {5, 4};
    float w[4] = {1, -2, 3, 4}, out[2];
    struct batch_norm bn = {gamma, beta, mean, var, 0.01};
    fold_batch_norm(&bn, 2, 2, w, bias, out);
    static const float expected[4] = {1, -2, -6, -8};
    for (int i = 0; i < 4; i++)
        assert_true(fabsf(w[i] - expected[i]) < 1e-6f);
    assert_true(fabsf(out[0] - 9) < 1e-6f && fabsf(out[1] - -11) < 1e-6f);
    fold_batch_norm(&bn, 1, 2, w, NULL, out);
    assert_true(fabsf(out[0] - 4) < 1e-6f);

    const float oihw[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}; /* 1 x 3 x 2 x 2 */
    static const float ohwi[12] = {0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11};
    float to[12];
    weights_to_ohwi(oihw, 1, 3, 2, 2, to);
    assert_memory_equal(to, ohwi, sizeof ohwi);
}

/* Bias, scales and zero points of a converted network follow from its parts. */
static void int8_network(void **unused)
{
    (void)unused;
    struct network n = make_network(3), q = convert_network(&n, PRECISION_INT8);
    struct err e;
    for (int i = 0; i < q.graph.count; i++) {
        const struct node *v = &q.graph.nodes[i];
        if (v->op == OP_MAXPOOL || v->op == OP_SHORTCUT)
            assert_memory_equal(&q.quants[i], &q.quants[v->in[0]], sizeof(struct quant));
        if (v->relu)
            assert_int_equal(q.quants[i].zero, -128);
        if (!node_has_weights(v))
            continue;
        int64_t depth = node_depth(&q.graph, i);
        const struct layer *f = &n.layers[i], *l = &q.layers[i];
        for (int o = 0; o < v->c; o++) {
            double unit = (double)q.quants[v->in[0]].scale * (double)l->scale[o];
            assert_true(fabs((double)f->bias[o] - unit * l->bias_s32[o]) <= unit * 0.5001);
            for (int64_t k = 0; k < depth; k++) {
                int w = ((const int8_t *)l->weight)[o * depth + k];
                assert_true(w >= -127);
                assert_true(fabsf(((const float *)f->weight)[o * depth + k] - l->scale[o] * (float)w) <= l->scale[o] * 0.5001f);
            }
        }
    }
    struct quant input = preprocess_quant(&n.preprocess);
    assert_memory_equal(&q.quants[0], &input, sizeof input);
    cJSON *json = json_parse(q.quantization, strlen(q.quantization), &e);
    assert_non_null(json);
    assert_string_equal(cJSON_GetObjectItem(json, "method")->valuestring, "minmax");
    cJSON_Delete(json);
    network_free(&n);
    network_free(&q);
}

/* A nearly dead channel: its weights say nothing, its bias must survive and stay inside int32. */
static void large_bias_beside_tiny_weights(void **unused)
{
    (void)unused;
    struct network n = make_network(4);
    int64_t depth = node_depth(&n.graph, 1);
    for (int64_t i = 0; i < depth; i++)
        ((float *)n.layers[1].weight)[2 * depth + i] = 1e-12f;
    n.layers[1].bias[2] = 3;
    struct network q = convert_network(&n, PRECISION_INT8);
    double back = (double)q.layers[1].bias_s32[2] * (double)q.quants[0].scale * (double)q.layers[1].scale[2];
    assert_true(fabs(back - 3) < 1e-4);
    network_free(&n);
    network_free(&q);
}

static void fp16_and_hybrid(void **unused)
{
    (void)unused;
    struct network n = make_network(5), h = convert_network(&n, PRECISION_FP16), y = convert_network(&n, PRECISION_HYBRID), q;
    struct err e;
    assert_int_equal(((uint16_t *)h.layers[1].weight)[7], half_from_float(((float *)n.layers[1].weight)[7]));
    assert_memory_equal(h.layers[1].bias, n.layers[1].bias, 16 * sizeof(float));
    assert_memory_equal(y.layers[1].bias, n.layers[1].bias, 16 * sizeof(float));
    assert_non_null(y.layers[1].scale);
    assert_null(y.quants);
    /* Beyond 65504: refused by the layer's name; at 65504: fine. */
    ((float *)n.layers[1].weight)[0] = -65504;
    assert_int_equal(quantize_network(&n, PRECISION_FP16, NULL, NULL, &q, NULL, &e), 0);
    network_free(&q);
    ((float *)n.layers[1].weight)[0] = -65505;
    assert_int_equal(quantize_network(&n, PRECISION_FP16, NULL, NULL, &q, NULL, &e), -1);
    assert_non_null(strstr(e.text, "conv1"));
    /* Only from fp32, only to something else, int8 only with ranges. */
    assert_int_equal(quantize_network(&h, PRECISION_INT8, NULL, NULL, &q, NULL, &e), -1);
    assert_int_equal(quantize_network(&n, PRECISION_FP32, NULL, NULL, &q, NULL, &e), -1);
    assert_int_equal(quantize_network(&n, PRECISION_INT8, NULL, NULL, &q, NULL, &e), -1);
    network_free(&n);
    network_free(&h);
    network_free(&y);
}

static int given(void *user, uint8_t *rgb, int *label, struct err *e)
{
    int *left = user;
    assert_int_equal(*label, -1);
    *label = 3;
    if (*left < 0)
        return err_set(e, ERR_IO, "cannot read");
    memset(rgb, *left % 2 ? 255 : 0, 32 * 32 * 3);
    return (*left)-- > 0;
}

static void calibration(void **unused)
{
    (void)unused;
    struct network n = make_network(6), h16 = convert_network(&n, PRECISION_FP16);
    const struct kernels *k = kernels_pick(cpu_features(), NULL);
    struct calibration *c;
    struct histogram one;
    struct err e;
    int count = 1;
    assert_int_equal(calibration_new(&n, k, NULL, given, &count, &c, &e), 0);
    assert_int_equal(calibration_images(c), 1); /* the only one serves for everything */
    assert_int_equal(calibration_held(c), 1);
    one = *calibration_histogram(c, 1);
    calibration_free(c);
    count = 3; /* the second is held back; ranges are the union of the others' */
    assert_int_equal(calibration_new(&n, k, NULL, given, &count, &c, &e), 0);
    assert_int_equal(calibration_images(c), 3);
    assert_int_equal(calibration_held(c), 1);
    assert_int_equal(calibration_fit(c), 2);
    const struct histogram *h = calibration_histogram(c, 1);
    assert_true(h->min <= one.min && h->max >= one.max && h->images == 2 && h->count == 2 * one.count);
    assert_true(h->min >= 0 && h->max > 0);
    h = calibration_histogram(c, n.graph.output);
    assert_true(h->min < h->max);
    calibration_free(c);
    count = 0;
    assert_int_equal(calibration_new(&n, k, NULL, given, &count, &c, &e), -1);
    count = -1;
    assert_int_equal(calibration_new(&n, k, NULL, given, &count, &c, &e), -1);
    assert_string_equal(e.text, "cannot read");
    count = 1;
    assert_int_equal(calibration_new(&h16, k, NULL, given, &count, &c, &e), -1);
    network_free(&n);
    network_free(&h16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights),         cmocka_unit_test(ranges),
        cmocka_unit_test(folding),         cmocka_unit_test(int8_network),
        cmocka_unit_test(fp16_and_hybrid), cmocka_unit_test(large_bias_beside_tiny_weights),
        cmocka_unit_test(calibration),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

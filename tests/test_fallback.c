// SPDX-License-Identifier: MIT
//
// Layers that int8 cannot hold are found and go to fp16, those and no others; guards that cannot be kept are refused.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu.h"
#include "kernels/kernels.h"
#include "models/quantize/fallback.h"
#include "tests/networks.h"

#define IMAGES 48

static int find(const struct graph *g, const char *name)
{
    for (int i = 0; i < g->count; i++)
        if (strcmp(g->nodes[i].name, name) == 0)
            return i;
    fail_msg("no node %s", name);
    return -1;
}

/* Channel `channel` of a layer becomes a constant. */
static void constant(struct network *n, const char *layer, int channel, float value)
{
    const int i = find(&n->graph, layer);
    const int64_t depth = node_depth(&n->graph, i);
    memset((float *)n->layers[i].weight + channel * depth, 0, (size_t)depth * sizeof(float));
    n->layers[i].bias[channel] = value;
}

/* Reads channel 0 of its input, which is always 0, with large weights: they decide the scale of every output channel, and beside
   them all others round to 0. In float nothing changes. */
static void spoil(struct network *n, const char *layer)
{
    const int i = find(&n->graph, layer), in = n->graph.nodes[n->graph.nodes[i].in[0]].c;
    float *w = n->layers[i].weight;
    for (int64_t k = 0; k < node_weights(&n->graph, i); k += in)
        w[k] = 60;
}

struct given {
    int next;
    const struct network *n; /* NULL: no labels */
};

static int next(void *user, uint8_t *rgb, int *label, struct err *e)
{
    struct given *g = user;
    (void)e;
    if (g->next == IMAGES)
        return 0;
    make_image(500 + (unsigned)g->next++, rgb);
    if (g->n) {
        float logits[7];
        evaluate(g->n, rgb, logits);
        *label = 0;
        for (int k = 1; k < 7; k++)
            *label = logits[k] > logits[*label] ? k : *label;
    }
    return 1;
}

static struct calibration *calibrate(const struct network *n, int labels)
{
    struct given g = {0, labels ? n : NULL};
    struct calibration *c;
    struct err e;
    if (calibration_new(n, kernels_pick(cpu_features(), NULL), NULL, next, &g, &c, &e) < 0)
        fail_msg("%s", e.text);
    return c;
}

static struct network to_int8(const struct network *n, const struct calibration *c)
{
    const struct quantize_options plain = {.ranges = 1u << RANGE_MINMAX, .weights = 1u << WEIGHTS_NEAREST, .plain_bias = 1};
    struct network q;
    struct err e;
    if (quantize_network(n, PRECISION_INT8, &plain, c, &q, NULL, &e) < 0)
        fail_msg("%s", e.text);
    return q;
}

/* A constant 1000 that nobody reads makes the steps of the layer's output too coarse for all else. */
static void overshadow(struct network *n, const char *layer, const char *reader)
{
    const int i = find(&n->graph, reader), in = n->graph.nodes[n->graph.nodes[i].in[0]].c;
    constant(n, layer, 0, 1000);
    float *w = n->layers[i].weight;
    for (int64_t k = 0; k < node_weights(&n->graph, i); k += in)
        w[k] = 0;
}

/* Spoilt layers (separated by spaces), or "shadow": b3.conv1 overshadowed. Logits are without their mean over the images, so that
   not one class wins everywhere. */
static struct network make(const char *spoilt)
{
    struct network n = make_network(23);
    float sum[7] = {0};
    constant(&n, "b1.conv3", 0, -1);
    constant(&n, "b1.downsample", 0, -1);
    constant(&n, "b2.conv2", 0, -1);
    if (strcmp(spoilt, "shadow") == 0)
        overshadow(&n, "b3.conv1", "b3.conv2");
    for (int i = 0; i < n.graph.count; i++)
        if (strstr(spoilt, n.graph.nodes[i].name))
            spoil(&n, n.graph.nodes[i].name);
    for (unsigned i = 0; i < IMAGES; i++) {
        uint8_t rgb[32 * 32 * 3];
        float logits[7];
        make_image(500 + i, rgb);
        evaluate(&n, rgb, logits);
        for (int k = 0; k < 7; k++)
            sum[k] += logits[k];
    }
    for (int k = 0; k < 7; k++)
        n.layers[n.graph.output].bias[k] -= sum[k] / IMAGES;
    return n;
}

static const struct guard no_guard = {-1, -1};

struct trial {
    struct network n, q;
    struct calibration *c;
};

static void start(struct trial *t, const char *spoilt, int labels)
{
    t->n = make(spoilt);
    t->c = calibrate(&t->n, labels);
    t->q = to_int8(&t->n, t->c);
}

static void end(struct trial *t)
{
    network_free(&t->q);
    calibration_free(t->c);
    network_free(&t->n);
}

/* `layers`, in any order, separated by spaces: those and no others. */
static void falls_back(const char *spoilt, const char *layers, const char *stored)
{
    for (int labels = 0; labels < 2; labels++) {
        struct trial t;
        start(&t, spoilt, labels);
        const struct guard g = {labels ? -1 : 85, labels ? 15 : -1};
        struct fallback f;
        struct err e;
        if (fall_back(t.c, &g, NULL, NULL, &t.q, &f, &e) < 0)
            fail_msg("%s: %s", spoilt, e.text);
        size_t length = 0;
        for (int i = 0; i < f.count; i++) {
            const char *name = t.n.graph.nodes[f.layers[i].node].name;
            if (!strstr(layers, name))
                fail_msg("%s: %s went to fp16", spoilt, name);
            length += strlen(name) + (i > 0);
        }
        assert_int_equal(length, strlen(layers));
        assert_true(fidelity_percent(&f.before) < 85 && fidelity_percent(&f.after) >= 85);
        assert_true(fidelity_db(&f.after) > fidelity_db(&f.before) + 3 && fidelity_db(&f.layers[0].alone) < 20);
        assert_int_equal(f.after.labelled, labels ? f.after.images : 0);
        assert_int_equal(guard_check(&g, &f.after, &e), 0);
        assert_non_null(strstr(t.q.quantization, stored));
        assert_non_null(strstr(t.q.quantization, "\"fallback\":{\"before\":{\"agreement\":"));
        assert_true(labels == !!strstr(t.q.quantization, "top1_drop"));
        struct fidelity again;
        assert_int_equal(calibration_compare(t.c, &t.q, 0, &again, &e), 0);
        assert_true(again.agree == f.after.agree && again.noise == f.after.noise && again.right == f.after.right);
        fallback_free(&f);
        end(&t);
    }
}

static void spoilt_layers_and_no_others(void **unused)
{
    (void)unused;
    falls_back("b2.conv1", "b2.conv1", "\"fp16_layers\":[\"b2.conv1\"]");
    falls_back("fc", "fc", "\"fp16_layers\":[\"fc\"]");
    falls_back("b2.conv1 b3.conv1", "b2.conv1 b3.conv1", "\"fp16_layers\":[\"b2.conv1\",\"b3.conv1\"]");
    falls_back("shadow", "b3.conv1 b3.conv2", "\"fp16_layers\":[\"b3.conv1\",\"b3.conv2\"]"); /* who gives and who reads */
}

static void nothing_happens_without_need(void **unused)
{
    (void)unused;
    struct trial t;
    start(&t, "", 1);
    const struct guard g = {50, 50};
    struct fallback f;
    struct err e;
    char *before = t.q.quantization;
    assert_int_equal(fall_back(t.c, &g, NULL, NULL, &t.q, &f, &e), 0);
    assert_ptr_equal(t.q.quantization, before); /* the same network, untouched */
    assert_null(f.layers);
    assert_true(f.before.noise == f.after.noise && f.before.images == 20);
    end(&t);
}

static void guards_that_cannot_hold(void **unused)
{
    (void)unused;
    struct trial t;
    start(&t, "b2.conv1", 0);
    struct fallback f;
    struct err e;
    char *before = t.q.quantization;
    assert_int_equal(fall_back(t.c, &(struct guard){100.5, -1}, NULL, NULL, &t.q, &f, &e), -1);
    assert_non_null(
        strstr(e.text, "even with all layers in fp16: top-1 agrees with fp32 on 100.00 % of 20 held-back images, 100.5 %"));
    assert_ptr_equal(t.q.quantization, before);
    assert_true(f.count == 0 && fidelity_percent(&f.before) < 85 && f.after.agree == f.after.images);
    fallback_free(&f);
    assert_int_equal(fall_back(t.c, &(struct guard){-1, 0}, NULL, NULL, &t.q, &f, &e), -1);
    assert_non_null(strstr(e.text, "label"));
    fallback_free(&f);
    /* fp16 cannot hold it either, and says where */
    ((float *)t.n.layers[1].weight)[5] = 70000;
    assert_int_equal(fall_back(t.c, &(struct guard){99, -1}, NULL, NULL, &t.q, &f, &e), -1);
    assert_non_null(strstr(e.text, "conv1"));
    fallback_free(&f);
    assert_ptr_equal(t.q.quantization, before);
    end(&t);
}

static void layers_kept_by_hand(void **unused)
{
    (void)unused;
    struct trial t;
    start(&t, "b2.conv1", 0);
    unsigned char keep[64] = {0};
    struct fallback f;
    struct err e;
    assert_int_equal(layers_parse(&t.n.graph, "fc,b2.conv1", keep, &e), 0);
    assert_int_equal(fall_back(t.c, &(struct guard){85, -1}, keep, NULL, &t.q, &f, &e), 0);
    assert_int_equal(f.count, 0);
    assert_true(fidelity_percent(&f.before) >= 85);
    assert_non_null(strstr(t.q.quantization, "\"fp16_layers\":[\"b2.conv1\",\"fc\"]"));
    fallback_free(&f);
    end(&t);

    start(&t, "b2.conv1", 0); /* one by hand, one by need */
    memset(keep, 0, sizeof keep);
    assert_int_equal(layers_parse(&t.n.graph, "conv1", keep, &e), 0);
    assert_int_equal(fall_back(t.c, &(struct guard){85, -1}, keep, NULL, &t.q, &f, &e), 0);
    assert_int_equal(f.count, 1);
    assert_int_equal(f.layers[0].node, find(&t.n.graph, "b2.conv1"));
    assert_non_null(strstr(t.q.quantization, "\"fp16_layers\":[\"conv1\",\"b2.conv1\"]"));
    fallback_free(&f);
    end(&t);

    start(&t, "b2.conv1", 0); /* no guard, and none needed */
    assert_int_equal(fall_back(t.c, &no_guard, keep, NULL, &t.q, &f, &e), 0);
    assert_non_null(strstr(t.q.quantization, "\"fp16_layers\":[\"conv1\"]"));
    fallback_free(&f);
    static const char *const wrong[][2] = {{"", "'' is no layer"},
                                           {"conv1,", "'' is no layer"},
                                           {"conv", "'conv' is no layer"},
                                           {"conv1 ", "'conv1 ' is no layer"},
                                           {"maxpool", "no convolution or dense layer"},
                                           {"fc,b9", "'b9' is no layer"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(layers_parse(&t.n.graph, wrong[i][0], keep, &e), -1);
        if (!strstr(e.text, wrong[i][1]))
            fail_msg("%s: %s", wrong[i][0], e.text);
    }
    end(&t);
}

/* Alone, the spoilt layer does nearly all the damage; sparing it repairs nearly all, sparing another nothing. */
static void sensitivity(void **unused)
{
    (void)unused;
    struct trial t;
    start(&t, "b2.conv1", 0);
    struct network fp16;
    struct sensitivity *s;
    struct fidelity all;
    struct err e;
    int count;
    assert_int_equal(quantize_network(&t.n, PRECISION_FP16, NULL, t.c, &fp16, NULL, &e), 0);
    assert_int_equal(calibration_compare(t.c, &t.q, 0, &all, &e), 0);
    assert_int_equal(sensitivity_measure(t.c, &t.q, &fp16, 0, 1, NULL, &s, &count, &e), 0);
    assert_int_equal(count, 10);
    assert_int_equal(s[0].node, find(&t.n.graph, "b2.conv1"));
    assert_true(fabs(fidelity_db(&s[0].alone) - fidelity_db(&all)) < 0.5);
    assert_true(fidelity_db(&s[0].spared) > fidelity_db(&all) + 15);
    assert_true(s[0].alone.agree < 15 && s[0].spared.agree > 15);
    for (int i = 1; i < count; i++) {
        assert_true(fidelity_db(&s[i].alone) >= fidelity_db(&s[i - 1].alone));
        assert_true(fidelity_db(&s[i].alone) > 20 && fabs(fidelity_db(&s[i].spared) - fidelity_db(&all)) < 1);
    }
    free(s);
    assert_int_equal(sensitivity_measure(t.c, &t.q, &fp16, 3, 0, NULL, &s, &count, &e), 0);
    assert_true(s[0].alone.images == 3 && s[0].spared.images == 0);
    free(s);
    assert_int_equal(sensitivity_measure(t.c, &fp16, &t.q, 3, 0, NULL, &s, &count, &e), -1);
    network_free(&fp16);
    end(&t);
}

static void guards(void **unused)
{
    (void)unused;
    struct err e;
    const struct fidelity f = {.images = 200, .agree = 199, .signal = 1, .labelled = 100, .fp32_right = 80, .right = 78};
    assert_int_equal(guard_check(&(struct guard){99.5, 2}, &f, &e), 0);
    assert_int_equal(guard_check(&(struct guard){99.6, -1}, &f, &e), -1);
    assert_string_equal(e.text, "top-1 agrees with fp32 on 99.50 % of 200 held-back images, 99.6 % are asked for");
    assert_int_equal(guard_check(&(struct guard){-1, 1.9}, &f, &e), -1);
    assert_string_equal(e.text, "top-1 is 2.00 points below fp32 on 100 held-back images, at most 1.9 are allowed");
    assert_int_equal(guard_check(&no_guard, &f, &e), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spoilt_layers_and_no_others),
        cmocka_unit_test(nothing_happens_without_need),
        cmocka_unit_test(guards_that_cannot_hold),
        cmocka_unit_test(layers_kept_by_hand),
        cmocka_unit_test(sensitivity),
        cmocka_unit_test(guards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

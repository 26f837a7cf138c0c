// SPDX-License-Identifier: MIT
//
// A network that learns to be int8: its own forward against sessions of what it exports, its gradients, and that it learns.

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
#include "models/session.h"
#include "models/train/fake_quantise.h"
#include "models/train/loss.h"
#include "models/train/qat.h"
#include "models/train/random.h"
#include "tests/emulated.h"
#include "tests/networks.h"

#define SIZE    (32 * 32 * 3)
#define CLASSES 7
#define BATCH   37 /* parts of two and of three images */

static void pixels_to_values(const struct network *n, const uint8_t *rgb, float *x)
{
    for (int i = 0; i < SIZE; i++)
        x[i] = preprocess_value(&n->preprocess, i % 3, rgb[i]);
}

static float *make_batch(const struct network *n, unsigned first, int images)
{
    float *x = malloc(sizeof *x * SIZE * (size_t)images);
    uint8_t rgb[SIZE];
    assert_non_null(x);
    for (int i = 0; i < images; i++) {
        make_image(first + (unsigned)i, rgb);
        pixels_to_values(n, rgb, x + (size_t)i * SIZE);
    }
    return x;
}

/* The test network (tests/networks.c), and with other padding: all of it below and at the right of a strided layer. */
static struct network make(unsigned seed, int same)
{
    struct network n = make_network(seed);
    struct err e;
    for (int i = 0; same && i < n.graph.count; i++) {
        struct node *v = &n.graph.nodes[i];
        if (v->op == OP_CONV && v->kernel_h == 3 && v->stride_h == 2)
            v->pad_top = v->pad_left = 0;
    }
    assert_int_equal(graph_check(&n.graph, &e), 0);
    return n;
}

static struct qat *begin(const struct network *n, int bits, struct pthreadpool *pool, const struct kernels *k)
{
    struct network int8 = convert_network(n, PRECISION_INT8);
    const struct qat_options o = {.batch = BATCH, .weight_bits = bits, .pool = pool, .kernels = k};
    struct qat *q;
    struct err e;
    assert_int_equal(qat_new(n, &int8, &o, &q, &e), 0);
    network_free(&int8);
    return q;
}

/* Steps of descent towards random labels; returns the loss before the last. */
static double learn(struct qat *q, const float *x, int steps, float rate)
{
    const struct loss l = {.classes = CLASSES};
    int labels[BATCH], count;
    float d[BATCH * CLASSES];
    double loss = 0;
    struct parameter *p = qat_parameters(q, &count);
    for (int i = 0; i < BATCH; i++)
        labels[i] = i * 5 % CLASSES;
    for (int step = 0; step < steps; step++) {
        const struct loss_batch b = {.images = BATCH, .labels = labels};
        loss = loss_run(&l, &b, qat_forward(q, x, BATCH), d);
        qat_backward(q, d);
        for (int i = 0; i < count; i++)
            for (int64_t k = 0; k < p[i].count; k++) {
                p[i].momentum[k] = 0.9f * p[i].momentum[k] + p[i].grad[k];
                p[i].value[k] -= rate * p[i].momentum[k];
            }
    }
    return loss;
}

/* Logits of q against sessions of its network, as bits: with every implementation, of one image and of several. */
static void same_as_sessions(struct qat *q, unsigned first, int images)
{
    struct network n;
    struct err e;
    assert_int_equal(qat_to_network(q, &n, &e), 0);
    float *x = make_batch(&n, first, images);
    for (const struct kernels *k = kernels_table; k->name; k++) {
        struct model *m;
        struct session *s;
        if (k->need & ~cpu_features())
            continue;
        assert_int_equal(model_from_network(&n, k, &m, &e), 0);
        assert_int_equal(session_new(m, 3, NULL, &s, &e), 0);
        for (int done = 0; done < images; done += BATCH) {
            const int batch = images - done < BATCH ? images - done : BATCH;
            const float *logits = qat_forward(q, x + (size_t)done * SIZE, batch);
            for (int i = 0; i < batch; i += 3) {
                const int some = batch - i < 3 ? batch - i : 3;
                uint8_t rgb[SIZE];
                for (int j = 0; j < some; j++) {
                    make_image(first + (unsigned)(done + i + j), rgb);
                    session_set_pixels(s, j, rgb);
                }
                assert_memory_equal(session_run(s, some), logits + (size_t)i * CLASSES, sizeof *logits * (size_t)some * CLASSES);
            }
        }
        session_free(s);
        model_free(m);
    }
    free(x);
    network_free(&n);
}

static void deploying_loses_nothing(void **unused)
{
    (void)unused;
    for (unsigned seed = 1; seed <= (emulated() ? 3 : 8); seed++) {
        struct network n = make(seed, seed % 2);
        struct qat *q = begin(&n, seed % 3 == 0 ? 4 : seed % 3 == 1 ? 8 : 6, NULL, NULL);
        float *x = make_batch(&n, 500, BATCH);
        same_as_sessions(q, 1000 * seed, 20);
        learn(q, x, 4, 0.01f);
        same_as_sessions(q, 1000 * seed, 60);
        free(x);
        qat_free(q);
        network_free(&n);
    }
}

/* Whatever parameters become, what comes out is a network that can be written, and computes the same. */
static void wild_parameters(void **unused)
{
    (void)unused;
    struct network n = make(3, 0);
    struct qat *q = begin(&n, 8, NULL, NULL);
    struct random r = random_stream(9, RANDOM_INITIALISE, 0, 0);
    int count;
    struct parameter *p = qat_parameters(q, &count);
    for (int i = 0; i < count; i++)
        for (int64_t k = 0; k < p[i].count; k++) {
            const int what = random_below(&r, 8);
            p[i].value[k] = what == 0 ? NAN : what == 1 ? INFINITY : what == 2 ? -1e30f : p[i].value[k];
        }
    same_as_sessions(q, 1, 10);
    qat_free(q);
    network_free(&n);
}

static void same_bits_for_any_threads(void **unused)
{
    (void)unused;
    struct network n = make(5, 0);
    float *x = make_batch(&n, 1, BATCH);
    struct parameter *first[3];
    struct qat *q[3];
    int count;
    for (size_t i = 0; i < 3; i++) {
        struct pthreadpool *pool = i == 0 ? NULL : pthreadpool_create(i + 1);
        q[i] = begin(&n, 8, pool, NULL);
        learn(q[i], x, 3, 0.01f);
        first[i] = qat_parameters(q[i], &count);
        for (int k = 0; k < count; k++)
            assert_memory_equal(first[i][k].value, first[0][k].value, (size_t)first[0][k].count * sizeof(float));
        if (pool)
            pthreadpool_destroy(pool);
    }
    for (size_t i = 0; i < 3; i++)
        qat_free(q[i]);
    free(x);
    network_free(&n);
}

/* At 8 bits the gradients of weights and biases lie close to those of the float network, which are checked elsewhere. Those of
   weight scales follow from those of weights, of which at the start none is clipped. */
static void gradients(void **unused)
{
    (void)unused;
    const struct loss l = {.classes = CLASSES};
    int labels[BATCH], count, floats;
    float d[BATCH * CLASSES];
    struct err e;
    for (unsigned seed = 1; seed <= 4; seed++) {
        struct network n = make(seed, seed % 2);
        float *x = make_batch(&n, 1, BATCH);
        struct qat *q = begin(&n, 8, NULL, NULL);
        struct trainee *t;
        const struct trainee_options o = {.batch = BATCH};
        for (int i = 0; i < BATCH; i++)
            labels[i] = i % CLASSES;
        const struct loss_batch b = {.images = BATCH, .labels = labels};
        assert_int_equal(trainee_from_network(&n, &o, &t, &e), 0);
        loss_run(&l, &b, trainee_forward(t, x, BATCH, TRAINEE_TRAIN), d);
        trainee_backward(t, d);
        const struct parameter *a = qat_parameters(q, &count);
        for (int i = 0; i < count;
             i++) /* these images reach further than those of calibration: what is clipped has no gradient */
            if (strstr(a[i].name, ".scale"))
                *a[i].value *= 1.5f;
        loss_run(&l, &b, qat_forward(q, x, BATCH), d);
        qat_backward(q, d);
        const struct parameter *f = trainee_parameters(t, &floats);
        int compared = 0;
        for (int i = 0; i < count; i++)
            for (int j = 0; j < floats; j++) {
                if (strcmp(a[i].name, f[j].name))
                    continue;
                double dot = 0, aa = 0, ff = 0;
                for (int64_t k = 0; k < a[i].count; k++) {
                    dot += (double)a[i].grad[k] * (double)f[j].grad[k];
                    aa += (double)a[i].grad[k] * (double)a[i].grad[k];
                    ff += (double)f[j].grad[k] * (double)f[j].grad[k];
                }
                if (!(dot / sqrt(aa * ff) > 0.93 && fabs(sqrt(aa / ff) - 1) < 0.15))
                    fail_msg("seed %u, %s: cosine %g, length %g", seed, a[i].name, dot / sqrt(aa * ff), sqrt(aa / ff));
                compared++;
            }
        assert_int_equal(compared, floats);
        for (int i = 0; i < count; i++) {
            if (!strstr(a[i].name, ".wscale"))
                continue;
            const struct parameter *w = &a[i - 1]; /* the weights */
            const int64_t depth = w->count / a[i].count;
            for (int64_t c = 0; c < a[i].count; c++) {
                double sum = 0, size = 0;
                for (int64_t k = c * depth; k < (c + 1) * depth; k++) {
                    const double one =
                        (double)w->grad[k] * ((double)rintf(w->value[k] / a[i].value[c]) - (double)(w->value[k] / a[i].value[c]));
                    sum += one;
                    size += fabs(one);
                }
                const double rate = 1 / sqrt(127 * (double)depth);
                assert_true(fabs((double)a[i].grad[c] - sum * rate) <= 1e-4 * size * rate + 1e-12);
            }
        }
        trainee_free(t);
        qat_free(q);
        free(x);
        network_free(&n);
    }
}

static void learns(void **unused)
{
    (void)unused;
    static const int bits[] = {8, 6, 4, 2};
    struct network n = make(7, 0);
    float *x = make_batch(&n, 1, BATCH);
    for (size_t i = emulated() ? 2 : 0; i < (emulated() ? 3 : sizeof bits / sizeof *bits); i++) {
        struct qat *q = begin(&n, bits[i], NULL, NULL);
        const double before = learn(q, x, 1, 0.01f), after = learn(q, x, 60, 0.01f);
        if (!(after < 0.5 * before))
            fail_msg("%d bits: loss %g, then %g", bits[i], before, after);
        struct network out;
        struct err e;
        const int levels = fake_quantise_levels(bits[i]);
        assert_int_equal(qat_to_network(q, &out, &e), 0);
        for (int k = 0; k < out.graph.count; k++) {
            const int edge = out.graph.nodes[k].in[0] == 0 || k == out.graph.output;
            for (int64_t j = 0; j < node_weights(&out.graph, k); j++)
                assert_true(abs(((const int8_t *)out.layers[k].weight)[j]) <= (edge ? 127 : levels));
        }
        network_free(&out);
        qat_free(q);
    }
    free(x);
    network_free(&n);
}

static void what_cannot_be(void **unused)
{
    (void)unused;
    struct network n = make(1, 0), int8 = convert_network(&n, PRECISION_INT8);
    struct qat *q = NULL;
    struct err e;
    static const struct qat_options wrong[] = {{.batch = 0},
                                               {.batch = TRAINEE_BATCH_MAX + 1},
                                               {.batch = 1, .weight_bits = 9},
                                               {.batch = 1, .weight_bits = 1},
                                               {.batch = 1, .edge_bits = -1}};
    const struct qat_options right = {.batch = 1};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(qat_new(&n, &int8, &wrong[i], &q, &e), -1);
    assert_int_equal(qat_new(&int8, &int8, &right, &q, &e), -1);
    assert_int_equal(qat_new(&n, &n, &right, &q, &e), -1);
    int8.rounding = ROUNDING_TFLITE;
    assert_int_equal(qat_new(&n, &int8, &right, &q, &e), -1);
    assert_int_equal(e.code, ERR_UNSUPPORTED);
    assert_null(q);
    network_free(&n);
    network_free(&int8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deploying_loses_nothing),
        cmocka_unit_test(wild_parameters),
        cmocka_unit_test(same_bits_for_any_threads),
        cmocka_unit_test(gradients),
        cmocka_unit_test(learns),
        cmocka_unit_test(what_cannot_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

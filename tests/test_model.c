// SPDX-License-Identifier: MIT
//
// One network, every precision, every implementation: planned, fused, threaded and batched runs give what a plain walk over the
// nodes gives; in int8 the same bits everywhere.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <pthreadpool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu.h"
#include "models/file.h"
#include "models/model_parts.h"
#include "models/session.h"
#include "tests/files.h"
#include "tests/networks.h"

#define CLASSES 7
#define PIXELS (32 * 32 * 3)

static struct network networks[PRECISIONS];

static int make_all(void **unused)
{
    (void)unused;
    networks[0] = make_network(11);
    for (int p = 1; p < PRECISIONS; p++)
        networks[p] = convert_network(&networks[0], (enum precision)p);
    return 0;
}

static int free_all(void **unused)
{
    (void)unused;
    for (int p = 0; p < PRECISIONS; p++)
        network_free(&networks[p]);
    return 0;
}

static struct session *open_session(const struct network *n, const struct kernels *k, int batch, pthreadpool_t pool)
{
    struct err e;
    struct model *m;
    struct session *s;
    if (model_from_network(n, k, &m, &e) < 0 || session_new(m, batch, pool, &s, &e) < 0) {
        print_error("%s\n", e.text);
        fail();
    }
    model_free(m); /* the session holds its own reference */
    return s;
}

static void assert_close(enum precision p, const float *a, const float *b)
{
    float largest = 0;
    for (int i = 0; i < CLASSES; i++)
        largest = fmaxf(largest, fabsf(b[i]));
    for (int i = 0; i < CLASSES; i++) {
        float limit = p == PRECISION_INT8 ? 0 : largest * (p == PRECISION_FP16 ? 1e-2f : 1e-5f);
        if (!(fabsf(a[i] - b[i]) <= limit)) {
            print_error("precision %s: logit %d is %.9g, expected %.9g\n", precision_name(p), i, (double)a[i], (double)b[i]);
            fail();
        }
    }
}

static void every_implementation(void **unused)
{
    (void)unused;
    uint8_t rgb[PIXELS];
    for (int p = 0; p < PRECISIONS; p++)
        for (const struct kernels *k = kernels_table; k->name; k++) {
            if (k->need & ~cpu_features())
                continue;
            struct session *s = open_session(&networks[p], k, 1, NULL);
            for (unsigned i = 0; i < 4; i++) {
                float expected[CLASSES];
                make_image(i, rgb);
                evaluate(&networks[p], rgb, expected);
                session_set_pixels(s, 0, rgb);
                assert_close((enum precision)p, session_run(s, 1), expected);
            }
            session_free(s);
        }
}

/* Precisions differ from each other, and only as much as they should: a conversion that does nothing, or breaks, shows here. */
static void precisions_differ_a_little(void **unused)
{
    (void)unused;
    static const double least[PRECISIONS] = {0, 1e-7, 1e-5, 1e-5}, most[PRECISIONS] = {0, 0.01, 0.05, 0.15};
    for (int p = 1; p < PRECISIONS; p++) {
        double worst = 0, largest = 0;
        for (unsigned i = 0; i < 8; i++) {
            uint8_t rgb[PIXELS];
            float a[CLASSES], b[CLASSES];
            make_image(i, rgb);
            evaluate(&networks[0], rgb, a);
            evaluate(&networks[p], rgb, b);
            for (int k = 0; k < CLASSES; k++) {
                worst = fmax(worst, fabs((double)(a[k] - b[k])));
                largest = fmax(largest, fabs((double)a[k]));
            }
        }
        if (worst < least[p] * largest || worst > most[p] * largest) {
            print_error("%s differs from fp32 by %g of %g\n", precision_name((enum precision)p), worst, largest);
            fail();
        }
    }
}

/* What a network quantised elsewhere asks for: a convolution before an add, and the logits, are int8 tensors of their own. */
static void kept_outputs_are_quantised(void **unused)
{
    (void)unused;
    struct network n = convert_network(&networks[0], PRECISION_INT8);
    uint8_t rgb[PIXELS];
    float before[CLASSES], expected[CLASSES];
    make_image(2, rgb);
    evaluate(&n, rgb, before);
    for (int i = 0; i < n.graph.count; i++)
        if (strcmp(n.graph.nodes[i].name, "b1.conv3") == 0 || i == n.graph.output) {
            n.graph.nodes[i].keep_output = 1;
            n.quants[i] = (struct quant){0.07f, i == n.graph.output ? 3 : -9};
        }
    evaluate(&n, rgb, expected);
    assert_memory_not_equal(before, expected, sizeof expected);
    for (const struct kernels *k = kernels_table; k->name; k++) {
        if (k->need & ~cpu_features())
            continue;
        struct session *s = open_session(&n, k, 1, NULL);
        session_set_pixels(s, 0, rgb);
        assert_close(PRECISION_INT8, session_run(s, 1), expected);
        session_free(s);
    }
    network_free(&n);
}

static void threads_and_batches_change_no_bit(void **unused)
{
    (void)unused;
    pthreadpool_t pool = pthreadpool_create(3);
    assert_non_null(pool);
    const struct kernels *k = kernels_pick(cpu_features(), NULL);
    for (int p = 0; p < PRECISIONS; p++) {
        struct session *one = open_session(&networks[p], k, 1, NULL), *three = open_session(&networks[p], k, 5, pool);
        float expected[5][CLASSES];
        uint8_t rgb[PIXELS];
        for (unsigned i = 0; i < 5; i++) {
            make_image(i, rgb);
            session_set_pixels(one, 0, rgb);
            memcpy(expected[i], session_run(one, 1), sizeof expected[i]);
            session_set_pixels(three, (int)i, rgb);
        }
        assert_memory_equal(session_run(three, 5), expected, sizeof expected);
        make_image(3, rgb); /* fewer images than there is room for */
        session_set_pixels(three, 0, rgb);
        assert_memory_equal(session_run(three, 1), expected[3], sizeof expected[3]);
        session_free(one);
        session_free(three);
    }
    pthreadpool_destroy(pool);
}

static void values_equal_pixels(void **unused)
{
    (void)unused;
    const struct kernels *k = kernels_pick(cpu_features(), NULL);
    for (int p = 0; p < PRECISIONS; p++)
        for (int bgr = 0; bgr < 2; bgr++) {
            networks[p].preprocess.bgr = bgr;
            struct session *s = open_session(&networks[p], k, 1, NULL);
            networks[p].preprocess.bgr = 0;
            uint8_t rgb[PIXELS];
            float x[PIXELS], expected[CLASSES];
            make_image(5, rgb);
            session_set_pixels(s, 0, rgb);
            memcpy(expected, session_run(s, 1), sizeof expected);
            for (int i = 0; i < PIXELS; i++)
                x[i] = preprocess_value(&networks[p].preprocess, i % 3, rgb[i / 3 * 3 + (bgr ? 2 - i % 3 : i % 3)]);
            session_set_values(s, 0, x);
            assert_memory_equal(session_run(s, 1), expected, sizeof expected);
            session_free(s);
        }
}

static void a_file_gives_the_same_model(void **unused)
{
    (void)unused;
    char *dir = files_make_dir();
    const struct kernels *k = kernels_pick(cpu_features(), NULL);
    for (int p = 0; p < PRECISIONS; p++) {
        struct err e;
        struct model *m;
        struct session *a, *b = open_session(&networks[p], k, 1, NULL);
        const char *path = files_path(dir, "m.safetensors");
        if (model_file_write(path, &networks[p], &e) < 0 || model_load(path, k, NULL, &m, &e) < 0 || session_new(m, 1, NULL, &a, &e) < 0) {
            print_error("%s\n", e.text);
            fail();
        }
        assert_int_equal(model_network(m)->precision, p);
        assert_int_equal(model_classes(m), CLASSES);
        assert_int_equal(strlen(model_network(m)->digest), 64);
        uint8_t rgb[PIXELS];
        make_image(6, rgb);
        session_set_pixels(a, 0, rgb);
        session_set_pixels(b, 0, rgb);
        float expected[CLASSES];
        memcpy(expected, session_run(b, 1), sizeof expected);
        assert_memory_equal(session_run(a, 1), expected, sizeof expected);
        session_free(a);
        session_free(b);
        model_free(m);
    }
    files_remove_dir(dir);
}

struct observed {
    const struct graph *graph;
    int nodes;
    float last[CLASSES];
};

static void see(void *user, int node, const float *values, size_t count)
{
    struct observed *o = user;
    o->nodes++;
    assert_true(node > 0);
    float largest = 0;
    for (size_t i = 0; i < count; i++) {
        assert_true(values[i] >= 0 || !o->graph->nodes[node].relu);
        largest = fmaxf(largest, fabsf(values[i]));
    }
    assert_true(largest > 0.1f && largest < 100);
    if (count == CLASSES)
        memcpy(o->last, values, sizeof o->last);
}

static void observing_changes_nothing(void **unused)
{
    (void)unused;
    for (int p = 0; p < PRECISIONS; p++) {
        struct session *s = open_session(&networks[p], kernels_pick(0, NULL), 1, NULL);
        struct observed o = {.graph = &networks[p].graph};
        uint8_t rgb[PIXELS];
        float expected[CLASSES];
        make_image(7, rgb);
        session_set_pixels(s, 0, rgb);
        memcpy(expected, session_run(s, 1), sizeof expected);
        session_set_pixels(s, 0, rgb);
        assert_memory_equal(session_run_observed(s, 1, see, &o), expected, sizeof expected);
        assert_memory_equal(o.last, expected, sizeof expected);
        assert_int_equal(o.nodes, model_plan(session_model(s))->count);
        session_free(s);
    }
}

/* No two tensors that live at the same time may share a byte, but for a sum written over its residual. */
static void arena_is_sound(void **unused)
{
    (void)unused;
    const struct graph *g = &networks[0].graph;
    struct plan p;
    struct err e;
    assert_int_equal(plan_make(g, 4, &p, &e), 0);
    assert_int_equal(p.count, g->count - 1 - 3); /* the input is no step; three adds compute a convolution */
    int *dies = calloc((size_t)g->count, sizeof *dies), *born = calloc((size_t)g->count, sizeof *born);
    for (int i = 0; i < g->count; i++)
        born[i] = -2;
    born[0] = -1;
    for (int s = 0; s < p.count; s++) {
        born[p.steps[s].node] = s;
        dies[p.steps[s].node] = s;
        for (int j = 0; j < 2; j++)
            if (p.steps[s].in[j] >= 0) {
                assert_true(born[p.steps[s].in[j]] > -2 && born[p.steps[s].in[j]] < s);
                dies[p.steps[s].in[j]] = s;
            }
    }
    dies[g->output] = p.count;
    int shared = 0;
    for (int a = 0; a < g->count; a++) {
        if (born[a] == -2) {
            assert_true(p.offset[a] == SIZE_MAX);
            continue;
        }
        size_t a0 = p.offset[a], a1 = a0 + plan_tensor_bytes(g, a, 4);
        assert_true(a0 % 64 == 0 && a1 <= p.arena_bytes);
        for (int b = 0; b < a; b++) {
            if (born[b] == -2 || born[a] > dies[b] || born[b] > dies[a])
                continue;
            size_t b0 = p.offset[b], b1 = b0 + plan_tensor_bytes(g, b, 4);
            int over = born[a] == dies[b] && a0 == b0 && p.steps[born[a]].in[1] == b;
            shared += over;
            assert_true(over || a1 <= b0 || b1 <= a0);
        }
    }
    assert_true(shared >= 1);
    /* Input and first layer must live together; nothing later needs more. */
    assert_int_equal(p.arena_bytes, plan_tensor_bytes(g, 0, 4) + plan_tensor_bytes(g, 1, 4));
    assert_true(p.arena_bytes < p.sum_bytes);
    free(dies);
    free(born);
    plan_free(&p);
}

static void scores(void **unused)
{
    (void)unused;
    const float logits[6] = {1, 3, -1000, 3, 2, 1000};
    float p[6];
    int best[6];
    softmax(logits, 6, p);
    assert_true(p[5] == 1 && p[2] == 0);
    softmax(logits, 5, p);
    float sum = p[0] + p[1] + p[2] + p[3] + p[4];
    assert_true(fabsf(sum - 1) < 1e-6f && p[1] == p[3] && fabsf(p[1] / p[4] - expf(1)) < 1e-5f);
    top_k(logits, 6, 6, best);
    static const int order[6] = {5, 1, 3, 4, 0, 2};
    assert_memory_equal(best, order, sizeof order);
    top_k(logits, 6, 1, best);
    assert_int_equal(best[0], 5);
    top_k(logits, 4, 2, best);
    assert_true(best[0] == 1 && best[1] == 3);
}

static void limits(void **unused)
{
    (void)unused;
    struct err e;
    struct model *m;
    struct session *s = NULL;
    assert_int_equal(model_from_network(&networks[0], kernels_pick(0, NULL), &m, &e), 0);
    assert_int_equal(session_new(m, 0, NULL, &s, &e), -1);
    assert_int_equal(session_new(m, SESSION_BATCH_MAX + 1, NULL, &s, &e), -1);
    assert_null(s);
    assert_int_equal(session_new(m, SESSION_BATCH_MAX, NULL, &s, &e), 0);
    session_free(s);
    model_free(m);
    /* A bias that leaves 32 bits is refused by the layer's name. */
    struct network q = convert_network(&networks[0], PRECISION_INT8);
    q.layers[1].bias_s32[5] = INT32_MAX;
    assert_int_equal(model_from_network(&q, kernels_pick(0, NULL), &m, &e), -1);
    assert_non_null(strstr(e.text, "conv1, channel 5"));
    network_free(&q);
    session_free(NULL);
    model_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_implementation),
        cmocka_unit_test(precisions_differ_a_little),
        cmocka_unit_test(kept_outputs_are_quantised),
        cmocka_unit_test(threads_and_batches_change_no_bit),
        cmocka_unit_test(values_equal_pixels),
        cmocka_unit_test(a_file_gives_the_same_model),
        cmocka_unit_test(observing_changes_nothing),
        cmocka_unit_test(arena_is_sound),
        cmocka_unit_test(scores),
        cmocka_unit_test(limits),
    };
    return cmocka_run_group_tests(tests, make_all, free_all);
}

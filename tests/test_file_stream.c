// SPDX-License-Identifier: MIT
//
// test_file_stream.c - a file of several windows (file_data.c) reaches its sink whole, on any number of threads: more small
// layers than a window counts, and layers around and above a window's bytes.

#include <pthreadpool.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernels/cpu.h"
#include "models/file.h"
#include "models/session.h"
#include "tests/small_network.h"

enum { SMALL = 40, LAYERS = SMALL + 5, CHANNELS = 3 };
static const int large[LAYERS - SMALL] = {1100, 1000, 500, 500, 10}; /* 1.1 MB of weights in the second, 0.5 and 0.25 behind it */

/* A chain of dense layers, hybrid. */
static struct network make_chain(void)
{
    struct network n = {.precision = PRECISION_HYBRID, .name = "chain", .preprocess = {.scale = 255, .std = {1, 1, 1}}};
    struct err e;
    char *text = take(100 * (LAYERS + 1));
    int used = sprintf(text, "{\"nodes\":[{\"name\":\"n0\",\"op\":\"input\",\"shape\":[%d,1,1]}", CHANNELS);
    for (int i = 1; i <= LAYERS; i++)
        used += sprintf(text + used, ",{\"name\":\"n%d\",\"op\":\"dense\",\"inputs\":[\"n%d\"],\"out_channels\":%d}", i, i - 1,
                        i <= SMALL ? CHANNELS : large[i - SMALL - 1]);
    sprintf(text + used, "],\"output\":\"n%d\"}", LAYERS);
    if (graph_from_json(text, &n.graph, &e) < 0)
        fail_msg("%s", e.text);
    free(text);
    n.layers = take((LAYERS + 1) * sizeof *n.layers);
    uint32_t x = 1;
    for (int i = 1; i <= LAYERS; i++) {
        const size_t weights = (size_t)node_weights(&n.graph, i), channels = (size_t)n.graph.nodes[i].c;
        struct layer *l = &n.layers[i];
        int8_t *w = l->weight = take(weights);
        l->scale = take(channels * sizeof *l->scale);
        l->bias = take(channels * sizeof *l->bias);
        for (size_t j = 0; j < weights; j++)
            w[j] = (int8_t)((x = x * 1664525 + 1013904223) % 255 - 127);
        for (size_t j = 0; j < channels; j++) {
            l->scale[j] = 0.01f + (float)i;
            l->bias[j] = (float)j;
        }
    }
    return n;
}

struct sink {
    const struct network *given;
    atomic_int seen[LAYERS + 1];
    int began, fail_at[2], shorten_to;
};

static int begin(void *user, const struct network *n, struct err *e)
{
    struct sink *s = user;
    (void)e;
    assert_int_equal(n->graph.count, LAYERS + 1);
    s->began++;
    if (s->shorten_to)
        assert_int_equal(truncate(model, s->shorten_to), 0);
    return 0;
}

static int take_layer(void *user, const struct network *n, int node, const struct layer *l, struct err *e)
{
    struct sink *s = user;
    const struct layer *want = &s->given->layers[node];
    const size_t channels = (size_t)n->graph.nodes[node].c;
    if (memcmp(l->weight, want->weight, (size_t)node_weights(&n->graph, node)) == 0 &&
        memcmp(l->scale, want->scale, channels * sizeof *l->scale) == 0 &&
        memcmp(l->bias, want->bias, channels * sizeof *l->bias) == 0)
        atomic_fetch_add(&s->seen[node], 1);
    return node == s->fail_at[0] || node == s->fail_at[1] ? err_set(e, ERR_BUSY, "stop at %d", node) : 0;
}

static int read_into(struct sink *s, struct pthreadpool *pool, struct err *e)
{
    struct network out;
    const int rc = model_file_stream(model, pool, &(struct layer_sink){begin, take_layer, s}, &out, e);
    if (rc < 0)
        assert_true(is_empty(&out));
    network_free(&out);
    return rc;
}

static void expect(const char *want, const struct err *e)
{
    if (!strstr(e->text, want) || !strstr(e->text, model))
        fail_msg("'%s' says nothing of '%s' or of its file", e->text, want);
}

static void check(const struct network *n, struct pthreadpool *pool)
{
    struct err e;
    size_t size;
    struct sink s = {.given = n};
    write_good(n);
    if (read_into(&s, pool, &e) < 0)
        fail_msg("%s", e.text);
    assert_int_equal(s.began, 1);
    for (int i = 1; i <= LAYERS; i++)
        if (s.seen[i] != 1)
            fail_msg("layer %d was seen whole %d times", i, s.seen[i]);

    s = (struct sink){.given = n, .fail_at = {12, 5}}; /* the first of the file is told, whoever fails first */
    assert_int_equal(read_into(&s, pool, &e), -1);
    assert_int_equal(e.code, ERR_BUSY);
    expect("stop at 5", &e);

    uint8_t *bytes = slurp(model, &size);
    s = (struct sink){.given = n, .shorten_to = (int)size - 1};
    assert_int_equal(read_into(&s, pool, &e), -1);
    assert_int_equal(e.code, ERR_DAMAGED);
    expect("tensor 'n45.bias': the file became shorter while it was read", &e);

    for (size_t back = 1; back < size; back *= 60) { /* a bias at the end, weights further up */
        bytes[size - back] ^= 1;
        FILE *f = fopen(model, "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(bytes, 1, size, f), size);
        assert_int_equal(fclose(f), 0);
        s = (struct sink){.given = n};
        assert_int_equal(read_into(&s, pool, &e), -1);
        assert_int_equal(e.code, ERR_DAMAGED);
        bytes[size - back] ^= 1;
    }
    free(bytes);
}

static void any_number_of_threads(void **state)
{
    (void)state;
    struct network n = make_chain();
    for (int threads = 1; threads <= 4; threads *= 2) {
        struct pthreadpool *pool = threads > 1 ? pthreadpool_create((size_t)threads) : NULL;
        check(&n, pool);
        pthreadpool_destroy(pool);
    }
    network_free(&n);
}

/* The packed model does not depend on who packed it. */
static void the_same_model(void **state)
{
    (void)state;
    struct network n = make_chain();
    const struct kernels *k = kernels_pick(cpu_features(), NULL);
    const float x[CHANNELS] = {1e-30f, 2e-30f, -1e-30f};
    float expected[10];
    write_good(&n);
    for (int threads = 1; threads <= 3; threads++) {
        struct pthreadpool *pool = threads > 1 ? pthreadpool_create((size_t)threads) : NULL;
        struct model *m;
        struct session *s;
        struct err e;
        if (model_load(model, k, pool, &m, &e) < 0 || session_new(m, 1, pool, &s, &e) < 0)
            fail_msg("%s", e.text);
        session_set_values(s, 0, x);
        const float *logits = session_run(s, 1);
        if (threads == 1)
            memcpy(expected, logits, sizeof expected);
        assert_memory_equal(logits, expected, sizeof expected);
        session_free(s);
        model_free(m);
        pthreadpool_destroy(pool);
    }
    network_free(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(any_number_of_threads), cmocka_unit_test(the_same_model)};
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}

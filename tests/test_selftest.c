// SPDX-License-Identifier: MIT
//
// test_selftest.c - golden inputs and logits: every implementation gives what the reference gave, a file whose numbers are others
// is found out though its digest is right, and a file without them must at least give finite logits.

#include <pthreadpool.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <math.h>

#include "kernels/cpu.h"
#include "models/file.h"
#include "models/quantize/mixed.h"
#include "models/selftest.h"
#include "tests/files.h"
#include "tests/networks.h"

#define CLASSES 7
#define KINDS   (PRECISIONS + 1) /* and int8 with a layer in half */

static struct network nets[KINDS];
static char *dir, model[300];

static int make_all(void **unused)
{
    (void)unused;
    unsigned char chosen[64] = {0};
    struct err e;
    dir = files_make_dir();
    snprintf(model, sizeof model, "%s", files_path(dir, "model.safetensors"));
    nets[PRECISION_FP32] = make_network(5);
    for (int p = 0; p < PRECISIONS; p++)
        if (p != PRECISION_FP32)
            nets[p] = convert_network(&nets[PRECISION_FP32], (enum precision)p);
    chosen[1] = 1;
    if (mixed_network(&nets[PRECISION_INT8], &nets[PRECISION_FP16], chosen, &nets[PRECISIONS], &e) < 0)
        fail_msg("%s", e.text);
    return 0;
}

static int free_all(void **unused)
{
    (void)unused;
    for (int i = 0; i < KINDS; i++)
        network_free(&nets[i]);
    unlink(model);
    files_remove_dir(dir);
    return 0;
}

static void must(int rc, const struct err *e)
{
    if (rc != 0)
        fail_msg("%s", e->text);
}

static struct model *write_and_load(const struct network *n, const struct kernels *k)
{
    struct model *m;
    struct err e;
    must(model_file_write(model, n, &e), &e);
    must(model_load(model, k, NULL, &m, &e), &e);
    return m;
}

static void same_everywhere(void **unused)
{
    (void)unused;
    struct err e;
    pthreadpool_t pool = pthreadpool_create(2);
    for (int i = 0; i < KINDS; i++) {
        struct network *n = &nets[i];
        must(selftest_make(n, NULL, &e), &e);
        assert_int_equal(n->selftest.images, 2);
        uint8_t *pixels = malloc(2 * 32 * 32 * 3);
        float logits[2 * CLASSES];
        assert_non_null(pixels);
        memcpy(pixels, n->selftest.input, 2 * 32 * 32 * 3);
        memcpy(logits, n->selftest.logits, sizeof logits);
        assert_memory_not_equal(pixels, pixels + 32 * 32 * 3, 32 * 32 * 3);
        must(selftest_make(n, pool, &e), &e); /* the same again, on any number of threads */
        assert_memory_equal(pixels, n->selftest.input, 2 * 32 * 32 * 3);
        assert_memory_equal(logits, n->selftest.logits, sizeof logits);
        free(pixels);
        for (const struct kernels *k = kernels_table; k->name; k++) {
            if (k->need & ~cpu_features())
                continue;
            struct model *m = write_and_load(n, k);
            must(selftest_run(m, NULL, &e), &e);
            must(selftest_run(m, pool, &e), &e);
            model_drop_selftest(m);
            must(selftest_run(m, NULL, &e), &e);
            model_free(m);
        }
    }
    pthreadpool_destroy(pool);
}

/* What the file holds is another number, off by more than the bound, and its digest is right. Kernels with half arithmetic use up
   an eighth of their bound, in either direction. */
static void found_out(void **unused)
{
    (void)unused;
    for (int i = 0; i < KINDS; i++)
        for (int bad = 0; bad < 2; bad++) {
            struct network *n = &nets[i];
            struct err e;
            must(selftest_make(n, NULL, &e), &e);
            float *last = &n->selftest.logits[2 * CLASSES - 1], most = 0;
            for (int c = 0; c < CLASSES; c++)
                most = fmaxf(most, fabsf(n->selftest.logits[CLASSES + c]));
            const float bound = (float)selftest_bound(n) * most;
            const float far = *last < 0 ? 1.3f : -1.3f, near = *last < 0 ? 0.5f : -0.5f; /* towards 0: most stays */
            *last += bound * (bad ? far : near);
            if (bad && bound == 0)
                *last = nextafterf(*last, 1000);
            struct model *m = write_and_load(n, kernels_pick(cpu_features(), NULL));
            const int rc = selftest_run(m, NULL, &e);
            assert_int_equal(rc, bad ? SELFTEST_FAILED : 0);
            if (bad && (!strstr(e.text, "logit 6 of image 1") || !strstr(e.text, model_kernels(m)->name)))
                fail_msg("'%s' does not say what is wrong where", e.text);
            model_free(m);
        }
}

static void pixels_count(void **unused)
{
    (void)unused;
    struct network *n = &nets[PRECISION_INT8];
    struct err e;
    must(selftest_make(n, NULL, &e), &e);
    for (int i = 0; i < 32 * 32 * 3; i++)
        n->selftest.input[i] ^= 0x80;
    struct model *m = write_and_load(n, kernels_pick(cpu_features(), NULL));
    assert_int_equal(selftest_run(m, NULL, &e), SELFTEST_FAILED);
    model_free(m);
}

/* Weights that pass every check of the file, and sums that leave float. */
static void not_finite(void **unused)
{
    (void)unused;
    struct network *n = &nets[PRECISION_FP32];
    struct err e;
    float *bias = NULL;
    selftest_free(&n->selftest);
    for (int i = 0; i < n->graph.count; i++)
        if (n->layers[i].weight) {
            float *w = n->layers[i].weight;
            for (int64_t j = 0; j < node_weights(&n->graph, i); j++)
                w[j] *= 1e20f;
            bias = n->layers[i].bias;
        }
    assert_non_null(bias);
    struct model *m = write_and_load(n, kernels_pick(cpu_features(), NULL));
    assert_int_equal(selftest_run(m, NULL, &e), SELFTEST_FAILED);
    assert_non_null(strstr(e.text, "not finite"));
    model_free(m);
    assert_int_equal(selftest_make(n, NULL, &e), -1);
    assert_non_null(strstr(e.text, "not finite"));
    assert_int_equal(n->selftest.images, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_everywhere), cmocka_unit_test(found_out), cmocka_unit_test(pixels_count),
        cmocka_unit_test(not_finite), /* last: it spoils the fp32 network */
    };
    return cmocka_run_group_tests(tests, make_all, free_all);
}

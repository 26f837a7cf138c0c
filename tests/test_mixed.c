// SPDX-License-Identifier: MIT
//
// int8 networks in which some layers work in fp16: where casts are put, what runs, and what the file holds.

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
#include "models/quantize/mixed.h"
#include "models/session.h"
#include "tests/files.h"
#include "tests/networks.h"

#define CLASSES 7
#define PIXELS  (32 * 32 * 3)
#define IMAGES  5

static struct network fp32, fp16, int8;

static int make_all(void **unused)
{
    (void)unused;
    fp32 = make_network(11);
    fp16 = convert_network(&fp32, PRECISION_FP16);
    int8 = convert_network(&fp32, PRECISION_INT8);
    return 0;
}

static int free_all(void **unused)
{
    (void)unused;
    network_free(&fp32);
    network_free(&fp16);
    network_free(&int8);
    return 0;
}

static int find(const struct graph *g, const char *name)
{
    for (int i = 0; i < g->count; i++)
        if (strcmp(g->nodes[i].name, name) == 0)
            return i;
    return -1;
}

/* The layers called `names` (separated by spaces) in fp16; "*": all. */
static struct network mix(const char *names)
{
    unsigned char chosen[64] = {0};
    struct network out;
    struct err e;
    char text[256], *at, *save;
    snprintf(text, sizeof text, "%s", names);
    for (int i = 0; i < int8.graph.count; i++)
        chosen[i] = strcmp(names, "*") == 0;
    for (at = strtok_r(text, " ", &save); at && strcmp(names, "*") != 0; at = strtok_r(NULL, " ", &save)) {
        assert_true(find(&int8.graph, at) > 0);
        chosen[find(&int8.graph, at)] = 1;
    }
    if (mixed_network(&int8, &fp16, chosen, &out, &e) < 0)
        fail_msg("%s: %s", names, e.text);
    return out;
}

static struct session *open_session(const struct network *n, const struct kernels *k, int batch, pthreadpool_t pool)
{
    struct err e;
    struct model *m;
    struct session *s;
    if (model_from_network(n, k, &m, &e) < 0 || session_new(m, batch, pool, &s, &e) < 0)
        fail_msg("%s", e.text);
    model_free(m);
    return s;
}

static void run(const struct network *n, const struct kernels *k, float logits[IMAGES][CLASSES])
{
    struct session *s = open_session(n, k, 1, NULL);
    for (unsigned i = 0; i < IMAGES; i++) {
        uint8_t rgb[PIXELS];
        make_image(i, rgb);
        session_set_pixels(s, 0, rgb);
        memcpy(logits[i], session_run(s, 1), sizeof logits[i]);
    }
    session_free(s);
}

/* Without fp16 layers nothing changes; with all of them it is the fp16 network, without a cast. */
static void both_ends(void **unused)
{
    (void)unused;
    struct network none = mix(""), all = mix("*");
    assert_int_equal(none.graph.count, int8.graph.count);
    assert_int_equal(all.graph.count, int8.graph.count);
    assert_null(strstr(none.quantization, "fp16_layers"));
    assert_non_null(strstr(all.quantization, "\"fp16_layers\":[\"conv1\",\"b1.conv1\","));
    for (const struct kernels *k = kernels_table; k->name; k++) {
        if (k->need & ~cpu_features())
            continue;
        float a[IMAGES][CLASSES], b[IMAGES][CLASSES];
        run(&none, k, a);
        run(&int8, k, b);
        assert_memory_equal(a, b, sizeof a);
        run(&all, k, a);
        run(&fp16, k, b);
        assert_memory_equal(a, b, sizeof a);
    }
    network_free(&none);
    network_free(&all);
}

/* Which casts there are, in the order of the graph. */
static void check_casts(const char *layers, const char *const *want)
{
    struct network n = mix(layers);
    for (int i = 0; i < n.graph.count; i++) {
        const struct node *v = &n.graph.nodes[i];
        assert_int_equal(n.quants[i].scale == 0, v->half);
        if (v->op != OP_QUANTIZE && v->op != OP_DEQUANTIZE)
            continue;
        if (!*want || strcmp(v->name, *want) != 0)
            fail_msg("%s in fp16: %s, expected %s", layers, v->name, *want ? *want : "no more");
        const struct quant *q = &n.quants[v->op == OP_QUANTIZE ? i : v->in[0]];
        char name[GRAPH_NAME_MAX];
        snprintf(name, sizeof name, "%.*s", (int)(strrchr(v->name, '.') - v->name), v->name);
        assert_memory_equal(q, &int8.quants[find(&int8.graph, name)], sizeof *q);
        want++;
    }
    if (*want)
        fail_msg("%s in fp16: no %s", layers, *want);
    network_free(&n);
}

static void casts_where_types_meet(void **unused)
{
    (void)unused;
    check_casts("b1.conv2", (const char *const[]){"b1.conv1.dequantize", "b1.conv2.quantize", NULL});
    /* the convolution within an add: the add is in half too */
    check_casts("b1.conv3", (const char *const[]){"b1.conv2.dequantize", "b1.downsample.dequantize", "b1.add.quantize", NULL});
    check_casts("b3.conv2", (const char *const[]){"b3.conv1.dequantize", "b2.add.dequantize", "b3.add.quantize", NULL});
    /* an add of two sums is in half when both are */
    check_casts("b2.conv2 b3.conv1 b3.conv2",
                (const char *const[]){"b2.conv1.dequantize", "b2.shortcut.dequantize", "avgpool.quantize", NULL});
    /* beside one: the add stays in int8 */
    check_casts("b1.downsample", (const char *const[]){"maxpool.dequantize", "b1.downsample.quantize", NULL});
    /* neighbours need none between; one cast serves two readers; pooling follows */
    check_casts("b1.conv1 b1.conv2", (const char *const[]){"maxpool.dequantize", "b1.conv2.quantize", NULL});
    check_casts("b1.conv1 b1.downsample",
                (const char *const[]){"maxpool.dequantize", "b1.conv1.quantize", "b1.downsample.quantize", NULL});
    check_casts("conv1", (const char *const[]){"maxpool.quantize", NULL});
    check_casts("fc", (const char *const[]){"avgpool.dequantize", NULL});
}

static const char *const choices[] = {"conv1",
                                      "b1.conv2",
                                      "b1.conv3",
                                      "b1.downsample",
                                      "b2.conv1",
                                      "b2.conv2",
                                      "b3.conv2",
                                      "fc",
                                      "conv1 b1.conv1",
                                      "b1.conv3 b2.conv1 fc",
                                      "conv1 b1.conv1 b1.conv2 b1.conv3 b1.downsample b2.conv1 b2.conv2 b3.conv1 b3.conv2",
                                      "b1.conv1 b1.conv2 b1.conv3 b1.downsample b2.conv1 b2.conv2 b3.conv1 b3.conv2 fc"};
enum { CHOICES = sizeof choices / sizeof *choices };

/* Half sums may differ in their last bit, which turns a rounding to int8 here and there. */
static void every_implementation(void **unused)
{
    (void)unused;
    for (int c = 0; c < CHOICES; c++) {
        struct network n = mix(choices[c]);
        float want[IMAGES][CLASSES], got[IMAGES][CLASSES], plain[IMAGES][CLASSES], largest = 0, off = 0;
        for (unsigned i = 0; i < IMAGES; i++) {
            uint8_t rgb[PIXELS];
            make_image(i, rgb);
            evaluate(&n, rgb, want[i]);
            evaluate(&int8, rgb, plain[i]);
        }
        assert_memory_not_equal(want, plain, sizeof want);
        for (const struct kernels *k = kernels_table; k->name; k++) {
            if (k->need & ~cpu_features())
                continue;
            run(&n, k, got);
            for (int i = 0; i < IMAGES * CLASSES; i++) {
                largest = fmaxf(largest, fabsf((&want[0][0])[i]));
                off = fmaxf(off, fabsf((&got[0][0])[i] - (&want[0][0])[i]));
            }
            if (!(off <= 0.02f * largest))
                fail_msg("%s in fp16, %s: off by %g of %g", choices[c], k->name, (double)off, (double)largest);
        }
        network_free(&n);
    }
}

static void see(void *user, int node, const float *values, size_t count)
{
    const struct graph *g = user;
    for (size_t i = 0; i < count; i++)
        assert_true(fabsf(values[i]) < 100 && (values[i] >= 0 || !g->nodes[node].relu));
}

/* Threads, batches, pixels or values, observed or not, and the way through a file change no bit. */
static void always_the_same(void **unused)
{
    (void)unused;
    char *dir = files_make_dir();
    const char *path = files_path(dir, "m.safetensors");
    const struct kernels *k = kernels_pick(cpu_features(), NULL);
    pthreadpool_t pool = pthreadpool_create(3);
    for (int c = 0; c < CHOICES; c++) {
        struct network n = mix(choices[c]), again;
        struct err e;
        float want[IMAGES][CLASSES], got[IMAGES][CLASSES], x[PIXELS];
        uint8_t rgb[PIXELS];
        run(&n, k, want);
        if (model_file_write(path, &n, &e) < 0 || model_file_read(path, &again, &e) < 0)
            fail_msg("%s: %s", choices[c], e.text);
        run(&again, k, got);
        assert_memory_equal(got, want, sizeof want);
        assert_non_null(strstr(again.quantization, "fp16_layers"));

        struct model *m;
        assert_int_equal(model_load(path, k, pool, &m, &e), 0);
        struct session *s;
        assert_int_equal(session_new(m, IMAGES, pool, &s, &e), 0);
        model_free(m);
        for (unsigned i = 0; i < IMAGES; i++) {
            make_image(i, rgb);
            session_set_pixels(s, (int)i, rgb);
        }
        assert_memory_equal(session_run(s, IMAGES), want, sizeof want);
        make_image(2, rgb);
        for (int i = 0; i < PIXELS; i++)
            x[i] = preprocess_value(&n.preprocess, i % 3, rgb[i]);
        session_set_values(s, 0, x);
        assert_memory_equal(session_run_observed(s, 1, see, &n.graph), want[2], sizeof want[2]);
        session_free(s);
        network_free(&n);
        network_free(&again);
    }
    pthreadpool_destroy(pool);
    files_remove_dir(dir);
}

static void refused(const struct network *a, const struct network *b, const char *layer, const char *word)
{
    unsigned char chosen[64] = {0};
    struct network out = {.label_count = 77};
    struct err e;
    chosen[find(&int8.graph, layer)] = 1;
    assert_int_equal(mixed_network(a, b, chosen, &out, &e), -1);
    if (!strstr(e.text, word))
        fail_msg("'%s' does not say '%s'", e.text, word);
    assert_int_equal(out.label_count, 77);
}

static void what_cannot_be_mixed(void **unused)
{
    (void)unused;
    refused(&fp16, &int8, "fc", "this is int8 into fp16");
    refused(&int8, &fp32, "fc", "this is fp32 into int8");
    struct network n = convert_network(&fp32, PRECISION_INT8);
    n.rounding = ROUNDING_TFLITE;
    refused(&n, &fp16, "fc", "tflite");
    n.rounding = ROUNDING_NEAREST_EVEN;
    n.quants[find(&n.graph, "avgpool")].scale = 257;
    refused(&n, &fp16, "fc", "avgpool");
    n.quants[find(&n.graph, "avgpool")].scale = 256;
    unsigned char chosen[64] = {0};
    chosen[n.graph.output] = 1;
    struct network out;
    struct err e;
    assert_int_equal(mixed_network(&n, &fp16, chosen, &out, &e), 0);
    network_free(&out);
    char *name = n.graph.nodes[find(&n.graph, "avgpool")].name;
    memset(name, 'x', GRAPH_NAME_MAX - 11); /* ".dequantize" */
    name[GRAPH_NAME_MAX - 11] = '\0';
    refused(&n, &fp16, "fc", "too long");
    network_free(&n);
    /* A model in which something else than an int8 network mixes does not come to be. */
    struct model *m;
    fp32.graph.nodes[0].half = 1;
    assert_int_equal(model_from_network(&fp32, kernels_pick(0, NULL), &m, &e), -1);
    fp32.graph.nodes[0].half = 0;
    assert_non_null(strstr(e.text, "'input' works in half"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_ends),       cmocka_unit_test(casts_where_types_meet), cmocka_unit_test(every_implementation),
        cmocka_unit_test(always_the_same), cmocka_unit_test(what_cannot_be_mixed),
    };
    return cmocka_run_group_tests(tests, make_all, free_all);
}

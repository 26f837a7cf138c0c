// SPDX-License-Identifier: MIT
//
// Networks written as ONNX: what the operators' definitions make of the file is what the network computes, and what the reader
// makes of it computes the same bits.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernels/cpu.h"
#include "models/checkpoint/onnx.h"
#include "models/checkpoint/onnx_file.h"
#include "models/checkpoint/onnx_write.h"
#include "models/quantize/mixed.h"
#include "models/session.h"
#include "tests/files.h"
#include "tests/make_onnx.h"
#include "tests/networks.h"
#include "tests/scarce.h"

enum { CLASSES = 7, PIXELS = 32 * 32, IMAGES = 6 };

static char *dir;

static int make_dir(void **unused)
{
    (void)unused;
    dir = files_make_dir();
    return 0;
}

static int remove_dir(void **unused)
{
    (void)unused;
    files_remove_dir(dir);
    return 0;
}

static const char *path(void)
{
    return files_path(dir, "n.onnx");
}

static void write_network(const struct network *n)
{
    struct err e;
    if (onnx_write(path(), n, &e) < 0)
        fail_msg("%s", e.text);
    assert_int_equal(files_count(dir), 1);
}

static struct network read_network(const struct network *like)
{
    struct network n = {.name = ""};
    struct err e;
    if (onnx_import(path(), &(struct import_options){NULL, &like->preprocess}, &n, &e) < 0)
        fail_msg("%s", e.text);
    return n;
}

static void run(const struct network *n, float logits[IMAGES][CLASSES])
{
    static uint8_t rgb[3 * PIXELS];
    struct model *m;
    struct session *s;
    struct err e;
    if (model_from_network(n, kernels_pick(cpu_features(), NULL), &m, &e) < 0 || session_new(m, 1, NULL, &s, &e) < 0)
        fail_msg("%s", e.text);
    assert_int_equal(model_classes(m), CLASSES);
    for (unsigned i = 0; i < IMAGES; i++) {
        make_image(i, rgb);
        session_set_pixels(s, 0, rgb);
        memcpy(logits[i], session_run(s, 1), sizeof logits[i]);
    }
    session_free(s);
    model_free(m);
}

/* What the definitions make of the file, image by image. Returns noise over signal, in magnitude. */
static double deviation(const struct network *n, float logits[IMAGES][CLASSES])
{
    static uint8_t rgb[3 * PIXELS];
    static double x[3 * PIXELS];
    Onnx__ModelProto *m;
    struct err e;
    double noise = 0, signal = 0, y[CLASSES];
    if (onnx_file_read(path(), &m, &e) < 0)
        fail_msg("%s", e.text);
    for (unsigned i = 0; i < IMAGES; i++) {
        make_image(i, rgb);
        for (int k = 0; k < 3 * PIXELS; k++)
            x[k % 3 * PIXELS + k / 3] = (double)preprocess_value(&n->preprocess, k % 3, rgb[k]);
        assert_int_equal(onnx_evaluate(m, (int64_t[]){1, 3, 32, 32}, x, y, CLASSES), CLASSES);
        for (int c = 0; c < CLASSES; c++) {
            noise += pow(y[c] - (double)logits[i][c], 2);
            signal += y[c] * y[c];
        }
    }
    onnx_file_free(m);
    assert_true(signal > 0.01);
    return sqrt(noise / signal);
}

/* Written, evaluated and read back; ends n. exact: nothing is lost on the way. */
static void check(struct network *n, double limit, int exact)
{
    float first[IMAGES][CLASSES], second[IMAGES][CLASSES];
    write_network(n);
    run(n, first);
    const double d = deviation(n, first);
    if (!(d <= limit))
        fail_msg("%s: the file computes something else, by %g", precision_name(n->precision), d);
    struct network back = read_network(n);
    assert_int_equal(back.precision, n->precision == PRECISION_INT8 ? PRECISION_INT8 : PRECISION_FP32);
    run(&back, second);
    if (exact)
        assert_memory_equal(first, second, sizeof first);
    else
        assert_true(deviation(n, second) <= 2e-5);
    network_free(&back);
    network_free(n);
}

static void each_precision(void **unused)
{
    (void)unused;
    for (unsigned seed = 1; seed <= 3; seed++) {
        struct network n = make_network(seed);
        struct network half = convert_network(&n, PRECISION_FP16), hybrid = convert_network(&n, PRECISION_HYBRID),
                       int8 = convert_network(&n, PRECISION_INT8);
        check(&n, 2e-6, 1);
        check(&half, 5e-3, 0);
        check(&hybrid, 2e-6, 0);
        check(&int8, 0.02, 1); /* ties */
    }
}

static void relu_everywhere_and_windows(void **unused)
{
    (void)unused;
    struct network n = make_network(4);
    struct graph *g = &n.graph;
    struct err e;
    for (int i = 0; i < g->count; i++)
        if (strcmp(g->nodes[i].name, "b3.conv2") == 0 || strcmp(g->nodes[i].name, "b3.add") == 0) {
            g->nodes[i].relu = 1;
        } else if (strcmp(g->nodes[i].name, "conv1") == 0) { /* same size of output, from elsewhere */
            g->nodes[i].pad_top = 2;
            g->nodes[i].pad_left = 4;
            g->nodes[i].pad_bottom = 4;
            g->nodes[i].pad_right = 2;
        }
    assert_int_equal(graph_check(g, &e), 0);
    struct network int8 = convert_network(&n, PRECISION_INT8);
    check(&n, 2e-6, 1);
    check(&int8, 0.02, 1);
}

static struct network keeping(enum rounding rounding)
{
    struct network n = make_network(5), q = convert_network(&n, PRECISION_INT8);
    q.rounding = rounding;
    for (int i = 0; i < q.graph.count; i++)
        q.graph.nodes[i].keep_output = node_has_weights(&q.graph.nodes[i]);
    q.quants[q.graph.output] = (struct quant){0.05f, 3};
    network_free(&n);
    return q;
}

static void kept_outputs(void **unused)
{
    (void)unused;
    struct network q = keeping(ROUNDING_NEAREST_EVEN), again = keeping(ROUNDING_NEAREST_EVEN), t = keeping(ROUNDING_TFLITE);
    write_network(&again);
    struct network back = read_network(&again);
    assert_true(back.graph.nodes[back.graph.output].keep_output);
    network_free(&back);
    network_free(&again);
    check(&q, 0.05, 1);
    float logits[IMAGES][CLASSES];
    write_network(&t); /* the same rule in everything but ties, which are not for ONNX to choose */
    run(&t, logits);
    assert_true(deviation(&t, logits) < 0.1);
    network_free(&t);
}

/* Layers in half, one after the other, before an add, and the last, become float; what is between them stays quantised. */
static void mixed(void **unused)
{
    (void)unused;
    static const char *const layers[] = {"conv1", "b1.conv1", "b1.conv2", "b2.conv2", "fc"};
    struct network n = make_network(9), half = convert_network(&n, PRECISION_FP16), int8 = convert_network(&n, PRECISION_INT8), m;
    struct import_options options = {NULL, &n.preprocess};
    struct err e;
    unsigned char chosen[64] = {0};
    for (int i = 0; i < n.graph.count; i++)
        for (size_t k = 0; k < sizeof layers / sizeof *layers; k++)
            chosen[i] |= strcmp(n.graph.nodes[i].name, layers[k]) == 0;
    assert_int_equal(mixed_network(&int8, &half, chosen, &m, &e), 0);
    float logits[IMAGES][CLASSES];
    write_network(&m);
    run(&m, logits);
    const double d = deviation(&m, logits);
    if (!(d < 0.02))
        fail_msg("the file computes something else, by %g", d);
    struct network back = {.name = ""};
    assert_int_equal(onnx_import(path(), &options, &back, &e), -1); /* which the reader does not know, and says so */
    assert_int_equal(e.code, ERR_UNSUPPORTED);
    network_free(&m);
    network_free(&int8);
    network_free(&half);
    network_free(&n);
}

/* ---- outputs of every kind, and dense layers that do not give the logits ---- */

static int node(struct network *n, enum op op, int in0, int in1, int channels)
{
    struct node *v = graph_add(&n->graph, op, "%s.%d", op_name(op), n->graph.count);
    assert_non_null(v);
    v->in[0] = in0;
    v->in[1] = in1;
    v->c = channels;
    return n->graph.count - 1;
}

static void fill(struct network *n)
{
    struct err e;
    if (graph_check(&n->graph, &e) < 0)
        fail_msg("%s", e.text);
    n->layers = calloc((size_t)n->graph.count, sizeof *n->layers);
    assert_non_null(n->layers);
    for (int i = 0; i < n->graph.count; i++) {
        const int64_t count = node_weights(&n->graph, i), channels = n->graph.nodes[i].c;
        if (!count)
            continue;
        float *w = n->layers[i].weight = malloc((size_t)count * sizeof *w),
              *b = n->layers[i].bias = malloc((size_t)channels * sizeof *b);
        assert_true(w && b);
        const float limit = 2 / sqrtf((float)node_depth(&n->graph, i));
        for (int64_t k = 0; k < count; k++)
            w[k] = onnx_uniform(-limit, limit);
        for (int64_t k = 0; k < channels; k++)
            b[k] = onnx_uniform(-0.2f, 0.2f);
    }
}

static struct network head(enum op last)
{
    struct network n = {.name = "head", .precision = PRECISION_FP32};
    struct err e;
    assert_int_equal(preprocess_preset("cifar10", &n.preprocess, &e), 0);
    int x = node(&n, OP_INPUT, -1, -1, 3);
    n.graph.nodes[x].h = n.graph.nodes[x].w = 32;
    x = node(&n, OP_CONV, x, -1, 9);
    n.graph.nodes[x].kernel_h = n.graph.nodes[x].kernel_w = 5;
    n.graph.nodes[x].stride_h = n.graph.nodes[x].stride_w = 3;
    int y = node(&n, OP_CONV, x, -1, last == OP_AVGPOOL ? CLASSES : 9);
    n.graph.nodes[y].relu = 1;
    y = node(&n, OP_AVGPOOL, y, -1, 0);
    if (last != OP_AVGPOOL) {
        y = node(&n, OP_DENSE, y, -1, 8);
        n.graph.nodes[y].relu = 1;
        x = y;
        y = node(&n, last == OP_CONV ? OP_CONV : OP_DENSE, x, -1, CLASSES);
        if (last == OP_ADD)
            y = node(&n, OP_ADD, y, node(&n, OP_CONV, x, -1, CLASSES), 0);
    }
    n.graph.output = y;
    fill(&n);
    return n;
}

static void outputs(void **unused)
{
    (void)unused;
    const enum op last[] = {OP_DENSE, OP_CONV, OP_ADD, OP_AVGPOOL};
    for (size_t i = 0; i < sizeof last / sizeof *last; i++) {
        struct network n = head(last[i]), int8 = convert_network(&n, PRECISION_INT8);
        check(&n, 2e-6, 1);
        check(&int8, 0.03, 1);
    }
}

/* ---- the file ---- */

static const char *metadata(const Onnx__ModelProto *m, const char *key)
{
    for (size_t i = 0; i < m->n_metadata_props; i++)
        if (strcmp(m->metadata_props[i]->key, key) == 0)
            return m->metadata_props[i]->value;
    return NULL;
}

static void what_is_told(void **unused)
{
    (void)unused;
    struct network n = make_network(7), int8 = convert_network(&n, PRECISION_INT8);
    Onnx__ModelProto *m;
    struct err e;
    n.provenance = strdup("{\"source\":\"x\"}");
    n.labels = calloc(CLASSES, sizeof *n.labels);
    assert_true(n.provenance && n.labels);
    for (n.label_count = 0; n.label_count < CLASSES; n.label_count++)
        assert_non_null(n.labels[n.label_count] = strdup("a \"label\""));
    write_network(&n);
    size_t size, size2;
    char *bytes = files_read(path(), &size);
    write_network(&n);
    char *bytes2 = files_read(path(), &size2);
    assert_true(bytes && bytes2 && size == size2);
    assert_memory_equal(bytes, bytes2, size);
    free(bytes);
    free(bytes2);

    assert_int_equal(onnx_file_read(path(), &m, &e), 0);
    assert_string_equal(m->producer_name, "resnetd");
    assert_int_equal(m->opset_import[0]->version, ONNX_WRITE_OPSET);
    assert_string_equal(m->graph->name, "test");
    assert_string_equal(m->graph->input[0]->name, "input");
    assert_string_equal(m->graph->output[0]->name, "logits");
    assert_string_equal(m->graph->input[0]->type->tensor_type->shape->dim[0]->dim_param, "N");
    assert_string_equal(metadata(m, "resnetd.name"), "test");
    assert_string_equal(metadata(m, "resnetd.precision"), "fp32");
    assert_string_equal(metadata(m, "resnetd.provenance"), n.provenance);
    assert_non_null(strstr(metadata(m, "resnetd.labels"), "\"a \\\"label\\\"\",\"a "));
    assert_non_null(strstr(metadata(m, "resnetd.preprocess"), "\"mean\""));
    assert_null(metadata(m, "resnetd.quantization"));
    onnx_file_free(m);

    write_network(&int8);
    assert_int_equal(onnx_file_read(path(), &m, &e), 0);
    assert_string_equal(metadata(m, "resnetd.precision"), "int8");
    for (size_t i = 0; i < m->graph->n_node; i++) /* what the add computes is not rounded before it */
        assert_string_not_equal(m->graph->node[i]->name, "b3.conv2/quantize");
    onnx_file_free(m);
    network_free(&n);
    network_free(&int8);
}

/* A text in the file becomes another of the same length. */
static void overwrite(const char *from, const char *to)
{
    size_t size;
    char *bytes = files_read(path(), &size);
    assert_true(bytes && strlen(from) == strlen(to));
    char *at = memmem(bytes, size, from, strlen(from));
    assert_non_null(at);
    memcpy(at, to, strlen(to));
    files_write(dir, "n.onnx", bytes, size);
    free(bytes);
}

static void what_is_read_again(void **unused)
{
    (void)unused;
    const struct import_options none = {NULL, NULL};
    struct network n = make_network(7), back = {.name = ""};
    struct err e;
    n.preprocess.mean[1] = 0.25f;
    n.labels = calloc(CLASSES, sizeof *n.labels);
    assert_non_null(n.labels);
    for (n.label_count = 0; n.label_count < CLASSES; n.label_count++)
        assert_true(asprintf(&n.labels[n.label_count], "label%d", n.label_count) > 0);
    write_network(&n);
    assert_int_equal(onnx_import(path(), &none, &back, &e), 0);
    assert_true(preprocess_equal(&n.preprocess, &back.preprocess));
    assert_int_equal(back.label_count, CLASSES);
    assert_string_equal(back.labels[CLASSES - 1], "label6");
    network_free(&back);

    struct preprocess other = n.preprocess;
    other.mean[1] = 0.5f;
    assert_int_equal(onnx_import(path(), &(struct import_options){NULL, &other}, &back, &e), 0);
    assert_true(preprocess_equal(&other, &back.preprocess)); /* the caller decides */
    network_free(&back);

    overwrite("\"label6\"", "[\"abel6\"");
    assert_int_equal(onnx_import(path(), &none, &back, &e), -1);
    assert_non_null(strstr(e.text, "n.onnx: metadata resnetd.labels"));
    overwrite("[\"abel6\"", "\"label6\"");
    overwrite("\"mean\"", "\"moan\"");
    assert_int_equal(onnx_import(path(), &none, &back, &e), -1);
    assert_non_null(strstr(e.text, "n.onnx: metadata resnetd.preprocess"));
    network_free(&n);
}

static void nothing_left_behind(void **unused)
{
    (void)unused;
    struct network n = make_network(8);
    struct err e;
    char *empty = files_make_dir();
    char to[400];
    snprintf(to, sizeof to, "%s/missing/n.onnx", empty);
    assert_int_equal(onnx_write(to, &n, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_non_null(strstr(e.text, to));
    snprintf(to, sizeof to, "%s/", empty);
    assert_int_equal(onnx_write(to, &n, &e), -1);
    assert_int_equal(e.code, ERR_INPUT);
    snprintf(to, sizeof to, "%s/directory", empty);
    assert_int_equal(mkdir(to, 0700), 0);
    assert_int_equal(onnx_write(to, &n, &e), -1); /* written, but a file cannot replace a directory */
    assert_int_equal(e.code, ERR_IO);
    assert_int_equal(files_count(empty), 1);
    assert_int_equal(rmdir(to), 0);

    int count = 0;
    snprintf(to, sizeof to, "%s/n.onnx", empty);
    for (int r = -1; r; count += 7) {
        scarce_left = count;
        r = onnx_write(to, &n, &e);
        scarce_left = -1;
        if (r && e.code != ERR_MEMORY)
            fail_msg("allocation %d: %s", count, e.text);
        assert_int_equal(files_count(empty), r ? 0 : 1);
    }
    assert_true(count > 100);
    files_remove_dir(empty);
    network_free(&n);
}

/* One byte too much, of weights that are not looked at. */
static void too_large(void **unused)
{
    (void)unused;
    struct network n = {.name = "large"};
    struct err e;
    int x = node(&n, OP_INPUT, -1, -1, 3);
    n.graph.nodes[x].h = n.graph.nodes[x].w = 1;
    const int a = 2731, b = 8191, c = 62803;
    x = node(&n, OP_DENSE, x, -1, a);
    x = node(&n, OP_DENSE, x, -1, b);
    n.graph.output = node(&n, OP_DENSE, x, -1, c);
    assert_int_equal(graph_check(&n.graph, &e), 0);
    assert_true(4LL * (4LL * a + (a + 1LL) * b + (b + 1LL) * c) == ONNX_WRITE_MAX + 1LL);
    assert_int_equal(onnx_write(path(), &n, &e), -1);
    assert_int_equal(e.code, ERR_TOO_LARGE);
    assert_non_null(strstr(e.text, "n.onnx: 2147483648 bytes"));
    graph_free(&n.graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_precision),
        cmocka_unit_test(relu_everywhere_and_windows),
        cmocka_unit_test(kept_outputs),
        cmocka_unit_test(mixed),
        cmocka_unit_test(outputs),
        cmocka_unit_test(what_is_told),
        cmocka_unit_test(what_is_read_again),
        cmocka_unit_test(nothing_left_behind),
        cmocka_unit_test(too_large),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}

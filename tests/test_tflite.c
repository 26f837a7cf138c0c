// SPDX-License-Identifier: MIT
//
// test_tflite.c - .tflite files: small ones made here, whose answers are worked out by hand, then every way to damage them; and
// the int8 ResNet-8 of MLPerf Tiny against its reference outputs, byte by byte, when the optional data is there.

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernels/cpu.h"
#include "models/checkpoint/tflite.h"
#include "models/file.h"
#include "models/session.h"
#include "tests/files.h"
#include "tests/golden.h"
#include "tests/scarce.h"
#include "tests/tflite_build.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

static char *dir;
static int file; /* in memory: thousands of small files take their time on a disk */
static char file_path[64];

static int import_bytes(const void *data, size_t size, const struct import_options *o, struct network *n, struct err *e)
{
    const struct import_options none = {0};
    memset(n, 0, sizeof *n);
    memset(e, 0, sizeof *e);
    assert_int_equal(ftruncate(file, 0), 0);
    assert_int_equal(pwrite(file, data, size, 0), size);
    return checkpoint_import(file_path, o ? o : &none, n, e);
}

static int import_build(const struct build *b, const struct import_options *o, struct network *n, struct err *e)
{
    size_t size;
    uint8_t *data = build_file(b, &size);
    const int r = import_bytes(data, size, o, n, e);
    free(data);
    return r;
}

static void must(int failed, const struct err *e)
{
    if (failed)
        fail_msg("%s", e->text);
}

/* Logits of one image by every implementation that this machine has, from pixels, or from values as they are. */
static void expect(const struct network *n, const uint8_t *rgb, const float *values, const float *logits, int classes)
{
    for (const struct kernels *k = kernels_table; k->name; k++) {
        struct model *m;
        struct session *s;
        struct err e;
        if (k->need & ~cpu_features())
            continue;
        must(model_from_network(n, k, &m, &e), &e);
        must(session_new(m, 1, NULL, &s, &e), &e);
        if (rgb)
            session_set_pixels(s, 0, rgb);
        else
            session_set_values(s, 0, values);
        const float *got = session_run(s, 1);
        for (int i = 0; i < classes; i++)
            if (got[i] != logits[i])
                fail_msg("%s: logit %d is %.9g, not %.9g", k->name, i, (double)got[i], (double)logits[i]);
        session_free(s);
        model_free(m);
    }
}

static const uint8_t pixels[] = {10, 20, 5, 11, 9, 30, 0, 7, 0, 255, 100, 3};

/* First convolution, values less the zero point: sums 13, 14, 3, 258 by 0.5 are 7 (6.5 goes up), 7, 2, 129; sums 13, -23, 5, 95
   by 0.25 are 4 (3.25 is first 6.5 / 2, then 7 / 2), 0 by ReLU, 2, 24. The second by 1, and clamped: 11 10, 7 14, 4 2, 117 117.
   ADD, a / 2 + b / 4: 6.25 4.5, 5.25 3.5, 2 1.5, 93.75 41.25 give 6 5, 5 4, 2 2, 94 41. With -128 four times the sums are -405
   and -460: means -101 and -115. The last: (27 - 13 + 1) * 2 + 3 = 33, and 206 + 3 is clamped. */
static void int8_by_hand(void **state)
{
    (void)state;
    static const float logits[] = {0.5f * (33 - 3), 0.5f * (127 - 3)};
    const struct build b = build_int8(0);
    struct network n, back;
    struct err e;
    must(import_build(&b, NULL, &n, &e), &e);
    assert_int_equal(n.precision, PRECISION_INT8);
    assert_int_equal(n.rounding, ROUNDING_TFLITE);
    assert_string_equal(n.name, "resnet3");
    assert_int_equal(n.graph.count, 6);
    assert_true(n.quants[3].scale == 2 && n.quants[3].zero == -128 && n.quants[2].scale == 0.5f && n.quants[2].zero == 10);
    assert_true(n.graph.nodes[1].keep_output && n.graph.nodes[5].keep_output && n.graph.nodes[3].relu && !n.graph.nodes[2].relu);
    expect(&n, pixels, NULL, logits, 2);

    /* and through a model file */
    const char *path = files_path(dir, "x.safetensors");
    must(model_file_write(path, &n, &e), &e);
    must(model_file_read(path, &back, &e), &e);
    assert_int_equal(back.rounding, ROUNDING_TFLITE);
    expect(&back, pixels, NULL, logits, 2);
    network_free(&back);
    network_free(&n);
}

/* The means of 107 and 52, by 2 / 4: 54 (53.5 goes up) and 26; then 54 - 26 + 1 + 3 = 32, and the clamp. */
static void mean_by_hand(void **state)
{
    (void)state;
    static const float logits[] = {0.5f * (32 - 3), 0.5f * (127 - 3)};
    const struct build b = build_int8(1);
    struct network n;
    struct err e;
    must(import_build(&b, NULL, &n, &e), &e);
    expect(&n, pixels, NULL, logits, 2);
    network_free(&n);
}

/* Row 0 of the output lies under the padding. Channel 0: 0.25 0.25, 10 + 10 - 10 + 0.25 = 10.25, 11 + 4.5 - 60 < 0: mean 2.6875.
   Channel 1: 0 0, 9 - 1 = 8, the padding at the right: mean 2. Then 2.6875 - 4 + 10 and 2.6875 / 4 + 3 + 20. */
static void float_by_hand(void **state)
{
    (void)state;
    static const float logits[] = {8.6875f, 23.671875f};
    const struct build b = build_float();
    struct network n;
    struct err e;
    float values[12];
    for (int i = 0; i < 12; i++)
        values[i] = pixels[i];
    must(import_build(&b, NULL, &n, &e), &e);
    assert_int_equal(n.precision, PRECISION_FP32);
    assert_null(n.quants);
    const struct node *c = &n.graph.nodes[1];
    assert_true(c->pad_top == 1 && c->pad_left == 0 && c->pad_bottom == 0 && c->pad_right == 1 && c->relu);
    expect(&n, NULL, values, logits, 2);
    network_free(&n);
}

/* What pixels mean, and who says so. */
static void preprocessing(void **state)
{
    (void)state;
    struct preprocess mine = {.scale = 2, .std = {1, 1, 1}};
    struct import_options o = {.preprocess = &mine};
    struct build b = build_int8(0);
    struct network n;
    struct err e;
    must(import_build(&b, NULL, &n, &e), &e);
    for (int pixel = 0; pixel < 256; pixel += 51)
        assert_true(preprocess_value(&n.preprocess, 1, (uint8_t)pixel) == (float)pixel); /* scale 1, zero point -128 */
    assert_true(n.preprocess.resize == RESIZE_EXACT && n.preprocess.width == 2 && n.preprocess.height == 2);
    network_free(&n);

    must(import_build(&b, &o, &n, &e), &e);
    assert_true(n.preprocess.scale == 2);
    network_free(&n);

    b.tensors[0].scale[0] = 0.0078125f; /* -1 to 1 */
    b.tensors[0].zero = 0;
    b.tensors[2].scales = 0;
    must(import_build(&b, NULL, &n, &e), &e);
    assert_true(preprocess_value(&n.preprocess, 0, 0) == -1 && preprocess_value(&n.preprocess, 0, 128) == 0);
    network_free(&n);

    o = (struct import_options){.arch = "resnet3"};
    must(import_build(&b, &o, &n, &e), &e);
    network_free(&n);
    o.arch = "resnet8";
    assert_int_equal(import_build(&b, &o, &n, &e), -1);
    assert_non_null(strstr(e.text, "resnet3"));
}

/* QUANTIZE and DEQUANTIZE around the network: float or uint8 pixels in, float or uint8 probabilities out. */
static void other_ends(void **state)
{
    (void)state;
    static const float logits[] = {0.5f * (33 - 3), 0.5f * (127 - 3)};
    for (int u8 = 0; u8 < 2; u8++) {
        struct build b = build_int8(0);
        struct network n;
        struct err e;
        b.tensors[14] = b.tensors[0];
        b.tensors[15] = b.tensors[13];
        b.tensors[14].type = b.tensors[15].type = u8 ? U8 : F32;
        b.tensors[14].scales = b.tensors[15].scales = u8;
        b.tensors[14].zero = b.tensors[15].zero = 0;
        b.tensor_count = 16;
        b.input = 14;
        b.output = 15;
        memmove(b.ops + 1, b.ops, 7 * sizeof *b.ops);
        b.ops[0] = (struct build_op){QUANTIZE, {14}, 1, 0, 0, {{0, 0}}};
        b.ops[8] = (struct build_op){u8 ? QUANTIZE : DEQUANTIZE, {13}, 1, 15, 0, {{0, 0}}};
        b.op_count = 9;
        must(import_build(&b, NULL, &n, &e), &e);
        expect(&n, pixels, NULL, logits, 2);
        network_free(&n);
    }
}

static void same_padding(void **state)
{
    (void)state;
    static const struct {
        int side, kernel, stride, out, before, after;
    } cases[] = {{32, 3, 1, 32, 1, 1}, {32, 3, 2, 16, 0, 1}, {31, 3, 2, 16, 1, 1}, {32, 1, 2, 16, 0, 0},
                 {8, 4, 1, 8, 1, 2},   {5, 7, 2, 3, 3, 3},   {2, 2, 2, 1, 0, 0}};
    for (size_t i = 0; i < COUNT(cases); i++)
        for (int pool = 0; pool < 2; pool++) {
            const int k = cases[i].kernel, out = cases[i].out;
            int8_t w[3 * 7 * 7 * 3] = {1};
            const struct build b = {
                .tensors = {{I8, 4, {1, cases[i].side, cases[i].side, 3}, NULL, 0, {1}, 1, -128, 0},
                            {I8, 4, {3, k, k, 3}, w, 9 * k * k, {1}, 1, 0, 0},
                            {I8, 4, {1, out, out, 3}, NULL, 0, {1}, 1, -128, 0},
                            {I8, 4, {1, 1, 1, 3}, NULL, 0, {1}, 1, -128, 0},
                            {I8, 4, {3, 1, 1, 3}, w, 9, {1}, 1, 0, 0},
                            {I8, 4, {1, 1, 1, 3}, NULL, 0, {1}, 1, -128, 0}},
                .tensor_count = 6,
                .ops = {{pool ? MAX_POOL : CONV,
                         {0, 1},
                         pool ? 1 : 2,
                         2,
                         pool ? 5 : 1,
                         {{1, 0}, {4, cases[i].stride}, {4, cases[i].stride}, {pool ? 4 : 0, k}, {pool ? 4 : 0, k}}},
                        {AVERAGE_POOL, {2}, 1, 3, 5, {{1, 1}, {4, 1}, {4, 1}, {4, out}, {4, out}}},
                        {CONV, {3, 4}, 2, 5, 1, {{1, 0}, {4, 1}, {4, 1}}}},
                .op_count = 3,
                .output = 5};
            struct network n;
            struct err e;
            must(import_build(&b, NULL, &n, &e), &e);
            const struct node *d = &n.graph.nodes[1];
            assert_true(d->h == out && d->w == out && d->pad_top == cases[i].before && d->pad_left == cases[i].before &&
                        d->pad_bottom == cases[i].after && d->pad_right == cases[i].after);
            network_free(&n);
        }
}

/* ---- what is refused, and what the error says */

static const int32_t axis_2[] = {2, 2}, pad_channels[] = {0, 0, 0, 0, 0, 0, 1, 0}, huge_bias[] = {INT32_MAX, 0}, integers[24];
static const int8_t lowest[] = {1, 0, -128, -128, 1, -128};
static const float infinite[] = {0, INFINITY};

enum base { INT8, MEANS, FLOATS };

#define AT(field) (1 + offsetof(struct build, field))
enum {
    HALF_BITS = 0x3f000000,
    ONE_BITS = 0x3f800000,
    THREE_BITS = 0x40400000,
    NINE_BITS = 0x41100000,
    NAN_BITS = 0x7fc00000,
    SIXTEENTH_BITS = 0x3d800000
};

struct wrong {
    enum base base;
    const char *word; /* of the error */
    struct {
        size_t at; /* an int or float of struct build, 0: no more */
        int value; /* its bits */
    } set[6];
    int tensor;       /* whose data this is */
    const void *data; /* NULL: as it was */
};

static const struct wrong wrongs[] = {
    {INT8, "version 2", {{AT(version), 2}}, 0, NULL},
    {INT8, "2 subgraphs", {{AT(subgraphs), 2}}, 0, NULL},
    {INT8, "4096 operators", {{AT(extra_ops), 4095 - 6}}, 0, NULL},
    {INT8, "65537 tensors", {{AT(extra_tensors), 65537 - 14}}, 0, NULL},
    {INT8, "1025 kinds", {{AT(extra_codes), 1025 - 7}}, 0, NULL},
    {INT8, "tensor 20", {{AT(input), 20}}, 0, NULL},
    {INT8, "tensor 9, is not computed", {{AT(output), 9}}, 0, NULL},
    {INT8, "1x1", {{AT(output), 5}}, 0, NULL},
    {INT8, "computes nothing", {{AT(op_count), 0}}, 0, NULL},
    /* operators */
    {INT8, "operator 0 (DEPTHWISE_CONV_2D): is not read", {{AT(ops[0].code), DEPTHWISE}}, 0, NULL},
    {INT8, "operator 0 (custom 'Magic'): is not read", {{AT(ops[0].code), CUSTOM}}, 0, NULL},
    {INT8, "operator 0 (code 130): is not read", {{AT(ops[0].code), NEW}}, 0, NULL},
    {INT8, "options of kind 5", {{AT(ops[0].options), 5}}, 0, NULL},
    {INT8, "1 inputs", {{AT(ops[0].inputs), 1}}, 0, NULL},
    {INT8, "tensor -1", {{AT(ops[0].in[1]), -1}}, 0, NULL},
    {INT8, "tensor 14", {{AT(ops[0].in[2]), 14}}, 0, NULL},
    {INT8, "tensor 14", {{AT(ops[0].out), 14}}, 0, NULL},
    {INT8, "tensor 0, has a value", {{AT(ops[0].out), 0}}, 0, NULL},
    {INT8, "tensor 3, has a value", {{AT(ops[1].out), 3}}, 0, NULL},
    {INT8, "tensor 1, has a value", {{AT(ops[1].out), 1}}, 0, NULL},
    {INT8, "tensor 6, is a constant or not computed", {{AT(ops[0].in[0]), 6}}, 0, NULL},
    {INT8, "tensor 6", {{AT(ops[2].in[1]), 6}}, 0, NULL},
    {INT8, "dilated", {{AT(ops[0].option[4].bytes), 4}, {AT(ops[0].option[4].value), 2}}, 0, NULL},
    {INT8, "padding 2", {{AT(ops[0].option[0].value), 2}}, 0, NULL},
    {INT8, "strides", {{AT(ops[0].option[1].value), 0}}, 0, NULL},
    {INT8, "strides", {{AT(ops[0].option[2].value), 65}}, 0, NULL},
    {INT8, "activation 2", {{AT(ops[0].option[3].value), 2}}, 0, NULL},
    {INT8,
     "RELU6",
     {{AT(ops[0].option[3].value), 3}, {AT(tensors[3].scale[0]), SIXTEENTH_BITS}, {AT(tensors[2].scales), 0}},
     0,
     NULL},
    {INT8, "does not cover", {{AT(ops[3].option[3].value), 1}}, 0, NULL},
    {INT8, "activation", {{AT(ops[3].option[5].bytes), 1}, {AT(ops[3].option[5].value), 1}}, 0, NULL},
    {INT8, "shuffled", {{AT(ops[5].option[1].bytes), 1}, {AT(ops[5].option[1].value), 1}}, 0, NULL},
    {INT8, "beta", {{AT(ops[6].option[0].value), HALF_BITS}}, 0, NULL},
    {INT8,
     "behind the end",
     {{AT(ops[4].code), SOFTMAX},
      {AT(ops[4].inputs), 1},
      {AT(ops[4].options), 9},
      {AT(ops[4].option[0].bytes), 4},
      {AT(ops[4].option[0].value), ONE_BITS}},
     0,
     NULL},
    {INT8, "2x2 pixels", {{AT(ops[4].in[0]), 6}}, 0, NULL},
    {INT8, "neither at the input nor at the end", {{AT(ops[4].code), QUANTIZE}, {AT(ops[4].inputs), 1}}, 0, NULL},
    {INT8, "RELU", {{AT(ops[4].code), RELU}, {AT(ops[4].inputs), 1}}, 0, NULL},
    /* tensors */
    {INT8, "uint8", {{AT(tensors[0].type), U8}, {AT(tensors[0].zero), 0}}, 0, NULL},
    {INT8, "type 7", {{AT(tensors[0].type), 7}}, 0, NULL},
    {INT8, "4 channels", {{AT(tensors[0].shape[3]), 4}}, 0, NULL},
    {INT8, "8193", {{AT(tensors[0].shape[1]), 8193}}, 0, NULL},
    {INT8, "not constants of int8", {{AT(tensors[1].type), U8}}, 0, NULL},
    {INT8, "zero point", {{AT(tensors[1].zero), 1}}, 0, NULL},
    {INT8, "axis 3", {{AT(tensors[1].axis), 3}}, 0, NULL},
    {INT8, "3 scales", {{AT(tensors[1].scales), 3}, {AT(tensors[1].scale[2]), ONE_BITS}}, 0, NULL},
    {INT8, "scale 1", {{AT(tensors[1].scale[1]), NAN_BITS}}, 0, NULL},
    {INT8, "scale 1", {{AT(tensors[1].scale[1]), 0}}, 0, NULL},
    {INT8, "output channel 1 has more than one weight of -128", {{0, 0}}, 1, lowest},
    {INT8, "5 bytes", {{AT(tensors[1].bytes), 5}}, 0, NULL},
    {INT8, "side of -2", {{AT(tensors[1].shape[0]), -2}}, 0, NULL},
    {INT8, "5 dimensions", {{AT(tensors[1].rank), 5}}, 0, NULL},
    {INT8, "bias 0", {{AT(tensors[2].scale[0]), NINE_BITS}}, 0, NULL},
    {INT8, "biases", {{AT(tensors[2].type), F32}}, 0, NULL},
    {INT8, "32 bits", {{0, 0}}, 2, huge_bias},
    {INT8, "2 scales", {{AT(tensors[3].scales), 2}, {AT(tensors[3].scale[1]), ONE_BITS}}, 0, NULL},
    {INT8, "zero point 128", {{AT(tensors[3].zero), 128}}, 0, NULL},
    {INT8, "tensor 3 is 3x2x2", {{AT(tensors[3].shape[1]), 3}}, 0, NULL},
    {INT8, "dividing 3 channels", {{AT(tensors[3].shape[3]), 3}}, 0, NULL},
    {INT8, "one image", {{AT(tensors[3].shape[0]), 2}}, 0, NULL},
    {INT8, "type 0", {{AT(tensors[3].type), F32}}, 0, NULL},
    {INT8, "another scale", {{AT(tensors[7].scale[0]), THREE_BITS}}, 0, NULL},
    /* MEAN */
    {MEANS, "height and width", {{0, 0}}, 9, axis_2},
    {MEANS, "height and width", {{AT(tensors[9].type), F32}}, 0, NULL},
    {MEANS, "keeps scale", {{AT(tensors[7].scale[0]), 0x40000000}}, 0, NULL},
    {MEANS, "1 inputs", {{AT(ops[3].inputs), 1}}, 0, NULL},
    /* float */
    {FLOATS, "other axes", {{0, 0}}, 2, pad_channels},
    {FLOATS, "may be negative", {{AT(ops[2].code), MAX_POOL}, {AT(ops[2].options), 5}, {AT(ops[2].inputs), 1}}, 0, NULL},
    {FLOATS, "RELU6", {{AT(ops[2].option[3].bytes), 1}, {AT(ops[2].option[3].value), 3}}, 0, NULL},
    {FLOATS, "(RELU): does not follow", {{AT(ops[4].in[0]), 6}}, 0, NULL},
    {FLOATS, "not a finite", {{0, 0}}, 5, infinite},
    {FLOATS, "not constants", {{AT(tensors[3].type), I32}, {AT(tensors[3].bytes), 96}}, 3, integers},
    {FLOATS, "1 biases", {{AT(tensors[11].shape[0]), 1}, {AT(tensors[11].bytes), 4}}, 0, NULL},
    {FLOATS, "(DEQUANTIZE): stands neither", {{AT(ops[1].in[0]), 1}}, 0, NULL},
    {FLOATS, "0 scales", {{AT(tensors[10].scales), 0}}, 0, NULL},
    {FLOATS,
     "comes from a PAD",
     {{AT(ops[3].code), PAD}, {AT(ops[3].inputs), 2}, {AT(ops[3].in[1]), 2}, {AT(output), 7}, {AT(op_count), 4}},
     0,
     NULL},
};

static struct build make_wrong(const struct wrong *w)
{
    struct build b = w->base == FLOATS ? build_float() : build_int8(w->base == MEANS);
    for (size_t k = 0; k < COUNT(w->set) && w->set[k].at; k++)
        memcpy((char *)&b + w->set[k].at - 1, &w->set[k].value, sizeof w->set[k].value);
    if (w->data)
        b.tensors[w->tensor].data = w->data;
    return b;
}

static void refused(void **state)
{
    (void)state;
    int bad = 0;
    for (const struct wrong *w = wrongs; w < wrongs + COUNT(wrongs); w++) {
        const struct build b = make_wrong(w);
        struct network n;
        struct err e;
        const int accepted = import_build(&b, NULL, &n, &e) == 0;
        if (accepted || !strstr(e.text, w->word) || !strstr(e.text, file_path)) {
            printf("case %td: '%s' does not say '%s'\n", w - wrongs, accepted ? "accepted" : e.text, w->word);
            bad++;
        }
        if (accepted)
            network_free(&n);
        assert_true(!n.graph.nodes && !n.layers && !n.quants);
    }
    assert_int_equal(bad, 0);
}

/* As many as allowed: no error, or one about what was added. */
static void limits(void **state)
{
    (void)state;
    for (int which = 2; which <= 4; which++) {
        struct wrong w = wrongs[which];
        struct network n;
        struct err e;
        w.set[0].value--;
        const struct build b = make_wrong(&w);
        const int r = import_build(&b, NULL, &n, &e);
        if (which == 2)
            assert_non_null(strstr(e.text, "operator 7 (SOFTMAX)"));
        else
            must(r, &e);
        network_free(&n);
    }
}

/* Cut anywhere, or with any byte changed: refused with a reason, or a network; never a step outside (sanitizers watch). */
static void every_byte(void **state)
{
    (void)state;
    static const uint8_t flips[] = {0xff, 0x80, 0x01, 0x04};
    for (int kind = 0; kind < 2; kind++) {
        const struct build b = kind ? build_float() : build_int8(0);
        struct network n;
        struct err e;
        size_t size;
        uint8_t *data = build_file(&b, &size);
        for (size_t cut = 0; cut < size; cut++) {
            assert_int_equal(import_bytes(data, cut, NULL, &n, &e), -1);
            assert_true(e.text[0] && !n.graph.nodes);
        }
        for (size_t i = 0; i < size; i++) {
            data[i] ^= flips[i % COUNT(flips)];
            if (import_bytes(data, size, NULL, &n, &e) == 0)
                network_free(&n);
            else
                assert_true(e.text[0] && !n.graph.nodes);
            data[i] ^= flips[i % COUNT(flips)];
        }
        free(data);
    }
}

/* Memory ends at every place where some is taken. */
static void allocations(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        const struct build b = kind ? build_float() : build_int8(0);
        struct network n;
        struct err e;
        int count = 0;
        must(import_build(&b, NULL, &n, &e), &e); /* leaves the file in place */
        network_free(&n);
        for (int r = -1; r; count++) {
            const struct import_options none = {0};
            scarce_left = count;
            r = checkpoint_import(file_path, &none, &n, &e);
            scarce_left = -1;
            if (r && (e.code != ERR_MEMORY || n.graph.nodes || n.layers))
                fail_msg("allocation %d: %s", count, e.text);
        }
        assert_true(count > 10);
        network_free(&n);
    }
}

/* ---- the real one */

static void check_reference(const char *data, const struct network *n, const char *set, const struct kernels *k, int most,
                            int want_hits)
{
    char name[128];
    struct model *m;
    struct session *s;
    struct err e;
    size_t size;
    snprintf(name, sizeof name, "%s.bin", set);
    struct golden_images images = golden_images(data, name);
    snprintf(name, sizeof name, "golden/pretrainedResnet_quant.%s.logits.i8", set);
    char *want = files_read(files_path(data, name), &size);
    assert_non_null(want);
    assert_int_equal(size, 10 * images.count);
    must(model_from_network(n, k, &m, &e), &e);
    must(session_new(m, 1, NULL, &s, &e), &e);
    const struct quant q = n->quants[n->graph.output];
    int different = 0, hits = 0, best;
    const int count = images.count < most ? images.count : most;
    for (int i = 0; i < count; i++) {
        uint8_t rgb[32 * 32 * 3];
        golden_pixels(&images, i, n, rgb);
        session_set_pixels(s, 0, rgb);
        const float *logits = session_run(s, 1);
        for (int c = 0; c < 10; c++)
            different += logits[c] != q.scale * (float)((int8_t)want[10 * i + c] - q.zero);
        top_k(logits, 10, 1, &best);
        hits += best == images.images[i].label;
    }
    printf("%s, %s: %d of %d top-1, %d bytes differ\n", set, k->name, hits, count, different);
    assert_int_equal(different, 0);
    if (want_hits)
        assert_int_equal(hits, want_hits);
    session_free(s);
    model_free(m);
    free(want);
    golden_images_free(&images);
}

static void reference_outputs(void **state)
{
    (void)state;
    const struct import_options none = {0};
    const char *data = golden_data();
    struct network n = {0};
    struct err e;
    if (!data)
        skip();
    must(checkpoint_import(files_path(data, "weights/pretrainedResnet_quant.tflite"), &none, &n, &e), &e);
    assert_string_equal(n.name, "resnet8");
    for (const struct kernels *k = kernels_table; k->name; k++)
        if (!(k->need & ~cpu_features())) {
            const int best = k == kernels_pick(cpu_features(), NULL); /* emulated machines are slow */
            check_reference(data, &n, "mlperf_tiny_ic01_200", k, best ? 200 : 20, best ? 173 : 0);
            check_reference(data, &n, "cifar10_test_lossless_dev", k, best ? 500 : 10, 0);
        }
    network_free(&n);
}

/* The float file against PyTorch's logits of the same network from its safetensors checkpoint. */
static void float_reference(void **state)
{
    (void)state;
    struct preprocess raw = {.scale = 1, .std = {1, 1, 1}};
    const struct import_options o = {.preprocess = &raw};
    const char *data = golden_data();
    struct network n = {0};
    struct model *m;
    struct session *s;
    struct err e;
    if (!data)
        skip();
    must(checkpoint_import(files_path(data, "weights/pretrainedResnet.tflite"), &o, &n, &e), &e);
    must(model_from_network(&n, kernels_pick(cpu_features(), NULL), &m, &e), &e);
    must(session_new(m, 1, NULL, &s, &e), &e);
    struct golden_images images = golden_images(data, "cifar10_test_lossless_dev.bin");
    float *want = golden_logits(data, "resnet8_mlperf_tiny.cifar10_test_lossless_dev.logits.f32", 10 * (size_t)images.count);
    float worst = 0;
    for (int i = 0; i < images.count && i < 100; i++) {
        uint8_t rgb[32 * 32 * 3];
        golden_pixels(&images, i, &n, rgb);
        session_set_pixels(s, 0, rgb);
        const float *logits = session_run(s, 1);
        for (int c = 0; c < 10; c++)
            worst = fmaxf(worst, fabsf(logits[c] - want[10 * i + c]));
    }
    printf("float: logits differ by at most %g\n", (double)worst);
    assert_true(worst < 1e-4f);
    session_free(s);
    model_free(m);
    network_free(&n);
    free(want);
    golden_images_free(&images);
}

static int make_dir(void **state)
{
    (void)state;
    dir = files_make_dir();
    file = memfd_create("test_tflite", MFD_CLOEXEC);
    snprintf(file_path, sizeof file_path, "/proc/self/fd/%d", file);
    return file < 0;
}

static int remove_dir(void **state)
{
    (void)state;
    close(file);
    files_remove_dir(dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(int8_by_hand),      cmocka_unit_test(mean_by_hand),
        cmocka_unit_test(float_by_hand),     cmocka_unit_test(preprocessing),
        cmocka_unit_test(other_ends),        cmocka_unit_test(same_padding),
        cmocka_unit_test(refused),           cmocka_unit_test(limits),
        cmocka_unit_test(every_byte),        cmocka_unit_test(allocations),
        cmocka_unit_test(reference_outputs), cmocka_unit_test(float_reference),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}

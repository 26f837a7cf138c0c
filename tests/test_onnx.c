// SPDX-License-Identifier: MIT
//
// ONNX models made here, imported and run: their logits are those that the operators' definitions give. What is not read is
// refused by node and operator, whatever else is wrong by file and place.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/cpu.h"
#include "models/checkpoint/onnx.h"
#include "models/session.h"
#include "tests/files.h"
#include "tests/make_onnx.h"
#include "tests/scarce.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))
#define SIDE     12
#define PIXELS   (SIDE * SIDE)
#define CLASSES  5

enum {
    U8 = ONNX__TENSOR_PROTO__DATA_TYPE__UINT8,
    S8 = ONNX__TENSOR_PROTO__DATA_TYPE__INT8,
    S32 = ONNX__TENSOR_PROTO__DATA_TYPE__INT32,
    S64 = ONNX__TENSOR_PROTO__DATA_TYPE__INT64,
    F16 = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16
};

static char *dir;
static const int64_t nchw[4] = {0, 3, SIDE, SIDE}, nhwc[4] = {1, SIDE, SIDE, 3};

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

/* Images come at the network's size; values are pixels. */
static const struct preprocess raw = {.scale = 1, .std = {1, 1, 1}};

static int import_with(const Onnx__ModelProto *m, const struct preprocess *p, struct network *n, struct err *e)
{
    size_t size;
    uint8_t *bytes = onnx_bytes(m, &size);
    files_write(dir, "m.onnx", bytes, size);
    free(bytes);
    *n = (struct network){.name = ""};
    return checkpoint_import(files_path(dir, "m.onnx"), &(struct import_options){NULL, p}, n, e);
}

static struct network import(const Onnx__ModelProto *m)
{
    struct network n;
    struct err e;
    if (import_with(m, &raw, &n, &e) < 0)
        fail_msg("%s", e.text);
    return n;
}

static const struct node *node_called(const struct network *n, const char *name)
{
    for (int i = 0; i < n->graph.count; i++)
        if (strcmp(n->graph.nodes[i].name, name) == 0)
            return &n->graph.nodes[i];
    fail_msg("no node %s", name);
    return NULL;
}

/* Largest difference over some images. pixels: whole numbers through the preprocessing, else values of the network's input. */
static double difference(const Onnx__ModelProto *m, const struct network *n, const int64_t dims[4], int pixels)
{
    struct model *model;
    struct session *s;
    struct err e;
    if (model_from_network(n, kernels_pick(cpu_features(), NULL), &model, &e) < 0 || session_new(model, 1, NULL, &s, &e) < 0)
        fail_msg("%s", e.text);
    double worst = 0;
    for (int k = 0; k < 4; k++) {
        double x[3 * PIXELS], y[64];
        float values[3 * PIXELS];
        uint8_t rgb[3 * PIXELS];
        for (int i = 0; i < 3 * PIXELS; i++) {
            rgb[i] = (uint8_t)onnx_uniform(0, 256);
            values[i] = onnx_uniform(-2, 2);
            const int at = dims[1] == 3 ? i % 3 * PIXELS + i / 3 : i;
            x[at] = pixels ? (double)rgb[i] : (double)values[i];
        }
        if (pixels)
            session_set_pixels(s, 0, rgb);
        else
            session_set_values(s, 0, values);
        const int classes = onnx_evaluate(m, (int64_t[]){1, dims[1], dims[2], dims[3]}, x, y, 64);
        assert_int_equal(classes, model_classes(model));
        const float *logits = session_run(s, 1);
        double span = 0;
        for (int c = 0; c < classes; c++) {
            worst = fmax(worst, fabs((double)logits[c] - y[c]));
            span = fmax(span, fabs(y[c]));
        }
        assert_true(span > 0.01); /* the network does something */
    }
    session_free(s);
    model_free(model);
    return worst;
}

static void assert_computes(const Onnx__ModelProto *m, const int64_t dims[4])
{
    struct network n = import(m);
    const double d = difference(m, &n, dims, 0);
    if (!(d < 2e-5))
        fail_msg("logits differ by %g", d);
    network_free(&n);
}

/* ---- making pieces ---- */

static void conv(Onnx__ModelProto *m, const char *in, const char *out, const char *dims, const char *pads, const char *strides)
{
    char inputs[96], w[40];
    snprintf(w, sizeof w, "%s_w", out);
    snprintf(inputs, sizeof inputs, "%s,%s", in, w);
    onnx_random(m, w, dims, 0.4f);
    Onnx__NodeProto *n = onnx_node(m, "Conv", inputs, out);
    onnx_set_ints(n, "pads", pads);
    onnx_set_ints(n, "strides", strides);
}

static void batch_norm(Onnx__ModelProto *m, const char *in, const char *out, const char *channels)
{
    char inputs[160], name[40];
    snprintf(inputs, sizeof inputs, "%s,%s_g,%s_b,%s_m,%s_v", in, out, out, out, out);
    snprintf(name, sizeof name, "%s_g", out);
    onnx_random(m, name, channels, 1.5f);
    snprintf(name, sizeof name, "%s_b", out);
    onnx_random(m, name, channels, 0.5f);
    snprintf(name, sizeof name, "%s_m", out);
    onnx_random(m, name, channels, 0.5f);
    snprintf(name, sizeof name, "%s_v", out);
    Onnx__TensorProto *v = onnx_random(m, name, channels, 1);
    for (size_t i = 0; i < v->n_float_data; i++)
        v->float_data[i] = fabsf(v->float_data[i]) + 0.2f;
    onnx_set_float(onnx_node(m, "BatchNormalization", inputs, out), "epsilon", 1e-3f);
}

static Onnx__NodeProto *windowed(Onnx__ModelProto *m, const char *type, const char *in, const char *out, const char *kernel,
                                 const char *strides, const char *pads)
{
    Onnx__NodeProto *n = onnx_node(m, type, in, out);
    onnx_set_ints(n, "kernel_shape", kernel);
    onnx_set_ints(n, "strides", strides);
    onnx_set_ints(n, "pads", pads);
    return n;
}

static void head(Onnx__ModelProto *m, const char *in, const char *weights)
{
    onnx_node(m, "GlobalAveragePool", in, "pooled");
    onnx_node(m, "Flatten", "pooled", "flat");
    onnx_random(m, "fc_w", weights, 0.5f);
    onnx_random(m, "fc_b", "5", 0.5f);
    onnx_set_int(onnx_node(m, "Gemm", "flat,fc_w,fc_b", "y"), "transB", 1);
}

/* ---- float graphs ---- */

static Onnx__ModelProto *make_v1(void)
{
    Onnx__ModelProto *m = onnx_new(13, nchw);
    conv(m, "x", "c1", "8,3,3,3", "1,1,1,1", "1,1");
    batch_norm(m, "c1", "b1", "8");
    onnx_node(m, "Relu", "b1", "r1");
    onnx_set_int(windowed(m, "MaxPool", "r1", "p1", "3,3", "2,2", "0,0,0,0"), "ceil_mode", 1);
    conv(m, "p1", "c2", "12,8,3,3", "0,0,1,1", "2,2");
    batch_norm(m, "c2", "b2", "12");
    onnx_node(m, "Relu", "b2", "r2");
    conv(m, "r2", "c3", "12,12,3,3", "1,1,1,1", "1,1");
    batch_norm(m, "c3", "b3", "12");
    conv(m, "p1", "c4", "12,8,1,1", "0,0,0,0", "2,2");
    batch_norm(m, "c4", "b4", "12");
    onnx_node(m, "Add", "b3,b4", "a");
    onnx_node(m, "Relu", "a", "r");
    head(m, "r", "5,12");
    return m;
}

static void blocks_with_batch_norm(void **unused)
{
    (void)unused;
    Onnx__ModelProto *m = make_v1();
    struct network n = import(m);
    assert_true(difference(m, &n, nchw, 0) < 2e-5);
    assert_int_equal(n.precision, PRECISION_FP32);
    assert_int_equal(n.graph.count, 9); /* input, four convolutions, pooling, add, pooling, dense: batch norms are folded */
    assert_string_equal(n.name, "resnet4");
    assert_true(node_called(&n, "Add_a")->relu && node_called(&n, "Conv_c1")->relu && !node_called(&n, "Conv_c4")->relu);
    assert_int_equal(node_called(&n, "MaxPool_p1")->pad_bottom, 1);
    network_free(&n);
    onnx_free(m);
}

/* The sum before a batch norm goes on beside it, so that nothing can be folded into it. */
static void pre_activation(void **unused)
{
    (void)unused;
    Onnx__ModelProto *m = onnx_new(13, nchw);
    conv(m, "x", "c1", "8,3,3,3", "1,1,1,1", "2,2");
    onnx_node(m, "Identity", "c1", "again");
    batch_norm(m, "again", "b1", "8");
    onnx_node(m, "Relu", "b1", "r1");
    conv(m, "r1", "c2", "8,8,3,3", "1,1,1,1", "1,1");
    onnx_node(m, "Add", "c2,c1", "a1");
    batch_norm(m, "a1", "b2", "8");
    onnx_node(m, "Relu", "b2", "r2");
    conv(m, "r2", "c3", "8,8,3,3", "1,1,1,1", "1,1");
    onnx_node(m, "Add", "a1,c3", "a2");
    batch_norm(m, "a2", "b3", "8");
    onnx_node(m, "Relu", "b3", "r3");
    head(m, "r3", "5,8");
    assert_computes(m, nchw);
    onnx_free(m);
}

/* As tf2onnx writes: NHWC outside, padding, bias and scale as nodes of their own, SAME, a matrix product and a sum, Softmax. */
static void nodes_apart(void **unused)
{
    (void)unused;
    Onnx__ModelProto *m = onnx_new(13, nhwc);
    onnx_set_ints(onnx_node(m, "Transpose", "x", "t"), "perm", "0,3,1,2");
    onnx_ints(m, "pads", "8", S64, (int64_t[]){0, 0, 2, 1, 0, 0, 2, 3});
    onnx_node(m, "Pad", "t,pads", "padded");
    onnx_random(m, "w1", "6,3,5,5", 0.3f);
    Onnx__NodeProto *n = onnx_node(m, "Conv", "padded,w1", "c1");
    onnx_set_text(n, "auto_pad", "VALID");
    onnx_random(m, "bias", "1,6,1,1", 1);
    onnx_node(m, "Add", "bias,c1", "s1");
    onnx_number(m, "zero", 0);
    onnx_node(m, "Clip", "s1,zero", "r1");
    onnx_ints(m, "pads2", "8", S64, (int64_t[]){0, 0, 1, 1, 0, 0, 1, 1});
    onnx_node(m, "Pad", "r1,pads2", "padded2");
    windowed(m, "MaxPool", "padded2", "p1", "3,3", "2,2", "0,0,0,0");
    onnx_random(m, "w2", "7,6,2,2", 0.5f);
    n = onnx_node(m, "Conv", "p1,w2", "c2");
    onnx_set_text(n, "auto_pad", "SAME_UPPER");
    onnx_random(m, "scale", "7,1,1", 2);
    onnx_node(m, "Mul", "c2,scale", "s2");
    onnx_random(m, "shift", "7,1,1", 2);
    onnx_node(m, "Sub", "shift,s2", "s3");
    onnx_node(m, "Relu", "s3", "r2");
    onnx_random(m, "w3", "7,7,2,2", 0.5f);
    n = onnx_node(m, "Conv", "r2,w3", "c3");
    onnx_set_text(n, "auto_pad", "SAME_LOWER");
    onnx_set_ints(n, "strides", "3,1");
    onnx_number(m, "two", 2);
    onnx_node(m, "Div", "c3,two", "d");
    onnx_set_ints(onnx_node(m, "Transpose", "d", "back"), "perm", "0,2,3,1");
    n = onnx_node(m, "ReduceMean", "back", "mean");
    onnx_set_ints(n, "axes", "1,2");
    onnx_set_int(n, "keepdims", 0);
    onnx_random(m, "w4", "7,5", 0.7f);
    onnx_node(m, "MatMul", "mean,w4", "product");
    onnx_random(m, "b4", "5", 0.7f);
    onnx_node(m, "Add", "product,b4", "logits");
    onnx_node(m, "Softmax", "logits", "y");
    assert_computes(m, nhwc);
    onnx_free(m);
}

static void windows(void **unused)
{
    (void)unused;
    Onnx__ModelProto *m = onnx_new(11, nchw);
    conv(m, "x", "c1", "8,3,3,3", "1,1,1,1", "1,1");
    batch_norm(m, "c1", "b1", "8");
    windowed(m, "MaxPool", "b1", "p1", "2,2", "2,2", "0,0,0,0");
    onnx_node(m, "Relu", "p1", "r1"); /* behind a pooling: no convolution takes it */
    onnx_node(m, "Relu", "r1", "r2");
    onnx_random(m, "w2", "8,4,3,3", 0.4f);
    Onnx__NodeProto *n = onnx_node(m, "Conv", "r2,w2", "c2");
    onnx_set_int(n, "group", 2);
    onnx_set_ints(n, "pads", "1,0,0,2");
    onnx_node(m, "Relu", "c2", "r3");
    onnx_node(m, "Add", "r3,c2", "a"); /* the same convolution with and without ReLU */
    windowed(m, "AveragePool", "a", "p2", "2,2", "1,1", "0,0,0,0");
    onnx_set_int(windowed(m, "AveragePool", "p2", "p3", "3,3", "1,1", "1,1,1,1"), "count_include_pad", 1);
    onnx_ints(m, "pads", "8", S64, (int64_t[]){0, 0, 1, 0, 0, 0, 0, 1});
    onnx_number(m, "lowest", -INFINITY);
    onnx_node(m, "Pad", "p3,pads,lowest", "padded");
    windowed(m, "MaxPool", "padded", "p4", "2,3", "2,1", "0,0,0,0");
    onnx_node(m, "Flatten", "p4", "flat"); /* 2x4 pixels */
    onnx_random(m, "w3", "64,5", 0.4f);
    onnx_random(m, "b3", "1,5", 0.4f);
    n = onnx_node(m, "Gemm", "flat,w3,b3", "y");
    onnx_set_float(n, "alpha", 0.5f);
    onnx_set_float(n, "beta", 3);
    assert_computes(m, nchw);
    onnx_free(m);
}

/* An attribute that waits for its tensor. */
static Onnx__AttributeProto *tensor_attribute(Onnx__NodeProto *n)
{
    onnx_set_int(n, "value", 0);
    n->attribute[0]->has_i = 0;
    return n->attribute[0];
}

/* x[:, :, ::2, ::2] with zero channels around, as PyTorch writes it. */
static void option_a(void **unused)
{
    (void)unused;
    for (int way = 0; way < 3; way++) {
        Onnx__ModelProto *m = onnx_new(13, nchw);
        conv(m, "x", "c1", "4,3,3,3", "1,1,1,1", "1,1");
        onnx_node(m, "Relu", "c1", "r1");
        conv(m, "r1", "c2", "7,4,3,3", "1,1,1,1", way == 1 ? "2,3" : "2,2");
        onnx_ints(m, "start", "1", S64, (int64_t[]){0});
        onnx_ints(m, "end", "1", S64, (int64_t[]){INT64_MAX});
        onnx_ints(m, "axis2", "1", S64, (int64_t[]){2});
        onnx_ints(m, "axis3", "1", S64, (int64_t[]){-1});
        onnx_ints(m, "two", "1", S64, (int64_t[]){2});
        onnx_ints(m, "three", "1", S64, (int64_t[]){3});
        onnx_node(m, "Slice", "r1,start,end,axis2,two", "s1");
        onnx_node(m, "Slice", way == 1 ? "s1,start,end,axis3,three" : "s1,start,end,axis3,two", "s2");
        if (way < 2) {
            onnx_ints(m, "pads", "8", S64, (int64_t[]){0, 1, 0, 0, 0, 2, 0, 0});
        } else { /* torch.nn.functional.pad's order, turned at run time: the last axis first, both ends beside each other */
            onnx_ints(m, "given", "6", S64, (int64_t[]){0, 0, 0, 0, 1, 2});
            onnx_ints(m, "missing", "1", S64, (int64_t[]){2});
            Onnx__AttributeProto *value = tensor_attribute(onnx_node(m, "ConstantOfShape", "missing", "zeros"));
            onnx_integer(m, "none", S64, 0);
            value->t = m->graph->initializer[--m->graph->n_initializer];
            onnx_set_int(onnx_node(m, "Concat", "given,zeros", "all"), "axis", 0);
            onnx_ints(m, "table", "2", S64, (int64_t[]){-1, 2});
            onnx_node(m, "Reshape", "all,table", "pairs");
            onnx_ints(m, "last", "1", S64, (int64_t[]){-1});
            onnx_ints(m, "before", "1", S64, (int64_t[]){-INT64_MAX});
            onnx_node(m, "Slice", "pairs,last,before,start,last", "turned");
            onnx_set_ints(onnx_node(m, "Transpose", "turned", "ends"), "perm", "1,0");
            onnx_node(m, "Reshape", "ends,last", "list");
            onnx_set_int(onnx_node(m, "Cast", "list", "pads"), "to", S64);
        }
        onnx_node(m, "Pad", "s2,pads", "p");
        onnx_node(m, "Add", "c2,p", "a");
        head(m, "a", "5,7");
        struct network n = import(m);
        assert_true(difference(m, &n, nchw, 0) < 2e-5);
        assert_int_equal(n.graph.count, 7); /* one node for Slice, Slice and Pad */
        network_free(&n);
        onnx_free(m);
    }
}

/* Each way from pooled pixels to the dense layer. */
static void heads(void **unused)
{
    (void)unused;
    for (int way = 0; way < 6; way++) {
        Onnx__ModelProto *m = onnx_new(way == 3 ? 12 : 13, nchw);
        Onnx__NodeProto *n;
        conv(m, "x", "c", "8,3,3,3", "1,1,1,1", "2,2");
        windowed(m, "AveragePool", "c", "p", "6,6", "1,1", "0,0,0,0");
        if (way == 0) { /* view(x.size(0), -1) */
            onnx_node(m, "Shape", "p", "shape");
            onnx_ints(m, "first", "", S64, (int64_t[]){0});
            onnx_node(m, "Gather", "shape,first", "batch");
            onnx_ints(m, "axis", "1", S64, (int64_t[]){0});
            onnx_node(m, "Unsqueeze", "batch,axis", "batch1");
            onnx_ints(m, "rest", "1", S64, (int64_t[]){-1});
            onnx_set_int(onnx_node(m, "Concat", "batch1,rest", "to"), "axis", 0);
            onnx_node(m, "Reshape", "p,to", "flat");
        } else if (way == 1) {
            onnx_ints(m, "to", "2", S64, (int64_t[]){0, -1});
            onnx_node(m, "Reshape", "p,to", "flat");
        } else if (way == 2) {
            onnx_ints(m, "to", "2", S64, (int64_t[]){-1, 8});
            onnx_node(m, "Reshape", "p,to", "flat");
        } else if (way == 3) {
            onnx_set_ints(onnx_node(m, "Squeeze", "p", "flat"), "axes", "2,3");
        } else if (way == 4) { /* there, back and there again, with what does nothing */
            onnx_node(m, "Flatten", "p", "f");
            onnx_node(m, "Dropout", "f", "d");
            onnx_node(m, "Identity", "d", "i");
            onnx_ints(m, "axes", "2", S64, (int64_t[]){2, 3});
            onnx_node(m, "Unsqueeze", "i,axes", "u");
            onnx_node(m, "Squeeze", "u,axes", "flat");
        } else {
            onnx_ints(m, "shape", "4", S64, (int64_t[]){-1, 8, 1, 1});
            onnx_node(m, "Reshape", "p,shape", "same");
            onnx_set_int(onnx_node(m, "Flatten", "same", "flat"), "axis", -3);
        }
        onnx_random(m, "w", "5,8", 0.5f);
        onnx_node(m, "Transpose", "w", "wt");
        n = onnx_node(m, "MatMul", "flat,wt", "y");
        assert_non_null(n);
        assert_computes(m, nchw);
        onnx_free(m);
    }
}

/* One network, its weights stored in every way. */
static void storage(void **unused)
{
    (void)unused;
    for (int way = 0; way < 4; way++) {
        Onnx__ModelProto *m = onnx_new(13, nchw);
        conv(m, "x", "c", "5,3,12,12", "0,0,0,0", "1,1");
        onnx_node(m, "Flatten", "c", "y");
        Onnx__TensorProto *t = m->graph->initializer[0];
        const size_t count = t->n_float_data;
        if (way == 1) { /* halves as integers */
            t->data_type = F16;
            t->int32_data = malloc(count * sizeof *t->int32_data);
            t->n_int32_data = count;
            for (size_t i = 0; i < count; i++)
                t->int32_data[i] = (int32_t)(0x3000 + i % 512 + (i % 2 ? 0x8000 : 0));
        } else if (way == 2) {
            t->data_type = ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE;
            t->double_data = malloc(count * sizeof *t->double_data);
            t->n_double_data = count;
            for (size_t i = 0; i < count; i++)
                t->double_data[i] = (double)t->float_data[i];
        } else if (way == 3) {
            t->has_raw_data = 1;
            t->raw_data.len = count * 4;
            t->raw_data.data = malloc(count * 4);
            memcpy(t->raw_data.data, t->float_data, count * 4);
        }
        if (way > 0) {
            t->n_float_data = 0;
            free(t->float_data);
            t->float_data = NULL;
        }
        assert_computes(m, nchw);
        onnx_free(m);
    }
}

/* What a graph does to its input goes into the preprocessing, if that was given. */
static void normalisation_inside(void **unused)
{
    (void)unused;
    Onnx__ModelProto *m = onnx_new(13, nchw);
    struct network n;
    struct err e;
    onnx_floats(m, "k", "", (float[]){1.0f / 255});
    onnx_node(m, "Mul", "x,k", "x1");
    onnx_floats(m, "mean", "1,3,1,1", (float[]){0.4f, 0.5f, 0.6f});
    onnx_node(m, "Sub", "x1,mean", "x2");
    onnx_floats(m, "std", "3,1,1", (float[]){0.2f, 0.25f, 0.3f});
    onnx_node(m, "Div", "x2,std", "x3");
    conv(m, "x3", "c", "8,3,3,3", "1,1,1,1", "2,2");
    head(m, "c", "5,8");
    n = import(m);
    assert_true(fabs((double)n.preprocess.mean[1] - 127.5) < 1e-3 && fabs((double)n.preprocess.std[2] - 76.5) < 1e-3);
    assert_true(difference(m, &n, nchw, 1) < 2e-5);
    network_free(&n);
    m->graph->input[0]->type->tensor_type->shape->dim[2]->dim_value = 32;
    m->graph->input[0]->type->tensor_type->shape->dim[3]->dim_value = 32;
    assert_int_equal(import_with(m, NULL, &n, &e), -1);
    assert_non_null(strstr(e.text, "--preprocess"));
    onnx_free(m);
}

/* ---- quantised graphs ---- */

static void quant(Onnx__ModelProto *m, const char *name, int type, float scale, int zero)
{
    char text[48];
    snprintf(text, sizeof text, "%s_s", name);
    onnx_number(m, text, scale);
    snprintf(text, sizeof text, "%s_z", name);
    onnx_integer(m, text, type, zero + (type == U8 ? 128 : 0));
}

/* floats `from` -> integers NAME_q -> floats NAME */
static void quantise(Onnx__ModelProto *m, const char *from, const char *name, int type, float scale, int zero)
{
    char in[96], q[48];
    quant(m, name, type, scale, zero);
    snprintf(in, sizeof in, "%s,%s_s,%s_z", from, name, name);
    snprintf(q, sizeof q, "%s_q", name);
    onnx_node(m, "QuantizeLinear", in, q);
    snprintf(in, sizeof in, "%s_q,%s_s,%s_z", name, name, name);
    onnx_node(m, "DequantizeLinear", in, name);
}

/* Integers NAME_i with a scale per channel (or one for all), dequantised as NAME where asked for. */
static void weights(Onnx__ModelProto *m, const char *name, const char *dims, const char *channels, int axis, int dequantise)
{
    char text[96];
    snprintf(text, sizeof text, "%s_i", name);
    onnx_random_ints(m, text, dims, S8, -127, 127);
    snprintf(text, sizeof text, "%s_s", name);
    Onnx__TensorProto *s = onnx_random(m, text, channels, 0.001f);
    for (size_t i = 0; i < s->n_float_data; i++)
        s->float_data[i] = fabsf(s->float_data[i]) + 0.002f;
    int64_t zeros[16] = {0};
    snprintf(text, sizeof text, "%s_z", name);
    onnx_ints(m, text, channels, S8, zeros);
    if (!dequantise)
        return;
    snprintf(text, sizeof text, "%s_i,%s_s,%s_z", name, name, name);
    onnx_set_int(onnx_node(m, "DequantizeLinear", text, name), "axis", axis);
}

static void quantised_conv(Onnx__ModelProto *m, const char *in, const char *out, const char *dims, const char *channels,
                           const char *pads, const char *strides)
{
    char w[48], inputs[96];
    snprintf(w, sizeof w, "%s_w", out);
    weights(m, w, dims, channels, 0, 1);
    snprintf(inputs, sizeof inputs, "%s,%s", in, w);
    Onnx__NodeProto *n = onnx_node(m, "Conv", inputs, out);
    onnx_set_ints(n, "pads", pads);
    onnx_set_ints(n, "strides", strides);
}

/* Steps of the logits' scale (1e-4 of floats) by which int8 may differ: the definition rounds in other places, so rarely one. */
static void assert_computes_int8(const Onnx__ModelProto *m, const int64_t dims[4], double step)
{
    struct network n = import(m);
    assert_int_equal(n.precision, PRECISION_INT8);
    const double d = difference(m, &n, dims, 0);
    if (!(d <= 1.01 * step))
        fail_msg("logits differ by %g, a step is %g", d, step);
    network_free(&n);
}

static void qdq(void **unused)
{
    (void)unused;
    for (int way = 0; way < 4; way++) {
        const int type = way & 1 ? S8 : U8, channels = way & 2;
        Onnx__ModelProto *m = onnx_new(13, nchw);
        quantise(m, "x", "x0", type, 0.016f, 5);
        quantised_conv(m, "x0", "c1", "8,3,3,3", channels ? "8" : "", "1,1,1,1", "1,1");
        onnx_node(m, "Relu", "c1", "r1");
        quantise(m, "r1", "q1", type, 0.04f, -128);
        windowed(m, "MaxPool", "q1", "p1", "3,3", "2,2", "1,1,1,1");
        quantise(m, "p1", "q2", type, 0.04f, -128);
        quantised_conv(m, "q2", "c2", "8,8,3,3", channels ? "8" : "", "1,1,1,1", "1,1");
        quantise(m, "c2", "q3", type, 0.1f, 3);
        onnx_node(m, "Add", "q3,q2", "a");
        onnx_node(m, "Relu", "a", "r2");
        quantise(m, "r2", "q4", type, 0.06f, -128);
        onnx_node(m, "GlobalAveragePool", "q4", "g");
        quantise(m, "g", "q5", type, 0.03f, -128);
        onnx_node(m, "Flatten", "q5", "f");
        weights(m, "w", "5,8", channels ? "5" : "", 0, 1);
        onnx_random_ints(m, "b_i", "5", S32, -3000, 3000);
        float scales[5];
        for (int i = 0; i < 5; i++) { /* as QDQ writers compute it: input scale times weight scale, in float */
            const Onnx__TensorProto *s = m->graph->initializer[m->graph->n_initializer - 3];
            scales[i] = 0.03f * s->float_data[channels ? i : 0];
        }
        onnx_floats(m, "b_s", "5", scales);
        onnx_set_int(onnx_node(m, "DequantizeLinear", "b_i,b_s", "b"), "axis", 0);
        onnx_set_int(onnx_node(m, "Gemm", "f,w,b", "logits"), "transB", 1);
        quantise(m, "logits", "y", type, 0.05f, 7);

        struct network n = import(m);
        const double d = difference(m, &n, nchw, 0);
        if (!(d < 0.0501))
            fail_msg("way %d: logits differ by %g", way, d);
        assert_int_equal(n.graph.count, 7);
        const int relu = (int)(node_called(&n, "Conv_c1") - n.graph.nodes), out = n.graph.output;
        assert_true(n.quants[0].scale == 0.016f && n.quants[0].zero == 5 && n.quants[relu].zero == -128 &&
                    n.quants[out].zero == 7);
        assert_true(node_called(&n, "Conv_c2")->keep_output && !node_called(&n, "Conv_c1")->keep_output &&
                    n.graph.nodes[out].keep_output);
        if (!channels)
            assert_true(n.layers[1].scale[0] == n.layers[1].scale[7]);
        network_free(&n);
        onnx_free(m);
    }
}

static Onnx__ModelProto *make_qoperator(int type)
{
    Onnx__ModelProto *m = onnx_new(13, nchw);
    Onnx__NodeProto *n;
    quant(m, "x", type, 0.016f, -3);
    quant(m, "c1", type, 0.04f, -128);
    quant(m, "c2", type, 0.08f, 9);
    quant(m, "a", type, 0.09f, -100);
    quant(m, "g", type, 0.05f, -90);
    quant(m, "d", type, 0.06f, 1);
    quant(m, "logits", type, 0.05f, 0);
    onnx_node(m, "QuantizeLinear", "x,x_s,x_z", "x_q");
    weights(m, "w1", "8,3,3,3", "8", 0, 0);
    onnx_random_ints(m, "b1", "8", S32, -5000, 5000);
    n = onnx_node(m, "QLinearConv", "x_q,x_s,x_z,w1_i,w1_s,w1_z,c1_s,c1_z,b1", "c1_q");
    onnx_set_ints(n, "pads", "0,0,1,1");
    onnx_set_ints(n, "strides", "2,2");
    weights(m, "w2", "8,8,3,3", "", 0, 0);
    n = onnx_node(m, "QLinearConv", "c1_q,c1_s,c1_z,w2_i,w2_s,w2_z,c2_s,c2_z", "c2_q");
    onnx_set_ints(n, "pads", "1,1,1,1");
    onnx_node(m, "QLinearAdd", "c2_q,c2_s,c2_z,c1_q,c1_s,c1_z,a_s,a_z", "a_q")->domain = strdup("com.microsoft");
    onnx_node(m, "QLinearGlobalAveragePool", "a_q,a_s,a_z,g_s,g_z", "g_q")->domain = strdup("com.microsoft");
    onnx_node(m, "Flatten", "g_q", "f_q");
    weights(m, "w3", "8,6", "6", 1, 0);
    onnx_node(m, "QLinearMatMul", "f_q,g_s,g_z,w3_i,w3_s,w3_z,d_s,d_z", "d_q");
    weights(m, "w4", "5,6", "5", 0, 0);
    onnx_random_ints(m, "b4", "5", S32, -2000, 2000);
    n = onnx_node(m, "QGemm", "d_q,d_s,d_z,w4_i,w4_s,w4_z,b4,logits_s,logits_z", "y_q");
    n->domain = strdup("com.microsoft");
    onnx_set_int(n, "transB", 1);
    onnx_node(m, "DequantizeLinear", "y_q,logits_s,logits_z", "y");
    for (size_t i = 0; type == U8 && i < m->graph->n_initializer; i++) { /* one layer's weights unsigned too */
        Onnx__TensorProto *t = m->graph->initializer[i];
        if (strncmp(t->name, "w4_", 3) != 0 || t->data_type != S8)
            continue;
        t->data_type = U8;
        for (size_t k = 0; k < t->raw_data.len; k++)
            t->raw_data.data[k] ^= 0x80;
        for (size_t k = 0; k < t->n_int32_data; k++)
            t->int32_data[k] += 128;
    }
    return m;
}

static void qoperator(void **unused)
{
    (void)unused;
    for (int type = U8; type <= S8; type++) {
        Onnx__ModelProto *m = make_qoperator(type);
        assert_computes_int8(m, nchw, 0.05);
        onnx_free(m);
    }
}

/* What PyTorch leaves: weights rounded at run time, a batch norm behind a quantised convolution, ReLU behind a quantisation and
   without one after it, a sum straight from a convolution, ReLU6 whose bound is the range's end, logits that stay floats. */
static void trained_with_quantisation(void **unused)
{
    (void)unused;
    Onnx__ModelProto *m = onnx_new(13, nchw);
    quantise(m, "x", "x0", U8, 0.016f, 0);
    onnx_random(m, "w1", "8,3,3,3", 0.3f);
    onnx_random(m, "w1_s", "8", 0.0002f);
    for (int i = 0; i < 8; i++)
        m->graph->initializer[3]->float_data[i] += 0.002f;
    onnx_ints(m, "w1_z", "8", S8, (int64_t[8]){0});
    onnx_set_int(onnx_node(m, "QuantizeLinear", "w1,w1_s,w1_z", "w1_q"), "axis", 0);
    onnx_set_int(onnx_node(m, "DequantizeLinear", "w1_q,w1_s,w1_z", "w1_d"), "axis", 0);
    Onnx__NodeProto *n = onnx_node(m, "Conv", "x0,w1_d", "c1");
    onnx_set_ints(n, "pads", "1,1,1,1");
    batch_norm(m, "c1", "b1", "8");
    quantise(m, "b1", "q1", S8, 0.03f, 4);
    onnx_node(m, "Relu", "q1", "r1");
    quantised_conv(m, "r1", "c2", "8,8,3,3", "8", "1,1,1,1", "1,1");
    onnx_node(m, "Add", "r1,c2", "a");
    onnx_number(m, "zero", 0);
    onnx_number(m, "six", 6);
    onnx_node(m, "Clip", "a,zero,six", "r2");
    quantise(m, "r2", "q2", U8, 6.0f / 255, -128);
    quantise(m, "q2", "q3", U8, 0.03f, -120); /* from one scale to another */
    onnx_node(m, "GlobalAveragePool", "q3", "g");
    quantise(m, "g", "q4", U8, 0.02f, -128);
    onnx_node(m, "Flatten", "q4", "f");
    weights(m, "w", "8,5", "5", 1, 1);
    onnx_random(m, "b", "5", 0.5f);
    onnx_node(m, "MatMul", "f,w", "product");
    onnx_node(m, "Add", "product,b", "y");
    struct network net = import(m);
    const double d = difference(m, &net, nchw, 0);
    if (!(d < 0.02)) /* a few steps of the average, times weights */
        fail_msg("logits differ by %g", d);
    assert_true(node_called(&net, "Conv_c1")->relu && net.quants[1].zero == 4);
    assert_true(!node_called(&net, "Conv_c2")->keep_output && !net.graph.nodes[net.graph.output].keep_output);
    network_free(&net);
    onnx_free(m);
}

/* -128 is kept where kernels can multiply it, once in a channel; others are counted. */
static void weights_of_minus_128(void **unused)
{
    (void)unused;
    Onnx__ModelProto *m = make_qoperator(S8);
    for (size_t i = 0; i < m->graph->n_initializer; i++)
        if (strcmp(m->graph->initializer[i]->name, "w2_i") == 0) {
            m->graph->initializer[i]->raw_data.data[0] = 0x80; /* input channel 0 */
            m->graph->initializer[i]->raw_data.data[72] = 0x80;
            m->graph->initializer[i]->raw_data.data[143] = 0x80; /* the same output channel */
        }
    struct network n = import(m);
    int seen[2] = {0};
    for (int i = 0; i < 144; i++)
        seen[i / 72] += ((int8_t *)n.layers[2].weight)[i] == -128;
    assert_true(seen[0] == 1 && seen[1] == 1);
    assert_non_null(strstr(n.quantization, "\"clamped_weights\":1}"));
    network_free(&n);
    onnx_free(m);
}

/* ---- what is refused ---- */

static Onnx__NodeProto *find_node(Onnx__ModelProto *m, const char *name)
{
    for (size_t i = 0; i < m->graph->n_node; i++)
        if (strcmp(m->graph->node[i]->name, name) == 0)
            return m->graph->node[i];
    fail_msg("no node %s", name);
    return NULL;
}

static void rename_op(Onnx__NodeProto *n, const char *type)
{
    free(n->op_type);
    n->op_type = strdup(type);
}

static void replace_input(Onnx__NodeProto *n, int i, const char *name)
{
    free(n->input[i]);
    n->input[i] = strdup(name);
}

static Onnx__TensorProto *find_tensor(Onnx__ModelProto *m, const char *name)
{
    for (size_t i = 0; i < m->graph->n_initializer; i++)
        if (strcmp(m->graph->initializer[i]->name, name) == 0)
            return m->graph->initializer[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

static void refused(void **unused)
{
    (void)unused;
    static const char *const words[][3] = {
        {"Relu_r1", "HardSwish", "HardSwish"},
        {"Conv_c2", "not-computed", "nowhere"},
        {"Conv_c2", "dilations", "dilations"},
        {"Conv_c2", "auto_pad", "auto_pad"},
        {"Conv_c2", "group", "groups"},
        {"Conv_c2", "pads", "pads"},
        {"Conv_c2", "kernel", "kernel_shape"},
        {"Clip", "6", "ReLU6"},
        {"BatchNormalization_b1", "variance", "variance"},
        {"Gemm_y", "transA", "transA"},
        {"Add_a", "shape", "not of one shape"},
        {"b1_g", "NaN", "no finite number"},
        {"c1_w", "external", "another file"},
        {"c1_w", "short", "should hold"},
        {"c1_w", "type", "type 9"},
        {"c1_w", "dims", "dimension"},
        {"x", "channels", "channels"},
        {"y", "outputs", "outputs"},
        {"m.onnx", "opset", "opset 22"},
        {"m.onnx", "opset6", "opset 6"},
        {"r1", "twice", "two things are called"},
        {"Relu_r1", "subgraph", "com.acme"},
        {"m.onnx", "size", "preprocessing gives"},
    };
    for (size_t i = 0; i < COUNT(words); i++) {
        Onnx__ModelProto *m = make_v1();
        Onnx__NodeProto *c2 = find_node(m, "Conv_c2"), *r1 = find_node(m, "Relu_r1");
        Onnx__TensorProto *w = find_tensor(m, "c1_w");
        struct preprocess p = raw;
        struct network n;
        struct err e = {.text = ""};
        const char *what = words[i][1];
#define IS(text) (strcmp(what, text) == 0)
        if (IS("HardSwish"))
            rename_op(r1, what);
        else if (IS("not-computed"))
            replace_input(c2, 0, "nowhere");
        else if (IS("dilations"))
            onnx_set_ints(c2, what, "2,2");
        else if (IS("auto_pad"))
            onnx_set_text(c2, what, "SAME");
        else if (IS("group"))
            onnx_set_int(c2, what, 3);
        else if (IS("pads"))
            c2->attribute[0]->ints[0] = -1;
        else if (IS("kernel"))
            onnx_set_ints(c2, "kernel_shape", "5,5");
        else if (IS("6")) {
            rename_op(r1, "Clip");
            onnx_set_float(r1, "min", 0);
            onnx_set_float(r1, "max", 6);
        } else if (IS("variance"))
            find_tensor(m, "b1_v")->float_data[2] = -1;
        else if (IS("transA"))
            onnx_set_int(find_node(m, "Gemm_y"), what, 1);
        else if (IS("shape"))
            replace_input(find_node(m, "Add_a"), 1, "p1");
        else if (IS("NaN"))
            find_tensor(m, "b1_g")->float_data[0] = NAN;
        else if (IS("external"))
            w->has_data_location = 1, w->data_location = 1;
        else if (IS("short"))
            w->n_float_data--;
        else if (IS("type"))
            w->data_type = 9;
        else if (IS("dims"))
            w->dims[0] = 1ll << 31;
        else if (IS("channels"))
            m->graph->input[0]->type->tensor_type->shape->dim[1]->dim_value = 4;
        else if (IS("outputs"))
            m->graph->n_output = 0;
        else if (IS("opset"))
            m->opset_import[0]->version = ONNX_OPSET_MAX + 1;
        else if (IS("opset6"))
            m->opset_import[0]->version = ONNX_OPSET_MIN - 1;
        else if (IS("twice"))
            free(r1->output[0]), r1->output[0] = strdup("p1");
        else if (IS("subgraph"))
            r1->domain = strdup("com.acme");
        else if (IS("size"))
            p.crop_w = SIDE + 1, p.crop_h = SIDE;
#undef IS
        if (import_with(m, &p, &n, &e) != -1)
            fail_msg("case %zu (%s): read", i, what);
        if (!strstr(e.text, words[i][2]) || !strstr(e.text, "m.onnx"))
            fail_msg("case %zu (%s): says '%s'", i, what, e.text);
        if (strchr(words[i][0], '_') && words[i][0][0] >= 'A' && words[i][0][0] <= 'Z' && strcmp(what, "shape") != 0 &&
            !strstr(e.text, words[i][0]))
            fail_msg("case %zu (%s): does not name %s: %s", i, what, words[i][0], e.text);
        assert_true(n.graph.count == 0 && !n.layers);
        if (strcmp(what, "outputs") == 0)
            m->graph->n_output = 1;
        onnx_free(m);
    }
}

static void refused_quantised(void **unused)
{
    (void)unused;
    static const struct {
        const char *tensor;
        int64_t value; /* of an integer; 0: see below */
        const char *word;
    } cases[] = {{"w2_z", 1, "zero point 1"}, {"c1_s", 0, "scale"}, {"w3_s", 0, "scale"},
                 {"a_z", S32, "type 6"},      {"g_s", 1, "scale"},  {"y", 0, "floats"}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        Onnx__ModelProto *m = make_qoperator(S8);
        struct network n;
        struct err e = {.text = ""};
        const char *name = cases[i].tensor;
        if (strcmp(name, "y") == 0) { /* a float operator in between */
            rename_op(find_node(m, "QLinearGlobalAveragePool_g_q"), "GlobalAveragePool");
            find_node(m, "QLinearGlobalAveragePool_g_q")->n_input = 1;
        } else {
            Onnx__TensorProto *t = find_tensor(m, name);
            if (name[0] == 'g') /* another scale on reading than on writing */
                replace_input(find_node(m, "QLinearMatMul_d_q"), 1, "a_s");
            else if (t->n_int32_data && cases[i].value == S32)
                t->data_type = S32;
            else if (t->n_int32_data)
                t->int32_data[0] = (int32_t)cases[i].value;
            else if (t->has_raw_data)
                memset(t->raw_data.data, 0, 4);
            else
                t->float_data[0] = -1;
        }
        if (import_with(m, &raw, &n, &e) != -1)
            fail_msg("case %zu (%s): read", i, name);
        if (!strstr(e.text, cases[i].word))
            fail_msg("case %zu (%s): says '%s'", i, name, e.text);
        if (strcmp(name, "y") == 0)
            find_node(m, "QLinearGlobalAveragePool_g_q")->n_input = 5;
        onnx_free(m);
    }
}

/* ---- files ---- */

static void not_whole(void **unused)
{
    (void)unused;
    Onnx__ModelProto *m = make_v1();
    size_t size;
    uint8_t *bytes = onnx_bytes(m, &size);
    for (size_t cut = 0; cut < size; cut += cut < 300 || cut + 300 > size ? 1 : 97) {
        struct network n = {.name = ""};
        struct err e = {.text = ""};
        files_write(dir, "cut.onnx", bytes, cut);
        if (onnx_import(files_path(dir, "cut.onnx"), &(struct import_options){NULL, &raw}, &n, &e) != -1)
            fail_msg("the first %zu of %zu bytes were read", cut, size);
        assert_non_null(strstr(e.text, "cut.onnx"));
        assert_true(n.graph.count == 0 && !n.layers);
    }
    free(bytes);
    onnx_free(m);
}

static void limits(void **unused)
{
    (void)unused;
    struct network n = {.name = ""};
    struct err e;
    const struct import_options o = {NULL, &raw};
    /* one byte beyond the largest file, without its bytes */
    files_write(dir, "large.onnx", "", 0);
    assert_int_equal(truncate(files_path(dir, "large.onnx"), (off_t)ONNX_FILE_MAX + 1), 0);
    assert_int_equal(onnx_import(files_path(dir, "large.onnx"), &o, &n, &e), -1);
    assert_true(e.code == ERR_TOO_LARGE);
    /* one node beyond */
    uint8_t *bytes = malloc(2 * (ONNX_NODES_MAX + 2) + 16), *at = bytes;
    const size_t length = 2 * (ONNX_NODES_MAX + 1);
    memcpy(at, "\x08\x08\x3a", 3);
    at += 3;
    for (size_t v = length; v || at == bytes + 3; v >>= 7)
        *at++ = (uint8_t)((v & 127) | (v > 127 ? 128 : 0));
    for (size_t i = 0; i < length; i++)
        *at++ = i % 2 ? 0 : 0x0a; /* graph.node, empty */
    files_write(dir, "nodes.onnx", bytes, (size_t)(at - bytes));
    assert_int_equal(onnx_import(files_path(dir, "nodes.onnx"), &o, &n, &e), -1);
    assert_true(e.code == ERR_TOO_LARGE && strstr(e.text, "65537 nodes"));
    free(bytes);
    /* small on disk, large in memory: empty attributes of one node */
    const size_t many = 2 << 20;
    bytes = malloc(many + 32);
    at = bytes;
    memcpy(at, "\x08\x08\x3a", 3);
    at += 3;
    for (size_t inner = 0; inner < 2; inner++) {
        const size_t v = inner ? many : many + 5;
        for (int b = 0; b < 4; b++)
            *at++ = (uint8_t)((v >> (7 * b) & 127) | (b < 3 ? 128 : 0));
        if (!inner)
            *at++ = 0x0a;
    }
    for (size_t i = 0; i < many; i++)
        *at++ = i % 2 ? 0 : 0x2a; /* node.attribute */
    files_write(dir, "bomb.onnx", bytes, (size_t)(at - bytes));
    assert_int_equal(onnx_import(files_path(dir, "bomb.onnx"), &o, &n, &e), -1);
    assert_true(e.code == ERR_TOO_LARGE && strstr(e.text, "unpacks"));
    free(bytes);
    assert_int_equal(onnx_import(files_path(dir, "none.onnx"), &o, &n, &e), -1);
    assert_true(e.code == ERR_NOT_FOUND);
    files_write(dir, "text.onnx", "an apple", 8);
    assert_int_equal(checkpoint_import(files_path(dir, "text.onnx"), &o, &n, &e), -1);
    assert_true(e.code == ERR_DAMAGED);
}

static void allocations(void **unused)
{
    (void)unused;
    for (int quantised = 0; quantised < 2; quantised++) {
        Onnx__ModelProto *m = quantised ? make_qoperator(U8) : make_v1();
        size_t size;
        uint8_t *bytes = onnx_bytes(m, &size);
        files_write(dir, "m.onnx", bytes, size);
        free(bytes);
        const char *path = files_path(dir, "m.onnx");
        int count = 0;
        for (int r = -1; r; count++) {
            struct network n = {.name = ""};
            struct err e;
            scarce_left = count;
            r = onnx_import(path, &(struct import_options){NULL, &raw}, &n, &e);
            scarce_left = -1;
            if (r && e.code != ERR_MEMORY)
                fail_msg("allocation %d: %s", count, e.text);
            network_free(&n);
        }
        assert_true(count > 50);
        onnx_free(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_with_batch_norm),
        cmocka_unit_test(pre_activation),
        cmocka_unit_test(nodes_apart),
        cmocka_unit_test(windows),
        cmocka_unit_test(heads),
        cmocka_unit_test(storage),
        cmocka_unit_test(option_a),
        cmocka_unit_test(normalisation_inside),
        cmocka_unit_test(qdq),
        cmocka_unit_test(qoperator),
        cmocka_unit_test(trained_with_quantisation),
        cmocka_unit_test(weights_of_minus_128),
        cmocka_unit_test(refused),
        cmocka_unit_test(refused_quantised),
        cmocka_unit_test(not_whole),
        cmocka_unit_test(limits),
        cmocka_unit_test(allocations),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}

// SPDX-License-Identifier: MIT
//
// Networks from names and shapes: the whole family, generated thin (a few channels instead of 64), and checkpoints that are not
// what they seem. That the numbers are right too is shown by test_golden and by the bundled model.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/resnet.h"
#include "tests/files.h"

/* ---- a checkpoint being made ---- */

struct checkpoint {
    char *dir;
    struct st_item items[1200];
    char names[1200][96];
    int count;
    struct st_meta meta[4];
    int meta_count;
    const char *prefix;
};

static float values[1 << 20]; /* every tensor borrows these: 0.5 is a fine weight and variance */

static void tensor(struct checkpoint *c, const char *base, const char *leaf, int rank, int o, int i, int k)
{
    struct st_item *t = &c->items[c->count];
    snprintf(c->names[c->count], sizeof c->names[0], "%s%s%s", c->prefix, base, leaf);
    *t = (struct st_item){c->names[c->count], ST_F32, rank, {o, i, k, k}, values};
    assert_true((int64_t)o * (rank > 1 ? i : 1) * (rank > 2 ? k * k : 1) <= 1 << 20);
    c->count++;
}

static void conv(struct checkpoint *c, const char *name, int o, int i, int k)
{
    tensor(c, name, ".weight", 4, o, i, k);
}

static void norm(struct checkpoint *c, const char *name, int o)
{
    static const char *const leaves[] = {".weight", ".bias", ".running_mean", ".running_var"};
    for (int i = 0; i < 4; i++)
        tensor(c, name, leaves[i], 1, o, 0, 0);
    tensor(c, name, ".num_batches_tracked", 0, 1, 0, 0);
}

static void conv_norm(struct checkpoint *c, const char *base, int n, int o, int i, int k)
{
    char name[64];
    snprintf(name, sizeof name, "%s.conv%d", base, n);
    conv(c, name, o, i, k);
    snprintf(name, sizeof name, "%s.bn%d", base, n);
    norm(c, name, o);
}

struct family {
    int stem; /* kernel */
    int blocks[4];
    int bottleneck;
    int planes;             /* channels of the first stage */
    int width, groups;      /* of the first stage's 3x3 in a bottleneck */
    const char *projection; /* "downsample", "shortcut"; NULL: option A */
    const char *head;       /* "fc", "linear" */
    int deep[3];            /* widths of a deep stem; stem is not used then */
    int average;            /* projections have an average pool in front: positions 1 and 2 */
};

static void make(struct checkpoint *c, const struct family *f)
{
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        values[i] = 0.5f;
    c->count = c->meta_count = 0;
    int in = f->planes, expansion = f->bottleneck ? 4 : 1;
    if (f->deep[0]) {
        conv(c, "conv1.0", f->deep[0], 3, 3);
        norm(c, "conv1.1", f->deep[0]);
        conv(c, "conv1.3", f->deep[1], f->deep[0], 3);
        norm(c, "conv1.4", f->deep[1]);
        conv(c, "conv1.6", f->deep[2], f->deep[1], 3);
        in = f->deep[2];
    } else {
        conv(c, "conv1", in, 3, f->stem);
    }
    norm(c, "bn1", in);
    for (int s = 0; s < 4 && f->blocks[s]; s++)
        for (int b = 0; b < f->blocks[s]; b++) {
            char base[32], name[64];
            int planes = f->planes << s, out = planes * expansion, width = f->width << s;
            snprintf(base, sizeof base, "layer%d.%d", s + 1, b);
            if (f->bottleneck) {
                conv_norm(c, base, 1, width, in, 1);
                conv_norm(c, base, 2, width, width / f->groups, 3);
                conv_norm(c, base, 3, out, width, 1);
            } else {
                conv_norm(c, base, 1, out, in, 3);
                conv_norm(c, base, 2, out, out, 3);
            }
            if (f->projection && b == 0 && (s > 0 || in != out)) {
                snprintf(name, sizeof name, "%s.%s.%d", base, f->projection, f->average);
                conv(c, name, out, in, 1);
                snprintf(name, sizeof name, "%s.%s.%d", base, f->projection, f->average + 1);
                norm(c, name, out);
            }
            in = out;
        }
    char name[64];
    snprintf(name, sizeof name, "%s", f->head);
    tensor(c, name, ".weight", 2, 10, in, 0);
    tensor(c, name, ".bias", 1, 10, 0, 0);
}

static int import(struct checkpoint *c, const char *preset, const char *arch, struct network *out, struct err *e)
{
    const char *path = files_path(c->dir, "c.safetensors");
    struct tensors *t;
    memset(out, 0, sizeof *out);
    assert_int_equal(preprocess_preset(preset, &out->preprocess, e), 0);
    if (st_write(path, c->items, c->count, c->meta, c->meta_count, 8, e) < 0 || tensors_open_safetensors(path, &t, e) < 0) {
        print_error("%s\n", e->text);
        fail();
    }
    int r = resnet_from_tensors(t, arch, out, e);
    tensors_close(t);
    return r;
}

static void expect_error(struct checkpoint *c, const char *arch, const char *text)
{
    struct network n;
    struct err e = {0};
    assert_int_equal(import(c, "cifar10", arch, &n, &e), -1);
    assert_null(n.layers);
    if (!strstr(e.text, text)) {
        print_error("expected \"%s\" in \"%s\"\n", text, e.text);
        fail();
    }
    network_free(&n);
}

static int node(const struct network *n, const char *name)
{
    for (int i = 0; i < n->graph.count; i++)
        if (strcmp(n->graph.nodes[i].name, name) == 0)
            return i;
    print_error("no node %s\n", name);
    fail();
    return -1;
}

static const struct family resnet20 = {3, {3, 3, 3}, 0, 8, 0, 1, NULL, "linear", {0}, 0};
static const struct family resnet50 = {7, {3, 4, 6, 3}, 1, 4, 4, 1, "downsample", "fc", {0}, 0};
static struct checkpoint checkpoint;

static int index_of(const char *name)
{
    for (int i = 0; i < checkpoint.count; i++)
        if (strcmp(checkpoint.names[i], name) == 0)
            return i;
    print_error("no tensor %s\n", name);
    abort();
}

static int set_up(void **unused)
{
    (void)unused;
    checkpoint.dir = files_make_dir();
    checkpoint.prefix = "";
    return 0;
}

static int tear_down(void **unused)
{
    (void)unused;
    files_remove_dir(checkpoint.dir);
    return 0;
}

static void the_family(void **unused)
{
    (void)unused;
    static const struct {
        const char *name, *preset;
        struct family f;
        int layers; /* with weights, projections included */
    } known[] = {
        {"resnet18", "imagenet", {7, {2, 2, 2, 2}, 0, 4, 0, 1, "downsample", "fc", {0}, 0}, 21},
        {"resnet34", "imagenet", {7, {3, 4, 6, 3}, 0, 4, 0, 1, "downsample", "fc", {0}, 0}, 37},
        {"resnet50", "imagenet", {7, {3, 4, 6, 3}, 1, 4, 4, 1, "downsample", "fc", {0}, 0}, 54},
        {"resnet101", "imagenet", {7, {3, 4, 23, 3}, 1, 4, 4, 1, "downsample", "fc", {0}, 0}, 105},
        {"resnet152", "imagenet", {7, {3, 8, 36, 3}, 1, 2, 2, 1, "downsample", "fc", {0}, 0}, 156},
        {"wide_resnet14_2", "imagenet", {7, {2, 2}, 1, 4, 128, 1, "downsample", "fc", {0}, 0}, 16},
        {"resnext50_2x4d", "imagenet", {7, {3, 4, 6, 3}, 1, 4, 8, 2, "downsample", "fc", {0}, 0}, 54},
        {"resnet50c", "imagenet", {0, {3, 4, 6, 3}, 1, 4, 4, 1, "downsample", "fc", {4, 4, 8}, 0}, 56},
        {"resnet50d", "imagenet", {0, {3, 4, 6, 3}, 1, 4, 4, 1, "downsample", "fc", {4, 4, 8}, 1}, 59},
        {"resnet18d", "imagenet", {0, {2, 2, 2, 2}, 0, 4, 0, 1, "downsample", "fc", {4, 4, 4}, 1}, 26},
        {"resnet50s", "imagenet", {0, {3, 4, 6, 3}, 1, 4, 4, 1, "downsample", "fc", {64, 64, 8}, 0}, 56},
        {"resnet50e", "imagenet", {0, {3, 4, 6, 3}, 1, 4, 4, 1, "downsample", "fc", {64, 64, 8}, 1}, 59},
        {"resnet50t", "imagenet", {0, {3, 4, 6, 3}, 1, 4, 4, 1, "downsample", "fc", {3, 4, 8}, 1}, 59},
        {"resnext26d_2x4d", "imagenet", {0, {2, 2, 2, 2}, 1, 4, 8, 2, "downsample", "fc", {4, 4, 8}, 1}, 35},
        {"resnet26_avg_down", "imagenet", {7, {2, 2, 2, 2}, 1, 4, 4, 1, "downsample", "fc", {0}, 1}, 33},
        {"resnet20", "cifar10", {3, {3, 3, 3}, 0, 8, 0, 1, NULL, "linear", {0}, 0}, 20},
        {"resnet20", "cifar10", {3, {3, 3, 3}, 0, 8, 0, 1, "downsample", "fc", {0}, 0}, 22},
        {"resnet20", "cifar10", {3, {3, 3, 3}, 0, 8, 0, 1, "shortcut", "linear", {0}, 0}, 22},
        {"resnet32", "cifar10", {3, {5, 5, 5}, 0, 8, 0, 1, NULL, "linear", {0}, 0}, 32},
        {"resnet110", "cifar10", {3, {18, 18, 18}, 0, 8, 0, 1, NULL, "linear", {0}, 0}, 110},
        {"resnet8", "cifar10", {3, {1, 1, 1}, 0, 8, 0, 1, "downsample", "fc", {0}, 0}, 10},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        struct network n;
        struct err e;
        make(&checkpoint, &known[i].f);
        if (import(&checkpoint, known[i].preset, NULL, &n, &e) < 0) {
            print_error("%s: %s\n", known[i].name, e.text);
            fail();
        }
        assert_string_equal(n.name, known[i].name);
        int layers = 0;
        for (int k = 0; k < n.graph.count; k++)
            layers += node_has_weights(&n.graph.nodes[k]);
        assert_int_equal(layers, known[i].layers);
        int large = known[i].f.stem != 3, side = n.graph.nodes[node(&n, "avgpool") - 1].h;
        int stages = 0;
        while (stages < 4 && known[i].f.blocks[stages])
            stages++;
        assert_int_equal(side, (large ? 56 : 32) >> (stages - 1));
        assert_int_equal(n.graph.nodes[n.graph.output].c, 10);
        network_free(&n);
    }
}

static void strides_of_a_bottleneck(void **unused)
{
    (void)unused;
    struct network n;
    struct err e;
    make(&checkpoint, &resnet50);
    assert_int_equal(import(&checkpoint, "imagenet", "resnet50", &n, &e), 0);
    assert_int_equal(n.graph.nodes[node(&n, "layer2.0.conv1")].stride_h, 1);
    assert_int_equal(n.graph.nodes[node(&n, "layer2.0.conv2")].stride_h, 2);
    assert_int_equal(n.graph.nodes[node(&n, "layer2.0.downsample")].stride_w, 2);
    assert_int_equal(n.graph.nodes[node(&n, "layer1.0.conv2")].stride_h, 1);
    int64_t v15 = graph_macs(&n.graph);
    network_free(&n);
    assert_int_equal(import(&checkpoint, "imagenet", "resnet50-v1", &n, &e), 0);
    assert_int_equal(n.graph.nodes[node(&n, "layer2.0.conv1")].stride_h, 2);
    assert_int_equal(n.graph.nodes[node(&n, "layer2.0.conv2")].stride_h, 1);
    assert_true(graph_macs(&n.graph) < v15);
    network_free(&n);
    expect_error(&checkpoint, "resnet34", "say resnet50, not resnet34");
    expect_error(&checkpoint, "resnet5", "say resnet50, not resnet5");
}

static void averaging_projections(void **unused)
{
    (void)unused;
    static const struct family f = {0, {1, 1}, 1, 4, 4, 1, "downsample", "fc", {4, 4, 8}, 1};
    struct network n;
    struct err e;
    make(&checkpoint, &f);
    assert_int_equal(import(&checkpoint, "imagenet", "resnet8d", &n, &e), 0);
    assert_int_equal(n.graph.nodes[node(&n, "conv1.0")].stride_h, 2);
    assert_int_equal(n.graph.nodes[node(&n, "conv1.3")].stride_h, 1);
    assert_int_equal(n.graph.nodes[node(&n, "conv1.6")].relu, 1);
    for (int i = 0; i < n.graph.count; i++) /* the first stage keeps the size: nothing to average */
        assert_string_not_equal(n.graph.nodes[i].name, "layer1.0.downsample.pool");
    int at = node(&n, "layer2.0.downsample.pool");
    const struct node *p = &n.graph.nodes[at], *c = &n.graph.nodes[node(&n, "layer2.0.downsample")];
    assert_true(p->kernel_h == 2 && p->kernel_w == 2 && p->stride_h == 2 && p->stride_w == 2 && p->groups == 1 && p->c == 16);
    assert_true(p->pad_top == 0 && p->pad_bottom == 0 && p->h == 28 && p->relu == 0);
    assert_true(c->in[0] == at && c->stride_h == 1 && c->kernel_h == 1 && c->relu == 0);
    const float *w = n.layers[at].weight;
    for (int o = 0; o < 16; o++)
        for (int tap = 0; tap < 4; tap++)
            for (int i = 0; i < 16; i++)
                assert_true(*w++ == (i == o ? 0.25f : 0));
    for (int i = 0; i < 16; i++)
        assert_true(n.layers[at].bias[i] == 0);
    network_free(&n);
}

/* Without a multiple of 16 each channel is a group of its own. */
static void averaging_few_channels(void **unused)
{
    (void)unused;
    static const struct family f = {7, {1, 1}, 0, 12, 0, 1, "downsample", "fc", {0}, 1};
    struct network n;
    struct err e;
    make(&checkpoint, &f);
    assert_int_equal(import(&checkpoint, "imagenet", NULL, &n, &e), 0);
    int at = node(&n, "layer2.0.downsample.pool");
    assert_int_equal(n.graph.nodes[at].groups, 12);
    for (int i = 0; i < 48; i++)
        assert_true(((float *)n.layers[at].weight)[i] == 0.25f);
    network_free(&n);
}

/* Half of the windows' last row and column would lie outside. */
static void odd_sides(void **unused)
{
    (void)unused;
    static const struct family f = {3, {1, 1, 1}, 0, 4, 0, 1, "downsample", "fc", {0}, 1};
    struct network n = {.name = ""};
    struct err e = {0};
    struct tensors *t;
    make(&checkpoint, &f);
    const char *path = files_path(checkpoint.dir, "c.safetensors");
    assert_int_equal(st_write(path, checkpoint.items, checkpoint.count, NULL, 0, 8, &e), 0);
    assert_int_equal(tensors_open_safetensors(path, &t, &e), 0);
    assert_int_equal(preprocess_preset("cifar10", &n.preprocess, &e), 0);
    n.preprocess.width = 30; /* 30 -> 15 -> odd */
    assert_int_equal(resnet_from_tensors(t, NULL, &n, &e), -1);
    assert_non_null(strstr(e.text, "layer3.0.downsample.pool averages 2x2 pixels of 15x16"));
    tensors_close(t);
    network_free(&n);
}

/* Renames what make() made with torchvision's names. */
static void to_hugging_face(struct checkpoint *c)
{
    for (int i = 0; i < c->count; i++) {
        char old[96], *name = c->names[i];
        int stage, block, k, at = 0;
        memcpy(old, name, sizeof old);
        if (strncmp(old, "conv1.", 6) == 0)
            snprintf(name, 96, "resnet.embedder.embedder.convolution.%.16s", old + 6);
        else if (strncmp(old, "bn1.", 4) == 0)
            snprintf(name, 96, "resnet.embedder.embedder.normalization.%.20s", old + 4);
        else if (strncmp(old, "fc.", 3) == 0)
            snprintf(name, 96, "classifier.1.%.16s", old + 3);
        else if (sscanf(old, "layer%d.%d.conv%d.%n", &stage, &block, &k, &at) == 3 && at)
            snprintf(name, 96, "resnet.encoder.stages.%d.layers.%d.layer.%d.convolution.%.16s", stage - 1, block, k - 1,
                     old + at);
        else if (sscanf(old, "layer%d.%d.bn%d.%n", &stage, &block, &k, &at) == 3 && at)
            snprintf(name, 96, "resnet.encoder.stages.%d.layers.%d.layer.%d.normalization.%.20s", stage - 1, block, k - 1,
                     old + at);
        else if (sscanf(old, "layer%d.%d.downsample.%d.%n", &stage, &block, &k, &at) == 3 && at)
            snprintf(name, 96, "resnet.encoder.stages.%d.layers.%d.shortcut.%s.%.20s", stage - 1, block,
                     k ? "normalization" : "convolution", old + at);
    }
}

static void hugging_face(void **unused)
{
    (void)unused;
    static const struct family resnet18 = {7, {2, 2, 2, 2}, 0, 4, 0, 1, "downsample", "fc", {0}, 0};
    const struct family *const both[] = {&resnet18, &resnet50};
    for (int i = 0; i < 2; i++) {
        struct network n, hf;
        struct err e;
        make(&checkpoint, both[i]);
        assert_int_equal(import(&checkpoint, "imagenet", NULL, &n, &e), 0);
        to_hugging_face(&checkpoint);
        if (import(&checkpoint, "imagenet", NULL, &hf, &e) < 0) {
            print_error("%s\n", e.text);
            fail();
        }
        char *expected = graph_to_json(&n.graph), *got = graph_to_json(&hf.graph);
        assert_string_equal(got, expected);
        assert_string_equal(hf.name, n.name);
        free(expected);
        free(got);
        network_free(&n);
        network_free(&hf);
    }
    make(&checkpoint, &resnet50);
    to_hugging_face(&checkpoint);
    checkpoint.names[index_of("resnet.encoder.stages.1.layers.2.layer.0.normalization.running_var")][0] = 'x';
    expect_error(&checkpoint, NULL, "no tensor for layer2.2.bn1.running_var");
    make(&checkpoint, &resnet18);
    conv(&checkpoint, "layer1.0.downsample.0", 4, 4, 1);
    norm(&checkpoint, "layer1.0.downsample.1", 4);
    to_hugging_face(&checkpoint);
    expect_error(&checkpoint, NULL, "downsample_in_first_stage");
}

/* Dropout before the dense layer moves it; two dense layers are another network. */
static void heads(void **unused)
{
    (void)unused;
    struct family f = resnet20;
    struct network n;
    struct err e;
    f.head = "fc.1";
    make(&checkpoint, &f);
    assert_int_equal(import(&checkpoint, "cifar10", NULL, &n, &e), 0);
    network_free(&n);
    tensor(&checkpoint, "fc.3", ".weight", 2, 10, 10, 0);
    expect_error(&checkpoint, NULL, "tensors fc.1.weight and fc.3.weight have the same part");
}

static void parts_that_are_not_known(void **unused)
{
    (void)unused;
    static const struct {
        const char *name, *expected;
    } parts[] = {
        {"layer1.0.se.fc1.weight", "squeeze-excite"},
        {"layer1.0.se.conv_reduce.weight", "squeeze-excite"},
        {"layer2.0.se_module.fc1.weight", "squeeze-excite"},
        {"layer1.0.se.conv.weight", "efficient channel attention"},
        {"layer2.0.downsample.0.filt", "anti-aliasing"},
        {"layer2.0.aa.filt", "anti-aliasing"},
        {"attnpool.q_proj.weight", "attention pooling"},
        {"layer1.0.conv2.attn.fc_reduce.weight", "attention"},
        {"layer1.0.conv2.conv.weight", "split attention"},
        {"maxpool.0.weight", "in place of the stem's max-pool"},
        {"layer1.0.bn1.IN.weight", "instance-batch norm"},
        {"conv1.weight_orig", "prune.remove"},
        {"conv1.weight_fake_quant.scale", "quantisation-aware training"},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        make(&checkpoint, &resnet20);
        tensor(&checkpoint, parts[i].name, "", 1, 4, 0, 0);
        expect_error(&checkpoint, NULL, parts[i].name);
        expect_error(&checkpoint, NULL, parts[i].expected);
    }
    make(&checkpoint, &resnet20); /* group norm has weight and bias alone */
    checkpoint.names[index_of("layer1.0.bn2.running_mean")][0] = 'x';
    checkpoint.names[index_of("layer1.0.bn2.running_var")][0] = 'x';
    expect_error(&checkpoint, NULL, "layer1.0.bn2.weight has no running_mean and running_var beside it: group norm");
    make(&checkpoint, &resnet20); /* tensors of a plain ResNet, but not its numbers */
    checkpoint.meta[0] = (struct st_meta){"arch", "resnetblur50"};
    checkpoint.meta_count = 1;
    expect_error(&checkpoint, NULL, "calls itself resnetblur50");
    make(&checkpoint, &resnet20);
    snprintf(checkpoint.names[index_of("conv1.weight")], 96, "stem.conv.weight");
    expect_error(&checkpoint, NULL, "pre-activation");
}

static void prefixes(void **unused)
{
    (void)unused;
    static const char *const known[] = {"module.",         "state_dict.", "model.", "state_dict.module.",
                                        "state_dict_ema.", "_orig_mod."};
    for (int i = 0; i < 6; i++) {
        struct network n;
        struct err e;
        checkpoint.prefix = known[i];
        make(&checkpoint, &resnet20);
        checkpoint.prefix = ""; /* a counter of averaged weights stands outside */
        tensor(&checkpoint, "n_averaged", "", 0, 1, 0, 0);
        assert_int_equal(import(&checkpoint, "cifar10", NULL, &n, &e), 0);
        network_free(&n);
    }
    checkpoint.prefix = "backbone.";
    make(&checkpoint, &resnet20);
    checkpoint.prefix = "";
    expect_error(&checkpoint, NULL, "no tensor conv1.weight");
}

static void option_a(void **unused)
{
    (void)unused;
    struct network n;
    struct err e;
    make(&checkpoint, &resnet20);
    assert_int_equal(import(&checkpoint, "cifar10", NULL, &n, &e), 0);
    const struct node *s = &n.graph.nodes[node(&n, "layer2.0.shortcut")];
    assert_true(s->op == OP_SHORTCUT && s->pad_before == 4 && s->pad_after == 4 && s->stride_h == 2 && s->c == 16 && s->h == 16);
    network_free(&n);
}

/* Keras' ResNet-8: biases before batch norm, SAME padding, its own epsilon; a projection without norm. */
static void keras_conventions(void **unused)
{
    (void)unused;
    static const struct family f = {3, {1, 1, 1}, 0, 8, 0, 1, "downsample", "fc", {0}, 0};
    struct network n;
    struct err e;
    make(&checkpoint, &f);
    int last = checkpoint.count;
    for (int i = 0; i < last; i++) {
        const char *name = checkpoint.names[i], *dot = strrchr(name, '.');
        if (checkpoint.items[i].rank == 4 && strcmp(dot, ".weight") == 0) {
            char base[96];
            snprintf(base, sizeof base, "%.*s", (int)(dot - name), name);
            tensor(&checkpoint, base, ".bias", 1, (int)checkpoint.items[i].shape[0], 0, 0);
        }
    }
    assert_int_equal(import(&checkpoint, "cifar10", NULL, &n, &e), 0);
    const struct node *c = &n.graph.nodes[node(&n, "layer2.0.conv1")];
    assert_true(c->pad_top == 0 && c->pad_bottom == 1 && c->pad_left == 0 && c->pad_right == 1 && c->h == 16);
    c = &n.graph.nodes[node(&n, "layer2.0.conv2")];
    assert_true(c->pad_top == 1 && c->pad_bottom == 1);
    /* w' = 0.5 * 0.5 / sqrt(0.5 + 0.001) */
    float w = ((float *)n.layers[node(&n, "conv1")].weight)[0];
    assert_true(w > 0.353199f && w < 0.353202f);
    network_free(&n);
    checkpoint.meta[0] = (struct st_meta){"padding", "symmetric"};
    checkpoint.meta[1] = (struct st_meta){"bn_eps", "0.5"};
    checkpoint.meta_count = 2;
    assert_int_equal(import(&checkpoint, "cifar10", NULL, &n, &e), 0);
    assert_int_equal(n.graph.nodes[node(&n, "layer2.0.conv1")].pad_top, 1);
    assert_true(((float *)n.layers[node(&n, "conv1")].weight)[0] == 0.25f);
    network_free(&n);
    checkpoint.meta[1].value = "nan";
    expect_error(&checkpoint, NULL, "bn_eps");
}

static void what_is_wrong_is_named(void **unused)
{
    (void)unused;
    static const char *const needed[] = {"bn1.running_var", "layer1.1.conv2.weight", "layer2.0.bn1.bias", "linear.weight"};
    for (int i = 0; i < 4; i++) { /* missing */
        make(&checkpoint, &resnet20);
        int at = index_of(needed[i]);
        checkpoint.names[at][0] = 'x';
        expect_error(&checkpoint, NULL, i == 3 ? "fc.weight" : needed[i]);
    }
    make(&checkpoint, &resnet20); /* left over */
    tensor(&checkpoint, "layer1.0.se.fc1", ".weight", 2, 4, 4, 0);
    expect_error(&checkpoint, NULL, "layer1.0.se.fc1.weight belongs to a part that this version does not know: squeeze-excite");
    make(&checkpoint, &resnet20);
    tensor(&checkpoint, "layer3.4.conv1", ".weight", 4, 32, 32, 3); /* a gap: block 3 is missing */
    expect_error(&checkpoint, NULL, "layer3.4.conv1.weight");
    make(&checkpoint, &resnet20); /* wrong shape */
    checkpoint.items[index_of("layer1.0.conv2.weight")].shape[1] = 7;
    expect_error(&checkpoint, NULL, "layer1.0.conv2.weight takes 7 channels, the layer before it gives 8");
    make(&checkpoint, &resnet20);
    checkpoint.items[index_of("bn1.bias")].shape[0] = 9;
    expect_error(&checkpoint, NULL, "bn1.bias has 9 elements, expected 8");
    make(&checkpoint, &resnet20);
    checkpoint.items[index_of("linear.weight")].shape[1] = 16;
    expect_error(&checkpoint, NULL, "linear.weight takes 16 values");
    make(&checkpoint, &resnet20);
    checkpoint.items[index_of("conv1.weight")].shape[2] = 5;
    expect_error(&checkpoint, NULL, "starts with a 7x7 or 3x3");
    make(&checkpoint, &resnet20);
    checkpoint.items[index_of("layer1.0.conv1.weight")].rank = 3;
    expect_error(&checkpoint, NULL, "rank 3");
    make(&checkpoint, &resnet20);
    checkpoint.items[index_of("layer1.0.conv1.weight")].shape[0] = 0;
    expect_error(&checkpoint, NULL, "layer1.0.conv1.weight");
    make(&checkpoint, &resnet20); /* values */
    values[0] = -1;
    expect_error(&checkpoint, NULL, "running_var is negative");
    values[0] = 0.0f / 0.0f * -1;
    expect_error(&checkpoint, NULL, "NaN");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_family),
        cmocka_unit_test(strides_of_a_bottleneck),
        cmocka_unit_test(prefixes),
        cmocka_unit_test(option_a),
        cmocka_unit_test(averaging_projections),
        cmocka_unit_test(averaging_few_channels),
        cmocka_unit_test(odd_sides),
        cmocka_unit_test(hugging_face),
        cmocka_unit_test(heads),
        cmocka_unit_test(parts_that_are_not_known),
        cmocka_unit_test(keras_conventions),
        cmocka_unit_test(what_is_wrong_is_named),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

// SPDX-License-Identifier: MIT
//
// Walks a checkpoint as the network would run: stem, stages of blocks, head. Every tensor that is used is ticked off, so that
// what is left over is an error and never a silently different network.

#include "models/resnet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/resnet_parts.h"

enum { STAGES_MAX = 8, BLOCKS_MAX = 1000 };

struct family { /* what the walk found out */
    int blocks[STAGES_MAX], stages;
    int bottleneck;
    int first_stride; /* a bottleneck's stride lies on its first 1x1, as in the original paper */
    int deep_stem;
    int average_down;   /* projections average 2x2 pixels instead of skipping three of four */
    int stem_widths[3]; /* channels of a deep stem */
};

/* ---- the stem ---- */

/* 7x7 stride 2, or 3x3 stride 1 of CIFAR networks. */
static int add_plain_stem(struct build *b, int input, int *large)
{
    int64_t shape[4];
    if (build_shape(b, "conv1", shape) < 0)
        return -1;
    if (shape[1] != 3 || shape[2] != shape[3] || (shape[2] != 7 && shape[2] != 3))
        return err_set(
            b->e, ERR_UNSUPPORTED,
            "tensor %sconv1.weight is [%lld,%lld,%lld,%lld]: a ResNet here starts with a 7x7 or 3x3 convolution of 3 channels",
            b->names.prefix, (long long)shape[0], (long long)shape[1], (long long)shape[2], (long long)shape[3]);
    *large = shape[2] == 7;
    return build_conv(b, "conv1", "conv1", "bn1", input, *large ? 2 : 1, 1);
}

/* timm's c, d, s, t: three 3x3, the first with stride 2; norms between them by position, the last one's is bn1. */
static int add_deep_stem(struct build *b, struct family *f, int node)
{
    static const char *const convs[] = {"conv1.0", "conv1.3", "conv1.6"}, *const norms[] = {"conv1.1", "conv1.4", "bn1"};
    f->deep_stem = 1;
    for (int i = 0; i < 3; i++) {
        int64_t shape[4];
        if (build_shape(b, convs[i], shape) < 0)
            return -1;
        if (shape[2] != 3 || shape[3] != 3)
            return err_set(b->e, ERR_UNSUPPORTED, "tensor %s%s.weight is %lldx%lld: a deep stem has 3x3", b->names.prefix,
                           convs[i], (long long)shape[2], (long long)shape[3]);
        node = build_conv(b, convs[i], convs[i], norms[i], node, i == 0 ? 2 : 1, 1);
        if (node < 0)
            return -1;
        f->stem_widths[i] = (int)shape[0];
    }
    return node;
}

static int add_stem(struct build *b, struct family *f, int width, int height)
{
    int large = 1, input = build_input(b, width, height);
    if (input < 0)
        return -1;
    int node = build_has(b, "conv1.0", ".weight") ? add_deep_stem(b, f, input) : add_plain_stem(b, input, &large);
    return node < 0 || !large ? node : build_max_pool(b, "maxpool", node, 3, 2);
}

/* ---- blocks ---- */

/* What the block's output is added to: a projection, the input itself, or option A. */
static int add_shortcut(struct build *b, struct family *f, const char *base, int in, int out, int stride)
{
    char conv[64], norm[64], name[64];
    snprintf(name, sizeof name, "%s.downsample", base);
    snprintf(conv, sizeof conv, "%s.downsample.0", base);
    snprintf(norm, sizeof norm, "%s.downsample.1", base);
    if (build_has(b, conv, ".weight"))
        return build_conv(b, name, conv, build_has(b, norm, ".weight") ? norm : NULL, in, stride, 0);
    if (build_has(b, norm, ".weight")) { /* position 0 is an average pool, or nothing in a stage that keeps the size */
        char pool[64];
        snprintf(pool, sizeof pool, "%s.downsample.pool", base);
        snprintf(conv, sizeof conv, "%s.downsample.1", base);
        snprintf(norm, sizeof norm, "%s.downsample.2", base);
        f->average_down = 1;
        if (stride == 2 && (in = build_halve(b, pool, in)) < 0)
            return -1;
        return build_conv(b, name, conv, norm, in, 1, 0);
    }
    const struct node *from = &b->net.graph.nodes[in], *to = &b->net.graph.nodes[out];
    if (from->c == to->c && from->h == to->h && from->w == to->w)
        return in;
    if (to->c < from->c)
        return err_set(b->e, ERR_INPUT, "block %s goes from %d to %d channels without a projection", base, from->c, to->c);
    snprintf(name, sizeof name, "%s.shortcut", base);
    return build_option_a(b, name, in, stride, to->c);
}

static int add_block(struct build *b, struct family *f, const char *base, int in, int stride)
{
    char conv[4][64], norm[4][64], name[64];
    for (int i = 1; i <= 3; i++) {
        snprintf(conv[i], sizeof conv[i], "%s.conv%d", base, i);
        snprintf(norm[i], sizeof norm[i], "%s.bn%d", base, i);
    }
    int bottleneck = build_has(b, conv[3], ".weight"), count = bottleneck ? 3 : 2;
    int strided = bottleneck && !f->first_stride ? 2 : 1;
    int node = in;
    for (int i = 1; i <= count; i++) {
        node = build_conv(b, conv[i], conv[i], norm[i], node, i == strided ? stride : 1, i < count);
        if (node < 0)
            return -1;
    }
    int shortcut = add_shortcut(b, f, base, in, node, stride);
    snprintf(name, sizeof name, "%s.add", base);
    return shortcut < 0 ? -1 : build_add(b, name, node, shortcut);
}

/* Stages 2, 3, ... start with stride 2. Hugging Face's option downsample_in_first_stage shows in basic blocks only, by a
   projection that nothing else asks for. */
static int add_stages(struct build *b, struct family *f, int node)
{
    if (b->names.hugging_face && !build_has(b, "layer1.0", ".conv3.weight") && build_has(b, "layer1.0", ".downsample.0.weight")) {
        int64_t shape[4];
        if (build_shape(b, "layer1.0.downsample.0", shape) < 0)
            return -1;
        if (shape[0] == shape[1])
            return err_set(b->e, ERR_UNSUPPORTED,
                           "the first stage has a projection without more channels: downsample_in_first_stage, which "
                           "this version does not know");
    }
    for (; f->stages < STAGES_MAX; f->stages++) {
        int *blocks = &f->blocks[f->stages];
        for (; *blocks < BLOCKS_MAX; (*blocks)++) {
            char base[32];
            snprintf(base, sizeof base, "layer%d.%d", f->stages + 1, *blocks);
            if (!build_has(b, base, ".conv1.weight"))
                break;
            node = add_block(b, f, base, node, f->stages > 0 && *blocks == 0 ? 2 : 1);
            if (node < 0)
                return -1;
        }
        if (*blocks == 0)
            break;
    }
    f->bottleneck = build_has(b, "layer1.0", ".conv3.weight");
    return f->stages ? node
                     : resnet_names_missing(&b->names, "layer1.0.conv1.weight: not a ResNet that this version knows", b->e);
}

/* ---- names and conventions ---- */

/* timm's letter for the stem and the projections. */
static const char *variant(const struct family *f)
{
    if (!f->deep_stem)
        return f->average_down ? "_avg_down" : "";
    if (f->stem_widths[0] != f->stem_widths[1])
        return f->average_down ? "t" : "_tiered";
    if (f->stem_widths[0] >= 64)
        return f->average_down ? "e" : "s";
    return f->average_down ? "d" : "c";
}

/* The family's usual name for these stages. */
static void arch_name(const struct build *b, const struct family *f, char *name, size_t size)
{
    int layers = 2, width = 0, groups = 1;
    for (int i = 0; i < f->stages; i++)
        layers += f->blocks[i] * (f->bottleneck ? 3 : 2);
    for (int i = 0; i < b->net.graph.count; i++)
        if (strcmp(b->net.graph.nodes[i].name, "layer1.0.conv2") == 0) {
            width = b->net.graph.nodes[i].c;
            groups = b->net.graph.nodes[i].groups;
        }
    if (groups > 1)
        snprintf(name, size, "resnext%d%s_%dx%dd", layers, variant(f), groups, width / groups);
    else if (f->bottleneck && width > 64)
        snprintf(name, size, "wide_resnet%d%s_%d", layers, variant(f), width / 64);
    else
        snprintf(name, size, "resnet%d%s", layers, variant(f));
}

int resnet_check_name(const char *name, struct err *e)
{
    static const char *const parts[] = {"blur", "resnetaa", "resnextaa"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (strstr(name, parts[i]))
            return err_set(
                e, ERR_UNSUPPORTED,
                "the checkpoint calls itself %.60s: anti-aliasing (blur pool) is a part that this version does not know", name);
    return 0;
}

/* Conventions that shapes alone do not tell: metadata says, or biases before batch norm betray Keras. */
static int conventions(struct build *b)
{
    int keras = build_has(b, "conv1", ".bias") && build_has(b, "bn1", ".running_mean");
    const char *padding = tensors_metadata(b->names.t, "padding"), *eps = tensors_metadata(b->names.t, "bn_eps");
    b->same_padding = padding ? strncmp(padding, "TF SAME", 7) == 0 : keras;
    b->eps = keras ? 1e-3 : 1e-5;
    if (eps) {
        char *end;
        b->eps = strtod(eps, &end);
        if (*end || !(b->eps > 0 && b->eps < 1))
            return err_set(b->e, ERR_INPUT, "metadata bn_eps \"%.40s\" is not a number between 0 and 1", eps);
    }
    return 0;
}

/* Counters that training leaves: of a batch norm, and of averaged weights. */
static int is_counter(const char *name)
{
    const char *tail = strrchr(name, '.');
    tail = tail ? tail + 1 : name;
    return strcmp(tail, "num_batches_tracked") == 0 || strcmp(tail, "n_averaged") == 0;
}

static int left_over(const struct build *b)
{
    for (int i = 0; i < tensors_count(b->names.t); i++) {
        const char *name = tensors_get(b->names.t, i)->name;
        if (!b->used[i] && !is_counter(name))
            return err_set(b->e, ERR_UNSUPPORTED, "tensor %s is not part of a ResNet that this version knows", name);
    }
    return 0;
}

static int build(struct build *b, const char *arch, int width, int height)
{
    struct family f = {.stages = 0};
    const char *called = tensors_metadata(b->names.t, "arch");
    if (conventions(b) < 0 || (called && resnet_check_name(called, b->e) < 0))
        return -1;
    size_t arch_length = arch ? strlen(arch) : 0;
    if (arch_length >= 3 && strcmp(arch + arch_length - 3, "-v1") == 0) {
        f.first_stride = 1;
        arch_length -= 3;
    }
    int node = add_stem(b, &f, width, height);
    if (node < 0 || (node = add_stages(b, &f, node)) < 0)
        return -1;
    if ((node = build_average_pool(b, "avgpool", node)) < 0 || (node = build_dense(b, "fc", "fc", node)) < 0)
        return -1;
    b->net.graph.output = node;
    if (left_over(b) < 0 || graph_check(&b->net.graph, b->e) < 0)
        return -1;
    char name[NETWORK_NAME_MAX];
    arch_name(b, &f, name, sizeof name);
    if (arch_length && (strncmp(arch, name, arch_length) != 0 || name[arch_length]))
        return err_set(b->e, ERR_INPUT, "the checkpoint's shapes say %s, not %s", name, arch);
    memcpy(b->net.name, name, sizeof name);
    return 0;
}

/* ImageNet networks start with a 7x7 window on three channels or with a deep stem; nothing else in the family does. */
const char *resnet_preset(const struct tensors *t)
{
    static const char deep[] = "conv1.0.weight";
    for (int i = 0; i < tensors_count(t); i++) {
        const struct tensor *w = tensors_get(t, i);
        const size_t length = strlen(w->name), n = sizeof deep - 1;
        if (w->rank == 4 && w->shape[1] == 3 && w->shape[2] == 7 && w->shape[3] == 7)
            return "imagenet";
        if (w->rank == 4 && w->shape[1] == 3 && length >= n && strcmp(w->name + length - n, deep) == 0)
            return "imagenet";
    }
    return "cifar10";
}

int resnet_from_tensors(const struct tensors *t, const char *arch, struct network *out, struct err *e)
{
    struct build b = {.e = e};
    int width, height;
    preprocess_output_size(&out->preprocess, 0, 0, &width, &height);
    if (width <= 0 || height <= 0)
        return err_set(e, ERR_INPUT, "the preprocessing does not fix the size of the network's input");
    if (resnet_names_read(t, &b.names, e) < 0)
        return -1;
    b.used = calloc((size_t)tensors_count(t) + 1, 1);
    int bad = b.used ? build(&b, arch, width, height) : err_set(e, ERR_MEMORY, "no memory for %d tensors", tensors_count(t));
    free(b.used);
    resnet_names_free(&b.names);
    if (bad) {
        network_free(&b.net);
        return -1;
    }
    graph_free(&out->graph);
    out->graph = b.net.graph;
    out->layers = b.net.layers;
    out->precision = PRECISION_FP32;
    if (!out->name[0])
        memcpy(out->name, b.net.name, sizeof out->name);
    return 0;
}

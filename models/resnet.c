// SPDX-License-Identifier: MIT
//
// Walks a checkpoint as the network would run: stem, stages of blocks, head. Every tensor that is used is ticked off, so that what
// is left over is an error and never a silently different network.

#include "models/resnet.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/fold.h"

struct build {
    const struct tensors *t;
    char prefix[64];
    int bottleneck_v1;
    int same_padding; /* TensorFlow's: padding depends on size and stride, the odd one goes below and right */
    double eps;
    unsigned char *used; /* [tensors_count] */
    struct network net;  /* what is being built: graph and layers */
    struct err *e;
};

/* ---- tensors ---- */

/* The index of a tensor, -1 when absent. */
static int find(const struct build *b, const char *base, const char *leaf)
{
    char name[ST_NAME_MAX];
    if ((size_t)snprintf(name, sizeof name, "%s%s%s", b->prefix, base, leaf) >= sizeof name)
        return -1;
    return tensors_find(b->t, name);
}

static int has(const struct build *b, const char *base, const char *leaf)
{
    return find(b, base, leaf) >= 0;
}

/* Floats of a tensor that must exist with exactly `count` elements; NULL with the error set. */
static float *read_floats(struct build *b, const char *base, const char *leaf, int64_t count)
{
    const int i = find(b, base, leaf);
    if (i < 0) {
        err_set(b->e, ERR_INPUT, "checkpoint has no tensor %s%s%s", b->prefix, base, leaf);
        return NULL;
    }
    const struct tensor *t = tensors_get(b->t, i);
    b->used[i] = 1;
    if (t->count != count) {
        err_set(b->e, ERR_INPUT, "tensor %s has %lld elements, expected %lld", t->name, (long long)t->count, (long long)count);
        return NULL;
    }
    float *v = malloc((size_t)count * sizeof *v);
    if (!v) {
        err_set(b->e, ERR_MEMORY, "no memory for tensor %s", t->name);
        return NULL;
    }
    if (tensors_read(b->t, i, v, b->e) < 0) {
        free(v);
        return NULL;
    }
    for (int64_t k = 0; k < count; k++)
        if (!isfinite(v[k])) {
            err_set(b->e, ERR_DAMAGED, "tensor %s holds a NaN or infinity", t->name);
            free(v);
            return NULL;
        }
    return v;
}

/* Shape of a weight that must be [O][I] (rank 2, as 1x1) or [O][I][KH][KW] within the limits of graph.h. */
static int weight_shape(struct build *b, const char *base, int64_t shape[4])
{
    const int at = find(b, base, ".weight");
    if (at < 0)
        return err_set(b->e, ERR_INPUT, "checkpoint has no tensor %s%s.weight", b->prefix, base);
    const struct tensor *t = tensors_get(b->t, at);
    if (t->rank != 4 && t->rank != 2)
        return err_set(b->e, ERR_UNSUPPORTED, "tensor %s has rank %d, expected 4 (convolution) or 2 (dense)", t->name, t->rank);
    for (int i = 0; i < 4; i++) {
        shape[i] = i < t->rank ? t->shape[i] : 1;
        if (shape[i] < 1 || shape[i] > (i < 2 ? GRAPH_CHANNELS_MAX : GRAPH_KERNEL_MAX))
            return err_set(b->e, ERR_TOO_LARGE, "tensor %s: dimension %d is %lld, out of range", t->name, i, (long long)shape[i]);
    }
    return 0;
}

/* ---- nodes ---- */

/* Grows layers beside the graph's nodes. */
static struct node *add(struct build *b, enum op op, const char *name, int in0, int in1)
{
    struct network *n = &b->net;
    struct layer *layers = realloc(n->layers, ((size_t)n->graph.count + 1) * sizeof *layers);
    if (layers) {
        n->layers = layers;
        memset(&layers[n->graph.count], 0, sizeof *layers);
    }
    struct node *node = layers ? graph_add(&n->graph, op, "%s", name) : NULL;
    if (!node) {
        err_set(b->e, ERR_MEMORY, "no memory for node %s", name);
        return NULL;
    }
    node->in[0] = in0;
    node->in[1] = in1;
    return node;
}

static int last(const struct build *b)
{
    return b->net.graph.count - 1;
}

static void set_padding(const struct build *b, struct node *n, const struct node *in, int h_or_w)
{
    int size = h_or_w ? in->w : in->h, kernel = h_or_w ? n->kernel_w : n->kernel_h, stride = h_or_w ? n->stride_w : n->stride_h;
    int before = kernel / 2, after = kernel / 2;
    if (b->same_padding) {
        int total = ((size + stride - 1) / stride - 1) * stride + kernel - size;
        before = total > 0 ? total / 2 : 0;
        after = total > 0 ? total - before : 0;
    }
    if (h_or_w) {
        n->pad_left = before;
        n->pad_right = after;
        n->w = (size + before + after - kernel) / stride + 1;
    } else {
        n->pad_top = before;
        n->pad_bottom = after;
        n->h = (size + before + after - kernel) / stride + 1;
    }
}

/* Convolution or dense layer `name` with its optional bias and the batch norm `bn` (NULL: none, and none is an error when bn_must).
   Returns the node's index or -1. */
static int add_conv(struct build *b, const char *name, const char *weights, const char *bn, int in, int stride, int relu, int dense)
{
    int64_t shape[4];
    if (weight_shape(b, weights, shape) < 0)
        return -1;
    const int in_c = b->net.graph.nodes[in].c;
    if (shape[1] > in_c || in_c % shape[1] || shape[0] % (in_c / shape[1]))
        return err_set(b->e, ERR_INPUT, "tensor %s%s.weight takes %lld channels, the layer before it gives %d", b->prefix, weights,
                       (long long)shape[1], in_c);
    if (dense && shape[1] != in_c)
        return err_set(b->e, ERR_INPUT, "tensor %s%s.weight takes %lld values, the network gives %d", b->prefix, weights,
                       (long long)shape[1], in_c);
    struct node *n = add(b, dense ? OP_DENSE : OP_CONV, name, in, -1);
    if (!n)
        return -1;
    n->c = (int)shape[0];
    n->kernel_h = (int)shape[2];
    n->kernel_w = (int)shape[3];
    n->stride_h = n->stride_w = stride;
    n->groups = (int)(in_c / shape[1]);
    n->relu = relu;
    set_padding(b, n, &b->net.graph.nodes[in], 0);
    set_padding(b, n, &b->net.graph.nodes[in], 1);

    const int64_t depth = shape[1] * shape[2] * shape[3], channels = shape[0];
    struct layer *l = &b->net.layers[last(b)];
    float *oihw = read_floats(b, weights, ".weight", channels * depth);
    l->weight = oihw ? malloc((size_t)(channels * depth) * sizeof(float)) : NULL;
    l->bias = oihw && has(b, weights, ".bias") ? read_floats(b, weights, ".bias", channels) : calloc((size_t)channels, sizeof(float));
    if (!oihw || !l->weight || !l->bias) {
        if (oihw && (!l->weight || !has(b, weights, ".bias")))
            err_set(b->e, ERR_MEMORY, "no memory for layer %s", name);
        free(oihw);
        return -1;
    }
    weights_to_ohwi(oihw, (int)shape[0], (int)shape[1], (int)shape[2], (int)shape[3], l->weight);
    free(oihw);
    if (!bn)
        return last(b);

    static const char *const leaves[4] = {".weight", ".bias", ".running_mean", ".running_var"};
    float *v[4] = {NULL};
    int ok = 1;
    for (int i = 0; i < 4 && ok; i++)
        ok = (v[i] = read_floats(b, bn, leaves[i], channels)) != NULL;
    for (int64_t i = 0; ok && i < channels; i++)
        if (v[3][i] < 0) {
            err_set(b->e, ERR_DAMAGED, "tensor %s%s.running_var is negative", b->prefix, bn);
            ok = 0;
        }
    if (ok) {
        struct batch_norm norm = {v[0], v[1], v[2], v[3], b->eps};
        fold_batch_norm(&norm, (int)channels, depth, l->weight, l->bias, l->bias);
    }
    for (int i = 0; i < 4; i++)
        free(v[i]);
    return ok ? last(b) : -1;
}

/* ---- the family ---- */

static int add_stem(struct build *b, int width, int height)
{
    struct node *input = add(b, OP_INPUT, "input", -1, -1);
    if (!input)
        return -1;
    input->c = 3;
    input->h = height;
    input->w = width;
    int64_t shape[4];
    if (weight_shape(b, "conv1", shape) < 0)
        return -1;
    if (shape[1] != 3 || shape[2] != shape[3] || (shape[2] != 7 && shape[2] != 3))
        return err_set(b->e, ERR_UNSUPPORTED, "tensor %sconv1.weight is [%lld,%lld,%lld,%lld]: a ResNet here starts with a 7x7 or 3x3 "
                       "convolution of 3 channels", b->prefix, (long long)shape[0], (long long)shape[1], (long long)shape[2],
                       (long long)shape[3]);
    int large = shape[2] == 7;
    int node = add_conv(b, "conv1", "conv1", "bn1", 0, large ? 2 : 1, 1, 0);
    if (node < 0 || !large)
        return node;
    struct node *pool = add(b, OP_MAXPOOL, "maxpool", node, -1);
    if (!pool)
        return -1;
    const struct node *in = &b->net.graph.nodes[node];
    pool->kernel_h = pool->kernel_w = 3;
    pool->stride_h = pool->stride_w = 2;
    pool->c = in->c;
    set_padding(b, pool, in, 0);
    set_padding(b, pool, in, 1);
    return last(b);
}

/* What the block's output is added to: a projection, the input itself, or option A. */
static int add_shortcut(struct build *b, const char *base, int in, int out, int stride)
{
    const struct node *from = &b->net.graph.nodes[in], *to = &b->net.graph.nodes[out];
    static const char *const projections[] = {"downsample", "shortcut"};
    for (int i = 0; i < 2; i++) {
        char conv[128], norm[128], name[GRAPH_NAME_MAX];
        snprintf(conv, sizeof conv, "%s.%s.0", base, projections[i]);
        snprintf(norm, sizeof norm, "%s.%s.1", base, projections[i]);
        snprintf(name, sizeof name, "%s.downsample", base);
        if (has(b, conv, ".weight"))
            return add_conv(b, name, conv, has(b, norm, ".weight") ? norm : NULL, in, stride, 0, 0);
    }
    if (from->c == to->c && from->h == to->h && from->w == to->w)
        return in;
    if (to->c < from->c)
        return err_set(b->e, ERR_INPUT, "block %s goes from %d to %d channels without a projection", base, from->c, to->c);
    int more = to->c - from->c, from_c = from->c, from_h = from->h, from_w = from->w;
    char name[GRAPH_NAME_MAX];
    snprintf(name, sizeof name, "%s.shortcut", base);
    struct node *n = add(b, OP_SHORTCUT, name, in, -1);
    if (!n)
        return -1;
    n->stride_h = n->stride_w = stride;
    n->pad_before = more / 2;
    n->pad_after = more - more / 2;
    n->c = from_c + more;
    n->h = (from_h + stride - 1) / stride;
    n->w = (from_w + stride - 1) / stride;
    return last(b);
}

static int add_block(struct build *b, const char *base, int in, int stride)
{
    char conv[4][128], norm[4][128];
    for (int i = 1; i <= 3; i++) {
        snprintf(conv[i], sizeof conv[i], "%s.conv%d", base, i);
        snprintf(norm[i], sizeof norm[i], "%s.bn%d", base, i);
    }
    int bottleneck = has(b, conv[3], ".weight"), count = bottleneck ? 3 : 2;
    int strided = bottleneck && !b->bottleneck_v1 ? 2 : 1;
    int node = in;
    for (int i = 1; i <= count; i++) {
        node = add_conv(b, conv[i], conv[i], norm[i], node, i == strided ? stride : 1, i < count, 0);
        if (node < 0)
            return -1;
    }
    int shortcut = add_shortcut(b, base, in, node, stride);
    if (shortcut < 0)
        return -1;
    char name[GRAPH_NAME_MAX];
    snprintf(name, sizeof name, "%s.add", base);
    struct node *n = add(b, OP_ADD, name, node, shortcut);
    if (!n)
        return -1;
    const struct node *to = &b->net.graph.nodes[node];
    n->relu = 1;
    n->c = to->c;
    n->h = to->h;
    n->w = to->w;
    return last(b);
}

static int add_head(struct build *b, int in)
{
    struct node *pool = add(b, OP_AVGPOOL, "avgpool", in, -1);
    if (!pool)
        return -1;
    pool->c = b->net.graph.nodes[in].c;
    pool->h = pool->w = 1;
    const char *name = has(b, "fc", ".weight") ? "fc" : has(b, "linear", ".weight") ? "linear" : "fc";
    b->net.graph.output = add_conv(b, "fc", name, NULL, last(b), 1, 0, 1);
    return b->net.graph.output;
}

/* ---- names ---- */

/* The family's usual name for these stages, or the block counts spelled out. */
static void arch_name(const struct build *b, const int *blocks, int stages, int bottleneck, char *name, size_t size)
{
    int layers = 2, width = 0, groups = 1;
    for (int i = 0; i < stages; i++)
        layers += blocks[i] * (bottleneck ? 3 : 2);
    for (int i = 0; i < b->net.graph.count; i++)
        if (strcmp(b->net.graph.nodes[i].name, "layer1.0.conv2") == 0) {
            width = b->net.graph.nodes[i].c;
            groups = b->net.graph.nodes[i].groups;
        }
    if (groups > 1)
        snprintf(name, size, "resnext%d_%dx%dd", layers, groups, width / groups);
    else if (bottleneck && width > 64)
        snprintf(name, size, "wide_resnet%d_%d", layers, width / 64);
    else
        snprintf(name, size, "resnet%d", layers);
}

/* Prefixes that wrappers leave before the names; repeated ones are dropped too. */
static int find_prefix(struct build *b)
{
    static const char *const known[] = {"module.", "state_dict.", "model."};
    for (int i = 0; i < tensors_count(b->t); i++) {
        const char *name = tensors_get(b->t, i)->name, *rest = name;
        for (int k = 0; k < 3;) {
            size_t n = strlen(known[k]);
            if (strncmp(rest, known[k], n) == 0) {
                rest += n;
                k = 0;
            } else {
                k++;
            }
        }
        if (strcmp(rest, "conv1.weight") == 0 && (size_t)(rest - name) < sizeof b->prefix) {
            memcpy(b->prefix, name, (size_t)(rest - name));
            b->prefix[rest - name] = 0;
            return 0;
        }
    }
    return err_set(b->e, ERR_UNSUPPORTED, "no tensor conv1.weight: this is not a ResNet with torchvision, timm or CIFAR names");
}

/* Conventions that shapes alone do not tell: metadata says, or biases before batch norm betray Keras. */
static int conventions(struct build *b)
{
    int keras = has(b, "conv1", ".bias") && has(b, "bn1", ".running_mean");
    const char *padding = tensors_metadata(b->t, "padding"), *eps = tensors_metadata(b->t, "bn_eps");
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

static int left_over(const struct build *b)
{
    for (int i = 0; i < tensors_count(b->t); i++) {
        const char *name = tensors_get(b->t, i)->name, *tail = strrchr(name, '.');
        if (b->used[i] || (tail && strcmp(tail, ".num_batches_tracked") == 0))
            continue;
        const char *kind = strstr(name, ".se.") || strstr(name, ".se_module.") ? " (squeeze-excite)" : "";
        return err_set(b->e, ERR_UNSUPPORTED, "tensor %s is not part of a ResNet that this version knows%s", name, kind);
    }
    return 0;
}

static int build(struct build *b, const char *arch, int width, int height)
{
    int blocks[8] = {0}, stages = 0;
    if (find_prefix(b) < 0 || conventions(b) < 0)
        return -1;
    size_t arch_length = arch ? strlen(arch) : 0;
    if (arch_length > 3 && strcmp(arch + arch_length - 3, "-v1") == 0) {
        b->bottleneck_v1 = 1;
        arch_length -= 3;
    }
    int node = add_stem(b, width, height);
    for (; stages < 8 && node >= 0; stages++) {
        char base[32];
        for (;; blocks[stages]++) {
            snprintf(base, sizeof base, "layer%d.%d", stages + 1, blocks[stages]);
            if (node < 0 || blocks[stages] == 1000 || !has(b, base, ".conv1.weight"))
                break;
            node = add_block(b, base, node, stages > 0 && blocks[stages] == 0 ? 2 : 1);
        }
        if (blocks[stages] == 0)
            break;
    }
    if (node < 0)
        return -1;
    if (stages == 0)
        return err_set(b->e, ERR_UNSUPPORTED, "no tensor %slayer1.0.conv1.weight: not a ResNet that this version knows", b->prefix);
    if (add_head(b, node) < 0 || left_over(b) < 0 || graph_check(&b->net.graph, b->e) < 0)
        return -1;
    char name[NETWORK_NAME_MAX];
    arch_name(b, blocks, stages, has(b, "layer1.0", ".conv3.weight"), name, sizeof name);
    if (arch && (strncmp(arch, name, arch_length) != 0 || name[arch_length]))
        return err_set(b->e, ERR_INPUT, "the checkpoint's shapes say %s, not %s", name, arch);
    memcpy(b->net.name, name, sizeof name);
    return 0;
}

/* ImageNet networks start with a 7x7 window on three channels; nothing else in the family has one. */
const char *resnet_preset(const struct tensors *t)
{
    for (int i = 0; i < tensors_count(t); i++) {
        const struct tensor *w = tensors_get(t, i);
        if (w->rank == 4 && w->shape[1] == 3 && w->shape[2] == 7 && w->shape[3] == 7)
            return "imagenet";
    }
    return "cifar10";
}

int resnet_from_tensors(const struct tensors *t, const char *arch, struct network *out, struct err *e)
{
    struct build b = {.t = t, .e = e};
    int width, height;
    preprocess_output_size(&out->preprocess, 0, 0, &width, &height);
    if (width <= 0 || height <= 0)
        return err_set(e, ERR_INPUT, "the preprocessing does not fix the size of the network's input");
    b.used = calloc((size_t)tensors_count(t) + 1, 1);
    if (!b.used)
        return err_set(e, ERR_MEMORY, "no memory for %d tensors", tensors_count(t));
    int bad = build(&b, arch, width, height);
    free(b.used);
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

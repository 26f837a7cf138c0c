// SPDX-License-Identifier: MIT

#include "models/train/architecture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STAGES_MAX = 4 };

static const struct architecture {
    const char *name;
    int blocks[STAGES_MAX]; /* per stage; 0: no such stage */
    int channels;           /* of the first stage; the others double */
    int bottleneck;         /* blocks of 1x1, 3x3, 1x1 to four times the channels */
    int option_a;           /* shortcuts without weights where a projection would be */
    int same_padding;       /* TensorFlow's: depends on size and stride, the odd one goes below and right */
    int large;              /* 7x7 stem with stride and pooling, where the input has room for it */
} architectures[] = {
    {"resnet8", {1, 1, 1}, 16, 0, 0, 1, 0},     {"resnet20", {3, 3, 3}, 16, 0, 1, 0, 0},
    {"resnet32", {5, 5, 5}, 16, 0, 1, 0, 0},    {"resnet44", {7, 7, 7}, 16, 0, 1, 0, 0},
    {"resnet56", {9, 9, 9}, 16, 0, 1, 0, 0},    {"resnet110", {18, 18, 18}, 16, 0, 1, 0, 0},
    {"resnet18", {2, 2, 2, 2}, 64, 0, 0, 0, 1}, {"resnet34", {3, 4, 6, 3}, 64, 0, 0, 0, 1},
    {"resnet50", {3, 4, 6, 3}, 64, 1, 0, 0, 1},
};
enum { ARCHITECTURES = sizeof architectures / sizeof *architectures };

struct build {
    const struct architecture *a;
    struct graph g;
};

/* Each returns the new node's index, or -1: no memory. An input of -1 passes through, so that callers check once. */

static struct node *add(struct build *b, enum op op, const char *name, int in)
{
    struct node *n = graph_add(&b->g, op, "%s", name);
    if (n)
        n->in[0] = in;
    return n;
}

/* Padding that keeps the size, or makes it a stride-th part of it; SAME puts what is odd below and right. */
static void pad(const struct build *b, int size, int kernel, int stride, int *before, int *after)
{
    *before = *after = kernel / 2;
    if (b->a->same_padding) {
        const int total = ((size + stride - 1) / stride - 1) * stride + kernel - size;
        *before = total > 0 ? total / 2 : 0;
        *after = total > 0 ? total - *before : 0;
    }
}

static int window(struct build *b, enum op op, const char *name, int in, int kernel, int stride)
{
    struct node *n = in < 0 ? NULL : add(b, op, name, in);
    if (!n)
        return -1;
    const struct node *from = &b->g.nodes[in];
    n->kernel_h = n->kernel_w = kernel;
    n->stride_h = n->stride_w = stride;
    pad(b, from->h, kernel, stride, &n->pad_top, &n->pad_bottom);
    pad(b, from->w, kernel, stride, &n->pad_left, &n->pad_right);
    n->h = (from->h + n->pad_top + n->pad_bottom - kernel) / stride + 1;
    n->w = (from->w + n->pad_left + n->pad_right - kernel) / stride + 1;
    n->c = from->c;
    return b->g.count - 1;
}

static int conv(struct build *b, const char *name, int in, int kernel, int stride, int channels, int relu)
{
    const int i = window(b, OP_CONV, name, in, kernel, stride);
    if (i < 0)
        return -1;
    b->g.nodes[i].c = channels;
    b->g.nodes[i].relu = relu;
    return i;
}

static int shortcut(struct build *b, const char *base, int in, int stride, int channels)
{
    char name[GRAPH_NAME_MAX];
    const int from = in < 0 ? 0 : b->g.nodes[in].c;
    if (from == channels && stride == 1)
        return in;
    if (!b->a->option_a) {
        snprintf(name, sizeof name, "%s.downsample", base);
        return conv(b, name, in, 1, stride, channels, 0);
    }
    snprintf(name, sizeof name, "%s.shortcut", base);
    struct node *n = in < 0 ? NULL : add(b, OP_SHORTCUT, name, in);
    if (!n)
        return -1;
    n->stride_h = n->stride_w = stride;
    n->pad_before = (channels - from) / 2;
    n->pad_after = channels - from - n->pad_before;
    n->h = (b->g.nodes[in].h + stride - 1) / stride;
    n->w = (b->g.nodes[in].w + stride - 1) / stride;
    n->c = channels;
    return b->g.count - 1;
}

static int block(struct build *b, const char *base, int in, int stride, int channels)
{
    char name[3][GRAPH_NAME_MAX], sum[GRAPH_NAME_MAX];
    for (int i = 0; i < 3; i++)
        snprintf(name[i], sizeof name[i], "%s.conv%d", base, i + 1);
    snprintf(sum, sizeof sum, "%s.add", base);
    int node = in, out = channels;
    if (b->a->bottleneck) {
        out = 4 * channels;
        node = conv(b, name[0], node, 1, 1, channels, 1);
        node = conv(b, name[1], node, 3, stride, channels, 1);
        node = conv(b, name[2], node, 1, 1, out, 0);
    } else {
        node = conv(b, name[0], node, 3, stride, channels, 1);
        node = conv(b, name[1], node, 3, 1, channels, 0);
    }
    const int other = node < 0 ? -1 : shortcut(b, base, in, stride, out);
    struct node *n = other < 0 ? NULL : add(b, OP_ADD, sum, node);
    if (!n)
        return -1;
    n->in[1] = other;
    n->relu = 1;
    n->h = b->g.nodes[node].h;
    n->w = b->g.nodes[node].w;
    n->c = out;
    return b->g.count - 1;
}

static int network(struct build *b, int width, int height, int classes)
{
    struct node *n = add(b, OP_INPUT, "input", -1);
    if (!n)
        return -1;
    n->w = width;
    n->h = height;
    n->c = 3;
    const int large = b->a->large && (width < height ? width : height) >= ARCHITECTURE_SMALL;
    int node = conv(b, "conv1", 0, large ? 7 : 3, large ? 2 : 1, b->a->channels, 1);
    if (large)
        node = window(b, OP_MAXPOOL, "maxpool", node, 3, 2);
    for (int s = 0; s < STAGES_MAX && b->a->blocks[s]; s++)
        for (int i = 0; i < b->a->blocks[s]; i++) {
            char base[32];
            snprintf(base, sizeof base, "layer%d.%d", s + 1, i);
            node = block(b, base, node, s && i == 0 ? 2 : 1, b->a->channels << s);
        }
    n = node < 0 ? NULL : add(b, OP_AVGPOOL, "avgpool", node);
    n = n ? add(b, OP_DENSE, "fc", b->g.count - 1) : NULL;
    if (!n)
        return -1;
    n->c = classes;
    b->g.output = b->g.count - 1;
    return 0;
}

static const struct architecture *find(const char *name, struct err *e)
{
    char names[160] = "";
    for (int i = 0; i < ARCHITECTURES; i++) {
        if (!strcmp(architectures[i].name, name))
            return &architectures[i];
        const size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", architectures[i].name);
    }
    err_set(e, ERR_INPUT, "no architecture is called %.40s; there are %s", name, names);
    return NULL;
}

int architecture_make(const char *name, int width, int height, int classes, struct graph *out, struct err *e)
{
    struct build b = {.a = find(name, e)};
    if (!b.a)
        return -1;
    int rc = network(&b, width, height, classes) == 0 ? 0 : err_set(e, ERR_MEMORY, "no memory for a %s", name);
    if (rc == 0 && (rc = graph_check(&b.g, e)) != 0)
        err_prefix(e, "a %s for %dx%d pixels and %d classes", name, width, height, classes);
    if (rc == 0)
        *out = b.g;
    else
        graph_free(&b.g);
    return rc;
}

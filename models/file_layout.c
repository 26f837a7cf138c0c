// SPDX-License-Identifier: MIT

#include "models/file_layout.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static int has_scale(enum precision p)
{
    return p == PRECISION_HYBRID || p == PRECISION_INT8;
}

struct layout layout_begin(const struct network *n)
{
    return (struct layout){.graph = &n->graph, .precision = n->precision, .images = n->selftest.images};
}

/* Steps to the next tensor that is no padding; 0 at the end. */
static int advance(struct layout *l)
{
    if (!l->started) {
        l->started = 1;
        l->node = -1;
        l->part = PART_METADATA;
        return 1;
    }
    if (l->part == PART_METADATA && l->images > 0) {
        l->part = PART_SELFTEST_INPUT;
        return 1;
    }
    if (l->part == PART_SELFTEST_INPUT) {
        l->part = PART_SELFTEST_LOGITS;
        return 1;
    }
    if (l->part == PART_WEIGHT) {
        l->part = has_scale(node_precision(&l->graph->nodes[l->node], l->precision)) ? PART_SCALE : PART_BIAS;
        return 1;
    }
    if (l->part == PART_SCALE) {
        l->part = PART_BIAS;
        return 1;
    }
    l->part = PART_WEIGHT;
    do
        l->node++;
    while (l->node < l->graph->count && !node_has_weights(&l->graph->nodes[l->node]));
    return l->node < l->graph->count;
}

static void describe(const struct layout *l, struct slot *s)
{
    static const enum st_dtype weight_dtypes[PRECISIONS] = {
        [PRECISION_FP32] = ST_F32, [PRECISION_FP16] = ST_F16, [PRECISION_HYBRID] = ST_I8, [PRECISION_INT8] = ST_I8};
    const struct node *n = l->node >= 0 ? &l->graph->nodes[l->node] : NULL;

    const enum precision p = n ? node_precision(n, l->precision) : l->precision;
    *s = (struct slot){.part = l->part, .node = l->node, .dtype = ST_F32, .rank = 1};
    switch (l->part) {
    case PART_METADATA:
        snprintf(s->name, sizeof s->name, "_metadata.sha256");
        s->dtype = ST_U8;
        s->shape[0] = FILE_DIGEST_BYTES;
        break;
    case PART_SELFTEST_INPUT:
        snprintf(s->name, sizeof s->name, SELFTEST_INPUT);
        s->dtype = ST_U8;
        s->rank = 4;
        s->shape[0] = l->images;
        s->shape[1] = l->graph->nodes[0].h;
        s->shape[2] = l->graph->nodes[0].w;
        s->shape[3] = 3;
        break;
    case PART_SELFTEST_LOGITS:
        snprintf(s->name, sizeof s->name, SELFTEST_LOGITS);
        s->rank = 2;
        s->shape[0] = l->images;
        s->shape[1] = l->graph->nodes[l->graph->output].c;
        break;
    case PART_PAD:
        snprintf(s->name, sizeof s->name, "_pad.%d", l->pads);
        s->dtype = ST_U8;
        s->shape[0] = FILE_ALIGN - (int64_t)(l->offset % FILE_ALIGN);
        break;
    case PART_WEIGHT:
        snprintf(s->name, sizeof s->name, "%s.weight", n->name);
        s->dtype = weight_dtypes[p];
        s->rank = 4;
        s->shape[0] = n->c;
        s->shape[1] = n->kernel_h;
        s->shape[2] = n->kernel_w;
        s->shape[3] = l->graph->nodes[n->in[0]].c / n->groups;
        break;
    case PART_SCALE:
        snprintf(s->name, sizeof s->name, "%s.scale", n->name);
        s->shape[0] = n->c;
        break;
    case PART_BIAS:
        snprintf(s->name, sizeof s->name, "%s.bias", n->name);
        s->dtype = p == PRECISION_INT8 ? ST_I32 : ST_F32;
        s->shape[0] = n->c;
        break;
    }
    s->bytes = st_dtype_bytes(s->dtype);
    for (int i = 0; i < s->rank; i++)
        s->bytes *= (uint64_t)s->shape[i];
}

int layout_next(struct layout *l, struct slot *out)
{
    struct layout next = *l;
    if (!advance(&next))
        return 0;
    if (l->offset % FILE_ALIGN) {
        struct layout pad = *l;
        pad.part = PART_PAD;
        pad.node = -1;
        describe(&pad, out);
        l->pads++;
    } else {
        describe(&next, out);
        *l = next;
    }
    l->offset += out->bytes;
    return 1;
}

/* ---- values of one layer */

static int bad(const struct network *n, int node, const char *part, int64_t i, struct err *e, const char *what)
{
    return err_set(e, ERR_DAMAGED, "tensor '%s.%s': element %lld %s", n->graph.nodes[node].name, part, (long long)i, what);
}

/* Index of the first element that is no number, or -1. */
static int64_t find_not_finite(const float *v, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(v[i]))
            return i;
    return -1;
}

static int64_t find_not_finite_half(const uint16_t *v, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        if ((v[i] & 0x7c00) == 0x7c00)
            return i;
    return -1;
}

/* Index of the second -128 of an output channel, or -1: kernels/conv.h allows one. */
static int64_t find_minus_128(const int8_t *v, int64_t channels, int64_t depth)
{
    for (int64_t o = 0; o < channels; o++, v += depth) {
        const int8_t *first = memchr(v, (unsigned char)-128, (size_t)depth);
        const int8_t *second = first ? memchr(first + 1, (unsigned char)-128, (size_t)(v + depth - first - 1)) : NULL;
        if (second)
            return o * depth + (second - v);
    }
    return -1;
}

int selftest_check(const struct network *n, struct err *e)
{
    const struct selftest *s = &n->selftest;
    const struct node *in = &n->graph.nodes[0], *out = &n->graph.nodes[n->graph.output];
    const int64_t pixels = (int64_t)in->h * in->w;
    if (s->images > SELFTEST_IMAGES_MAX || 3 * pixels * s->images > SELFTEST_BYTES_MAX)
        return err_set(e, ERR_INPUT, "a self-test of %d images of %dx%d pixels: at most %d and together %d bytes are possible",
                       s->images, in->w, in->h, SELFTEST_IMAGES_MAX, SELFTEST_BYTES_MAX);
    const int64_t i = find_not_finite(s->logits, (int64_t)s->images * out->c);
    return i < 0 ? 0 : err_set(e, ERR_DAMAGED, "tensor '%s': element %lld is not a finite number", SELFTEST_LOGITS, (long long)i);
}

static int check_scales(const struct network *n, int node, const struct layer *l, struct err *e)
{
    const struct node *d = &n->graph.nodes[node];
    for (int c = 0; c < d->c; c++) {
        if (!(l->scale[c] > 0 && l->scale[c] <= FILE_SCALE_MAX))
            return bad(n, node, "scale", c, e, "is not greater than 0 and at most 2^30");
        if (n->precision != PRECISION_INT8)
            continue;
        const double in = n->quants[d->in[0]].scale, out = n->quants[node].scale;
        if (in * l->scale[c] / out > FILE_SCALE_MAX)
            return bad(n, node, "scale", c, e, "is too large for the scales of the layer's input and output");
    }
    return 0;
}

int layer_check(const struct network *n, int node, const struct layer *l, struct err *e)
{
    const int64_t weights = node_weights(&n->graph, node);
    const enum precision p = node_precision(&n->graph.nodes[node], n->precision);
    const int int8 = p == PRECISION_INT8;
    int64_t i;

    if (!l->weight || (has_scale(p) && !l->scale) || (int8 ? !l->bias_s32 : !l->bias))
        return err_set(e, ERR_INPUT, "layer '%s' has no weight, no scale or no bias", n->graph.nodes[node].name);
    if (p == PRECISION_FP32)
        i = find_not_finite(l->weight, weights);
    else if (p == PRECISION_FP16)
        i = find_not_finite_half(l->weight, weights);
    else
        i = find_minus_128(l->weight, n->graph.nodes[node].c, weights / n->graph.nodes[node].c);
    if (i >= 0)
        return bad(n, node, "weight", i, e, has_scale(p) ? "is the second -128 of its output channel" : "is not a finite number");
    if (has_scale(p) && check_scales(n, node, l, e))
        return -1;
    i = int8 ? -1 : find_not_finite(l->bias, n->graph.nodes[node].c);
    return i < 0 ? 0 : bad(n, node, "bias", i, e, "is not a finite number");
}

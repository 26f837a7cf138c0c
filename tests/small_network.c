// SPDX-License-Identifier: MIT

#include "tests/small_network.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "models/file.h"
#include "tests/files.h"

char *dir, model[300], other[300];

static uint32_t seed;
static uint32_t random_bits(void)
{
    seed = seed * 1664525 + 1013904223;
    return seed >> 8;
}

static float random_float(void)
{
    return (float)random_bits() / 8388608.0f - 1;
}

const char graph_text[] =
    "{\"nodes\":[{\"name\":\"input\",\"op\":\"input\",\"shape\":[3,8,9]},"
    "{\"name\":\"conv1\",\"op\":\"conv\",\"inputs\":[\"input\"],\"out_channels\":4,\"kernel\":[3,2],\"stride\":[2,2],\"pad\":[1,"
    "0,1,1],"
    "\"relu\":true},"
    "{\"name\":\"pool\",\"op\":\"maxpool\",\"inputs\":[\"conv1\"],\"kernel\":[2,2],\"stride\":[2,2]},"
    "{\"name\":\"l.0.conv\",\"op\":\"conv\",\"inputs\":[\"pool\"],\"out_channels\":6,\"kernel\":[1,1],\"groups\":2},"
    "{\"name\":\"l.0.skip\",\"op\":\"shortcut\",\"inputs\":[\"pool\"],\"pad_channels\":[1,1]},"
    "{\"name\":\"l.0.add\",\"op\":\"add\",\"inputs\":[\"l.0.conv\",\"l.0.skip\"],\"relu\":true},"
    "{\"name\":\"avgpool\",\"op\":\"avgpool\",\"inputs\":[\"l.0.add\"]},"
    "{\"name\":\"fc\",\"op\":\"dense\",\"inputs\":[\"avgpool\"],\"out_channels\":5}],\"output\":\"fc\"}";

void *take(size_t size)
{
    void *p = calloc(1, size);
    assert_non_null(p);
    return p;
}

static void fill_layer(struct network *n, int node)
{
    struct layer *l = &n->layers[node];
    const size_t weights = (size_t)node_weights(&n->graph, node), channels = (size_t)n->graph.nodes[node].c;
    l->weight = take(weights * weight_bytes(n->precision));
    for (size_t i = 0; i < weights; i++) {
        if (n->precision == PRECISION_FP32)
            ((float *)l->weight)[i] = random_float();
        else if (n->precision == PRECISION_FP16)
            ((uint16_t *)l->weight)[i] = (uint16_t)(random_bits() & 0xbbff); /* any finite half */
        else
            ((int8_t *)l->weight)[i] = (int8_t)((int)(random_bits() % 255) - 127);
    }
    if (n->precision == PRECISION_HYBRID || n->precision == PRECISION_INT8) {
        l->scale = take(channels * sizeof *l->scale);
        for (size_t i = 0; i < channels; i++)
            l->scale[i] = 0.01f + 0.001f * (float)i;
    }
    if (n->precision == PRECISION_INT8)
        l->bias_s32 = take(channels * sizeof *l->bias_s32);
    else
        l->bias = take(channels * sizeof *l->bias);
    for (size_t i = 0; i < channels; i++) {
        if (l->bias_s32)
            l->bias_s32[i] = (int32_t)random_bits() - (1 << 23);
        else
            l->bias[i] = random_float();
    }
}

struct network make_network(enum precision p)
{
    static const char *const labels[] = {"cat", "dog, \"the\" dog", "caf\xc3\xa9", "\xf0\x9f\x90\x8e", "x"};
    struct network n = {.precision = p};
    struct err e;
    seed = 1 + (uint32_t)p;
    strcpy(n.name, "small-1.0");
    assert_int_equal(graph_from_json(graph_text, &n.graph, &e), 0);
    assert_int_equal(preprocess_preset("imagenet", &n.preprocess, &e), 0);
    n.preprocess.crop_w = 9;
    n.preprocess.crop_h = 8;
    n.layers = take((size_t)n.graph.count * sizeof *n.layers);
    for (int i = 0; i < n.graph.count; i++)
        if (node_has_weights(&n.graph.nodes[i]))
            fill_layer(&n, i);
    if (p == PRECISION_INT8) {
        static const int zeros[] = {0, -128, -128, 5, -128, -128, -128, 7};
        n.quants = take((size_t)n.graph.count * sizeof *n.quants);
        for (int i = 0; i < n.graph.count; i++)
            n.quants[i] = (struct quant){0.1f + 0.01f * (float)i, zeros[i]};
        n.quants[0] = preprocess_quant(&n.preprocess);
        n.quants[2] = n.quants[4] = n.quants[1];
        ((int8_t *)n.layers[1].weight)[1] = -128; /* once in its channel */
        n.quantization = strdup("{\"method\":\"minmax\",\"tensors\":{\"old\":1},\"images\":100,\"snr\":[1.25,0.1]}");
    }
    if (p != PRECISION_FP32) {
        const int images = 2, values = images * 8 * 9 * 3, logits = images * 5;
        n.selftest = (struct selftest){images, take((size_t)values), take((size_t)logits * sizeof(float))};
        for (int i = 0; i < values; i++)
            n.selftest.input[i] = (uint8_t)random_bits();
        for (int i = 0; i < logits; i++)
            n.selftest.logits[i] = random_float();
    }
    n.label_count = (int)COUNT(labels);
    n.labels = take(COUNT(labels) * sizeof *n.labels);
    for (size_t i = 0; i < COUNT(labels); i++)
        n.labels[i] = strdup(labels[i]);
    n.provenance = strdup("{\"source\":\"none\"}");
    return n;
}

static int same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static int same_bytes(const void *a, const void *b, size_t size)
{
    return (!a && !b) || (a && b && memcmp(a, b, size) == 0);
}

int same_network(const struct network *a, const struct network *b)
{
    if (strcmp(a->name, b->name) != 0 || a->precision != b->precision || a->rounding != b->rounding ||
        a->graph.count != b->graph.count || a->graph.output != b->graph.output || a->label_count != b->label_count ||
        a->selftest.images != b->selftest.images ||
        !same_bytes(a->selftest.input, b->selftest.input, (size_t)a->selftest.images * 8 * 9 * 3) ||
        !same_bytes(a->selftest.logits, b->selftest.logits, (size_t)a->selftest.images * 5 * sizeof(float)) ||
        !same_text(a->provenance, b->provenance) || !same_text(a->accuracy, b->accuracy) ||
        (a->precision != PRECISION_INT8 && !same_text(a->quantization, b->quantization)))
        return 0;
    char *x = preprocess_to_json(&a->preprocess), *y = preprocess_to_json(&b->preprocess);
    int same = strcmp(x, y) == 0;
    free(x);
    free(y);
    const size_t nodes = (size_t)a->graph.count;
    same = same && same_bytes(a->graph.nodes, b->graph.nodes, nodes * sizeof *a->graph.nodes) &&
           same_bytes(a->quants, b->quants, nodes * sizeof *a->quants);
    for (int i = 0; same && i < a->label_count; i++)
        same = strcmp(a->labels[i], b->labels[i]) == 0;
    for (int i = 0; same && i < a->graph.count; i++) {
        const struct layer *l = &a->layers[i], *m = &b->layers[i];
        const size_t c = (size_t)a->graph.nodes[i].c;
        same = same_bytes(l->weight, m->weight, (size_t)node_weights(&a->graph, i) * weight_bytes(a->precision)) &&
               same_bytes(l->scale, m->scale, c * 4) && same_bytes(l->bias, m->bias, c * 4) &&
               same_bytes(l->bias_s32, m->bias_s32, c * 4);
    }
    return same;
}

int is_empty(const struct network *n)
{
    static const struct network empty;
    return !n->graph.nodes && !n->layers && !n->quants && !n->labels && !n->quantization && !n->selftest.input &&
           !n->selftest.logits && n->graph.count == empty.graph.count;
}

void write_good(const struct network *n)
{
    struct err e;
    if (model_file_write(model, n, &e))
        fail_msg("%s", e.text);
}

uint8_t *slurp(const char *path, size_t *size)
{
    char *bytes = files_read(path, size);
    assert_non_null(bytes);
    return (uint8_t *)bytes;
}

int make_dir(void **state)
{
    (void)state;
    dir = files_make_dir();
    snprintf(model, sizeof model, "%s", files_path(dir, "model.safetensors"));
    snprintf(other, sizeof other, "%s", files_path(dir, "other.safetensors"));
    return 0;
}

int remove_dir(void **state)
{
    (void)state;
    unlink(model);
    unlink(other);
    const int left = files_count(dir); /* a temporary file that nobody removed */
    files_remove_dir(dir);
    return left;
}

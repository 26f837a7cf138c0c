// SPDX-License-Identifier: MIT
//
// test_file.c - the model file: what is written is read back exactly; damaged, hostile and contradictory files are refused; no
// allocation is forgotten.

#include <fcntl.h>
#include <math.h>
#include <nettle/sha2.h>
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
#include "models/file_layout.h"
#include "models/json.h"
#include "tests/files.h"
#include "tests/scarce.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* ---- a small network with every op */

static char *dir, model[300], other[300];

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

static const char graph_text[] =
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

static void *take(size_t size)
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

static struct network make_network(enum precision p)
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
        n.quantization = strdup("{\"method\":\"minmax\",\"tensors\":{\"old\":1},\"images\":100,\"snr\":[1.25,0.1]}");
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

static int same_network(const struct network *a, const struct network *b)
{
    if (strcmp(a->name, b->name) != 0 || a->precision != b->precision || a->graph.count != b->graph.count ||
        a->graph.output != b->graph.output || a->label_count != b->label_count || !same_text(a->provenance, b->provenance) ||
        !same_text(a->accuracy, b->accuracy) || (a->precision != PRECISION_INT8 && !same_text(a->quantization, b->quantization)))
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

static int is_empty(const struct network *n)
{
    static const struct network empty;
    return !n->graph.nodes && !n->layers && !n->quants && !n->labels && !n->quantization && n->graph.count == empty.graph.count;
}

static void write_good(const struct network *n)
{
    struct err e;
    if (model_file_write(model, n, &e))
        fail_msg("%s", e.text);
}

static uint8_t *slurp(const char *path, size_t *size)
{
    char *bytes = files_read(path, size);
    assert_non_null(bytes);
    return (uint8_t *)bytes;
}

/* ---- tests */

static void round_trip(void **state)
{
    (void)state;
    for (int p = 0; p < PRECISIONS; p++) {
        struct network n = make_network((enum precision)p), back, header;
        struct err e;
        write_good(&n);
        if (model_file_read(model, &back, &e))
            fail_msg("%s", e.text);
        assert_true(same_network(&n, &back));
        assert_int_equal(strlen(back.digest), 64);

        assert_int_equal(model_file_header(model, &header, &e), 0);
        assert_string_equal(header.digest, back.digest);
        assert_null(header.layers[1].weight);

        size_t size, size2;
        uint8_t *bytes = slurp(model, &size);
        assert_int_equal(model_file_write(other, &back, &e), 0); /* and once more: the same bytes */
        uint8_t *bytes2 = slurp(other, &size2);
        assert_int_equal(size, size2);
        assert_memory_equal(bytes, bytes2, size);
        free(bytes);
        free(bytes2);
        network_free(&n);
        network_free(&back);
        network_free(&header);
        assert_true(is_empty(&back));
    }
}

/* What a reader without this project sees: names, order, alignment, and a digest that anybody can recompute. */
static void layout(void **state)
{
    (void)state;
    static const char *const names[] = {"_metadata.sha256", "_pad.0",     "conv1.weight",  "_pad.1",          "conv1.scale",
                                        "_pad.2",           "conv1.bias", "_pad.3",        "l.0.conv.weight", "_pad.4",
                                        "l.0.conv.scale",   "_pad.5",     "l.0.conv.bias", "_pad.6",          "fc.weight",
                                        "_pad.7",           "fc.scale",   "_pad.8",        "fc.bias"};
    struct network n = make_network(PRECISION_INT8);
    struct st_file *f;
    struct err e;
    write_good(&n);
    assert_int_equal(st_open(model, &f, &e), 0);
    assert_int_equal(st_data_offset(f) % 64, 0);
    assert_int_equal(st_count(f), COUNT(names));
    for (int i = 0; i < st_count(f); i++) {
        assert_string_equal(st_get(f, i)->name, names[i]);
        if (strncmp(names[i], "_pad", 4) != 0)
            assert_int_equal(st_get(f, i)->begin % 64, 0);
    }
    const struct st_tensor *w = st_find(f, "conv1.weight");
    assert_int_equal(w->dtype, ST_I8);
    assert_int_equal(w->rank, 4);
    assert_true(w->shape[0] == 4 && w->shape[1] == 3 && w->shape[2] == 2 && w->shape[3] == 3);
    w = st_find(f, "l.0.conv.weight");
    assert_true(w->shape[0] == 6 && w->shape[1] == 1 && w->shape[2] == 1 && w->shape[3] == 2);
    assert_int_equal(st_find(f, "fc.bias")->dtype, ST_I32);
    assert_string_equal(st_metadata(f, "format"), "resnetd");
    assert_string_equal(st_metadata(f, "format_version"), "1");
    assert_string_equal(st_metadata(f, "precision"), "int8");
    assert_string_equal(st_metadata(f, "graph"), graph_text);
    assert_null(st_metadata(f, "accuracy"));
    const char *q = st_metadata(f, "quantization");
    assert_non_null(strstr(q, "\"method\":\"minmax\""));
    assert_non_null(strstr(q, "\"fc\":{\"scale\":0.170000002,\"zero_point\":7}"));
    assert_null(strstr(q, "old"));

    size_t size;
    uint8_t *bytes = slurp(model, &size), digest[32];
    struct sha256_ctx sha;
    sha256_init(&sha);
    sha256_update(&sha, size - st_data_offset(f), bytes + st_data_offset(f));
    sha256_digest(&sha, sizeof digest, digest);
    for (int i = 0; i < 32; i++) {
        char hex[3];
        snprintf(hex, sizeof hex, "%02x", digest[i]);
        assert_memory_equal(hex, st_metadata(f, "sha256") + 2 * i, 2);
    }
    free(bytes);
    st_close(f);
    network_free(&n);
}

struct seen {
    int nodes[8], count, fail_at;
};

static int see_layer(void *user, const struct network *n, int node, const struct layer *l, struct err *e)
{
    struct seen *s = user;
    assert_non_null(l->weight);
    assert_true(node_has_weights(&n->graph.nodes[node]));
    s->nodes[s->count++] = node;
    return s->count == s->fail_at ? err_set(e, ERR_BUSY, "stop here") : 0;
}

/* The example of docs/model-format.md: its header is on the line after "```json example", its data is what follows "```hex". */
static void documented_example(void **state)
{
    (void)state;
    static const int8_t weights[] = {127, -64, 0, 1, -127, 32};
    struct network n = {.precision = PRECISION_HYBRID, .name = "tiny", .preprocess = {.scale = 255, .std = {1, 1, 1}}};
    struct err e;
    assert_int_equal(graph_from_json("{\"nodes\":[{\"name\":\"input\",\"op\":\"input\",\"shape\":[3,1,1]},{\"name\":\"fc\","
                                     "\"op\":\"dense\",\"inputs\":[\"input\"],\"out_channels\":2}],\"output\":\"fc\"}",
                                     &n.graph, &e),
                     0);
    n.layers = take(2 * sizeof *n.layers);
    struct layer *l = &n.layers[1];
    l->weight = take(sizeof weights);
    memcpy(l->weight, weights, sizeof weights);
    l->scale = take(2 * sizeof *l->scale);
    l->scale[0] = 0.5f;
    l->scale[1] = 0.25f;
    l->bias = take(2 * sizeof *l->bias);
    l->bias[0] = 1;
    l->bias[1] = -1;
    write_good(&n);
    network_free(&n);

    char path[1024];
    const char *source = getenv("srcdir");
    size_t size, doc_size;
    snprintf(path, sizeof path, "%s/docs/model-format.md", source ? source : ".");
    uint8_t *bytes = slurp(model, &size);
    char *doc = (char *)slurp(path, &doc_size);
    const char *header = strstr(doc, "```json example\n"), *hex = strstr(doc, "```hex\n");
    assert_non_null(header);
    assert_non_null(hex);
    header += strlen("```json example\n");
    const size_t length = strcspn(header, "\n"), data = 8 + (size_t)bytes[0] + ((size_t)bytes[1] << 8);
    assert_int_equal(data % 64, 0);
    if (memcmp(bytes + 8, header, length) != 0)
        fail_msg("docs/model-format.md, the header is:\n%.*s", (int)(data - 8), bytes + 8);
    for (size_t i = 8 + length; i < data; i++)
        assert_int_equal(bytes[i], ' ');
    hex += strlen("```hex\n");
    for (size_t i = data; i < size; i++) {
        unsigned byte;
        int used;
        while (*hex == '#' || *hex == '\n') /* a line of explanation */
            hex += *hex == '#' ? strcspn(hex, "\n") : 1;
        if (sscanf(hex, "%2x%n", &byte, &used) != 1 || byte != bytes[i])
            fail_msg("docs/model-format.md, byte %zu of the data is %02x, not %.2s", i - data, bytes[i], hex);
        hex += used;
        hex += *hex == ' ';
    }
    assert_memory_equal(hex, "\n```", 4);
    free(bytes);
    free(doc);
}

static void stream(void **state)
{
    (void)state;
    struct network n = make_network(PRECISION_HYBRID), out;
    struct err e;
    write_good(&n);
    struct seen s = {0};
    assert_int_equal(model_file_stream(model, &out, see_layer, &s, &e), 0);
    assert_int_equal(s.count, 3);
    assert_true(s.nodes[0] == 1 && s.nodes[1] == 3 && s.nodes[2] == 7);
    assert_null(out.layers[1].weight);
    network_free(&out);
    assert_int_equal(model_file_stream(model, &out, NULL, NULL, &e), 0);
    network_free(&out);
    s = (struct seen){.fail_at = 2};
    assert_int_equal(model_file_stream(model, &out, see_layer, &s, &e), -1);
    assert_int_equal(e.code, ERR_BUSY);
    assert_non_null(strstr(e.text, "stop here"));
    assert_int_equal(s.count, 2);
    assert_true(is_empty(&out));
    network_free(&n);
}

/* Each byte of the file changed: refused, or (in the header) a network equal to the good one. */
static void every_byte(void **state)
{
    (void)state;
    for (int p = 0; p < PRECISIONS; p++) {
        struct network n = make_network((enum precision)p), out;
        struct err e;
        size_t size;
        uint64_t header;
        write_good(&n);
        uint8_t *bytes = slurp(model, &size);
        memcpy(&header, bytes, 8);
        const int fd = open(model, O_RDWR | O_CLOEXEC);
        assert_true(fd >= 0);
        for (size_t i = 0; i < size; i++) {
            const uint8_t flips[] = {(uint8_t)(1 << i % 8), 0x20, 0xff};
            for (size_t k = 0; k < (i < header + 8 ? COUNT(flips) : 1); k++) {
                const uint8_t changed = bytes[i] ^ flips[k];
                assert_int_equal(pwrite(fd, &changed, 1, (off_t)i), 1);
                if (model_file_read(model, &out, &e) == 0) {
                    if (i >= header + 8 || !same_network(&n, &out))
                        fail_msg("%s: byte %zu changed by %02x was not noticed", precision_name(n.precision), i, flips[k]);
                    network_free(&out);
                } else {
                    assert_true(is_empty(&out));
                    if (!strstr(e.text, model))
                        fail_msg("the error does not name the file: %s", e.text);
                }
            }
            assert_int_equal(pwrite(fd, &bytes[i], 1, (off_t)i), 1);
        }
        assert_int_equal(model_file_read(model, &out, &e), 0);
        network_free(&out);

        assert_int_equal(pwrite(fd, bytes, 1, (off_t)size), 1); /* one byte too many */
        assert_int_equal(model_file_read(model, &out, &e), -1);
        for (size_t length = size; length-- > 0;) {
            assert_int_equal(ftruncate(fd, (off_t)length), 0);
            assert_int_equal(model_file_read(model, &out, &e), -1);
        }
        close(fd);
        free(bytes);
        network_free(&n);
    }
}

/* ---- files that are whole and properly digested, but wrong: a good one is taken apart, changed, and put together again */

struct raw {
    struct st_item items[64];
    int count;
    const char *values[FILE_KEYS];
};

static struct raw raw_open(const struct st_file *f)
{
    struct raw r = {.count = st_count(f)};
    struct err e;
    assert_true((size_t)r.count < COUNT(r.items));
    for (int i = 0; i < r.count; i++) {
        const struct st_tensor *t = st_get(f, i);
        void *data = take((size_t)(t->end - t->begin));
        assert_int_equal(st_read(f, t, data, &e), 0);
        r.items[i] = (struct st_item){.name = t->name, .dtype = t->dtype, .rank = t->rank, .data = data};
        memcpy(r.items[i].shape, t->shape, sizeof t->shape);
    }
    for (int k = 0; k < FILE_KEYS; k++) {
        const char *v = st_metadata(f, file_keys[k]);
        r.values[k] = v ? strdup(v) : NULL;
    }
    return r;
}

static void raw_free(struct raw *r)
{
    for (int i = 0; i < r->count; i++)
        free((void *)r->items[i].data);
    for (int k = 0; k < FILE_KEYS; k++)
        free((void *)r->values[k]);
}

static void raw_write(struct raw *r, const char *path, int align)
{
    uint8_t digest[32];
    char hex[65];
    struct sha256_ctx sha;
    struct err e;
    sha256_init(&sha);
    for (int i = 0; i < r->count; i++) {
        const struct st_item *t = &r->items[i];
        uint64_t bytes = st_dtype_bytes(t->dtype);
        for (int k = 0; k < t->rank; k++)
            bytes *= (uint64_t)t->shape[k];
        if (strcmp(t->name, "_metadata.sha256") == 0 && bytes == 32)
            metadata_digest(r->values, (uint8_t *)t->data);
        sha256_update(&sha, bytes, t->data);
    }
    sha256_digest(&sha, sizeof digest, digest);
    for (int i = 0; i < 32; i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    struct st_meta meta[FILE_KEYS];
    int metas = 0;
    for (int k = 0; k < FILE_KEYS; k++)
        if (r->values[k])
            meta[metas++] = (struct st_meta){file_keys[k], k == KEY_SHA256 && strlen(r->values[k]) == 64 ? hex : r->values[k]};
    if (st_write(path, r->items, r->count, meta, metas, align, &e))
        fail_msg("%s", e.text);
}

static struct st_item *raw_item(struct raw *r, const char *name)
{
    for (int i = 0; i < r->count; i++)
        if (strcmp(r->items[i].name, name) == 0)
            return &r->items[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

enum change {
    META,  /* field: from -> to; from NULL: the whole text; to NULL: drop the field */
    FLOAT, /* tensor: element `at` becomes value */
    BYTES, /* tensor: byte `at` and the next become value's low 16 bits */
    BYTE,
    DROP,    /* tensor */
    RENAME,  /* tensor: to */
    RESHAPE, /* tensor: one dimension of 1 more */
    RETYPE,  /* tensor: dtype = value, same size */
    SWAP,    /* tensor and the one `at` places after it */
    EXTRA,   /* a tensor more at the end */
    ALIGN    /* data section at a multiple of 8 */
};

struct wrong {
    enum precision precision;
    enum change change;
    const char *name, *from, *to;
    int at;
    double value;
    const char *word; /* in the error; NULL: the file must be accepted */
};

static void set_text(struct raw *r, const struct wrong *w)
{
    int k = 0;
    while (k < FILE_KEYS && strcmp(file_keys[k], w->name) != 0)
        k++;
    assert_true(k < FILE_KEYS);
    char *old = (char *)r->values[k], *text = NULL;
    if (w->to && w->from) {
        const char *at = strstr(old, w->from);
        if (!at)
            fail_msg("no '%s' in %s", w->from, old);
        text = take(strlen(old) + strlen(w->to) + 1);
        sprintf(text, "%.*s%s%s", (int)(at - old), old, w->to, at + strlen(w->from));
    } else if (w->to) {
        text = strdup(w->to);
    }
    free(old);
    r->values[k] = text;
}

static int apply(struct raw *r, const struct wrong *w)
{
    if (w->change == META) {
        set_text(r, w);
        return FILE_ALIGN;
    }
    if (w->change == ALIGN)
        return 8;
    if (w->change == EXTRA) {
        r->items[r->count++] = (struct st_item){.name = w->name, .dtype = ST_U8, .rank = 1, .shape = {1}, .data = take(1)};
        return FILE_ALIGN;
    }
    struct st_item *t = raw_item(r, w->name), held;
    uint8_t *bytes = (uint8_t *)t->data;
    const float f = (float)w->value;
    switch (w->change) {
    case FLOAT:
        memcpy(bytes + 4 * w->at, &f, 4);
        break;
    case BYTES:
        bytes[w->at + 1] = (uint8_t)((int)w->value >> 8);
        bytes[w->at] = (uint8_t)(int)w->value;
        break;
    case BYTE:
        bytes[w->at] = (uint8_t)(int)w->value;
        break;
    case DROP:
        free(bytes);
        memmove(t, t + 1, (size_t)(&r->items[r->count] - (t + 1)) * sizeof *t);
        r->count--;
        break;
    case RENAME:
        t->name = w->to;
        break;
    case RESHAPE:
        t->shape[t->rank++] = 1;
        break;
    case RETYPE:
        t->dtype = (enum st_dtype)(int)w->value;
        break;
    default:
        held = *t;
        *t = t[w->at];
        t[w->at] = held;
    }
    return FILE_ALIGN;
}

static void wrong_files(void **state)
{
    (void)state;
    static const struct wrong cases[] = {
        {PRECISION_FP32, META, "accuracy", NULL, "{\"top1\":91.5}", 0, 0, NULL},
        {PRECISION_FP32, META, "labels", NULL, NULL, 0, 0, NULL},
        {PRECISION_FP32, META, "labels", NULL, "[]", 0, 0, NULL},
        {PRECISION_FP32, META, "format_version", NULL, "1.7", 0, 0, NULL},
        {PRECISION_FP32, META, "format", NULL, NULL, 0, 0, "format"},
        {PRECISION_FP32, META, "format", NULL, "pt", 0, 0, "format"},
        {PRECISION_FP32, META, "format_version", NULL, NULL, 0, 0, "format_version"},
        {PRECISION_FP32, META, "format_version", NULL, "2", 0, 0, "format_version"},
        {PRECISION_FP32, META, "format_version", NULL, "10", 0, 0, "format_version"},
        {PRECISION_FP32, META, "format_version", NULL, "", 0, 0, "format_version"},
        {PRECISION_FP32, META, "name", NULL, NULL, 0, 0, "name"},
        {PRECISION_FP32, META, "name", NULL, ".hidden", 0, 0, "name"},
        {PRECISION_FP32, META, "name", NULL, "../x", 0, 0, "name"},
        {PRECISION_FP32, META, "graph", NULL, NULL, 0, 0, "graph"},
        {PRECISION_FP32, META, "graph", "\"stride\":[2,2]", "\"stride\":[0,2]", 0, 0, "stride"},
        {PRECISION_FP32, META, "graph", ",\"groups\":2", "", 0, 0, "l.0.conv.weight"},
        {PRECISION_FP32, META, "graph", "\"out_channels\":4", "\"out_channels\":65536", 0, 0, "65538 channels"},
        {PRECISION_FP32, META, "graph", "\"kernel\":[3,2]", "\"kernel\":[2,3]", 0, 0, "conv1.weight"},
        {PRECISION_FP32, META, "graph", "[3,8,9]", "[3,9,8]", 0, 0, "preprocess gives 9x8"},
        {PRECISION_FP32, META, "precision", NULL, NULL, 0, 0, "precision"},
        {PRECISION_FP32, META, "precision", NULL, "int4", 0, 0, "precision"},
        {PRECISION_FP32, META, "precision", NULL, "fp16", 0, 0, "conv1.weight"},
        {PRECISION_FP32, META, "precision", NULL, "int8", 0, 0, "tensors"},
        {PRECISION_FP32, META, "preprocess", NULL, NULL, 0, 0, "preprocess"},
        {PRECISION_FP32, META, "preprocess", "255", "0", 0, 0, "scale"},
        {PRECISION_FP32, META, "preprocess", "{\"width\":9,\"height\":8}", "null", 0, 0, "crop"},
        {PRECISION_FP32, META, "preprocess", "\"width\":9", "\"width\":10", 0, 0, "10x8"},
        {PRECISION_FP32, META, "labels", "\"cat\",", "", 0, 0, "labels"},
        {PRECISION_FP32, META, "labels", "\"cat\"", "\"cat\",\"cat\"", 0, 0, "labels"},
        {PRECISION_FP32, META, "labels", "\"cat\"", "7", 0, 0, "label 0"},
        {PRECISION_FP32, META, "labels", "\"cat\"", "\"\"", 0, 0, "label 0"},
        {PRECISION_FP32, META, "labels", "\"cat\"", "\"c\\nt\"", 0, 0, "control"},
        {PRECISION_FP32, META, "labels", NULL, "{}", 0, 0, "labels"},
        {PRECISION_FP32, META, "quantization", NULL, "[]", 0, 0, "quantization"},
        {PRECISION_FP32, META, "provenance", NULL, "me", 0, 0, "provenance"},
        {PRECISION_FP32, META, "accuracy", NULL, "91", 0, 0, "accuracy"},
        {PRECISION_FP32, META, "sha256", NULL, NULL, 0, 0, "sha256"},
        {PRECISION_FP32, META, "sha256", NULL, "abc", 0, 0, "sha256"},
        {PRECISION_FP32, FLOAT, "conv1.weight", NULL, NULL, 71, 1e-45, NULL},
        {PRECISION_FP32, FLOAT, "conv1.weight", NULL, NULL, 71, NAN, "conv1.weight"},
        {PRECISION_FP32, FLOAT, "l.0.conv.weight", NULL, NULL, 0, -INFINITY, "l.0.conv.weight"},
        {PRECISION_FP32, FLOAT, "fc.bias", NULL, NULL, 4, INFINITY, "fc.bias"},
        {PRECISION_FP16, BYTES, "conv1.weight", NULL, NULL, 10, 0x7bff, NULL},
        {PRECISION_FP16, BYTES, "conv1.weight", NULL, NULL, 10, 0x7c00, "conv1.weight"},
        {PRECISION_FP16, BYTES, "conv1.weight", NULL, NULL, 10, 0xfe01, "conv1.weight"},
        {PRECISION_FP16, FLOAT, "fc.bias", NULL, NULL, 0, NAN, "fc.bias"},
        {PRECISION_HYBRID, BYTE, "fc.weight", NULL, NULL, 3, 0x81, NULL},
        {PRECISION_HYBRID, BYTE, "fc.weight", NULL, NULL, 3, 0x80, "fc.weight"},
        {PRECISION_HYBRID, FLOAT, "fc.scale", NULL, NULL, 3, 0, "fc.scale"},
        {PRECISION_HYBRID, FLOAT, "fc.scale", NULL, NULL, 3, -1, "fc.scale"},
        {PRECISION_HYBRID, FLOAT, "fc.scale", NULL, NULL, 3, NAN, "fc.scale"},
        {PRECISION_HYBRID, FLOAT, "fc.scale", NULL, NULL, 3, INFINITY, "fc.scale"},
        {PRECISION_HYBRID, FLOAT, "fc.bias", NULL, NULL, 3, NAN, "fc.bias"},
        {PRECISION_INT8, BYTE, "conv1.weight", NULL, NULL, 0, 0x80, "conv1.weight"},
        {PRECISION_INT8, FLOAT, "conv1.scale", NULL, NULL, 0, 0, "conv1.scale"},
        {PRECISION_INT8, FLOAT, "conv1.scale", NULL, NULL, 0, 1e30, "conv1.scale"},
        {PRECISION_INT8, META, "quantization", "\"fc\":{\"scale\":0.170000002", "\"fc\":{\"scale\":1e-12", 0, 0, "fc.scale"},
        {PRECISION_INT8, META, "quantization", NULL, NULL, 0, 0, "tensors"},
        {PRECISION_INT8, META, "quantization", "\"tensors\"", "\"tensor\"", 0, 0, "tensors"},
        {PRECISION_INT8, META, "quantization", "\"fc\":", "\"fd\":", 0, 0, "'fd' is no node"},
        {PRECISION_INT8, META, "quantization", ",\"fc\":{\"scale\":0.170000002,\"zero_point\":7}", "", 0, 0, "'fc' is missing"},
        {PRECISION_INT8, META, "quantization", "\"zero_point\":7", "\"zero_point\":128", 0, 0, "zero_point"},
        {PRECISION_INT8, META, "quantization", "\"zero_point\":7", "\"zero_point\":-129", 0, 0, "zero_point"},
        {PRECISION_INT8, META, "quantization", "\"zero_point\":7", "\"zero_point\":0.5", 0, 0, "zero_point"},
        {PRECISION_INT8, META, "quantization", "0.170000002", "0", 0, 0, "scale"},
        {PRECISION_INT8, META, "quantization", "0.170000002", "-1", 0, 0, "scale"},
        {PRECISION_INT8, META, "quantization", "0.170000002", "1e39", 0, 0, "scale"},
        {PRECISION_INT8, META, "quantization", "\"zero_point\":7", "\"zero_point\":7,\"x\":1", 0, 0, "x"},
        {PRECISION_INT8, META, "quantization", "\"input\":{\"scale\":0.0", "\"input\":{\"scale\":0.1", 0, 0, "input"},
        {PRECISION_INT8, META, "quantization", "\"pool\":{\"scale\":0.1", "\"pool\":{\"scale\":0.2", 0, 0, "'pool'"},
        {PRECISION_INT8, META, "quantization", "\"l.0.skip\":{\"scale\":0.1", "\"l.0.skip\":{\"scale\":0.2", 0, 0, "'l.0.skip'"},
        {PRECISION_INT8, META, "quantization", "\"l.0.add\":{\"scale\":0.1", "\"l.0.add\":{\"scale\":1e-30", 0, 0, "'l.0.add'"},
        {PRECISION_INT8, META, "quantization", "\"avgpool\":{\"scale\":0.1", "\"avgpool\":{\"scale\":1e-30", 0, 0, "'avgpool'"},
        {PRECISION_INT8, META, "quantization", "\"l.0.add\":{\"scale\":0.150000006,\"zero_point\":-128}",
         "\"l.0.add\":{\"scale\":0.150000006,\"zero_point\":-127}", 0, 0, "relu"},
        {PRECISION_INT8, META, "preprocess", "0.485", "0.5", 0, 0, "input"},
        {PRECISION_INT8, DROP, "conv1.scale", NULL, NULL, 0, 0, "conv1.scale"},
        {PRECISION_INT8, DROP, "fc.bias", NULL, NULL, 0, 0, "fc.bias"},
        {PRECISION_INT8, DROP, "_metadata.sha256", NULL, NULL, 0, 0, "_metadata.sha256"},
        {PRECISION_INT8, DROP, "_pad.1", NULL, NULL, 0, 0, "_pad.1"},
        {PRECISION_INT8, RENAME, "conv1.bias", NULL, "conv1.bios", 0, 0, "conv1.bios"},
        {PRECISION_INT8, RENAME, "_metadata.sha256", NULL, "_metadata", 0, 0, "_metadata"},
        {PRECISION_INT8, RESHAPE, "conv1.weight", NULL, NULL, 0, 0, "conv1.weight"},
        {PRECISION_INT8, RETYPE, "conv1.weight", NULL, NULL, 0, ST_U8, "conv1.weight"},
        {PRECISION_INT8, RETYPE, "fc.bias", NULL, NULL, 0, ST_F32, "fc.bias"},
        {PRECISION_FP16, RETYPE, "fc.weight", NULL, NULL, 0, ST_BF16, "fc.weight"},
        {PRECISION_INT8, SWAP, "fc.scale", NULL, NULL, 2, 0, "fc.bias"},
        {PRECISION_INT8, SWAP, "conv1.scale", NULL, NULL, 2, 0, "conv1.bias"},
        {PRECISION_INT8, EXTRA, "more", NULL, NULL, 0, 0, "more"},
        {PRECISION_INT8, EXTRA, "_pad.9", NULL, NULL, 0, 0, "_pad.9"},
        {PRECISION_INT8, ALIGN, "data section", NULL, NULL, 0, 0, "multiple of 64"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        const struct wrong *w = &cases[i];
        struct network n = make_network(w->precision), out;
        struct st_file *f;
        struct err e = {0};
        write_good(&n);
        assert_int_equal(st_open(model, &f, &e), 0);
        struct raw r = raw_open(f);
        raw_write(&r, other, apply(&r, w));
        const int read = model_file_read(other, &out, &e);
        if (read == 0)
            network_free(&out);
        if ((read == 0) != !w->word)
            fail_msg("case %zu (%s): %s", i, w->name, read ? e.text : "accepted");
        if (w->word && (!strstr(e.text, w->word) || !strstr(e.text, other)))
            fail_msg("case %zu (%s): '%s' does not name '%s'", i, w->name, e.text, w->word);
        raw_free(&r);
        st_close(f);
        network_free(&n);
    }
}

/* The writer refuses what the reader would, and leaves the old file alone. */
static void writer_refuses(void **state)
{
    (void)state;
    struct network good = make_network(PRECISION_FP32);
    size_t size, size2;
    write_good(&good);
    uint8_t *bytes = slurp(model, &size);
    for (int i = 0; i < 8; i++) {
        struct network n = make_network(i < 5 ? PRECISION_FP32 : PRECISION_INT8);
        struct err e = {0};
        if (i == 0)
            ((float *)n.layers[1].weight)[2] = NAN;
        else if (i == 1)
            strcpy(n.name, "a/b");
        else if (i == 2)
            n.preprocess.crop_w = 10;
        else if (i == 3)
            n.labels[0][0] = '\n';
        else if (i == 4)
            layer_free(&n.layers[3]);
        else if (i == 5)
            n.quants[0].zero++;
        else if (i == 6)
            n.quants[7].scale = NAN;
        else
            ((int8_t *)n.layers[1].weight)[2] = -128;
        assert_int_equal(model_file_write(model, &n, &e), -1);
        assert_non_null(strstr(e.text, model));
        network_free(&n);
    }
    uint8_t *bytes2 = slurp(model, &size2);
    assert_int_equal(size, size2);
    assert_memory_equal(bytes, bytes2, size);
    free(bytes);
    free(bytes2);
    network_free(&good);
}

static void allocations(void **state)
{
    (void)state;
    cJSON_Hooks hooks = {malloc, free}; /* ours: the wrapped one */
    cJSON_InitHooks(&hooks);
    struct network n = make_network(PRECISION_INT8), out;
    struct err e;
    write_good(&n);
    int reads = 0, writes = 0;
    for (int r = -1; r; reads++) {
        scarce_left = reads;
        r = model_file_read(model, &out, &e);
        scarce_left = -1;
        if (r) {
            if (e.code != ERR_MEMORY)
                fail_msg("allocation %d of reading: %s", reads, e.text);
            assert_true(is_empty(&out));
        }
    }
    assert_true(same_network(&n, &out));
    for (int r = -1; r; writes++) {
        scarce_left = writes;
        r = model_file_write(other, &n, &e);
        scarce_left = -1;
        if (r && e.code != ERR_MEMORY)
            fail_msg("allocation %d of writing: %s", writes, e.text);
    }
    cJSON_InitHooks(NULL);
    assert_true(reads > 100 && writes > 100);
    network_free(&out);
    network_free(&n);
}

static void paths(void **state)
{
    (void)state;
    char found[320], want[400];
    struct err e;
    struct network out;
    assert_int_equal(model_path(dir, PRECISION_HYBRID, found, sizeof found, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_non_null(strstr(e.text, "hybrid"));
    snprintf(want, sizeof want, "%s/hybrid.safetensors", dir);
    files_write(dir, "hybrid.safetensors", "x", 1);
    assert_int_equal(model_path(dir, PRECISION_HYBRID, found, sizeof found, &e), 0);
    assert_string_equal(found, want);
    assert_int_equal(model_path(want, PRECISION_FP32, found, sizeof found, &e), 0);
    assert_string_equal(found, want);
    assert_int_equal(model_path(want, PRECISION_FP32, found, strlen(want), &e), -1);
    assert_int_equal(model_file_read(want, &out, &e), -1);
    unlink(want);
    assert_int_equal(model_path(want, PRECISION_FP32, found, sizeof found, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_int_equal(model_file_header(want, &out, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_int_equal(model_file_read(dir, &out, &e), -1);
}

static void names(void **state)
{
    (void)state;
    static const char *const bad[] = {"", ".a", "a/b", "a b", "caf\xc3\xa9", "%41", "a\n"};
    struct err e;
    enum precision p;
    char name[NETWORK_NAME_MAX + 1];
    memset(name, 'a', sizeof name);
    name[NETWORK_NAME_MAX] = 0;
    assert_int_equal(name_check(name, &e), -1);
    name[NETWORK_NAME_MAX - 1] = 0;
    assert_int_equal(name_check(name, &e), 0);
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_int_equal(name_check(bad[i], &e), -1);
    for (int i = 0; i < PRECISIONS; i++) {
        assert_int_equal(precision_parse(precision_name((enum precision)i), &p, &e), 0);
        assert_int_equal(p, i);
    }
    assert_int_equal(precision_parse("INT8", &p, &e), -1);
    assert_non_null(strstr(e.text, "hybrid"));
}

static void labels(void **state)
{
    (void)state;
    char longest[LABEL_MAX + 2];
    memset(longest, 'l', sizeof longest);
    longest[LABEL_MAX + 1] = 0;
    char too_long[400], fits[400];
    snprintf(too_long, sizeof too_long, "a\nb\nc\nd\n%s\n", longest);
    snprintf(fits, sizeof fits, "a\nb\nc\nd\n%s\n", longest + 1);
    const struct {
        const char *text, *first, *last; /* labels, or first NULL and a word of the error */
    } cases[] = {
        {"a\nb\nc\nd\ne\n", "a", "e"},
        {"a\r\nb\r\nc\r\nd\r\ne", "a", "e"},
        {"n01440764 tench, Tinca\nb\nc\nd\nn12 x\n\n", "tench, Tinca", "n12 x"},
        {"\xef\xbb\xbf"
         "a\nb\nc\nd\ncaf\xc3\xa9",
         "a", "caf\xc3\xa9"},
        {" [\"a\",\"b\",\"c\",\"d\",\"\\u00e9\"]\n", "a", "\xc3\xa9"},
        {fits, "a", longest + 1},
        {too_long, NULL, "line 5"},
        {"a\nb\nc\nd\n", NULL, "4 labels for 5 classes"},
        {"a\nb\nc\nd\ne\nf\n", NULL, "6 labels for 5 classes"},
        {"a\n\nc\nd\ne\n", NULL, "line 2"},
        {"a\nb\tb\nc\nd\ne\n", NULL, "line 2"},
        {"a\nb\nc\nd\n\xc3\n", NULL, "UTF-8"},
        {"a\nb\nc\nd\n\xed\xa0\x80\n", NULL, "UTF-8"},
        {"a\nb\nc\nd\n\xc0\x80\n", NULL, "UTF-8"},
        {"a\nb\nc\nd\n\xf4\x90\x80\x80\n", NULL, "UTF-8"},
        {"", NULL, "0 labels"},
        {"[]", NULL, "0 labels"},
        {"[\"a\"]", NULL, "labels"},
        {"[\"a\",\"b\",\"c\",\"d\",5]", NULL, "label 4"},
        {"[\"a\",\"b\",\"c\",\"d\",\"e\"", NULL, other},
    };
    struct network n = make_network(PRECISION_FP32);
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct err e = {0};
        files_write(dir, "other.safetensors", cases[i].text, strlen(cases[i].text));
        const int r = network_labels_from_file(&n, other, &e);
        if ((r == 0) != (cases[i].first != NULL))
            fail_msg("case %zu: %s", i, r ? e.text : "accepted");
        assert_int_equal(n.label_count, 5);
        if (r == 0) {
            assert_string_equal(n.labels[0], cases[i].first);
            assert_string_equal(n.labels[4], cases[i].last);
        } else if (!strstr(e.text, cases[i].last) || !strstr(e.text, other)) {
            fail_msg("case %zu: '%s' does not name '%s'", i, e.text, cases[i].last);
        }
    }
    struct err e;
    assert_int_equal(network_labels_from_file(&n, dir, &e), -1);
    unlink(other);
    assert_int_equal(network_labels_from_file(&n, other, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    network_free(&n);
}

static int make_dir(void **state)
{
    (void)state;
    dir = files_make_dir();
    snprintf(model, sizeof model, "%s", files_path(dir, "model.safetensors"));
    snprintf(other, sizeof other, "%s", files_path(dir, "other.safetensors"));
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    unlink(model);
    unlink(other);
    const int left = files_count(dir); /* a temporary file that nobody removed */
    files_remove_dir(dir);
    return left;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),         cmocka_unit_test(layout),     cmocka_unit_test(stream),
        cmocka_unit_test(documented_example), cmocka_unit_test(every_byte), cmocka_unit_test(wrong_files),
        cmocka_unit_test(allocations),        cmocka_unit_test(paths),      cmocka_unit_test(names),
        cmocka_unit_test(writer_refuses),     cmocka_unit_test(labels),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}

// SPDX-License-Identifier: MIT
//
// test_file_wrong.c - model files that are whole and properly digested, but hostile or contradictory: refused, with the field.

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
#include "models/checkpoint/safetensors.h"
#include "tests/small_network.h"

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
    FOLD,    /* tensor: its third dimension goes into the first */
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
    if (w->change == ALIGN) {
        static const struct wrong longer = {.name = "provenance", .to = "{\"source\":\"none\"        }"};
        set_text(r, &longer); /* by 8, so that it is no multiple of 64 if by chance it was one */
        return 8;
    }
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
    case FOLD:
        t->shape[0] *= t->shape[2];
        t->shape[2] = 1;
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
        {PRECISION_FP32, META, "labels", "\"cat\"", "\"c\\u009bt\"", 0, 0, "control"},
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
        {PRECISION_HYBRID, BYTE, "fc.weight", NULL, NULL, 3, 0x80, NULL}, /* once in a channel */
        {PRECISION_HYBRID, BYTES, "fc.weight", NULL, NULL, 2, 0x8080, "fc.weight"},
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
        {PRECISION_INT8, META, "quantization", "\"pool\":{\"scale\":0.1", "\"pool\":{\"scale\":0.2", 0, 0, "'pool'"},
        {PRECISION_INT8, META, "quantization", "\"l.0.skip\":{\"scale\":0.1", "\"l.0.skip\":{\"scale\":0.2", 0, 0, "'l.0.skip'"},
        {PRECISION_INT8, META, "quantization", "\"l.0.add\":{\"scale\":0.1", "\"l.0.add\":{\"scale\":1e-30", 0, 0, "'l.0.add'"},
        {PRECISION_INT8, META, "quantization", "\"avgpool\":{\"scale\":0.1", "\"avgpool\":{\"scale\":1e-30", 0, 0, "'avgpool'"},
        {PRECISION_INT8, META, "quantization", "{", "{\"rounding\":\"up\",", 0, 0, "rounding"},
        {PRECISION_INT8, META, "quantization", "{", "{\"rounding\":1,", 0, 0, "rounding"},
        {PRECISION_INT8, META, "quantization", "{", "{\"rounding\":\"tflite\",", 0, 0, "'conv1' must have keep_output"},
        {PRECISION_INT8, META, "graph", "\"shape\"", "\"half\":true,\"shape\"", 0, 0, "'input' works in half and has no scale"},
        {PRECISION_HYBRID, META, "graph", "\"shape\"", "\"half\":true,\"shape\"", 0, 0, "'input' works in half"},
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
        {PRECISION_INT8, FLOAT, "_selftest.logits", NULL, NULL, 9, 1e-45, NULL},
        {PRECISION_INT8, FLOAT, "_selftest.logits", NULL, NULL, 9, NAN, "_selftest.logits"},
        {PRECISION_INT8, DROP, "_selftest.logits", NULL, NULL, 0, 0, "_selftest.logits"},
        {PRECISION_INT8, DROP, "_selftest.input", NULL, NULL, 0, 0, "_pad.1"},
        {PRECISION_INT8, RESHAPE, "_selftest.input", NULL, NULL, 0, 0, "_selftest.input"},
        {PRECISION_INT8, RESHAPE, "_selftest.logits", NULL, NULL, 0, 0, "_selftest.logits"},
        {PRECISION_INT8, FOLD, "_selftest.input", NULL, NULL, 0, 0, "1 to 16 images"},
        {PRECISION_INT8, RETYPE, "_selftest.logits", NULL, NULL, 0, ST_I32, "_selftest.logits"},
        {PRECISION_INT8, SWAP, "_selftest.input", NULL, NULL, 2, 0, "_selftest.logits"},
        {PRECISION_INT8, EXTRA, "more", NULL, NULL, 0, 0, "more"},
        {PRECISION_INT8, EXTRA, "_pad.11", NULL, NULL, 0, 0, "_pad.11"},
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_files),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}

// SPDX-License-Identifier: MIT
//
// test_file.c - the model file: what is written is read back exactly, every damaged byte is noticed, no allocation is forgotten.

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
#include "models/json.h"
#include "models/checkpoint/safetensors.h"
#include "tests/files.h"
#include "tests/scarce.h"
#include "tests/small_network.h"

static void round_trip(void **state)
{
    (void)state;
    for (int p = 0; p <= PRECISIONS; p++) { /* the last: int8 as TensorFlow Lite rounds it */
        struct network n = make_network(p < PRECISIONS ? (enum precision)p : PRECISION_INT8), back, header;
        struct err e;
        n.rounding = p < PRECISIONS ? ROUNDING_NEAREST_EVEN : ROUNDING_TFLITE;
        for (int i = 0; i < n.graph.count; i++)
            n.graph.nodes[i].keep_output = n.rounding == ROUNDING_TFLITE && node_has_weights(&n.graph.nodes[i]);
        write_good(&n);
        if (model_file_read(model, &back, &e))
            fail_msg("%s", e.text);
        assert_true(same_network(&n, &back));
        assert_int_equal(strlen(back.digest), 64);

        assert_int_equal(model_file_header(model, &header, &e), 0);
        assert_string_equal(header.digest, back.digest);
        assert_null(header.layers[1].weight);
        assert_true(header.selftest.images == n.selftest.images && !header.selftest.input);

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
    static const char *const names[] = {"_metadata.sha256", "_pad.0", "_selftest.input", "_pad.1",  "_selftest.logits", "_pad.2",
                                        "conv1.weight",     "_pad.3", "conv1.scale",     "_pad.4",  "conv1.bias",       "_pad.5",
                                        "l.0.conv.weight",  "_pad.6", "l.0.conv.scale",  "_pad.7",  "l.0.conv.bias",    "_pad.8",
                                        "fc.weight",        "_pad.9", "fc.scale",        "_pad.10", "fc.bias"};
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
    w = st_find(f, "_selftest.input");
    assert_true(w->dtype == ST_U8 && w->rank == 4);
    assert_true(w->shape[0] == 2 && w->shape[1] == 8 && w->shape[2] == 9 && w->shape[3] == 3);
    w = st_find(f, "_selftest.logits");
    assert_true(w->dtype == ST_F32 && w->rank == 2 && w->shape[0] == 2 && w->shape[1] == 5);
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
    assert_int_equal(model_file_stream(model, NULL, &(struct layer_sink){.layer = see_layer, .user = &s}, &out, &e), 0);
    assert_int_equal(s.count, 3);
    assert_true(s.nodes[0] == 1 && s.nodes[1] == 3 && s.nodes[2] == 7);
    assert_null(out.layers[1].weight);
    network_free(&out);
    assert_int_equal(model_file_stream(model, NULL, &(struct layer_sink){0}, &out, &e), 0);
    network_free(&out);
    s = (struct seen){.fail_at = 2};
    assert_int_equal(model_file_stream(model, NULL, &(struct layer_sink){.layer = see_layer, .user = &s}, &out, &e), -1);
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

/* The writer refuses what the reader would, and leaves the old file alone. */
static void writer_refuses(void **state)
{
    (void)state;
    struct network good = make_network(PRECISION_FP32);
    size_t size, size2;
    write_good(&good);
    uint8_t *bytes = slurp(model, &size);
    for (int i = 0; i < 11; i++) {
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
            n.quants[0].zero = 128;
        else if (i == 6)
            n.quants[7].scale = NAN;
        else if (i == 7)
            n.rounding = ROUNDING_TFLITE; /* of layers without keep_output */
        else if (i == 8)
            n.selftest.logits[9] = NAN;
        else if (i == 9)
            n.selftest.images = SELFTEST_IMAGES_MAX + 1;
        else
            ((int8_t *)n.layers[1].weight)[2] = -128; /* the second */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),         cmocka_unit_test(layout),     cmocka_unit_test(stream),
        cmocka_unit_test(documented_example), cmocka_unit_test(every_byte), cmocka_unit_test(writer_refuses),
        cmocka_unit_test(allocations),        cmocka_unit_test(paths),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}

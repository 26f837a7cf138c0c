// SPDX-License-Identifier: MIT
//
// PyTorch checkpoints, packed here with libzip around pickles written here: read like the same tensors in a safetensors file;
// what is not one, or not a whole one, is refused with its place.

#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "models/checkpoint/checkpoint.h"
#include "models/checkpoint/pth.h"
#include "models/checkpoint/pth_archive.h"
#include "tests/files.h"
#include "tests/scarce.h"

static char *dir;

/* ---- a pickle being made ---- */

static struct {
    unsigned char bytes[65536];
    size_t size;
} pickled;

static void put(const void *bytes, size_t size)
{
    assert_true(pickled.size + size <= sizeof pickled.bytes);
    memcpy(pickled.bytes + pickled.size, bytes, size);
    pickled.size += size;
}

#define OPS(text) put(text, sizeof(text) - 1)

static void put_int(int64_t v)
{
    OPS("\x8a\x08");
    put(&v, 8);
}

static void put_text(const char *text)
{
    const uint32_t size = (uint32_t)strlen(text);
    OPS("X");
    put(&size, 4);
    put(text, size);
}

static void put_sizes(const int *v, int n)
{
    OPS("(");
    for (int i = 0; i < n; i++)
        put_int(v[i]);
    OPS("t");
}

/* name: tensor, for a SETITEMS. type: "FloatStorage" ... of `count` elements. */
static void put_tensor(const char *name, const char *type, const char *key, int64_t count, int64_t offset, int rank,
                       const int *shape, const int *stride)
{
    put_text(name);
    OPS("ctorch._utils\n_rebuild_tensor_v2\n((");
    put_text("storage");
    OPS("ctorch\n");
    put(type, strlen(type));
    OPS("\n");
    put_text(key);
    put_text("cpu");
    put_int(count);
    OPS("tQ");
    put_int(offset);
    put_sizes(shape, rank);
    put_sizes(stride, rank);
    OPS("\x89"
        "ccollections\nOrderedDict\n)RtR");
}

static void put_vector(const char *name, const char *type, const char *key, int count)
{
    put_tensor(name, type, key, count, 0, 1, &count, (int[]){1});
}

/* ---- opening ---- */

static struct tensors *open_ok(void)
{
    struct tensors *t = NULL;
    struct err e = {.text = ""};
    if (pth_open(files_path(dir, "c.pth"), &t, &e) < 0) {
        print_error("%s\n", e.text);
        fail();
    }
    return t;
}

static void refuse(enum err_code code, const char *text)
{
    struct tensors *t = NULL;
    struct err e = {.text = ""};
    assert_int_equal(pth_open(files_path(dir, "c.pth"), &t, &e), -1);
    assert_null(t);
    if (e.code != code || !strstr(e.text, text) || !strstr(e.text, "c.pth: ")) {
        print_error("expected \"%s\" (%d) in \"%s\" (%d)\n", text, code, e.text, e.code);
        fail();
    }
}

static const float numbers[24] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23};

static void expect(const struct tensors *t, const char *name, int count, const float *expected)
{
    float values[24] = {0};
    struct err e = {.text = ""};
    const int i = tensors_find(t, name);
    assert_true(i >= 0);
    assert_int_equal(tensors_get(t, i)->count, count);
    if (tensors_read(t, i, values, &e) < 0) {
        print_error("%s\n", e.text);
        fail();
    }
    assert_memory_equal(values, expected, (size_t)count * sizeof *values);
}

/* Opens and reads all; the values of what is read are right. Returns whether all could be read. */
static int opens_and_reads(void)
{
    struct tensors *t = NULL;
    struct err e = {.text = ""};
    float values[8];
    if (pth_open(files_path(dir, "c.pth"), &t, &e) < 0) {
        assert_true(t == NULL && e.text[0]);
        return 0;
    }
    int fine = 1;
    for (int i = 0; i < tensors_count(t); i++)
        if (tensors_get(t, i)->count > 8 || tensors_read(t, i, values, &e) < 0)
            fine = 0;
    tensors_close(t);
    return fine;
}

/* ---- before PyTorch 1.6 ---- */

static const char magic[] = PTH_LEGACY_MAGIC, version[] = "\x80\x02M\xe9\x03.",
                  machine[] = "\x80\x02}X\x0d\0\0\0little_endian\x88s.";

/* Two tensors in two storages; the keys' pickle and the storages come behind the object. */
static void start_legacy(const char *version_pickle, size_t version_size, const char *machine_pickle, size_t machine_size)
{
    pickled.size = 0;
    put(magic, sizeof magic - 1);
    put(version_pickle, version_size);
    put(machine_pickle, machine_size);
    OPS("\x80\x02}(");
    put_text("state_dict");
    OPS("}(");
    put_vector("a", "FloatStorage", "94001", 3);
    put_tensor("b", "HalfStorage", "7", 4, 1, 2, (int[]){2, 1}, (int[]){2, 1});
    OPS("uu.\x80\x02](");
}

static void finish_legacy(const char *first, int64_t first_count, const char *second, int64_t second_count)
{
    static const uint16_t halves[4] = {0, 0x3c00, 0x4000, 0x4200};
    put_text(first);
    put_text(second);
    OPS("e.");
    put(&first_count, 8);
    put(halves, sizeof halves);
    put(&second_count, 8);
    put(numbers + 1, 12);
    files_write(dir, "c.pth", pickled.bytes, pickled.size);
}

static void before_zip_archives(void **unused)
{
    (void)unused;
    start_legacy(version, sizeof version - 1, machine, sizeof machine - 1);
    finish_legacy("7", 4, "94001", 3);
    struct tensors *t = open_ok();
    assert_int_equal(tensors_count(t), 2);
    expect(t, "a", 3, numbers + 1);
    expect(t, "b", 2, (float[]){1, 3});
    tensors_close(t);
    for (size_t cut = 0; cut < pickled.size; cut++) {
        files_write(dir, "c.pth", pickled.bytes, cut);
        assert_false(opens_and_reads());
    }
    for (size_t at = 0; at < pickled.size; at++) {
        pickled.bytes[at] ^= 0x55;
        files_write(dir, "c.pth", pickled.bytes, pickled.size);
        opens_and_reads();
        pickled.bytes[at] ^= 0x55;
    }
    files_write(dir, "c.pth", pickled.bytes, pickled.size - 1);
    refuse(ERR_DAMAGED, "the file ends inside storage 94001: truncated");
    start_legacy(version, sizeof version - 1, machine, sizeof machine - 1);
    finish_legacy("7", 5, "94001", 3);
    refuse(ERR_DAMAGED, "storage 7 has 5 elements, its tensor says 4");
    start_legacy(version, sizeof version - 1, machine, sizeof machine - 1);
    finish_legacy("7", 4, "7", 4);
    refuse(ERR_DAMAGED, "tensor a: storage 94001 is not in the file");
    start_legacy(version, sizeof version - 1, machine, sizeof machine - 1);
    finish_legacy("8", 4, "94001", 3);
    refuse(ERR_DAMAGED, "a storage that no tensor has");
    start_legacy("M\xea\x03.", 4, machine, sizeof machine - 1);
    finish_legacy("7", 4, "94001", 3);
    refuse(ERR_UNSUPPORTED, "other than 1001");
    start_legacy(version, sizeof version - 1, "}X\x0d\0\0\0little_endian\x89s.", 22);
    finish_legacy("7", 4, "94001", 3);
    refuse(ERR_UNSUPPORTED, "not little endian");
    files_write(dir, "c.pth", "\x80\x02N.", 4);
    refuse(ERR_UNSUPPORTED, "not what torch.save writes");
    unlink(files_path(dir, "c.pth"));
    refuse(ERR_NOT_FOUND, "No such file");
}

#ifndef HAVE_LIBZIP

/* PK: what a zip archive starts with. */
static void the_library_is_named(void **unused)
{
    (void)unused;
    static const char zip[] = "PK\3\4 and so on";
    struct network n = {.name = ""};
    struct err e;
    files_write(dir, "c.pth", zip, sizeof zip);
    assert_int_equal(checkpoint_import(files_path(dir, "c.pth"), &(struct import_options){NULL, NULL}, &n, &e), -1);
    assert_true(e.code == ERR_UNSUPPORTED && strstr(e.text, "c.pth") && strstr(e.text, "libzip"));
}

#else

#include <zip.h>

/* ---- an archive being made ---- */

enum how { STORED, COMPRESSED, ENCRYPTED };

static zip_t *archive;

static void start(void)
{
    int code;
    archive = zip_open(files_path(dir, "c.pth"), ZIP_CREATE | ZIP_TRUNCATE, &code);
    assert_non_null(archive);
    pickled.size = 0;
    OPS("\x80\x02}(");
}

/* bytes must live until finish(). */
static void entry(const char *name, const void *bytes, size_t size, enum how how)
{
    zip_source_t *s = zip_source_buffer(archive, bytes, size, 0);
    const zip_int64_t i = s ? zip_file_add(archive, name, s, ZIP_FL_OVERWRITE) : -1;
    assert_true(i >= 0);
    assert_int_equal(zip_set_file_compression(archive, (zip_uint64_t)i, how == COMPRESSED ? ZIP_CM_DEFLATE : ZIP_CM_STORE, 0), 0);
    if (how == ENCRYPTED)
        assert_int_equal(zip_file_set_encryption(archive, (zip_uint64_t)i, ZIP_EM_TRAD_PKWARE, "secret"), 0);
}

static void finish(const char *pickle_name)
{
    OPS("u.");
    entry(pickle_name, pickled.bytes, pickled.size, STORED);
    if (zip_close(archive) != 0) {
        print_error("%s\n", zip_strerror(archive));
        fail();
    }
}

/* ---- tests ---- */

static void all_types(void **unused)
{
    (void)unused;
    static const double f64[2] = {1, -2};
    static const uint16_t f16[2] = {0x3c00, 0xc000}, bf16[2] = {0x3f80, 0xc000};
    static const int64_t i64[2] = {1, -2};
    static const int32_t i32[2] = {1, -2};
    static const int16_t i16[2] = {1, -2};
    static const int8_t i8[2] = {1, -2};
    static const uint8_t u8[2] = {1, 254}, bit[2] = {1, 0};
    static const struct {
        const char *type;
        const void *data;
        size_t size;
        float expected[2];
    } types[] = {
        {"DoubleStorage", f64, sizeof f64, {1, -2}},     {"HalfStorage", f16, sizeof f16, {1, -2}},
        {"BFloat16Storage", bf16, sizeof bf16, {1, -2}}, {"LongStorage", i64, sizeof i64, {1, -2}},
        {"IntStorage", i32, sizeof i32, {1, -2}},        {"ShortStorage", i16, sizeof i16, {1, -2}},
        {"CharStorage", i8, sizeof i8, {1, -2}},         {"ByteStorage", u8, sizeof u8, {1, 254}},
        {"BoolStorage", bit, sizeof bit, {1, 0}},        {"FloatStorage", numbers + 1, 8, {1, 2}},
    };
    enum { COUNT = sizeof types / sizeof *types };
    start();
    for (int i = 0; i < COUNT; i++) {
        char key[16], name[32];
        snprintf(key, sizeof key, "%d", i);
        snprintf(name, sizeof name, "c/data/%d", i);
        put_vector(types[i].type, types[i].type, key, 2);
        entry(name, types[i].data, types[i].size, STORED);
    }
    entry("c/byteorder", "little", 6, STORED);
    entry("c/version", "3\n", 2, STORED);
    finish("c/data.pkl");
    struct tensors *t = open_ok();
    assert_int_equal(tensors_count(t), COUNT);
    for (int i = 0; i < COUNT; i++)
        expect(t, types[i].type, 2, types[i].expected);
    assert_int_equal(tensors_find(t, "none"), -1);
    tensors_close(t);
}

/* Views of one storage: a part of it, transposed, every second, with a side of one that has any stride. */
static void views(void **unused)
{
    (void)unused;
    start();
    put_tensor("part", "FloatStorage", "0", 24, 20, 2, (int[]){2, 2}, (int[]){2, 1});
    put_tensor("transposed", "FloatStorage", "0", 24, 0, 2, (int[]){2, 3}, (int[]){1, 2});
    put_tensor("last", "FloatStorage", "0", 24, 4, 3, (int[]){2, 2, 2}, (int[]){1, 2, 8});
    put_tensor("one", "FloatStorage", "0", 24, 5, 3, (int[]){1, 3, 1}, (int[]){99, 1, 7});
    put_tensor("none", "FloatStorage", "0", 24, 24, 2, (int[]){0, 3}, (int[]){3, 1});
    put_tensor("number", "FloatStorage", "0", 24, 23, 0, NULL, NULL);
    put_tensor("halves", "HalfStorage", "1", 4, 0, 2, (int[]){2, 2}, (int[]){1, 2});
    entry("c/data/0", numbers, sizeof numbers, STORED);
    entry("c/data/1", (const uint16_t[]){0, 0x3c00, 0x4000, 0x4200}, 8, STORED);
    finish("c/data.pkl");
    struct tensors *t = open_ok();
    expect(t, "part", 4, (float[]){20, 21, 22, 23});
    expect(t, "transposed", 6, (float[]){0, 2, 4, 1, 3, 5});
    expect(t, "last", 8, (float[]){4, 12, 6, 14, 5, 13, 7, 15});
    expect(t, "one", 3, (float[]){5, 6, 7});
    expect(t, "none", 0, numbers);
    expect(t, "number", 1, (float[]){23});
    expect(t, "halves", 4, (float[]){0, 2, 1, 3});
    tensors_close(t);
}

/* The averaged weights are the ones that were measured, so they come first; what lies beside the weights is metadata at best. */
static void nesting(void **unused)
{
    (void)unused;
    start();
    put_text("epoch");
    put_int(90);
    put_text("arch");
    put_text("resnet50");
    put_text("optimizer");
    OPS("}");
    put_text("state_dict");
    OPS("}(");
    put_vector("a", "FloatStorage", "0", 2);
    OPS("u");
    put_text("state_dict_ema");
    OPS("}");
    put_text("model");
    OPS("}(");
    put_vector("b", "FloatStorage", "0", 2);
    put_text("not a tensor");
    OPS("Nu");
    OPS("s");
    entry("c/data/0", numbers, 8, STORED);
    finish("c/data.pkl");
    struct tensors *t = open_ok();
    assert_int_equal(tensors_count(t), 1);
    expect(t, "b", 2, numbers);
    assert_null(tensors_metadata(t, "arch")); /* it lies two levels up */
    tensors_close(t);

    start();
    put_text("arch");
    put_text("resnetblur50");
    put_text("net");
    OPS("}(");
    put_vector("a", "FloatStorage", "0", 2);
    OPS("u");
    entry("c/data/0", numbers, 8, STORED);
    finish("c/data.pkl");
    t = open_ok();
    assert_string_equal(tensors_metadata(t, "arch"), "resnetblur50");
    assert_null(tensors_metadata(t, "epoch"));
    tensors_close(t);

    start();
    put_text("optimizer");
    OPS("}");
    finish("c/data.pkl");
    refuse(ERR_UNSUPPORTED, "no dictionary of tensors");
}

static void foreign_names(void **unused)
{
    (void)unused;
    start();
    OPS("cos\nsystem\n");
    finish("c/data.pkl");
    refuse(ERR_UNSUPPORTED, "c/data.pkl: byte 4: it asks for os.system, which tensors do not need and which is not run");
    start();
    put_text("args");
    OPS("cargparse\nNamespace\n)\x81");
    finish("c/data.pkl");
    refuse(ERR_UNSUPPORTED, "argparse.Namespace, which tensors do not need and which is not run; save the weights alone: "
                            "torch.save(model.state_dict(), 'weights.pth')");
}

static void storages(void **unused)
{
    (void)unused;
    start();
    put_vector("a", "FloatStorage", "7", 2);
    finish("c/data.pkl");
    refuse(ERR_DAMAGED, "tensor a: the archive has no entry c/data/7");
    start();
    put_vector("a", "FloatStorage", "0", 3);
    entry("c/data/0", numbers, 8, STORED);
    finish("c/data.pkl");
    refuse(ERR_DAMAGED, "tensor a: entry c/data/0 has 8 bytes, its tensor needs 12");
    start();
    put_vector("a", "FloatStorage", "0", 24);
    entry("c/data/0", numbers, sizeof numbers, COMPRESSED);
    finish("c/data.pkl");
    refuse(ERR_UNSUPPORTED, "entry c/data/0 is compressed");
    if (zip_encryption_method_supported(ZIP_EM_TRAD_PKWARE, 1)) {
        start();
        put_vector("a", "FloatStorage", "0", 2);
        entry("c/data/0", numbers, 8, ENCRYPTED);
        finish("c/data.pkl");
        refuse(ERR_UNSUPPORTED, "entry c/data/0 is encrypted");
    }
    start(); /* two names for one storage are fine, three hundred are not */
    for (int i = 0; i < 300; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%d", i);
        put_vector(name, "FloatStorage", "0", 20000);
    }
    static float many[20000];
    entry("c/data/0", many, sizeof many, STORED);
    finish("c/data.pkl");
    refuse(ERR_UNSUPPORTED, "more than four times the file");
    start();
    put_vector("a", "FloatStorage", "0", 2);
    put_vector("a", "FloatStorage", "0", 2);
    entry("c/data/0", numbers, 8, STORED);
    finish("c/data.pkl");
    refuse(ERR_DAMAGED, "two tensors are called a");
}

static void names(void **unused)
{
    (void)unused;
    char longest[ST_NAME_MAX + 2];
    memset(longest, 'a', sizeof longest);
    longest[ST_NAME_MAX] = 0;
    for (int more = 0; more < 2; more++) {
        start();
        put_vector(longest, "FloatStorage", "0", 2);
        entry("c/data/0", numbers, 8, STORED);
        finish("c/data.pkl");
        if (more)
            refuse(ERR_TOO_LARGE, "name has 513 bytes, the limit is 512");
        else
            tensors_close(open_ok());
        longest[ST_NAME_MAX] = 'a';
        longest[ST_NAME_MAX + 1] = 0;
    }
    start();
    put_vector("\xff", "FloatStorage", "0", 2);
    entry("c/data/0", numbers, 8, STORED);
    finish("c/data.pkl");
    refuse(ERR_DAMAGED, "name is not UTF-8");
}

static void other_archives(void **unused)
{
    (void)unused;
    start();
    finish("weights.txt");
    refuse(ERR_UNSUPPORTED, "a zip archive without a data.pkl");
    start();
    entry("c/constants.pkl", "N.", 2, STORED);
    finish("c/data.pkl");
    refuse(ERR_UNSUPPORTED, "a TorchScript program");
    start();
    entry("c/byteorder", "big", 3, STORED);
    finish("c/data.pkl");
    refuse(ERR_UNSUPPORTED, "byte order 'big'");
    files_write(dir, "c.pth", "PK\3\4", 4);
    refuse(ERR_DAMAGED, "not a whole zip archive");
}

static void make_small(void)
{
    start();
    put_vector("a", "FloatStorage", "0", 8);
    put_tensor("b", "FloatStorage", "0", 8, 1, 2, (int[]){2, 2}, (int[]){1, 2});
    entry("c/data/0", numbers, 32, STORED);
    finish("c/data.pkl");
}

static void damage(void **unused)
{
    (void)unused;
    size_t size;
    make_small();
    char *whole = files_read(files_path(dir, "c.pth"), &size);
    assert_non_null(whole);
    assert_true(opens_and_reads());
    for (size_t cut = 0; cut < size; cut++) { /* the directory of a zip archive lies at its end */
        files_write(dir, "c.pth", whole, cut);
        assert_false(opens_and_reads());
    }
    for (size_t at = 0; at < size; at++) { /* checksums do not cover everything: no crash is what counts */
        whole[at] ^= 0x55;
        files_write(dir, "c.pth", whole, size);
        opens_and_reads();
        whole[at] ^= 0x55;
    }
    char *data = memmem(whole, size, numbers, 32);
    assert_non_null(data);
    data[5] ^= 1; /* a weight: its checksum tells */
    files_write(dir, "c.pth", whole, size);
    assert_false(opens_and_reads());
    free(whole);
}

static void no_memory(void **unused)
{
    (void)unused;
    make_small();
    int failed = 0, done = 0;
    for (int n = 0; !done; n++) {
        struct tensors *t = NULL;
        struct err e = {.text = ""};
        float values[8];
        scarce_left = n;
        done = pth_open(files_path(dir, "c.pth"), &t, &e) == 0 && tensors_read(t, tensors_find(t, "b"), values, &e) == 0;
        scarce_left = -1;
        assert_true(done || e.code == ERR_MEMORY);
        tensors_close(t);
        failed += !done;
    }
    assert_true(failed > 20);
}

/* ---- the whole way ---- */

static struct st_item items[64];
static char item_names[64][64];
static int item_count;
static float weights[9 * 64];

static void item(const char *name, int rank, int o, int i, int k)
{
    snprintf(item_names[item_count], sizeof item_names[0], "%s", name);
    items[item_count] = (struct st_item){item_names[item_count], ST_F32, rank, {o, i, k, k}, weights};
    item_count++;
}

static void item_conv(const char *conv, const char *norm, int i)
{
    static const char *const leaves[] = {"weight", "bias", "running_mean", "running_var"};
    char name[64];
    snprintf(name, sizeof name, "%s.weight", conv);
    item(name, 4, 8, i, 3);
    for (int k = 0; k < 4; k++) {
        snprintf(name, sizeof name, "%s.%s", norm, leaves[k]);
        item(name, 1, 8, 0, 0);
    }
}

/* One ResNet in both formats gives one network. */
static void the_same_network(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++)
        weights[i] = 0.25f + (float)(i % 17) / 16;
    item_count = 0;
    item_conv("conv1", "bn1", 3);
    item_conv("layer1.0.conv1", "layer1.0.bn1", 8);
    item_conv("layer1.0.conv2", "layer1.0.bn2", 8);
    item("fc.weight", 2, 10, 8, 0);
    item("fc.bias", 1, 10, 0, 0);
    struct network a = {.name = ""}, b = {.name = ""};
    struct err e = {.text = ""};
    assert_int_equal(st_write(files_path(dir, "c.safetensors"), items, item_count, NULL, 0, 8, &e), 0);
    start();
    put_text("state_dict");
    OPS("}(");
    for (int i = 0; i < item_count; i++) {
        char name[80], key[16], path[32];
        int shape[4], stride[4], count = 1;
        for (int k = items[i].rank - 1; k >= 0; k--) {
            shape[k] = (int)items[i].shape[k];
            stride[k] = count;
            count *= shape[k];
        }
        snprintf(name, sizeof name, "module.%s", items[i].name);
        snprintf(key, sizeof key, "%d", i);
        snprintf(path, sizeof path, "archive/data/%d", i);
        put_tensor(name, "FloatStorage", key, count, 0, items[i].rank, shape, stride);
        entry(path, weights, (size_t)count * sizeof *weights, STORED);
    }
    OPS("u");
    finish("archive/data.pkl");
    const struct import_options options = {NULL, NULL};
    assert_int_equal(rename(files_path(dir, "c.pth"), files_path(dir, "weights.bin")), 0); /* by content, not by name */
    if (checkpoint_import(files_path(dir, "c.safetensors"), &options, &a, &e) < 0 ||
        checkpoint_import(files_path(dir, "weights.bin"), &options, &b, &e) < 0) {
        print_error("%s\n", e.text);
        fail();
    }
    char *expected = graph_to_json(&a.graph), *got = graph_to_json(&b.graph);
    assert_string_equal(got, expected);
    free(expected);
    free(got);
    for (int i = 0; i < a.graph.count; i++)
        if (a.layers[i].weight) {
            assert_memory_equal(a.layers[i].weight, b.layers[i].weight, (size_t)node_weights(&a.graph, i) * sizeof(float));
            assert_memory_equal(a.layers[i].bias, b.layers[i].bias, (size_t)a.graph.nodes[i].c * sizeof(float));
        }
    network_free(&a);
    network_free(&b);
}

#endif

/* What no reader knows. */
static void other_files(void **unused)
{
    (void)unused;
    static const struct {
        const char *name, *content, *expected;
    } files[] = {
        {"c.txt", "a text", "c.txt: not a checkpoint of a kind that is read here (safetensors, TensorFlow Lite, PyTorch"},
        {"empty", "", "empty: not a checkpoint"},
        {"c.safetensors", "short", "c.safetensors: too short for a safetensors file"},
        {"c.h5", "\x89HDF\r\n", "c.h5: not a checkpoint"},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct network n = {.name = ""};
        struct err e = {.text = ""};
        files_write(dir, files[i].name, files[i].content, strlen(files[i].content));
        assert_int_equal(checkpoint_import(files_path(dir, files[i].name), &(struct import_options){NULL, NULL}, &n, &e), -1);
        if (!strstr(e.text, files[i].expected)) {
            print_error("expected \"%s\" in \"%s\"\n", files[i].expected, e.text);
            fail();
        }
        assert_null(n.layers);
    }
}

static int set_up(void **unused)
{
    (void)unused;
    dir = files_make_dir();
    return 0;
}

static int tear_down(void **unused)
{
    (void)unused;
    files_remove_dir(dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(before_zip_archives),
#ifdef HAVE_LIBZIP
        cmocka_unit_test(all_types),           cmocka_unit_test(views),    cmocka_unit_test(nesting),
        cmocka_unit_test(foreign_names),       cmocka_unit_test(storages), cmocka_unit_test(names),
        cmocka_unit_test(other_archives),      cmocka_unit_test(damage),   cmocka_unit_test(no_memory),
        cmocka_unit_test(the_same_network),
#else
        cmocka_unit_test(the_library_is_named),
#endif
        cmocka_unit_test(other_files),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

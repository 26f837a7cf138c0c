// SPDX-License-Identifier: MIT
//
// Images of a training: read and decoded on several threads, replaced by better copies, divided for validation.

#include "models/train/feed.h"
#include "models/train/image_set.h"
#include "tests/files.h"
#include "tests/scarce.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthreadpool.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RECORD = 3073, W = 2, H = 1, VALUES = W * H * 3 };

static char *dir; /* of one test */

static int make_dir(void **state)
{
    (void)state;
    dir = files_make_dir();
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    files_remove_dir(dir);
    return 0;
}

/* "Decodes" an image of 2 x 1 pixels: its bytes are its six values; "bad" is none. Of raw pixels it takes the first two. */
static int decode(void *user, const struct sample *s, uint8_t *rgb, struct err *e)
{
    atomic_fetch_add((atomic_int *)user, 1);
    if (s->pixels) {
        memcpy(rgb, s->pixels, VALUES);
        return 0;
    }
    if (s->size >= 3 && memcmp(s->bytes, "bad", 3) == 0)
        return err_set(e, ERR_DAMAGED, "this is bad");
    for (size_t i = 0; i < VALUES; i++)
        rgb[i] = i < s->size ? s->bytes[i] : 0;
    return 0;
}

static int reported, reported_of;
static void report(void *user, int done, int count)
{
    (void)user;
    assert_true(done > reported && done <= count);
    reported = done;
    reported_of = count;
}

static atomic_int decoded;
static struct image_reader reader = {.width = W, .height = H, .pixels = decode, .user = &decoded};

static void put(const char *name, const char *text)
{
    files_write(dir, name, text, strlen(text));
}

static struct image_set *open_set(const char *path, char *const *labels, int count)
{
    struct image_set *s = NULL;
    struct err e;
    if (image_set_open(path, labels, count, &reader, &s, &e) < 0)
        fail_msg("%s", e.text);
    return s;
}

static void expect_error(char *const *labels, int count, enum err_code code, const char *says)
{
    struct image_set *s = NULL;
    struct err e = {.text = ""};
    assert_int_equal(image_set_open(dir, labels, count, &reader, &s, &e), -1);
    assert_null(s);
    if (e.code != code || !strstr(e.text, says))
        fail_msg("expected code %d '%s', got %d: %s", (int)code, says, (int)e.code, e.text);
}

/* More images than go into a block, on one thread and on several: the same set. */
static void many(void **state)
{
    (void)state;
    enum { COUNT = 150 };
    char text[16];
    assert_int_equal(mkdir(files_path(dir, "b"), 0700), 0);
    assert_int_equal(mkdir(files_path(dir, "a"), 0700), 0);
    for (int i = 0; i < COUNT; i++) {
        char name[32];
        snprintf(name, sizeof name, "%s/%03d.jpg", i % 3 ? "b" : "a", i);
        snprintf(text, sizeof text, "%06d", i);
        put(name, text);
    }
    pthreadpool_t pool = pthreadpool_create(3);
    for (int threads = 1; threads <= 3; threads += 2) {
        reader.pool = threads > 1 ? pool : NULL;
        reader.progress = report;
        reported = decoded = 0;
        struct image_set *s = open_set(dir, NULL, 0);
        assert_int_equal(decoded, COUNT);
        assert_true(reported == COUNT && reported_of == COUNT);
        assert_int_equal(s->count, COUNT);
        assert_true(s->width == W && s->height == H && s->classes == 2 && s->held_back == 0);
        assert_string_equal(s->labels[0], "a");
        assert_string_equal(s->labels[1], "b");
        for (int i = 0; i < COUNT; i++) {
            const int number = i < COUNT / 3 ? 3 * i : (i - COUNT / 3) / 2 * 3 + (i - COUNT / 3) % 2 + 1;
            snprintf(text, sizeof text, "%06d", number);
            assert_memory_equal(s->pixels + i * VALUES, text, VALUES);
            assert_int_equal(s->label[i], i >= COUNT / 3);
        }
        image_set_free(s);
        reader.progress = NULL;

        /* the first that fails is named, whichever thread met it first */
        put("b/070.jpg", "bad");
        put("b/071.jpg", "bad");
        expect_error(NULL, 0, ERR_DAMAGED, "b/070.jpg: this is bad");
        put("b/070.jpg", "000070");
        put("b/071.jpg", "000071");
    }
    reader.pool = NULL;
    pthreadpool_destroy(pool);
}

static void classes(void **state)
{
    (void)state;
    static char *labels[] = {"dog", "cat", "bird"};
    put("1.jpg", "1");
    expect_error(NULL, 0, ERR_INPUT, "no labels");
    put("labels.csv", "1.jpg,cat\n1.jpg,dog\n");
    struct image_set *s = open_set(dir, NULL, 0); /* sorted */
    assert_true(s->classes == 2 && s->label[0] == 0 && s->label[1] == 1);
    assert_string_equal(s->labels[0], "cat");
    image_set_free(s);
    s = open_set(dir, labels, 3); /* as given */
    assert_true(s->classes == 3 && s->label[0] == 1 && s->label[1] == 0);
    assert_string_equal(s->labels[2], "bird");
    image_set_free(s);
    put("labels.csv", "1.jpg,4\n1.jpg,2\n");
    s = open_set(dir, NULL, 0); /* numbers */
    assert_true(s->classes == 5 && s->label[0] == 4);
    assert_string_equal(s->labels[3], "3");
    image_set_free(s);
    expect_error(labels, 3, ERR_INPUT, "classes are 0 to 2");
    put("labels.csv", "1.jpg,65535\n");
    s = open_set(dir, NULL, 0);
    assert_int_equal(s->classes, 65536);
    image_set_free(s);
    put("labels.csv", "1.jpg,65536\n");
    expect_error(NULL, 0, ERR_INPUT, "1.jpg: its label is 65536");
    image_set_free(NULL);
}

static void limits(void **state)
{
    (void)state;
    put("labels.csv", "1.jpg,0\n1.jpg,1\n");
    put("1.jpg", "1");
    reader.bytes_max = 2 * VALUES;
    image_set_free(open_set(dir, NULL, 0));
    reader.bytes_max--;
    decoded = 0;
    expect_error(NULL, 0, ERR_TOO_LARGE, "2 images of 2x1 pixels");
    assert_int_equal(decoded, 0);
    reader.bytes_max = 0;
}

static void write_records(const char *name, int count, int first)
{
    uint8_t *records = calloc((size_t)count, RECORD);
    for (int i = 0; i < count; i++) {
        records[i * RECORD] = (uint8_t)((first + i) % 10);
        records[i * RECORD + 1] = (uint8_t)(first + i); /* red of the first pixel */
    }
    files_write(dir, name, records, (size_t)count * RECORD);
    free(records);
}

static void replacing(void **state)
{
    (void)state;
    static const struct {
        const char *indices, *says;
    } bad[] = {
        {"12\n3\n", "2 lines for 3 images"},
        {"12\n3\n4\n5\n", "more than 3 lines"},
        {"12\n3\n40\n", "line 3: there is no image of that number"},
        {"12\n3\n3\n", "line 3: that number is there twice"},
        {"12\n3\n-4\n", "line 3 is '-4'"},
        {"12\n\n4\n", "line 2 is ''"},
        {"12\n3 4\n", "line 2 is '3 4'"},
        {"12\n1234567890\n5\n", "line 2 is '1234567890'"},
        {"12\n3\n5\n", "its label is 4, but that of image 5, whose place it takes, is 5"},
        {"", "0 lines for 3 images"},
    };
    write_records("set.bin", 40, 0);
    struct image_set *s = open_set(files_path(dir, "set.bin"), NULL, 0);
    struct err e;
    assert_int_equal(s->classes, 10);
    assert_string_equal(s->labels[9], "truck");

    uint8_t better[3 * RECORD] = {0}; /* of 12, 3 and 4 */
    static const int places[] = {12, 3, 4};
    for (int i = 0; i < 3; i++) {
        better[i * RECORD] = (uint8_t)(places[i] % 10);
        better[i * RECORD + 1] = (uint8_t)(200 + i);
    }
    files_write(dir, "better.bin", better, sizeof better);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put("places.txt", bad[i].indices);
        assert_int_equal(image_set_replace(s, files_path(dir, "better.bin"), files_path(dir, "places.txt"), &reader, &e), -1);
        if (!strstr(e.text, bad[i].says))
            fail_msg("expected '%s', got: %s", bad[i].says, e.text);
    }
    assert_int_equal(image_set_replace(s, files_path(dir, "better.bin"), files_path(dir, "none.txt"), &reader, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_int_equal(image_set_replace(s, files_path(dir, "none.bin"), files_path(dir, "places.txt"), &reader, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    image_set_free(s);

    s = open_set(files_path(dir, "set.bin"), NULL, 0);
    put("places.txt", "12\r\n3\n4");
    if (image_set_replace(s, files_path(dir, "better.bin"), files_path(dir, "places.txt"), &reader, &e) < 0)
        fail_msg("%s", e.text);
    for (int i = 0; i < 40; i++) {
        assert_int_equal(s->label[i], i % 10);
        assert_int_equal(s->pixels[i * VALUES], i == 12 ? 200 : i == 3 ? 201 : i == 4 ? 202 : i);
    }
    image_set_free(s);
}

/* Checks that two parts make up all but `left` images; returns those of each class that validate. */
static void count_parts(const struct image_set *s, const struct image_part *t, const struct image_part *v, int left,
                        int *of_class)
{
    assert_int_equal(t->count + v->count, s->count - left);
    uint8_t *seen = calloc((size_t)s->count, 1);
    memset(of_class, 0, (size_t)s->classes * sizeof *of_class);
    for (int i = 0; i < t->count; i++) {
        assert_true(i == 0 || t->index[i] > t->index[i - 1]);
        seen[t->index[i]]++;
    }
    for (int i = 0; i < v->count; i++) {
        assert_true(i == 0 || v->index[i] > v->index[i - 1]);
        seen[v->index[i]]++;
        of_class[s->label[v->index[i]]]++;
    }
    int unseen = 0;
    for (int i = 0; i < s->count; i++) {
        assert_true(seen[i] <= 1);
        unseen += !seen[i];
    }
    assert_int_equal(unseen, left);
    free(seen);
}

static void division(void **state)
{
    (void)state;
    int of_class[10];
    struct image_part t, v, t2, v2;
    struct err e;
    write_records("set.bin", 205, 0); /* 21 of the classes 0 to 4, 20 of the others */
    struct image_set *s = open_set(files_path(dir, "set.bin"), NULL, 0);
    static const struct {
        double share;
        int each;
    } cases[] = {{0, 0}, {0.1, 2}, {0.5, 10}, {0.99, 20}, {0.01, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(image_set_split(s, cases[i].share, 1, &t, &v, &e), 0);
        count_parts(s, &t, &v, 0, of_class);
        for (int c = 0; c < 10; c++)
            assert_int_equal(of_class[c], cases[i].each - (cases[i].each == 20 && c > 4));
        image_part_free(&t);
        image_part_free(&v);
    }
    /* the seed decides */
    assert_int_equal(image_set_split(s, 0.2, 1, &t, &v, &e), 0);
    for (uint64_t seed = 1; seed < 3; seed++) {
        assert_int_equal(image_set_split(s, 0.2, seed, &t2, &v2, &e), 0);
        assert_int_equal(v2.count, v.count);
        assert_int_equal(memcmp(v2.index, v.index, (size_t)v.count * sizeof *v.index) == 0, seed == 1);
        image_part_free(&t2);
        image_part_free(&v2);
    }
    image_part_free(&t);
    image_part_free(&v);
    static const double bad[] = {-0.1, 1, 1.0 / 0.0, 0.0 / 0.0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(image_set_split(s, bad[i], 1, &t, &v, &e), -1);
        assert_int_equal(e.code, ERR_INPUT);
    }
    image_set_free(s);
}

/* CIFAR-10's own directory: what it means for testing is not trained on. */
static void held_back(void **state)
{
    (void)state;
    int of_class[10];
    struct image_part t, v;
    struct err e;
    write_records("data_batch_1.bin", 30, 0);
    write_records("data_batch_2.bin", 30, 30);
    write_records("test_batch.bin", 20, 60);
    struct image_set *s = open_set(dir, NULL, 0);
    assert_int_equal(s->count, 80);
    assert_int_equal(s->held_back, 20);
    assert_int_equal(image_set_split(s, 0, 1, &t, &v, &e), 0);
    count_parts(s, &t, &v, 0, of_class);
    assert_int_equal(v.count, 20);
    for (int i = 0; i < 20; i++)
        assert_int_equal(v.index[i], 60 + i);
    image_part_free(&t);
    image_part_free(&v);
    assert_int_equal(image_set_split(s, 0.5, 1, &t, &v, &e), 0);
    count_parts(s, &t, &v, 20, of_class);
    for (int c = 0; c < 10; c++)
        assert_int_equal(of_class[c], 3);
    assert_true(v.index[v.count - 1] < 60 && t.index[t.count - 1] < 60);
    image_part_free(&t);
    image_part_free(&v);
    image_set_free(s);

    assert_int_equal(unlink(files_path(dir, "data_batch_1.bin")), 0);
    assert_int_equal(unlink(files_path(dir, "data_batch_2.bin")), 0);
    s = open_set(dir, NULL, 0);
    assert_int_equal(image_set_split(s, 0, 1, &t, &v, &e), -1);
    assert_non_null(strstr(e.text, "test_batch.bin"));
    image_set_free(s);
}

static void no_memory(void **state)
{
    (void)state;
    write_records("a.bin", 3, 0);
    put("places.txt", "0\n1\n2\n");
    const char *path = files_path(dir, "a.bin"), *places = files_path(dir, "places.txt");
    int n, result = -1;
    for (n = 0; n < 200 && result < 0; n++) {
        struct image_set *s = NULL;
        struct image_part t = {0}, v = {0};
        struct feed *f = NULL;
        const struct feed_options o = {
            .batch = 2, .training = 1, .augment = {.mixup = 1}, .preprocess = {.scale = 1, .std = {1, 1, 1}}};
        struct err e;
        scarce_left = n;
        result = image_set_open(path, NULL, 0, &reader, &s, &e);
        if (result == 0)
            result = image_set_replace(s, path, places, &reader, &e);
        if (result == 0)
            result = image_set_split(s, 0.5, 1, &t, &v, &e);
        if (result == 0)
            result = feed_new(s, &t, &o, &f, &e);
        scarce_left = -1;
        if (result < 0 && e.code != ERR_MEMORY)
            fail_msg("%s", e.text);
        feed_free(f);
        image_part_free(&t);
        image_part_free(&v);
        image_set_free(s);
    }
    assert_in_range(n, 40, 150);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        TEST(many), TEST(classes), TEST(limits), TEST(replacing), TEST(division), TEST(held_back), TEST(no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

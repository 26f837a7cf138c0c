// SPDX-License-Identifier: MIT

#include "models/dataset.h"
#include "tests/files.h"
#include "tests/scarce.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RECORD = 3073 };

static char *dir; /* of one test */
static char *labels[] = {"cat", "dog", "crane", "tabby, tabby cat", "crane"};
enum { LABELS = sizeof labels / sizeof *labels };

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

static void put(const char *name, const char *text)
{
    files_write(dir, name, text, strlen(text));
}

static void put_dir(const char *name)
{
    assert_int_equal(mkdir(files_path(dir, name), 0700), 0);
}

/* Opens dir and compares "name=label name=label ..." and whether it counts as labelled. */
static void expect_list(char *const *names, int count, const char *expected, int labelled)
{
    struct dataset *d = NULL;
    struct err e = {0};
    char text[1000] = "";
    if (dataset_open(dir, names, count, &d, &e) < 0)
        fail_msg("%s", e.text);
    for (int i = 0; i < dataset_count(d); i++) {
        struct sample s;
        assert_int_equal(dataset_read(d, i, &s, &e), 0);
        assert_true(s.bytes && !s.pixels);
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s=%d", i ? " " : "", s.name, s.label);
    }
    assert_string_equal(text, expected);
    assert_int_equal(dataset_labelled(d), labelled);
    struct sample s;
    assert_int_equal(dataset_read(d, dataset_count(d), &s, &e), -1);
    assert_int_equal(dataset_read(d, -1, &s, &e), -1);
    dataset_close(d);
}

static void expect_error(char *const *names, int count, enum err_code code, const char *says)
{
    struct dataset *d = NULL;
    struct err e = {0};
    assert_int_equal(dataset_open(dir, names, count, &d, &e), -1);
    assert_null(d);
    if (e.code != code || !strstr(e.text, says) || !strstr(e.text, dir))
        fail_msg("expected code %d '%s', got %d: %s", (int)code, says, (int)e.code, e.text);
}

static void csv(void **state)
{
    (void)state;
    put("b.jpg", "B");
    put("a.JPEG", "A");
    put_dir("sub");
    put("sub/c.png", "C");
    put("we,ird \"x\".jpg", "W");
    put("..d.jpg", "D");

    put("labels.csv", "b.jpg,1\na.JPEG,cat\nsub/c.png,0\n");
    expect_list(labels, LABELS, "b.jpg=1 a.JPEG=0 sub/c.png=0", 1);
    put("labels.csv", "b.jpg,1\r\n\r\n a.JPEG , dog \r\nb.jpg,1"); /* CRLF, empty line, spaces, twice, no end of line */
    expect_list(labels, LABELS, "b.jpg=1 a.JPEG=1 b.jpg=1", 1);
    put("labels.csv", "\xef\xbb\xbf"
                      "file,label\nb.jpg,4\n");
    expect_list(labels, LABELS, "b.jpg=4", 1);
    put("labels.csv", "file,Class\nb.jpg,4\n");
    expect_list(labels, LABELS, "b.jpg=4", 1);
    put("labels.csv", "\"we,ird \"\"x\"\".jpg\",\"tabby, tabby cat\"\r\n\"b.jpg\" ,\"2\"\n..d.jpg,\"3\"");
    expect_list(labels, LABELS, "we,ird \"x\".jpg=3 b.jpg=2 ..d.jpg=3", 1);
    put("labels.csv", "b.jpg,999999999\n");
    expect_list(NULL, 0, "b.jpg=999999999", 1);
}

static void csv_errors(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"", "lists no images"},
        {"\n\n", "lists no images"},
        {"file,label\n", "lists no images"},
        {"b.jpg,1\nb.jpg,bird\n", "labels.csv:2: label 'bird'"},
        {"b.jpg,1\nb.jpg,label\n", "labels.csv:2: label 'label'"},
        {"b.jpg,label\n", "labels.csv:1: label 'label'"}, /* the file exists: no heading */
        {"b.jpg,crane\n", "more than one class"},
        {"b.jpg,5\n", "classes are 0 to 4"},
        {"b.jpg,-1\n", "'-1'"},
        {"b.jpg,1.0\n", "'1.0'"},
        {"b.jpg,4294967296\n", "'4294967296'"},
        {"b.jpg,\n", "label ''"},
        {"b.jpg\n", ":1: expected"},
        {"b.jpg,1,2\n", ":1: more than two"},
        {"b.jpg,tabby, tabby cat\n", "double quotes"},
        {",1\n", "no file name"},
        {"/b.jpg,1\n", "relative"},
        {"../b.jpg,1\n", "'..'"},
        {"sub/../b.jpg,1\n", "'..'"},
        {"sub/..,1\n", "'..'"},
        {"..,1\n", "'..'"},
        {"\"b.jpg,1\n", "quote"},
        {"\"b.jpg\"x,1\n", "quote"},
        {"b.jpg,\"1\n", "quote"},
        {"\"b\n.jpg\",1\nb.jpg,bird\n", "labels.csv:3:"}, /* lines are those of the file */
    };
    put("b.jpg", "B");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put("labels.csv", bad[i].text);
        expect_error(labels, LABELS, ERR_INPUT, bad[i].says);
    }
    files_write(dir, "labels.csv", "b.jpg,1\n\0", 9);
    expect_error(labels, LABELS, ERR_DAMAGED, "not a text");
    put("labels.csv", "b.jpg,cat\n");
    expect_error(NULL, 0, ERR_INPUT, "no names");
    assert_int_equal(unlink(files_path(dir, "labels.csv")), 0);
    put_dir("labels.csv");
    expect_error(labels, LABELS, ERR_INPUT, "labels.csv: not a regular file");
}

static void folders(void **state)
{
    (void)state;
    put_dir("dog");
    put_dir("cat");
    put("dog/2.jpg", "2");
    put("dog/10.webp", "10");
    put("dog/notes.txt", "");
    put("dog/.hidden.jpg", "");
    put("cat/x.Png", "x");
    put("README", "");
    expect_list(labels, LABELS, "cat/x.Png=0 dog/10.webp=1 dog/2.jpg=1", 1); /* names of classes */
    expect_list(NULL, 0, "cat/x.Png=0 dog/10.webp=1 dog/2.jpg=1", 1);        /* sorted order */
    static char *other[] = {"zebra", "yak"}, *more[] = {"zebra", "yak", "xerus"}, *swapped[] = {"dog", "cat"};
    expect_list(other, 2, "cat/x.Png=0 dog/10.webp=1 dog/2.jpg=1", 1);
    expect_list(swapped, 2, "cat/x.Png=1 dog/10.webp=0 dog/2.jpg=0", 1);
    expect_error(more, 3, ERR_INPUT, "0 of 2 folders"); /* sorted order would be a guess */
    static char *half[] = {"dog", "yak"};
    expect_error(half, 2, ERR_INPUT, "1 of 2 folders");
    put_dir("bird"); /* a class without images is a class */
    expect_list(NULL, 0, "cat/x.Png=1 dog/10.webp=2 dog/2.jpg=2", 1);
    put("loose.jpg", "");
    expect_error(labels, LABELS, ERR_INPUT, "both images and folders");
}

static void numbered_folders(void **state)
{
    (void)state;
    put_dir("10");
    put_dir("9");
    put("10/a.jpg", "");
    put("9/a.jpg", "");
    expect_list(NULL, 0, "10/a.jpg=10 9/a.jpg=9", 1);
    expect_error(labels, LABELS, ERR_INPUT, "classes are 0 to 4");
    assert_int_equal(symlink("9", files_path(dir, "3")), 0); /* links are followed */
    expect_list(NULL, 0, "10/a.jpg=10 3/a.jpg=3 9/a.jpg=9", 1);
}

static void loose_images(void **state)
{
    (void)state;
    expect_error(NULL, 0, ERR_INPUT, "no images");
    put("b.jpeg", "bytes");
    put("a.webp", "");
    put("c.gif", "");
    put("jpg", "");
    put_dir("d.jpg");
    put_dir("thumbs"); /* a folder without images does not matter */
    expect_list(labels, LABELS, "a.webp=-1 b.jpeg=-1", 0);
    assert_int_equal(symlink("b.jpeg", files_path(dir, "link.png")), 0);
    assert_int_equal(symlink("nowhere", files_path(dir, "dangling.png")), 0);
    expect_list(labels, LABELS, "a.webp=-1 b.jpeg=-1 link.png=-1", 0);

    struct dataset *d;
    struct sample s;
    struct err e;
    assert_int_equal(dataset_open(dir, NULL, 0, &d, &e), 0);
    assert_int_equal(dataset_read(d, 1, &s, &e), 0);
    assert_int_equal(s.size, 5);
    assert_memory_equal(s.bytes, "bytes", 5);
    assert_int_equal(dataset_read(d, 0, &s, &e), 0);
    assert_int_equal(s.size, 0);
    assert_int_equal(unlink(files_path(dir, "a.webp")), 0);
    assert_int_equal(dataset_read(d, 0, &s, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_non_null(strstr(e.text, "a.webp"));
    assert_int_equal(mkfifo(files_path(dir, "a.webp"), 0600), 0);
    assert_int_equal(dataset_read(d, 0, &s, &e), -1); /* and does not wait */
    assert_int_equal(e.code, ERR_INPUT);
    dataset_close(d);
    dataset_close(NULL);
}

static void file_limit(void **state)
{
    (void)state;
    struct dataset *d;
    struct sample s;
    struct err e;
    put("a.jpg", "");
    assert_int_equal(dataset_open(dir, NULL, 0, &d, &e), 0);
    assert_int_equal(truncate(files_path(dir, "a.jpg"), DATASET_FILE_MAX), 0);
    assert_int_equal(dataset_read(d, 0, &s, &e), 0);
    assert_int_equal(s.size, DATASET_FILE_MAX);
    assert_int_equal(truncate(files_path(dir, "a.jpg"), DATASET_FILE_MAX + 1), 0);
    assert_int_equal(dataset_read(d, 0, &s, &e), -1);
    assert_int_equal(e.code, ERR_TOO_LARGE);
    dataset_close(d);
}

static void image_limit(void **state)
{
    (void)state;
    struct dataset *d;
    struct err e;
    static const char line[] = "a,1\n";
    char *text = malloc((DATASET_IMAGES_MAX + 1) * (sizeof line - 1));
    assert_non_null(text);
    for (size_t i = 0; i <= DATASET_IMAGES_MAX; i++)
        memcpy(text + i * (sizeof line - 1), line, sizeof line - 1);
    files_write(dir, "labels.csv", text, DATASET_IMAGES_MAX * (sizeof line - 1));
    assert_int_equal(dataset_open(dir, NULL, 0, &d, &e), 0);
    assert_int_equal(dataset_count(d), DATASET_IMAGES_MAX);
    dataset_close(d);
    files_write(dir, "labels.csv", text, (DATASET_IMAGES_MAX + 1) * (sizeof line - 1));
    expect_error(NULL, 0, ERR_TOO_LARGE, "more than");
    free(text);
    assert_int_equal(unlink(files_path(dir, "labels.csv")), 0);

    put("a.bin", ""); /* a hole: records of zeros */
    assert_int_equal(truncate(files_path(dir, "a.bin"), (off_t)DATASET_IMAGES_MAX * RECORD), 0);
    assert_int_equal(dataset_open(dir, NULL, 0, &d, &e), 0);
    assert_int_equal(dataset_count(d), DATASET_IMAGES_MAX);
    dataset_close(d);
    uint8_t record[RECORD] = {0};
    files_write(dir, "b.bin", record, sizeof record);
    assert_int_equal(dataset_open(dir, NULL, 0, &d, &e), -1);
    assert_int_equal(e.code, ERR_TOO_LARGE);
}

static void cifar(void **state)
{
    (void)state;
    static uint8_t records[5][RECORD];
    for (int r = 0; r < 5; r++) {
        records[r][0] = (uint8_t)(r + 5);
        for (int i = 1; i < RECORD; i++)
            records[r][i] = (uint8_t)(i * 31 + r + i / 1024);
    }
    files_write(dir, "b.bin", records[0], 2 * RECORD);
    files_write(dir, "a.BIN", records[2], 3 * RECORD);
    put("readme.html", "");
    struct dataset *d = NULL;
    struct sample s;
    struct err e;
    static const struct {
        const char *name;
        int record;
    } order[] = {{"a.BIN[0]", 2}, {"a.BIN[1]", 3}, {"a.BIN[2]", 4}, {"b.bin[0]", 0}, {"b.bin[1]", 1}};
    assert_int_equal(dataset_open(dir, NULL, 0, &d, &e), 0);
    assert_int_equal(dataset_count(d), 5);
    assert_int_equal(dataset_labelled(d), 1);
    for (int i = 4; i >= 0; i--) {
        const uint8_t *record = records[order[i].record];
        assert_int_equal(dataset_read(d, i, &s, &e), 0);
        assert_string_equal(s.name, order[i].name);
        assert_int_equal(s.label, record[0]);
        assert_true(s.width == 32 && s.height == 32 && s.pixels && !s.bytes);
        for (int y = 0; y < 32; y++)
            for (int x = 0; x < 32; x++)
                for (int c = 0; c < 3; c++)
                    assert_int_equal(s.pixels[(32 * y + x) * 3 + c], record[1 + 1024 * c + 32 * y + x]);
    }
    dataset_close(d);

    /* One file; ten classes; a file that shrinks. */
    assert_int_equal(dataset_open(files_path(dir, "b.bin"), NULL, 0, &d, &e), 0);
    assert_int_equal(dataset_count(d), 2);
    assert_int_equal(dataset_read(d, 1, &s, &e), 0);
    assert_int_equal(s.label, 6);
    records[1][0] = 10;
    files_write(dir, "b.bin", records[0], 2 * RECORD);
    assert_int_equal(dataset_read(d, 1, &s, &e), -1);
    assert_int_equal(e.code, ERR_DAMAGED);
    assert_non_null(strstr(e.text, "label 10"));
    assert_int_equal(truncate(files_path(dir, "b.bin"), 2 * RECORD - 1), 0);
    assert_int_equal(dataset_read(d, 0, &s, &e), 0);
    assert_int_equal(dataset_read(d, 1, &s, &e), -1);
    assert_int_equal(e.code, ERR_DAMAGED);
    dataset_close(d);

    static const off_t sizes[] = {2 * RECORD - 1, RECORD + 1, 1, 0};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        assert_int_equal(truncate(files_path(dir, "b.bin"), sizes[i]), 0);
        expect_error(NULL, 0, ERR_DAMAGED, "b.bin");
        d = NULL;
        assert_int_equal(dataset_open(files_path(dir, "b.bin"), NULL, 0, &d, &e), -1);
        assert_int_equal(e.code, ERR_DAMAGED);
        assert_null(d);
    }
    assert_int_equal(dataset_open(files_path(dir, "none"), NULL, 0, &d, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
}

static void no_memory(void **state)
{
    (void)state;
    put_dir("cat");
    put_dir("dog");
    put("cat/a.jpg", "a");
    put("dog/b.jpg", "b");
    for (int with_csv = 0; with_csv < 2; with_csv++) {
        struct dataset *d = NULL;
        struct sample s;
        struct err e;
        int n, result = -1;
        if (with_csv)
            put("labels.csv", "cat/a.jpg,0\ndog/b.jpg,dog\n");
        for (n = 0; n < 100 && result < 0; n++) {
            scarce_left = n;
            result = dataset_open(dir, labels, LABELS, &d, &e);
            if (result == 0 && dataset_read(d, 0, &s, &e) < 0) {
                dataset_close(d);
                result = -1;
            }
            scarce_left = -1;
            if (result < 0)
                assert_int_equal(e.code, ERR_MEMORY);
        }
        assert_in_range(n, 5, 50);
        dataset_close(d);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        TEST(csv),        TEST(csv_errors),  TEST(folders), TEST(numbered_folders), TEST(loose_images),
        TEST(file_limit), TEST(image_limit), TEST(cifar),   TEST(no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

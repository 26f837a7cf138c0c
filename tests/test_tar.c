// SPDX-License-Identifier: MIT
//
// Tar archives of every format as data sets, and what is wrong with some.

#include "models/dataset.h"
#include "models/network.h"
#include "models/tar.h"
#include "tests/files.h"
#include "tests/make_tar.h"
#include "tests/scarce.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RECORD = 3073 };

static char *dir; /* of one test */
static struct tar_archive archive;

static int make_dir(void **state)
{
    (void)state;
    dir = files_make_dir();
    archive.size = 0;
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    files_remove_dir(dir);
    return 0;
}

static void put(char type, const char *name, const char *content)
{
    tar_add(&archive, TAR_USTAR, type, name, content, strlen(content));
}

/* ---- members */

struct seen {
    char text[16384];
    int fd;
};

/* "name=content " for a file, "name> " for a link, "name/ " for the rest. */
static int see(void *user, const struct tar_member *m, struct err *e)
{
    struct seen *s = user;
    size_t length = strlen(s->text);
    (void)e;
    snprintf(s->text + length, sizeof s->text - length, "%s%s", m->name,
             m->kind == TAR_FILE   ? "="
             : m->kind == TAR_LINK ? "> "
                                   : "/ ");
    length = strlen(s->text);
    if (m->kind == TAR_FILE) {
        assert_true(m->size < sizeof s->text - length - 2);
        assert_int_equal(pread(s->fd, s->text + length, m->size, (off_t)m->offset), (ssize_t)m->size);
        strcpy(s->text + length + m->size, " ");
    } else {
        assert_true(m->offset == 0 && m->size == 0);
    }
    return 0;
}

static int walk(struct seen *s, struct err *e)
{
    int result;
    *s = (struct seen){.text = ""};
    files_write(dir, "x.tar", archive.bytes, archive.size);
    s->fd = open(files_path(dir, "x.tar"), O_RDONLY | O_CLOEXEC);
    assert_true(s->fd >= 0);
    result = tar_walk(s->fd, archive.size, see, s, e);
    close(s->fd);
    return result;
}

static void expect_members(const char *text)
{
    static struct seen s;
    struct err e;
    if (walk(&s, &e) < 0)
        fail_msg("%s", e.text);
    assert_string_equal(s.text, text);
}

static void expect_wrong(enum err_code code, const char *says)
{
    static struct seen s;
    struct err e;
    assert_int_equal(walk(&s, &e), -1);
    if (e.code != code || !strstr(e.text, says) || !strstr(e.text, "at byte "))
        fail_msg("expected code %d '%s', got %d: %s", (int)code, says, (int)e.code, e.text);
    archive.size = 0;
}

static void formats(void **state)
{
    (void)state;
    char long_name[141];
    memset(long_name, 'n', 140);
    long_name[140] = '\0';
    long_name[70] = '/';
    tar_end(&archive);
    expect_members("");
    archive.size = 0;
    for (int format = TAR_USTAR; format <= TAR_OLD; format++) {
        tar_add(&archive, format, format == TAR_OLD ? '\0' : '0', "./a", "A", 1);
        tar_add(&archive, format, '5', "folder/", "", 0);
        tar_add(&archive, format, '0', "folder/empty", "", 0);
        tar_add(&archive, format, '2', "soft", "", 0);
        tar_add(&archive, format, '1', "hard", "", 0);
        tar_add(&archive, format, '6', "fifo", "", 0);
        tar_add(&archive, format, '\0', "old folder/", "", 0);
        tar_add(&archive, format, '5', "./", "", 0);
        tar_add(&archive, format, '7', ".//b", "BB", 2);
        tar_end(&archive);
        memset(archive.bytes + archive.size, 'x', 512); /* what follows the end mark does not matter */
        archive.size += 512;
        expect_members("a=A folder// folder/empty= soft> hard> fifo/ old folder// b=BB ");
        archive.size = 0;
    }

    /* names of 101 and more bytes: two fields, GNU's member in front, pax records; each for the next member only */
    char expected[500], path[160];
    put('0', long_name, "1");
    tar_add(&archive, TAR_GNU, 'L', "././@LongLink", long_name, sizeof long_name);
    tar_add(&archive, TAR_GNU, '0', "cut", "2", 1);
    tar_add(&archive, TAR_GNU, 'K', "././@LongLink", long_name, sizeof long_name);
    tar_add(&archive, TAR_GNU, '2', "link", "", 0);
    snprintf(path, sizeof path, "path=%s", long_name);
    const char *const records[] = {"mtime=1.5", path, "size=3", "comment=a=b", NULL}, *const global[] = {"comment=abc", NULL};
    tar_add_pax(&archive, 'g', global);
    tar_add_pax(&archive, 'x', records);
    uint8_t *h = tar_add(&archive, TAR_USTAR, '0', "cut", "3.3", 3);
    memcpy(h + 124, "77777777777", 11); /* what pax says counts */
    tar_seal(h);
    put('0', "last", "4");
    tar_end(&archive);
    snprintf(expected, sizeof expected, "%s=1 %s=2 link> %s=3.3 last=4 ", long_name, long_name, long_name);
    expect_members(expected);
    archive.size = 0;

    /* the longest names: 155 and 100 bytes; 100 bytes without a terminator */
    char longest[257];
    memset(longest, 'm', 256);
    longest[155] = '/';
    longest[256] = '\0';
    put('0', longest, "");
    put('0', longest + 156, "");
    tar_end(&archive);
    char both[400];
    snprintf(both, sizeof both, "%s= %s= ", longest, longest + 156);
    expect_members(both);
    archive.size = 0;

    /* GNU's binary sizes; spaces around octal ones; contents of just one block */
    static char block[513];
    memset(block, 'z', 512);
    h = tar_add(&archive, TAR_GNU, '0', "a", block, 512);
    memcpy(h + 124, "\x80\0\0\0\0\0\0\0\0\0\2\0", 12);
    tar_seal(h);
    h = tar_add(&archive, TAR_GNU, '0', "b", block, 512);
    memcpy(h + 124, "      1000 \0", 12);
    tar_seal(h);
    tar_end(&archive);
    static char two[1100];
    snprintf(two, sizeof two, "a=%s b=%s ", block, block);
    expect_members(two);
}

static void damage(void **state)
{
    (void)state;
    static const char *const sizes[] = {"0000000000x", "           ", "-0000000001",
                                        "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "\x80\1\0\0\0\0\0\0\0\0\0"};
    expect_wrong(ERR_DAMAGED, "no end mark");
    put('0', "a", "A");
    expect_wrong(ERR_DAMAGED, "no end mark");
    put('0', "a", "A");
    archive.size -= 1;
    expect_wrong(ERR_DAMAGED, "cut off");
    put('0', "a", "A");
    tar_end(&archive);
    archive.size -= 513; /* not even one whole block of zeros */
    expect_wrong(ERR_DAMAGED, "no end mark");
    put('0', "a", "A");
    tar_end(&archive);
    archive.bytes[3] ^= 1;
    expect_wrong(ERR_DAMAGED, "at byte 0: no header");
    put('0', "a", "A");
    put('0', "b", "B");
    tar_end(&archive);
    archive.bytes[1024 + 148] = 'x';
    expect_wrong(ERR_DAMAGED, "at byte 1024: no header");
    for (size_t i = 0; i < 5; i++) {
        uint8_t *h = tar_add(&archive, TAR_USTAR, '0', "a", "A", 1);
        memcpy(h + 124, sizes[i], i == 4 ? 12 : 11);
        tar_seal(h);
        tar_end(&archive);
        expect_wrong(ERR_DAMAGED, "is no number");
    }
    uint8_t *h = tar_add(&archive, TAR_USTAR, '0', "a", "A", 1);
    memcpy(h + 124, "77777777777", 11);
    tar_seal(h);
    tar_end(&archive);
    expect_wrong(ERR_DAMAGED, "beyond the end");
    h = tar_add(&archive, TAR_GNU, '0', "a", "A", 1);
    memcpy(h + 124, "\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", 12);
    tar_seal(h);
    tar_end(&archive);
    expect_wrong(ERR_DAMAGED, "beyond the end");
    put('0', "", "A");
    tar_end(&archive);
    expect_wrong(ERR_DAMAGED, "a name that is empty");

    static const struct {
        char type;
        enum err_code code;
        const char *says;
    } types[] = {{'S', ERR_UNSUPPORTED, "sparse"}, {'M', ERR_UNSUPPORTED, "several parts"}, {'Z', ERR_UNSUPPORTED, "type 0x5a"}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        put(types[i].type, "a", "A");
        tar_end(&archive);
        expect_wrong(types[i].code, types[i].says);
    }
}

static void damaged_extensions(void **state)
{
    (void)state;
    static const char *const bad[] = {"path=a\n",
                                      "9 path=a\n\n",
                                      "99 path=a\n",
                                      "10 path=ab",
                                      "0 path=a\n",
                                      "2 \n3 \n",
                                      "4 a\n",
                                      "-9 path=a\n",
                                      "1",
                                      " path=a\n",
                                      "999999999999999999999 path=a\n"};
    static const char *const sparse[] = {"GNU.sparse.major=1", NULL}, *const path[] = {"path=a", NULL},
                             *const size[] = {"size=1", NULL}, *const odd[] = {"size=1x", NULL}, *const none[] = {"path=", NULL};
    static char large[TAR_EXTENDED_MAX / 2];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put('x', "h", bad[i]);
        tar_end(&archive);
        expect_wrong(ERR_DAMAGED, "no list of records");
    }
    tar_add(&archive, TAR_USTAR, 'x', "h", "12 path=a\0b\n", 12);
    tar_end(&archive);
    expect_wrong(ERR_DAMAGED, "a NUL");
    tar_add_pax(&archive, 'x', sparse);
    tar_end(&archive);
    expect_wrong(ERR_UNSUPPORTED, "sparse");
    tar_add_pax(&archive, 'g', path);
    tar_end(&archive);
    expect_wrong(ERR_UNSUPPORTED, "global");
    tar_add_pax(&archive, 'g', size);
    tar_end(&archive);
    expect_wrong(ERR_UNSUPPORTED, "global");
    tar_add_pax(&archive, 'x', odd);
    tar_end(&archive);
    expect_wrong(ERR_DAMAGED, "no number");
    tar_add_pax(&archive, 'x', none);
    tar_end(&archive);
    expect_wrong(ERR_DAMAGED, "empty");
    put('L', "h", "");
    tar_end(&archive);
    expect_wrong(ERR_DAMAGED, "empty");

    /* limits, and one beyond */
    memset(large, 'n', sizeof large);
    tar_add(&archive, TAR_GNU, 'L', "h", large, TAR_NAME_MAX);
    put('0', "a", "A");
    tar_end(&archive);
    static struct seen s;
    struct err e;
    assert_int_equal(walk(&s, &e), 0);
    assert_int_equal(strlen(s.text), TAR_NAME_MAX + 3);
    archive.size = 0;
    tar_add(&archive, TAR_GNU, 'L', "h", large, TAR_NAME_MAX + 1);
    tar_end(&archive);
    expect_wrong(ERR_TOO_LARGE, "4097 bytes");
    /* the limit of extended headers, in a file with a hole */
    for (int beyond = 0; beyond < 2; beyond++) {
        uint8_t *h = tar_add(&archive, TAR_USTAR, 'x', "h", "", 0);
        snprintf((char *)h + 124, 12, "%011o", TAR_EXTENDED_MAX + beyond);
        tar_seal(h);
        files_write(dir, "x.tar", archive.bytes, archive.size);
        s.fd = open(files_path(dir, "x.tar"), O_RDWR | O_CLOEXEC);
        assert_int_equal(ftruncate(s.fd, 1 << 20), 0);
        assert_int_equal(tar_walk(s.fd, 1 << 20, see, &s, &e), -1);
        close(s.fd);
        assert_int_equal(e.code, beyond ? ERR_TOO_LARGE : ERR_DAMAGED);
        archive.size = 0;
    }
    /* an archive that becomes shorter than it was */
    put('0', "a", "");
    tar_end(&archive);
    files_write(dir, "x.tar", archive.bytes, 512);
    s.fd = open(files_path(dir, "x.tar"), O_RDONLY | O_CLOEXEC);
    assert_int_equal(tar_walk(s.fd, archive.size, see, &s, &e), -1);
    assert_int_equal(e.code, ERR_DAMAGED);
    close(s.fd);
}

/* ---- data sets */

static const char *tar_path(void)
{
    files_write(dir, "x.tar", archive.bytes, archive.size);
    return files_path(dir, "x.tar");
}

/* "name=label:content ..." and whether it is labelled; then empties the archive. */
static void expect_set(char *const *labels, int count, int labelled, const char *expected)
{
    struct dataset *d = NULL;
    struct err e;
    char text[2000] = "";
    tar_end(&archive);
    if (dataset_open(tar_path(), labels, count, &d, &e) < 0)
        fail_msg("%s", e.text);
    for (int i = 0; i < dataset_count(d); i++) {
        struct sample s;
        if (dataset_read(d, i, &s, &e) < 0)
            fail_msg("%s", e.text);
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s=%d:%.*s", i ? " " : "", s.name, s.label, (int)s.size,
                 (const char *)s.bytes);
    }
    assert_string_equal(text, expected);
    assert_int_equal(dataset_labelled(d), labelled);
    dataset_close(d);
    archive.size = 0;
}

static void expect_no_set(enum err_code code, const char *says)
{
    struct dataset *d = NULL;
    struct err e;
    assert_int_equal(dataset_open(tar_path(), NULL, 0, &d, &e), -1);
    assert_null(d);
    if (e.code != code || !strstr(e.text, says) || !strstr(e.text, "x.tar"))
        fail_msg("expected code %d '%s', got %d: %s", (int)code, says, (int)e.code, e.text);
    archive.size = 0;
}

static void sets(void **state)
{
    (void)state;
    static char *labels[] = {"dog", "cat"};
    /* one folder per class, below a shared one; what macOS adds beside it */
    put('0', "./._photos", "junk");
    put('5', "./photos/", "");
    put('0', "./photos/dog/2.jpg", "two");
    put('0', "./photos/dog/10.webp", "ten");
    put('0', "./photos/dog/._2.jpg", "junk");
    put('0', "./photos/cat/x.Png", "x");
    put('0', "./photos/cat-b/y.png", "y"); /* sorts between "cat" and "cat/" */
    put('0', "./photos/README", "text");
    expect_set(NULL, 0, 1, "cat/x.Png=0:x cat-b/y.png=1:y dog/10.webp=2:ten dog/2.jpg=2:two");
    put('0', "dog/a.jpg", "d");
    put('0', "cat/a.jpg", "c");
    expect_set(labels, 2, 1, "cat/a.jpg=1:c dog/a.jpg=0:d");
    /* labels.csv, deeper below */
    put('0', "a/b/labels.csv", "file,label\ni/1.jpg,1\n2.jpg,0\n");
    put('0', "a/b/i/1.jpg", "one");
    put('0', "a/b/2.jpg", "two");
    expect_set(NULL, 0, 1, "i/1.jpg=1:one 2.jpg=0:two");
    put('0', "labels.csv", "1.jpg,dog\n");
    put('0', "1.jpg", "one");
    expect_set(labels, 2, 1, "1.jpg=0:one");
    /* loose, with and without numbers */
    put('0', "set/b.jpg", "b");
    put('0', "set/a.jpg", "a");
    expect_set(NULL, 0, 0, "a.jpg=-1:a b.jpg=-1:b");
    put('0', "1_7.jpg", "one");
    put('0', "0_3.jpg", "zero");
    put('0', "2_7.png", "two");
    expect_set(NULL, 0, 1, "0_3.jpg=3:zero 1_7.jpg=7:one 2_7.png=7:two");
    /* one file */
    put('0', "00_4.jpg", "");
    expect_set(NULL, 0, 1, "00_4.jpg=4:");

    put('0', "labels.csv", "gone.jpg,1\n");
    tar_end(&archive);
    struct dataset *d;
    struct sample s;
    struct err e;
    assert_int_equal(dataset_open(tar_path(), NULL, 0, &d, &e), 0);
    assert_int_equal(dataset_read(d, 0, &s, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_non_null(strstr(e.text, "gone.jpg"));
    dataset_close(d);
    archive.size = 0;
}

static void records(void **state)
{
    (void)state;
    static uint8_t record[4][RECORD];
    struct dataset *d;
    struct sample s;
    struct err e;
    for (int i = 0; i < 4; i++) {
        memset(record[i], 10 * i, RECORD);
        record[i][0] = (uint8_t)i;
    }
    tar_add(&archive, TAR_USTAR, '0', "cifar/b.bin", record[2], 2 * RECORD);
    tar_add(&archive, TAR_USTAR, '0', "cifar/a.bin", record[0], 2 * RECORD);
    put('0', "cifar/readme.html", "text");
    tar_end(&archive);
    assert_int_equal(dataset_open(tar_path(), NULL, 0, &d, &e), 0);
    assert_int_equal(dataset_count(d), 4);
    for (int i = 3; i >= 0; i--) {
        assert_int_equal(dataset_read(d, i, &s, &e), 0);
        assert_int_equal(s.label, i);
        assert_int_equal(s.pixels[0], 10 * i);
        assert_int_equal(s.pixels[3071], 10 * i);
    }
    assert_int_equal(dataset_read(d, 3, &s, &e), 0);
    assert_string_equal(s.name, "b.bin[1]");
    assert_int_equal(truncate(files_path(dir, "x.tar"), 700), 0);
    assert_int_equal(dataset_read(d, 3, &s, &e), -1); /* no signal */
    assert_int_equal(e.code, ERR_DAMAGED);
    dataset_close(d);
    archive.size = 0;
    tar_add(&archive, TAR_USTAR, '0', "a.bin", record[0], 2 * RECORD - 1);
    tar_end(&archive);
    expect_no_set(ERR_DAMAGED, "a.bin");
}

static void wrong_sets(void **state)
{
    (void)state;
    tar_end(&archive);
    expect_no_set(ERR_INPUT, "holds no files");
    put('0', "notes.txt", "text");
    tar_end(&archive);
    expect_no_set(ERR_INPUT, "no images");
    put('0', "a.jpg", "1");
    put('0', "./a.jpg", "2");
    tar_end(&archive);
    expect_no_set(ERR_INPUT, "there twice");
    put('0', "a.jpg", "1");
    put('2', "b.jpg", "");
    tar_end(&archive);
    expect_no_set(ERR_UNSUPPORTED, "--dereference");
    put('0', "a.jpg", "1");
    expect_no_set(ERR_DAMAGED, "no end mark");
    put('0', "a.jpg", "1");
    put('0', "cat/a.jpg", "1");
    tar_end(&archive);
    expect_no_set(ERR_INPUT, "both images and folders");
    memset(archive.bytes, 'x', 2048);
    archive.size = 2048;
    expect_no_set(ERR_DAMAGED, "no header of a tar archive");

    static const struct {
        const char *bytes, *command;
    } compressed[] = {{"\xfd"
                       "7zXZ",
                       "xz -d"},
                      {"\x1f\x8b\x08", "gzip -d"},
                      {"BZh9", "bzip2 -d"},
                      {"\x28\xb5\x2f\xfd", "zstd -d"},
                      {"PK\x03\x04", "unzip"}};
    for (size_t i = 0; i < sizeof compressed / sizeof *compressed; i++) {
        archive.size = strlen(compressed[i].bytes);
        memcpy(archive.bytes, compressed[i].bytes, archive.size);
        expect_no_set(ERR_UNSUPPORTED, compressed[i].command);
    }
}

/* Photos of a camera have two numbers in their names: these are no labels. */
static void numbered(void **state)
{
    (void)state;
    static const char *const unlabelled[][3] = {{"20240101_120000.jpg", "20240101_120001.jpg", NULL},
                                                {"0_1.jpg", "2_1.jpg", NULL},
                                                {"0_1.jpg", "0_2.jpg", NULL},
                                                {"0_1.jpg", "1_.jpg", NULL},
                                                {"0_1.jpg", "_1.jpg", NULL},
                                                {"0_1.jpg", "1_1b.jpg", NULL},
                                                {"0_1.jpg", "1_0000000001.jpg", NULL},
                                                {"0_1.jpg", "1.jpg", NULL}};
    for (size_t i = 0; i < sizeof unlabelled / sizeof *unlabelled; i++) {
        char expected[200];
        put('0', unlabelled[i][0], "");
        put('0', unlabelled[i][1], "");
        snprintf(expected, sizeof expected, "%s=-1: %s=-1:", unlabelled[i][0], unlabelled[i][1]);
        expect_set(NULL, 0, 0, expected);
    }
    put('0', "1_0.jpg", "");
    put('0', "0_999999999.jpg", "");
    expect_set(NULL, 0, 1, "0_999999999.jpg=999999999: 1_0.jpg=0:");
    static char *labels[] = {"cat", "dog"};
    struct dataset *d = NULL;
    struct err e;
    put('0', "0_1.jpg", "");
    put('0', "1_2.jpg", "");
    tar_end(&archive);
    assert_int_equal(dataset_open(tar_path(), labels, 2, &d, &e), -1);
    assert_non_null(strstr(e.text, "1_2.jpg: label 2, but the classes are 0 to 1"));
}

static void expect_names(const char *path, const char *expected)
{
    char **names = NULL, text[400] = "";
    int count = -1;
    struct err e;
    if (dataset_class_names(path, &names, &count, &e) < 0)
        fail_msg("%s", e.text);
    for (int i = 0; i < count; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", i ? "," : "", names[i]);
    assert_string_equal(text, expected);
    labels_free(names, count);
    archive.size = 0;
}

static void class_names(void **state)
{
    (void)state;
    put('0', "photos/dog/a.jpg", "");
    put('0', "photos/cat/a.jpg", "");
    put('0', "photos/bird/none.txt", "");
    tar_end(&archive);
    expect_names(tar_path(), "bird,cat,dog");
    put('0', "10/a.jpg", "");
    put('0', "9/a.jpg", "");
    tar_end(&archive);
    expect_names(tar_path(), "");
    put('0', "labels.csv", "file,label\n1.jpg,yak\n2.jpg,3\n3.jpg,auk\n4.jpg,yak\n");
    tar_end(&archive);
    expect_names(tar_path(), "auk,yak");
    put('0', "labels.csv", "1.jpg,1\n2.jpg,0\n");
    tar_end(&archive);
    expect_names(tar_path(), "");
    put('0', "a.jpg", "");
    put('0', "notes/a.txt", "");
    tar_end(&archive);
    expect_names(tar_path(), "");
    static uint8_t record[RECORD];
    tar_add(&archive, TAR_USTAR, '0', "a.bin", record, RECORD);
    tar_end(&archive);
    static const char cifar[] = "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck";
    expect_names(tar_path(), cifar);
    files_write(dir, "a.bin", record, RECORD);
    expect_names(files_path(dir, "a.bin"), cifar);
    assert_int_equal(unlink(files_path(dir, "x.tar")), 0);
    expect_names(dir, cifar);

    char **names = NULL;
    int count = -1;
    struct err e;
    put('0', "labels.csv", "1.jpg,yak\n2.jpg\n");
    tar_end(&archive);
    assert_int_equal(dataset_class_names(tar_path(), &names, &count, &e), -1);
    assert_non_null(strstr(e.text, "x.tar/labels.csv:2"));
    archive.size = 0;
    put('0', "\xff/a.jpg", "");
    put('0', "b/a.jpg", "");
    tar_end(&archive);
    assert_int_equal(dataset_class_names(tar_path(), &names, &count, &e), -1);
    assert_non_null(strstr(e.text, "UTF-8"));
    assert_true(!names && count == -1);
}

/* What programs write, when one is there. */
static void tar_programs(void **state)
{
    (void)state;
    char command[5000];
    static const char *const programs[] = {"tar --format=ustar", "tar --format=gnu",    "tar --format=pax",
                                           "tar --format=v7",    "bsdtar --format=pax", "bsdtar --format=ustar"};
    char long_name[120];
    memset(long_name, 'n', sizeof long_name - 5);
    strcpy(long_name + sizeof long_name - 5, ".jpg");
    assert_int_equal(mkdir(files_path(dir, "set"), 0700), 0);
    assert_int_equal(mkdir(files_path(dir, "set/dog"), 0700), 0);
    assert_int_equal(mkdir(files_path(dir, "set/c\xc3\xa4t"), 0700), 0);
    files_write(dir, "set/dog/1.jpg", "one", 3);
    files_write(dir, "set/c\xc3\xa4t/2.jpg", "two", 3);
    int tried = 0;
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++) {
        struct dataset *d = NULL;
        struct sample s;
        struct err e;
        if (i == 1) /* beyond what v7 and ustar hold, in later rounds */
            files_write(files_path(dir, "set/dog"), long_name, "long", 4);
        if (i == 3)
            assert_int_equal(unlink(files_path(files_path(dir, "set/dog"), long_name)), 0);
        snprintf(command, sizeof command, "cd '%s' && %s -cf made.tar ./set 2>/dev/null", dir, programs[i]);
        if (system(command) != 0) {
            printf("SKIP %s: not there\n", programs[i]);
            continue;
        }
        tried++;
        if (dataset_open(files_path(dir, "made.tar"), NULL, 0, &d, &e) < 0)
            fail_msg("%s: %s", programs[i], e.text);
        assert_int_equal(dataset_count(d), i == 1 || i == 2 ? 3 : 2);
        assert_int_equal(dataset_read(d, 0, &s, &e), 0);
        assert_string_equal(s.name, "c\xc3\xa4t/2.jpg");
        assert_memory_equal(s.bytes, "two", 3);
        assert_int_equal(dataset_read(d, dataset_count(d) - 1, &s, &e), 0);
        assert_int_equal(s.label, 1);
        assert_memory_equal(s.bytes, i == 1 || i == 2 ? "long" : "one", 3);
        dataset_close(d);
    }
    printf("%d ways of packing\n", tried);
}

static void no_memory(void **state)
{
    (void)state;
    const char *const records_[] = {"path=photos/dog/long.jpg", NULL};
    put('0', "photos/cat/a.jpg", "a");
    tar_add_pax(&archive, 'x', records_);
    put('0', "cut", "b");
    tar_end(&archive);
    const char *path = tar_path();
    int n, result = -1;
    for (n = 0; n < 200 && result < 0; n++) {
        struct dataset *d = NULL;
        char **names = NULL;
        int count = 0;
        struct sample s;
        struct err e;
        scarce_left = n;
        result = dataset_class_names(path, &names, &count, &e);
        if (result == 0)
            result = dataset_open(path, names, count, &d, &e);
        if (result == 0)
            result = dataset_read(d, 0, &s, &e);
        scarce_left = -1;
        if (result < 0)
            assert_int_equal(e.code, ERR_MEMORY);
        labels_free(names, count);
        dataset_close(d);
    }
    assert_in_range(n, 20, 100);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        TEST(formats),    TEST(damage),   TEST(damaged_extensions), TEST(sets),         TEST(records),
        TEST(wrong_sets), TEST(numbered), TEST(class_names),        TEST(tar_programs), TEST(no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: MIT
//
// test_output.c - a file is there whole or not at all, also when its writer is killed, the disk is full or fails, and where files
// without a name cannot be had.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "models/output.h"
#include "tests/files.h"

/* ---- a system that cannot do everything */

static int without_proc, write_error, short_writes;
static int fsync_errors[2]; /* of the file, then of its directory */
static int fsyncs;

int __real_access(const char *path, int mode);
int __wrap_access(const char *path, int mode);
int __wrap_access(const char *path, int mode)
{
    if (without_proc && strncmp(path, "/proc/", 6) == 0) {
        errno = ENOENT;
        return -1;
    }
    return __real_access(path, mode);
}

ssize_t __real_write(int fd, const void *data, size_t size);
ssize_t __wrap_write(int fd, const void *data, size_t size);
ssize_t __wrap_write(int fd, const void *data, size_t size)
{
    const int error = write_error;
    if (error == EINTR)
        write_error = 0; /* once */
    if (error) {
        errno = error;
        return -1;
    }
    return __real_write(fd, data, short_writes && size > 1 ? 1 : size);
}

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
    const int error = fsync_errors[fsyncs++ % 2];
    if (error == 0)
        return __real_fsync(fd);
    errno = error;
    return -1;
}

static int with_names(void **state)
{
    (void)state;
    without_proc = 1;
    return 0;
}

static int as_it_is(void **state)
{
    (void)state;
    without_proc = 0;
    return 0;
}

static void write_text(const char *path, const char *text, int result, int expected)
{
    struct output o;
    struct err e;
    assert_int_equal(output_begin(path, &o, &e), 0);
    assert_int_equal(output_write(&o, text, strlen(text), &e), 0);
    assert_int_equal(output_end(&o, result, &e), expected);
}

static void holds(const char *path, const char *text)
{
    size_t size;
    char *have = files_read(path, &size);
    assert_non_null(have);
    assert_string_equal(have, text);
    free(have);
}

static void whole_or_not(void **state)
{
    char *dir = files_make_dir(), *path = strdup(files_path(dir, "file"));
    (void)state;
    write_text(path, "old", 0, 0);
    write_text(path, "half", -1, -1);
    holds(path, "old");
    write_text(path, "new", 0, 0);
    holds(path, "new");
    assert_int_equal(files_count(dir), 1);
    free(path);
    files_remove_dir(dir);
}

/* Where the file system knows files without a name nothing is left, else one file. */
static void killed(void **state)
{
    char *dir = files_make_dir(), *path = strdup(files_path(dir, "file"));
    (void)state;
    const int probe = open(dir, O_WRONLY | O_TMPFILE | O_CLOEXEC, 0600),
              nameless = !without_proc && probe >= 0 && access("/proc/self/fd", F_OK) == 0;
    if (probe >= 0)
        close(probe);
    write_text(path, "old", 0, 0);
    const pid_t child = fork();
    if (child == 0) {
        struct output o;
        if (output_begin(path, &o, NULL) == 0 && output_write(&o, "half", 4, NULL) == 0)
            raise(SIGKILL);
        _exit(1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    holds(path, "old");
    assert_int_equal(files_count(dir), nameless ? 1 : 2);
    write_text(path, "new", 0, 0); /* takes away what the killed one left */
    holds(path, "new");
    assert_int_equal(files_count(dir), 1);
    free(path);
    files_remove_dir(dir);
}

/* What a killed writer left in the last moment goes with the next write; what one at work has does not. */
static void left_behind(void **state)
{
    char *dir = files_make_dir(), *path = strdup(files_path(dir, "file"));
    (void)state;
    files_write(dir, ".resnetd-0.tmp", "whole", 5);
    write_text(path, "new", 0, 0);
    assert_int_equal(files_count(dir), 1);

    files_write(dir, ".resnetd-0.tmp", "at work", 7);
    const int at_work = open(files_path(dir, ".resnetd-0.tmp"), O_RDONLY | O_CLOEXEC);
    assert_int_equal(flock(at_work, LOCK_EX), 0);
    write_text(path, "newer", 0, 0);
    holds(path, "newer");
    holds(files_path(dir, ".resnetd-0.tmp"), "at work");
    close(at_work);

    assert_int_equal(unlink(files_path(dir, ".resnetd-0.tmp")), 0);
    assert_int_equal(symlink("file", files_path(dir, ".resnetd-0.tmp")), 0); /* not ours */
    write_text(path, "newest", 0, 0);
    holds(path, "newest");
    assert_int_equal(files_count(dir), 2);
    free(path);
    files_remove_dir(dir);
}

/* "old" stays, alone, and the reason is told. */
static void fails(const char *dir, const char *path, const char *reason)
{
    struct output o;
    struct err e;
    fsyncs = 0;
    assert_int_equal(output_begin(path, &o, &e), 0);
    int rc = output_write(&o, "new", 3, &e);
    assert_int_equal(output_end(&o, rc, &e), -1);
    assert_int_equal(e.code, ERR_IO);
    if (!strstr(e.text, reason))
        fail_msg("%s without %s", e.text, reason);
    holds(path, "old");
    assert_int_equal(files_count(dir), 1);
}

static void failing_disk(void **state)
{
    char *dir = files_make_dir(), *path = strdup(files_path(dir, "file"));
    struct output o;
    struct err e;
    (void)state;
    short_writes = 1;
    write_error = EINTR;
    write_text(path, "old", 0, 0);
    short_writes = 0;
    holds(path, "old");
    write_error = ENOSPC;
    fails(dir, path, "No space");
    write_error = 0;
    fsync_errors[0] = EIO;
    fails(dir, path, "Input/output");
    fsync_errors[0] = 0;
    fsync_errors[1] = EINVAL; /* directories of some file systems */
    fsyncs = 0;
    write_text(path, "new", 0, 0);
    holds(path, "new");
    fsync_errors[1] = EIO;
    fsyncs = 0;
    assert_int_equal(output_begin(path, &o, &e), 0);
    assert_int_equal(output_write(&o, "newer", 5, &e), 0);
    assert_int_equal(output_end(&o, 0, &e), -1);
    assert_non_null(strstr(e.text, "written, but"));
    holds(path, "newer");
    fsync_errors[1] = 0;
    assert_int_equal(files_count(dir), 1);
    free(path);
    files_remove_dir(dir);
}

static void nowhere(void **state)
{
    char *dir = files_make_dir();
    struct output o;
    struct err e;
    (void)state;
    assert_int_equal(output_begin(files_path(dir, "nothing/file"), &o, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    files_write(dir, "plain", "x", 1);
    assert_int_equal(output_begin(files_path(dir, "plain/file"), &o, &e), -1);
    assert_int_equal(e.code, ERR_IO);
    assert_int_equal(output_begin(files_path(dir, ""), &o, &e), -1);
    assert_int_equal(e.code, ERR_INPUT);
    assert_int_equal(mkdir(files_path(dir, "taken"), 0700), 0);
    write_text(files_path(dir, "taken"), "text", 0, -1); /* a directory is not replaced */
    assert_int_equal(files_count(dir), 2);
    files_remove_dir(dir);
}

/* A thousand writers at work, or what somebody else put under their names. */
static void no_name_left(void **state)
{
    char *dir = files_make_dir(), *path = strdup(files_path(dir, "file")), name[40];
    struct output o;
    struct err e;
    (void)state;
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, ".resnetd-%d.tmp", i);
        assert_int_equal(mkdir(files_path(dir, name), 0700), 0);
    }
    int rc = output_begin(path, &o, &e);
    if (rc == 0)
        rc = output_end(&o, 0, &e);
    assert_int_equal(rc, -1);
    assert_non_null(strstr(e.text, "too many"));
    assert_int_equal(files_count(dir), 1000);
    free(path);
    files_remove_dir(dir);
}

int main(void)
{
#define BOTH(test)                                                                                                               \
    cmocka_unit_test_setup_teardown(test, as_it_is, as_it_is), cmocka_unit_test_setup_teardown(test, with_names, as_it_is)
    const struct CMUnitTest tests[] = {BOTH(whole_or_not), BOTH(killed),  BOTH(left_behind),
                                       BOTH(failing_disk), BOTH(nowhere), BOTH(no_name_left)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

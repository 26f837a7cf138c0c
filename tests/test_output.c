// SPDX-License-Identifier: MIT
//
// test_output.c - a file is there whole or not at all, also when its writer is killed.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include "models/output.h"
#include "tests/files.h"

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

/* Where the file system knows files without a name. */
static void killed(void **state)
{
    char *dir = files_make_dir(), *path = strdup(files_path(dir, "file"));
    (void)state;
    const int probe = open(dir, O_WRONLY | O_TMPFILE | O_CLOEXEC, 0600),
              nameless = probe >= 0 && access("/proc/self/fd", F_OK) == 0;
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
    if (nameless)
        assert_int_equal(files_count(dir), 1);
    free(path);
    files_remove_dir(dir);
    if (!nameless)
        skip();
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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(whole_or_not), cmocka_unit_test(killed), cmocka_unit_test(left_behind)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

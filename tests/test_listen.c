// SPDX-License-Identifier: MIT
//
// test_listen.c - what may stand in `listen`, what is bound for it, whose socket file is removed, and what systemd may pass.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "config.h"
#include "daemon/listen.h"
#include "tests/files.h"

static char *dir;

static void addresses(void **state)
{
    static const char *const good[] = {"127.0.0.1:8080", "0.0.0.0:0", "localhost:65535", "[::1]:80", "[::]:0", "unix:/run/a"};
    static const char *const bad[] = {"",
                                      "8080",
                                      ":80",
                                      "127.0.0.1",
                                      "127.0.0.1:",
                                      "127.0.0.1:65536",
                                      "127.0.0.1:-1",
                                      "127.0.0.1:+1",
                                      "127.0.0.1:80x",
                                      "127.0.0.1:99999999999999999999",
                                      "127.1:80",
                                      "example.org:80",
                                      "::1:80",
                                      "[::1:80",
                                      "[]:80",
                                      "[::g]:80",
                                      "[127.0.0.1]:80",
                                      "unix:",
                                      "unix:run/a"};
    char path[400] = "unix:/";
    struct err e;
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (listen_check(good[i], strlen(good[i]), &e) < 0)
            fail_msg("%s: %s", good[i], e.text);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (listen_check(bad[i], strlen(bad[i]), &e) == 0)
            fail_msg("'%s' is taken", bad[i]);
        assert_int_equal(e.code, ERR_INPUT);
        struct listener l;
        assert_int_equal(listen_open(bad[i], strlen(bad[i]), &l, &e), -1);
    }
    memset(path + 6, 'a', sizeof path - 6);
    assert_int_equal(listen_check(path, 5 + 107, &e), 0); /* what sun_path holds */
    assert_int_equal(listen_check(path, 5 + 108, &e), -1);
    assert_int_equal(listen_check(path, sizeof path, &e), -1);
}

static int try_open(const char *word, struct listener *l, struct err *e)
{
    return listen_open(word, strlen(word), l, e);
}

static void end(struct listener *l)
{
    close(l->fd);
    listen_remove(l);
}

static void tcp(void **state)
{
    char text[100];
    struct listener l, second;
    struct err e;
    (void)state;
    assert_int_equal(try_open("127.0.0.1:0", &l, &e), 0);
    assert_true(l.is_loopback && !l.is_unix && !l.inherited);
    listen_describe(&l, text, sizeof text);
    assert_int_equal(strncmp(text, "127.0.0.1:", 10), 0);
    assert_int_equal(try_open(text, &second, &e), -1); /* taken */
    assert_int_equal(e.code, ERR_IO);
    assert_non_null(strstr(e.text, text));
    end(&l);
    assert_int_equal(try_open("0.0.0.0:0", &l, &e), 0);
    assert_false(l.is_loopback);
    end(&l);
    if (try_open("[::1]:0", &l, &e) < 0) {
        print_message("SKIP: IPv6: %s\n", e.text);
        return;
    }
    assert_true(l.is_loopback);
    listen_describe(&l, text, sizeof text);
    assert_int_equal(strncmp(text, "[::1]:", 6), 0);
    end(&l);
    int both = 0;
    for (int i = 0; i < 10 && !both; i++) { /* the other family's port may be somebody else's by chance */
        char other[100];
        assert_int_equal(try_open("[::]:0", &l, &e), 0);
        assert_false(l.is_loopback);
        listen_describe(&l, text, sizeof text);
        snprintf(other, sizeof other, "0.0.0.0:%s", strrchr(text, ':') + 1);
        if (try_open(other, &second, &e) == 0) {
            both = 1;
            end(&second);
        }
        end(&l);
    }
    assert_true(both);
}

static void socket_files(void **state)
{
    char word[200], text[200];
    struct listener l, second;
    struct stat st;
    struct err e;
    (void)state;
    snprintf(word, sizeof word, "unix:%s/socket", dir);
    const char *path = word + 5;
    assert_int_equal(try_open(word, &l, &e), 0);
    assert_true(l.is_unix && !l.is_loopback);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0660);
    listen_describe(&l, text, sizeof text);
    assert_string_equal(text, word);
    assert_int_equal(try_open(word, &second, &e), -1); /* somebody answers there */
    close(l.fd);                                       /* killed: the file stays, nobody answers */
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(try_open(word, &l, &e), 0);
    end(&l);
    assert_int_equal(stat(path, &st), -1);
    files_write(dir, "socket", "mine", 4); /* not a socket: not ours to remove */
    assert_int_equal(try_open(word, &l, &e), -1);
    assert_int_equal(e.code, ERR_IO);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(unlink(path), 0);
    snprintf(word, sizeof word, "unix:%s/nowhere/socket", dir);
    assert_int_equal(try_open(word, &l, &e), -1);
    l = (struct listener){.fd = -1};
    listen_describe(&l, text, sizeof text);
    assert_string_equal(text, "descriptor -1");
}

#ifdef HAVE_SYSTEMD
/* As the program that systemd starts finds them: from descriptor 3 on. */
static int pass(int fd, struct listener *out, int max, struct err *e)
{
    char pid[20];
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    assert_int_equal(setenv("LISTEN_PID", pid, 1), 0);
    assert_int_equal(setenv("LISTEN_FDS", "1", 1), 0);
    assert_int_equal(dup2(fd, 3), 3);
    int n = listen_inherit(out, max, e);
    assert_int_equal(unsetenv("LISTEN_FDS"), 0);
    assert_int_equal(unsetenv("LISTEN_PID"), 0);
    return n;
}

static void passed(void **state)
{
    char word[200];
    struct listener l, got;
    struct err e;
    int kept = dup(3), connected[2]; /* 3 may be the test's own */
    (void)state;
    assert_int_equal(listen_inherit(&got, 1, &e), 0);
    assert_int_equal(try_open("127.0.0.1:0", &l, &e), 0);
    assert_int_equal(pass(l.fd, &got, 1, &e), 1);
    assert_true(got.fd == 3 && got.inherited && got.is_loopback && !got.is_unix);
    assert_int_equal(pass(l.fd, &got, 0, &e), -1); /* one too many */
    assert_int_equal(e.code, ERR_TOO_LARGE);
    end(&l);
    snprintf(word, sizeof word, "unix:%s/passed", dir);
    assert_int_equal(try_open(word, &l, &e), 0);
    assert_int_equal(pass(l.fd, &got, 1, &e), 1);
    assert_true(got.inherited && got.is_unix && !got.is_loopback);
    end(&l);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, connected), 0); /* Accept=yes */
    assert_int_equal(pass(connected[0], &got, 1, &e), -1);
    assert_non_null(strstr(e.text, "ListenStream="));
    close(connected[0]);
    close(connected[1]);
    int datagrams = socket(AF_INET, SOCK_DGRAM, 0), file = dup(STDOUT_FILENO);
    assert_int_equal(pass(datagrams, &got, 1, &e), -1);
    assert_int_equal(pass(file, &got, 1, &e), -1);
    close(datagrams);
    close(file);
    assert_int_equal(setenv("LISTEN_FDS", "many", 1), 0);
    snprintf(word, sizeof word, "%d", (int)getpid());
    assert_int_equal(setenv("LISTEN_PID", word, 1), 0);
    assert_int_equal(listen_inherit(&got, 1, &e), -1);
    assert_non_null(strstr(e.text, "LISTEN_FDS"));
    if (kept >= 0) {
        dup2(kept, 3);
        close(kept);
    } else {
        close(3);
    }
}
#endif

static int make(void **state)
{
    (void)state;
    dir = files_make_dir();
    return 0;
}

static int clean(void **state)
{
    (void)state;
    files_remove_dir(dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(addresses), cmocka_unit_test(tcp), cmocka_unit_test(socket_files),
#ifdef HAVE_SYSTEMD
                                       cmocka_unit_test(passed)
#endif
    };
    return cmocka_run_group_tests(tests, make, clean);
}

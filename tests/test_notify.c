// SPDX-License-Identifier: MIT
//
// test_notify.c - what systemd is told, word by word, at a socket that stands in for its own.

#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/notify.h"

static int receiver;

static int setup(void **state)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    char name[sizeof a.sun_path + 1];
    (void)state;
    int n =
        snprintf(a.sun_path + 1, sizeof a.sun_path - 1, "resnetd-test-notify-%d", (int)getpid()); /* abstract: no file is left */
    snprintf(name, sizeof name, "@%s", a.sun_path + 1);
    receiver = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (receiver < 0 ||
        bind(receiver, (struct sockaddr *)(void *)&a, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n)) < 0)
        return -1;
    return setenv("NOTIFY_SOCKET", name, 1);
}

static int teardown(void **state)
{
    (void)state;
    return close(receiver);
}

static const char *told(void)
{
    static char text[512];
    ssize_t n = recv(receiver, text, sizeof text - 1, MSG_DONTWAIT);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static void words(void **state)
{
    long long us;
    char extra;
    (void)state;
    notify_ready();
    assert_string_equal(told(), "READY=1");
    notify_reloading();
    assert_int_equal(sscanf(told(), "RELOADING=1\nMONOTONIC_USEC=%lld%c", &us, &extra), 1);
    assert_true(us > 0);
    notify_status("%s, %d waiting", "serving", 3);
    assert_string_equal(told(), "STATUS=serving, 3 waiting");
    notify_alive();
    assert_string_equal(told(), "WATCHDOG=1");
    notify_stopping();
    assert_string_equal(told(), "STOPPING=1");
    assert_string_equal(told(), "");
}

static void watchdog(void **state)
{
    char pid[16];
    (void)state;
    unsetenv("WATCHDOG_USEC");
    assert_int_equal(notify_watchdog_ms(), 0);
    setenv("WATCHDOG_USEC", "3000000", 1);
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    setenv("WATCHDOG_PID", pid, 1);
    assert_int_equal(notify_watchdog_ms(), 3000);
    setenv("WATCHDOG_PID", "1", 1); /* meant for another process */
    assert_int_equal(notify_watchdog_ms(), 0);
}

static void nobody(void **state)
{
    (void)state;
    unsetenv("NOTIFY_SOCKET");
    notify_ready();
    assert_string_equal(told(), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(words), cmocka_unit_test(watchdog), cmocka_unit_test(nobody)};
#ifndef HAVE_SYSTEMD
    puts("SKIP: built without libsystemd");
    return 77;
#endif
    return cmocka_run_group_tests(tests, setup, teardown);
}

// SPDX-License-Identifier: MIT
//
// test_gone.c - who has hung up: a client that closed, unlike one that only ended its sending side and waits for its answer.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/conn.h"

static struct conns all = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* The connection as the daemon has it; *peer is the client's end. */
static struct conn *tcp(int *peer)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof a;
    int listening = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listening, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(listening, 1), 0);
    assert_int_equal(getsockname(listening, (struct sockaddr *)&a, &size), 0);
    *peer = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(*peer, (struct sockaddr *)&a, sizeof a), 0);
    int fd = accept(listening, NULL, NULL);
    assert_true(fd >= 0);
    close(listening);
    struct conn *c = conn_new(&all, fd, (struct sockaddr *)&a, 0);
    assert_non_null(c);
    assert_int_equal(conn_enter(&all, c, CONN_WORK, 0), 0);
    return c;
}

static void end(struct conn *c, int peer)
{
    close(c->fd);
    conn_free(&all, c);
    if (peer >= 0)
        close(peer);
}

/* A reset on this machine comes at once, but need not. */
static int gone_soon(struct conn *c)
{
    for (int i = 0; i < 100; i++) {
        if (conn_gone(c, 1))
            return 1;
        usleep(1000);
    }
    return 0;
}

static void waiting(void **state)
{
    int peer;
    char byte;
    (void)state;
    struct conn *c = tcp(&peer);
    assert_int_equal(conn_gone(c, 1), 0);
    assert_int_equal(write(peer, "GET", 3), 3); /* the next request, too early */
    assert_int_equal(conn_gone(c, 1), 0);
    assert_int_equal(recv(peer, &byte, 1, MSG_DONTWAIT), -1); /* nothing was sent to ask */
    end(c, peer);
}

static void half_closed(void **state)
{
    static const char expected[] = "HTTP/1.1 100 Continue\r\n\r\n";
    char got[64];
    int peer;
    (void)state;
    struct conn *c = tcp(&peer);
    shutdown(peer, SHUT_WR);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(conn_gone(c, 1), 0);
        usleep(2000);
    }
    assert_int_equal(recv(peer, got, sizeof got, 0), sizeof expected - 1); /* asked once */
    assert_memory_equal(got, expected, sizeof expected - 1);
    assert_int_equal(conn_enter(&all, c, CONN_WORK, 0), 0); /* the next request asks again */
    assert_int_equal(conn_gone(c, 1), 0);
    assert_int_equal(recv(peer, got, sizeof got, 0), sizeof expected - 1);
    close(peer); /* it cannot wait any more: what it was sent is answered by a reset */
    assert_int_equal(conn_enter(&all, c, CONN_WORK, 0), 0);
    assert_int_equal(gone_soon(c), 1);
    end(c, -1);
}

static void closed(void **state)
{
    int peer;
    (void)state;
    struct conn *c = tcp(&peer);
    close(peer);
    assert_int_equal(gone_soon(c), 1);
    end(c, -1);
    c = tcp(&peer);
    struct linger now = {1, 0};
    setsockopt(peer, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(peer);
    assert_int_equal(conn_gone(c, 0), 1);
    end(c, -1);
}

static void cannot_be_asked(void **state)
{
    int peer;
    char byte;
    (void)state;
    struct conn *c = tcp(&peer);
    assert_int_equal(conn_gone(c, 0), 0);
    shutdown(peer, SHUT_WR);
    usleep(2000);
    assert_int_equal(conn_gone(c, 0), 1);
    assert_int_equal(recv(peer, &byte, 1, MSG_DONTWAIT), -1);
    end(c, peer);
}

/* Looks of the reaper, far from any deadline, until it closes something; most: how many at most. */
static int looks_until_closed(int most)
{
    const unsigned before = all.rounds;
    while (all.rounds - before < (unsigned)most)
        if (conns_reap(&all, 0))
            break;
    return (int)(all.rounds - before);
}

static void cut(void **state)
{
    int peer;
    (void)state;
    struct conn *c = tcp(&peer);
    assert_int_equal(conn_enter(&all, c, CONN_BODY, INT64_MAX), 0);
    assert_int_equal(looks_until_closed(50), 50); /* slow, but there */
    shutdown(peer, SHUT_WR);
    usleep(2000);
    const int first = looks_until_closed(50);
    assert_in_range(first, 2, 49); /* gone, but not at the first look: that may have been the end of a whole body */
    assert_int_equal(conn_enter(&all, c, CONN_WORK, 0), -1);
    end(c, peer);
    c = tcp(&peer);
    shutdown(peer, SHUT_WR);
    usleep(2000);
    for (int i = 0; i < 20; i++) { /* a whole request between any two looks */
        assert_int_equal(conn_enter(&all, c, CONN_BODY, INT64_MAX), 0);
        assert_int_equal(conns_reap(&all, 0), 0);
    }
    end(c, peer);
}

static void unix_socket(void **state)
{
    int fds[2];
    char byte;
    struct sockaddr_storage a = {.ss_family = AF_UNIX};
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    struct conn *c = conn_new(&all, fds[0], (struct sockaddr *)&a, 0);
    assert_non_null(c);
    assert_int_equal(conn_gone(c, 1), 0);
    shutdown(fds[1], SHUT_WR);
    assert_int_equal(conn_gone(c, 0), 0);
    assert_int_equal(recv(fds[1], &byte, 1, MSG_DONTWAIT), -1);
    close(fds[1]);
    assert_int_equal(conn_gone(c, 0), 1);
    end(c, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(waiting), cmocka_unit_test(half_closed),
                                       cmocka_unit_test(closed),  cmocka_unit_test(cannot_be_asked),
                                       cmocka_unit_test(cut),     cmocka_unit_test(unix_socket)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

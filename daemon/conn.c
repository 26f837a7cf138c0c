// SPDX-License-Identifier: MIT
#include "daemon/conn.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/clock.h"

#define IDLE_MOMENT_MS 150
#define CUT_ROUNDS     2   /* of the reaper, between two looks for clients that went away */
#define KEPT_MAX       256 /* connections that are kept for as long as idle_timeout says */

static int is_loopback(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr) >> 24 == 127;
    if (a->sa_family != AF_INET6)
        return 0;
    const struct in6_addr *v6 = &((const struct sockaddr_in6 *)(const void *)a)->sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(v6) || (IN6_IS_ADDR_V4MAPPED(v6) && v6->s6_addr[12] == 127);
}

struct conn *conn_new(struct conns *all, int fd, const struct sockaddr *peer, int64_t deadline_ms)
{
    struct conn *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->fd = fd;
    c->deadline_ms = deadline_ms;
    c->since_ms = clock_ms();
    c->is_unix = peer && peer->sa_family == AF_UNIX;
    c->is_loopback = peer && is_loopback(peer);
    pthread_mutex_lock(&all->lock);
    c->next = all->first;
    if (c->next)
        c->next->prev = c;
    all->first = c;
    all->count++;
    pthread_mutex_unlock(&all->lock);
    return c;
}

void conn_free(struct conns *all, struct conn *c)
{
    pthread_mutex_lock(&all->lock);
    if (c->prev)
        c->prev->next = c->next;
    else
        all->first = c->next;
    if (c->next)
        c->next->prev = c->prev;
    all->count--;
    pthread_mutex_unlock(&all->lock);
    if (c->swallow) {
        char sink[4096];
        shutdown(c->fd, SHUT_WR);
        for (int i = 0; i < 256 && recv(c->fd, sink, sizeof sink, MSG_DONTWAIT) > 0; i++)
            ;
    }
    free(c);
}

int conn_enter(struct conns *all, struct conn *c, enum conn_state state, int64_t deadline_ms)
{
    int rc = -1;
    pthread_mutex_lock(&all->lock);
    if (c->state != CONN_CLOSED) {
        c->state = state;
        c->deadline_ms = deadline_ms;
        c->since_ms = clock_ms();
        c->served |= state == CONN_REPLY;
        c->looked = c->ended = 0;
        if (state == CONN_WORK)
            atomic_store(&c->asked, 0);
        rc = 0;
    }
    pthread_mutex_unlock(&all->lock);
    return rc;
}

int conn_told(struct conns *all, struct conn *c)
{
    pthread_mutex_lock(&all->lock);
    int told = c->state == CONN_CLOSED ? c->told : -1;
    pthread_mutex_unlock(&all->lock);
    return told;
}

void conn_swallow(struct conns *all, struct conn *c)
{
    pthread_mutex_lock(&all->lock);
    c->swallow = 1;
    pthread_mutex_unlock(&all->lock);
}

/* With the lock held, in a state in which libmicrohttpd is not writing. */
static void end(struct conn *c, int status, const char *title, const char *name, const char *detail)
{
    if (status) {
        char body[512], reply[1024], oip[256] = "";
        if (c->oip)
            snprintf(oip, sizeof oip, ",\"error\":\"%s\"", detail);
        int n = snprintf(body, sizeof body,
                         "{\"type\":\"urn:resnetd:problem:%s\",\"title\":\"%s\",\"status\":%d,\"detail\":\"%s\"%s}\n", name,
                         title, status, detail, oip);
        n = snprintf(
            reply, sizeof reply,
            "HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\n\r\n%s",
            status, title, n, body);
        c->swallow = !c->is_tls && send(c->fd, reply, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) > 0;
        c->told = c->is_tls ? 0 : status;
    }
    c->state = CONN_CLOSED;
    shutdown(c->fd, SHUT_RDWR);
}

void conn_abort(struct conns *all, struct conn *c, int status, const char *title, const char *name, const char *detail)
{
    pthread_mutex_lock(&all->lock);
    if (c->state != CONN_CLOSED)
        end(c, status, title, name, detail);
    pthread_mutex_unlock(&all->lock);
}

int conn_gone(struct conn *c, int can_ask)
{
    static const char interim[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct pollfd p = {.fd = c->fd, .events = POLLRDHUP};
    if (poll(&p, 1, 0) != 1)
        return 0;
    if (p.revents & (POLLHUP | POLLERR | POLLNVAL))
        return 1;
    if (c->is_unix)
        return 0;
    if (!can_ask)
        return 1;
    if (atomic_exchange(&c->asked, 1))
        return 0;
    if (send(c->fd, interim, sizeof interim - 1, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)sizeof interim - 1)
        return 1;
    return poll(&p, 1, 0) == 1 && p.revents & (POLLHUP | POLLERR);
}

/* An idle connection that nobody will miss. */
static int is_over(const struct conns *all, struct conn *c, int64_t now_ms)
{
    int64_t idle_ms = now_ms - c->since_ms;
    int many = all->count > KEPT_MAX && idle_ms >= 1000;
    char byte;
    if (c->state != CONN_IDLE || !c->served || idle_ms < IDLE_MOMENT_MS || (c->looked && !many))
        return 0;
    c->looked = 1;
    ssize_t n = recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n == 0 || (n < 0 && many);
}

/* The client went away in the middle of its request, which libmicrohttpd does not always notice before a deadline: all that
   came was read, and nothing more will. Looked at twice, because what was read last may be the end of the request, on its way to
   the next state. */
static int is_cut(struct conn *c)
{
    char byte;
    if ((c->state != CONN_HEADER && c->state != CONN_BODY) || recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) != 0)
        return 0;
    return c->ended++ > 0;
}

int conns_reap(struct conns *all, int64_t now_ms)
{
    int n = 0;
    pthread_mutex_lock(&all->lock);
    const int look = ++all->rounds % CUT_ROUNDS == 0; /* a system call for each that is at it */
    for (struct conn *c = all->first; c; c = c->next) {
        if (look && is_cut(c)) {
            end(c, 0, NULL, NULL, NULL);
            n++;
            continue;
        }
        if (c->state == CONN_WORK || c->state == CONN_CLOSED || (now_ms < c->deadline_ms && !is_over(all, c, now_ms)))
            continue;
        if (c->state == CONN_HEADER || c->state == CONN_BODY)
            end(c, 408, "Request Timeout", "request-timeout",
                c->state == CONN_HEADER ? "the header took longer than header_timeout"
                                        : "the body took longer than body_timeout");
        else
            end(c, 0, NULL, NULL, NULL);
        n++;
    }
    pthread_mutex_unlock(&all->lock);
    return n;
}

int conns_close_idle(struct conns *all)
{
    int64_t now = clock_ms();
    pthread_mutex_lock(&all->lock);
    for (struct conn *c = all->first; c; c = c->next) {
        char byte;
        if (c->state == CONN_IDLE && now - c->since_ms >= IDLE_MOMENT_MS && recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0)
            end(c, 0, NULL, NULL, NULL);
    }
    int left = all->count;
    pthread_mutex_unlock(&all->lock);
    return left;
}

int conns_count(struct conns *all)
{
    pthread_mutex_lock(&all->lock);
    int n = all->count;
    pthread_mutex_unlock(&all->lock);
    return n;
}

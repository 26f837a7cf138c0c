// SPDX-License-Identifier: MIT
//
// conn.h - the open connections and their total deadlines. libmicrohttpd's own timeout is for idleness only: one byte every few
// seconds holds a connection for ever. This list ends it.

#ifndef DAEMON_CONN_H
#define DAEMON_CONN_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/socket.h>

enum conn_state {
    CONN_IDLE,   /* waits for a request's first line */
    CONN_HEADER, /* inside a header */
    CONN_BODY,
    CONN_WORK,  /* suspended: no deadline of ours, the request has its own */
    CONN_REPLY, /* being sent */
    CONN_CLOSED /* shut down by us; libmicrohttpd will notice */
};

struct request;

struct conn {
    struct conn *prev, *next;
    int fd;
    int is_unix, is_loopback; /* the peer */
    int is_tls;               /* nothing is written past libmicrohttpd */
    int bound_loopback;       /* it came in on an address bound to loopback */
    enum conn_state state;
    int64_t deadline_ms, since_ms;
    atomic_int oip;          /* the request's path is one of the Open Inference Protocol: see reply.h */
    int served;              /* a reply was sent: what it waits for is another request */
    int looked;              /* for the end of the client's half, in this state */
    int ended;               /* looks in this state, while a request comes, that found its end */
    int swallow;             /* see conn_swallow */
    int told;                /* see conn_told */
    atomic_int asked;        /* in this request: see conn_gone */
    struct request *request; /* that has begun and has not ended; only libmicrohttpd's thread looks */
};

struct conns {
    pthread_mutex_t lock;
    struct conn *first;
    int count;
    unsigned rounds; /* of the reaper */
};

struct conn *conn_new(struct conns *all, int fd, const struct sockaddr *peer, int64_t deadline_ms); /* NULL: no memory */
void conn_free(struct conns *all, struct conn *c);

/* 0, or -1 when the reaper got there first: the connection is dead and must not be written to. */
int conn_enter(struct conns *all, struct conn *c, enum conn_state state, int64_t deadline_ms);

/* -1 while it is not shut down by us; else the status that its client was told instead of a reply, 0 for none. */
int conn_told(struct conns *all, struct conn *c);
/* Unread bytes may be left when it closes: some are then swallowed, so that the reply is not lost to a reset. */
void conn_swallow(struct conns *all, struct conn *c);

/* 1 when the client of a suspended request has hung up. On TCP one that closed and one that only ended its sending side (nc -N)
   look the same until something is sent to them. The first time it is called in that case it sends "100 Continue", which every
   HTTP/1.1 client passes over; the system of one that closed answers with a reset, which is seen at once on the same machine and
   by a later call from afar. Without can_ask (HTTP/1.0 knows no interim replies, TLS no bytes from us) either counts as gone. On
   a unix socket the system tells the two apart. */
int conn_gone(struct conn *c, int can_ask);

/* Ends everything that is late; a request whose header or body is slow is told 408. Ends, too, idle connections whose client has
   closed its half, which libmicrohttpd does not notice, and when there are many those that have been kept for a second: each
   holds the memory of its last request. Returns how many. */
int conns_reap(struct conns *all, int64_t now_ms);

/* Ends the connections that have been idle for a moment and on which nothing has arrived: one that was answered just now may be
   sending its next request already. Returns how many connections are left. */
int conns_close_idle(struct conns *all);
int conns_count(struct conns *all);

/* Writes a whole reply past libmicrohttpd, which cannot answer in the middle of a body, and shuts the connection down. */
void conn_abort(struct conns *all, struct conn *c, int status, const char *title, const char *name, const char *detail);

#endif

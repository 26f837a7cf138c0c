// SPDX-License-Identifier: MIT
#include "daemon/http.h"

#include <errno.h>
#include <linux/filter.h>
#include <microhttpd.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/clock.h"
#include "daemon/conn.h"
#include "daemon/listen.h"
#include "daemon/log.h"
#include "daemon/request.h"
#include "daemon/tls.h"

#define FD_RESERVE 32          /* model files, logs, epoll, and a little air */
#define POOL_BYTES (80 * 1024) /* libmicrohttpd's memory per connection; a chunk's line that does not fit would be its 500 */

struct door { /* one listening address with its libmicrohttpd thread */
    struct server *server;
    struct listener listener;
    struct MHD_Daemon *daemon;
};

struct http {
    struct server *server;
    struct door doors[LISTEN_MAX];
    int count;
    atomic_int open; /* all of them */
};

static void on_connection(void *user, struct MHD_Connection *connection, void **state, enum MHD_ConnectionNotificationCode code)
{
    struct door *door = user;
    struct server *s = door->server;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (*state) {
            request_forget(*state);
            conn_free(&s->conns, *state);
        }
        *state = NULL;
        return;
    }
    /* libmicrohttpd 1.0 answers every question in the same union: read one answer before asking the next. */
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    int fd = info ? info->connect_fd : -1;
    const union MHD_ConnectionInfo *peer = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    struct conf *c = server_conf(s);
    struct conn *n = fd >= 0 ? conn_new(&s->conns, fd, peer ? peer->client_addr : NULL, clock_ms() + c->header_timeout) : NULL;
    if (n) {
        n->is_unix = door->listener.is_unix;
        n->is_tls = s->with_tls && !n->is_unix;
        n->bound_loopback = door->listener.is_loopback;
    }
    conf_free(c);
    *state = n;
}

static void on_log(void *user, const char *fmt, va_list ap)
{
    static struct log_limit limit;
    const struct http *h = user;
    /* once it runs, what it has to say is about clients */
    log_limited_v(&limit, atomic_load(&h->open) ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARNING, fmt, ap);
}

/* ---- start and stop ---- */

static int door_open(struct http *h, struct door *d, unsigned connections, struct err *e)
{
    struct conf *c = h->server->conf;
    unsigned idle = (unsigned)((c->header_timeout > c->idle_timeout ? c->header_timeout : c->idle_timeout) / 1000 + 60);
    /* A unix socket needs no TLS: who may open it is a matter of its mode. */
    int tls = h->server->with_tls && !d->listener.is_unix;
    struct MHD_OptionItem with_tls[] = {{MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)TLS_PRIORITIES},
                                        {MHD_OPTION_HTTPS_CERT_CALLBACK2, 0, tls_callback()},
                                        {MHD_OPTION_END, 0, NULL}};
    unsigned per_address = d->listener.is_unix ? 0 : (unsigned)c->max_connections_per_address;
    d->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_ITC | MHD_ALLOW_SUSPEND_RESUME |
                                     MHD_USE_ERROR_LOG | (tls ? MHD_USE_TLS : 0),
                                 0, NULL, NULL, request_step, NULL, MHD_OPTION_EXTERNAL_LOGGER, on_log, h,
                                 MHD_OPTION_LISTEN_SOCKET, d->listener.fd, MHD_OPTION_CONNECTION_LIMIT, connections,
                                 MHD_OPTION_PER_IP_CONNECTION_LIMIT, per_address, MHD_OPTION_CONNECTION_TIMEOUT, idle,
                                 MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)POOL_BYTES, MHD_OPTION_STRICT_FOR_CLIENT, 1,
                                 MHD_OPTION_URI_LOG_CALLBACK, request_begin, h->server, MHD_OPTION_NOTIFY_COMPLETED, request_end,
                                 NULL, MHD_OPTION_NOTIFY_CONNECTION, on_connection, d, MHD_OPTION_THREAD_STACK_SIZE,
                                 (size_t)256 * 1024, MHD_OPTION_ARRAY, tls ? with_tls : with_tls + 2, MHD_OPTION_END);
    return d->daemon ? 0 : err_set(e, ERR_INTERNAL, "libmicrohttpd cannot start (%s)", strerror(errno));
}

struct opening {
    struct http *http;
    struct err *e;
};

static int open_word(void *user, const char *word, size_t len)
{
    struct opening *o = user;
    struct http *h = o->http;
    struct door *d = &h->doors[h->count];
    if (listen_open(word, len, &d->listener, o->e) < 0)
        return -1;
    d->server = h->server;
    h->count++;
    log_info("listening on %.*s", (int)len, word);
    return 0;
}

/* Sockets that systemd passes take the place of `listen`. */
static int open_doors(struct http *h, struct err *e)
{
    struct listener passed[LISTEN_MAX];
    int n = listen_inherit(passed, LISTEN_MAX, e);
    if (n == 0)
        return conf_words(h->server->conf->listen, open_word, &(struct opening){h, e});
    for (int i = 0; i < n; i++) {
        char where[160];
        h->doors[h->count++] = (struct door){.server = h->server, .listener = passed[i]};
        listen_describe(&passed[i], where, sizeof where);
        log_info("listening on %s, a socket of systemd's", where);
    }
    return n < 0 ? -1 : 0;
}

int http_start(struct server *s, struct http **out, struct err *e)
{
    struct rlimit fds;
    struct http *h = calloc(1, sizeof *h);
    if (!h)
        return err_set(e, ERR_MEMORY, "no memory for HTTP");
    h->server = s;
    pthread_mutex_init(&s->conns.lock, NULL);
    if (server_start_tls(s, e) < 0 || open_doors(h, e) < 0)
        goto failed;
    /* Beyond its limit of descriptors libmicrohttpd spins on accept: stay below it. */
    int64_t limit = s->conf->max_connections;
    if (getrlimit(RLIMIT_NOFILE, &fds) == 0 && fds.rlim_cur != RLIM_INFINITY) {
        int64_t room = ((int64_t)fds.rlim_cur - FD_RESERVE) / h->count;
        if (room < 1) {
            err_set(e, ERR_TOO_LARGE, "the limit of %lld open files leaves no room for connections", (long long)fds.rlim_cur);
            goto failed;
        }
        if (limit > room) {
            log_warning("max_connections is lowered from %lld to %lld by the limit of open files", (long long)limit,
                        (long long)room);
            limit = room;
        }
    }
    for (int i = 0; i < h->count; i++)
        if (door_open(h, &h->doors[i], (unsigned)limit, e) < 0)
            goto failed;
    *out = h;
    atomic_store(&h->open, 1);
    return 0;
failed:
    http_stop(h);
    return -1;
}

void http_reap(struct http *h)
{
    static struct log_limit limit;
    int n = conns_reap(&h->server->conns, clock_ms());
    if (n)
        log_limited(&limit, LOG_LEVEL_INFO, "closed %d connections that were too slow or idle", n);
}

/* A connection that is made between the last look into the backlog and the close would be reset, with what its client sent. Over
   TCP the first packets of new ones are dropped instead: the client tries again in a second, and the next daemon or nobody is
   there. A unix socket goes from its directory. */
static void close_to_new(struct door *d)
{
    struct sock_filter drop_syn[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, offsetof(struct tcphdr, th_flags)),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, TH_SYN | TH_ACK),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, TH_SYN, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
    };
    const struct sock_fprog filter = {sizeof drop_syn / sizeof *drop_syn, drop_syn};
    if (d->listener.is_unix)
        listen_remove(&d->listener);
    else /* without it some client may see a reset, no more */
        setsockopt(d->listener.fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter);
}

static void take_backlog(struct door *d, int listening)
{
    struct sockaddr_storage peer;
    socklen_t size = sizeof peer;
    int fd;
    while ((fd = accept4(listening, (struct sockaddr *)(void *)&peer, &size, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
        MHD_add_connection(d->daemon, fd, (struct sockaddr *)(void *)&peer, size); /* closes fd when it fails */
        size = sizeof peer;
    }
}

void http_quiesce(struct http *h)
{
    for (int i = 0; i < h->count; i++)
        if (!h->doors[i].listener.inherited)
            close_to_new(&h->doors[i]);
    for (int i = 0; i < h->count; i++) {
        struct door *d = &h->doors[i];
        struct pollfd waiting = {.fd = d->listener.fd, .events = POLLIN};
        /* Who is in the backlog has been told "connected": let libmicrohttpd take them first. */
        for (int j = 0; j < 100 && !d->listener.inherited && poll(&waiting, 1, 0) == 1; j++)
            usleep(1000);
        MHD_socket fd = MHD_quiesce_daemon(d->daemon);
        if (fd != MHD_INVALID_SOCKET) {
            if (!d->listener.inherited)
                take_backlog(d, fd); /* those that came in between */
            close(fd);
        }
        d->listener.fd = -1;
    }
}

void http_stop(struct http *h)
{
    if (!h)
        return;
    for (int i = 0; i < h->count; i++) {
        struct door *d = &h->doors[i];
        if (d->daemon)
            MHD_stop_daemon(d->daemon);
        else if (d->listener.fd >= 0)
            close(d->listener.fd);
        listen_remove(&d->listener);
    }
    tls_use(NULL);
    pthread_mutex_destroy(&h->server->conns.lock);
    free(h);
}

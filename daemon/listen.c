// SPDX-License-Identifier: MIT
#include "config.h"

#include "daemon/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#define FIRST_PASSED SD_LISTEN_FDS_START
#else
#define FIRST_PASSED 3
#endif

#define SEND_BYTES (32 * 1024) /* that the kernel holds for a client that does not read: by itself it goes up to megabytes */
#define BACKLOG    511

struct address {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_un un;
    } a;
    socklen_t size;
};

static int parse(const char *word, size_t len, struct address *out, struct err *e)
{
    char text[160], *port;
    memset(out, 0, sizeof *out);
    if (len >= sizeof text)
        return err_set(e, ERR_INPUT, "listen: the address is too long");
    memcpy(text, word, len);
    text[len] = '\0';
    if (strncmp(text, "unix:", 5) == 0) {
        if (text[5] != '/' || len - 5 >= sizeof out->a.un.sun_path)
            return err_set(e, ERR_INPUT, "listen %s: a path of 1 to 107 bytes from '/' must follow unix:", text);
        out->a.un.sun_family = AF_UNIX;
        snprintf(out->a.un.sun_path, sizeof out->a.un.sun_path, "%.107s", text + 5);
        out->size = sizeof out->a.un;
        return 0;
    }
    port = strrchr(text, ':');
    char *end = port;
    long number = port && port[1] >= '0' && port[1] <= '9' ? strtol(port + 1, &end, 10) : -1;
    if (number < 0 || number > 65535 || *end)
        return err_set(e, ERR_INPUT, "listen %s: write ADDRESS:PORT, [IPv6]:PORT or unix:/path", text);
    *port = '\0';
    size_t n = strlen(text);
    if (text[0] == '[' && text[n - 1] == ']') {
        text[n - 1] = '\0';
        out->a.v6.sin6_family = AF_INET6;
        out->a.v6.sin6_port = htons((uint16_t)number);
        out->size = sizeof out->a.v6;
        if (inet_pton(AF_INET6, text + 1, &out->a.v6.sin6_addr) == 1)
            return 0;
    } else {
        out->a.v4.sin_family = AF_INET;
        out->a.v4.sin_port = htons((uint16_t)number);
        out->size = sizeof out->a.v4;
        if (inet_pton(AF_INET, strcmp(text, "localhost") == 0 ? "127.0.0.1" : text, &out->a.v4.sin_addr) == 1)
            return 0;
    }
    return err_set(e, ERR_INPUT, "listen %.*s: not an IP address", (int)len, word);
}

int listen_check(const char *word, size_t len, struct err *e)
{
    struct address a;
    return parse(word, len, &a, e);
}

/* A socket file that nobody answers on was left by a daemon that was killed. */
static void remove_stale(const struct address *a)
{
    struct stat st;
    if (lstat(a->a.un.sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (connect(fd, &a->a.any, a->size) < 0 && errno == ECONNREFUSED)
        unlink(a->a.un.sun_path);
    close(fd);
}

static int is_loopback(const struct address *a)
{
    return a->a.any.sa_family == AF_INET    ? ntohl(a->a.v4.sin_addr.s_addr) >> 24 == 127
           : a->a.any.sa_family == AF_INET6 ? IN6_IS_ADDR_LOOPBACK(&a->a.v6.sin6_addr)
                                            : 0;
}

/* Accepted sockets inherit both. */
static void set_tcp(int fd)
{
    int one = 1, bytes = SEND_BYTES;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
}

int listen_open(const char *word, size_t len, struct listener *out, struct err *e)
{
    struct address a;
    struct listener l = {0};
    int one = 1, family;
    if (parse(word, len, &a, e) < 0)
        return -1;
    family = a.a.any.sa_family;
    if (family == AF_UNIX)
        remove_stale(&a);
    l.fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (l.fd < 0)
        return err_set(e, ERR_IO, "listen %.*s: %s", (int)len, word, strerror(errno));
    if (family != AF_UNIX) {
        setsockopt(l.fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        set_tcp(l.fd);
    }
    if (family == AF_INET6)
        setsockopt(l.fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one); /* so that [::] and 0.0.0.0 can be given together */
    /* Whoever may write to a unix socket may change things: the mode is set before the first can connect. */
    if (bind(l.fd, &a.a.any, a.size) < 0 || (family == AF_UNIX && chmod(a.a.un.sun_path, 0660) < 0) ||
        listen(l.fd, BACKLOG) < 0) {
        err_set(e, ERR_IO, "listen %.*s: %s", (int)len, word, strerror(errno));
        close(l.fd);
        return -1;
    }
    l.is_unix = family == AF_UNIX;
    if (l.is_unix)
        snprintf(l.path, sizeof l.path, "%s", a.a.un.sun_path);
    l.is_loopback = is_loopback(&a);
    *out = l;
    return 0;
}

static int passed_sockets(void)
{
#ifdef HAVE_SYSTEMD
    return sd_listen_fds(0);
#else
    return 0;
#endif
}

static int inherit(int fd, struct listener *out, struct err *e)
{
    struct address a = {.size = sizeof a.a};
    int listens = 0, type = 0;
    socklen_t size = sizeof listens, type_size = sizeof type;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) < 0 || !listens ||
        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_size) < 0 || type != SOCK_STREAM ||
        getsockname(fd, &a.a.any, &a.size) < 0)
        return err_set(e, ERR_INPUT, "descriptor %d from systemd is not a listening stream socket: use ListenStream=", fd);
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return err_set(e, ERR_IO, "descriptor %d from systemd: %s", fd, strerror(errno));
    *out = (struct listener){.fd = fd, .is_unix = a.a.any.sa_family == AF_UNIX, .is_loopback = is_loopback(&a), .inherited = 1};
    if (!out->is_unix)
        set_tcp(fd);
    return 0;
}

int listen_inherit(struct listener *out, int max, struct err *e)
{
    int n = passed_sockets();
    if (n < 0)
        return err_set(e, ERR_INPUT, "LISTEN_FDS: %s", strerror(-n));
    if (n > max)
        return err_set(e, ERR_TOO_LARGE, "systemd passes %d sockets, %d are possible", n, max);
    for (int i = 0; i < n; i++)
        if (inherit(FIRST_PASSED + i, &out[i], e) < 0)
            return -1;
    return n;
}

void listen_describe(const struct listener *l, char *out, size_t size)
{
    struct address a = {.size = sizeof a.a};
    char text[INET6_ADDRSTRLEN] = "?";
    snprintf(out, size, "descriptor %d", l->fd);
    if (getsockname(l->fd, &a.a.any, &a.size) < 0)
        return;
    if (a.a.any.sa_family == AF_UNIX)
        snprintf(out, size, "unix:%.107s", a.a.un.sun_path);
    else if (a.a.any.sa_family == AF_INET && inet_ntop(AF_INET, &a.a.v4.sin_addr, text, sizeof text))
        snprintf(out, size, "%s:%d", text, ntohs(a.a.v4.sin_port));
    else if (a.a.any.sa_family == AF_INET6 && inet_ntop(AF_INET6, &a.a.v6.sin6_addr, text, sizeof text))
        snprintf(out, size, "[%s]:%d", text, ntohs(a.a.v6.sin6_port));
}

void listen_remove(struct listener *l)
{
    if (l->path[0])
        unlink(l->path);
    l->path[0] = '\0';
}

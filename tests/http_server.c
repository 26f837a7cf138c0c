// SPDX-License-Identifier: MIT
#include "tests/http_server.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/http.h"
#include "daemon/log.h"
#include "kernels/cpu.h"
#include "kernels/kernels.h"

struct http_server {
    struct server server;
    pthread_t house; /* keeps it: what main does in the daemon */
    atomic_int stop;
    char dir[64];
    struct sockaddr_un address;
};

static void *keep_house(void *user)
{
    struct http_server *h = user;
    while (!atomic_load(&h->stop)) {
        http_reap(h->server.http);
        usleep(5000);
    }
    return NULL;
}

static int start(struct http_server *h, const char *conf, struct err *e)
{
    struct server *s = &h->server;
    char listen[128];
    struct conf_override override = {listen};
    snprintf(listen, sizeof listen, "server.listen=unix:%s", h->address.sun_path);
    pthread_mutex_init(&s->conf_lock, NULL);
    if (conf_parse("test", conf, strlen(conf), &override, 1, 1, &s->conf, e) < 0)
        return -1;
    log_setup(LOG_LEVEL_ERROR, LOG_TEXT, LOG_PREFIX_OFF);
    atomic_store(&s->budget.limit, (size_t)64 << 20);
    s->kernels = kernels_pick(cpu_features(), "auto");
    if (server_start(s, e) < 0)
        return -1;
    return pthread_create(&h->house, NULL, keep_house, h) == 0 ? 0 : err_set(e, ERR_MEMORY, "no thread");
}

struct http_server *http_server_start(const char *conf)
{
    const char *tmp = getenv("TMPDIR");
    struct http_server *h = calloc(1, sizeof *h);
    struct err e;
    if (!h)
        return NULL;
    signal(SIGPIPE, SIG_IGN);
    snprintf(h->dir, sizeof h->dir, "%.40s/resnetd-http.XXXXXX", tmp && strlen(tmp) <= 40 ? tmp : "/tmp");
    if (!mkdtemp(h->dir)) {
        free(h);
        return NULL;
    }
    h->address.sun_family = AF_UNIX;
    snprintf(h->address.sun_path, sizeof h->address.sun_path, "%s/socket", h->dir);
    if (start(h, conf, &e) == 0)
        return h;
    fprintf(stderr, "%s\n", e.text);
    exit(1); /* a test without its server cannot go on, and half a server is nothing to clean up */
}

void http_server_stop(struct http_server *h)
{
    atomic_store(&h->stop, 1);
    pthread_join(h->house, NULL);
    server_stop(&h->server);
    rmdir(h->dir);
    free(h);
}

struct server *http_server_parts(struct http_server *h)
{
    return &h->server;
}

int http_server_connect(const struct http_server *h)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)(const void *)&h->address, sizeof h->address) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

// SPDX-License-Identifier: MIT

#include "tests/proof/client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { REPLY_MAX = 1 << 20, FILE_MAX = 1 << 20 };

int64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void *need(void *p)
{
    if (!p) {
        fputs("no memory\n", stderr);
        exit(99);
    }
    return p;
}

void client_hang_up(struct client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

void client_free(struct client *c)
{
    client_hang_up(c);
    free(c->reply);
    c->reply = NULL;
}

int client_dial(struct client *c)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)c->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct timeval patience = {c->patience_s ? c->patience_s : 60, 0};
    const int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    c->fresh = 1;
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&a, sizeof a) < 0) {
        client_hang_up(c);
        return -1;
    }
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return 0;
}

int client_send(struct client *c, const char *p, size_t size)
{
    while (size > 0) {
        ssize_t n = send(c->fd, p, size, MSG_NOSIGNAL);
        if (n <= 0)
            return -1;
        p += n;
        size -= (size_t)n;
    }
    return 0;
}

/* Status, with the body in c->reply; -1: no whole answer came. */
static int receive(struct client *c)
{
    size_t have = 0;
    char *end = NULL;
    while (!end) {
        ssize_t n = have < REPLY_MAX - 1 ? recv(c->fd, c->reply + have, REPLY_MAX - 1 - have, 0) : 0;
        if (n <= 0)
            return -1;
        have += (size_t)n;
        c->reply[have] = '\0';
        end = strstr(c->reply, "\r\n\r\n");
    }
    *end = '\0';
    const int status = have > 12 ? atoi(c->reply + 9) : -1;
    const char *length = strcasestr(c->reply, "\r\ncontent-length:"), *closing = strcasestr(c->reply, "\r\nconnection: close");
    const size_t head = (size_t)(end + 4 - c->reply);
    c->length = length ? (size_t)atol(length + 17) : 0;
    if (head + c->length >= REPLY_MAX)
        return -1;
    while (have < head + c->length) {
        ssize_t n = recv(c->fd, c->reply + have, head + c->length - have, 0);
        if (n <= 0)
            return -1;
        have += (size_t)n;
    }
    memmove(c->reply, c->reply + head, c->length);
    c->reply[c->length] = '\0';
    if (closing)
        client_hang_up(c);
    c->fresh = 0;
    return status;
}

int client_ask(struct client *c, const char *method, const char *path, const char *type, const char *body, size_t size)
{
    char head[512];
    const int n = snprintf(head, sizeof head, "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%s%s%sContent-Length: %zu\r\n\r\n", method,
                           path, c->port, type ? "Content-Type: " : "", type ? type : "", type ? "\r\n" : "", size);
    if (!c->reply)
        c->reply = need(malloc(REPLY_MAX));
    for (;;) {
        *c->reply = '\0';
        if (c->fd < 0 && client_dial(c) < 0)
            return -1;
        const int fresh = c->fresh;
        if (client_send(c, head, (size_t)n) == 0)
            client_send(c, body, size); /* it may be refused before all of it was sent */
        const int status = receive(c);
        if (status > 0)
            return status;
        client_hang_up(c);
        if (fresh)
            return -1;
    }
}

char *file_read(const char *path, size_t *size)
{
    FILE *f = fopen(path, "re");
    char *bytes = need(malloc(FILE_MAX));
    *size = f ? fread(bytes, 1, FILE_MAX, f) : 0;
    if (*size == 0 || *size == FILE_MAX) {
        fprintf(stderr, "%s: not a small file\n", path);
        exit(99);
    }
    fclose(f);
    return bytes;
}

char *file_as_json(const char *bytes, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *out = need(malloc(size / 3 * 4 + 64)), *p = out;
    p += sprintf(p, "{\"image\":{\"b64\":\"");
    for (size_t i = 0; i < size; i += 3) {
        uint32_t v = 0;
        for (size_t k = 0; k < 3; k++)
            v = v << 8 | (i + k < size ? (unsigned char)bytes[i + k] : 0);
        for (size_t k = 0; k < 4; k++)
            *p++ = i + k <= size ? digits[v >> (18 - 6 * k) & 63] : '=';
    }
    strcpy(p, "\"}}");
    return out;
}

// SPDX-License-Identifier: MIT
//
// fuzz_http.c - bytes on a connection to the daemon's HTTP, libmicrohttpd included. Whatever they are: no crash, and no reply
// that blames the daemon.

#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/http_server.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct http_server *server;

static void stop(void)
{
    http_server_stop(server);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char reply[4096];
    if (!server) {
        server = http_server_start("[server]\nmax_body = 64K\nheader_timeout = 1s\nbody_timeout = 1s\n");
        atexit(stop);
    }
    int fd = http_server_connect(server);
    if (fd < 0)
        abort();
    struct pollfd waiting = {.fd = fd, .events = POLLIN};
    if (send(fd, data, size, MSG_NOSIGNAL) >= 0)
        shutdown(fd, SHUT_WR);
    while (poll(&waiting, 1, 5) == 1) {
        ssize_t n = recv(fd, reply, sizeof reply - 1, 0);
        if (n <= 0)
            break;
        reply[n] = '\0';
        if (strncmp(reply, "HTTP/1.1 500", 12) == 0)
            abort();
    }
    close(fd);
    return 0;
}

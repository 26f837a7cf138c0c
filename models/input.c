// SPDX-License-Identifier: MIT

#include "config.h" /* 64-bit file offsets on 32-bit machines */

#include "models/input.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int input_open(int dir, const char *name, uint64_t *bytes, struct err *e)
{
    struct stat st;
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); /* a FIFO must not make us wait */
    if (fd < 0)
        return err_set(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s", strerror(errno));
    if (fstat(fd, &st) < 0) {
        err_set(e, ERR_IO, "%s", strerror(errno));
    } else if (!S_ISREG(st.st_mode)) {
        err_set(e, ERR_INPUT, "not a regular file");
    } else {
        *bytes = (uint64_t)st.st_size;
        return fd;
    }
    close(fd);
    return -1;
}

int input_read(int fd, void *out, uint64_t size, uint64_t offset, struct err *e)
{
    char *p = out;
    while (size > 0) {
        ssize_t n = pread(fd, p, size > 1 << 30 ? 1 << 30 : (size_t)size, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(e, ERR_IO, "cannot be read: %s", strerror(errno));
        if (n == 0)
            return err_set(e, ERR_DAMAGED, "the file became shorter while it was read");
        p += n;
        size -= (uint64_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

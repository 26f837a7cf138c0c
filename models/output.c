// SPDX-License-Identifier: MIT
//
// Everything is relative to the directory as opened at the start, so that the rename happens where the file was written, whatever
// becomes of the path.

#include "config.h" /* 64-bit file offsets on 32-bit machines */

#include "models/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_directory(const char *path, const char **base, struct err *e)
{
    const char *slash = strrchr(path, '/');
    *base = slash ? slash + 1 : path;
    if (**base == '\0')
        return err_set(e, ERR_INPUT, "names a directory, not a file");
    char *dir = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    if (!dir)
        return err_set(e, ERR_MEMORY, "no memory for a path");
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        err_set(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "its directory: %s", strerror(errno));
    free(dir);
    return fd;
}

/* Gives the file a name that nobody uses; another process's or a killed one's file is passed by. from: a path of the file if it
   has none in dir yet, else NULL and the file is made. -1, or a descriptor (0 with from). */
static int name_temporary(struct output *o, const char *from, struct err *e)
{
    for (int i = 0; i < 1000; i++) {
        snprintf(o->temporary, sizeof o->temporary, ".resnetd-%ld-%d.tmp", (long)getpid(), i);
        int fd = from ? linkat(AT_FDCWD, from, o->dir, o->temporary, AT_SYMLINK_FOLLOW)
                      : openat(o->dir, o->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
        if (fd >= 0)
            return fd;
        if (errno != EEXIST) {
            o->temporary[0] = '\0';
            return err_set(e, ERR_IO, "%s", strerror(errno));
        }
    }
    o->temporary[0] = '\0';
    return err_set(e, ERR_IO, "too many temporary files of ours in its directory");
}

static void descriptor_path(int fd, char path[32])
{
    snprintf(path, 32, "/proc/self/fd/%d", fd);
}

/* A file without a name vanishes with the process, so that a killed one leaves nothing half-written behind. It takes a file
   system that knows them, and /proc to name it in the end. */
static int open_nameless(int dir)
{
    char path[32];
    int fd = openat(dir, ".", O_WRONLY | O_TMPFILE | O_CLOEXEC, 0644);
    if (fd < 0)
        return -1;
    descriptor_path(fd, path);
    if (access(path, F_OK) == 0)
        return fd;
    close(fd);
    return -1;
}

int output_begin(const char *path, struct output *o, struct err *e)
{
    o->dir = open_directory(path, &o->base, e);
    if (o->dir < 0)
        return -1;
    o->temporary[0] = '\0';
    o->fd = open_nameless(o->dir);
    if (o->fd < 0)
        o->fd = name_temporary(o, NULL, e);
    if (o->fd >= 0)
        return 0;
    close(o->dir);
    return -1;
}

int output_write(const struct output *o, const void *data, uint64_t size, struct err *e)
{
    const char *p = data;
    while (size > 0) {
        ssize_t n = write(o->fd, p, size > 1 << 30 ? 1 << 30 : (size_t)size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(e, ERR_IO, "%s", strerror(errno));
        p += n;
        size -= (uint64_t)n;
    }
    return 0;
}

int output_end(struct output *o, int result, struct err *e)
{
    if (result == 0 && fsync(o->fd) < 0)
        result = err_set(e, ERR_IO, "%s", strerror(errno));
    if (result == 0 && !o->temporary[0]) {
        char path[32];
        descriptor_path(o->fd, path);
        result = name_temporary(o, path, e);
    }
    if (close(o->fd) < 0 && result == 0)
        result = err_set(e, ERR_IO, "%s", strerror(errno));
    if (result == 0 && renameat(o->dir, o->temporary, o->dir, o->base) < 0)
        result = err_set(e, ERR_IO, "%s", strerror(errno));
    if (result < 0 && o->temporary[0])
        unlinkat(o->dir, o->temporary, 0);
    else if (result == 0 && fsync(o->dir) < 0 && errno != EINVAL && errno != ENOTSUP) /* some file systems sync no directories */
        result = err_set(e, ERR_IO, "written, but its directory could not be synced: %s", strerror(errno));
    close(o->dir);
    return result;
}

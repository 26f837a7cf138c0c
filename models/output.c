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
#include <sys/file.h>
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

/* 1 when the open file is the one of that name. */
static int has_name(const struct output *o, int fd)
{
    struct stat open, named;
    return fstat(fd, &open) == 0 && fstatat(o->dir, o->temporary, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
           open.st_dev == named.st_dev && open.st_ino == named.st_ino;
}

/* Every writer holds a lock on its file as long as it is at work, and who is killed loses it: a file that can be locked is what a
   killed one left. With the lock, and the name still that file's, nobody else takes it away or puts another in its place. */
static void remove_stale(const struct output *o)
{
    int fd = openat(o->dir, o->temporary, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0 && has_name(o, fd))
        unlinkat(o->dir, o->temporary, 0);
    close(fd);
}

/* A new file of that name, locked; -1 with errno EEXIST when another got it. */
static int make_locked(const struct output *o)
{
    int fd = openat(o->dir, o->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0)
        return -1;
    flock(fd, LOCK_EX | LOCK_NB); /* where there are no locks there is nothing to lose */
    if (has_name(o, fd))
        return fd;
    close(fd);
    errno = EEXIST;
    return -1;
}

/* Gives the file a name that no other writer uses; what a killed one left is removed. from: a path of the file if it has none in
   dir yet, else NULL and the file is made. -1, or a descriptor (0 with from). */
static int name_temporary(struct output *o, const char *from, struct err *e)
{
    for (int i = 0; i < 1000; i++) {
        snprintf(o->temporary, sizeof o->temporary, ".resnetd-%d.tmp", i);
        remove_stale(o);
        int fd = from ? linkat(AT_FDCWD, from, o->dir, o->temporary, AT_SYMLINK_FOLLOW) : make_locked(o);
        if (fd >= 0)
            return fd;
        if (errno != EEXIST) {
            err_set(e, ERR_IO, "%s", strerror(errno));
            o->temporary[0] = '\0';
            return -1;
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
    if (access(path, F_OK) == 0) {
        flock(fd, LOCK_EX | LOCK_NB);
        return fd;
    }
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
    if (result == 0 && renameat(o->dir, o->temporary, o->dir, o->base) < 0)
        result = err_set(e, ERR_IO, "%s", strerror(errno));
    if (result < 0 && o->temporary[0])
        unlinkat(o->dir, o->temporary, 0);
    close(o->fd); /* the lock lasts as long as the name; fsync has said whether the bytes are there */
    if (result == 0 && fsync(o->dir) < 0 && errno != EINVAL && errno != ENOTSUP) /* some file systems sync no directories */
        result = err_set(e, ERR_IO, "written, but its directory could not be synced: %s", strerror(errno));
    close(o->dir);
    return result;
}

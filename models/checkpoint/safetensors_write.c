// SPDX-License-Identifier: MIT
//
// The header is checked by the reader's own parser before a byte is written, so what st_write writes, st_open reads.

#include "config.h" /* 64-bit file offsets on 32-bit machines */

#include "models/checkpoint/safetensors_header.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ALIGN_MAX 4096

static uint64_t item_bytes(const struct st_item *item)
{
    uint64_t bytes = st_dtype_bytes(item->dtype);
    for (int i = 0; i < item->rank; i++)
        bytes *= (uint64_t)item->shape[i];
    return bytes;
}

static void put_string(FILE *out, const char *s)
{
    putc('"', out);
    for (; *s; s++) {
        if ((unsigned char)*s < 0x20)
            fprintf(out, "\\u%04x", *s);
        else if (*s == '"' || *s == '\\')
            fprintf(out, "\\%c", *s);
        else
            putc(*s, out);
    }
    putc('"', out);
}

static void put_item(FILE *out, const struct st_item *item, uint64_t begin)
{
    put_string(out, item->name);
    fprintf(out, ":{\"dtype\":\"%s\",\"shape\":[", st_dtype_name(item->dtype));
    for (int i = 0; i < item->rank; i++)
        fprintf(out, "%s%lld", i ? "," : "", (long long)item->shape[i]);
    fprintf(out, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)begin, (unsigned long long)(begin + item_bytes(item)));
}

/* The first bytes of the file: 8 for the length, JSON, spaces up to a multiple of align. To be freed; NULL with e set. */
static char *make_header(const struct st_item *items, int item_count, const struct st_meta *meta, int meta_count, int align,
                         size_t *size, uint64_t *data_bytes, struct err *e)
{
    char *text = NULL;
    size_t len = 0;
    uint64_t at = 0;
    FILE *out = open_memstream(&text, &len);
    if (!out) {
        err_set(e, ERR_MEMORY, "no memory for a safetensors header");
        return NULL;
    }
    fwrite("\0\0\0\0\0\0\0\0{", 1, 9, out);
    if (meta_count > 0) {
        fputs("\"__metadata__\":{", out);
        for (int i = 0; i < meta_count; i++) {
            if (i)
                putc(',', out);
            put_string(out, meta[i].key);
            putc(':', out);
            put_string(out, meta[i].value);
        }
        putc('}', out);
    }
    for (int i = 0; i < item_count; i++) {
        if (i || meta_count > 0)
            putc(',', out);
        put_item(out, &items[i], at);
        at += item_bytes(&items[i]);
    }
    putc('}', out);
    while (ftell(out) % align != 0 && !ferror(out))
        putc(' ', out);
    int failed = ferror(out);
    if (fclose(out) != 0 || failed) {
        free(text);
        err_set(e, ERR_MEMORY, "no memory for a safetensors header");
        return NULL;
    }
    for (int i = 0; i < 8; i++)
        text[i] = (char)((uint64_t)(len - 8) >> 8 * i);
    *size = len;
    *data_bytes = at;
    return text;
}

/* Whatever the reader would refuse is refused here. */
static int check_header(const char *text, size_t size, uint64_t data_bytes, struct err *e)
{
    struct st_header h;
    if (size - 8 > ST_HEADER_MAX)
        return err_set(e, ERR_TOO_LARGE, "the header would have %zu bytes, the limit is %u", size - 8, ST_HEADER_MAX);
    char *copy = malloc(size - 8); /* the parser writes into it */
    if (!copy)
        return err_set(e, ERR_MEMORY, "no memory for a safetensors header");
    memcpy(copy, text + 8, size - 8);
    if (st_header_parse(copy, size - 8, data_bytes, &h, e) < 0) {
        if (e && e->code == ERR_DAMAGED)
            e->code = ERR_INPUT;
        return -1;
    }
    st_header_free(&h);
    return 0;
}

static int check_items(const struct st_item *items, int item_count, int align, struct err *e)
{
    if (align < 1 || align > ALIGN_MAX)
        return err_set(e, ERR_INPUT, "data cannot be aligned to %d bytes (1 to %d)", align, ALIGN_MAX);
    for (int i = 0; i < item_count; i++) {
        uint64_t count = 1;
        if (items[i].rank < 0 || items[i].rank > ST_RANK_MAX)
            return err_set(e, ERR_INPUT, "tensor '%.80s': rank %d, at most %d", items[i].name, items[i].rank, ST_RANK_MAX);
        for (int d = 0; d < items[i].rank; d++) {
            int64_t dim = items[i].shape[d];
            if (dim < 0 || (dim > 0 && count > (uint64_t)INT64_MAX / 8 / (uint64_t)dim))
                return err_set(e, ERR_INPUT, "tensor '%.80s': impossible shape", items[i].name);
            count *= (uint64_t)dim;
        }
    }
    return 0;
}

static int write_all(int fd, const void *data, uint64_t size, struct err *e)
{
    const char *p = data;
    while (size > 0) {
        ssize_t n = write(fd, p, size > 1 << 30 ? 1 << 30 : (size_t)size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(e, ERR_IO, "%s", strerror(errno));
        p += n;
        size -= (uint64_t)n;
    }
    return 0;
}

static int write_content(int fd, const char *header, size_t header_size, const struct st_item *items, int item_count,
                         struct err *e)
{
    if (write_all(fd, header, header_size, e) < 0)
        return -1;
    for (int i = 0; i < item_count; i++)
        if (write_all(fd, items[i].data, item_bytes(&items[i]), e) < 0)
            return -1;
    return fsync(fd) < 0 ? err_set(e, ERR_IO, "%s", strerror(errno)) : 0;
}

/* Opens a new file in dir under a name that nobody uses; another process's or a killed one's file is passed by. */
static int open_temporary(int dir, char *name, size_t size, struct err *e)
{
    for (int i = 0; i < 1000; i++) {
        snprintf(name, size, ".resnetd-%ld-%d.tmp", (long)getpid(), i);
        int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
        if (fd >= 0 || errno != EEXIST)
            return fd >= 0 ? fd : err_set(e, ERR_IO, "%s", strerror(errno));
    }
    return err_set(e, ERR_IO, "too many temporary files of ours in its directory");
}

/* Everything is relative to dir, so that the rename happens where the file was written, whatever becomes of the path. */
static int replace(int dir, const char *base, const char *header, size_t header_size, const struct st_item *items, int item_count,
                   struct err *e)
{
    char name[64];
    int fd = open_temporary(dir, name, sizeof name, e);
    if (fd < 0)
        return -1;
    int result = write_content(fd, header, header_size, items, item_count, e);
    if (close(fd) < 0 && result == 0)
        result = err_set(e, ERR_IO, "%s", strerror(errno));
    if (result == 0 && renameat(dir, name, dir, base) < 0)
        result = err_set(e, ERR_IO, "%s", strerror(errno));
    if (result < 0) {
        unlinkat(dir, name, 0);
        return -1;
    }
    if (fsync(dir) < 0 && errno != EINVAL && errno != ENOTSUP) /* some file systems sync no directories */
        return err_set(e, ERR_IO, "written, but its directory could not be synced: %s", strerror(errno));
    return 0;
}

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

int st_write(const char *path, const struct st_item *items, int item_count, const struct st_meta *meta, int meta_count, int align,
             struct err *e)
{
    size_t header_size = 0;
    uint64_t data_bytes = 0;
    const char *base;
    int dir, result = -1;

    if (check_items(items, item_count, align, e) < 0)
        return err_prefix(e, "%.140s", path);
    char *header = make_header(items, item_count, meta, meta_count, align, &header_size, &data_bytes, e);
    if (header && check_header(header, header_size, data_bytes, e) == 0 && (dir = open_directory(path, &base, e)) >= 0) {
        result = replace(dir, base, header, header_size, items, item_count, e);
        close(dir);
    }
    free(header);
    return result < 0 ? err_prefix(e, "%.140s", path) : 0;
}

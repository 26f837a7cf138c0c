// SPDX-License-Identifier: MIT

#include "config.h" /* 64-bit file offsets on 32-bit machines */

#include "models/dataset_store.h"

#include "models/input.h"
#include "models/tar.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

static int has_ending(const char *name, const char *const *endings)
{
    const char *dot = strrchr(name, '.');
    for (; dot && *endings; endings++)
        if (strcasecmp(dot, *endings) == 0)
            return 1;
    return 0;
}

/* By the name alone: a file name without folders. */
static int name_is_kind(const char *name, enum store_list_kind kind)
{
    static const char *const images[] = {".jpg", ".jpeg", ".png", ".webp", NULL}, *const batches[] = {".bin", NULL};
    return name[0] != '.' && (kind == STORE_FOLDERS || has_ending(name, kind == STORE_IMAGES ? images : batches));
}

/* ---- archives */

static int add_member(void *user, const struct tar_member *m, struct err *e)
{
    struct store *s = user;
    const char *slash = strrchr(m->name, '/'), *file = slash ? slash + 1 : m->name;
    if (m->kind == TAR_OTHER)
        return 0;
    if (s->count == 2 * DATASET_IMAGES_MAX)
        return err_set(e, ERR_TOO_LARGE, "more than %d files", 2 * DATASET_IMAGES_MAX);
    if ((s->count & (s->count - 1)) == 0) { /* 0 or a power of two: it is full */
        struct store_member *members = realloc(s->members, (s->count ? 2 * (size_t)s->count : 1) * sizeof *members);
        if (!members)
            return err_set(e, ERR_MEMORY, "no memory for a list of files");
        s->members = members;
    }
    if (m->kind == TAR_LINK && !name_is_kind(file, STORE_IMAGES) && !name_is_kind(file, STORE_BATCHES))
        return 0;
    char *name = strdup(m->name);
    if (!name)
        return err_set(e, ERR_MEMORY, "no memory for a list of files");
    s->members[s->count++] = (struct store_member){name, m->offset, m->size, m->kind == TAR_LINK};
    return 0;
}

static int compare_members(const void *a, const void *b)
{
    return strcmp(((const struct store_member *)a)->name, ((const struct store_member *)b)->name);
}

static int is_hidden(const char *name)
{
    return name[0] == '.' || strstr(name, "/.") != NULL;
}

/* Bytes of the leading directories, with their slash, that all files share. */
static size_t shared_prefix(const struct store *s)
{
    const char *first = NULL;
    size_t shared = 0;
    for (int i = 0; i < s->count; i++) {
        const char *name = s->members[i].name;
        size_t same = 0;
        if (is_hidden(name))
            continue;
        if (!first) {
            const char *slash = strrchr(name, '/');
            first = name;
            shared = slash ? (size_t)(slash - name) + 1 : 0;
        }
        while (same < shared && name[same] == first[same])
            same++;
        while (same > 0 && first[same - 1] != '/')
            same--;
        shared = same;
    }
    return shared;
}

static int open_archive(struct store *s, uint64_t bytes, struct err *e)
{
    if (tar_walk(s->fd, bytes, add_member, s, e) < 0)
        return -1;
    if (s->count == 0)
        return err_set(e, ERR_INPUT, "the archive holds no files");
    qsort(s->members, (size_t)s->count, sizeof *s->members, compare_members);
    const size_t shared = shared_prefix(s);
    for (int i = 0; i < s->count; i++) {
        char *name = s->members[i].name;
        if (s->members[i].link)
            return err_set(e, ERR_UNSUPPORTED, "'%.140s' is a link: make the archive with tar --dereference --hard-dereference",
                           name);
        if (i > 0 && strcmp(name, s->members[i - 1].name) == 0)
            return err_set(e, ERR_INPUT, "'%.140s' is there twice", name);
    }
    for (int i = 0; shared > 0 && i < s->count; i++) {
        char *name = s->members[i].name;
        if (!is_hidden(name))
            memmove(name, name + shared, strlen(name + shared) + 1);
    }
    if (shared > 0)
        qsort(s->members, (size_t)s->count, sizeof *s->members, compare_members); /* for the hidden ones, which kept theirs */
    return 0;
}

/* The first member whose name is not before `name`. */
static int find_member(const struct store *s, const char *name)
{
    int low = 0, high = s->count;
    while (low < high) {
        const int middle = low + (high - low) / 2;
        if (strcmp(s->members[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static const struct store_member *member_named(const struct store *s, const char *name)
{
    const int i = find_member(s, name);
    return i < s->count && strcmp(s->members[i].name, name) == 0 ? &s->members[i] : NULL;
}

static int list_archive(const struct store *s, const char *folder, enum store_list_kind kind, struct entry_list *found,
                        struct err *e)
{
    char part[TAR_NAME_MAX + 2] = "";
    if (strcmp(folder, ".") != 0)
        snprintf(part, sizeof part, "%s/", folder);
    const size_t start = strlen(part);
    for (int i = find_member(s, part); i < s->count && strncmp(s->members[i].name, part, start) == 0; i++) {
        const char *name = s->members[i].name + start, *slash = strchr(name, '/');
        if ((kind == STORE_FOLDERS) != (slash != NULL) || !name_is_kind(name, kind))
            continue;
        const size_t length = slash ? (size_t)(slash - name) : strlen(name);
        const char *last = found->count > 0 ? found->v[found->count - 1].name : "";
        if (strncmp(last, name, length) == 0 && last[length] == '\0')
            continue; /* the next file of a folder */
        char own[TAR_NAME_MAX + 1];
        snprintf(own, sizeof own, "%.*s", (int)length, name);
        if (entry_list_add(found, own, -1, e) < 0)
            return -1;
    }
    return 0;
}

/* ---- directories */

static int is_kind(int dir, const char *name, enum store_list_kind kind)
{
    struct stat st;
    return name_is_kind(name, kind) && fstatat(dir, name, &st, 0) == 0 && /* symlinks too */
           (kind == STORE_FOLDERS ? S_ISDIR(st.st_mode) : S_ISREG(st.st_mode));
}

static int list_directory(const struct store *s, const char *folder, enum store_list_kind kind, struct entry_list *found,
                          struct err *e)
{
    int result = 0, fd = openat(s->fd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = fd < 0 ? NULL : fdopendir(fd);
    if (!stream) {
        err_set(e, ERR_IO, "folder '%.80s': %s", folder, strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    while (result == 0) {
        errno = 0;
        struct dirent *item = readdir(stream);
        if (!item && errno)
            result = err_set(e, ERR_IO, "folder '%.80s': %s", folder, strerror(errno));
        if (!item)
            break;
        if (is_kind(fd, item->d_name, kind))
            result = entry_list_add(found, item->d_name, -1, e);
    }
    closedir(stream);
    return result;
}

/* ---- the interface */

/* A file that is no directory: an archive, or what only the reader of records can judge. */
static int open_file(struct store *s, struct err *e)
{
    static const struct {
        const char *magic;
        int bytes;
        const char *command;
    } compressed[] = {{"\xfd"
                       "7zXZ",
                       5, "xz -d"},
                      {"\x1f\x8b", 2, "gzip -d"},
                      {"BZh", 3, "bzip2 -d"},
                      {"\x28\xb5\x2f\xfd", 4, "zstd -d"},
                      {"PK\x03\x04", 4, "unzip"}};
    uint8_t block[TAR_BLOCK] = {0};
    uint64_t bytes;
    const char *dot = strrchr(s->path, '.');
    const int fd = input_open(AT_FDCWD, s->path, &bytes, e);
    if (fd < 0)
        return -1;
    s->fd = fd;
    if (input_read(fd, block, bytes < sizeof block ? bytes : sizeof block, 0, e) < 0)
        return -1;
    for (size_t i = 0; i < sizeof compressed / sizeof *compressed; i++)
        if (memcmp(block, compressed[i].magic, (size_t)compressed[i].bytes) == 0)
            return err_set(e, ERR_UNSUPPORTED, "is compressed: unpack it first with %s", compressed[i].command);
    if (tar_recognise(block, sizeof block) || (dot && strcasecmp(dot, ".tar") == 0)) {
        s->kind = STORE_TAR;
        return open_archive(s, bytes, e);
    }
    close(fd);
    s->fd = AT_FDCWD;
    s->kind = STORE_FILE;
    return 0;
}

int store_open(struct store *s, const char *path, struct err *e)
{
    struct stat st;
    int result = 0;
    *s = (struct store){.path = path, .fd = AT_FDCWD};
    if (stat(path, &st) < 0)
        return err_set(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%.140s: %s", path, strerror(errno));
    if (S_ISDIR(st.st_mode)) {
        s->kind = STORE_DIRECTORY;
        s->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (s->fd < 0)
            result = err_set(e, ERR_IO, "%s", strerror(errno));
    } else {
        result = open_file(s, e);
    }
    if (result == 0)
        return 0;
    store_close(s);
    return err_prefix(e, "%.140s", path);
}

void store_close(struct store *s)
{
    if (s->fd >= 0)
        close(s->fd);
    for (int i = 0; i < s->count; i++)
        free(s->members[i].name);
    free(s->members);
    *s = (struct store){.fd = AT_FDCWD};
}

int store_file_open(const struct store *s, const char *name, struct store_file *out, struct err *e)
{
    if (s->kind == STORE_TAR) {
        const struct store_member *m = member_named(s, name);
        if (!m)
            return err_set(e, ERR_NOT_FOUND, "not in the archive");
        *out = (struct store_file){s->fd, 1, m->offset, m->size};
        return 0;
    }
    uint64_t bytes;
    const int fd = input_open(s->fd, name, &bytes, e);
    if (fd < 0)
        return -1;
    *out = (struct store_file){fd, 0, 0, bytes};
    return 0;
}

int store_file_read(const struct store_file *f, void *out, uint64_t size, uint64_t offset, struct err *e)
{
    return input_read(f->fd, out, size, f->offset + offset, e);
}

void store_file_close(struct store_file *f)
{
    if (!f->shared)
        close(f->fd);
}

int store_has(const struct store *s, const char *name)
{
    struct stat st;
    if (s->kind == STORE_TAR)
        return member_named(s, name) != NULL;
    return fstatat(s->fd, name, &st, 0) == 0 || errno != ENOENT;
}

int store_list(const struct store *s, const char *folder, enum store_list_kind kind, int label, struct entry_list *out,
               struct err *e)
{
    struct entry_list found = {0};
    int result = s->kind == STORE_TAR ? list_archive(s, folder, kind, &found, e) : list_directory(s, folder, kind, &found, e);
    entry_list_sort(&found);
    for (int i = 0; result == 0 && i < found.count; i++) {
        const int top = strcmp(folder, ".") == 0;
        char *name = NULL;
        if (asprintf(&name, "%s%s%s", top ? "" : folder, top ? "" : "/", found.v[i].name) < 0)
            result = err_set(e, ERR_MEMORY, "no memory for a list of images");
        else
            result = entry_list_add(out, name, label, e);
        free(name);
    }
    entry_list_free(&found);
    return result;
}

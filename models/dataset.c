// SPDX-License-Identifier: MIT

#include "config.h" /* 64-bit file offsets on 32-bit machines */

#include "models/dataset.h"

#include "models/dataset_list.h"
#include "models/input.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define CIFAR_SIDE    32
#define CIFAR_PIXELS  (CIFAR_SIDE * CIFAR_SIDE)
#define CIFAR_RECORD  (1 + 3 * CIFAR_PIXELS)
#define CIFAR_CLASSES 10

struct dataset {
    char *path;              /* for messages */
    int dir;                 /* descriptor of the directory; AT_FDCWD when path is a file */
    struct entry_list files; /* encoded images, or (cifar) batch files with their number of records as label */
    int cifar, labelled;
    int count; /* images */
    int label_count;
    uint8_t *buffer; /* of the last image read */
    size_t buffer_bytes;
    uint8_t pixels[3 * CIFAR_PIXELS];
    char name[320];
};

/* ---- files */

/* The whole file and a terminator into d->buffer. */
static int read_file(struct dataset *d, const char *name, size_t *size, struct err *e)
{
    uint64_t bytes = 0;
    int result = -1, fd = input_open(d->dir, name, &bytes, e);
    if (fd < 0)
        return -1;
    if (bytes > DATASET_FILE_MAX) {
        err_set(e, ERR_TOO_LARGE, "%llu bytes, the limit is %d", (unsigned long long)bytes, DATASET_FILE_MAX);
        goto out;
    }
    if (bytes + 1 > d->buffer_bytes) {
        uint8_t *buffer = realloc(d->buffer, (size_t)bytes + 1);
        if (!buffer) {
            err_set(e, ERR_MEMORY, "no memory for %llu bytes", (unsigned long long)bytes);
            goto out;
        }
        d->buffer = buffer;
        d->buffer_bytes = (size_t)bytes + 1;
    }
    if (input_read(fd, d->buffer, (size_t)bytes, 0, e) == 0) {
        d->buffer[bytes] = '\0';
        *size = (size_t)bytes;
        result = 0;
    }
out:
    close(fd);
    return result;
}

/* ---- directories */

enum kind { FOLDERS, IMAGES, BATCHES };

static int has_ending(const char *name, const char *const *endings)
{
    const char *dot = strrchr(name, '.');
    for (; dot && *endings; endings++)
        if (strcasecmp(dot, *endings) == 0)
            return 1;
    return 0;
}

static int is_kind(int dir, const char *name, enum kind kind)
{
    static const char *const images[] = {".jpg", ".jpeg", ".png", ".webp", NULL}, *const batches[] = {".bin", NULL};
    struct stat st;
    if (name[0] == '.' || (kind != FOLDERS && !has_ending(name, kind == IMAGES ? images : batches)))
        return 0;
    return fstatat(dir, name, &st, 0) == 0 && (kind == FOLDERS ? S_ISDIR(st.st_mode) : S_ISREG(st.st_mode)); /* symlinks too */
}

/* Adds what is of that kind in the directory `folder` of dir, sorted, as "folder/name", or "name" when folder is ".". */
static int list(int dir, const char *folder, enum kind kind, int label, struct entry_list *out, struct err *e)
{
    struct entry_list found = {0};
    int result = -1, fd = openat(dir, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = fd < 0 ? NULL : fdopendir(fd);
    if (!stream) {
        err_set(e, ERR_IO, "folder '%.80s': %s", folder, strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    for (;;) {
        errno = 0;
        struct dirent *item = readdir(stream);
        if (!item)
            break;
        if (is_kind(fd, item->d_name, kind) && entry_list_add(&found, item->d_name, label, e) < 0)
            goto out;
    }
    if (errno) {
        err_set(e, ERR_IO, "folder '%.80s': %s", folder, strerror(errno));
        goto out;
    }
    entry_list_sort(&found);
    for (int i = 0; i < found.count; i++) {
        char name[2 * (NAME_MAX + 1)];
        snprintf(name, sizeof name, "%s%s%s", folder[0] == '.' ? "" : folder, folder[0] == '.' ? "" : "/", found.v[i].name);
        if (entry_list_add(out, name, label, e) < 0)
            goto out;
    }
    result = 0;
out:
    closedir(stream);
    entry_list_free(&found);
    return result;
}

/* Folder names as labels: all of them indices or names of classes, or none, and then their sorted order counts. */
static int label_folders(struct entry_list *folders, const struct label_names *labels, struct err *e)
{
    int known = 0;
    struct err first = {0};
    for (int i = 0; i < folders->count; i++) {
        struct err why;
        if (label_find(labels, folders->v[i].name, &folders->v[i].label, &why) == 0)
            known++;
        else if (!first.text[0])
            first = why;
    }
    if (known == folders->count)
        return 0;
    if (known > 0 || (labels->count > 0 && labels->count != folders->count))
        return err_set(e, first.code, "%d of %d folders name a class: %s", known, folders->count, first.text);
    for (int i = 0; i < folders->count; i++)
        folders->v[i].label = i;
    return 0;
}

static int open_folders(struct dataset *d, struct entry_list *folders, const struct label_names *labels, struct err *e)
{
    int loose = d->files.count; /* images beside the folders */
    for (int i = 0; i < folders->count; i++)
        if (list(d->dir, folders->v[i].name, IMAGES, i, &d->files, e) < 0)
            return -1;
    if (d->files.count == loose)
        return 0; /* the folders hold something else */
    if (loose > 0)
        return err_set(e, ERR_INPUT, "holds both images and folders of images: give one or the other, or a labels.csv");
    if (label_folders(folders, labels, e) < 0)
        return -1;
    for (int i = 0; i < d->files.count; i++)
        d->files.v[i].label = folders->v[d->files.v[i].label].label;
    d->labelled = 1;
    return 0;
}

static int open_batches(struct dataset *d, struct err *e)
{
    d->cifar = d->labelled = 1;
    for (int i = 0; i < d->files.count; i++) {
        const char *name = d->files.v[i].name;
        uint64_t bytes = 0;
        int fd = input_open(d->dir, name, &bytes, e);
        if (fd < 0)
            return err_prefix(e, "%.80s", name);
        close(fd);
        if (bytes == 0 || bytes % CIFAR_RECORD != 0)
            return err_set(e, ERR_DAMAGED, "%.140s: %llu bytes is no whole number of CIFAR-10 records (%d bytes)", name,
                           (unsigned long long)bytes, CIFAR_RECORD);
        if (bytes / CIFAR_RECORD > (uint64_t)(DATASET_IMAGES_MAX - d->count))
            return err_set(e, ERR_TOO_LARGE, "more than %d images", DATASET_IMAGES_MAX);
        d->files.v[i].label = (int)(bytes / CIFAR_RECORD);
        d->count += d->files.v[i].label;
    }
    return 0;
}

static int open_directory(struct dataset *d, const struct label_names *labels, struct err *e)
{
    struct stat st;
    struct entry_list folders = {0};
    size_t size = 0;
    if (fstatat(d->dir, "labels.csv", &st, 0) == 0) {
        d->labelled = 1;
        if (read_file(d, "labels.csv", &size, e) < 0)
            return err_prefix(e, "%.140s/labels.csv", d->path);
        return dataset_csv(d->dir, d->path, (char *)d->buffer, size, labels, &d->files, e);
    }
    int result = list(d->dir, ".", BATCHES, -1, &d->files, e);
    if (result == 0 && d->files.count > 0) {
        result = open_batches(d, e);
    } else if (result == 0) {
        result = list(d->dir, ".", IMAGES, -1, &d->files, e);
        if (result == 0)
            result = list(d->dir, ".", FOLDERS, -1, &folders, e);
        if (result == 0 && folders.count > 0)
            result = open_folders(d, &folders, labels, e);
        if (result == 0 && d->files.count == 0)
            result = err_set(e, ERR_INPUT,
                             "no images: expected labels.csv, one folder per class, .jpg .png .webp or CIFAR-10 .bin files");
        entry_list_free(&folders);
    }
    return result < 0 ? err_prefix(e, "%.140s", d->path) : 0;
}

/* ---- the interface */

int dataset_open(const char *path, char *const *labels, int label_count, struct dataset **out, struct err *e)
{
    struct label_names names = {0};
    struct stat st;
    struct dataset *d = calloc(1, sizeof *d);
    if (!d)
        return err_set(e, ERR_MEMORY, "no memory for a data set");
    d->dir = AT_FDCWD;
    d->label_count = label_count;
    d->path = strdup(path);
    if (!d->path) {
        err_set(e, ERR_MEMORY, "no memory for a data set");
        goto fail;
    }
    if (label_names_init(&names, labels, label_count, e) < 0)
        goto fail;
    if (stat(path, &st) < 0) {
        err_set(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%.140s: %s", path, strerror(errno));
        goto fail;
    }
    if (!S_ISDIR(st.st_mode)) {
        if (entry_list_add(&d->files, path, -1, e) < 0 || open_batches(d, e) < 0)
            goto fail;
    } else {
        d->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (d->dir < 0) {
            err_set(e, ERR_IO, "%.140s: %s", path, strerror(errno));
            goto fail;
        }
        if (open_directory(d, &names, e) < 0)
            goto fail;
    }
    if (!d->cifar)
        d->count = d->files.count;
    label_names_free(&names);
    *out = d;
    return 0;
fail:
    label_names_free(&names);
    dataset_close(d);
    return -1;
}

void dataset_close(struct dataset *d)
{
    if (!d)
        return;
    if (d->dir >= 0)
        close(d->dir);
    entry_list_free(&d->files);
    free(d->path);
    free(d->buffer);
    free(d);
}

int dataset_count(const struct dataset *d)
{
    return d->count;
}

int dataset_labelled(const struct dataset *d)
{
    return d->labelled;
}

static int read_record(struct dataset *d, int i, struct sample *out, struct err *e)
{
    uint8_t record[CIFAR_RECORD];
    const struct entry *file = d->files.v;
    uint64_t bytes = 0;
    for (; i >= file->label; file++)
        i -= file->label;
    int fd = input_open(d->dir, file->name, &bytes, e);
    int result = fd < 0 ? -1 : input_read(fd, record, sizeof record, (uint64_t)i * CIFAR_RECORD, e);
    if (fd >= 0)
        close(fd);
    int limit = d->label_count > 0 && d->label_count < CIFAR_CLASSES ? d->label_count : CIFAR_CLASSES;
    if (result == 0 && record[0] >= limit)
        result = err_set(e, ERR_DAMAGED, "label %d, expected 0 to %d", record[0], limit - 1);
    const char *folder = d->dir == AT_FDCWD ? NULL : d->path;
    if (result < 0)
        return err_prefix(e, "%.140s%s%.140s, record %d", folder ? folder : "", folder ? "/" : "", file->name, i);
    for (int p = 0; p < CIFAR_PIXELS; p++)
        for (int c = 0; c < 3; c++)
            d->pixels[3 * p + c] = record[1 + c * CIFAR_PIXELS + p];
    snprintf(d->name, sizeof d->name, "%.255s[%d]", file->name, i);
    *out = (struct sample){
        .folder = folder, .name = d->name, .label = record[0], .pixels = d->pixels, .width = CIFAR_SIDE, .height = CIFAR_SIDE};
    return 0;
}

int dataset_read(struct dataset *d, int i, struct sample *out, struct err *e)
{
    size_t size = 0;
    if (i < 0 || i >= d->count)
        return err_set(e, ERR_INPUT, "image %d of %d", i, d->count);
    if (d->cifar)
        return read_record(d, i, out, e);
    const struct entry *file = &d->files.v[i];
    if (read_file(d, file->name, &size, e) < 0)
        return err_prefix(e, "%.140s/%.80s", d->path, file->name);
    *out = (struct sample){.folder = d->path, .name = file->name, .label = file->label, .bytes = d->buffer, .size = size};
    return 0;
}

// SPDX-License-Identifier: MIT

#include "models/dataset.h"

#include "models/dataset_list.h"
#include "models/dataset_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIGITS "0123456789"

#define CIFAR_SIDE    32
#define CIFAR_PIXELS  (CIFAR_SIDE * CIFAR_SIDE)
#define CIFAR_RECORD  (1 + 3 * CIFAR_PIXELS)
#define CIFAR_CLASSES 10

struct dataset {
    char *path; /* for messages */
    struct store store;
    struct entry_list files; /* encoded images, or (cifar) batch files with their number of records as label */
    int cifar, labelled;
    int count; /* images */
    int label_count;
    uint8_t *buffer; /* of the last image read */
    size_t buffer_bytes;
    uint8_t pixels[3 * CIFAR_PIXELS];
    char name[320];
};

/* The whole file and a terminator into d->buffer. */
static int read_file(struct dataset *d, const char *name, size_t *size, struct err *e)
{
    struct store_file f;
    int result = -1;
    if (store_file_open(&d->store, name, &f, e) < 0)
        return -1;
    if (f.bytes > DATASET_FILE_MAX) {
        err_set(e, ERR_TOO_LARGE, "%llu bytes, the limit is %d", (unsigned long long)f.bytes, DATASET_FILE_MAX);
        goto out;
    }
    if (f.bytes + 1 > d->buffer_bytes) {
        uint8_t *buffer = realloc(d->buffer, (size_t)f.bytes + 1);
        if (!buffer) {
            err_set(e, ERR_MEMORY, "no memory for %llu bytes", (unsigned long long)f.bytes);
            goto out;
        }
        d->buffer = buffer;
        d->buffer_bytes = (size_t)f.bytes + 1;
    }
    if (store_file_read(&f, d->buffer, f.bytes, 0, e) == 0) {
        d->buffer[f.bytes] = '\0';
        *size = (size_t)f.bytes;
        result = 0;
    }
out:
    store_file_close(&f);
    return result;
}

/* ---- what kind of data set it is */

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
        if (store_list(&d->store, folders->v[i].name, STORE_IMAGES, i, &d->files, e) < 0)
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
        struct store_file f;
        if (store_file_open(&d->store, name, &f, e) < 0)
            return err_prefix(e, "%.80s", name);
        store_file_close(&f);
        const uint64_t bytes = f.bytes;
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

/* Whether loose images are called INDEX_LABEL.jpg with indices 0 to count - 1, each once: then sorts them by index and labels
   them. Cameras write two numbers into names too, but never these. */
static int label_numbered(struct entry_list *l, struct err *e)
{
    struct entry *sorted = calloc((size_t)l->count, sizeof *sorted);
    int i;
    if (!sorted)
        return err_set(e, ERR_MEMORY, "no memory for a list of images");
    for (i = 0; i < l->count; i++) {
        char *name = l->v[i].name;
        const size_t first = strspn(name, DIGITS), second = name[first] == '_' ? strspn(name + first + 1, DIGITS) : 0;
        if (first == 0 || first > 9 || second == 0 || second > 9 || name[first + 1 + second] != '.')
            break;
        const long index = strtol(name, NULL, 10), label = strtol(name + first + 1, NULL, 10);
        if (index >= l->count || sorted[index].name)
            break;
        sorted[index] = (struct entry){name, (int)label};
    }
    const int numbered = i == l->count;
    if (numbered)
        memcpy(l->v, sorted, (size_t)l->count * sizeof *sorted);
    free(sorted);
    return numbered;
}

static int open_images(struct dataset *d, const struct label_names *labels, struct err *e)
{
    struct entry_list folders = {0};
    int result = store_list(&d->store, ".", STORE_IMAGES, -1, &d->files, e);
    if (result == 0)
        result = store_list(&d->store, ".", STORE_FOLDERS, -1, &folders, e);
    if (result == 0 && folders.count > 0)
        result = open_folders(d, &folders, labels, e);
    entry_list_free(&folders);
    if (result == 0 && d->files.count == 0)
        return err_set(e, ERR_INPUT,
                       "no images: expected labels.csv, one folder per class, .jpg .png .webp or CIFAR-10 .bin files");
    if (result < 0 || d->labelled)
        return result;
    result = label_numbered(&d->files, e);
    d->labelled = result > 0;
    for (int i = 0; d->labelled && labels->count > 0 && i < d->files.count; i++)
        if (d->files.v[i].label >= labels->count)
            return err_set(e, ERR_INPUT, "%.80s: label %d, but the classes are 0 to %d", d->files.v[i].name, d->files.v[i].label,
                           labels->count - 1);
    return result < 0 ? -1 : 0;
}

static int open_directory(struct dataset *d, const struct label_names *labels, struct err *e)
{
    size_t size = 0;
    if (store_has(&d->store, "labels.csv")) {
        d->labelled = 1;
        if (read_file(d, "labels.csv", &size, e) < 0)
            return err_prefix(e, "%.140s/labels.csv", d->path);
        return dataset_csv(&d->store, (char *)d->buffer, size, labels, &d->files, e);
    }
    int result = store_list(&d->store, ".", STORE_BATCHES, -1, &d->files, e);
    if (result == 0)
        result = d->files.count > 0 ? open_batches(d, e) : open_images(d, labels, e);
    return result < 0 ? err_prefix(e, "%.140s", d->path) : 0;
}

/* ---- the interface */

int dataset_open(const char *path, char *const *labels, int label_count, struct dataset **out, struct err *e)
{
    struct label_names names = {0};
    struct dataset *d = calloc(1, sizeof *d);
    if (!d)
        return err_set(e, ERR_MEMORY, "no memory for a data set");
    d->store.fd = -1;
    d->label_count = label_count;
    d->path = strdup(path);
    if (!d->path) {
        err_set(e, ERR_MEMORY, "no memory for a data set");
        goto fail;
    }
    if (label_names_init(&names, labels, label_count, e) < 0)
        goto fail;
    if (store_open(&d->store, d->path, e) < 0)
        goto fail;
    if (d->store.kind == STORE_FILE ? entry_list_add(&d->files, path, -1, e) < 0 || open_batches(d, e) < 0
                                    : open_directory(d, &names, e) < 0)
        goto fail;
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
    store_close(&d->store);
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
    struct store_file f;
    for (; i >= file->label; file++)
        i -= file->label;
    int result = store_file_open(&d->store, file->name, &f, e);
    if (result == 0) {
        result = store_file_read(&f, record, sizeof record, (uint64_t)i * CIFAR_RECORD, e);
        store_file_close(&f);
    }
    int limit = d->label_count > 0 && d->label_count < CIFAR_CLASSES ? d->label_count : CIFAR_CLASSES;
    if (result == 0 && record[0] >= limit)
        result = err_set(e, ERR_DAMAGED, "label %d, expected 0 to %d", record[0], limit - 1);
    const char *folder = d->store.kind == STORE_FILE ? NULL : d->path;
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

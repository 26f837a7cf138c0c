// SPDX-License-Identifier: MIT
//
// dataset_names.c - what a data set calls its classes.

#include "models/dataset_store.h"
#include "models/network.h"

#include <stdlib.h>
#include <string.h>

const char *const dataset_cifar10_names[10] = {"airplane", "automobile", "bird",  "cat",  "deer",
                                               "dog",      "frog",       "horse", "ship", "truck"};

/* Names in labels.csv that are no indices. */
static int gather_csv(const struct store *s, struct entry_list *names, struct err *e)
{
    struct entry_list files = {0};
    const struct label_names gathering = {.gather = names};
    struct store_file f;
    char *text = NULL;
    int result = -1;
    if (store_file_open(s, "labels.csv", &f, e) < 0)
        return -1;
    if (f.bytes > DATASET_FILE_MAX)
        err_set(e, ERR_TOO_LARGE, "%llu bytes, the limit is %d", (unsigned long long)f.bytes, DATASET_FILE_MAX);
    else if (!(text = malloc((size_t)f.bytes + 1)))
        err_set(e, ERR_MEMORY, "no memory for %llu bytes", (unsigned long long)f.bytes);
    else
        result = store_file_read(&f, text, f.bytes, 0, e);
    if (result == 0) {
        text[f.bytes] = '\0';
        result = dataset_csv(s, text, (size_t)f.bytes, &gathering, &files, e);
    }
    store_file_close(&f);
    entry_list_free(&files);
    free(text);
    return result;
}

/* Folders that hold images, unless all are called by an index. A folder without images is a class too, when others have some. */
static int gather_folders(const struct store *s, struct entry_list *names, struct err *e)
{
    struct entry_list folders = {0}, images = {0};
    const struct label_names none = {0};
    int named = 0, result = store_list(s, ".", STORE_FOLDERS, -1, &folders, e);
    for (int i = 0; result == 0 && i < folders.count; i++) {
        int index;
        struct err why;
        result = store_list(s, folders.v[i].name, STORE_IMAGES, -1, &images, e);
        named |= label_find(&none, folders.v[i].name, &index, &why) < 0;
    }
    for (int i = 0; result == 0 && named && images.count > 0 && i < folders.count; i++)
        result = entry_list_add(names, folders.v[i].name, -1, e);
    entry_list_free(&folders);
    entry_list_free(&images);
    return result;
}

static int gather_cifar10(struct entry_list *names, struct err *e)
{
    int result = 0;
    for (int i = 0; result == 0 && i < 10; i++)
        result = entry_list_add(names, dataset_cifar10_names[i], -1, e);
    return result;
}

static int gather(const struct store *s, struct entry_list *names, struct err *e)
{
    struct entry_list batches = {0};
    if (s->kind == STORE_FILE)
        return gather_cifar10(names, e);
    if (store_has(s, "labels.csv")) {
        if (gather_csv(s, names, e) < 0)
            return err_prefix(e, "%.140s/labels.csv", s->path);
        entry_list_sort(names);
        return 0;
    }
    int result = store_list(s, ".", STORE_BATCHES, -1, &batches, e);
    if (result == 0)
        result = batches.count > 0 ? gather_cifar10(names, e) : gather_folders(s, names, e);
    entry_list_free(&batches);
    return result < 0 ? err_prefix(e, "%.140s", s->path) : 0;
}

int dataset_class_names(const char *path, char ***out, int *count, struct err *e)
{
    struct store s;
    struct entry_list names = {0};
    char **labels = NULL;
    int n = 0, result = -1;
    if (store_open(&s, path, e) < 0)
        return -1;
    if (gather(&s, &names, e) < 0)
        goto out;
    if (names.count > 0 && !(labels = calloc((size_t)names.count, sizeof *labels))) {
        err_set(e, ERR_MEMORY, "no memory for labels");
        goto out;
    }
    for (int i = 0; i < names.count; i++) {
        if (n > 0 && strcmp(labels[n - 1], names.v[i].name) == 0)
            continue; /* its next image */
        labels[n++] = names.v[i].name;
        names.v[i].name = NULL;
    }
    if (n > GRAPH_CHANNELS_MAX) {
        err_set(e, ERR_TOO_LARGE, "%.140s: %d classes, the limit is %d", path, n, GRAPH_CHANNELS_MAX);
        goto out;
    }
    for (int i = 0; i < n; i++) {
        if (label_check(labels[i], strlen(labels[i]), e) < 0) {
            err_prefix(e, "%.140s: class '%.40s'", path, labels[i]);
            goto out;
        }
    }
    *out = labels;
    *count = n;
    labels = NULL;
    result = 0;
out:
    labels_free(labels, n);
    entry_list_free(&names);
    store_close(&s);
    return result;
}

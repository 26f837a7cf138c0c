// SPDX-License-Identifier: MIT

#include "models/checkpoint/tensors.h"

#include <stdlib.h>
#include <string.h>

struct tensors {
    const struct tensors_source *source;
    void *data;
    struct tensor *list;
    int *by_name; /* indices into list */
    int count;
};

static int compare_names(const void *a, const void *b, void *list)
{
    const struct tensor *tensors = list;
    return strcmp(tensors[*(const int *)a].name, tensors[*(const int *)b].name);
}

int tensors_new(const struct tensors_source *source, void *data, struct tensor *list, int count, struct tensors **out,
                struct err *e)
{
    struct tensors *t = calloc(1, sizeof *t);
    if (!t) {
        free(list);
        source->close(data);
        return err_set(e, ERR_MEMORY, "no memory for a checkpoint");
    }
    *t = (struct tensors){source, data, list, malloc(((size_t)count + 1) * sizeof *t->by_name), count};
    if (!t->by_name) {
        tensors_close(t);
        return err_set(e, ERR_MEMORY, "no memory for the names of %d tensors", count);
    }
    for (int i = 0; i < count; i++)
        t->by_name[i] = i;
    if (count > 1)
        qsort_r(t->by_name, (size_t)count, sizeof *t->by_name, compare_names, list);
    for (int i = 1; i < count; i++)
        if (compare_names(&t->by_name[i - 1], &t->by_name[i], list) == 0) {
            err_set(e, ERR_DAMAGED, "two tensors are called %s", list[t->by_name[i]].name);
            tensors_close(t);
            return -1;
        }
    *out = t;
    return 0;
}

void tensors_close(struct tensors *t)
{
    if (!t)
        return;
    t->source->close(t->data);
    free(t->list);
    free(t->by_name);
    free(t);
}

int tensors_count(const struct tensors *t)
{
    return t->count;
}

const struct tensor *tensors_get(const struct tensors *t, int i)
{
    return &t->list[i];
}

int tensors_find(const struct tensors *t, const char *name)
{
    for (int low = 0, high = t->count; low < high;) {
        const int middle = low + (high - low) / 2, order = strcmp(name, t->list[t->by_name[middle]].name);
        if (order == 0)
            return t->by_name[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return -1;
}

const char *tensors_metadata(const struct tensors *t, const char *key)
{
    return t->source->metadata ? t->source->metadata(t->data, key) : NULL;
}

int tensors_read(const struct tensors *t, int i, float *out, struct err *e)
{
    return t->source->read(t->data, i, out, e);
}

/* ---- safetensors ---- */

static int read_safetensors(const void *source, int i, float *out, struct err *e)
{
    const struct st_file *f = source;
    return st_read_float(f, st_get(f, i), out, e);
}

static const char *metadata_safetensors(const void *source, const char *key)
{
    return st_metadata(source, key);
}

static void close_safetensors(void *source)
{
    st_close(source);
}

int tensors_open_safetensors(const char *path, struct tensors **out, struct err *e)
{
    static const struct tensors_source source = {read_safetensors, metadata_safetensors, close_safetensors};
    struct st_file *f;
    if (st_open(path, &f, e) < 0)
        return -1;
    const char *format = st_metadata(f, "format");
    if (format && strcmp(format, "resnetd") == 0) {
        st_close(f);
        return err_set(e, ERR_INPUT, "%s is a model file already: resnetd and the other commands take it as it is", path);
    }
    const int count = st_count(f);
    struct tensor *list = malloc(((size_t)count + 1) * sizeof *list);
    if (!list) {
        st_close(f);
        return err_set(e, ERR_MEMORY, "no memory for %d tensors", count);
    }
    for (int i = 0; i < count; i++) {
        const struct st_tensor *t = st_get(f, i);
        list[i] = (struct tensor){.name = t->name, .dtype = t->dtype, .rank = t->rank, .count = t->count};
        memcpy(list[i].shape, t->shape, sizeof list[i].shape);
    }
    return tensors_new(&source, f, list, count, out, e);
}

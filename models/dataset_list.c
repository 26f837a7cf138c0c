// SPDX-License-Identifier: MIT

#include "models/dataset_list.h"

#include <stdlib.h>
#include <string.h>

int entry_list_add(struct entry_list *l, const char *name, int label, struct err *e)
{
    if (l->count == DATASET_IMAGES_MAX)
        return err_set(e, ERR_TOO_LARGE, "more than %d images", DATASET_IMAGES_MAX);
    if ((l->count & (l->count - 1)) == 0) { /* 0 or a power of two: it is full */
        struct entry *v = realloc(l->v, (l->count ? 2 * (size_t)l->count : 1) * sizeof *v);
        if (!v)
            return err_set(e, ERR_MEMORY, "no memory for a list of images");
        l->v = v;
    }
    char *copy = strdup(name);
    if (!copy)
        return err_set(e, ERR_MEMORY, "no memory for a list of images");
    l->v[l->count++] = (struct entry){copy, label};
    return 0;
}

static int compare_entries(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

void entry_list_sort(struct entry_list *l)
{
    if (l->count > 0)
        qsort(l->v, (size_t)l->count, sizeof *l->v, compare_entries);
}

void entry_list_free(struct entry_list *l)
{
    for (int i = 0; i < l->count; i++)
        free(l->v[i].name);
    free(l->v);
    *l = (struct entry_list){0};
}

static int compare_labels(const void *a, const void *b)
{
    return strcmp(((const struct label_name *)a)->name, ((const struct label_name *)b)->name);
}

int label_names_init(struct label_names *out, char *const *labels, int count, struct err *e)
{
    *out = (struct label_names){0};
    if (count == 0)
        return 0;
    out->v = malloc((size_t)count * sizeof *out->v);
    if (!out->v)
        return err_set(e, ERR_MEMORY, "no memory for labels");
    for (int i = 0; i < count; i++)
        out->v[i] = (struct label_name){labels[i], i};
    out->count = count;
    qsort(out->v, (size_t)count, sizeof *out->v, compare_labels);
    return 0;
}

void label_names_free(struct label_names *l)
{
    free(l->v);
    *l = (struct label_names){0};
}

int label_find(const struct label_names *l, const char *text, int *out, struct err *e)
{
    size_t len = strlen(text);
    if (len > 0 && len <= 9 && strspn(text, "0123456789") == len) {
        int index = (int)strtol(text, NULL, 10);
        if (l->count > 0 && index >= l->count)
            return err_set(e, ERR_INPUT, "label %d, but the classes are 0 to %d", index, l->count - 1);
        *out = index;
        return 0;
    }
    if (l->gather) {
        *out = 0;
        return entry_list_add(l->gather, text, -1, e);
    }
    if (l->count == 0)
        return err_set(e, ERR_INPUT, "label '%.80s' is no index, and no names of classes are known", text);
    const struct label_name key = {text, 0};
    const struct label_name *found = bsearch(&key, l->v, (size_t)l->count, sizeof *l->v, compare_labels);
    if (!found)
        return err_set(e, ERR_INPUT, "label '%.80s' is neither an index nor the name of a class", text);
    /* ImageNet has two classes named crane. */
    if ((found > l->v && strcmp(found[-1].name, text) == 0) || (found < l->v + l->count - 1 && strcmp(found[1].name, text) == 0))
        return err_set(e, ERR_INPUT, "label '%.80s' is the name of more than one class: use the index", text);
    *out = found->label;
    return 0;
}

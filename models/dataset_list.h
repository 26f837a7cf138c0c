// SPDX-License-Identifier: MIT
//
// dataset_list.h - shared by the dataset's files: the growing list of images, and labels by index or name.

#ifndef MODELS_DATASET_LIST_H
#define MODELS_DATASET_LIST_H

#include "models/dataset.h"

struct entry {
    char *name; /* relative to the dataset's directory; owned */
    int label;  /* -1 when unknown */
};

struct entry_list {
    struct entry *v;
    int count;
};

/* Copies name. ERR_TOO_LARGE beyond DATASET_IMAGES_MAX. */
int entry_list_add(struct entry_list *l, const char *name, int label, struct err *e);
void entry_list_sort(struct entry_list *l); /* by name, in byte order */
void entry_list_free(struct entry_list *l);

struct label_name {
    const char *name;
    int label;
};

struct label_names {
    struct label_name *v; /* sorted by name */
    int count;
    struct entry_list *gather; /* not NULL: the names are not known yet, and what label_find meets is added here */
};

/* labels are borrowed as long as *out lives. */
int label_names_init(struct label_names *out, char *const *labels, int count, struct err *e);
void label_names_free(struct label_names *l);

/* text: an index (below the count when there are labels) or a name that exactly one class has. When gathering any name is good,
   and its label 0. */
int label_find(const struct label_names *l, const char *text, int *out, struct err *e);

struct store;

/* dataset_csv.c: the rows of the store's labels.csv. text is writable, size bytes and a terminator. */
int dataset_csv(const struct store *store, char *text, size_t size, const struct label_names *labels, struct entry_list *out,
                struct err *e);

#endif

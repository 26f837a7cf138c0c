// SPDX-License-Identifier: MIT
//
// dataset_store.h - where a data set's files lie: in a directory, in a tar archive, or in the one file that is the data set.

#ifndef MODELS_DATASET_STORE_H
#define MODELS_DATASET_STORE_H

#include "models/dataset_list.h"

struct store_member {
    char *name; /* owned */
    uint64_t offset, size;
    int link; /* 1: a link to another member, which has no content */
};

struct store {
    const char *path; /* for messages; borrowed */
    enum store_kind { STORE_FILE, STORE_DIRECTORY, STORE_TAR } kind;
    int fd;                       /* of the directory or the archive; AT_FDCWD */
    struct store_member *members; /* of an archive, sorted by name; count of them */
    int count;
};

/* path is borrowed as long as the store lives. An archive is recognised by its content. A leading directory that all its files
   share (but those whose names start with a dot) counts as the archive's top. ERR_UNSUPPORTED for a compressed file, with the
   command that unpacks it. */
int store_open(struct store *s, const char *path, struct err *e);
void store_close(struct store *s); /* an empty one is fine */

/* A file of the store, open for reading. */
struct store_file {
    int fd;
    int shared; /* the descriptor is the store's */
    uint64_t offset, bytes;
};
int store_file_open(const struct store *s, const char *name, struct store_file *out, struct err *e);
int store_file_read(const struct store_file *f, void *out, uint64_t size, uint64_t offset, struct err *e); /* as input_read */
void store_file_close(struct store_file *f);

/* Whether there is something of that name. */
int store_has(const struct store *s, const char *name);

enum store_list_kind { STORE_FOLDERS, STORE_IMAGES, STORE_BATCHES };

/* Adds what is of that kind in a folder of the store, sorted, as "folder/name", or "name" when folder is "."; with that label.
   What starts with a dot is passed by. */
int store_list(const struct store *s, const char *folder, enum store_list_kind kind, int label, struct entry_list *out,
               struct err *e);

#endif

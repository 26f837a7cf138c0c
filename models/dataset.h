// SPDX-License-Identifier: MIT
//
// dataset.h - labelled or unlabelled images on disk, one at a time (design section 5, DATA). Encoded images come back as bytes:
// decoding belongs to daemon/.

#ifndef MODELS_DATASET_H
#define MODELS_DATASET_H

#include <stddef.h>
#include <stdint.h>

#include "models/err.h"

#define DATASET_IMAGES_MAX 1000000
#define DATASET_FILE_MAX   (64 << 20) /* bytes of one image or of labels.csv */

struct dataset;

/* path: a directory of images with labels.csv (`file,label` per line, label an index or a name in labels), a directory with one
   folder per class (folder name an index or a name in labels, else classes in sorted order), a directory of images called
   INDEX_LABEL.jpg with indices 0 to count - 1, a directory of images without labels, a directory of CIFAR-10 binary files *.bin
   (records of 1 + 3072 bytes), an uncompressed tar archive of any of these (its files may share leading directories, which do not
   count), or one CIFAR-10 binary file. In labels.csv a first line whose file does not exist and whose label is `label` or `class`
   is a heading. labels may be NULL (label_count 0); it is borrowed for the call. Order is that of labels.csv, of indices, else of
   sorted names. Folders and files whose name starts with a dot are passed by. On failure *out is untouched. */
int dataset_open(const char *path, char *const *labels, int label_count, struct dataset **out, struct err *e);
void dataset_close(struct dataset *d);

int dataset_count(const struct dataset *d);
int dataset_labelled(const struct dataset *d); /* 1 when every image has a label */

/* Names of the classes as the data set itself tells them, in the order of their labels: its folders, the names in its labels.csv
   (sorted), or CIFAR-10's. None (*out NULL, *count 0) where it tells indices only, or nothing. On success the caller owns *out
   and ends it with labels_free (network.h). For training: dataset_open takes them. */
int dataset_class_names(const char *path, char ***out, int *count, struct err *e);
extern const char *const dataset_cifar10_names[10];

struct sample {
    const char *folder;    /* path of the data set; NULL when name is a path already. Borrowed */
    const char *name;      /* within it; borrowed until the next read */
    int label;             /* -1 when unknown; below label_count when labels were given */
    const uint8_t *pixels; /* raw RGB [h][w][3], or NULL when encoded */
    int width, height;
    const uint8_t *bytes; /* encoded image, or NULL */
    size_t size;
};

/* Reads image i of 0 .. count - 1; pointers are good until the next call or close. */
int dataset_read(struct dataset *d, int i, struct sample *out, struct err *e);

#endif

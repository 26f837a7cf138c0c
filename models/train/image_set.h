// SPDX-License-Identifier: MIT
//
// image_set.h - the images that a training reads, decoded once and held as pixels of the network's input size.

#ifndef MODELS_TRAIN_IMAGE_SET_H
#define MODELS_TRAIN_IMAGE_SET_H

#include <stddef.h>
#include <stdint.h>

#include "models/dataset.h"
#include "models/err.h"

struct pthreadpool;

/* How images are read. pixels() makes the network's input of a sample, RGB [height][width][3], resized and cropped as the
   preprocessing says; it runs on several threads at once. */
typedef int image_pixels(void *user, const struct sample *s, uint8_t *rgb, struct err *e);
struct image_reader {
    int width, height; /* of the network's input */
    image_pixels *pixels;
    void (*progress)(void *user, int done, int count); /* NULL, or called by the thread that opens the set */
    void *user;
    struct pthreadpool *pool; /* NULL: this thread alone */
    size_t bytes_max;         /* of pixels held; 0: no limit */
};

struct image_set {
    int count, width, height, classes;
    uint8_t *pixels; /* [count][height][width][3], RGB */
    int *label;      /* [count], 0 .. classes - 1 */
    char **labels;   /* [classes]: their names */
    int held_back;   /* the last so many lie in a file called test_batch.bin, which CIFAR-10 means for testing */
};

/* Reads all of DATA (dataset.h), which has to be labelled. labels: names of the classes in the network's order, copied; NULL:
   those that the data tells (folders, labels.csv, CIFAR-10) in sorted order, or, where it only tells indices, "0", "1" ... up to
   the largest. The error names the image. ERR_TOO_LARGE: more than bytes_max, before anything is decoded. On failure *out is
   untouched. */
int image_set_open(const char *data, char *const *labels, int label_count, const struct image_reader *r, struct image_set **out,
                   struct err *e);
void image_set_free(struct image_set *s); /* NULL is fine */

/* Puts the images of DATA in the place of some of s: image i replaces number n, n being line i of the text file `indices` (0 is
   the first image of s). For better copies of images that s already has: a label that differs, a number twice or beyond the set
   is an error, and then some images may have been replaced. */
int image_set_replace(struct image_set *s, const char *data, const char *indices, const struct image_reader *r, struct err *e);

/* Some images of a set, by their numbers. */
struct image_part {
    int *index; /* rising; owned */
    int count;
};
void image_part_free(struct image_part *p);

/* Two parts that together are the set. share > 0: validation gets this share (< 1) of each class, rounded, drawn by seed; of
   images not held back. share 0: validation gets what is held back, nothing else. A class keeps at least one image for training.
   Training never gets what is held back. ERR_INPUT: nothing left to train on. */
int image_set_split(const struct image_set *s, double share, uint64_t seed, struct image_part *train,
                    struct image_part *validation, struct err *e);

#endif

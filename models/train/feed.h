// SPDX-License-Identifier: MIT
//
// feed.h - batches of images for training and validation, prepared by a thread of its own while the previous one is computed
// with.
//
// What a batch holds depends on the seed, the epoch and its place in the epoch, not on threads or time: a training that
// goes on after an interruption gets the batches that it would have got.

#ifndef MODELS_TRAIN_FEED_H
#define MODELS_TRAIN_FEED_H

#include <stdint.h>

#include "models/err.h"
#include "models/preprocess.h"
#include "models/train/image_set.h"

/* How training images are varied. All zero: not at all. */
struct augment {
    int pad;    /* a crop of the image's size out of the image with that many black pixels around it: usually side / 8 */
    int flip;   /* 1: left and right change places, every second time */
    int cutout; /* side of a square that becomes 0 (the mean colour), its centre anywhere in the image; may stick out. 0: none */
    double mixup; /* alpha: a batch is mixed with itself in reverse order by a weight from Beta(alpha, alpha). 0: none */
};

struct feed_options {
    int batch;    /* images, 1 .. FEED_BATCH_MAX */
    int training; /* 1: shuffled every epoch and augmented; 0: in the order of the part, as they are */
    int whole;    /* 1: what remains of an epoch below a whole batch is left out (of a shuffled epoch: others each time) */
    uint64_t seed;
    struct augment augment;       /* of training */
    struct preprocess preprocess; /* channel order, scale, mean, std; size is the set's already */
};

#define FEED_BATCH_MAX 4096

struct feed_batch {
    int images;
    const float *x;      /* [images][h][w][3] in the network's channel order: preprocess_value of the pixels */
    const int *label;    /* [images]; with mixup of what weighs more */
    const float *target; /* with mixup: [images][classes], sums 1; else NULL */
    const int *index;    /* [images]: numbers in the set */
};

struct feed;

/* Borrows s until feed_free; copies the numbers of part (NULL: the whole set). ERR_INPUT for options that cannot be, ERR_MEMORY.
 */
int feed_new(const struct image_set *s, const struct image_part *part, const struct feed_options *o, struct feed **out,
             struct err *e);
void feed_free(struct feed *f); /* NULL is fine; may come in the middle of an epoch */

int feed_images(const struct feed *f);  /* of an epoch */
int feed_batches(const struct feed *f); /* of an epoch */

/* Starts epoch 0, 1, ... at its first batch, whatever came before. Cannot fail. */
void feed_start(struct feed *f, int epoch);

/* The next batch, good until the next call of feed_next or feed_start; NULL at the end of the epoch. Waits until it is ready. */
const struct feed_batch *feed_next(struct feed *f);

#endif

// SPDX-License-Identifier: MIT
//
// ctl_loss.h - what a quantised network lost: both networks see the same images, and every layer's output is held against that of
// fp32. As JSON, which is also what the terminal and Markdown show.

#ifndef DAEMON_CTL_LOSS_H
#define DAEMON_CTL_LOSS_H

#include <stdio.h>

#include "daemon/ctl.h"
#include "models/quantize/quantize.h"

#define LOSS_IMAGES 10 /* the worst ones are named */

/* Of one layer, over all images: sums of fp32's values squared, of the differences squared, of the products and of the quantised
   values squared, and how many of fp32's values lie below and above what the quantised tensor can hold. */
struct loss_layer {
    double signal, noise, product, power;
    double count, low, high;
};

struct loss_image {
    char file[320];
    int label;                     /* -1: unknown */
    int want, have;                /* the most likely class of fp32 and of the other */
    double margin;                 /* fp32's: most likely less second logit */
    double signal, noise, largest; /* sums of squares and the largest difference of logits */
};

struct loss_memory {         /* bytes; 0: not known */
    size_t stored;           /* weights, scales and biases in the file */
    size_t weights;          /* packed, as held in memory */
    size_t unplanned, arena; /* activations if each had its own memory; all that a session takes */
};

/* Zeroed at the start, ended by loss_free. Quantised networks may have nodes that fp32 lacks (casts): layers go by name. */
struct loss {
    const struct network *fp32, *q; /* borrowed, from loss_start on */
    struct ctl_compare logits;
    struct loss_layer *layers;                                /* [q->graph.count]; NULL: not measured */
    struct loss_memory memory[2];                             /* of fp32, of q */
    struct loss_image worst[LOSS_IMAGES], flips[LOSS_IMAGES]; /* by difference of logits; by margin */
    int worst_count, flip_count;
    int labelled, right[2]; /* images with a label, and how many of them fp32 and q get right */
};

/* The images. After next() `file` holds the name of the image that it gave. */
struct loss_source {
    next_image *next;
    void *user;
    const char *file;
};

void loss_start(struct loss *l, const struct network *fp32, const struct network *q);

/* Runs both over all images; with_layers: every layer too, which takes a little longer and memory for fp32's activations. */
int loss_measure(struct loss *l, const struct kernels *k, struct pthreadpool *pool, const struct loss_source *images,
                 int with_layers, struct err *e);
void loss_free(struct loss *l);

/* All of it; NULL: no memory. The caller deletes it. */
cJSON *loss_json(const struct loss *l);

/* What loss_json made, or parts of it. */
void loss_markdown(FILE *f, const cJSON *report);
void loss_print_summary(const cJSON *report);
void loss_print_layers(const cJSON *report);

#endif

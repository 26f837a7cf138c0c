// SPDX-License-Identifier: MIT
//
// observe.h - what values a tensor takes, gathered in one pass without keeping them.

#ifndef MODELS_QUANTIZE_OBSERVE_H
#define MODELS_QUANTIZE_OBSERVE_H

#include <stddef.h>
#include <stdint.h>

#define HISTOGRAM_BINS 8192

/* Zeroed at the start. Bins cover [-limit, limit) evenly; limit is a power of two that doubles when a value lies outside, and
   neighbours become one bin then, so counts do not depend on the order of the images. Exact zeros, about half of what a
   ReLU leaves, are counted apart: every quantisation represents them exactly. */
struct histogram {
    float min, max;                  /* of all values */
    double average_min, average_max; /* moving averages of each image's extremes: a += 0.01 (x - a) */
    float limit;
    int images, averaged;  /* images: counted; averaged: seen by the averages */
    int broken;            /* a value was not a finite number */
    uint64_t count, zeros; /* of values, zeros included */
    uint32_t bins[HISTOGRAM_BINS];
};

struct range {
    float min, max;
};

/* Adds one image's values (count > 0) and returns their range, which the moving averages do not see yet. A bin that would not fit
   32 bits stays at their maximum. */
struct range histogram_add(struct histogram *h, const float *values, size_t count);

/* Moves the averages towards one image's range. Unlike all else here they depend on the order of the images. */
void histogram_average(struct histogram *h, struct range r);

/* Adds what another histogram of the tensor counted, averages apart. */
void histogram_merge(struct histogram *h, const struct histogram *other);

/* The lower border of a bin; that of HISTOGRAM_BINS is limit. */
float histogram_border(const struct histogram *h, int bin);

#endif

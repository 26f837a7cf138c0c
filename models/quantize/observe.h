// SPDX-License-Identifier: MIT
//
// observe.h - what values a tensor takes, gathered in one pass without keeping them.

#ifndef MODELS_QUANTIZE_OBSERVE_H
#define MODELS_QUANTIZE_OBSERVE_H

#include <stddef.h>
#include <stdint.h>

#define HISTOGRAM_BINS 8192

/* Zeroed at the start. Bins cover [-limit, limit) evenly; limit is a power of two that doubles when a value lies outside, and
   neighbours become one bin then, so the result does not depend on the order of the images. Exact zeros, about half of what a
   ReLU leaves, are counted apart: every quantisation represents them exactly. */
struct histogram {
    float min, max;                  /* of all values */
    double average_min, average_max; /* moving averages of each image's extremes: a += 0.01 (x - a) */
    float limit;
    int images, broken;    /* broken: a value was not a finite number */
    uint64_t count, zeros; /* of values, zeros included */
    uint32_t bins[HISTOGRAM_BINS];
};

/* Adds one image's values (count > 0). A bin that would not fit 32 bits stays at their maximum. */
void histogram_add(struct histogram *h, const float *values, size_t count);

/* The lower border of a bin; that of HISTOGRAM_BINS is limit. */
float histogram_border(const struct histogram *h, int bin);

#endif

// SPDX-License-Identifier: MIT
//
// quantize.h - fp32 network -> fp16, hybrid or int8 network.

#ifndef MODELS_QUANTIZE_QUANTIZE_H
#define MODELS_QUANTIZE_QUANTIZE_H

#include "models/network.h"

/* Symmetric int8 weights in [-127, 127], one scale per output channel, s = max|w| / 127 (1 for a channel of zeros). count is
   channels * depth; w [channels][depth]. */
void quantize_weights(const float *w, int channels, int64_t depth, int8_t *q, float *scale);

/* The quantisation of a range that is first stretched to contain 0: 256 steps, zero point an integer in [-128, 127]. */
struct quant quant_from_range(float min, float max);

/* Ranges seen in calibration: one {min, max} per node. */
struct range {
    float min, max;
};

/* Runs the fp32 network over images and keeps per-node extremes. next() fills rgb [h][w][3] and returns 1, 0 at the end, -1 on error. */
typedef int next_image(void *user, uint8_t *rgb, struct err *e);
struct kernels;
struct pthreadpool;
int calibrate_minmax(const struct network *fp32, const struct kernels *k, struct pthreadpool *pool, next_image *next, void *user,
                     struct range *ranges /* [graph.count] */, int *images, struct err *e);

/* *out is a new network of that precision; n must be fp32. ranges: int8 only. fp16 refuses |w| > 65504 by layer name; int8 refuses
   a layer whose accumulator could leave int32. `quantization` JSON of *out is filled. On failure *out is untouched. */
int quantize_network(const struct network *n, enum precision p, const struct range *ranges, int images, struct network *out,
                     struct err *e);

#endif

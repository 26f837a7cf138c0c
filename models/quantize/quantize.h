// SPDX-License-Identifier: MIT
//
// quantize.h - fp32 network -> fp16, hybrid or int8 network.
//
// What can be chosen is tried, and judged by how the result follows the fp32 network on held-back images (calibrate.h).

#ifndef MODELS_QUANTIZE_QUANTIZE_H
#define MODELS_QUANTIZE_QUANTIZE_H

#include "models/network.h"
#include "models/quantize/calibrate.h"
#include "models/quantize/ranges.h"

/* Symmetric int8 weights in [-127, 127], one scale per output channel, s = max|w| / 127 (1 for a channel of zeros). count is
   channels * depth; w [channels][depth]. */
void quantize_weights(const float *w, int channels, int64_t depth, int8_t *q, float *scale);

/* How weights are rounded: to nearest and then so that errors cancel (balance.h), each to its nearest step, or one after the
   other, each making up for the errors before it as the calibration images show them (gptq, compensate.h). In the order of
   trying. */
enum weight_rounding { WEIGHTS_BALANCED, WEIGHTS_NEAREST, WEIGHTS_GPTQ };
const char *weight_rounding_name(enum weight_rounding r);

/* Sets of methods: bit m is range_method m, bit r is weight_rounding r. */
#define RANGES_ALL  ((1u << RANGE_METHODS) - 1)
#define WEIGHTS_ALL 7u

struct quantize_options {
    unsigned ranges;  /* to be tried; 0: all. int8 */
    unsigned weights; /* to be tried; 0: balanced and gptq, in hybrid all. Without calibration the first of them, never gptq */
    int plain_bias;   /* 1: biases are rounded and nothing else; 0: corrected for the weights' mean error where that helps */
    /* Called as long work goes on; may be NULL. done of total are in units of `what`. */
    void (*progress)(void *user, const char *what, int done, int total);
    void *user;
};

/* One row of the table of tries. */
struct quantize_try {
    enum range_method range; /* int8 */
    enum weight_rounding weights;
    int bias_corrected;
    struct fidelity fidelity;
};
#define QUANTIZE_TRIES_MAX 16
struct quantize_result {
    struct quantize_try tries[QUANTIZE_TRIES_MAX];
    int count, chosen; /* chosen: index; -1 where nothing was tried */
};

/* Sets of --method: auto, minmax, average, percentile (both), percentile-99.99, percentile-99.999, mse, entropy; and of
   --rounding: auto (0), balanced, nearest, gptq. */
int quantize_parse_method(const char *text, unsigned *ranges, struct err *e);
int quantize_parse_rounding(const char *text, unsigned *weights, struct err *e);

/* *out is a new network of that precision; n must be fp32, and c (int8: needed; else may be NULL) its calibration. o and result
   may be NULL. Input range from the preprocessing, logits never clipped, pooling by maximum and the shortcut keep their input's
   range. fp16 refuses weights and, with c, activations beyond 65504 by layer name; int8 refuses a layer whose accumulator could
   leave int32. `quantization` JSON of *out tells what was tried and chosen. On failure *out is untouched. */
int quantize_network(const struct network *n, enum precision p, const struct quantize_options *o, const struct calibration *c,
                     struct network *out, struct quantize_result *result, struct err *e);

#endif

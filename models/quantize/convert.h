// SPDX-License-Identifier: MIT
//
// convert.h - private to quantize/: one network made from decisions that have been taken.

#ifndef MODELS_QUANTIZE_CONVERT_H
#define MODELS_QUANTIZE_CONVERT_H

#include "models/quantize/quantize.h"

/* What the calibration images say about the inputs of one layer; all NULL where nothing is known. */
struct layer_study {
    float *mean;     /* [groups][depth]: expected value of each input of a sum */
    int8_t *rounded; /* weights by WEIGHTS_GPTQ under the scales of quantize_weights; NULL: balanced ones stand in */
};

struct recipe {
    enum precision precision;
    const struct range *ranges;        /* [graph.count], int8: of tensors that exist (inherited ones are not read) */
    const struct layer_study *studies; /* [graph.count] or NULL */
    enum weight_rounding weights;
    int correct_bias; /* takes the mean error of the weights from the bias; needs studies */
};

/* *out is a new network without `quantization`. */
int convert_network_by(const struct network *n, const struct recipe *r, struct network *out, struct err *e);

#endif

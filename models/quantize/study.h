// SPDX-License-Identifier: MIT
//
// study.h - private to quantize/: what calibration images say about the inputs of each layer, for rounding and for biases.

#ifndef MODELS_QUANTIZE_STUDY_H
#define MODELS_QUANTIZE_STUDY_H

#include "models/quantize/convert.h"

/* *out: [graph.count], freed with studies_free. Means of every layer; with gptq also rounded weights. */
int studies_make(const struct network *n, const struct calibration *c, int gptq, const struct quantize_options *o,
                 struct layer_study **out, struct err *e);
void studies_free(struct layer_study *s, int count); /* NULL is fine */

#endif

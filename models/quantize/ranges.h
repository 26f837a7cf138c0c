// SPDX-License-Identifier: MIT
//
// ranges.h - from what values a tensor takes to the range that its 256 steps cover.
//
// Clipping a few large values makes the steps of all others finer. How much pays differs by network, hence several methods:
//   minmax      nothing is clipped
//   average     moving average of each image's extremes
//   percentile  the largest and the smallest 0.01 % or 0.001 % of the values are clipped
//   mse         least expected squared error of rounding and clipping
//   entropy     least Kullback-Leibler divergence of the quantised distribution (Migacz 2017, "8-bit inference with TensorRT")

#ifndef MODELS_QUANTIZE_RANGES_H
#define MODELS_QUANTIZE_RANGES_H

#include "kernels/conv.h"
#include "models/quantize/observe.h"

enum range_method { RANGE_MINMAX, RANGE_AVERAGE, RANGE_PERCENTILE_99_99, RANGE_PERCENTILE_99_999, RANGE_MSE, RANGE_ENTROPY };
enum { RANGE_METHODS = 6 };

const char *range_method_name(enum range_method m); /* "minmax" ... "percentile-99.999" */

/* The range of an observed tensor (h->images > 0, not broken). It lies within the observed one. */
struct range range_find(const struct histogram *h, enum range_method m);

/* Expected squared error of one value when everything outside r is clipped and the rest rounded to quant_from_range(r). */
double range_error(const struct histogram *h, struct range r);

/* The quantisation of a range that is first stretched to contain 0: 256 steps, zero point an integer in [-128, 127]. */
struct quant quant_from_range(float min, float max);

#endif

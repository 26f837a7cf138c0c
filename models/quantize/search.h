// SPDX-License-Identifier: MIT
//
// search.h - private to quantize/: what can be chosen is tried, and what does best on held-back images is kept.

#ifndef MODELS_QUANTIZE_SEARCH_H
#define MODELS_QUANTIZE_SEARCH_H

#include "models/quantize/convert.h"

/* int8 or hybrid. *out has no `quantization` yet; *result is the table of tries. On failure both are untouched. */
int quantize_search(const struct network *n, enum precision p, const struct quantize_options *o, const struct calibration *c,
                    struct network *out, struct quantize_result *result, struct err *e);

#endif

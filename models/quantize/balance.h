// SPDX-License-Identifier: MIT
//
// balance.h - private to quantize/: rounding whose errors cancel, without a look at any image.
//
// What rounding does to y = Σ w x is Σ (w - s q) x. After a ReLU the x are positive, and those of a window and those of
// neighbouring channels go together: the sum of the errors then moves y, while errors that cancel hardly do. So single weights
// go to their second nearest step until the errors cancel (after Guo et al. 2022, "SQuant").

#ifndef MODELS_QUANTIZE_BALANCE_H
#define MODELS_QUANTIZE_BALANCE_H

#include <stdint.h>

/* q [channels][depth], w rounded to nearest under scale [channels], is changed so that Σ (w / s - q) is within half a step, first
   over each input channel's window, then over the whole output channel (which may leave a window beyond). Every change is by one
   step and of the weight that it costs the least squared error, the first of equals; |q| <= 127 remains, and where no weight can
   move, so does a sum. depth is window * inputs, lying [window][inputs] as weights do; a window of 1 has no step of its own. */
void balance_weights(const float *w, int channels, int64_t depth, int window, const float *scale, int8_t *q);

#endif

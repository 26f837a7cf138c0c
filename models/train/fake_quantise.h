// SPDX-License-Identifier: MIT
//
// fake_quantise.h - rounding to a quantised grid, and gradients that pass through it as training needs them.
//
// Forward is docs/numerics.md: what comes out are the int8 values that a session computes. Rounding has no useful derivative;
// backward takes it for the identity where nothing is clipped and for a constant beyond (straight-through: Bengio et al. 2013,
// arXiv 1308.3432). The scale learns too, after LSQ (Esser et al. 2019, arXiv 1902.08153): for y = s clamp(rne(t), lo, hi), t = x
// / s,
//     dy/dx = 1, dy/ds = rne(t) - t    where lo <= t <= hi;        dy/dx = 0, dy/ds = lo or hi    beyond.
// Everything counts in steps from the zero point: lo and hi are what is left of [-128, 127] minus it, and ReLU is lo = 0.

#ifndef MODELS_TRAIN_FAKE_QUANTISE_H
#define MODELS_TRAIN_FAKE_QUANTISE_H

#include <stddef.h>
#include <stdint.h>

/* ---- activations: one scale per tensor ---- */

/* t[i][c] = sums[i][c] * mult[c], then, with a residual, + f32(residual[i][c] - residual_zero) * residual_mult. In place.
   residual may be NULL. */
void fake_quantise_steps(float *sums, size_t rows, size_t channels, const float *mult, const int8_t *residual, int residual_zero,
                         float residual_mult);

/* q = rne(clamp(t, lo, hi)) + zero. NaN counts as lo. |lo|, |hi| <= 255. */
void fake_quantise(const float *t, size_t count, float lo, float hi, int zero, int8_t *q);

/* g: dL/dy becomes dL/dx. Returns dL/ds of these values, before LSQ's factor. Same bits everywhere for the same arguments. */
double fake_quantise_backward(const float *t, size_t count, float lo, float hi, float *g);

/* LSQ's factor, which makes a scale learn about as fast as the values: 1 / sqrt(count hi). count: weights that share the scale,
   or values of one image. */
float fake_quantise_rate(int64_t count, float hi);

/* ---- weights: zero point 0, one scale per output channel; here one channel ---- */

/* Of weights of 2 to 8 bits: 127, 31, 7 for 8, 6, 4. Never -(hi + 1), so that weights are as symmetric as those of 8 bits. */
int fake_quantise_levels(int bits);

/* Where to start: max|w| / levels for 127 levels, as the quantiser does; else the scale of least squared error up to there. 1 for
   a channel without weights to speak of. */
float fake_quantise_weight_scale(const float *w, int64_t depth, int levels);

/* q = rne(clamp(w / scale, -levels, levels)). NaN counts as -levels. */
void fake_quantise_weights(const float *w, int64_t depth, float scale, int levels, int8_t *q);

/* g: dL/dw^ of the rounded weights becomes dL/dw. Returns dL/ds, before LSQ's factor. A weight within half a step beyond the last
   one is rounded, not clipped: the largest of a channel must not stop to learn because w / scale came out as 127.00001. */
double fake_quantise_weights_backward(const float *w, int64_t depth, float scale, int levels, float *g);

#endif

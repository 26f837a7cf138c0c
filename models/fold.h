// SPDX-License-Identifier: MIT
//
// fold.h - batch normalisation into the convolution before it, in double precision.
//
// y = gamma (conv(x) + b - mean) / sqrt(var + eps) + beta = conv'(x) + b' with w' = w g, b' = (b - mean) g + beta,
// g = gamma / sqrt(var + eps). Only the results are rounded to float.

#ifndef MODELS_FOLD_H
#define MODELS_FOLD_H

#include <stdint.h>

/* All arrays hold `channels` floats; bias_in may be NULL (zero). w [channels][depth] is changed in place, bias written (may be
   bias_in). */
struct batch_norm {
    const float *gamma, *beta, *mean, *var;
    double eps;
};
void fold_batch_norm(const struct batch_norm *bn, int channels, int64_t depth, float *w, const float *bias_in, float *bias);

/* [O][I][KH][KW], as PyTorch stores it, to [O][KH][KW][I]. */
void weights_to_ohwi(const float *oihw, int o, int i, int kh, int kw, float *ohwi);

#endif

// SPDX-License-Identifier: MIT

#include "models/fold.h"

#include <math.h>
#include <stddef.h>

void fold_batch_norm(const struct batch_norm *bn, int channels, int64_t depth, float *w, const float *bias_in, float *bias)
{
    for (int o = 0; o < channels; o++) {
        double g = (double)bn->gamma[o] / sqrt((double)bn->var[o] + bn->eps);
        for (int64_t i = 0; i < depth; i++)
            w[o * depth + i] = (float)((double)w[o * depth + i] * g);
        double b = bias_in ? (double)bias_in[o] : 0.0;
        bias[o] = (float)((b - (double)bn->mean[o]) * g + (double)bn->beta[o]);
    }
}

void weights_to_ohwi(const float *oihw, int o, int i, int kh, int kw, float *ohwi)
{
    const size_t pixels = (size_t)kh * (size_t)kw, channels = (size_t)i;
    for (size_t oo = 0; oo < (size_t)o; oo++)
        for (size_t ii = 0; ii < channels; ii++)
            for (size_t p = 0; p < pixels; p++)
                ohwi[(oo * pixels + p) * channels + ii] = oihw[(oo * channels + ii) * pixels + p];
}

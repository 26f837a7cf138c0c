// SPDX-License-Identifier: MIT
//
// What a convolution's plain sums z go through: y = z * mult + shift, by batch norm or a bias, and the gradient of that. All
// statistics are in double, sums over the batch in the order of the parts.
//
//     batch norm     mean, var over the batch:  y = gamma (z - mean) / sqrt(var + eps) + beta
//                    dz = gamma / sqrt(var + eps) (g - sum(g) / N - xhat sum(g xhat) / N),  xhat = (z - mean) / sqrt(var + eps)
//
// after Ioffe and Szegedy 2015 (arXiv 1502.03167). Running statistics: the variance is that of a sample, divided by N - 1.

#include <math.h>

#include "models/train/trainee_parts.h"

static void set(struct linear *l, int c, double mean, double var, double eps)
{
    l->inverse[c] = 1 / sqrt(var + eps);
    const double mult = (double)l->gamma->value[c] * l->inverse[c];
    l->mult[c] = (float)mult;
    l->shift[c] = (float)((double)l->beta->value[c] - mean * mult);
    l->center[c] = (float)mean;
}

void norm_start(struct trainee *t, struct linear *l, int channels)
{
    for (int c = 0; c < channels; c++) {
        if (l->normed) {
            set(l, c, (double)l->mean->value[c], (double)l->var->value[c], t->eps);
        } else {
            l->inverse[c] = 1;
            l->mult[c] = 1;
            l->shift[c] = l->bias->value[c];
            l->center[c] = 0;
        }
    }
    for (int i = 0; i < 2 * TRAINEE_PARTS * channels; i++)
        l->moments[i] = 0;
}

static double sum(const double *moments, int channels, int parts, int which, int c)
{
    double all = 0;
    for (int p = 0; p < parts; p++)
        all += moments[(2 * p + which) * channels + c];
    return all;
}

void norm_from_batch(struct trainee *t, struct linear *l, int channels, int parts, double count)
{
    for (int c = 0; c < channels; c++) {
        const double off = sum(l->moments, channels, parts, 0, c) / count,
                     square = sum(l->moments, channels, parts, 1, c) / count;
        const double mean = (double)l->center[c] + off, spread = square - off * off, var = spread < 0 ? 0 : spread;
        float *running_mean = &l->mean->value[c], *running_var = &l->var->value[c];
        set(l, c, mean, var, t->eps);
        *running_mean = (float)((1 - t->momentum) * (double)*running_mean + t->momentum * mean);
        *running_var =
            (float)((1 - t->momentum) * (double)*running_var + t->momentum * var * (count > 1 ? count / (count - 1) : 1));
    }
    for (int i = 0; i < 2 * TRAINEE_PARTS * channels; i++)
        l->moments[i] = 0;
}

void norm_backward(struct trainee *t, struct linear *l, int channels, int parts, double count)
{
    for (int c = 0; c < channels; c++) {
        const double gradient = sum(l->moments, channels, parts, 0, c), product = sum(l->moments, channels, parts, 1, c);
        l->of_gradient[c] = l->mult[c];
        l->of_z[c] = l->constant[c] = 0;
        if (!l->normed) {
            l->bias->grad[c] = (float)gradient;
            continue;
        }
        l->beta->grad[c] = (float)gradient;
        l->gamma->grad[c] = (float)(product * l->inverse[c]);
        if (t->mode != TRAINEE_TRAIN)
            continue;
        const double mult = (double)l->gamma->value[c] * l->inverse[c],
                     of_z = -mult * l->inverse[c] * l->inverse[c] * product / count;
        l->of_z[c] = (float)of_z;
        l->constant[c] = (float)(-mult * gradient / count - of_z * (double)l->center[c]);
    }
}

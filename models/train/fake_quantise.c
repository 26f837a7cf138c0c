// SPDX-License-Identifier: MIT

#include "models/train/fake_quantise.h"

#include <math.h>

/* Adding and taking away 1.5 * 2^23 rounds a small float to the nearest even integer: vectors need no instruction for it. */
#define ROUNDER 0x1.8p23f

static inline float rounded(float t)
{
    return t + ROUNDER - ROUNDER;
}

static inline float clamped(float t, float lo, float hi)
{
    t = t > lo ? t : lo; /* NaN too */
    return t < hi ? t : hi;
}

/* ---- activations ---- */

void fake_quantise_steps(float *sums, size_t rows, size_t channels, const float *mult, const int8_t *residual, int residual_zero,
                         float residual_mult)
{
    for (size_t i = 0; i < rows; i++, sums += channels) {
        for (size_t c = 0; c < channels; c++)
            sums[c] = sums[c] * mult[c];
        if (residual) {
            for (size_t c = 0; c < channels; c++)
                sums[c] = sums[c] + (float)(residual[c] - residual_zero) * residual_mult;
            residual += channels;
        }
    }
}

void fake_quantise(const float *t, size_t count, float lo, float hi, int zero, int8_t *q)
{
    for (size_t i = 0; i < count; i++)
        q[i] = (int8_t)((int)rounded(clamped(t[i], lo, hi)) + zero);
}

#define LANES 16  /* sums side by side, so that their order allows vectors */
#define RUN   256 /* elements of a lane that are added in float */

double fake_quantise_backward(const float *t, size_t count, float lo, float hi, float *g)
{
    double sum = 0;
    for (size_t i = 0; i < count;) {
        float part[LANES] = {0};
        size_t run = 0;
        for (; run < RUN && count - i >= LANES; run++, i += LANES)
            for (size_t j = 0; j < LANES; j++) {
                const float x = t[i + j], d = g[i + j];
                const int inside = x >= lo && x <= hi;
                part[j] += d * (rounded(clamped(x, lo, hi)) - (inside ? x : 0));
                g[i + j] = inside ? d : 0;
            }
        for (; run < RUN && i < count; i++) {
            const float x = t[i];
            const int inside = x >= lo && x <= hi;
            part[0] += g[i] * (rounded(clamped(x, lo, hi)) - (inside ? x : 0));
            g[i] = inside ? g[i] : 0;
        }
        for (size_t j = 0; j < LANES; j++)
            sum += (double)part[j];
    }
    return sum;
}

float fake_quantise_rate(int64_t count, float hi)
{
    return (float)(1 / sqrt((double)count * (double)hi));
}

/* ---- weights ---- */

int fake_quantise_levels(int bits)
{
    return (1 << (bits - 1)) - 1;
}

void fake_quantise_weights(const float *w, int64_t depth, float scale, int levels, int8_t *q)
{
    const float most = (float)levels;
    for (int64_t i = 0; i < depth; i++)
        q[i] = (int8_t)(int)rounded(clamped(w[i] / scale, -most, most));
}

double fake_quantise_weights_backward(const float *w, int64_t depth, float scale, int levels, float *g)
{
    const float most = (float)levels;
    double sum = 0;
    for (int64_t i = 0; i < depth; i++) {
        const float t = w[i] / scale;
        const int inside = t >= -most - 0.5f && t <= most + 0.5f;
        sum += (double)(g[i] * (rounded(clamped(t, -most, most)) - (inside ? t : 0)));
        g[i] = inside ? g[i] : 0;
    }
    return sum;
}

#define SHRINKS 100 /* scales tried, from a hundredth of what clips nothing */

static double squared_error(const float *w, int64_t depth, float scale, float most)
{
    double sum = 0;
    for (int64_t i = 0; i < depth; i++) {
        const double error = (double)(w[i] - scale * rounded(clamped(w[i] / scale, -most, most)));
        sum += error * error;
    }
    return sum;
}

float fake_quantise_weight_scale(const float *w, int64_t depth, int levels)
{
    const float most = (float)levels;
    float max = 0;
    for (int64_t i = 0; i < depth; i++)
        max = fabsf(w[i]) > max ? fabsf(w[i]) : max;
    const float whole = max / most;
    if (!(whole >= 1e-28f)) /* a hundredth of it must still be a normal number */
        return 1;
    float best = whole;
    double least = squared_error(w, depth, whole, most);
    for (int i = 1; levels < 127 && i < SHRINKS; i++) {
        const float scale = whole * (float)i / SHRINKS;
        const double error = squared_error(w, depth, scale, most);
        if (error < least) {
            least = error;
            best = scale;
        }
    }
    return best;
}

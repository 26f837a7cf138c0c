// SPDX-License-Identifier: MIT

#include "models/quantize/observe.h"

#include <math.h>
#include <string.h>

#define HALF          (HISTOGRAM_BINS / 2)
#define AVERAGE_SHARE 0.01     /* of a new image in the moving averages */
#define LEAST_LIMIT   0x1p-60f /* keeps bins per unit finite */

static uint32_t sum(uint32_t a, uint32_t b)
{
    return a > UINT32_MAX - b ? UINT32_MAX : a + b;
}

/* Twice the range in as many bins: each half of the old ones shrinks towards the middle. */
static void widen(struct histogram *h)
{
    uint32_t old[HISTOGRAM_BINS];
    memcpy(old, h->bins, sizeof old);
    memset(h->bins, 0, sizeof h->bins);
    for (int i = 0; i < HALF; i++)
        h->bins[HALF / 2 + i] = sum(old[2 * i], old[2 * i + 1]);
    h->limit *= 2;
}

static void fit(struct histogram *h, float largest)
{
    if (h->limit == 0) {
        int exponent;
        frexpf(largest > LEAST_LIMIT / 2 ? largest : LEAST_LIMIT / 2, &exponent);
        h->limit = ldexpf(1, exponent);
    }
    while (h->limit <= largest)
        widen(h);
}

void histogram_add(struct histogram *h, const float *values, size_t count)
{
    float min = values[0], max = values[0];
    int finite = 1;
    for (size_t i = 0; i < count; i++) {
        min = values[i] < min ? values[i] : min;
        max = values[i] > max ? values[i] : max;
        finite &= isfinite(values[i]) != 0;
    }
    const float largest = max > -min ? max : -min;
    if (!finite || largest > 0x1p126f) {
        h->broken = 1;
        return;
    }
    if (h->images++ == 0) {
        h->min = min;
        h->max = max;
        h->average_min = (double)min;
        h->average_max = (double)max;
    } else {
        h->min = min < h->min ? min : h->min;
        h->max = max > h->max ? max : h->max;
        h->average_min += AVERAGE_SHARE * ((double)min - h->average_min);
        h->average_max += AVERAGE_SHARE * ((double)max - h->average_max);
    }
    h->count += count;
    if (largest > 0)
        fit(h, largest);
    const float per_unit = h->limit > 0 ? (float)HALF / h->limit : 0;
    for (size_t i = 0; i < count; i++) {
        if (values[i] == 0) {
            h->zeros++;
            continue;
        }
        /* Shifted to be positive, truncation rounds down; a value just below a border may round up to it, even the last. */
        int bin = (int)(values[i] * per_unit + (float)HALF);
        bin = bin < HISTOGRAM_BINS ? bin : HISTOGRAM_BINS - 1;
        h->bins[bin] = sum(h->bins[bin], 1);
    }
}

float histogram_border(const struct histogram *h, int bin)
{
    return (float)(bin - HALF) * (h->limit / (float)HALF);
}

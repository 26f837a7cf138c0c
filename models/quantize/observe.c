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

static void extend(struct histogram *h, struct range r, int images)
{
    h->min = h->images && h->min < r.min ? h->min : r.min;
    h->max = h->images && h->max > r.max ? h->max : r.max;
    h->images += images;
}

struct range histogram_add(struct histogram *h, const float *values, size_t count)
{
    struct range r = {values[0], values[0]};
    int finite = 1;
    for (size_t i = 0; i < count; i++) {
        r.min = values[i] < r.min ? values[i] : r.min;
        r.max = values[i] > r.max ? values[i] : r.max;
        finite &= isfinite(values[i]) != 0;
    }
    const float largest = r.max > -r.min ? r.max : -r.min;
    if (!finite || largest > 0x1p126f) {
        h->broken = 1;
        return r;
    }
    extend(h, r, 1);
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
    return r;
}

void histogram_average(struct histogram *h, struct range r)
{
    const double share = h->averaged++ ? AVERAGE_SHARE : 1;
    h->average_min += share * ((double)r.min - h->average_min);
    h->average_max += share * ((double)r.max - h->average_max);
}

void histogram_merge(struct histogram *h, const struct histogram *other)
{
    h->broken |= other->broken;
    if (!other->images)
        return;
    extend(h, (struct range){other->min, other->max}, other->images);
    h->count += other->count;
    h->zeros += other->zeros;
    if (other->limit == 0)
        return;
    if (h->limit == 0)
        h->limit = other->limit;
    while (h->limit < other->limit)
        widen(h);
    /* Limits are powers of two: the other's bins are whole parts of these. */
    const float ratio = h->limit / other->limit;
    const int parts = ratio < HISTOGRAM_BINS ? (int)ratio : HISTOGRAM_BINS;
    for (int i = 0; i < HISTOGRAM_BINS; i++)
        if (other->bins[i]) {
            const int from_middle = i - HALF,
                      bin = HALF + (from_middle >= 0 ? from_middle / parts : -((parts - 1 - from_middle) / parts));
            h->bins[bin] = sum(h->bins[bin], other->bins[i]);
        }
}

float histogram_border(const struct histogram *h, int bin)
{
    return (float)(bin - HALF) * (h->limit / (float)HALF);
}

// SPDX-License-Identifier: MIT

#include "models/quantize/ranges.h"

#include <math.h>

#define LEVELS 256

static const char *const names[RANGE_METHODS] = {
    [RANGE_MINMAX] = "minmax",
    [RANGE_AVERAGE] = "average",
    [RANGE_PERCENTILE_99_99] = "percentile-99.99",
    [RANGE_PERCENTILE_99_999] = "percentile-99.999",
    [RANGE_MSE] = "mse",
    [RANGE_ENTROPY] = "entropy",
};

const char *range_method_name(enum range_method m)
{
    return names[m];
}

struct quant quant_from_range(float min, float max)
{
    min = min < 0 ? min : 0;
    max = max > 0 ? max : 0;
    float scale = (float)(((double)max - (double)min) / (LEVELS - 1));
    if (!(scale >= 1e-30f))
        return (struct quant){1, min < 0 ? 0 : -128};
    long zero = lrint(-128.0 - (double)min / (double)scale);
    return (struct quant){scale, (int)(zero < -128 ? -128 : zero > 127 ? 127 : zero)};
}

static struct range observed(const struct histogram *h)
{
    return (struct range){h->min, h->max};
}

static struct range within(const struct histogram *h, double min, double max)
{
    struct range r = {(float)min, (float)max};
    r.min = r.min > h->min ? r.min : h->min;
    r.max = r.max < h->max ? r.max : h->max;
    return r;
}

/* ---- percentile ---- */

/* The value with `above` values beyond it, found from that end and placed evenly within its bin. */
static double from_top(const struct histogram *h, double above)
{
    double seen = 0;
    for (int i = HISTOGRAM_BINS - 1; i >= 0; i--) {
        double here = h->bins[i] + (i == HISTOGRAM_BINS / 2 ? (double)h->zeros : 0);
        if (here > 0 && seen + here >= above) {
            double share = (above - seen) / here, top = (double)histogram_border(h, i + 1), low = (double)histogram_border(h, i);
            return top - share * (top - low);
        }
        seen += here;
    }
    return (double)h->min;
}

static double from_bottom(const struct histogram *h, double below)
{
    double seen = 0;
    for (int i = 0; i < HISTOGRAM_BINS; i++) {
        double here = h->bins[i] + (i == HISTOGRAM_BINS / 2 ? (double)h->zeros : 0);
        if (here > 0 && seen + here >= below) {
            double share = (below - seen) / here, top = (double)histogram_border(h, i + 1), low = (double)histogram_border(h, i);
            return low + share * (top - low);
        }
        seen += here;
    }
    return (double)h->max;
}

static struct range percentile(const struct histogram *h, double percent)
{
    double outside = (double)h->count * (100 - percent) / 100;
    return within(h, from_bottom(h, outside), from_top(h, outside));
}

/* ---- mse ---- */

double range_error(const struct histogram *h, struct range r)
{
    const struct quant q = quant_from_range(r.min, r.max);
    const double scale = (double)q.scale;
    const double low = scale * (-128 - q.zero), high = scale * (127 - q.zero), width = (double)h->limit / (HISTOGRAM_BINS / 2);
    double sum = 0;
    for (int i = 0; i < HISTOGRAM_BINS; i++) {
        if (!h->bins[i])
            continue;
        double x = (double)histogram_border(h, i) + width / 2;
        double y = x < low ? low : x > high ? high : scale * rint(x / scale);
        sum += h->bins[i] * (x - y) * (x - y);
    }
    return h->count ? sum / (double)h->count : 0;
}

#define SHRINKS 100 /* steps of the search: each bound is tried at 1/100 to 100/100 of the observed one */

static struct range search_mse(const struct histogram *h)
{
    struct range best = observed(h);
    double least = range_error(h, best);
    /* One bound after the other, twice: they depend on each other only through the step. */
    for (int round = 0; round < 2; round++)
        for (int side = 0; side < 2; side++)
            for (int i = 1; i < SHRINKS; i++) {
                struct range r = best;
                float share = (float)i / SHRINKS;
                if (side == 0)
                    r.max = h->max * share;
                else
                    r.min = h->min * share;
                double error = (side == 0 ? h->max > 0 : h->min < 0) ? range_error(h, r) : INFINITY;
                if (error < least) {
                    least = error;
                    best = r;
                }
            }
    return best;
}

/* ---- entropy ---- */

/* P: the bins from first to last, with what lies outside added to the outermost. Q: P's mass within, shared evenly over those
   bins of each level that hold something. Sum of p log(p / q), both normalised. */
static double divergence(const struct histogram *h, int first, int last)
{
    double outside[2] = {0, 0}, inside = 0, total = 0;
    for (int i = 0; i < HISTOGRAM_BINS; i++) {
        total += h->bins[i];
        if (i < first)
            outside[0] += h->bins[i];
        else if (i > last)
            outside[1] += h->bins[i];
        else
            inside += h->bins[i];
    }
    if (inside <= 0)
        return INFINITY;
    const int count = last - first + 1;
    double sum = 0;
    for (int level = 0; level < LEVELS; level++) {
        int from = first + (int)((int64_t)count * level / LEVELS), to = first + (int)((int64_t)count * (level + 1) / LEVELS);
        double mass = 0;
        int filled = 0;
        for (int i = from; i < to; i++) {
            mass += h->bins[i];
            /* The outermost bins hold something as soon as anything is clipped. */
            filled += h->bins[i] || (i == first && outside[0] > 0) || (i == last && outside[1] > 0);
        }
        for (int i = from; i < to; i++) {
            double p = h->bins[i] + (i == first ? outside[0] : 0) + (i == last ? outside[1] : 0);
            if (p <= 0)
                continue;
            /* A level without mass of its own that must stand for what was clipped: a tiny share instead of an infinite sum. */
            double q = mass > 0 ? mass / filled : 1e-3;
            sum += p / total * log(p / total / (q / inside));
        }
    }
    return sum;
}

static int bin_of(const struct histogram *h, double x)
{
    int bin = (int)floor(x / (double)h->limit * (HISTOGRAM_BINS / 2)) + HISTOGRAM_BINS / 2;
    return bin < 0 ? 0 : bin >= HISTOGRAM_BINS ? HISTOGRAM_BINS - 1 : bin;
}

#define THRESHOLDS 128

/* As published the search is over one threshold on the magnitude. */
static struct range search_entropy(const struct histogram *h)
{
    struct range best = observed(h);
    const double largest = fmax((double)h->max, -(double)h->min);
    double least = INFINITY;
    if (h->limit <= 0)
        return best;
    for (int i = 1; i <= THRESHOLDS; i++) {
        double t = largest * i / THRESHOLDS;
        struct range r = within(h, -t, t);
        int first = r.min < 0 ? bin_of(h, (double)r.min) : HISTOGRAM_BINS / 2;
        int last = r.max > 0 ? bin_of(h, (double)r.max) : HISTOGRAM_BINS / 2 - 1;
        if (last - first + 1 < 2 * LEVELS && i < THRESHOLDS)
            continue; /* hardly coarser than the bins: nothing to see */
        double d = divergence(h, first, last);
        if (d < least) {
            least = d;
            best = r;
        }
    }
    return best;
}

struct range range_find(const struct histogram *h, enum range_method m)
{
    switch (m) {
    case RANGE_AVERAGE:
        return within(h, h->average_min, h->average_max);
    case RANGE_PERCENTILE_99_99:
        return percentile(h, 99.99);
    case RANGE_PERCENTILE_99_999:
        return percentile(h, 99.999);
    case RANGE_MSE:
        return search_mse(h);
    case RANGE_ENTROPY:
        return search_entropy(h);
    case RANGE_MINMAX:
        break;
    }
    return observed(h);
}

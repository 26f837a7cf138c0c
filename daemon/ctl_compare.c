// SPDX-License-Identifier: MIT

#include "daemon/ctl.h"

#include <math.h>

void ctl_compare_add(struct ctl_compare *c, const float *reference, const float *logits, int classes)
{
    int want, have;
    top_k(reference, classes, 1, &want);
    top_k(logits, classes, 1, &have);
    c->images++;
    c->agree += want == have;
    for (int i = 0; i < classes; i++) {
        double d = (double)logits[i] - (double)reference[i];
        c->signal += (double)reference[i] * (double)reference[i];
        c->noise += d * d;
    }
}

void ctl_compare_merge(struct ctl_compare *c, const struct ctl_compare *other)
{
    c->images += other->images;
    c->agree += other->agree;
    c->signal += other->signal;
    c->noise += other->noise;
}

double ctl_compare_percent(const struct ctl_compare *c)
{
    return c->images ? 100.0 * c->agree / c->images : (double)NAN;
}

double ctl_compare_db(const struct ctl_compare *c)
{
    return c->images ? ctl_decibel(c->signal, c->noise) : (double)NAN;
}

double ctl_decibel(double signal, double noise)
{
    return noise > 0 ? 10 * log10(signal / noise) : (double)INFINITY;
}

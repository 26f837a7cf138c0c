// SPDX-License-Identifier: MIT

#include "models/train/random.h"

#include <math.h>

static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t random_bits(struct random *r)
{
    r->state += 0x9e3779b97f4a7c15u;
    return mix(r->state);
}

struct random random_stream(uint64_t seed, enum random_use use, uint64_t a, uint64_t b)
{
    const uint64_t names[] = {use, a, b};
    struct random r = {seed};
    for (int i = 0; i < 3; i++)
        r.state = random_bits(&r) ^ mix(names[i] + 1);
    return r;
}

int random_below(struct random *r, int n)
{
    return (int)(((random_bits(r) >> 32) * (uint64_t)n) >> 32); /* uneven by less than n / 2^32 */
}

double random_unit(struct random *r)
{
    return (double)(random_bits(r) >> 11) * 0x1p-53;
}

/* Box and Muller's, one of the pair. */
double random_normal(struct random *r)
{
    const double radius = sqrt(-2 * log(1 - random_unit(r)));
    return radius * cos(6.283185307179586 * random_unit(r));
}

/* log of a Gamma(alpha) variate, after Marsaglia and Tsang, "A simple method for generating gamma variables" (2000). The log,
   because with a small alpha the variate itself is often too small for a double. */
static double log_gamma(struct random *r, double alpha)
{
    double boost = 0;
    if (alpha < 1) {
        boost = log(1 - random_unit(r)) / alpha;
        alpha += 1;
    }
    const double d = alpha - 1.0 / 3, c = 1 / sqrt(9 * d);
    for (;;) {
        const double x = random_normal(r), t = 1 + c * x;
        if (t <= 0)
            continue;
        const double v = t * t * t;
        if (log(1 - random_unit(r)) < 0.5 * x * x + d * (1 - v + log(v)))
            return log(d * v) + boost;
    }
}

double random_beta(struct random *r, double alpha)
{
    const double a = log_gamma(r, alpha), b = log_gamma(r, alpha);
    return 1 / (1 + exp(b - a));
}

void random_shuffle(struct random *r, int *v, int n)
{
    for (int i = n - 1; i > 0; i--) { /* Fisher and Yates */
        const int j = random_below(r, i + 1), t = v[i];
        v[i] = v[j];
        v[j] = t;
    }
}

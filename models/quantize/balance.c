// SPDX-License-Identifier: MIT

#include "models/quantize/balance.h"

#include <math.h>

/* What q lacks, in steps. A division and a difference, each rounded once: the same bits on every machine. */
static double lack(float w, float s, int8_t q)
{
    return (double)w / (double)s - q;
}

/* Moves the sum of n weights, `stride` apart, to within half a step. A weight's cost is (1 - e)^2 - e^2 = 1 - 2 e for an error of
   e towards the move. */
static void balance(const float *w, float s, int8_t *q, int64_t n, int64_t stride)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += lack(w[i * stride], s, q[i * stride]);
    const int sign = sum < 0 ? -1 : 1;
    for (long left = lrint(fabs(sum)); left > 0; left--) {
        int64_t best = -1;
        double most = 0;
        for (int64_t i = 0; i < n; i++) {
            const double e = sign * lack(w[i * stride], s, q[i * stride]);
            if (q[i * stride] != 127 * sign && (best < 0 || e > most)) {
                best = i;
                most = e;
            }
        }
        if (best < 0)
            return;
        q[best * stride] = (int8_t)(q[best * stride] + sign);
    }
}

void balance_weights(const float *w, int channels, int64_t depth, int window, const float *scale, int8_t *q)
{
    const int64_t inputs = depth / window;
    for (int o = 0; o < channels; o++, w += depth, q += depth) {
        for (int64_t i = 0; window > 1 && i < inputs; i++)
            balance(w + i, scale[o], q + i, window, inputs);
        balance(w, scale[o], q, depth, 1);
    }
}

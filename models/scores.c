// SPDX-License-Identifier: MIT
//
// From logits to answers.

#include <math.h>

#include "models/session.h"

void softmax(const float *logits, int n, float *p)
{
    float max = logits[0];
    for (int i = 1; i < n; i++)
        max = logits[i] > max ? logits[i] : max;
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += exp((double)logits[i] - (double)max);
    for (int i = 0; i < n; i++)
        p[i] = (float)(exp((double)logits[i] - (double)max) / sum);
}

/* Insertion into the k best so far: k is small, and equal values keep the lower index first. */
void top_k(const float *values, int n, int k, int *indices)
{
    int count = 0;
    for (int i = 0; i < n; i++) {
        if (count == k && !(values[i] > values[indices[count - 1]]))
            continue;
        int at = count < k ? count++ : count - 1;
        for (; at > 0 && values[i] > values[indices[at - 1]]; at--)
            indices[at] = indices[at - 1];
        indices[at] = i;
    }
}

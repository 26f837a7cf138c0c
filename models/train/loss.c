// SPDX-License-Identifier: MIT

#include "models/train/loss.h"

#include <math.h>
#include <stddef.h>

static double largest(const float *z, int n)
{
    double max = (double)z[0];
    for (int c = 1; c < n; c++)
        if ((double)z[c] > max)
            max = (double)z[c];
    return max;
}

/* log sum exp(z / temperature): softmax(z / temperature)[c] is exp(z[c] / temperature - this). */
static double log_sum(const float *z, int n, double temperature)
{
    const double max = largest(z, n);
    double sum = 0;
    for (int c = 0; c < n; c++)
        sum += exp(((double)z[c] - max) / temperature);
    return max / temperature + log(sum);
}

static double target_at(const struct loss *l, const struct loss_batch *b, int image, int c)
{
    const double t = b->targets ? (double)b->targets[(long)image * l->classes + c] : c == b->labels[image];
    return (1 - l->smoothing) * t + l->smoothing / l->classes;
}

double loss_run(const struct loss *l, const struct loss_batch *b, const float *logits, float *dlogits)
{
    const double taught = l->distillation, own = 1 - taught, temperature = l->temperature;
    double total = 0;
    for (int i = 0; i < b->images; i++) {
        const float *z = logits + (long)i * l->classes, *teacher = taught > 0 ? b->teacher + (long)i * l->classes : NULL;
        const double all = log_sum(z, l->classes, 1);
        const double soft = teacher ? log_sum(z, l->classes, temperature) : 0;
        const double soft_teacher = teacher ? log_sum(teacher, l->classes, temperature) : 0;
        for (int c = 0; c < l->classes; c++) {
            const double log_p = (double)z[c] - all, target = target_at(l, b, i, c);
            double gradient = own * (exp(log_p) - target);
            total -= own * target * log_p;
            if (teacher) {
                const double log_q = (double)z[c] / temperature - soft, log_t = (double)teacher[c] / temperature - soft_teacher;
                total += taught * temperature * temperature * exp(log_t) * (log_t - log_q);
                gradient += taught * temperature * (exp(log_q) - exp(log_t));
            }
            if (dlogits)
                dlogits[(long)i * l->classes + c] = (float)(gradient / b->images);
        }
    }
    return total / b->images;
}

int loss_correct(const float *logits, const int *labels, int images, int classes)
{
    int correct = 0;
    for (int i = 0; i < images; i++, logits += classes) {
        int best = 0;
        for (int c = 1; c < classes; c++)
            if (logits[c] > logits[best])
                best = c;
        correct += best == labels[i];
    }
    return correct;
}

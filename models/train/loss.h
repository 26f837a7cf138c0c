// SPDX-License-Identifier: MIT
//
// loss.h - softmax cross-entropy, with smoothed labels, soft targets and a teacher.

#ifndef MODELS_TRAIN_LOSS_H
#define MODELS_TRAIN_LOSS_H

/* target[c] = (1 - smoothing) t[c] + smoothing / classes, where t is 1 at the label and 0 elsewhere, or given (mixup). With a
   teacher the loss is
       (1 - distillation) H(target, softmax(z)) + distillation T^2 KL(softmax(teacher / T) || softmax(z / T))
   after Hinton, Vinyals and Dean 2015 (arXiv 1503.02531). */
struct loss {
    int classes;
    double smoothing;    /* 0 to 1 */
    double distillation; /* 0 to 1; 0: no teacher */
    double temperature;  /* > 0; with a teacher */
};

struct loss_batch {
    int images;
    const int *labels;    /* [images]; not looked at with targets */
    const float *targets; /* t [images][classes], each image's sum 1; NULL: the labels */
    const float *teacher; /* logits [images][classes], with distillation */
};

/* The mean loss of the batch, and its gradient dlogits [images][classes] (NULL: not wanted; must not be logits). Sums in double.
 */
double loss_run(const struct loss *l, const struct loss_batch *b, const float *logits, float *dlogits);

/* Images whose largest logit (the first of equals) is that of the label. */
int loss_correct(const float *logits, const int *labels, int images, int classes);

#endif

// SPDX-License-Identifier: MIT
//
// schedule.h - the learning rate of every step.
//
//   one-cycle  up to the peak from a 25th of it during the first 30 % of the steps, then down to a 250,000th, both along half a
//              cosine (Smith and Topin 2017, "Super-convergence", with the shape and the numbers of PyTorch's OneCycleLR)
//   cosine     from the peak to 0 along half a cosine (Loshchilov and Hutter 2016, "SGDR", without restarts)

#ifndef MODELS_TRAIN_SCHEDULE_H
#define MODELS_TRAIN_SCHEDULE_H

#include <stdint.h>

#include "models/err.h"

enum schedule_shape { SCHEDULE_ONECYCLE, SCHEDULE_COSINE };
enum { SCHEDULE_SHAPES = 2 };

struct schedule {
    enum schedule_shape shape;
    double peak;
    int64_t steps; /* of the whole training */
};

const char *schedule_name(enum schedule_shape s); /* "onecycle", "cosine" */
int schedule_parse(const char *text, enum schedule_shape *out, struct err *e);

/* Of step 0 .. steps - 1. */
double schedule_rate(const struct schedule *s, int64_t step);

#endif

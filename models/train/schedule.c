// SPDX-License-Identifier: MIT

#include "models/train/schedule.h"

#include <math.h>
#include <string.h>

#define RISING 0.3 /* share of the steps */
#define START  (1.0 / 25)
#define END    (START / 1e4)

static const char *const names[SCHEDULE_SHAPES] = {"onecycle", "cosine"};

const char *schedule_name(enum schedule_shape s)
{
    return names[s];
}

int schedule_parse(const char *text, enum schedule_shape *out, struct err *e)
{
    for (int i = 0; i < SCHEDULE_SHAPES; i++)
        if (!strcmp(text, names[i])) {
            *out = (enum schedule_shape)i;
            return 0;
        }
    return err_set(e, ERR_INPUT, "no schedule is called %.40s; there are onecycle and cosine", text);
}

/* From a (share 0) to b (share 1) along half a cosine. */
static double anneal(double a, double b, double share)
{
    return b + (a - b) / 2 * (1 + cos(3.14159265358979323846 * share));
}

double schedule_rate(const struct schedule *s, int64_t step)
{
    const double total = (double)s->steps, at = (double)step;
    if (s->shape == SCHEDULE_COSINE)
        return anneal(s->peak, 0, at / total);
    const double top = RISING * total - 1, last = total - 1;
    if (at < top)
        return s->peak * anneal(START, 1, at / top);
    return s->peak * anneal(1, END, last > top ? (at - top) / (last - top) : 1);
}

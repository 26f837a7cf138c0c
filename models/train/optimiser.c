// SPDX-License-Identifier: MIT

#include "models/train/optimiser.h"

#include <pthreadpool.h>

struct step {
    const struct optimiser *o;
    struct parameter *parameters;
    int first_node;
};

static void step_one(void *user, size_t i)
{
    const struct step *s = user;
    const struct parameter *p = &s->parameters[i];
    if (!p->grad || p->node < s->first_node)
        return;
    const float rate = (float)s->o->rate, momentum = (float)s->o->momentum;
    const float decay = p->decay ? (float)s->o->weight_decay : 0;
    float *w = p->value, *v = p->momentum;
    for (int64_t k = 0; k < p->count; k++) {
        const float g = p->grad[k] + decay * w[k];
        v[k] = momentum * v[k] + g;
        w[k] -= rate * (g + momentum * v[k]);
    }
}

void optimiser_step(const struct optimiser *o, struct parameter *parameters, int count, int first_node, struct pthreadpool *pool)
{
    struct step s = {o, parameters, first_node};
    pthreadpool_parallelize_1d(pool, step_one, &s, (size_t)count, 0);
}

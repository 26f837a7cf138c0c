// SPDX-License-Identifier: MIT
//
// optimiser.h - stochastic gradient descent with Nesterov momentum (Sutskever et al. 2013), as PyTorch's SGD computes it:
//     g = grad + decay w      v = momentum v + g      w = w - rate (g + momentum v)

#ifndef MODELS_TRAIN_OPTIMISER_H
#define MODELS_TRAIN_OPTIMISER_H

#include "models/train/trainee.h"

struct optimiser {
    double rate;
    double momentum;     /* 0 to 1 */
    double weight_decay; /* of the parameters that have `decay` */
};

/* One step of every parameter that has a gradient and whose node is first_node or comes after it; the others stay. The same bits
   on any number of threads. */
void optimiser_step(const struct optimiser *o, struct parameter *parameters, int count, int first_node, struct pthreadpool *pool);

#endif

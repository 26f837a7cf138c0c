// SPDX-License-Identifier: MIT
//
// selftest.h - golden inputs and logits: a model file carries what the C reference answered to some images, and whoever loads it
// asks the kernels of this machine the same before they serve. The digest of the file proves the bytes; this proves the sums.

#ifndef MODELS_SELFTEST_H
#define MODELS_SELFTEST_H

#include "models/model.h"

/* How far a logit may lie from the stored one, as a part of the largest stored logit of its image. 0 in int8: the same bits on
   every CPU. Float sums are rounded in another order by each kernel (docs/model-format.md has what was measured). */
double selftest_bound(const struct network *n);

/* Replaces n->selftest: one or, when they are small, two images of gradients and noise, always the same, and their logits from
   the C reference, computed on the threads of pool (borrowed; NULL: this one). Call it last: a network that changes afterwards
   contradicts it. Input beyond SELFTEST_BYTES_MAX gets none. ERR_INPUT when the logits are not finite, ERR_MEMORY. */
int selftest_make(struct network *n, struct pthreadpool *pool, struct err *e);

/* Runs the model's self-test on its kernels and the threads of pool; where the file had none, one black image must give finite
   logits. 0, SELFTEST_FAILED with what came and what should have come, or -1 when it could not be run. */
#define SELFTEST_FAILED 1
int selftest_run(struct model *m, struct pthreadpool *pool, struct err *e);

#endif

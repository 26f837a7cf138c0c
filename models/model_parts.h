// SPDX-License-Identifier: MIT
//
// model_parts.h - private to models/: what a session needs of a model.

#ifndef MODELS_MODEL_PARTS_H
#define MODELS_MODEL_PARTS_H

#include "kernels/conv.h"
#include "kernels/pool.h"
#include "models/model.h"
#include "models/plan.h"

/* 1 when the step leaves float logits instead of a tensor: the last convolution or dense layer of int8, which is never clipped. */
int step_writes_logits(const struct network *n, const struct step *s);

const struct plan *model_plan(const struct model *m);
const struct conv *model_conv(const struct model *m, int step); /* NULL for steps without weights */
size_t model_scratch_bytes(const struct model *m);              /* of one task, enough for every step */

#endif

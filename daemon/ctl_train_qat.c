// SPDX-License-Identifier: MIT
//
// ctl_train_qat.c - a model that learns to be int8: `train --qat`.

#include "daemon/ctl_train.h"

int train_open_quantised(struct train *t, struct err *e)
{
    (void)t;
    return err_set(e, ERR_UNSUPPORTED, "--qat is not in this build");
}

int train_quantised_network(const struct train *t, struct network *out, struct err *e)
{
    (void)t;
    (void)out;
    return err_set(e, ERR_UNSUPPORTED, "--qat is not in this build");
}

void train_close_quantised(struct train *t)
{
    t->quantised = NULL;
}

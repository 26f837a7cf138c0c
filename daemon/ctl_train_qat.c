// SPDX-License-Identifier: MIT
//
// ctl_train_qat.c - a model that learns to be int8: `train --qat`. It begins as the quantiser would leave it.

#include "daemon/ctl_train.h"

#include "models/quantize/quantize.h"

static const float *forward_quantised(void *self, const float *x, int images, int learning)
{
    (void)learning;
    return qat_forward(self, x, images);
}

static void backward_quantised(void *self, const float *dlogits)
{
    qat_backward(self, dlogits);
}

/* Only the ranges of activations are taken over: weights and biases begin as they are. */
static int calibrated(struct train *t, struct network *out, struct err *e)
{
    const struct quantize_options o = {.weights = 1u << WEIGHTS_NEAREST, .plain_bias = 1};
    struct train_images images = train_calibration(t);
    struct calibration *c;
    if (calibration_new(&t->source, t->kernels, t->pool, train_next_image, &images, &c, e) != 0)
        return -1;
    const int rc = quantize_network(&t->source, PRECISION_INT8, &o, c, out, NULL, e);
    calibration_free(c);
    return rc;
}

int train_open_quantised(struct train *t, struct err *e)
{
    const struct qat_options o = {.batch = t->o.batch, .weight_bits = t->o.weight_bits, .pool = t->pool, .kernels = t->kernels};
    struct learner *l = &t->trainer.learner;
    struct network int8;
    const int classes = t->source.graph.nodes[t->source.graph.output].c;
    if (t->set->classes != classes)
        return err_set(e, ERR_INPUT, "%s knows %d classes, %s has %d", t->o.qat, classes, t->o.data, t->set->classes);
    if (calibrated(t, &int8, e) != 0)
        return err_prefix(e, "%s", t->o.qat);
    const int rc = qat_new(&t->source, &int8, &o, &t->quantised, e);
    network_free(&int8);
    if (rc != 0)
        return err_prefix(e, "%s", t->o.qat);
    *l = (struct learner){t->quantised, forward_quantised, backward_quantised, NULL, 0};
    l->parameters = qat_parameters(t->quantised, &l->count);
    return 0;
}

int train_quantised_network(const struct train *t, struct network *out, struct err *e)
{
    return qat_to_network(t->quantised, out, e);
}

void train_close_quantised(struct train *t)
{
    qat_free(t->quantised);
    t->quantised = NULL;
}

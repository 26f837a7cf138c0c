// SPDX-License-Identifier: MIT
//
// ctl_train_qat.c - a model that learns to be int8: `train --qat`. It begins as the quantiser would leave it, and what is written
// in the end is held against what was trained, image by image.

#include "daemon/ctl_train.h"

#include <string.h>

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

/* Whether the model answers every image of the feed with the bits that the training computes for it. */
static int compare(const struct train *t, struct session *s, const char *path, int *images, struct err *e)
{
    const struct image_set *set;
    const int *index, classes = t->set->classes;
    int n = 0, other = 0;
    train_validation(t, &set, &index);
    const size_t bytes = 3u * (size_t)set->width * (size_t)set->height;
    feed_start(t->validation, 0);
    for (const struct feed_batch *b; (b = feed_next(t->validation)); n += b->images) {
        const float *trained = qat_forward(t->quantised, b->x, b->images);
        for (int i = 0; i < b->images; i++) {
            session_set_pixels(s, 0, set->pixels + (size_t)b->index[i] * bytes);
            other += memcmp(session_run(s, 1), trained + (size_t)i * (size_t)classes, sizeof *trained * (size_t)classes) != 0;
        }
    }
    *images = n;
    return other ? err_set(e, ERR_INTERNAL, "%s answers %d of %d images otherwise than the training did", path, other, n) : 0;
}

int train_check_quantised(const struct train *t, const char *path, int *images, struct err *e)
{
    struct session *s = NULL;
    struct model *m;
    *images = 0;
    if (!t->validation)
        return 0;
    if (model_load(path, t->kernels, t->pool, &m, e) != 0)
        return -1;
    int rc = session_new(m, 1, NULL, &s, e);
    model_free(m);
    if (rc == 0)
        rc = compare(t, s, path, images, e);
    session_free(s);
    return rc;
}

void train_close_quantised(struct train *t)
{
    qat_free(t->quantised);
    t->quantised = NULL;
}

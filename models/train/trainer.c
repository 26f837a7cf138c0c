// SPDX-License-Identifier: MIT

#include "models/train/trainer.h"

#include <math.h>
#include <stdlib.h>

struct buffers {
    float *dlogits, *teacher; /* [batch][classes] */
};

static void add_score(struct trainer_score *s, double loss, int correct, int images)
{
    s->loss += (loss - s->loss) * images / (s->images + images);
    s->correct += correct;
    s->images += images;
}

struct trainer_score trainer_evaluate(const struct learner *l, int classes, struct feed *f)
{
    const struct loss plain = {.classes = classes};
    struct trainer_score s = {0};
    feed_start(f, 0);
    for (const struct feed_batch *b; (b = feed_next(f));) {
        const float *logits = l->forward(l->self, b->x, b->images, 0);
        const struct loss_batch wanted = {.images = b->images, .labels = b->label};
        add_score(&s, loss_run(&plain, &wanted, logits, NULL), loss_correct(logits, b->label, b->images, classes), b->images);
    }
    return s;
}

/* Forwards, backwards, one step. -1: the loss is no number. */
static int learn(const struct trainer *t, const struct feed_batch *b, double rate, const struct buffers *m,
                 struct trainer_score *s)
{
    struct loss_batch wanted = {.images = b->images, .labels = b->label, .targets = b->target};
    if (t->teach) {
        t->teach(t->user, b->x, b->images, m->teacher);
        wanted.teacher = m->teacher;
    }
    const float *logits = t->learner.forward(t->learner.self, b->x, b->images, 1);
    const double loss = loss_run(&t->loss, &wanted, logits, m->dlogits);
    if (!isfinite(loss))
        return -1;
    add_score(s, loss, loss_correct(logits, b->label, b->images, t->loss.classes), b->images);
    t->learner.backward(t->learner.self, m->dlogits);
    const struct optimiser o = {rate, t->momentum, t->weight_decay};
    optimiser_step(&o, t->learner.parameters, t->learner.count, t->first_node, t->pool);
    return 0;
}

/* As trainer_run, for one epoch. */
static int run_epoch(const struct trainer *t, int epoch, const struct buffers *m, struct err *e)
{
    struct trainer_progress p = {.epoch = epoch, .epochs = t->epochs, .images = feed_images(t->train)};
    int64_t step = (int64_t)epoch * feed_batches(t->train);
    feed_start(t->train, epoch);
    for (const struct feed_batch *b; (b = feed_next(t->train)); step++) {
        if (t->stop && *t->stop)
            return 1;
        p.rate = schedule_rate(&t->schedule, step);
        if (learn(t, b, p.rate, m, &p.score) != 0)
            return err_set(e, ERR_INPUT, "in epoch %d the loss is no longer a number: a lower learning rate than %g may help",
                           epoch + 1, t->schedule.peak);
        if (t->progress)
            t->progress(t->user, &p);
    }
    struct trainer_epoch r = {.epoch = epoch, .rate = p.rate, .train = p.score};
    if (t->validation)
        r.validation = trainer_evaluate(&t->learner, t->loss.classes, t->validation);
    return t->epoch ? t->epoch(t->user, &r, e) : 0;
}

int trainer_run(const struct trainer *t, int first, struct err *e)
{
    const size_t logits = (size_t)t->loss.classes * (size_t)t->batch;
    struct buffers m = {malloc(logits * sizeof(float)), malloc(logits * sizeof(float))};
    int rc = m.dlogits && m.teacher ? 0 : err_set(e, ERR_MEMORY, "no memory for a batch");
    for (int epoch = first; epoch < t->epochs && rc == 0; epoch++)
        rc = run_epoch(t, epoch, &m, e);
    free(m.dlogits);
    free(m.teacher);
    return rc;
}

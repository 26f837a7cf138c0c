// SPDX-License-Identifier: MIT
//
// trainer.h - the loop: batches forwards and backwards, a step of the optimiser after each, accuracy after each epoch.
//
// It knows no files: who runs it writes a checkpoint when an epoch has ended, and may begin with any epoch that a checkpoint was
// written before.

#ifndef MODELS_TRAIN_TRAINER_H
#define MODELS_TRAIN_TRAINER_H

#include <signal.h>
#include <stdint.h>

#include "models/train/feed.h"
#include "models/train/loss.h"
#include "models/train/optimiser.h"
#include "models/train/schedule.h"
#include "models/train/trainee.h"

/* What learns: a trainee (trainee.h) or a quantised one (qat.h). */
struct learner {
    void *self;
    /* Logits [images][classes] of x, owned by self. learning: a backward follows. */
    const float *(*forward)(void *self, const float *x, int images, int learning);
    void (*backward)(void *self, const float *dlogits);
    struct parameter *parameters;
    int count;
};

struct trainer_score {
    int images, correct;
    double loss; /* mean */
};

/* After each step, what the epoch has come to. */
struct trainer_progress {
    int epoch, epochs; /* epoch: from 0 */
    int images;        /* of the epoch, all that there are */
    double rate;       /* of this step */
    struct trainer_score score;
};

/* After each epoch. */
struct trainer_epoch {
    int epoch;
    double rate;                     /* of the last step */
    struct trainer_score train;      /* in the course of the epoch, of augmented images */
    struct trainer_score validation; /* images 0: there are none */
};

struct trainer { /* all borrowed */
    struct learner learner;
    struct feed *train;
    struct feed *validation;  /* NULL: none */
    struct loss loss;         /* with distillation: teach must be there */
    struct schedule schedule; /* steps: epochs * feed_batches(train) */
    double momentum, weight_decay;
    int batch, epochs; /* batch: images of a step, at most */
    int first_node;    /* parameters of nodes before it stay as they are */
    struct pthreadpool *pool;

    /* Logits [images][classes] of the teacher for x [images][h][w][3]; NULL: no teacher. */
    void (*teach)(void *user, const float *x, int images, float *logits);
    void (*progress)(void *user, const struct trainer_progress *p);         /* may be NULL */
    int (*epoch)(void *user, const struct trainer_epoch *r, struct err *e); /* may be NULL; -1 ends the training */
    void *user;
    const volatile sig_atomic_t *stop; /* becomes 1: end after the step at hand; may be NULL */
};

/* Trains from epoch `first`, 0 .. epochs. 0: done; 1: stopped, in the middle of an epoch; -1: ERR_MEMORY, what epoch() said, or
   ERR_INPUT when the loss is no longer a number. */
int trainer_run(const struct trainer *t, int first, struct err *e);

/* Loss without smoothing and teacher, and accuracy, of what a feed for validation gives in one epoch. */
struct trainer_score trainer_evaluate(const struct learner *l, int classes, struct feed *f);

#endif

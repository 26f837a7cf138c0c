// SPDX-License-Identifier: MIT
//
// ctl_train.h - private to ctl_train*.c: what one training knows, and the order in which it comes to be.
//
//     options -> data (ctl_train_data.c) -> what learns (ctl_train_learner.c) -> the loop, its checkpoint and its log
//     (ctl_train_loop.c) -> a model directory (ctl_train_models.c)

#ifndef DAEMON_CTL_TRAIN_H
#define DAEMON_CTL_TRAIN_H

#include "daemon/ctl.h"
#include "daemon/progress.h"
#include "models/train/checkpoint.h"
#include "models/train/feed.h"
#include "models/train/image_set.h"
#include "models/train/qat.h"
#include "models/train/trainer.h"

/* ---- options (ctl_train_options.c) ---- */

/* Numbers below zero and NULL: not given. train_options_default fills in what a training decides by. */
struct train_options {
    const char *arch, *from, *qat, *resume; /* one of the first three is set, also after resuming */
    const char *data, *validate, *replace, *replace_indices, *output, *log, *name, *labels, *preprocess, *teacher, *schedule;
    int epochs, batch, cutout, pad, no_flip, seed, threads, weight_bits, freeze, json;
    double share, rate, weight_decay, smoothing, mixup;
};

extern const struct ctl_usage train_usage;
extern const struct train_options train_options_unset;

/* What the command line leaves open and no data is needed for. Texts are constants. */
void train_options_default(struct train_options *o);

/* The options that decide what a training gives, as a JSON object; NULL: no memory. */
cJSON *train_options_json(const struct train_options *o);

/* Takes them from a checkpoint, which must outlive o. What was given again must be the same. */
int train_options_resume(struct train_options *o, const cJSON *saved, struct err *e);

/* The command that gives this training again, paths without their directories; freed by the caller, NULL: no memory. */
char *train_options_command(const struct train_options *o);

/* ---- the training ---- */

struct train {
    struct train_options o;
    const struct kernels *kernels;
    struct pthreadpool *pool;

    struct checkpoint state; /* as the last epoch left it; its options are made by ctl_train.c */
    cJSON *saved;            /* the options of a checkpoint that this goes on from; NULL: none */

    struct network source; /* of --from or --qat */
    struct preprocess preprocess;
    int width, height;              /* of the network's input */
    struct image_set *set, *other;  /* other: of --validate */
    struct image_part part, held;   /* of set: to train on, for validation */
    struct feed *feed, *validation; /* validation NULL: nothing to validate with */

    struct trainee *trainee; /* or */
    struct qat *quantised;
    struct ctl_model teacher;  /* model NULL: none */
    struct session **teachers; /* [threads] of it; NULL: none */
    struct trainer trainer;

    struct train_loop *loop; /* while it runs */
};

/* ctl_train_data.c: source, preprocessing, images and their division, feeds. */
int train_open_data(struct train *t, struct err *e);
/* The images that accuracy is measured with: count of them, numbers in *set by index[] (NULL: all of it). */
int train_validation(const struct train *t, const struct image_set **set, const int **index);
/* Images to calibrate with, spread over those trained on. */
struct train_images {
    const struct train *t;
    int next, count;
};
struct train_images train_calibration(const struct train *t);
int train_next_image(void *user, uint8_t *rgb, int *label, struct err *e); /* next_image of quantize.h; user: train_images */

/* ctl_train_learner.c: the network, its teacher, and how it learns: t->trainer but for its callbacks. */
int train_open_learner(struct train *t, struct err *e);
void train_close(struct train *t);

/* ctl_train_qat.c: the learner of --qat, its network in int8, the proof that nothing is lost on the way, and its end. */
int train_open_quantised(struct train *t, struct err *e);
int train_quantised_network(const struct train *t, struct network *out, struct err *e);
/* Serves every image of validation with the file at path. ERR_INTERNAL when a logit has other bits than in training; *images: how
   many were compared, 0 when there is no validation. */
int train_check_quantised(const struct train *t, const char *path, int *images, struct err *e);
void train_close_quantised(struct train *t);

/* ctl_train_loop.c: trains until the end, or (1) until SIGINT or SIGTERM, whose second ends the program. Writes the checkpoint
   and the log after each epoch; t->state is the last of them. */
int train_loop(struct train *t, struct err *e);
/* Takes away the checkpoint of a training that is complete. */
void train_remove_checkpoint(const struct train *t);

/* ctl_train_models.c: the network as it is now, in every precision, to -o. *models: an array of what was measured, an object for
   each file. */
int train_write_models(struct train *t, int stopped, cJSON **models, struct err *e);

#endif

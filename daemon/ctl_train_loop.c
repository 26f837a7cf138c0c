// SPDX-License-Identifier: MIT
//
// ctl_train_loop.c - epoch after epoch: checkpoint, log, and what a person watching sees.

#include "daemon/ctl_train.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>

#define PLAIN_MS 60000.0 /* between two lines within an epoch where there is no terminal */

static const char log_head[] = "epoch,rate,loss,accuracy,validation_loss,validation_accuracy,images_per_second,seconds\n";

struct train_loop {
    struct checkpoint_tensor *tensors;
    char (*names)[PARAMETER_NAME_MAX + 16]; /* of momenta */
    int tensor_count;
    char *checkpoint, *log; /* paths */
    char what[96];          /* before the bar */
    struct progress progress;
    int first;                          /* epoch that this run began with */
    double start_ms, epoch_ms, line_ms; /* of this run, of the epoch, of the last plain line */
    double before;                      /* seconds of earlier runs */
};

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
    (void)number;
    stop = 1;
}

/* ---- what is kept ---- */

static int list_tensors(const struct learner *l, struct train_loop *s, struct err *e)
{
    s->tensors = calloc(2 * (size_t)l->count + 1, sizeof *s->tensors);
    s->names = calloc((size_t)l->count + 1, sizeof *s->names);
    if (!s->tensors || !s->names)
        return err_set(e, ERR_MEMORY, "no memory for a list of %d parameters", l->count);
    for (int i = 0; i < l->count; i++) {
        const struct parameter *p = &l->parameters[i];
        s->tensors[s->tensor_count++] = (struct checkpoint_tensor){p->name, p->value, p->count};
        if (!p->momentum)
            continue;
        snprintf(s->names[i], sizeof s->names[i], "%s.momentum", p->name);
        s->tensors[s->tensor_count++] = (struct checkpoint_tensor){s->names[i], p->momentum, p->count};
    }
    return 0;
}

static int find_paths(const struct train *t, struct train_loop *s, struct err *e)
{
    if (asprintf(&s->checkpoint, "%s/checkpoint.safetensors", t->o.output) < 0)
        s->checkpoint = NULL;
    if (t->o.log)
        s->log = strdup(t->o.log);
    else if (asprintf(&s->log, "%s/log.csv", t->o.output) < 0)
        s->log = NULL;
    return s->checkpoint && s->log ? 0 : err_set(e, ERR_MEMORY, "no memory for a path");
}

void train_remove_checkpoint(const struct train *t)
{
    struct train_loop s = {0};
    struct err ignored;
    if (find_paths(t, &s, &ignored) == 0)
        unlink(s.checkpoint);
    free(s.checkpoint);
    free(s.log);
}

static int make_directory(const struct train *t, const struct train_loop *s, struct err *e)
{
    if (mkdir(t->o.output, 0777) != 0 && errno != EEXIST)
        return err_set(e, ERR_IO, "cannot make the directory %s: %s", t->o.output, strerror(errno));
    if (!t->saved && access(s->checkpoint, F_OK) == 0)
        return err_set(e, ERR_INPUT, "%s is of a training that has not ended: go on with --resume %s, or remove it",
                       s->checkpoint, s->checkpoint);
    return 0;
}

static void percent(const struct trainer_score *s, char text[16])
{
    snprintf(text, 16, "%.2f", s->images ? 100.0 * s->correct / s->images : 0);
}

static int add_row(struct train *t, const struct trainer_epoch *r, double rate, struct err *e)
{
    char *more, accuracy[16], validation[48] = ",";
    percent(&r->train, accuracy);
    if (r->validation.images)
        snprintf(validation, sizeof validation, "%.6g,%.2f", r->validation.loss,
                 100.0 * r->validation.correct / r->validation.images);
    if (asprintf(&more, "%s%d,%.6g,%.6g,%s,%s,%.1f,%.1f\n", t->state.log, r->epoch + 1, r->rate, r->train.loss, accuracy,
                 validation, rate, t->state.seconds) < 0)
        return err_set(e, ERR_MEMORY, "no memory for the log");
    free(t->state.log);
    t->state.log = more;
    return 0;
}

/* ---- what is shown ---- */

static void show_step(void *user, const struct trainer_progress *p)
{
    struct train *t = user;
    struct train_loop *s = t->loop;
    const double now = ctl_now_ms();
    if (!s->progress.terminal && now - s->line_ms < PLAIN_MS)
        return;
    s->line_ms = now;
    char accuracy[16];
    percent(&p->score, accuracy);
    snprintf(s->what, sizeof s->what, "epoch %d of %d, loss %.4g, accuracy %s %%", p->epoch + 1, p->epochs, p->score.loss,
             accuracy);
    progress_step(&s->progress, (long long)(p->epoch - s->first) * p->images + p->score.images);
}

static void show_epoch(const struct train *t, const struct trainer_epoch *r, double rate)
{
    char accuracy[16], validation[64] = "";
    if (t->o.json)
        return;
    percent(&r->train, accuracy);
    if (r->validation.images)
        snprintf(validation, sizeof validation, ", validation loss %.4g, accuracy %.2f %%", r->validation.loss,
                 100.0 * r->validation.correct / r->validation.images);
    const int left = t->o.epochs - r->epoch - 1;
    const double seconds = (ctl_now_ms() - t->loop->start_ms) / 1e3 / (r->epoch + 1 - t->loop->first) * left;
    fprintf(stderr, "epoch %d of %d: loss %.4g, accuracy %s %%%s, %.0f images/s", r->epoch + 1, t->o.epochs, r->train.loss,
            accuracy, validation, rate);
    if (left)
        fprintf(stderr, seconds < 90 ? ", %.0f s left" : ", %.0f min left", seconds < 90 ? seconds : seconds / 60);
    fputc('\n', stderr);
}

static int end_epoch(void *user, const struct trainer_epoch *r, struct err *e)
{
    struct train *t = user;
    struct train_loop *s = t->loop;
    const double now = ctl_now_ms(), ms = now - s->epoch_ms;
    const double rate = ms > 0 ? 1e3 * r->train.images / ms : 0;
    t->state.epochs = r->epoch + 1;
    t->state.seconds = s->before + (now - s->start_ms) / 1e3;
    if (add_row(t, r, rate, e) != 0 || checkpoint_write(s->checkpoint, &t->state, s->tensors, s->tensor_count, e) != 0 ||
        ctl_write_text(s->log, t->state.log, e) != 0)
        return -1;
    progress_end(&s->progress);
    show_epoch(t, r, rate);
    s->epoch_ms = s->line_ms = ctl_now_ms();
    return 0;
}

/* ---- the loop ---- */

static int begin(struct train *t, struct train_loop *s, struct err *e)
{
    if (find_paths(t, s, e) != 0 || make_directory(t, s, e) != 0 || list_tensors(&t->trainer.learner, s, e) != 0)
        return -1;
    if (t->saved) {
        if (t->state.epochs > t->o.epochs)
            return err_set(e, ERR_DAMAGED, "%s has %d epochs of %d", t->o.resume, t->state.epochs, t->o.epochs);
        return checkpoint_read_tensors(t->o.resume, s->tensors, s->tensor_count, e);
    }
    t->state.log = strdup(log_head);
    return t->state.log ? 0 : err_set(e, ERR_MEMORY, "no memory for the log");
}

static int run(struct train *t, struct train_loop *s, struct err *e)
{
    const int signals[] = {SIGINT, SIGTERM};
    struct sigaction mine = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND}, old[2];
    for (int i = 0; i < 2; i++)
        sigaction(signals[i], &mine, &old[i]);
    s->first = t->state.epochs;
    s->before = t->state.seconds;
    s->start_ms = s->epoch_ms = s->line_ms = ctl_now_ms();
    progress_start(&s->progress, s->what, "images", (long long)(t->o.epochs - s->first) * feed_images(t->feed), t->o.json);
    t->trainer.progress = show_step;
    t->trainer.epoch = end_epoch;
    t->trainer.user = t;
    t->trainer.stop = &stop;
    const int rc = trainer_run(&t->trainer, s->first, e);
    progress_end(&s->progress);
    for (int i = 0; i < 2; i++)
        sigaction(signals[i], &old[i], NULL);
    return rc;
}

int train_loop(struct train *t, struct err *e)
{
    struct train_loop s = {0};
    t->loop = &s;
    const int rc = begin(t, &s, e) == 0 ? run(t, &s, e) : -1;
    t->loop = NULL;
    free(s.tensors);
    free(s.names);
    free(s.checkpoint);
    free(s.log);
    return rc;
}

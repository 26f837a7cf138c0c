// SPDX-License-Identifier: MIT
//
// ctl_train_learner.c - the network that learns: a new one, an old one with a new last layer, or one that is to be int8.

#include "daemon/ctl_train.h"

#include <pthreadpool.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "models/file.h"
#include "models/train/architecture.h"

#define TEACHER_BATCH       8
#define TEACHER_SHARE       0.9 /* of the loss; the rest is for the labels */
#define TEACHER_TEMPERATURE 4.0

/* ---- learners of trainer.h ---- */

static const float *forward_float(void *self, const float *x, int images, int learning)
{
    return trainee_forward(self, x, images, learning ? TRAINEE_TRAIN : TRAINEE_EVAL);
}

static void backward_float(void *self, const float *dlogits)
{
    trainee_backward(self, dlogits);
}

/* ---- from nothing, from a model ---- */

static int open_trainee(struct train *t, struct err *e)
{
    struct graph g;
    const struct trainee_options o = {.batch = t->o.batch, .pool = t->pool, .kernels = t->kernels, .batch_norm = 1};
    if (architecture_make(t->o.arch, t->width, t->height, t->set->classes, &g, e) != 0)
        return -1;
    const int rc = trainee_new(&g, &o, &t->trainee, e);
    graph_free(&g);
    if (rc == 0)
        trainee_initialise(t->trainee, (uint64_t)t->o.seed);
    return rc;
}

static int same_classes(const struct network *n, const struct image_set *s)
{
    if (n->label_count != s->classes)
        return 0;
    for (int c = 0; c < s->classes; c++)
        if (strcmp(n->labels[c], s->labels[c]))
            return 0;
    return 1;
}

/* The last layer for other classes begins with zeros: the first step moves it wherever the features point. */
static int replace_last(struct network *n, int classes, struct err *e)
{
    const int last = n->graph.output;
    if (n->graph.nodes[last].op != OP_DENSE)
        return err_set(e, ERR_UNSUPPORTED, "its last layer %s is not a dense one and cannot be replaced",
                       n->graph.nodes[last].name);
    float *weight = calloc((size_t)classes * (size_t)node_depth(&n->graph, last), sizeof *weight);
    float *bias = calloc((size_t)classes, sizeof *bias);
    if (!weight || !bias) {
        free(weight);
        free(bias);
        return err_set(e, ERR_MEMORY, "no memory for %d classes", classes);
    }
    layer_free(&n->layers[last]);
    n->layers[last] = (struct layer){.weight = weight, .bias = bias};
    n->graph.nodes[last].c = classes;
    labels_free(n->labels, n->label_count);
    n->labels = NULL;
    n->label_count = 0;
    return graph_check(&n->graph, e);
}

/* The node of the first layer that learns. */
static int first_to_learn(const struct graph *g, int freeze, int *node, struct err *e)
{
    int layers = 0;
    for (int i = 0; i < g->count; i++)
        if (node_has_weights(&g->nodes[i]) && layers++ == freeze) {
            *node = i;
            return 0;
        }
    return err_set(e, ERR_INPUT, "--freeze %d leaves nothing to learn: the network has %d layers", freeze, layers);
}

static int open_tuned(struct train *t, struct err *e)
{
    struct trainee_options o = {.batch = t->o.batch, .pool = t->pool, .kernels = t->kernels};
    if (!same_classes(&t->source, t->set) && replace_last(&t->source, t->set->classes, e) != 0)
        return err_prefix(e, "%s", t->o.from);
    if (first_to_learn(&t->source.graph, t->o.freeze, &t->trainer.first_node, e) != 0)
        return -1;
    o.first_node = t->trainer.first_node;
    return trainee_from_network(&t->source, &o, &t->trainee, e);
}

static int open_float(struct train *t, struct err *e)
{
    struct learner *l = &t->trainer.learner;
    if ((t->o.arch ? open_trainee(t, e) : open_tuned(t, e)) != 0)
        return -1;
    *l = (struct learner){t->trainee, forward_float, backward_float, NULL, 0};
    l->parameters = trainee_parameters(t->trainee, &l->count);
    return 0;
}

/* ---- teacher ---- */

struct lesson {
    const struct train *t;
    const float *x;
    float *logits;
    int images;
    atomic_int next; /* the first image that nobody has taken */
};

/* Images side by side, a few on each thread: a batch that all threads share would wait for the slowest after each layer. */
static void teach_some(void *user, size_t thread)
{
    struct lesson *lesson = user;
    const struct ctl_model *m = &lesson->t->teacher;
    struct session *s = lesson->t->teachers[thread];
    const size_t size = 3u * (size_t)m->width * (size_t)m->height, classes = (size_t)m->classes;
    for (int at; (at = atomic_fetch_add(&lesson->next, TEACHER_BATCH)) < lesson->images;) {
        const int n = lesson->images - at < TEACHER_BATCH ? lesson->images - at : TEACHER_BATCH;
        for (int i = 0; i < n; i++)
            session_set_values(s, i, lesson->x + (size_t)(at + i) * size);
        memcpy(lesson->logits + (size_t)at * classes, session_run(s, n), sizeof *lesson->logits * (size_t)n * classes);
    }
}

static void teach(void *user, const float *x, int images, float *logits)
{
    const struct train *t = user;
    struct lesson lesson = {.t = t, .x = x, .logits = logits, .images = images};
    pthreadpool_parallelize_1d(t->pool, teach_some, &lesson, (size_t)t->o.threads, 0);
}

static int open_teachers(struct train *t, struct err *e)
{
    t->teachers = calloc((size_t)t->o.threads, sizeof *t->teachers);
    if (!t->teachers)
        return err_set(e, ERR_MEMORY, "no memory for %d threads", t->o.threads);
    for (int i = 0; i < t->o.threads; i++)
        if (session_new(t->teacher.model, TEACHER_BATCH, NULL, &t->teachers[i], e) != 0)
            return -1;
    return 0;
}

static void close_teachers(struct train *t)
{
    for (int i = 0; t->teachers && i < t->o.threads; i++)
        session_free(t->teachers[i]);
    free(t->teachers);
    ctl_model_close(&t->teacher);
}

static int open_teacher(struct train *t, struct err *e)
{
    char path[4096];
    if (!t->o.teacher || !strcmp(t->o.teacher, "none"))
        return 0;
    if (model_path(t->o.teacher, PRECISION_FP32, path, sizeof path, e) != 0 ||
        ctl_model_open(path, t->kernels, 0, t->pool, &t->teacher, e) != 0 || open_teachers(t, e) != 0)
        return -1;
    const struct network *n = t->teacher.network;
    if (t->teacher.width != t->width || t->teacher.height != t->height || !preprocess_equal(&n->preprocess, &t->preprocess))
        return err_set(e, ERR_INPUT, "the teacher %s takes images prepared in another way: give its --preprocess", path);
    if (t->teacher.classes != t->set->classes || (n->label_count && !same_classes(n, t->set)))
        return err_set(e, ERR_INPUT, "the teacher %s knows other classes", path);
    t->trainer.loss.distillation = TEACHER_SHARE;
    t->trainer.loss.temperature = TEACHER_TEMPERATURE;
    t->trainer.teach = teach;
    t->trainer.user = t;
    return 0;
}

/* ---- all of it ---- */

int train_open_learner(struct train *t, struct err *e)
{
    struct trainer *r = &t->trainer;
    if ((t->o.qat ? train_open_quantised(t, e) : open_float(t, e)) != 0)
        return -1;
    r->loss = (struct loss){.classes = t->set->classes, .smoothing = t->o.smoothing};
    if (open_teacher(t, e) != 0 || schedule_parse(t->o.schedule, &r->schedule.shape, e) != 0)
        return -1;
    r->train = t->feed;
    r->validation = t->validation;
    r->schedule.peak = t->o.rate;
    r->schedule.steps = (int64_t)t->o.epochs * feed_batches(t->feed);
    r->momentum = 0.9;
    r->weight_decay = t->o.weight_decay;
    r->batch = t->o.batch;
    r->epochs = t->o.epochs;
    r->pool = t->pool;
    return 0;
}

void train_close(struct train *t)
{
    feed_free(t->feed);
    feed_free(t->validation);
    close_teachers(t);
    train_close_quantised(t);
    trainee_free(t->trainee);
    image_part_free(&t->part);
    image_part_free(&t->held);
    image_set_free(t->other);
    image_set_free(t->set);
    network_free(&t->source);
    cJSON_Delete(t->saved);
    checkpoint_free(&t->state);
    if (t->pool)
        pthreadpool_destroy(t->pool);
    *t = (struct train){0};
}

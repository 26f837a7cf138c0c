// SPDX-License-Identifier: MIT
//
// test_train.c - what a training is made of besides the network: rates, steps, checkpoints, architectures, and the loop, with a
// learner small enough to see through.

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <pthreadpool.h>

#include "models/checkpoint/safetensors.h"
#include "models/file.h"
#include "models/train/architecture.h"
#include "models/train/checkpoint.h"
#include "models/train/trainer.h"
#include "tests/files.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* ---- rates: the first against PyTorch 1.13, OneCycleLR(max_lr=0.4, total_steps=20, cycle_momentum=False) ---- */

static void rates(void **state)
{
    (void)state;
    static const double onecycle[20] = {0.016,
                                        0.05266873708001013,
                                        0.1486687370800101,
                                        0.2673312629199899,
                                        0.3633312629199899,
                                        0.4,
                                        0.39498560249403497,
                                        0.38019385280538953,
                                        0.35636647102842,
                                        0.3246982615799052,
                                        0.28677720071652035,
                                        0.24450480877451572,
                                        0.2000008,
                                        0.1554967912254843,
                                        0.11322439928347969,
                                        0.0753033384200948,
                                        0.04363512897158001,
                                        0.019807747194610516,
                                        0.005015997505965022,
                                        1.6e-06};
    struct schedule s = {SCHEDULE_ONECYCLE, 0.4, 20};
    for (int i = 0; i < 20; i++)
        assert_true(fabs(schedule_rate(&s, i) - onecycle[i]) < 1e-12);
    s.shape = SCHEDULE_COSINE;
    assert_true(fabs(schedule_rate(&s, 0) - 0.4) < 1e-12);
    assert_true(fabs(schedule_rate(&s, 10) - 0.2) < 1e-12);
    assert_true(schedule_rate(&s, 19) < 0.003);
    for (int shape = 0; shape < SCHEDULE_SHAPES; shape++)
        for (s.steps = 1; s.steps < 12; s.steps++)
            for (int i = 0; i < s.steps; i++) {
                s.shape = (enum schedule_shape)shape;
                const double r = schedule_rate(&s, i);
                assert_true(r >= 0 && r <= 0.4 + 1e-12);
            }
    enum schedule_shape parsed;
    struct err e;
    assert_int_equal(schedule_parse("cosine", &parsed, &e), 0);
    assert_int_equal(parsed, SCHEDULE_COSINE);
    assert_int_equal(schedule_parse("linear", &parsed, &e), -1);
    assert_non_null(strstr(e.text, "onecycle"));
}

/* ---- steps: against PyTorch 1.13, SGD(lr=0.25, momentum=0.9, nesterov=True) with weight decay 0.1 on the first ---- */

static void steps(void **state)
{
    (void)state;
    static const double expected[3][3] = {{0.7150000333786011, -1.4300000667572021, -0.44999998807907104},
                                          {0.08453750610351562, -0.16907501220703125, -1.8050000667572021},
                                          {-0.9583067893981934, 1.9166135787963867, -3.5244998931884766}};
    float w[2] = {1, -2}, gw[2], mw[2] = {0}, b[1] = {0.5f}, gb[1] = {2}, mb[1] = {0}, mean[1] = {7}, f[1] = {3}, mf[1] = {0};
    struct parameter p[4] = {{.value = w, .grad = gw, .momentum = mw, .count = 2, .node = 2, .decay = 1},
                             {.value = b, .grad = gb, .momentum = mb, .count = 1, .node = 3},
                             {.value = mean, .count = 1, .node = 3},
                             {.value = f, .grad = gb, .momentum = mf, .count = 1, .node = 1}};
    const struct optimiser o = {0.25, 0.9, 0.1};
    for (int i = 0; i < 3; i++) {
        gw[0] = 0.5f * (float)(i + 1);
        gw[1] = -1.0f * (float)(i + 1);
        optimiser_step(&o, p, 4, 2, NULL);
        assert_true(fabs((double)w[0] - expected[i][0]) < 1e-6);
        assert_true(fabs((double)w[1] - expected[i][1]) < 1e-6);
        assert_true(fabs((double)b[0] - expected[i][2]) < 1e-6);
    }
    assert_true(mean[0] == 7 && f[0] == 3); /* a statistic, and a node before the first that learns */
}

/* ---- checkpoints ---- */

static void expect_wrong(int rc, const struct err *e, const char *word)
{
    assert_int_equal(rc, -1);
    if (!strstr(e->text, word))
        fail_msg("'%s' does not say '%s'", e->text, word);
}

static void checkpoints(void **state)
{
    (void)state;
    char *dir = files_make_dir();
    const char *path = files_path(dir, "checkpoint.safetensors");
    float a[3] = {1, -2, 3.25f}, b[1] = {1e-30f}, a2[3] = {0}, b2[1] = {0}, c2[1];
    const struct checkpoint_tensor from[] = {{"a.weight", a, 3}, {"a.weight.momentum", b, 1}};
    struct checkpoint_tensor to[] = {{"a.weight", a2, 3}, {"a.weight.momentum", b2, 1}, {"c", c2, 1}};
    char options[] = "{\"options\":{\"data\":\"caf\xc3\xa9 \\\"\"}}", log[] = "epoch,loss\n1,2.5\n";
    const struct checkpoint c = {7, 12.5, options, log};
    struct checkpoint r;
    struct err e;
    assert_int_equal(checkpoint_write(path, &c, from, 2, &e), 0);
    assert_int_equal(files_count(dir), 1);
    assert_int_equal(checkpoint_read(path, &r, &e), 0);
    assert_int_equal(r.epochs, 7);
    assert_true(r.seconds == 12.5);
    assert_string_equal(r.options, options);
    assert_string_equal(r.log, log);
    checkpoint_free(&r);
    assert_int_equal(checkpoint_read_tensors(path, to, 2, &e), 0);
    assert_memory_equal(a, a2, sizeof a);
    assert_memory_equal(b, b2, sizeof b);

    /* another network's */
    expect_wrong(checkpoint_read_tensors(path, to, 3, &e), &e, "no c");
    expect_wrong(checkpoint_read_tensors(path, to, 1, &e), &e, "2 tensors");
    to[0].count = 2;
    expect_wrong(checkpoint_read_tensors(path, to, 2, &e), &e, "3 values");
    to[0].count = 3;

    /* an old one stays when the new one cannot be written */
    const struct checkpoint_tensor twice[] = {{"a", a, 3}, {"a", b, 1}};
    assert_int_equal(checkpoint_write(path, &c, twice, 2, &e), -1);
    assert_int_equal(files_count(dir), 1);
    assert_int_equal(checkpoint_read_tensors(path, to, 2, &e), 0);

    /* damage */
    a[1] = NAN;
    assert_int_equal(checkpoint_write(path, &c, from, 2, &e), 0);
    expect_wrong(checkpoint_read_tensors(path, to, 2, &e), &e, "NaN");
    size_t size;
    char *bytes = files_read(path, &size);
    assert_non_null(bytes);
    for (size_t cut = 0; cut < size; cut += 1 + size / 50) {
        files_write(dir, "cut", bytes, cut);
        assert_int_equal(checkpoint_read(files_path(dir, "cut"), &r, &e), -1);
    }
    free(bytes);
    assert_int_equal(checkpoint_read(files_path(dir, "none"), &r, &e), -1);

    /* other files, and fields that cannot be */
    static const char *const fields[][2] = {{"resnetd", "1"}, {"resnetd training", "2"}};
    static const char *const words[] = {"no checkpoint", "version 2"};
    for (size_t i = 0; i < COUNT(fields); i++) {
        const struct st_meta meta[] = {{"format", fields[i][0]}, {"format_version", fields[i][1]}};
        assert_int_equal(st_write(path, NULL, 0, meta, 2, 64, &e), 0);
        expect_wrong(checkpoint_read(path, &r, &e), &e, words[i]);
    }
    static const char *const epochs[] = {"", "-1", "1.5", "nan", "1e10", "3x"};
    for (size_t i = 0; i < COUNT(epochs); i++) {
        const struct st_meta meta[] = {{"format", "resnetd training"},
                                       {"format_version", "1"},
                                       {"epochs", epochs[i]},
                                       {"seconds", "1"},
                                       {"options", "{}"},
                                       {"log", ""}};
        assert_int_equal(st_write(path, NULL, 0, meta, 6, 64, &e), 0);
        expect_wrong(checkpoint_read(path, &r, &e), &e, "epochs");
    }
    files_remove_dir(dir);
}

/* ---- architectures ---- */

static void parameters(const char *name, int side, int classes, int layers, long long weights)
{
    struct graph g;
    struct err e;
    if (architecture_make(name, side, side, classes, &g, &e) != 0)
        fail_msg("%s", e.text);
    long long sum = 0;
    int count = 0;
    for (int i = 0; i < g.count; i++)
        if (node_has_weights(&g.nodes[i])) {
            count++;
            sum += node_weights(&g, i);
        }
    if (count != layers || sum != weights)
        fail_msg("%s has %d layers and %lld weights, expected %d and %lld", name, count, sum, layers, weights);
    graph_free(&g);
}

/* Weights as published, without biases and batch norm. */
static void architectures(void **state)
{
    (void)state;
    parameters("resnet8", 32, 10, 10, 77360);
    parameters("resnet20", 32, 10, 20, 268336);
    parameters("resnet32", 32, 10, 32, 461872);
    parameters("resnet44", 32, 10, 44, 655408);
    parameters("resnet56", 32, 10, 56, 848944);
    parameters("resnet110", 32, 10, 110, 1719856);
    parameters("resnet18", 224, 1000, 21, 11678912);
    parameters("resnet34", 224, 1000, 37, 21779648);
    parameters("resnet50", 224, 1000, 54, 25502912);
    struct graph g;
    struct err e;
    assert_int_equal(architecture_make("resnet18", 32, 32, 10, &g, &e), 0);
    assert_int_equal(g.nodes[1].h, 32); /* a small input keeps its size at first */
    graph_free(&g);
    assert_int_equal(architecture_make("resnet18", 96, 96, 10, &g, &e), 0);
    assert_int_equal(g.nodes[1].h, 48);
    graph_free(&g);
    expect_wrong(architecture_make("resnet19", 32, 32, 10, &g, &e), &e, "resnet20");
    expect_wrong(architecture_make("resnet8", 32, 32, GRAPH_CHANNELS_MAX + 1, &g, &e), &e, "resnet8");
    expect_wrong(architecture_make("resnet8", 0, 32, 10, &g, &e), &e, "resnet8");
}

/* The network that is bundled, and one imported from a checkpoint, have the graph that the architecture of that name gives. */
static void same_as_imported(void **state)
{
    (void)state;
    const char *src = getenv("srcdir");
    char path[4096];
    snprintf(path, sizeof path, "%s/models/resnet20-cifar10/fp32.safetensors", src ? src : ".");
    struct network n;
    struct graph g;
    struct err e;
    if (model_file_header(path, &n, &e) != 0)
        fail_msg("%s", e.text);
    assert_int_equal(architecture_make("resnet20", 32, 32, 10, &g, &e), 0);
    char *theirs = graph_to_json(&n.graph), *ours = graph_to_json(&g);
    assert_string_equal(theirs, ours);
    free(theirs);
    free(ours);
    graph_free(&g);
    network_free(&n);
}

/* ---- the loop: softmax regression on images whose class shows in one channel ---- */

enum { SIDE = 4, VALUES = 3 * SIDE * SIDE, CLASSES = 3, IMAGES = 60 };

struct regression {
    float weight[CLASSES * VALUES], grad[CLASSES * VALUES], momentum[CLASSES * VALUES], logits[IMAGES * CLASSES];
    const float *x;
    int images, forwards;
    struct parameter parameter;
};

static const float *forward(void *self, const float *x, int images, int learning)
{
    struct regression *r = self;
    r->x = x;
    r->images = images;
    r->forwards += learning;
    for (int i = 0; i < images; i++)
        for (int c = 0; c < CLASSES; c++) {
            float sum = 0;
            for (int k = 0; k < VALUES; k++)
                sum += x[i * VALUES + k] * r->weight[c * VALUES + k];
            r->logits[i * CLASSES + c] = sum;
        }
    return r->logits;
}

static void backward(void *self, const float *dlogits)
{
    struct regression *r = self;
    memset(r->grad, 0, sizeof r->grad);
    for (int i = 0; i < r->images; i++)
        for (int c = 0; c < CLASSES; c++)
            for (int k = 0; k < VALUES; k++)
                r->grad[c * VALUES + k] += dlogits[i * CLASSES + c] * r->x[i * VALUES + k];
}

static struct image_set make_images(void)
{
    static uint8_t pixels[IMAGES * VALUES];
    static int label[IMAGES];
    for (int i = 0; i < IMAGES; i++) {
        label[i] = i % CLASSES;
        for (int k = 0; k < VALUES; k++)
            pixels[i * VALUES + k] = (uint8_t)(100 + (i * 37 + k * 11) % 40 + (k % 3 == label[i]) * 30);
    }
    return (struct image_set){
        .count = IMAGES, .width = SIDE, .height = SIDE, .classes = CLASSES, .pixels = pixels, .label = label};
}

struct seen {
    int epochs, steps;
    float saved[2][CLASSES * VALUES]; /* weights and momentum after epoch 2 */
    struct regression *r;
    struct trainer_epoch last;
    volatile sig_atomic_t stop;
    int stop_at; /* step; -1: never */
};

static void see_step(void *user, const struct trainer_progress *p)
{
    struct seen *s = user;
    s->steps++;
    if (s->steps == s->stop_at)
        s->stop = 1;
    assert_int_equal(p->images, 48);
    assert_true(p->score.images <= p->images);
}

static int see_epoch(void *user, const struct trainer_epoch *r, struct err *e)
{
    (void)e;
    struct seen *s = user;
    s->epochs++;
    s->last = *r;
    if (r->epoch == 1) {
        memcpy(s->saved[0], s->r->weight, sizeof s->r->weight);
        memcpy(s->saved[1], s->r->momentum, sizeof s->r->momentum);
    }
    return 0;
}

static int fail_epoch(void *user, const struct trainer_epoch *r, struct err *e)
{
    (void)user;
    return err_set(e, ERR_IO, "epoch %d cannot be kept", r->epoch);
}

static void teach_zero(void *user, const float *x, int images, float *logits)
{
    (void)user;
    (void)x;
    memset(logits, 0, sizeof *logits * (size_t)images * CLASSES);
}

static void loop(void **state)
{
    (void)state;
    struct image_set set = make_images();
    struct image_part part = {NULL, 0}, held = {NULL, 0};
    struct err e;
    assert_int_equal(image_set_split(&set, 0.2, 1, &part, &held, &e), 0);
    assert_int_equal(held.count, 12);
    struct feed_options o = {.batch = 8, .training = 1, .whole = 1, .seed = 3, .augment = {.pad = 1, .mixup = 0.2}};
    assert_int_equal(preprocess_preset("cifar10", &o.preprocess, &e), 0);
    struct feed *train, *validation;
    assert_int_equal(feed_new(&set, &part, &o, &train, &e), 0);
    o.training = o.whole = 0;
    assert_int_equal(feed_new(&set, &held, &o, &validation, &e), 0);

    static struct regression r;
    static struct seen s;
    r.parameter = (struct parameter){.value = r.weight, .grad = r.grad, .momentum = r.momentum, .count = CLASSES * VALUES};
    s.r = &r;
    struct trainer t = {.learner = {&r, forward, backward, &r.parameter, 1},
                        .train = train,
                        .validation = validation,
                        .loss = {.classes = CLASSES, .smoothing = 0.05},
                        .schedule = {SCHEDULE_ONECYCLE, 0.1, 24},
                        .momentum = 0.9,
                        .weight_decay = 5e-4,
                        .batch = 8,
                        .epochs = 4,
                        .progress = see_step,
                        .epoch = see_epoch,
                        .user = &s,
                        .stop = &s.stop};
    assert_int_equal(trainer_run(&t, 0, &e), 0);
    assert_int_equal(s.epochs, 4);
    assert_int_equal(s.steps, 24);
    assert_int_equal(r.forwards, 24);
    assert_int_equal(s.last.validation.images, 12);
    assert_int_equal(s.last.validation.correct, 12);
    float whole[CLASSES * VALUES];
    memcpy(whole, r.weight, sizeof whole);

    /* gone on with after epoch 2: the same bytes */
    memcpy(r.weight, s.saved[0], sizeof r.weight);
    memcpy(r.momentum, s.saved[1], sizeof r.momentum);
    assert_int_equal(trainer_run(&t, 2, &e), 0);
    assert_memory_equal(whole, r.weight, sizeof whole);
    assert_int_equal(trainer_run(&t, 4, &e), 0); /* nothing left */
    assert_memory_equal(whole, r.weight, sizeof whole);

    /* stopped in the middle of the second epoch */
    s.epochs = s.steps = 0;
    s.stop_at = 9;
    assert_int_equal(trainer_run(&t, 0, &e), 1);
    assert_int_equal(s.epochs, 1);
    assert_int_equal(s.steps, 9);
    s.stop_at = -1;
    s.stop = 0;

    /* a teacher that knows nothing leaves nothing to be known */
    memset(r.weight, 0, sizeof r.weight);
    t.teach = teach_zero;
    t.loss.distillation = 1;
    t.loss.temperature = 2;
    t.weight_decay = 0;
    memset(r.momentum, 0, sizeof r.momentum);
    assert_int_equal(trainer_run(&t, 3, &e), 0);
    for (int k = 0; k < CLASSES * VALUES; k++)
        assert_true(fabsf(r.weight[k]) < 1e-6f);
    t.teach = NULL;
    t.loss.distillation = 0;

    t.epoch = fail_epoch;
    expect_wrong(trainer_run(&t, 1, &e), &e, "epoch 1 cannot be kept");
    r.weight[5] = INFINITY;
    expect_wrong(trainer_run(&t, 0, &e), &e, "lower learning rate");
    feed_free(train);
    feed_free(validation);
    image_part_free(&part);
    image_part_free(&held);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rates),
        cmocka_unit_test(steps),
        cmocka_unit_test(checkpoints),
        cmocka_unit_test(architectures),
        cmocka_unit_test(same_as_imported),
        cmocka_unit_test(loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: MIT
//
// ctl_train_options.c - the options of `resnetctl train`: their table is also what a checkpoint and a model's provenance are made
// from.

#include "daemon/ctl_train.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/train/architecture.h"

#define AT(field) offsetof(struct train_options, field)

static const struct ctl_option options[] = {
    {"arch", 0, CTL_TEXT, AT(arch), 0, 0, "NAME", "train it from nothing: resnet8, 20, 32, 44, 56, 110, 18, 34 or 50"},
    {"from", 0, CTL_TEXT, AT(from), 0, 0, "MODEL",
     "or: begin with this fp32 model; for other classes its last layer is made anew"},
    {"qat", 0, CTL_TEXT, AT(qat), 0, 0, "MODEL", "or: teach this fp32 model to be int8"},
    {"resume", 0, CTL_TEXT, AT(resume), 0, 0, "FILE", "or: go on from DIR/checkpoint.safetensors; no other option is needed"},
    {"data", 'd', CTL_TEXT, AT(data), 0, 0, "DATA",
     "images to learn from: a folder per class, a directory with labels.csv, CIFAR-10 *.bin, or a tar archive of these"},
    {"output", 'o', CTL_TEXT, AT(output), 0, 0, "DIR", "the model directory to make"},
    {"validate", 0, CTL_TEXT, AT(validate), 0, 0, "DATA", "images to measure accuracy with"},
    {"validation-share", 0, CTL_NUMBER, AT(share), 0, 90, "P",
     "or: hold back P percent of DATA for it (default 10; 0 where DATA has a test_batch.bin, which then serves)"},
    {"replace", 0, CTL_TEXT, AT(replace), 0, 0, "DATA", "better copies of some images of --data, put in their place"},
    {"replace-indices", 0, CTL_TEXT, AT(replace_indices), 0, 0, "FILE",
     "which: line N is the number of the image that copy N replaces"},
    {"epochs", 0, CTL_INT, AT(epochs), 1, 100000, "N", "times that every image is seen (default 40; --from 20; --qat 6)"},
    {"batch", 0, CTL_INT, AT(batch), 1, FEED_BATCH_MAX, "N", "images of a step (default 128; --from 32)"},
    {"lr", 0, CTL_NUMBER, AT(rate), 0, 100, "R",
     "largest learning rate (default, for a batch of 128: 0.3; large networks 0.1; --from 0.02; --qat 0.002)"},
    {"schedule", 0, CTL_TEXT, AT(schedule), 0, 0, "S", "onecycle (default) or cosine (default of --qat)"},
    {"weight-decay", 0, CTL_NUMBER, AT(weight_decay), 0, 1, "W", "of weights only (default 0.0005; --from, --qat 0.0001)"},
    {"label-smoothing", 0, CTL_NUMBER, AT(smoothing), 0, 0.9, "S",
     "share of the other classes in what is asked for (default 0.05; --qat 0)"},
    {"mixup", 0, CTL_NUMBER, AT(mixup), 0, 10, "A", "mix pairs of images by weights from Beta(A, A) (default 0: not)"},
    {"cutout", 0, CTL_INT, AT(cutout), 0, 4096, "N", "hide a square of N pixels at a place of chance (default 0: not)"},
    {"pad", 0, CTL_INT, AT(pad), 0, 4096, "N",
     "crop at a place of chance, N pixels more around (default: an eighth of the side)"},
    {"no-flip", 0, CTL_FLAG, AT(no_flip), 0, 0, NULL, "never change left and right"},
    {"teacher", 0, CTL_TEXT, AT(teacher), 0, 0, "MODEL",
     "learn from what this model answers, too (default of --qat: the fp32 model; none: only from labels)"},
    {"weight-bits", 0, CTL_INT, AT(weight_bits), 2, 8, "N", "of weights with --qat, stored in int8: 8 (default), 6 or 4"},
    {"freeze", 0, CTL_INT, AT(freeze), 0, GRAPH_NODES_MAX, "N", "with --from: leave the first N layers as they are (default 0)"},
    {"labels", 0, CTL_TEXT, AT(labels), 0, 0, "FILE", "names of the classes in their order, one per line or a JSON array"},
    {"preprocess", 0, CTL_TEXT, AT(preprocess), 0, 0, "P",
     "imagenet, cifar10 or FILE.json (default: that of MODEL, else by architecture and images)"},
    {"name", 0, CTL_TEXT, AT(name), 0, 0, "N", "the model's name (default: from that of DIR)"},
    {"seed", 0, CTL_INT, AT(seed), 0, 2147483647, "S", "of all random numbers (default 1)"},
    {"threads", 0, CTL_INT, AT(threads), 1, 256, "N", "threads (default: all CPUs)"},
    {"log", 0, CTL_TEXT, AT(log), 0, 0, "FILE.csv", "a line for each epoch (default: DIR/log.csv)"},
    {"json", 0, CTL_FLAG, AT(json), 0, 0, NULL, "print the result as JSON"},
    {0},
};

const struct ctl_usage train_usage = {
    "train --arch NAME | --from MODEL | --qat MODEL | --resume FILE --data DATA -o DIR [--validate DATA | --validation-share P]\n"
    "       [--replace DATA --replace-indices FILE] [--epochs N] [--batch N] [--lr R] [--schedule onecycle|cosine]\n"
    "       [--weight-decay W] [--label-smoothing S] [--mixup A] [--cutout N] [--pad N] [--no-flip] [--teacher MODEL]\n"
    "       [--weight-bits N] [--freeze N] [--labels FILE] [--preprocess P] [--name N] [--seed S] [--threads N]\n"
    "       [--log FILE.csv] [--json]",
    "Trains a ResNet on labelled images and writes it as a model directory: fp32, fp16, hybrid and int8. After each epoch\n"
    "DIR/checkpoint.safetensors is what --resume goes on from.",
    options, 0, 0};

const struct train_options train_options_unset = {.epochs = -1,
                                                  .batch = -1,
                                                  .cutout = -1,
                                                  .pad = -1,
                                                  .seed = -1,
                                                  .threads = 0,
                                                  .weight_bits = -1,
                                                  .freeze = -1,
                                                  .share = -1,
                                                  .rate = -1,
                                                  .weight_decay = -1,
                                                  .smoothing = -1,
                                                  .mixup = -1};

/* What may differ when a training is gone on with: where things are, and what does not change the weights. */
static int is_local(const struct ctl_option *o)
{
    static const size_t local[] = {AT(resume), AT(data),    AT(validate), AT(replace), AT(replace_indices), AT(output),
                                   AT(log),    AT(threads), AT(json),     AT(labels),  AT(preprocess)};
    for (size_t i = 0; i < sizeof local / sizeof *local; i++)
        if (o->offset == local[i])
            return 1;
    return 0;
}

static int is_path(const struct ctl_option *o)
{
    static const size_t paths[] = {AT(from),    AT(qat),    AT(data),      AT(validate), AT(replace), AT(replace_indices),
                                   AT(teacher), AT(labels), AT(preprocess)};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        if (o->offset == paths[i])
            return 1;
    return 0;
}

static void *field(const struct train_options *o, const struct ctl_option *option)
{
    return (char *)(uintptr_t)o + option->offset;
}

static int is_set(const struct train_options *o, const struct ctl_option *option)
{
    const void *f = field(o, option);
    switch (option->kind) {
    case CTL_FLAG:
        return *(const int *)f;
    case CTL_INT:
        return *(const int *)f >= 0;
    case CTL_NUMBER:
        return *(const double *)f >= 0;
    case CTL_TEXT:
        return *(const char *const *)f != NULL;
    }
    return 0;
}

static int small(const char *arch)
{
    return !arch || (strcmp(arch, "resnet18") && strcmp(arch, "resnet34") && strcmp(arch, "resnet50"));
}

void train_options_default(struct train_options *o)
{
    const int scratch = o->arch != NULL, qat = o->qat != NULL;
    const double rate = scratch ? small(o->arch) ? 0.3 : 0.1 : qat ? 0.002 : 0.02; /* for a batch of 128 */
    if (o->epochs < 0)
        o->epochs = scratch ? 40 : qat ? 6 : 20;
    if (o->batch < 0)
        o->batch = scratch || qat ? 128 : 32;
    if (o->rate < 0)
        o->rate = rate * o->batch / 128;
    if (!o->schedule)
        o->schedule = qat ? "cosine" : "onecycle";
    if (o->weight_decay < 0)
        o->weight_decay = scratch ? 5e-4 : 1e-4;
    if (o->smoothing < 0)
        o->smoothing = qat ? 0 : 0.05;
    if (o->mixup < 0)
        o->mixup = 0;
    if (o->cutout < 0)
        o->cutout = 0;
    if (o->seed < 0)
        o->seed = 1;
    if (qat && o->weight_bits < 0)
        o->weight_bits = 8;
    if (qat && !o->teacher)
        o->teacher = o->qat;
    if (o->from && o->freeze < 0)
        o->freeze = 0;
}

static cJSON *value(const struct train_options *o, const struct ctl_option *option)
{
    const void *f = field(o, option);
    switch (option->kind) {
    case CTL_FLAG:
        return cJSON_CreateBool(*(const int *)f);
    case CTL_INT:
        return cJSON_CreateNumber(*(const int *)f);
    case CTL_NUMBER:
        return cJSON_CreateNumber(*(const double *)f);
    case CTL_TEXT:
        return cJSON_CreateString(*(const char *const *)f);
    }
    return NULL;
}

cJSON *train_options_json(const struct train_options *o)
{
    cJSON *json = cJSON_CreateObject();
    int bad = 0;
    for (const struct ctl_option *p = options; p->name; p++)
        if (is_set(o, p) && p->offset != AT(resume) && p->offset != AT(output) && p->offset != AT(threads) &&
            p->offset != AT(json) && p->offset != AT(log))
            bad |= ctl_put_item(json, p->name, value(o, p));
    return ctl_whole(json, bad || !json);
}

/* One option from a checkpoint, where the command line leaves it open. */
static int resume(struct train_options *o, const struct ctl_option *p, const cJSON *v, struct err *e)
{
    void *f = field(o, p);
    const int number = p->kind == CTL_INT || p->kind == CTL_NUMBER;
    if (number ? !cJSON_IsNumber(v) : p->kind == CTL_TEXT ? !cJSON_IsString(v) : !cJSON_IsBool(v))
        return err_set(e, ERR_DAMAGED, "--%s in it is of the wrong type", p->name);
    if (number && !(v->valuedouble >= p->min && v->valuedouble <= p->max))
        return err_set(e, ERR_DAMAGED, "--%s in it is out of range", p->name);
    if (is_set(o, p)) {
        const int same = p->kind == CTL_TEXT     ? !strcmp(*(const char **)f, v->valuestring)
                         : p->kind == CTL_INT    ? *(int *)f == (int)v->valuedouble
                         : p->kind == CTL_NUMBER ? *(double *)f == v->valuedouble
                                                 : 1;
        return same || is_local(p)
                   ? 0
                   : err_set(e, ERR_INPUT, "it was started with another --%s; leave it out, or start anew", p->name);
    }
    if (p->kind == CTL_TEXT)
        *(const char **)f = v->valuestring;
    else if (p->kind == CTL_NUMBER)
        *(double *)f = v->valuedouble;
    else
        *(int *)f = p->kind == CTL_INT ? (int)v->valuedouble : cJSON_IsTrue(v);
    return 0;
}

int train_options_resume(struct train_options *o, const cJSON *saved, struct err *e)
{
    for (const struct ctl_option *p = options; p->name; p++) {
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(saved, p->name);
        if (v ? resume(o, p, v, e) != 0
              : is_set(o, p) && (!is_local(p) || p->offset == AT(replace)) &&
                    err_set(e, ERR_INPUT, "it was started without --%s", p->name))
            return -1;
    }
    if (!o->data || !o->schedule || (!o->arch && !o->from && !o->qat) || o->epochs < 0 || o->batch < 0 || o->rate < 0 ||
        o->seed < 0)
        return err_set(e, ERR_DAMAGED, "options are missing in it");
    return 0;
}

static const char *base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

char *train_options_command(const struct train_options *o)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (!f)
        return NULL;
    fputs("resnetctl train", f);
    for (const struct ctl_option *p = options; p->name; p++) {
        if (!is_set(o, p) || p->offset == AT(resume) || p->offset == AT(output) || p->offset == AT(threads) ||
            p->offset == AT(json) || p->offset == AT(log))
            continue;
        fprintf(f, " --%s", p->name);
        const void *v = field(o, p);
        if (p->kind == CTL_INT)
            fprintf(f, " %d", *(const int *)v);
        else if (p->kind == CTL_NUMBER)
            fprintf(f, " %.10g", *(const double *)v);
        else if (p->kind == CTL_TEXT)
            fprintf(f, " %s", is_path(p) ? base(*(const char *const *)v) : *(const char *const *)v);
    }
    const int bad = ferror(f);
    if (fclose(f) != 0 || bad) {
        free(text);
        return NULL;
    }
    return text;
}

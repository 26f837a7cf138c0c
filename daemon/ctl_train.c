// SPDX-License-Identifier: MIT
//
// ctl_train.c - `resnetctl train`: images and options -> a model directory.

#include "daemon/ctl_train.h"
#include "daemon/ctl_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a checkpoint has to know to be gone on from. */
static int describe(struct train *t, struct err *e)
{
    const struct network names = {.labels = t->set->labels, .label_count = t->set->classes};
    char *classes = labels_to_json(&names), *preprocess = preprocess_to_json(&t->preprocess);
    cJSON *o = cJSON_CreateObject();
    int bad = !classes || !preprocess || ctl_put_item(o, "options", train_options_json(&t->o));
    bad = bad || ctl_put_raw(o, "preprocess", preprocess) || ctl_put_raw(o, "classes", classes);
    bad |= ctl_put_number(o, "images", t->set->count, 10);
    if (t->source.digest[0])
        bad |= ctl_put_text(o, "source", t->source.digest);
    free(classes);
    free(preprocess);
    free(t->state.options);
    t->state.options = bad ? NULL : cJSON_PrintUnformatted(o);
    cJSON_Delete(o);
    return t->state.options ? 0 : err_set(e, ERR_MEMORY, "no memory for the options");
}

/* The directory of a checkpoint, where -o is not given. */
static int set_output(struct train_options *o, char directory[4096], struct err *e)
{
    if (o->output)
        return 0;
    const char *slash = strrchr(o->resume, '/');
    const int n = slash ? (int)(slash - o->resume) : 1;
    if (n >= 4096)
        return err_set(e, ERR_INPUT, "the path %s is too long", o->resume);
    snprintf(directory, 4096, "%.*s", n ? n : 1, slash ? o->resume : ".");
    o->output = directory;
    return 0;
}

static int resume(struct train *t, struct err *e)
{
    if (!t->o.resume)
        return 0;
    if (checkpoint_read(t->o.resume, &t->state, e) != 0)
        return -1;
    t->saved = cJSON_Parse(t->state.options);
    const cJSON *options = cJSON_GetObjectItemCaseSensitive(t->saved, "options");
    if (!cJSON_IsObject(options))
        return err_set(e, ERR_DAMAGED, "%s holds no options", t->o.resume);
    return train_options_resume(&t->o, options, e) == 0 ? 0 : err_prefix(e, "%s", t->o.resume);
}

static const struct ctl_column columns[] = {
    {"precision", "precision", CELL_TEXT, 0, 0},
    {"top1", "top-1 %", CELL_NUMBER, 2, 0},
    {"top5", "top-5 %", CELL_NUMBER, 2, 0},
    {"images", "images", CELL_NUMBER, 0, 0},
    {"file_bytes", "size", CELL_BYTES, 0, 0},
    {"file", "file", CELL_TEXT, 0, 0},
    {0},
};

static int report(const struct train *t, int stopped, cJSON *models)
{
    if (t->o.json) {
        cJSON *o = cJSON_CreateObject();
        int bad = ctl_put_item(o, "models", models);
        bad |= ctl_put_number(o, "epochs", t->state.epochs, 10);
        bad |= ctl_put_number(o, "images", t->part.count, 10);
        bad |= ctl_put_number(o, "seconds", t->state.seconds, 6);
        bad |= ctl_put_item(o, "stopped", cJSON_CreateBool(stopped));
        return ctl_print_json(o, bad);
    }
    ctl_table(stdout, TABLE_ALIGNED, models, columns);
    cJSON_Delete(models);
    return CTL_DONE;
}

static int train(struct train *t, struct err *e)
{
    char directory[4096];
    cJSON *models = NULL;
    if (resume(t, e) != 0 || set_output(&t->o, directory, e) != 0 || ctl_kernels(NULL, &t->kernels, e) != 0 ||
        ctl_pool(&t->o.threads, &t->pool, e) != 0)
        return -1;
    if (!t->saved)
        train_options_default(&t->o);
    if (train_open_data(t, e) != 0 || train_open_learner(t, e) != 0 || describe(t, e) != 0)
        return -1;
    const int stopped = train_loop(t, e);
    if (stopped < 0 || train_write_models(t, stopped, &models, e) != 0)
        return -1;
    if (!stopped)
        train_remove_checkpoint(t);
    if (report(t, stopped, models) != CTL_DONE)
        return err_set(e, ERR_MEMORY, "the result cannot be shown");
    if (stopped && t->state.epochs)
        return err_set(e, ERR_BUSY, "stopped; resnetctl train --resume %s/checkpoint.safetensors goes on after epoch %d",
                       t->o.output, t->state.epochs);
    return stopped ? err_set(e, ERR_BUSY, "stopped in the first epoch: there is no checkpoint yet") : 0;
}

/* What cannot be meant; 0 when all is fine. */
static int check_usage(const struct train_options *o)
{
    const struct ctl_usage *u = &train_usage;
    enum schedule_shape shape;
    struct err e;
    const int begins = (o->arch != NULL) + (o->from != NULL) + (o->qat != NULL);
    if (begins > 1)
        return ctl_wrong(u, "--arch, --from and --qat exclude each other");
    if (o->validate && o->share >= 0)
        return ctl_wrong(u, "--validate and --validation-share exclude each other");
    if (!o->replace != !o->replace_indices)
        return ctl_wrong(u, "--replace and --replace-indices belong together");
    if (o->schedule && schedule_parse(o->schedule, &shape, &e) != 0)
        return ctl_wrong(u, "%s", e.text);
    if (o->name && name_check(o->name, &e) != 0)
        return ctl_wrong(u, "%s", e.text);
    if (o->output && ctl_output_is_file(o->output))
        return ctl_wrong(u, "-o %s is a file; a training makes a directory of several", o->output);
    if (o->resume)
        return 0;
    if (begins == 0)
        return ctl_wrong(u, "--arch NAME, --from MODEL or --qat MODEL says what to train and is missing");
    if (!o->data)
        return ctl_wrong(u, "--data says what to learn from and is missing");
    if (!o->output)
        return ctl_wrong(u, "-o says where to write and is missing");
    if (o->weight_bits >= 0 && !o->qat)
        return ctl_wrong(u, "--weight-bits is for --qat");
    if (o->freeze >= 0 && !o->from)
        return ctl_wrong(u, "--freeze is for --from");
    if (o->preprocess && !o->arch)
        return ctl_wrong(u, "--preprocess is for --arch: a model keeps its own");
    return 0;
}

int ctl_train(int argc, char **argv)
{
    struct train t = {.o = train_options_unset};
    struct err e;
    int status;
    if (ctl_parse(&train_usage, argc, argv, &t.o, &status) < 0)
        return status;
    if ((status = check_usage(&t.o)) != 0)
        return status;
    status = train(&t, &e) == 0 ? CTL_DONE : ctl_fail(&e);
    train_close(&t);
    return status;
}

// SPDX-License-Identifier: MIT
//
// ctl_train_models.c - what a training has come to, as a model directory: every precision, measured as it will be served.

#include "config.h"

#include "daemon/ctl_train.h"

#include <math.h>
#include <pthreadpool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "models/file.h"
#include "models/quantize/quantize.h"

/* ---- the networks ---- */

static int set_labels(const struct train *t, struct network *n, struct err *e)
{
    const struct network names = {.labels = t->set->labels, .label_count = t->set->classes};
    labels_free(n->labels, n->label_count);
    n->labels = NULL;
    n->label_count = 0;
    return labels_copy(&names, n, e);
}

static int set_name(const struct train *t, struct network *n, struct err *e)
{
    if (t->o.name)
        snprintf(n->name, sizeof n->name, "%s", t->o.name);
    else if (!ctl_name_from_path(t->o.output, n->name))
        snprintf(n->name, sizeof n->name, "%s", t->o.arch ? t->o.arch : "model");
    return name_check(n->name, e);
}

/* Neither date nor duration: the same images and options give the same file. */
static int set_provenance(const struct train *t, int stopped, struct network *n, struct err *e)
{
    char *command = train_options_command(&t->o);
    cJSON *o = cJSON_CreateObject();
    int bad = ctl_put_text(o, "command", command);
    bad |= ctl_put_number(o, "seed", t->o.seed, 10);
    bad |= ctl_put_number(o, "epochs", t->state.epochs, 10);
    bad |= ctl_put_number(o, "images", t->part.count, 10);
    if (stopped)
        bad |= ctl_put_text(o, "stopped", "before its end");
    if (t->source.digest[0])
        bad |= ctl_put_text(o, "source_sha256", t->source.digest);
    bad |= ctl_put_text(o, "tool", "resnetctl " PACKAGE_VERSION);
    char *text = bad || !command ? NULL : cJSON_PrintUnformatted(o);
    cJSON_Delete(o);
    free(command);
    free(n->provenance);
    n->provenance = text;
    return text ? 0 : err_set(e, ERR_MEMORY, "no memory for the provenance");
}

static int finish_network(const struct train *t, int stopped, struct network *n, struct err *e)
{
    n->preprocess = t->preprocess;
    return set_name(t, n, e) == 0 && set_labels(t, n, e) == 0 && set_provenance(t, stopped, n, e) == 0 ? 0 : -1;
}

/* The fp32 network: what was trained, or, after --qat, what it began with. */
static int float_network(struct train *t, int stopped, struct network *out, struct err *e)
{
    if (!t->quantised)
        return trainee_to_network(t->trainee, out, e) == 0 ? finish_network(t, stopped, out, e) : -1;
    *out = t->source;
    t->source = (struct network){0};
    memcpy(t->source.digest, out->digest, sizeof out->digest); /* for the int8 file, which says what it was made of */
    return set_name(t, out, e);
}

/* ---- accuracy ---- */

struct score {
    int images, top1, top5;
};

/* One thread's share of the images: they go side by side, each on one core. */
struct walker {
    struct session *session;
    struct score score;
};

struct walk {
    const struct train *t;
    struct walker *walkers;
    int count;
};

static void walk(void *user, size_t i)
{
    struct walk *w = user;
    struct walker *mine = &w->walkers[i];
    const struct image_set *set;
    const int *index;
    const int count = train_validation(w->t, &set, &index), classes = w->t->set->classes, k = classes < 5 ? classes : 5;
    const int end = (int)((long long)(i + 1) * count / w->count);
    const size_t bytes = 3u * (size_t)set->width * (size_t)set->height;
    for (int n = (int)((long long)i * count / w->count); n < end; n++) {
        int best[5];
        const int number = index ? index[n] : n;
        session_set_pixels(mine->session, 0, set->pixels + (size_t)number * bytes);
        top_k(session_run(mine->session, 1), classes, k, best);
        mine->score.images++;
        mine->score.top1 += best[0] == set->label[number];
        for (int j = 0; j < k; j++)
            mine->score.top5 += best[j] == set->label[number];
    }
}

/* The model is taken. */
static int run_walk(struct walk *w, struct model *m, struct score *sum, struct err *e)
{
    int rc = 0;
    for (int i = 0; i < w->count && rc == 0; i++)
        rc = session_new(m, 1, NULL, &w->walkers[i].session, e);
    model_free(m);
    if (rc == 0)
        pthreadpool_parallelize_1d(w->t->pool, walk, w, (size_t)w->count, PTHREADPOOL_FLAG_YIELD_WORKERS);
    for (int i = 0; i < w->count; i++) {
        sum->images += w->walkers[i].score.images;
        sum->top1 += w->walkers[i].score.top1;
        sum->top5 += w->walkers[i].score.top5;
        session_free(w->walkers[i].session);
    }
    return rc;
}

static int measure(const struct train *t, const struct network *n, struct score *out, struct err *e)
{
    const struct image_set *set;
    const int *index;
    struct model *m;
    struct walk w = {t, NULL, t->o.threads};
    *out = (struct score){0};
    if (train_validation(t, &set, &index) == 0)
        return 0;
    w.walkers = calloc((size_t)w.count, sizeof *w.walkers);
    if (!w.walkers)
        return err_set(e, ERR_MEMORY, "no memory for %d threads", w.count);
    const int rc = model_from_network(n, t->kernels, &m, e) == 0 ? run_walk(&w, m, out, e) : -1;
    free(w.walkers);
    return rc;
}

static int set_accuracy(const struct train *t, const struct score *s, struct network *n, struct err *e)
{
    free(n->accuracy);
    n->accuracy = NULL;
    if (s->images == 0)
        return 0;
    cJSON *o = cJSON_CreateObject();
    const char *data = t->o.validate ? t->o.validate : t->o.data, *slash = strrchr(data, '/');
    int bad = ctl_put_number(o, "top1", 100.0 * s->top1 / s->images, 6);
    bad |= ctl_put_number(o, "top5", 100.0 * s->top5 / s->images, 6);
    bad |= ctl_put_number(o, "images", s->images, 10);
    bad |= ctl_put_text(o, "data", slash && slash[1] ? slash + 1 : data);
    n->accuracy = bad ? NULL : cJSON_PrintUnformatted(o);
    cJSON_Delete(o);
    return n->accuracy ? 0 : err_set(e, ERR_MEMORY, "no memory for the accuracy");
}

/* ---- files ---- */

static int write_one(const struct train *t, struct network *n, cJSON *models, struct err *e)
{
    struct score s;
    if (measure(t, n, &s, e) != 0 || set_accuracy(t, &s, n, e) != 0)
        return -1;
    char *path = ctl_output_path(t->o.output, n->precision, e);
    int rc = path ? ctl_write_model(path, n, t->pool, e) : -1, identical = 0;
    const int trained = t->quantised && n->precision == PRECISION_INT8;
    if (rc == 0 && trained && (rc = train_check_quantised(t, path, &identical, e)) != 0)
        unlink(path);
    cJSON *row = cJSON_CreateObject();
    int bad = ctl_put_text(row, "file", path);
    bad |= ctl_put_text(row, "name", n->name);
    bad |= ctl_put_text(row, "precision", precision_name(n->precision));
    bad |= ctl_put_number(row, "images", s.images, 10);
    bad |= ctl_put_number(row, "top1", s.images ? 100.0 * s.top1 / s.images : (double)NAN, 6);
    bad |= ctl_put_number(row, "top5", s.images ? 100.0 * s.top5 / s.images : (double)NAN, 6);
    if (trained)
        bad |= ctl_put_number(row, "identical", identical, 10);
    bad |= ctl_put_number(row, "file_bytes", (double)(path ? ctl_file_bytes(path) : 0), 17);
    free(path);
    if (rc == 0 && (bad || ctl_append(models, cJSON_Duplicate(row, 1)) != 0))
        rc = err_set(e, ERR_MEMORY, "no memory for the result");
    cJSON_Delete(row);
    return rc;
}

/* What the training learned as int8, or what the quantiser makes of it. */
static int reduced_network(struct train *t, int stopped, const struct network *fp32, enum precision p,
                           const struct calibration *c, struct network *out, struct err *e)
{
    if (p != PRECISION_INT8 || !t->quantised)
        return quantize_network(fp32, p, NULL, c, out, NULL, e);
    return train_quantised_network(t, out, e) == 0 ? finish_network(t, stopped, out, e) : -1;
}

int train_write_models(struct train *t, int stopped, cJSON **models, struct err *e)
{
    struct network fp32 = {0};
    struct calibration *c = NULL;
    struct train_images images = train_calibration(t);
    cJSON *rows = cJSON_CreateArray();
    int rc = rows ? float_network(t, stopped, &fp32, e) : err_set(e, ERR_MEMORY, "no memory for the result");
    if (rc == 0)
        rc = write_one(t, &fp32, rows, e);
    if (rc == 0)
        rc = calibration_new(&fp32, t->kernels, t->pool, train_next_image, &images, &c, e);
    for (int p = PRECISION_FP16; p < PRECISIONS && rc == 0; p++) {
        struct network q = {0};
        rc = reduced_network(t, stopped, &fp32, (enum precision)p, c, &q, e);
        if (rc == 0)
            rc = write_one(t, &q, rows, e);
        network_free(&q);
    }
    calibration_free(c);
    network_free(&fp32);
    if (rc == 0)
        *models = rows;
    else
        cJSON_Delete(rows);
    return rc;
}

// SPDX-License-Identifier: MIT
//
// ctl_train_data.c - what a training learns from: images, their classes, and the batches made of them.

#include "daemon/ctl_train.h"
#include "daemon/progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "models/file.h"

#define CALIBRATION_IMAGES 1024

/* ---- the model to begin with ---- */

/* A training that is gone on with wants the model that it began with. */
static int check_source(const struct train *t, const char *path, struct err *e)
{
    const cJSON *digest = cJSON_GetObjectItemCaseSensitive(t->saved, "source");
    if (!cJSON_IsString(digest) || strcmp(digest->valuestring, t->source.digest))
        return err_set(e, ERR_INPUT, "%s is not the model that this training began with", path);
    return 0;
}

static int open_source(struct train *t, struct err *e)
{
    char path[4096];
    const char *model = t->o.from ? t->o.from : t->o.qat;
    if (!model)
        return 0;
    if (model_path(model, PRECISION_FP32, path, sizeof path, e) != 0 || model_file_read(path, &t->source, e) != 0)
        return -1;
    if (t->source.precision != PRECISION_FP32)
        return err_set(e, ERR_INPUT, "%s is %s; training begins with fp32", path, precision_name(t->source.precision));
    return t->saved ? check_source(t, path, e) : 0;
}

/* ---- preprocessing ---- */

/* Whether DATA holds pixels of a fixed size, as CIFAR-10 does, and no photos. */
static int is_raw(const char *data, int *raw, struct err *e)
{
    struct dataset *d;
    struct sample s;
    char **names = NULL;
    int count = 0, rc = dataset_class_names(data, &names, &count, e);
    if (rc == 0)
        rc = dataset_open(data, names, count, &d, e);
    labels_free(names, count);
    if (rc != 0)
        return -1;
    rc = dataset_count(d) > 0 ? dataset_read(d, 0, &s, e) : err_set(e, ERR_NOT_FOUND, "%s: there are no images", data);
    *raw = rc == 0 && s.pixels != NULL;
    dataset_close(d);
    return rc;
}

static int saved_preprocess(struct train *t, struct err *e)
{
    char *text = cJSON_PrintUnformatted(cJSON_GetObjectItemCaseSensitive(t->saved, "preprocess"));
    int rc =
        text ? preprocess_from_json(text, &t->preprocess, e) : err_set(e, ERR_DAMAGED, "the checkpoint has no preprocessing");
    cJSON_free(text);
    return rc;
}

static int set_preprocess(struct train *t, struct err *e)
{
    static const char *const large[] = {"resnet18", "resnet34", "resnet50"};
    int rc, raw, photos = 0;
    if (t->saved)
        rc = saved_preprocess(t, e);
    else if (t->o.preprocess)
        rc = ctl_preprocess(t->o.preprocess, &t->preprocess, e);
    else if (!t->o.arch)
        t->preprocess = t->source.preprocess, rc = 0;
    else if ((rc = is_raw(t->o.data, &raw, e)) == 0) {
        for (size_t i = 0; i < sizeof large / sizeof *large; i++)
            photos |= !raw && !strcmp(t->o.arch, large[i]);
        rc = preprocess_preset(photos ? "imagenet" : "cifar10", &t->preprocess, e);
    }
    if (rc != 0)
        return -1;
    preprocess_output_size(&t->preprocess, 0, 0, &t->width, &t->height);
    if (!t->o.arch) { /* the input of a model is what it is */
        t->width = t->source.graph.nodes[0].w;
        t->height = t->source.graph.nodes[0].h;
    }
    if (t->width <= 0 || t->height <= 0)
        return err_set(e, ERR_INPUT, "the preprocessing does not fix the size of the network's input");
    return 0;
}

/* ---- images ---- */

struct reading {
    const struct train *t;
    struct progress progress;
    int started;
};

/* image_pixels of image_set.h */
static int read_pixels(void *user, const struct sample *s, uint8_t *rgb, struct err *e)
{
    const struct train *t = ((const struct reading *)user)->t;
    return ctl_pixels_make(s, &t->preprocess, t->width, t->height, rgb, e);
}

static void show_reading(void *user, int done, int count)
{
    struct reading *r = user;
    if (!r->started)
        progress_start(&r->progress, "reading", "images", count, r->t->o.json);
    r->started = 1;
    progress_step(&r->progress, done);
}

/* What both of the next two read with; *reading is theirs. */
static struct image_reader reader_of(const struct train *t, struct reading *reading)
{
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    *reading = (struct reading){.t = t};
    return (struct image_reader){.width = t->width,
                                 .height = t->height,
                                 .pixels = read_pixels,
                                 .progress = show_reading,
                                 .user = reading,
                                 .pool = t->pool,
                                 .bytes_max = pages > 0 && page > 0 ? (size_t)pages / 2 * (size_t)page : 0};
}

static int read_images(const struct train *t, const char *data, char *const *labels, int count, struct image_set **out,
                       struct err *e)
{
    struct reading reading;
    const struct image_reader reader = reader_of(t, &reading);
    const int rc = image_set_open(data, labels, count, &reader, out, e);
    if (reading.started)
        progress_end(&reading.progress);
    return rc;
}

/* Better copies of some images, in their place. */
static int replace_images(const struct train *t, struct err *e)
{
    struct reading reading;
    const struct image_reader reader = reader_of(t, &reading);
    if (!t->o.replace)
        return 0;
    const int rc = image_set_replace(t->set, t->o.replace, t->o.replace_indices, &reader, e);
    if (reading.started)
        progress_end(&reading.progress);
    return rc;
}

/* The classes as the checkpoint has them; *count 0 without one. */
static int saved_classes(const struct train *t, char ***labels, int *count, struct err *e)
{
    char *text = t->saved ? cJSON_PrintUnformatted(cJSON_GetObjectItemCaseSensitive(t->saved, "classes")) : NULL;
    const int rc = text ? labels_from_json(text, strlen(text), 0, labels, count, e) : 0;
    cJSON_free(text);
    return rc;
}

/* Classes that are those of the model by name get their numbers from it, so that its last layer can stay. */
static int adopt_order(struct image_set *s, const struct network *n, struct err *e)
{
    if (n->label_count != s->classes)
        return 0;
    int *number = calloc((size_t)s->classes, sizeof *number), found = 0;
    char **labels = calloc((size_t)s->classes, sizeof *labels);
    if (!number || !labels) {
        free(number);
        free(labels);
        return err_set(e, ERR_MEMORY, "no memory for %d classes", s->classes);
    }
    for (int c = 0; c < s->classes; c++)
        for (int k = 0; k < s->classes; k++)
            if (!labels[k] && !strcmp(s->labels[c], n->labels[k])) {
                labels[k] = s->labels[c];
                number[c] = k;
                found++;
                break;
            }
    if (found == s->classes) {
        memcpy(s->labels, labels, sizeof *labels * (size_t)s->classes);
        for (int i = 0; i < s->count; i++)
            s->label[i] = number[s->label[i]];
    }
    free(number);
    free(labels);
    return 0;
}

static int open_images(struct train *t, struct err *e)
{
    char **labels = NULL;
    int count = 0, rc = saved_classes(t, &labels, &count, e);
    if (rc == 0 && !labels && t->o.labels)
        rc = labels_from_file(t->o.labels, t->o.qat ? t->source.graph.nodes[t->source.graph.output].c : 0, &labels, &count, e);
    if (rc == 0 && !labels && t->o.qat)
        rc = read_images(t, t->o.data, t->source.labels, t->source.label_count, &t->set, e);
    else if (rc == 0)
        rc = read_images(t, t->o.data, labels, count, &t->set, e);
    const int given = labels != NULL;
    labels_free(labels, count);
    if (rc == 0)
        rc = replace_images(t, e);
    if (rc == 0 && !given && t->o.from)
        rc = adopt_order(t->set, &t->source, e);
    if (rc != 0)
        return -1;
    const cJSON *images = cJSON_GetObjectItemCaseSensitive(t->saved, "images");
    if (t->saved && (!cJSON_IsNumber(images) || images->valuedouble != t->set->count))
        return err_set(e, ERR_INPUT, "%s has %d images, this training began with %.0f", t->o.data, t->set->count,
                       cJSON_IsNumber(images) ? images->valuedouble : 0);
    if (t->o.validate)
        return read_images(t, t->o.validate, t->set->labels, t->set->classes, &t->other, e);
    return 0;
}

/* ---- division and feeds ---- */

int train_validation(const struct train *t, const struct image_set **set, const int **index)
{
    *set = t->other ? t->other : t->set;
    *index = t->other ? NULL : t->held.index;
    return t->other ? t->other->count : t->held.count;
}

static int open_feeds(struct train *t, struct err *e)
{
    struct train_options *o = &t->o;
    const int side = t->width < t->height ? t->width : t->height;
    if (o->share < 0 && !o->validate)
        o->share = t->set->held_back ? 0 : 10;
    if (o->pad < 0)
        o->pad = side / 8;
    if (image_set_split(t->set, o->share > 0 ? o->share / 100 : 0, (uint64_t)o->seed, &t->part, &t->held, e) != 0)
        return -1;
    if (o->batch > t->part.count)
        o->batch = t->part.count;
    struct feed_options f = {
        .batch = o->batch, .training = 1, .whole = 1, .seed = (uint64_t)o->seed, .preprocess = t->preprocess};
    f.augment = (struct augment){o->pad, !o->no_flip, o->cutout, o->mixup};
    if (feed_new(t->set, &t->part, &f, &t->feed, e) != 0)
        return -1;
    f.training = f.whole = 0;
    if (t->other)
        return feed_new(t->other, NULL, &f, &t->validation, e);
    return t->held.count ? feed_new(t->set, &t->held, &f, &t->validation, e) : 0;
}

int train_open_data(struct train *t, struct err *e)
{
    if (open_source(t, e) != 0 || set_preprocess(t, e) != 0 || open_images(t, e) != 0)
        return -1;
    if (t->set->classes < 2)
        return err_set(e, ERR_INPUT, "%s has images of one class only: there is nothing to tell apart", t->o.data);
    return open_feeds(t, e);
}

/* ---- calibration ---- */

struct train_images train_calibration(const struct train *t)
{
    return (struct train_images){t, 0, t->part.count < CALIBRATION_IMAGES ? t->part.count : CALIBRATION_IMAGES};
}

int train_next_image(void *user, uint8_t *rgb, int *label, struct err *e)
{
    (void)e;
    struct train_images *s = user;
    if (s->next == s->count)
        return 0;
    const struct image_set *set = s->t->set;
    const int i = s->t->part.index[(long long)s->next++ * s->t->part.count / s->count];
    const size_t bytes = 3u * (size_t)set->width * (size_t)set->height;
    memcpy(rgb, set->pixels + (size_t)i * bytes, bytes);
    *label = set->label[i];
    return 1;
}

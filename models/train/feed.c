// SPDX-License-Identifier: MIT

#include "models/train/feed.h"

#include "models/train/augment.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* A batch and the memory behind it. */
struct room {
    struct feed_batch batch;
    float *x, *target;
    int *label, *index;
};

struct feed {
    const struct image_set *set;
    struct feed_options options;
    float table[3][256]; /* preprocess_value, in the network's channel order */
    int *index;          /* the images of the part, in its order */
    int *order;          /* of this epoch; written while the loader waits */
    int count, batches;
    struct room rooms[2]; /* batch b is in room b % 2: one room is the caller's, one the loader's */

    pthread_t loader;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    int started, stop; /* started: there is a loader */
    int epoch;
    int ready;   /* batches of this epoch that are prepared */
    int given;   /* batches of this epoch that the caller has got */
    int loading; /* the loader is at work */
};

/* ---- what is in a batch */

static void set_targets(const struct feed *f, struct room *room, float weight)
{
    const int n = room->batch.images, classes = f->set->classes;
    memset(room->target, 0, (size_t)n * (size_t)classes * sizeof *room->target);
    for (int i = 0; i < n; i++) {
        float *target = room->target + (size_t)i * (size_t)classes;
        target[f->set->label[room->index[i]]] += weight;
        target[f->set->label[room->index[n - 1 - i]]] += 1 - weight;
        room->label[i] = f->set->label[room->index[weight < 0.5f ? n - 1 - i : i]];
    }
}

/* Batch b of this epoch. */
static void prepare(const struct feed *f, int b, struct room *room)
{
    const struct feed_options *o = &f->options;
    const struct image_set *s = f->set;
    const int first = b * o->batch, n = f->count - first < o->batch ? f->count - first : o->batch;
    const size_t values = (size_t)s->width * (size_t)s->height * 3;
    room->batch.images = n;
    for (int i = 0; i < n; i++) {
        const int image = f->order[first + i];
        struct variation v = {0};
        if (o->training) {
            struct random r = random_stream(o->seed, RANDOM_AUGMENT, (uint64_t)f->epoch, (uint64_t)image);
            v = augment_draw(&o->augment, s->width, s->height, &r);
        }
        augment_image(&v, s->pixels + (size_t)image * values, s->width, s->height, f->table, o->preprocess.bgr,
                      room->x + (size_t)i * values);
        room->index[i] = image;
        room->label[i] = s->label[image];
    }
    if (room->target) {
        struct random r = random_stream(o->seed, RANDOM_MIXUP, (uint64_t)f->epoch, (uint64_t)b);
        const float weight = (float)random_beta(&r, o->augment.mixup);
        augment_mix(room->x, n, (int64_t)values, weight);
        set_targets(f, room, weight);
    }
}

/* ---- the loader */

static void *load(void *user)
{
    struct feed *f = user;
    pthread_mutex_lock(&f->lock);
    while (!f->stop) {
        /* With `given` batches out, the caller holds the last of them: the other room is free for the next one. */
        if (f->ready == f->batches || f->ready > f->given) {
            pthread_cond_wait(&f->changed, &f->lock);
            continue;
        }
        const int b = f->ready;
        f->loading = 1;
        pthread_mutex_unlock(&f->lock);
        prepare(f, b, &f->rooms[b % 2]);
        pthread_mutex_lock(&f->lock);
        f->loading = 0;
        f->ready = b + 1;
        pthread_cond_broadcast(&f->changed);
    }
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

void feed_start(struct feed *f, int epoch)
{
    pthread_mutex_lock(&f->lock);
    f->given = -1; /* nothing more of the last epoch */
    while (f->loading)
        pthread_cond_wait(&f->changed, &f->lock);
    memcpy(f->order, f->index, (size_t)f->count * sizeof *f->order);
    if (f->options.training) {
        struct random r = random_stream(f->options.seed, RANDOM_SHUFFLE, (uint64_t)epoch, 0);
        random_shuffle(&r, f->order, f->count);
    }
    f->epoch = epoch;
    f->ready = 0;
    f->given = 0;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

const struct feed_batch *feed_next(struct feed *f)
{
    const struct feed_batch *batch = NULL;
    pthread_mutex_lock(&f->lock);
    if (f->given >= 0 && f->given < f->batches) {
        while (f->ready == f->given)
            pthread_cond_wait(&f->changed, &f->lock);
        batch = &f->rooms[f->given % 2].batch;
        f->given++;
        pthread_cond_broadcast(&f->changed);
    }
    pthread_mutex_unlock(&f->lock);
    return batch;
}

/* ---- the interface */

static int check_options(const struct image_set *s, const struct feed_options *o, struct err *e)
{
    const struct augment *a = &o->augment;
    const int side = s->width < s->height ? s->width : s->height;
    if (o->batch < 1 || o->batch > FEED_BATCH_MAX)
        return err_set(e, ERR_INPUT, "a batch of %d images, must be 1 to %d", o->batch, FEED_BATCH_MAX);
    if (a->pad < 0 || a->pad > side)
        return err_set(e, ERR_INPUT, "a crop with %d pixels of padding, must be 0 to %d", a->pad, side);
    if (a->cutout < 0 || a->cutout > side)
        return err_set(e, ERR_INPUT, "a cutout of %d pixels, must be 0 to %d", a->cutout, side);
    if (!(a->mixup == 0 || (a->mixup >= 0.01 && a->mixup <= 100)))
        return err_set(e, ERR_INPUT, "mixup of %g, must be 0 or 0.01 to 100", a->mixup);
    return 0;
}

static int room_init(struct room *room, const struct image_set *s, const struct feed_options *o)
{
    const size_t n = (size_t)o->batch, values = (size_t)s->width * (size_t)s->height * 3, classes = (size_t)s->classes;
    room->x = values > SIZE_MAX / (2 * n * sizeof *room->x) ? NULL
                                                            : aligned_alloc(CONV_ALIGN, conv_align(n * values * sizeof *room->x));
    room->label = malloc(n * sizeof *room->label);
    room->index = malloc(n * sizeof *room->index);
    if (o->training && o->augment.mixup > 0) {
        room->target = malloc(n * classes * sizeof *room->target);
        if (!room->target)
            return -1;
    }
    room->batch = (struct feed_batch){.x = room->x, .label = room->label, .target = room->target, .index = room->index};
    return room->x && room->label && room->index ? 0 : -1;
}

int feed_new(const struct image_set *s, const struct image_part *part, const struct feed_options *o, struct feed **out,
             struct err *e)
{
    const int count = part ? part->count : s->count;
    if (check_options(s, o, e) < 0)
        return -1;
    if (count < (o->whole ? o->batch : 1))
        return err_set(e, ERR_INPUT, "%d images are less than a batch of %d", count, o->batch);
    struct feed *f = calloc(1, sizeof *f);
    if (!f)
        return err_set(e, ERR_MEMORY, "no memory to prepare batches");
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, NULL);
    f->set = s;
    f->options = *o;
    f->count = count;
    f->batches = o->whole ? count / o->batch : (count - 1) / o->batch + 1;
    f->ready = f->batches; /* nothing to do before feed_start */
    f->given = -1;
    f->index = malloc((size_t)count * sizeof *f->index);
    f->order = malloc((size_t)count * sizeof *f->order);
    if (!f->index || !f->order || room_init(&f->rooms[0], s, o) < 0 || room_init(&f->rooms[1], s, o) < 0) {
        err_set(e, ERR_MEMORY, "no memory for two batches of %d images of %dx%d pixels", o->batch, s->width, s->height);
        goto fail;
    }
    for (int i = 0; i < count; i++)
        f->index[i] = part ? part->index[i] : i;
    for (int c = 0; c < 3; c++)
        for (int pixel = 0; pixel < 256; pixel++)
            f->table[c][pixel] = preprocess_value(&o->preprocess, c, (uint8_t)pixel);
    const int error = pthread_create(&f->loader, NULL, load, f);
    if (error) {
        err_set(e, ERR_BUSY, "cannot start a thread: %s", strerror(error));
        goto fail;
    }
    f->started = 1;
    *out = f;
    return 0;
fail:
    feed_free(f);
    return -1;
}

void feed_free(struct feed *f)
{
    if (!f)
        return;
    if (f->started) {
        pthread_mutex_lock(&f->lock);
        f->stop = 1;
        pthread_cond_broadcast(&f->changed);
        pthread_mutex_unlock(&f->lock);
        pthread_join(f->loader, NULL);
    }
    for (int i = 0; i < 2; i++) {
        free(f->rooms[i].x);
        free(f->rooms[i].target);
        free(f->rooms[i].label);
        free(f->rooms[i].index);
    }
    free(f->index);
    free(f->order);
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

int feed_images(const struct feed *f)
{
    return f->options.whole ? f->batches * f->options.batch : f->count;
}

int feed_batches(const struct feed *f)
{
    return f->batches;
}

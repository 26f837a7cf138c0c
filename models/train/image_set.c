// SPDX-License-Identifier: MIT

#include "models/train/image_set.h"

#include "models/network.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pthreadpool.h>

/* Samples are read one after the other and turned into pixels side by side, this many or this many encoded bytes at a time. */
#define BLOCK_IMAGES 64
#define BLOCK_BYTES  (32u << 20)

struct slot {
    struct sample sample; /* bytes or pixels lie in the block at offset */
    size_t offset;
    uint8_t *rgb; /* where its pixels go */
    int failed;
    struct err err;
};

struct block {
    const struct image_reader *reader;
    uint8_t *bytes;
    size_t used, size;
    int count;
    struct slot slots[BLOCK_IMAGES];
};

static int block_add(struct block *b, const struct sample *s, uint8_t *rgb, struct err *e)
{
    const size_t size = s->pixels ? (size_t)s->width * (size_t)s->height * 3 : s->size;
    if (size > b->size - b->used) {
        uint8_t *bytes = realloc(b->bytes, b->used + size);
        if (!bytes)
            return err_set(e, ERR_MEMORY, "no memory for %zu bytes", b->used + size);
        b->bytes = bytes;
        b->size = b->used + size;
    }
    if (size > 0)
        memcpy(b->bytes + b->used, s->pixels ? s->pixels : s->bytes, size);
    b->slots[b->count++] = (struct slot){.sample = *s, .offset = b->used, .rgb = rgb};
    b->used += size;
    return 0;
}

static void decode_slot(void *context, size_t i)
{
    struct block *b = context;
    struct slot *slot = &b->slots[i];
    struct sample s = slot->sample;
    s.folder = NULL; /* names are the data set's, which has gone on */
    s.name = "";
    if (s.pixels)
        s.pixels = b->bytes + slot->offset;
    else
        s.bytes = b->bytes + slot->offset;
    slot->failed = b->reader->pixels(b->reader->user, &s, slot->rgb, &slot->err) < 0;
}

/* Decodes what the block holds and empties it; first is the number of its first image in d. */
static int block_flush(struct block *b, struct dataset *d, int first, struct err *e)
{
    const int count = b->count;
    pthreadpool_parallelize_1d(b->reader->pool, decode_slot, b, (size_t)count, PTHREADPOOL_FLAG_YIELD_WORKERS);
    b->count = 0;
    b->used = 0;
    for (int i = 0; i < count; i++) {
        struct sample s;
        if (!b->slots[i].failed)
            continue;
        if (dataset_read(d, first + i, &s, e) < 0) /* for its name */
            return -1;
        *e = b->slots[i].err;
        return err_prefix(e, "%.140s%s%.140s", s.folder ? s.folder : "", s.folder ? "/" : "", s.name);
    }
    return 0;
}

/* Image i of d becomes image place(i) of the set. take() sees each sample in order and says where its pixels go. */
typedef uint8_t *take_sample(void *user, int i, const struct sample *s, struct err *e);

static int read_all(struct dataset *d, const struct image_reader *r, take_sample *take, void *user, struct err *e)
{
    struct block *b = calloc(1, sizeof *b);
    const int count = dataset_count(d);
    int result = 0, first = 0;
    if (!b)
        return err_set(e, ERR_MEMORY, "no memory to read images");
    b->reader = r;
    for (int i = 0; result == 0 && i < count; i++) {
        struct sample s;
        uint8_t *rgb = NULL;
        result = dataset_read(d, i, &s, e);
        if (result == 0 && !(rgb = take(user, i, &s, e)))
            result = err_prefix(e, "%.140s%s%.140s", s.folder ? s.folder : "", s.folder ? "/" : "", s.name);
        if (result == 0)
            result = block_add(b, &s, rgb, e);
        if (result == 0 && (i == count - 1 || b->count == BLOCK_IMAGES || b->used >= BLOCK_BYTES)) {
            result = block_flush(b, d, first, e);
            first = i + 1;
            if (result == 0 && r->progress)
                r->progress(r->user, i + 1, count);
        }
    }
    free(b->bytes);
    free(b);
    return result;
}

/* ---- a set */

struct opening {
    struct image_set *set;
    int label_count; /* 0: classes are as many as the labels need */
};

static size_t image_bytes(const struct image_set *s)
{
    return (size_t)s->width * (size_t)s->height * 3;
}

static uint8_t *take_new(void *user, int i, const struct sample *s, struct err *e)
{
    static const char held_back[] = "test_batch.bin[";
    struct opening *o = user;
    const char *slash = strrchr(s->name, '/');
    const int most = o->label_count > 0 ? o->label_count : GRAPH_CHANNELS_MAX;
    if (s->label < 0 || s->label >= most) {
        err_set(e, ERR_INPUT, "its label is %d, the classes are 0 to %d", s->label, most - 1);
        return NULL;
    }
    if (s->label >= o->set->classes)
        o->set->classes = s->label + 1;
    if (strncmp(slash ? slash + 1 : s->name, held_back, sizeof held_back - 1) == 0)
        o->set->held_back++;
    o->set->label[i] = s->label;
    return o->set->pixels + (size_t)i * image_bytes(o->set);
}

/* Names of the classes: those given, else their numbers. */
static int name_classes(struct image_set *s, char *const *labels, int label_count, struct err *e)
{
    const int classes = label_count > 0 ? label_count : s->classes;
    s->labels = calloc((size_t)classes, sizeof *s->labels);
    s->classes = s->labels ? classes : 0;
    for (int i = 0; i < s->classes; i++) {
        char number[16];
        snprintf(number, sizeof number, "%d", i);
        s->labels[i] = strdup(label_count > 0 ? labels[i] : number);
        if (!s->labels[i])
            return err_set(e, ERR_MEMORY, "no memory for labels");
    }
    return s->labels ? 0 : err_set(e, ERR_MEMORY, "no memory for labels");
}

static int take_memory(struct image_set *s, const char *data, const struct image_reader *r, struct err *e)
{
    const uint64_t bytes = (uint64_t)s->count * image_bytes(s);
    if (r->bytes_max > 0 && bytes > r->bytes_max)
        return err_set(e, ERR_TOO_LARGE, "%.140s: %d images of %dx%d pixels take %llu MB, the limit is %zu MB", data, s->count,
                       s->width, s->height, (unsigned long long)(bytes >> 20), r->bytes_max >> 20);
    s->pixels = bytes > SIZE_MAX ? NULL : malloc((size_t)bytes);
    s->label = malloc((size_t)s->count * sizeof *s->label);
    if (!s->pixels || !s->label)
        return err_set(e, ERR_MEMORY, "%.140s: no memory for the %llu MB of %d images", data, (unsigned long long)(bytes >> 20),
                       s->count);
    return 0;
}

int image_set_open(const char *data, char *const *labels, int label_count, const struct image_reader *r, struct image_set **out,
                   struct err *e)
{
    struct dataset *d = NULL;
    char **own = NULL; /* names that the data tells */
    struct image_set *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(e, ERR_MEMORY, "no memory for a set of images");
    struct opening o = {s, label_count};
    if (label_count == 0 && dataset_class_names(data, &own, &o.label_count, e) < 0)
        goto fail;
    if (own)
        labels = own;
    if (dataset_open(data, labels, o.label_count, &d, e) < 0)
        goto fail;
    s->count = dataset_count(d);
    s->width = r->width;
    s->height = r->height;
    if (!dataset_labelled(d)) {
        err_set(e, ERR_INPUT, "%.140s: its images have no labels: put them into one folder per class, or add a labels.csv", data);
        goto fail;
    }
    if (take_memory(s, data, r, e) < 0 || read_all(d, r, take_new, &o, e) < 0 || name_classes(s, labels, o.label_count, e) < 0)
        goto fail;
    labels_free(own, own ? o.label_count : 0);
    dataset_close(d);
    *out = s;
    return 0;
fail:
    labels_free(own, own ? o.label_count : 0);
    dataset_close(d);
    image_set_free(s);
    return -1;
}

void image_set_free(struct image_set *s)
{
    if (!s)
        return;
    labels_free(s->labels, s->classes);
    free(s->pixels);
    free(s->label);
    free(s);
}

/* ---- replacing */

struct replacing {
    struct image_set *set;
    const int *index; /* of the dataset's images in the set */
};

static uint8_t *take_place(void *user, int i, const struct sample *s, struct err *e)
{
    const struct replacing *r = user;
    const int place = r->index[i];
    if (s->label != r->set->label[place]) {
        err_set(e, ERR_INPUT, "its label is %d, but that of image %d, whose place it takes, is %d", s->label, place,
                r->set->label[place]);
        return NULL;
    }
    return r->set->pixels + (size_t)place * image_bytes(r->set);
}

/* Line i of the file is the place of image i: count of them, each below `limit` and there once. */
static int read_places(const char *path, int count, int limit, int *index, struct err *e)
{
    FILE *f = fopen(path, "re");
    char line[64];
    uint8_t *seen = calloc((size_t)limit, 1);
    int lines = 0, result = -1;
    if (!f || !seen) {
        err_set(e, f ? ERR_MEMORY : ERR_NOT_FOUND, f ? "no memory to read it" : "cannot be opened");
        goto out;
    }
    while (fgets(line, sizeof line, f)) {
        const size_t length = strcspn(line, "\r\n");
        line[length] = '\0';
        if (length == 0 || length > 9 || strspn(line, "0123456789") != length) {
            err_set(e, ERR_INPUT, "line %d is '%.40s', expected the number of an image", lines + 1, line);
            goto out;
        }
        const int place = (int)strtol(line, NULL, 10);
        if (lines == count) {
            err_set(e, ERR_INPUT, "more than %d lines, one for each image to put in", count);
            goto out;
        }
        if (place >= limit || seen[place]) {
            err_set(e, ERR_INPUT, "line %d: %s", lines + 1,
                    place >= limit ? "there is no image of that number" : "that number is there twice");
            goto out;
        }
        seen[place] = 1;
        index[lines++] = place;
    }
    if (ferror(f))
        err_set(e, ERR_IO, "cannot be read");
    else if (lines < count)
        err_set(e, ERR_INPUT, "%d lines for %d images", lines, count);
    else
        result = 0;
out:
    if (f)
        fclose(f);
    free(seen);
    return result < 0 ? err_prefix(e, "%.140s", path) : 0;
}

int image_set_replace(struct image_set *s, const char *data, const char *indices, const struct image_reader *r, struct err *e)
{
    struct dataset *d = NULL;
    int *index = NULL, result = -1;
    if (dataset_open(data, s->labels, s->classes, &d, e) < 0)
        return -1;
    index = malloc((size_t)dataset_count(d) * sizeof *index);
    if (!index)
        err_set(e, ERR_MEMORY, "no memory for the numbers of %d images", dataset_count(d));
    else if (read_places(indices, dataset_count(d), s->count, index, e) == 0)
        result = read_all(d, r, take_place, &(struct replacing){s, index}, e);
    free(index);
    dataset_close(d);
    return result;
}

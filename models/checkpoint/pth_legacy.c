// SPDX-License-Identifier: MIT
//
// Before PyTorch 1.6: five pickles, one after the other (a magic number, a version, the machine's conventions, the object, the
// keys of the storages), then for each key an int64 number of elements and the elements.

#include "config.h" /* 64-bit file offsets */

#include "models/checkpoint/pth_archive.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "models/input.h"

struct place { /* of a storage */
    const struct pickle_storage *storage;
    uint64_t at; /* in the file; 0: not in the list of keys */
};

struct legacy {
    int fd;
    uint64_t file_bytes;
    struct place *places; /* sorted by key */
    int count;
};

static int compare(const void *a, const void *b)
{
    const struct pickle_storage *s = ((const struct place *)a)->storage, *t = ((const struct place *)b)->storage;
    if (s->key_size != t->key_size)
        return s->key_size < t->key_size ? -1 : 1;
    return memcmp(s->key, t->key, s->key_size);
}

static struct place *find(const struct legacy *l, const char *key, size_t size)
{
    const struct pickle_storage s = {.key = key, .key_size = size};
    return l->count ? bsearch(&(struct place){.storage = &s}, l->places, (size_t)l->count, sizeof *l->places, compare) : NULL;
}

/* The storages that the object mentions, each once. */
static int list_storages(struct legacy *l, const struct pickle *object, struct err *e)
{
    const struct pickle_storage **mentioned;
    const int count = pickle_storages(object, &mentioned);
    l->places = count < 0 ? NULL : malloc(((size_t)count + 1) * sizeof *l->places);
    if (!l->places) {
        if (count >= 0)
            free(mentioned);
        return err_set(e, ERR_MEMORY, "no memory for the storages");
    }
    for (int i = 0; i < count; i++)
        l->places[i] = (struct place){mentioned[i], 0};
    free(mentioned);
    qsort(l->places, (size_t)count, sizeof *l->places, compare);
    for (int i = 0; i < count; i++) {
        const struct pickle_storage *s = l->places[i].storage, *last = l->count ? l->places[l->count - 1].storage : NULL;
        if (!last || compare(&l->places[l->count - 1], &l->places[i]) != 0)
            l->places[l->count++] = l->places[i];
        else if (s->dtype != last->dtype || s->count != last->count)
            return err_set(e, ERR_DAMAGED, "storage %.*s is described twice, and differently", (int)s->key_size, s->key);
    }
    return 0;
}

/* Where the elements of each key lie: they follow each other from `at` on. */
static int place_storages(struct legacy *l, const struct pickle_value *keys, uint64_t at, struct err *e)
{
    if (keys->kind != PICKLE_LIST)
        return err_set(e, ERR_DAMAGED, "the keys of the storages are no list");
    for (int i = 0; i < keys->count; i++) {
        const struct pickle_value *key = keys->items[i];
        struct place *place = key->kind == PICKLE_TEXT ? find(l, key->text, key->size) : NULL;
        unsigned char number[8];
        uint64_t count = 0;
        if (!place)
            return err_set(e, ERR_DAMAGED, "there are elements for a storage that no tensor has");
        const struct pickle_storage *s = place->storage;
        const uint64_t bytes = (uint64_t)s->count * st_dtype_bytes(s->dtype);
        if (at > l->file_bytes || l->file_bytes - at < sizeof number)
            return err_set(e, ERR_DAMAGED, "the file ends before storage %.*s: truncated", (int)s->key_size, s->key);
        if (input_read(l->fd, number, sizeof number, at, e) < 0)
            return -1;
        for (int k = 7; k >= 0; k--)
            count = count << 8 | number[k];
        if (count != (uint64_t)s->count)
            return err_set(e, ERR_DAMAGED, "storage %.*s has %llu elements, its tensor says %lld", (int)s->key_size, s->key,
                           (unsigned long long)count, (long long)s->count);
        at += sizeof number;
        if (bytes > l->file_bytes - at)
            return err_set(e, ERR_DAMAGED, "the file ends inside storage %.*s: truncated", (int)s->key_size, s->key);
        place->at = at;
        at += bytes;
    }
    return 0;
}

static int check(const void *data, const struct pickle_storage *s, struct err *e)
{
    const struct place *place = find(data, s->key, s->key_size);
    return place && place->at ? 0 : err_set(e, ERR_DAMAGED, "storage %.*s is not in the file", (int)s->key_size, s->key);
}

static int read_storage(const void *data, const struct pickle_storage *s, uint64_t offset, void *out, uint64_t bytes,
                        struct err *e)
{
    const struct legacy *l = data;
    return input_read(l->fd, out, bytes, find(l, s->key, s->key_size)->at + offset, e);
}

static void close_legacy(void *data)
{
    struct legacy *l = data;
    close(l->fd);
    free(l->places);
    free(l);
}

/* The next pickle at *at in the `size` bytes of out->pickled. */
static int next_pickle(const struct pth_archive *a, size_t size, size_t *at, struct pickle **out, struct err *e)
{
    size_t used;
    if (pickle_read(a->pickled + *at, size - *at, &used, out, e) < 0)
        return err_prefix(e, "the pickle at byte %zu", *at);
    *at += used;
    return 0;
}

/* Pickles 2 to 5, and where the storages are. */
static int read_pickles(struct legacy *l, struct pth_archive *a, size_t size, struct err *e)
{
    struct pickle *version = NULL, *machine = NULL, *keys = NULL;
    size_t at = PTH_LEGACY_MAGIC_BYTES;
    int bad = -1;
    if (next_pickle(a, size, &at, &version, e) < 0 || next_pickle(a, size, &at, &machine, e) < 0)
        goto out;
    const struct pickle_value *little = pickle_get(pickle_root(machine), "little_endian");
    if (pickle_root(version)->kind != PICKLE_INT || pickle_root(version)->integer != 1001) {
        err_set(e, ERR_UNSUPPORTED, "a version of PyTorch's first format other than 1001");
        goto out;
    }
    if (!little || little->kind != PICKLE_BOOL || !little->integer) {
        err_set(e, ERR_UNSUPPORTED, "not little endian");
        goto out;
    }
    if (next_pickle(a, size, &at, &a->pickle, e) == 0 && next_pickle(a, size, &at, &keys, e) == 0 &&
        list_storages(l, a->pickle, e) == 0)
        bad = place_storages(l, pickle_root(keys), at, e);
out:
    pickle_free(version);
    pickle_free(machine);
    pickle_free(keys);
    return bad;
}

int pth_legacy_open(int fd, uint64_t file_bytes, struct pth_archive *out, struct err *e)
{
    static const struct pth_archive_kind kind = {check, read_storage, close_legacy};
    struct legacy *l = calloc(1, sizeof *l);
    if (!l) {
        close(fd);
        return err_set(e, ERR_MEMORY, "no memory to open a file");
    }
    l->fd = fd;
    l->file_bytes = file_bytes;
    const size_t size = file_bytes < PICKLE_BYTES_MAX ? (size_t)file_bytes : PICKLE_BYTES_MAX; /* the pickles come first */
    *out = (struct pth_archive){&kind, l, malloc(size), NULL};
    int bad = out->pickled ? input_read(fd, out->pickled, size, 0, e) : err_set(e, ERR_MEMORY, "no memory to read a file");
    if (!bad)
        bad = read_pickles(l, out, size, e);
    if (bad)
        pth_archive_close(out);
    return bad;
}

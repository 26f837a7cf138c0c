// SPDX-License-Identifier: MIT

#include "models/checkpoint/pth.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "models/checkpoint/pth_archive.h"
#include "models/input.h"
#include "models/utf8.h"

struct pth {
    struct pth_archive archive;
    uint64_t file_bytes;
    char *path;                       /* for messages */
    const struct pickle_value *outer; /* the dictionary around the weights, the metadata; NULL when there is none */
    char *names;                      /* of the tensors, terminated */
    const struct pickle_tensor **tensors;
    char *arch; /* metadata */
};

/* Puts the path in front of the text; of a long one the end, so that the reason still fits. */
static int fail_path(const struct pth *p, struct err *e)
{
    size_t length = strlen(p->path), keep = 140;
    return length > keep ? err_prefix(e, "...%s", p->path + length - keep) : err_prefix(e, "%s", p->path);
}

void pth_archive_close(struct pth_archive *a)
{
    if (a->kind)
        a->kind->close(a->data);
    pickle_free(a->pickle);
    free(a->pickled);
    *a = (struct pth_archive){.kind = NULL};
}

static void close_pth(void *source)
{
    struct pth *p = source;
    pth_archive_close(&p->archive);
    free(p->names);
    free(p->tensors);
    free(p->arch);
    free(p->path);
    free(p);
}

/* ---- the weights in the pickle ---- */

static int tensors_in(const struct pickle_value *d)
{
    int count = 0;
    for (int i = 0; d->kind == PICKLE_DICT && i < d->count; i += 2)
        count += d->items[i]->kind == PICKLE_TEXT && d->items[i + 1]->kind == PICKLE_TENSOR;
    return count;
}

/* The dictionary of tensors, or the nearest one in it. */
static const struct pickle_value *find_weights(struct pth *p, struct err *e)
{
    static const char *const keys[] = {"state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model", "net"};
    const struct pickle_value *d = pickle_root(p->archive.pickle);
    for (int level = 0; level < PTH_LEVELS_MAX; level++) {
        const struct pickle_value *inner = NULL;
        for (size_t k = 0; k < sizeof keys / sizeof *keys && !inner; k++) {
            const struct pickle_value *v = pickle_get(d, keys[k]);
            inner = v && v->kind == PICKLE_DICT && v->count ? v : NULL;
        }
        if (!inner)
            break;
        p->outer = d;
        d = inner;
    }
    if (tensors_in(d))
        return d;
    err_set(e, ERR_UNSUPPORTED, "it holds no dictionary of tensors, neither itself nor under state_dict, model or net");
    return NULL;
}

static int copy_name(const struct pickle_value *key, char *to, struct err *e)
{
    if (key->size > ST_NAME_MAX)
        return err_set(e, ERR_TOO_LARGE, "a tensor's name has %zu bytes, the limit is %d", key->size, ST_NAME_MAX);
    for (size_t i = 0, n; i < key->size; i += n) {
        n = key->text[i] ? utf8_length(key->text + i, key->size - i) : 0;
        if (!n)
            return err_set(e, ERR_DAMAGED, "a tensor's name is not UTF-8");
    }
    memcpy(to, key->text, key->size);
    to[key->size] = 0;
    return 0;
}

/* Fills list with the tensors of d. Several may share a storage; all of them together may not be many times what the file holds.
 */
static int list_tensors(struct pth *p, const struct pickle_value *d, struct tensor *list, struct err *e)
{
    char *name = p->names;
    uint64_t total = 0;
    for (int i = 0, n = 0; i < d->count; i += 2) {
        const struct pickle_value *key = d->items[i], *v = d->items[i + 1];
        if (key->kind != PICKLE_TEXT || v->kind != PICKLE_TENSOR)
            continue;
        const struct pickle_tensor *t = v->tensor;
        if (copy_name(key, name, e) < 0)
            return -1;
        if (p->archive.kind->check(p->archive.data, &t->storage, e) < 0)
            return err_prefix(e, "tensor %s", name);
        total += (uint64_t)t->count * st_dtype_bytes(t->storage.dtype);
        if (total / 4 > p->file_bytes)
            return err_set(e, ERR_UNSUPPORTED, "the tensors together are more than four times the file: views of each other");
        p->tensors[n] = t;
        list[n] = (struct tensor){.name = name, .dtype = t->storage.dtype, .rank = t->rank, .count = t->count};
        memcpy(list[n].shape, t->shape, sizeof list[n].shape);
        name += key->size + 1;
        n++;
    }
    return 0;
}

/* ---- tensors.h ---- */

static int is_contiguous(const struct pickle_tensor *t)
{
    int64_t expected = 1;
    for (int i = t->rank - 1; i >= 0; i--) {
        if (t->shape[i] != 1 && t->stride[i] != expected)
            return 0;
        expected *= t->shape[i];
    }
    return 1;
}

/* Elements in the order of the indices from those in the order of the storage. */
static void gather(const struct pickle_tensor *t, const float *span, float *out)
{
    int64_t index[ST_RANK_MAX] = {0}, at = 0;
    for (int64_t n = 0; n < t->count; n++) {
        out[n] = span[at];
        for (int i = t->rank - 1; i >= 0; i--) {
            at += t->stride[i];
            if (++index[i] < t->shape[i])
                break;
            at -= t->stride[i] * t->shape[i];
            index[i] = 0;
        }
    }
}

static int read_tensor(const struct pth *p, const struct pickle_tensor *t, float *out, struct err *e)
{
    const size_t size = st_dtype_bytes(t->storage.dtype), count = (size_t)t->span;
    const int straight = is_contiguous(t);
    unsigned char *bytes = t->storage.dtype == ST_F32 && straight ? (unsigned char *)out : malloc(count * size + 1);
    float *span = straight ? out : malloc(count * sizeof *span + 1);
    int bad = !bytes || !span
                  ? err_set(e, ERR_MEMORY, "no memory")
                  : p->archive.kind->read(p->archive.data, &t->storage, (uint64_t)t->offset * size, bytes, count * size, e);
    if (!bad && bytes != (unsigned char *)out)
        st_floats(t->storage.dtype, bytes, t->span, span);
    if (!bad && !straight)
        gather(t, span, out);
    if (bytes != (unsigned char *)out)
        free(bytes);
    if (span != out)
        free(span);
    return bad;
}

static int read_pth(const void *source, int i, float *out, struct err *e)
{
    const struct pth *p = source;
    const struct pickle_tensor *t = p->tensors[i];
    if (t->count == 0 || read_tensor(p, t, out, e) == 0)
        return 0;
    err_prefix(e, "storage %.*s", (int)t->storage.key_size, t->storage.key);
    return fail_path(p, e);
}

static const char *metadata_pth(const void *source, const char *key)
{
    const struct pth *p = source;
    return strcmp(key, "arch") == 0 ? p->arch : NULL;
}

static int read_all(struct pth *p, struct tensor **list, int *count, struct err *e)
{
    const struct pickle_value *weights = find_weights(p, e);
    if (!weights)
        return -1;
    *count = tensors_in(weights);
    if (*count > TENSORS_MAX)
        return err_set(e, ERR_TOO_LARGE, "%d tensors, the limit is %d", *count, TENSORS_MAX);
    size_t names = 1;
    for (int i = 0; i < weights->count; i += 2)
        if (weights->items[i]->kind == PICKLE_TEXT && weights->items[i]->size <= ST_NAME_MAX)
            names += weights->items[i]->size + 1;
    const struct pickle_value *arch = p->outer ? pickle_get(p->outer, "arch") : NULL;
    p->arch = arch && arch->kind == PICKLE_TEXT ? strndup(arch->text, arch->size < 200 ? arch->size : 200) : NULL;
    p->names = malloc(names);
    p->tensors = malloc(((size_t)*count + 1) * sizeof *p->tensors);
    *list = malloc(((size_t)*count + 1) * sizeof **list);
    if (!p->names || !p->tensors || !*list || (arch && arch->kind == PICKLE_TEXT && !p->arch))
        return err_set(e, ERR_MEMORY, "no memory for %d tensors", *count);
    return list_tensors(p, weights, *list, e);
}

static int open_archive(struct pth *p, struct err *e)
{
    unsigned char start[PTH_LEGACY_MAGIC_BYTES] = {0};
    int fd = input_open(AT_FDCWD, p->path, &p->file_bytes, e);
    if (fd < 0)
        return -1;
    if (input_read(fd, start, p->file_bytes < sizeof start ? p->file_bytes : sizeof start, 0, e) < 0) {
        close(fd);
        return -1;
    }
    if (start[0] == 'P' && start[1] == 'K')
        return pth_zip_open(fd, p->file_bytes, &p->archive, e);
    if (memcmp(start, PTH_LEGACY_MAGIC, sizeof start) == 0)
        return pth_legacy_open(fd, p->file_bytes, &p->archive, e);
    close(fd);
    return err_set(e, ERR_UNSUPPORTED, "not what torch.save writes: neither a zip archive nor a pickle with its magic number");
}

int pth_open(const char *path, struct tensors **out, struct err *e)
{
    static const struct tensors_source source = {read_pth, metadata_pth, close_pth};
    struct pth *p = calloc(1, sizeof *p);
    struct tensor *list = NULL;
    int count = 0;
    if (!p || !(p->path = strdup(path))) {
        free(p);
        return err_set(e, ERR_MEMORY, "no memory to open a file");
    }
    if (open_archive(p, e) < 0 || read_all(p, &list, &count, e) < 0) {
        fail_path(p, e);
        free(list);
        close_pth(p);
        return -1;
    }
    return tensors_new(&source, p, list, count, out, e) < 0 ? err_prefix(e, "%s", path) : 0;
}

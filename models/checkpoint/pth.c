// SPDX-License-Identifier: MIT

#include "config.h" /* HAVE_LIBZIP, 64-bit file offsets */

#include "models/checkpoint/pth.h"

#ifndef HAVE_LIBZIP

int pth_open(const char *path, struct tensors **out, struct err *e)
{
    (void)out;
    return err_set(e, ERR_UNSUPPORTED,
                   "%s: a PyTorch checkpoint; this build is without libzip, which reads them: install libzip-dev, "
                   "configure and build again, or save the weights as .safetensors",
                   path);
}

#else

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zip.h>

#include "models/checkpoint/pickle.h"
#include "models/input.h"
#include "models/utf8.h"

struct pth {
    zip_t *zip;
    uint64_t file_bytes;
    char *path;             /* for messages */
    char prefix[256];       /* of all entries: "archive/" */
    unsigned char *pickled; /* data.pkl */
    struct pickle *pickle;
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

static void close_pth(void *source)
{
    struct pth *p = source;
    if (!p)
        return;
    if (p->zip)
        zip_discard(p->zip);
    pickle_free(p->pickle);
    free(p->pickled);
    free(p->names);
    free(p->tensors);
    free(p->arch);
    free(p->path);
    free(p);
}

/* ---- the archive ---- */

/* Index and size of an entry that is stored as it is; -1 with the error set. */
static int64_t find_entry(const struct pth *p, const char *name, uint64_t *bytes, struct err *e)
{
    char path[320];
    zip_stat_t st;
    snprintf(path, sizeof path, "%s%s", p->prefix, name);
    const zip_int64_t i = zip_name_locate(p->zip, path, ZIP_FL_ENC_RAW);
    const zip_uint64_t need = ZIP_STAT_SIZE | ZIP_STAT_COMP_METHOD | ZIP_STAT_ENCRYPTION_METHOD;
    if (i < 0)
        return err_set(e, ERR_DAMAGED, "the archive has no entry %s", path);
    if (zip_stat_index(p->zip, (zip_uint64_t)i, 0, &st) != 0 || (st.valid & need) != need)
        return err_set(e, ERR_DAMAGED, "entry %s: %s", path, zip_strerror(p->zip));
    if (st.encryption_method != ZIP_EM_NONE)
        return err_set(e, ERR_UNSUPPORTED, "entry %s is encrypted", path);
    if (st.comp_method != ZIP_CM_STORE)
        return err_set(e, ERR_UNSUPPORTED, "entry %s is compressed, which torch.save does not do: pack it again without (zip -0)",
                       path);
    if (st.size > p->file_bytes)
        return err_set(e, ERR_DAMAGED, "entry %s claims %llu bytes, more than the file", path, (unsigned long long)st.size);
    *bytes = st.size;
    return i;
}

static int read_part(zip_file_t *f, void *out, uint64_t bytes, struct err *e)
{
    for (char *at = out; bytes;) {
        const zip_int64_t n = zip_fread(f, at, bytes < 1 << 30 ? bytes : 1 << 30);
        if (n <= 0)
            return err_set(e, ERR_DAMAGED, "cannot be read: %s", n < 0 ? zip_file_strerror(f) : "it ends too early");
        at += n;
        bytes -= (uint64_t)n;
    }
    return 0;
}

/* Bytes of an entry; one that is read to its end is checked against its CRC. */
static int read_entry(const struct pth *p, int64_t entry, uint64_t offset, void *out, uint64_t bytes, struct err *e)
{
    char end;
    zip_file_t *f = zip_fopen_index(p->zip, (zip_uint64_t)entry, 0);
    if (!f)
        return err_set(e, ERR_DAMAGED, "cannot be read: %s", zip_strerror(p->zip));
    int bad = 0;
    if (offset && zip_fseek(f, (zip_int64_t)offset, SEEK_SET) != 0)
        bad = err_set(e, ERR_DAMAGED, "cannot be read: %s", zip_file_strerror(f));
    if (!bad)
        bad = read_part(f, out, bytes, e);
    if (!bad && zip_fread(f, &end, 1) < 0)
        bad = err_set(e, ERR_DAMAGED, "cannot be read: %s", zip_file_strerror(f));
    zip_fclose(f);
    return bad;
}

/* The archive's own name is in front of all entries: whatever stands before /data.pkl. */
static int find_prefix(struct pth *p, struct err *e)
{
    static const char tail[] = "/data.pkl";
    const zip_int64_t count = zip_get_num_entries(p->zip, 0);
    if (count > PTH_ENTRIES_MAX)
        return err_set(e, ERR_TOO_LARGE, "the archive has %lld entries, the limit is %d", (long long)count, PTH_ENTRIES_MAX);
    for (zip_int64_t i = 0; i < count; i++) {
        const char *name = zip_get_name(p->zip, (zip_uint64_t)i, ZIP_FL_ENC_RAW);
        const size_t length = name ? strlen(name) : 0, n = sizeof tail - 1;
        if (length <= n || strcmp(name + length - n, tail) || memchr(name, '/', length - n) || length - n + 2 > sizeof p->prefix)
            continue;
        snprintf(p->prefix, sizeof p->prefix, "%.*s/", (int)(length - n), name);
        return 0;
    }
    return err_set(e, ERR_UNSUPPORTED, "a zip archive without a data.pkl: not a checkpoint of PyTorch");
}

static int has_entry(const struct pth *p, const char *name)
{
    char path[320];
    snprintf(path, sizeof path, "%s%s", p->prefix, name);
    return zip_name_locate(p->zip, path, ZIP_FL_ENC_RAW) >= 0;
}

static int check_conventions(const struct pth *p, struct err *e)
{
    uint64_t bytes;
    char order[8] = "";
    if (has_entry(p, "constants.pkl"))
        return err_set(e, ERR_UNSUPPORTED,
                       "a TorchScript program (torch.jit.save), not weights alone: "
                       "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth')");
    if (!has_entry(p, "byteorder"))
        return 0;
    const int64_t entry = find_entry(p, "byteorder", &bytes, e);
    if (entry < 0 || (bytes < sizeof order && read_entry(p, entry, 0, order, bytes, e) < 0))
        return -1;
    return strcmp(order, "little") == 0 ? 0 : err_set(e, ERR_UNSUPPORTED, "byte order '%s': only little endian is read", order);
}

static int read_pickle(struct pth *p, struct err *e)
{
    uint64_t bytes;
    const int64_t entry = find_entry(p, "data.pkl", &bytes, e);
    if (entry < 0)
        return -1;
    if (bytes > PICKLE_BYTES_MAX)
        return err_set(e, ERR_TOO_LARGE, "%sdata.pkl has %llu bytes, the limit is %d", p->prefix, (unsigned long long)bytes,
                       PICKLE_BYTES_MAX);
    p->pickled = malloc((size_t)bytes + 1);
    if (!p->pickled)
        return err_set(e, ERR_MEMORY, "no memory for %sdata.pkl", p->prefix);
    if (read_entry(p, entry, 0, p->pickled, bytes, e) < 0 || pickle_read(p->pickled, (size_t)bytes, &p->pickle, e) < 0)
        return err_prefix(e, "%.100sdata.pkl", p->prefix);
    return 0;
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
    const struct pickle_value *d = pickle_root(p->pickle);
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
    err_set(e, ERR_UNSUPPORTED, "%sdata.pkl holds no dictionary of tensors, neither itself nor under state_dict, model or net",
            p->prefix);
    return NULL;
}

/* The storage's entry has exactly its elements. The entry's index, or -1. */
static int64_t storage_entry(const struct pth *p, const struct pickle_storage *s, struct err *e)
{
    char name[64];
    uint64_t bytes;
    snprintf(name, sizeof name, "data/%.*s", (int)s->key_size, s->key);
    const int64_t entry = find_entry(p, name, &bytes, e);
    const uint64_t expected = (uint64_t)s->count * st_dtype_bytes(s->dtype);
    if (entry >= 0 && bytes != expected)
        return err_set(e, ERR_DAMAGED, "entry %s%s has %llu bytes, its tensor needs %llu", p->prefix, name,
                       (unsigned long long)bytes, (unsigned long long)expected);
    return entry;
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
        if (storage_entry(p, &t->storage, e) < 0)
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
    const int64_t entry = storage_entry(p, &t->storage, e);
    if (entry < 0)
        return -1;
    const size_t size = st_dtype_bytes(t->storage.dtype), count = (size_t)t->span;
    const int straight = is_contiguous(t);
    unsigned char *bytes = t->storage.dtype == ST_F32 && straight ? (unsigned char *)out : malloc(count * size + 1);
    float *span = straight ? out : malloc(count * sizeof *span + 1);
    int bad = !bytes || !span ? err_set(e, ERR_MEMORY, "no memory")
                              : read_entry(p, entry, (uint64_t)t->offset * size, bytes, count * size, e);
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
    err_prefix(e, "storage data/%.*s", (int)t->storage.key_size, t->storage.key);
    return fail_path(p, e);
}

static const char *metadata_pth(const void *source, const char *key)
{
    const struct pth *p = source;
    return strcmp(key, "arch") == 0 ? p->arch : NULL;
}

static int read_all(struct pth *p, struct tensor **list, int *count, struct err *e)
{
    if (find_prefix(p, e) < 0 || check_conventions(p, e) < 0 || read_pickle(p, e) < 0)
        return -1;
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

static int open_zip(struct pth *p, struct err *e)
{
    unsigned char start[2];
    int fd = input_open(AT_FDCWD, p->path, &p->file_bytes, e), code;
    if (fd < 0)
        return -1;
    if (p->file_bytes < sizeof start || input_read(fd, start, sizeof start, 0, e) < 0 || start[0] != 'P') {
        close(fd);
        return err_set(e, ERR_UNSUPPORTED,
                       "a pickle without a zip archive around it, from before PyTorch 1.6 or not from torch.save. If you "
                       "trust the file: torch.save(torch.load(FILE, map_location='cpu'), 'new.pth')");
    }
    p->zip = zip_fdopen(fd, 0, &code);
    if (p->zip)
        return 0;
    close(fd);
    zip_error_t error;
    zip_error_init_with_code(&error, code);
    err_set(e, code == ZIP_ER_MEMORY ? ERR_MEMORY : ERR_DAMAGED, "not a whole zip archive: %s", zip_error_strerror(&error));
    zip_error_fini(&error);
    return -1;
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
    if (open_zip(p, e) < 0 || read_all(p, &list, &count, e) < 0) {
        fail_path(p, e);
        free(list);
        close_pth(p);
        return -1;
    }
    return tensors_new(&source, p, list, count, out, e) < 0 ? err_prefix(e, "%s", path) : 0;
}

#endif

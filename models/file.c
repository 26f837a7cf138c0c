// SPDX-License-Identifier: MIT
//
// file.c - reads model files. The order of checks bounds the memory: the header is at most the file, and no layer is taken before
// every tensor that the graph asks for has been found in it.

#include "config.h" /* 64-bit file sizes on 32-bit machines */

#include "models/file.h"

#include <errno.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "models/file_layout.h"

static int check_tensor(const struct st_tensor *t, const struct slot *want, struct err *e)
{
    if (strcmp(t->name, want->name) != 0)
        return err_set(e, ERR_DAMAGED, "tensor '%.112s' where '%s' should be", t->name, want->name);
    int same = t->dtype == want->dtype && t->rank == want->rank;
    for (int i = 0; same && i < want->rank; i++)
        same = t->shape[i] == want->shape[i];
    if (same)
        return 0;
    const int64_t *s = want->shape;
    if (want->rank == 1)
        return err_set(e, ERR_DAMAGED, "tensor '%s' is not %s [%lld]", want->name, st_dtype_name(want->dtype), (long long)s[0]);
    return err_set(e, ERR_DAMAGED, "tensor '%s' is not %s [%lld, %lld, %lld, %lld]", want->name, st_dtype_name(want->dtype),
                   (long long)s[0], (long long)s[1], (long long)s[2], (long long)s[3]);
}

/* The tensors of the file are exactly those of the layout. */
static int check_tensors(const struct st_file *f, const struct network *n, struct err *e)
{
    struct layout l = {.graph = &n->graph, .precision = n->precision};
    struct slot want;
    int i = 0;
    if (st_data_offset(f) % FILE_ALIGN)
        return err_set(e, ERR_DAMAGED, "the data section does not start at a multiple of %d", FILE_ALIGN);
    for (; layout_next(&l, &want); i++) {
        if (i >= st_count(f))
            return err_set(e, ERR_DAMAGED, "tensor '%s' is missing", want.name);
        if (check_tensor(st_get(f, i), &want, e))
            return -1;
    }
    if (i < st_count(f))
        return err_set(e, ERR_DAMAGED, "tensor '%.112s' belongs to nothing", st_get(f, i)->name);
    return 0;
}

/* Fills *n, which must be empty, and the digest that the data section must repeat. */
static int read_header(const struct st_file *f, struct network *n, uint8_t digest[FILE_DIGEST_BYTES], struct err *e)
{
    const char *values[FILE_KEYS];
    for (int k = 0; k < FILE_KEYS; k++)
        values[k] = st_metadata(f, file_keys[k]);
    if (metadata_parse(values, n, e))
        return -1;
    if (!values[KEY_SHA256])
        return err_set(e, ERR_DAMAGED, "metadata field 'sha256' is missing");
    metadata_digest(values, digest);
    return check_tensors(f, n, e);
}

/* The bytes of one tensor, on the heap and under the digest; NULL with e set. */
static void *read_tensor(const struct st_file *f, const struct st_tensor *t, struct sha256_ctx *sha, struct err *e)
{
    const uint64_t bytes = t->end - t->begin;
    void *data = bytes <= SIZE_MAX / 2 ? malloc((size_t)bytes) : NULL;
    if (!data) {
        err_set(e, ERR_MEMORY, "no memory for tensor '%s' (%llu bytes)", t->name, (unsigned long long)bytes);
        return NULL;
    }
    if (st_read(f, t, data, e)) {
        free(data);
        return NULL;
    }
    sha256_update(sha, (size_t)bytes, data);
    return data;
}

static void put_part(struct layer *l, const struct slot *s, void *data)
{
    if (s->part == PART_WEIGHT)
        l->weight = data;
    else if (s->part == PART_SCALE)
        l->scale = data;
    else if (s->dtype == ST_I32)
        l->bias_s32 = data;
    else
        l->bias = data;
}

struct reader {
    layer_fn *fn;
    void *user;
    int keep; /* the layers stay in the network */
};

/* Checks a complete layer and hands it on; it is empty afterwards. */
static int finish_layer(const struct reader *r, struct network *n, int node, struct layer *l, const char *path, struct err *e)
{
    int failed = layer_check(n, node, l, e);
    if (!failed && r->fn)
        failed = r->fn(r->user, n, node, l, e);
    if (failed)
        return err_prefix(e, "%s", path);
    if (r->keep) {
        n->layers[node] = *l;
        *l = (struct layer){0};
    }
    layer_free(l);
    return 0;
}

static int read_data(const struct st_file *f, const char *path, const struct reader *r, struct network *n,
                     const uint8_t metadata[FILE_DIGEST_BYTES], struct err *e)
{
    struct layout l = {.graph = &n->graph, .precision = n->precision};
    struct slot slot;
    struct layer layer = {0};
    struct sha256_ctx sha;
    sha256_init(&sha);
    for (int i = 0; layout_next(&l, &slot); i++) {
        void *data = read_tensor(f, st_get(f, i), &sha, e);
        if (!data)
            goto failed;
        if (slot.node >= 0) {
            put_part(&layer, &slot, data);
            if (slot.part == PART_BIAS && finish_layer(r, n, slot.node, &layer, path, e))
                goto failed;
            continue;
        }
        const int same = slot.part != PART_METADATA || memcmp(data, metadata, FILE_DIGEST_BYTES) == 0;
        free(data);
        if (!same) {
            err_set(e, ERR_DAMAGED, "%s: the metadata does not match its SHA-256 in '%s'", path, slot.name);
            goto failed;
        }
    }

    uint8_t digest[FILE_DIGEST_BYTES];
    char hex[2 * FILE_DIGEST_BYTES + 1];
    sha256_digest(&sha, sizeof digest, digest);
    for (int i = 0; i < FILE_DIGEST_BYTES; i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    if (strcmp(hex, n->digest) != 0)
        return err_set(e, ERR_DAMAGED, "%s: the data does not match sha256: the file is damaged or was altered", path);
    return 0;
failed:
    layer_free(&layer);
    return -1;
}

/* r NULL: the header alone. */
static int read_file(const char *path, struct network *out, const struct reader *r, struct err *e)
{
    uint8_t metadata[FILE_DIGEST_BYTES];
    struct st_file *f;
    *out = (struct network){0};
    if (st_open(path, &f, e))
        return -1;
    int failed = read_header(f, out, metadata, e);
    if (!failed) {
        out->layers = calloc((size_t)out->graph.count, sizeof *out->layers);
        if (!out->layers)
            failed = err_set(e, ERR_MEMORY, "no memory");
    }
    if (failed)
        err_prefix(e, "%s", path);
    else if (r)
        failed = read_data(f, path, r, out, metadata, e);
    st_close(f);
    if (failed)
        network_free(out);
    return failed ? -1 : 0;
}

int model_file_stream(const char *path, struct network *out, layer_fn *fn, void *user, struct err *e)
{
    return read_file(path, out, &(struct reader){.fn = fn, .user = user}, e);
}

int model_file_header(const char *path, struct network *out, struct err *e)
{
    return read_file(path, out, NULL, e);
}

int model_file_read(const char *path, struct network *out, struct err *e)
{
    return read_file(path, out, &(struct reader){.keep = 1}, e);
}

int model_path(const char *path, enum precision p, char *buffer, size_t size, struct err *e)
{
    struct stat st;
    if (stat(path, &st))
        return err_set(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s: %s", path, strerror(errno));
    const int directory = S_ISDIR(st.st_mode);
    const int length =
        directory ? snprintf(buffer, size, "%s/%s.safetensors", path, precision_name(p)) : snprintf(buffer, size, "%s", path);
    if (length < 0 || (size_t)length >= size)
        return err_set(e, ERR_INPUT, "%.100s...: the path is too long", path);
    if (directory && stat(buffer, &st))
        return err_set(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s: %s (the model directory holds no %s)", buffer,
                       strerror(errno), precision_name(p));
    return 0;
}

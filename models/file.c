// SPDX-License-Identifier: MIT
//
// file.c - reads model files. The order of checks bounds the memory: the header is at most the file, and no layer is taken before
// every tensor that the graph asks for has been found in it.

#include "config.h" /* 64-bit file sizes on 32-bit machines */

#include "models/file.h"

#include <errno.h>
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
    char shape[4 * 22] = "";
    for (int i = 0, at = 0; i < want->rank; i++)
        at += snprintf(shape + at, sizeof shape - (size_t)at, "%s%lld", i ? ", " : "", (long long)want->shape[i]);
    return err_set(e, ERR_DAMAGED, "tensor '%s' is not %s [%s]", want->name, st_dtype_name(want->dtype), shape);
}

/* How many images the self-test has; the rest of its shape is checked with all the others. */
static int find_selftest(const struct st_file *f, struct network *n, struct err *e)
{
    const struct st_tensor *t = st_find(f, SELFTEST_INPUT);
    if (!t)
        return 0;
    if (t->rank == 0 || t->shape[0] < 1 || t->shape[0] > SELFTEST_IMAGES_MAX || t->end - t->begin > SELFTEST_BYTES_MAX)
        return err_set(e, ERR_DAMAGED, "tensor '%s' is not 1 to %d images of together at most %d bytes", t->name,
                       SELFTEST_IMAGES_MAX, SELFTEST_BYTES_MAX);
    n->selftest.images = (int)t->shape[0];
    return 0;
}

/* The tensors are there and of the right shape. */
static int read_selftest(const struct st_file *f, struct network *n, struct err *e)
{
    struct selftest *s = &n->selftest;
    const struct st_tensor *input = st_find(f, SELFTEST_INPUT), *logits = st_find(f, SELFTEST_LOGITS);
    if (s->images == 0)
        return 0;
    s->input = malloc((size_t)(input->end - input->begin));
    s->logits = malloc((size_t)(logits->end - logits->begin));
    if (!s->input || !s->logits)
        return err_set(e, ERR_MEMORY, "no memory for the self-test");
    if (st_read_span(f, input->begin, input->end, s->input, e) < 0 ||
        st_read_span(f, logits->begin, logits->end, s->logits, e) < 0)
        return -1;
    return selftest_check(n, e);
}

/* The tensors of the file are exactly those of the layout. */
static int check_tensors(const struct st_file *f, const struct network *n, struct err *e)
{
    struct layout l = layout_begin(n);
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
    return find_selftest(f, n, e) < 0 ? -1 : check_tensors(f, n, e);
}

/* to NULL: the header alone. */
static int read_file(const char *path, struct pthreadpool *pool, const struct layer_sink *to, struct network *out, struct err *e)
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
    if (!failed && to)
        failed = read_selftest(f, out, e);
    if (!failed && to)
        failed = file_data_stream(f, pool, to, out, metadata, e);
    if (failed)
        err_prefix(e, "%s", path);
    st_close(f);
    if (failed)
        network_free(out);
    return failed ? -1 : 0;
}

int model_file_stream(const char *path, struct pthreadpool *pool, const struct layer_sink *to, struct network *out, struct err *e)
{
    return read_file(path, pool, to, out, e);
}

int model_file_header(const char *path, struct network *out, struct err *e)
{
    return read_file(path, NULL, NULL, out, e);
}

static void *copy(const void *from, size_t bytes)
{
    void *to = malloc(bytes);
    return to ? memcpy(to, from, bytes) : NULL;
}

/* A layer_fn: a copy stays in the network that user is. */
static int keep_layer(void *user, const struct network *n, int node, const struct layer *l, struct err *e)
{
    struct layer *to = &((struct network *)user)->layers[node];
    const size_t channels = (size_t)n->graph.nodes[node].c;
    const size_t size = weight_bytes(node_precision(&n->graph.nodes[node], n->precision));
    to->weight = copy(l->weight, (size_t)node_weights(&n->graph, node) * size);
    to->scale = l->scale ? copy(l->scale, channels * sizeof *l->scale) : NULL;
    to->bias = l->bias ? copy(l->bias, channels * sizeof *l->bias) : NULL;
    to->bias_s32 = l->bias_s32 ? copy(l->bias_s32, channels * sizeof *l->bias_s32) : NULL;
    if (to->weight && (to->scale || !l->scale) && (to->bias || to->bias_s32))
        return 0;
    return err_set(e, ERR_MEMORY, "no memory for the weights of '%s'", n->graph.nodes[node].name);
}

int model_file_read(const char *path, struct network *out, struct err *e)
{
    return read_file(path, NULL, &(struct layer_sink){.layer = keep_layer, .user = out}, out, e);
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

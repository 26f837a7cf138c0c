// SPDX-License-Identifier: MIT
//
// Data is read with pread, not mapped: a file that shrinks while it is open is then an error value, not a SIGBUS.

#include "config.h" /* 64-bit file offsets on 32-bit machines */

#include "models/checkpoint/safetensors.h"

#include "kernels/half.h"
#include "models/checkpoint/safetensors_header.h"
#include "models/input.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "safetensors data is little endian and is read as it lies: big-endian machines are not supported"
#endif

struct st_file {
    int fd;
    uint64_t bytes; /* of the whole file */
    uint64_t data;  /* where the data section starts */
    struct st_header header;
    char *path; /* for messages */
};

/* Puts the path in front of the text; of a long one the end, so that the reason still fits. */
static int fail_path(const char *path, struct err *e)
{
    size_t len = strlen(path), keep = 140;
    return len > keep ? err_prefix(e, "...%s", path + len - keep) : err_prefix(e, "%s", path);
}

static int read_header(struct st_file *f, struct err *e)
{
    unsigned char start[9]; /* the length and the brace: no memory is taken for a file that is something else */
    uint64_t len = 0;
    if (f->bytes < sizeof start)
        return err_set(e, ERR_DAMAGED, "too short for a safetensors file (%llu bytes)", (unsigned long long)f->bytes);
    if (input_read(f->fd, start, sizeof start, 0, e) < 0)
        return -1;
    for (int i = 7; i >= 0; i--)
        len = len << 8 | start[i];
    if (len > f->bytes - 8)
        return err_set(e, ERR_DAMAGED, "the header's length (%llu bytes) exceeds the file: truncated, or not a safetensors file",
                       (unsigned long long)len);
    if (len > ST_HEADER_MAX)
        return err_set(e, ERR_TOO_LARGE, "the header has %llu bytes, the limit is %u", (unsigned long long)len, ST_HEADER_MAX);
    if (len == 0 || start[8] != '{')
        return err_set(e, ERR_DAMAGED, "the header does not start with '{': not a safetensors file");
    char *json = malloc((size_t)len);
    if (!json)
        return err_set(e, ERR_MEMORY, "no memory for a header of %llu bytes", (unsigned long long)len);
    if (input_read(f->fd, json, len, 8, e) < 0) {
        free(json);
        return -1;
    }
    f->data = 8 + len;
    return st_header_parse(json, (size_t)len, f->bytes - f->data, &f->header, e);
}

int st_open(const char *path, struct st_file **out, struct err *e)
{
    struct st_file *f = calloc(1, sizeof *f);
    if (!f)
        return err_set(e, ERR_MEMORY, "no memory to open a file");
    f->path = strdup(path);
    if (!f->path) {
        free(f);
        return err_set(e, ERR_MEMORY, "no memory to open a file");
    }
    f->fd = input_open(AT_FDCWD, path, &f->bytes, e);
    if (f->fd < 0 || read_header(f, e) < 0) {
        st_close(f);
        return fail_path(path, e);
    }
    *out = f;
    return 0;
}

void st_close(struct st_file *f)
{
    if (!f)
        return;
    if (f->fd >= 0)
        close(f->fd);
    st_header_free(&f->header);
    free(f->path);
    free(f);
}

int st_count(const struct st_file *f)
{
    return f->header.count;
}

const struct st_tensor *st_get(const struct st_file *f, int i)
{
    return &f->header.tensors[i];
}

static int find_name(const void *name, const void *tensor)
{
    return strcmp(name, (*(const struct st_tensor *const *)tensor)->name);
}

const struct st_tensor *st_find(const struct st_file *f, const char *name)
{
    const struct st_header *h = &f->header;
    const struct st_tensor **t = h->count ? bsearch(name, h->by_name, (size_t)h->count, sizeof *h->by_name, find_name) : NULL;
    return t ? *t : NULL;
}

static int find_key(const void *key, const void *meta)
{
    return strcmp(key, ((const struct st_meta *)meta)->key);
}

const char *st_metadata(const struct st_file *f, const char *key)
{
    const struct st_header *h = &f->header;
    const struct st_meta *m = h->meta_count ? bsearch(key, h->meta, (size_t)h->meta_count, sizeof *h->meta, find_key) : NULL;
    return m ? m->value : NULL;
}

uint64_t st_data_offset(const struct st_file *f)
{
    return f->data;
}

uint64_t st_file_bytes(const struct st_file *f)
{
    return f->bytes;
}

static int fail_tensor(const struct st_file *f, const struct st_tensor *t, struct err *e)
{
    err_prefix(e, "tensor '%.80s'", t->name);
    return fail_path(f->path, e);
}

int st_read(const struct st_file *f, const struct st_tensor *t, void *out, struct err *e)
{
    return input_read(f->fd, out, t->end - t->begin, f->data + t->begin, e) < 0 ? fail_tensor(f, t, e) : 0;
}

int st_read_span(const struct st_file *f, uint64_t begin, uint64_t end, void *out, struct err *e)
{
    if (input_read(f->fd, out, end - begin, f->data + begin, e) == 0)
        return 0;
    for (int i = 0; i < f->header.count; i++) { /* once more, to tell which one it is */
        const struct st_tensor *t = &f->header.tensors[i];
        if (t->begin >= begin && t->end <= end &&
            input_read(f->fd, (char *)out + (t->begin - begin), t->end - t->begin, f->data + t->begin, e) < 0)
            return err_prefix(e, "tensor '%.80s'", t->name);
    }
    return 0;
}

void st_will_read(const struct st_file *f, uint64_t begin, uint64_t end)
{
    (void)posix_fadvise(f->fd, (off_t)(f->data + begin), (off_t)(end - begin), POSIX_FADV_WILLNEED);
}

union element {
    double f64;
    float f32;
    uint16_t u16;
    int64_t i64;
    int32_t i32;
    int16_t i16;
    int8_t i8;
    uint8_t u8;
    uint32_t bits;
};

static float to_float(enum st_dtype d, const unsigned char *p)
{
    union element v;
    memcpy(&v, p, st_dtype_bytes(d));
    switch (d) {
    case ST_F64:
        return (float)v.f64;
    case ST_F32:
        return v.f32;
    case ST_F16:
        return half_to_float(v.u16);
    case ST_BF16:
        return (union element){.bits = (uint32_t)v.u16 << 16}.f32; /* the upper half of a float */
    case ST_I64:
        return (float)v.i64;
    case ST_I32:
        return (float)v.i32;
    case ST_I16:
        return v.i16;
    case ST_I8:
        return v.i8;
    case ST_U8:
        return v.u8;
    case ST_BOOL:
        break;
    }
    return v.u8 != 0;
}

void st_floats(enum st_dtype d, const void *bytes, int64_t count, float *out)
{
    const size_t size = st_dtype_bytes(d);
    const unsigned char *p = bytes;
    for (int64_t i = 0; i < count; i++)
        out[i] = to_float(d, p + (size_t)i * size);
}

int st_read_float(const struct st_file *f, const struct st_tensor *t, float *out, struct err *e)
{
    if (t->dtype == ST_F32)
        return st_read(f, t, out, e);

    unsigned char part[16384];
    uint64_t size = st_dtype_bytes(t->dtype);
    for (uint64_t at = t->begin; at < t->end;) {
        uint64_t n = t->end - at < sizeof part ? t->end - at : sizeof part;
        if (input_read(f->fd, part, n, f->data + at, e) < 0)
            return fail_tensor(f, t, e);
        st_floats(t->dtype, part, (int64_t)(n / size), out);
        out += n / size;
        at += n;
    }
    return 0;
}

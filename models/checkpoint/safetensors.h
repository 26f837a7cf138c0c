// SPDX-License-Identifier: MIT
//
// safetensors.h - the safetensors container (huggingface/safetensors, README "Format"), read strictly and written.
//
// File: u64 little-endian header length, JSON header, data. Every byte of data belongs to exactly one tensor. The reader takes
// the header into memory and leaves the data on disk; callers read tensors one by one.

#ifndef MODELS_CHECKPOINT_SAFETENSORS_H
#define MODELS_CHECKPOINT_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "models/err.h"

#define ST_HEADER_MAX (100u * 1000 * 1000) /* the specification's limit */
#define ST_TENSORS_MAX 100000
#define ST_RANK_MAX 8
#define ST_NAME_MAX 512                    /* bytes of a tensor's name */
#define ST_METADATA_MAX 10000              /* entries */

enum st_dtype { ST_F64, ST_F32, ST_F16, ST_BF16, ST_I64, ST_I32, ST_I16, ST_I8, ST_U8, ST_BOOL };

struct st_tensor {
    const char *name;
    enum st_dtype dtype;
    int rank;
    int64_t shape[ST_RANK_MAX];
    int64_t count;          /* elements; 1 for rank 0 */
    uint64_t begin, end;    /* in the data section */
};

struct st_file; /* an open file: descriptor, tensors in file order, metadata */

/* Opens and checks everything the specification says about the header: length, UTF-8 JSON that starts with '{', no duplicate
   keys, known dtypes, rank <= ST_RANK_MAX, products that do not overflow, offsets in order without holes or overlap up to exactly
   the end of the file, __metadata__ of strings. ERR_DAMAGED, ERR_UNSUPPORTED or ERR_TOO_LARGE with path and field in the text.
   Memory taken is a small multiple of the header's size. The caller ends it with st_close. */
int st_open(const char *path, struct st_file **out, struct err *e);
void st_close(struct st_file *f); /* NULL is fine */

int st_count(const struct st_file *f);
const struct st_tensor *st_get(const struct st_file *f, int i);                /* in order of offsets */
const struct st_tensor *st_find(const struct st_file *f, const char *name);    /* NULL when absent */
const char *st_metadata(const struct st_file *f, const char *key);             /* NULL when absent */
uint64_t st_data_offset(const struct st_file *f);                              /* where the data section starts in the file */
uint64_t st_file_bytes(const struct st_file *f);

/* Reads the bytes of a tensor as they lie (little endian); out holds end - begin bytes. ERR_IO / ERR_DAMAGED when the file
   shrank under us. */
int st_read(const struct st_file *f, const struct st_tensor *t, void *out, struct err *e);

/* The bytes [begin, end) of the data section, some whole tensors that lie together. An error names the tensor, not the file. */
int st_read_span(const struct st_file *f, uint64_t begin, uint64_t end, void *out, struct err *e);

/* Lets the system fetch these bytes from the disk meanwhile. */
void st_will_read(const struct st_file *f, uint64_t begin, uint64_t end);

/* Reads a floating-point tensor of any float dtype (F64 F32 F16 BF16), or an integer one, as floats; out holds count floats. */
int st_read_float(const struct st_file *f, const struct st_tensor *t, float *out, struct err *e);

/* count elements as they lie in a file, as floats. */
void st_floats(enum st_dtype d, const void *bytes, int64_t count, float *out);

size_t st_dtype_bytes(enum st_dtype d);
const char *st_dtype_name(enum st_dtype d);

/* Writer: tensors are given in data order with their bytes; begin/end are computed. Data starts at a multiple of `align` in the
   file (the header is padded with spaces); the caller adds padding tensors when it wants each tensor aligned. */
struct st_item {
    const char *name;
    enum st_dtype dtype;
    int rank;
    int64_t shape[ST_RANK_MAX];
    const void *data; /* borrowed; little endian */
};
struct st_meta {
    const char *key, *value;
};

/* Writes to a temporary file beside path, syncs it, renames it over path and syncs the directory. On failure nothing is left
   behind and an old file at path is untouched. */
int st_write(const char *path, const struct st_item *items, int item_count, const struct st_meta *meta, int meta_count, int align,
             struct err *e);

#endif

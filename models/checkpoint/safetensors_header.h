// SPDX-License-Identifier: MIT
//
// safetensors_header.h - the header of a safetensors file, apart from any file: what the reader reads and the writer checks.

#ifndef MODELS_CHECKPOINT_SAFETENSORS_HEADER_H
#define MODELS_CHECKPOINT_SAFETENSORS_HEADER_H

#include "models/checkpoint/safetensors.h"

struct st_header {
    char *json;                /* names and metadata point into it */
    struct st_tensor *tensors; /* in order of offsets */
    const struct st_tensor **by_name;
    int count;
    struct st_meta *meta; /* sorted by key */
    int meta_count;
};

/* Takes json (writable, len bytes, malloc'd), also on failure. data_bytes: size of the data section. *out is written on success.
 */
int st_header_parse(char *json, size_t len, uint64_t data_bytes, struct st_header *out, struct err *e);
void st_header_free(struct st_header *h);

#endif

// SPDX-License-Identifier: MIT
//
// Any bytes as a safetensors file: refused with a reason, or every tensor can be found and read.

#include "models/checkpoint/safetensors.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/fuzz/memory_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "fuzz_safetensors: %s\n", what);
        abort();
    }
}

static void read_all(const struct st_file *f)
{
    struct err e;
    uint64_t at = 0;
    for (int i = 0; i < st_count(f); i++) {
        const struct st_tensor *t = st_get(f, i);
        require(st_find(f, t->name) == t, "a tensor is not found by its name");
        require(t->begin == at && t->end >= t->begin, "tensors do not follow each other");
        at = t->end;
        float *values = malloc((size_t)t->count * sizeof *values + 1);
        require(values != NULL, "no memory");
        require(st_read_float(f, t, values, &e) == 0, "a tensor cannot be read");
        free(values);
    }
    require(st_data_offset(f) + at == st_file_bytes(f), "the tensors do not fill the file");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct st_file *f = NULL;
    struct err e = {.text = ""};
    const char *path = memory_file(data, size, NULL);
    if (st_open(path, &f, &e) == 0)
        read_all(f);
    else
        require(f == NULL && e.text[0] != '\0', "an error without a reason");
    st_close(f);
    return 0;
}

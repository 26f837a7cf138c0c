// SPDX-License-Identifier: MIT
//
// Any bytes as a PyTorch checkpoint: refused with a reason, or every tensor can be found and read.

#include "models/checkpoint/pth.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/fuzz/memory_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "fuzz_pth: %s\n", what);
        abort();
    }
}

/* A tensor may still turn out to be damaged: its bytes carry a checksum. */
static void read_all(const struct tensors *t, size_t size)
{
    for (int i = 0; i < tensors_count(t); i++) {
        const struct tensor *tensor = tensors_get(t, i);
        struct err e = {.text = ""};
        require(tensors_find(t, tensor->name) == i, "a tensor is not found by its name");
        require(tensor->count >= 0 && (uint64_t)tensor->count <= size, "a tensor larger than the file");
        float *values = malloc((size_t)tensor->count * sizeof *values + 1);
        require(values != NULL, "no memory");
        require(tensors_read(t, i, values, &e) == 0 || e.text[0] != '\0', "an error without a reason");
        free(values);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tensors *t = NULL;
    struct err e = {.text = ""};
    const char *path = memory_file(data, size, NULL);
    if (pth_open(path, &t, &e) == 0)
        read_all(t, size);
    else
        require(t == NULL && e.text[0] != '\0', "an error without a reason");
    tensors_close(t);
    return 0;
}

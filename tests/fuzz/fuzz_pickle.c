// SPDX-License-Identifier: MIT
//
// Any bytes as a pickle: refused with a reason and a place, or every tensor in it lies inside its storage.

#include "models/checkpoint/pickle.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "fuzz_pickle: %s\n", what);
        abort();
    }
}

static void check_tensor(const struct pickle_tensor *t)
{
    int64_t count = 1, last = t->offset;
    for (int i = 0; i < t->rank; i++) {
        count *= t->shape[i];
        last += t->count ? (t->shape[i] - 1) * t->stride[i] : 0;
    }
    require(t->count == count && count <= t->storage.count, "a tensor larger than its storage");
    require(!count || (t->offset >= 0 && last < t->storage.count && t->span == last - t->offset + 1),
            "a tensor outside of its storage");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pickle *p = NULL;
    struct err e = {.text = ""};
    if (pickle_read(data, size, NULL, &p, &e) < 0) {
        require(p == NULL && e.text[0] != '\0', "an error without a reason");
        return 0;
    }
    const struct pickle_value *root = pickle_root(p);
    for (int i = 0; root->kind == PICKLE_DICT && i < root->count; i++)
        if (root->items[i]->kind == PICKLE_TENSOR)
            check_tensor(root->items[i]->tensor);
    pickle_free(p);
    return 0;
}

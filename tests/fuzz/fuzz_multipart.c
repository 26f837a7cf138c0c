// SPDX-License-Identifier: MIT
//
// fuzz_multipart.c - multipart bodies with the boundary "b", Content-Type values, and base64 text.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base64.h"
#include "daemon/multipart.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e;
    const uint8_t *file;
    size_t n;
    char boundary[71];
    if (multipart_file(data, size, "b", &file, &n, &e) == 0 && (file < data || n > size || file + n > data + size))
        abort();
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    if (multipart_boundary(text, boundary, &e) == 0 && (strlen(boundary) < 1 || strlen(boundary) > 70))
        abort();
    if (base64_decode(text, size, &n, &e) == 0 && n > size / 4 * 3)
        abort();
    free(text);
    return 0;
}

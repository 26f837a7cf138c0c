// SPDX-License-Identifier: MIT

#include "kernels/pack.h"

#include <string.h>

void pack_b(const void *w, size_t size, int cols, int depth, int nr, int kr, int depth_padded, void *panel)
{
    const char *from = w;
    char *to = panel;
    memset(to, 0, (size_t)depth_padded * (size_t)nr * size);
    for (int j = 0; j < cols; j++)
        for (int p = 0; p < depth; p++) {
            size_t at = (size_t)(p / kr) * (size_t)(nr * kr) + (size_t)(j * kr + p % kr);
            memcpy(to + at * size, from + ((size_t)j * (size_t)depth + (size_t)p) * size, size);
        }
}

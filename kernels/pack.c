// SPDX-License-Identifier: MIT

#include "kernels/pack.h"

#include <string.h>

void pack_b(const void *w, size_t size, int cols, int taps, int depth, int padded, int nr, int kr, void *panel)
{
    const char *from = w;
    char *to = panel;
    memset(to, 0, (size_t)taps * (size_t)padded * (size_t)nr * size);
    for (int j = 0; j < cols; j++)
        for (int tap = 0; tap < taps; tap++)
            for (int p = 0; p < depth; p += kr, from += (size_t)kr * size) {
                const int k = tap * padded + p, count = depth - p < kr ? depth - p : kr;
                const size_t at = (size_t)(k / kr) * (size_t)(nr * kr) + (size_t)(j * kr);
                memcpy(to + at * size, from, (size_t)count * size);
                from -= (size_t)(kr - count) * size;
            }
}

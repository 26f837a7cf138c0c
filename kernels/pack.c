// SPDX-License-Identifier: MIT

#include "kernels/pack.h"

#include <string.h>

/* Depths outside, columns inside: writes are sequential, and each column's reads stay in a cache line of its own. */
void pack_b(const void *w, size_t size, int cols, int taps, int depth, int padded, int nr, int kr, void *panel)
{
    const size_t column = (size_t)taps * (size_t)depth * size, step = (size_t)kr * size;
    char *to = panel;
    memset(to, 0, (size_t)taps * (size_t)padded * (size_t)nr * size);
    for (int tap = 0; tap < taps; tap++)
        for (int p = 0; p < padded; p += kr, to += (size_t)nr * step) {
            const char *from = (const char *)w + ((size_t)tap * (size_t)depth + (size_t)p) * size;
            if (p + kr <= depth && step == 4) { /* the usual case: four bytes at a time */
                for (int j = 0; j < cols; j++, from += column)
                    memcpy(to + 4 * j, from, 4);
            } else if (p < depth) {
                const size_t count = (size_t)(depth - p < kr ? depth - p : kr) * size;
                for (int j = 0; j < cols; j++, from += column)
                    memcpy(to + (size_t)j * step, from, count);
            }
        }
}

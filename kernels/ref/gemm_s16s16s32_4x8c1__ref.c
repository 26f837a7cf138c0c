// SPDX-License-Identifier: MIT
//
// The int16 tile in plain C. Products fit into 32 bits; their sums wrap around, so they are unsigned.

#include <string.h>

#include "kernels/tiles.h"

void gemm_s16s16s32_4x8c1__ref(int channels, const int16_t *a, int count, const int16_t *b, int32_t *tile)
{
    uint32_t acc[4][8] = {{0}};
    (void)count;
    for (int p = 0; p < channels; p++, a++, b += 8)
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 8; j++)
                acc[i][j] += (uint32_t)(a[i * channels] * b[j]);
    memcpy(tile, acc, sizeof acc);
}

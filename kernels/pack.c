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

/* The A_S16 form with kr = 2 and the int8 forms with any kr are the ones in use; each loop below is one of them. */
void pack_a_s8(const int8_t *line, int i, int depth, const struct gemm_s8 *g, int depth_padded, void *panel)
{
    const int kr = g->kr, step = g->mr * kr;
    if (g->a_form == A_S16) {
        int16_t *to = (int16_t *)panel + i * kr;
        int p = 0;
        for (; p + kr <= depth; p += kr, to += step)
            for (int q = 0; q < kr; q++)
                to[q] = line[p + q];
        for (; p < depth_padded; p += kr, to += step)
            for (int q = 0; q < kr; q++)
                to[q] = p + q < depth ? line[p + q] : 0;
        return;
    }
    const int flip = g->a_form == A_U8 ? 0x80 : 0;
    int8_t *to = (int8_t *)panel + i * kr;
    int p = 0;
    for (; p + kr <= depth; p += kr, to += step)
        for (int q = 0; q < kr; q++)
            to[q] = (int8_t)(line[p + q] ^ flip);
    for (; p < depth_padded; p += kr, to += step)
        for (int q = 0; q < kr; q++)
            to[q] = p + q < depth ? (int8_t)(line[p + q] ^ flip) : 0;
}

void pack_a_s8_empty(int i, const struct gemm_s8 *g, int depth_padded, void *panel)
{
    pack_a_s8(NULL, i, 0, g, depth_padded, panel);
}

void pack_a_f32(const float *line, int i, int depth, int mr, float *panel)
{
    float *to = panel + i;
    for (int p = 0; p < depth; p++, to += mr)
        *to = line[p];
}

void pack_a_f32_empty(int i, int depth, int mr, float *panel)
{
    float *to = panel + i;
    for (int p = 0; p < depth; p++, to += mr)
        *to = 0;
}

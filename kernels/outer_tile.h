// SPDX-License-Identifier: MIT
//
// outer_tile.h - tiles of sums of outer products, written once: the file that includes it defines the vector type VF of LANES
// floats, SET1, LOAD, STORE and FMA, and names the tiles. Without them it is empty.

#ifndef KERNELS_OUTER_TILE_H
#define KERNELS_OUTER_TILE_H

#include "kernels/tiles.h"

#ifdef LANES
static inline __attribute__((always_inline)) void outer_tile(const int mr, const int nv, const struct outer_block *o)
{
    VF acc[24][4];
    float *c = o->c;
#pragma GCC unroll 24
    for (int i = 0; i < mr; i++)
#pragma GCC unroll 4
        for (int j = 0; j < nv; j++)
            acc[i][j] = SET1(0);
    for (int line = 0; line < o->lines; line++) {
        const float *a = o->a + line * o->a_line, *b = o->b + line * o->b_line;
        for (int p = 0; p < o->n; p++, a += o->a_step, b += o->b_step) {
            VF vb[4];
#pragma GCC unroll 4
            for (int j = 0; j < nv; j++)
                vb[j] = LOAD(b + j * LANES);
#pragma GCC unroll 24
            for (int i = 0; i < mr; i++) {
                const VF va = SET1(a[i]);
#pragma GCC unroll 4
                for (int j = 0; j < nv; j++)
                    acc[i][j] = FMA(va, vb[j], acc[i][j]);
            }
        }
    }
#pragma GCC unroll 24
    for (int i = 0; i < mr; i++, c += o->ldc) {
        if (i >= o->rows)
            break;
#pragma GCC unroll 4
        for (int j = 0; j < nv; j++)
            STORE(c + j * LANES, o->more ? ADD(LOAD(c + j * LANES), acc[i][j]) : acc[i][j]);
    }
}
#endif

#endif

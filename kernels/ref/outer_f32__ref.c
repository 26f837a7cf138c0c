// SPDX-License-Identifier: MIT

#define VF           float
#define LANES        1
#define SET1(x)      (x)
#define LOAD(p)      (*(p))
#define STORE(p, x)  (*(p) = (x))
#define ADD(x, y)    ((x) + (y))
#define FMA(x, y, z) ((x) * (y) + (z))
#include "kernels/outer_tile.h"

void outer_f32_4x4__ref(const struct outer_block *o)
{
    outer_tile(4, 4, o);
}

// SPDX-License-Identifier: MIT

#include <immintrin.h>

#define VF    __m512
#define LANES 16
#define SET1  _mm512_set1_ps
#define LOAD  _mm512_loadu_ps
#define STORE _mm512_storeu_ps
#define ADD   _mm512_add_ps
#define FMA   _mm512_fmadd_ps
#include "kernels/outer_tile.h"

void outer_f32_24x16__avx512(const struct outer_block *o)
{
    outer_tile(24, 1, o);
}

void outer_f32_16x16__avx512(const struct outer_block *o)
{
    outer_tile(16, 1, o);
}

void outer_f32_12x32__avx512(const struct outer_block *o)
{
    outer_tile(12, 2, o);
}

void outer_f32_8x32__avx512(const struct outer_block *o)
{
    outer_tile(8, 2, o);
}

void outer_f32_6x64__avx512(const struct outer_block *o)
{
    outer_tile(6, 4, o);
}

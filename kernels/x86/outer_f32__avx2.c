// SPDX-License-Identifier: MIT

#include <immintrin.h>

#define VF    __m256
#define LANES 8
#define SET1  _mm256_set1_ps
#define LOAD  _mm256_loadu_ps
#define STORE _mm256_storeu_ps
#define ADD   _mm256_add_ps
#define FMA   _mm256_fmadd_ps
#include "kernels/outer_tile.h"

void outer_f32_6x16__avx2(const struct outer_block *o)
{
    outer_tile(6, 2, o);
}

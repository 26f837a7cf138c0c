// SPDX-License-Identifier: MIT
//
// tiles.h - private to kernels/: what a tile is, and the prototypes of all of them.
//
// A tile multiplies one panel of A (mr output pixels) with one panel of B (nr output channels): whole tiles only, no edges, no
// policy. Edges live in conv.c. Names: operation, types of A B C, rows x columns of the tile, c = depths kept side by side,
// two underscores, instruction set. `depth` counts k elements and is a multiple of ku.
//
// The loops over a tile's rows carry `#pragma GCC unroll`: at -O2, with which distributions build, they would otherwise stay loops
// and keep the accumulators in memory.
//
//     A panel: [depth/kr][mr][kr]    B panel: [depth/kr][nr][kr]    tile: [mr][nr]

#ifndef KERNELS_TILES_H
#define KERNELS_TILES_H

#include <stddef.h>
#include <stdint.h>

#define TILE_MR_MAX 16
#define TILE_NR_MAX 64

/* How the bytes of A lie in its panel; conv.c puts what U8 adds back into the bias. */
enum a_form {
    A_S8,
    A_S16, /* widened while packing, for multipliers without an int8 form */
    A_U8   /* q + 128, for unsigned x signed multipliers */
};

/* Requantisation of one tile: `cols` channels from column 0 of every array. residual NULL: none. The clamp is done in
   float before rounding, relative to the zero point: that equals clamping afterwards, because the bounds are integers, and no
   conversion can overflow. */
struct store_s8 {
    const int32_t *bias;
    const float *mult;          /* in.scale * weight scale / out.scale */
    const int8_t *residual;     /* [rows], ld apart */
    float residual_mult;
    int residual_zero;
    int zero;
    float lo, hi;               /* -128 - zero (0 with ReLU), 127 - zero */
    int8_t *y;
    ptrdiff_t ld;               /* elements between output pixels */
};

struct gemm_s8 {
    int mr, nr, kr, ku;
    enum a_form a_form;
    void (*tile)(int depth, const void *a, const int8_t *b, int32_t *tile);
    void (*store)(const struct store_s8 *s, const int32_t *tile, int nr, int rows, int cols);
};

/* Float tiles read A as float [depth][mr]; B [depth][nr] is float, half or int8, widened in registers. Sums in float, k rising. */
struct gemm_f32 {
    int mr, nr;
    void (*tile_f32)(int depth, const float *a, const float *b, float *tile);
    void (*tile_f16)(int depth, const float *a, const uint16_t *b, float *tile);
    void (*tile_s8)(int depth, const float *a, const int8_t *b, float *tile);
    void (*widen)(size_t n, const uint16_t *x, float *y);  /* half -> float */
    void (*narrow)(size_t n, const float *x, uint16_t *y); /* float -> half, round to nearest even */
};

/* ref/ */
void gemm_s8s8s32_4x8c4__ref(int depth, const void *a, const int8_t *b, int32_t *tile);
void store_s8__ref(const struct store_s8 *s, const int32_t *tile, int nr, int rows, int cols);
void gemm_f32f32_4x8__ref(int depth, const float *a, const float *b, float *tile);
void gemm_f32f16_4x8__ref(int depth, const float *a, const uint16_t *b, float *tile);
void gemm_f32s8_4x8__ref(int depth, const float *a, const int8_t *b, float *tile);
void widen__ref(size_t n, const uint16_t *x, float *y);
void narrow__ref(size_t n, const float *x, uint16_t *y);

/* x86/ */
void gemm_s16s8s32_6x16c2__avx2(int depth, const void *a, const int8_t *b, int32_t *tile);
void store_s8__avx2(const struct store_s8 *s, const int32_t *tile, int nr, int rows, int cols);
void gemm_f32f32_6x16__avx2(int depth, const float *a, const float *b, float *tile);
void gemm_f32f16_6x16__avx2(int depth, const float *a, const uint16_t *b, float *tile);
void gemm_f32s8_6x16__avx2(int depth, const float *a, const int8_t *b, float *tile);
void widen__avx2(size_t n, const uint16_t *x, float *y);
void narrow__avx2(size_t n, const float *x, uint16_t *y);

/* arm/ */
void gemm_s8s8s32_4x8c2__neon(int depth, const void *a, const int8_t *b, int32_t *tile);
void store_s8__neon(const struct store_s8 *s, const int32_t *tile, int nr, int rows, int cols);
void gemm_f32f32_6x16__neon(int depth, const float *a, const float *b, float *tile);
void gemm_f32f16_6x16__neon(int depth, const float *a, const uint16_t *b, float *tile);
void gemm_f32s8_6x16__neon(int depth, const float *a, const int8_t *b, float *tile);
void widen__neon(size_t n, const uint16_t *x, float *y);
void narrow__neon(size_t n, const float *x, uint16_t *y);

#endif

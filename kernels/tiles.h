// SPDX-License-Identifier: MIT
//
// tiles.h - private to kernels/: what a tile is, and the prototypes of all of them.
//
// A tile multiplies mr rows of A (output pixels) with one panel of B (nr output channels): whole tiles only, no edges, no policy.
// Edges live in conv.c. Names: operation, types of A B C, rows x columns of the tile, c = depths kept side by side, two
// underscores, instruction set.
//
// A is not packed: for each of `taps` places under the kernel and each row there is a pointer to `channels` elements that lie
// together, in the tensor itself wherever that is possible (rows.h). channels is a multiple of ku; exactly that many are read.
// Fused tiles skip a tap whose first pointer is NULL.
//
//     rows: [taps][mr]    B panel: [taps][channels/kr][nr][kr]    tile: [mr][nr]
//
// The loops over a tile's rows carry `#pragma GCC unroll`: at -O2, with which distributions build, they would otherwise stay
// loops and keep the accumulators in memory.

#ifndef KERNELS_TILES_H
#define KERNELS_TILES_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/channels.h"

/* What the rows of an int8 tile hold; conv.c takes what U8 adds out of the bias. */
enum a_form {
    A_S8,
    A_S16, /* int16_t, for multipliers without an int8 form */
    A_U8   /* q + 128, for unsigned x signed multipliers */
};

/* Requantisation of one tile: `cols` channels from column 0 of every array. residual NULL: none. The clamp is done in
   float before rounding, relative to the zero point: that equals clamping afterwards, because the bounds are integers, and no
   conversion can overflow. */
struct store_s8 {
    const int32_t *bias;
    const float *mult;      /* in.scale * weight scale / out.scale */
    const int8_t *residual; /* [rows], ld apart */
    float residual_mult;
    int residual_zero;
    int zero;
    float lo, hi; /* -128 - zero (0 with ReLU), 127 - zero */
    int8_t *y;
    ptrdiff_t ld;  /* elements between output pixels */
    int32_t *sums; /* not NULL: write sum + bias here as [mr][nr] and nothing else; fused tiles only */
};

/* One width of tile; several of a row of the table differ in mr and nr and share kr, ku and a_form. Either tile and store, by way
   of a tile in the first cache level, or fused, which requantises `count` rows of `cols` columns in registers. */
struct gemm_s8 {
    int mr, nr, kr, ku;
    enum a_form a_form;
    void (*tile)(int taps, int channels, const void *const *rows, const int8_t *b, int32_t *tile);
    void (*store)(const struct store_s8 *s, const int32_t *tile, int nr, int rows, int cols);
    void (*fused)(int taps, int channels, const void *const *rows, const int8_t *b, const struct store_s8 *s, int count,
                  int cols);
};

/* int16 x int16, for Winograd's transformed integers: rows are [mr][channels], the panel [channels/kr][nr][kr], channels is a multiple
   of 16 and of ku, which is what transforms and tile take at once. The sums wrap around: they are exact modulo 2^32. Only the first `count` rows are wanted, but all mr may be read and written. */
struct gemm_s16 {
    int mr, nr, kr, ku;
    void (*tile)(int channels, const int16_t *a, int count, const int16_t *b, int32_t *tile);
    void (*store)(const struct store_s8 *s, const int32_t *tile, int nr, int rows, int cols);
};

/* What becomes of the sums of a float tile: y = sum * mult + bias, + residual unless NULL, ReLU; each operation rounded once. y
   and residual are float, in fp16 half; [rows], ld elements apart. */
struct store_f32 {
    const float *mult, *bias;
    const void *residual;
    int relu;
    void *y;
    ptrdiff_t ld;
};

typedef void fused_f32(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s, int count,
                       int cols);

/* The longest run of products that is summed in half. A tile of half arithmetic adds its sums to sums in float, and starts again
   at zero, at every multiple of this many steps of a panel (kr depths each), counted through all taps, skipped ones too. conv.c
   scales each column of the panel by a power of two such that within these runs no sum exceeds the largest activation (pack.h):
   whatever the input, nothing overflows. mult takes the scale out again. */
#define HALF_RUN 128

/* Rows are float; B is float, half or int8, widened in registers; kr = ku = 1. Sums in float, k rising.
   With half_ku, rows and B are halves that are multiplied and summed in half, each multiply-add rounded once, k rising; ku =
   half_ku. Of the kr = half_kr depths that lie side by side, each has sums of its own, in half and in float; they are added in
   rising order at the end. Such a tile has tile_f16 or fused[PRECISION_FP16] only. */
struct gemm_f32 {
    int mr, nr;
    void (*tile_f32)(int taps, int channels, const void *const *rows, const float *b, float *tile);
    void (*tile_f16)(int taps, int channels, const void *const *rows, const uint16_t *b, float *tile);
    void (*tile_s8)(int taps, int channels, const void *const *rows, const int8_t *b, float *tile);
    fused_f32 *fused[3]; /* instead of the tiles above, by enum precision: fp32, fp16, hybrid */
    int half_ku, half_kr; /* 0: not of half arithmetic */
};

/* The transforms around Winograd's products (winograd.h): of the 6x6 pixels of an input tile into element xi * stride of v, and of
   the products m into 4x4 pixels [16][nr]. channels is a multiple of 16, in int8 of the tile's ku; nr is the tile's. */
struct winograd_ops {
    /* output tiles of an image from which it pays; with weights transformed on the way, in float and in int8 */
    int least_tiles, least_tiles_on_the_way, least_tiles_on_the_way_s8;
    void (*input_s8)(const void *const *pixels, int zero, int channels, int16_t *v, ptrdiff_t stride);
    void (*output_s32)(const int32_t *m, ptrdiff_t stride, int nr, int32_t *y);
    void (*input_f32)(const void *const *pixels, int channels, float *v, ptrdiff_t stride);
    void (*input_f16)(const void *const *pixels, int channels, float *v, ptrdiff_t stride);
    void (*output_f32)(const float *m, ptrdiff_t stride, int nr, float *y);
    /* Line i of the 6x6 transformed weights, u[6][n], from those under the kernel, g[9][n]; the float ones by enum precision:
       floats, halves, int8. */
    void (*weights[3])(int i, int n, const void *g, float *u);
    void (*weights_s16)(int i, int n, const void *g, int16_t *u);
    /* For gradients of weights: of 4x4 pixels of dy into 36; and of their products with the inputs, u [36][n], into 3x3 that are
       added to g [9][n] times WINOGRAD_SCALE, or, without `more`, become it. */
    void (*gradient_f32)(const void *const *pixels, int channels, float *v, ptrdiff_t stride);
    void (*to_weights_f32)(const float *u, ptrdiff_t stride, int n, int more, float *g, ptrdiff_t g_stride);
};

/* A sum of outer products: c[i][j] = sum over lines and their n steps of a[i] b[j], added to what is there with `more`. All mr
   of a are read, and of c `rows` are written. */
struct outer_block {
    int lines, n;
    const float *a, *b;
    ptrdiff_t a_line, a_step, b_line, b_step; /* elements from line to line, from step to step */
    float *c;
    ptrdiff_t ldc;
    int rows, more;
};
struct outer_f32 {
    int mr, nr;
    void (*tile)(const struct outer_block *o);
};

/* Everything else that wants vectors. */
struct vector_ops {
    void (*widen)(size_t n, const uint16_t *x, float *y);    /* half -> float */
    void (*narrow)(size_t n, const float *x, uint16_t *y);   /* float -> half, round to nearest even */
    void (*s8_to_u8)(size_t n, const int8_t *x, uint8_t *y); /* q + 128 */
    void (*s8_to_s16)(size_t n, const int8_t *x, int16_t *y);
    /* y = x * mult + bias, + add unless NULL, ReLU: each operation rounded once */
    void (*finish)(size_t n, const float *x, const float *mult, const float *bias, const float *add, int relu, float *y);
    void (*max_s8)(size_t n, const int8_t *x, int8_t *y); /* y = max(x, y) */
    void (*max_f32)(size_t n, const float *x, float *y);
    void (*sum_s8)(size_t n, const int8_t *x, int32_t *y); /* y += x */
};

#define MR_MAX 16 /* no float tile has more rows */

/* ref/ */
void gemm_s8s8s32_4x8c4__ref(int taps, int channels, const void *const *rows, const int8_t *b, int32_t *tile);
void store_s8__ref(const struct store_s8 *s, const int32_t *tile, int nr, int rows, int cols);
void store_s8_rest__ref(const struct store_s8 *s, const int32_t *tile, int nr, int rows, int cols,
                        int from); /* from column `from` on */
void gemm_f32f32_4x8__ref(int taps, int channels, const void *const *rows, const float *b, float *tile);
void gemm_f32f16_4x8__ref(int taps, int channels, const void *const *rows, const uint16_t *b, float *tile);
void gemm_f32s8_4x8__ref(int taps, int channels, const void *const *rows, const int8_t *b, float *tile);
void gemm_f16f16_4x8__ref(int taps, int channels, const void *const *rows, const uint16_t *b, float *tile);
void gemm_f16f16_4x8c2__ref(int taps, int channels, const void *const *rows, const uint16_t *b, float *tile);
void gemm_s16s16s32_4x8c1__ref(int channels, const int16_t *a, int count, const int16_t *b, int32_t *tile);
extern const struct vector_ops vector_ops__ref;
extern const struct winograd_ops winograd_ops__ref;
extern const struct channel_ops channel_ops__ref;
void outer_f32_4x4__ref(const struct outer_block *o);

/* x86/ */
void gemm_s16s8s32_6x16c2__avx2(int taps, int channels, const void *const *rows, const int8_t *b, int32_t *tile);
void store_s8__avx2(const struct store_s8 *s, const int32_t *tile, int nr, int rows, int cols);
void gemm_f32f32_6x16__avx2(int taps, int channels, const void *const *rows, const float *b, float *tile);
void gemm_f32f16_6x16__avx2(int taps, int channels, const void *const *rows, const uint16_t *b, float *tile);
void gemm_f32s8_6x16__avx2(int taps, int channels, const void *const *rows, const int8_t *b, float *tile);
extern const struct vector_ops vector_ops__avx2;
void gemm_s16s16s32_6x16c2__avx2(int channels, const int16_t *a, int count, const int16_t *b, int32_t *tile);
extern const struct winograd_ops winograd_ops__avx2;
extern const struct channel_ops channel_ops__avx2;
void outer_f32_6x16__avx2(const struct outer_block *o);
void gemm_s16s16s32_14x32c2__avx512_vnni(int channels, const int16_t *a, int count, const int16_t *b, int32_t *tile);
void gemm_s16s16s32_14x16c2__avx512_vnni(int channels, const int16_t *a, int count, const int16_t *b, int32_t *tile);
extern const struct winograd_ops winograd_ops__avx512;
extern const struct channel_ops channel_ops__avx512;
void outer_f32_24x16__avx512(const struct outer_block *o);
void outer_f32_16x16__avx512(const struct outer_block *o);
void outer_f32_12x32__avx512(const struct outer_block *o);
void outer_f32_8x32__avx512(const struct outer_block *o);
void outer_f32_6x64__avx512(const struct outer_block *o);
void store_s8__avx512(const struct store_s8 *s, const int32_t *tile, int nr, int rows, int cols);
void gemm_u8s8s8_6x64c4__avx512_vnni(int taps, int channels, const void *const *rows, const int8_t *b, const struct store_s8 *s,
                                     int count, int cols);
void gemm_u8s8s8_7x48c4__avx512_vnni(int taps, int channels, const void *const *rows, const int8_t *b, const struct store_s8 *s,
                                     int count, int cols);
void gemm_u8s8s8_14x32c4__avx512_vnni(int taps, int channels, const void *const *rows, const int8_t *b, const struct store_s8 *s,
                                      int count, int cols);
void gemm_u8s8s8_14x16c4__avx512_vnni(int taps, int channels, const void *const *rows, const int8_t *b, const struct store_s8 *s,
                                      int count, int cols);
void gemm_u8s8s8_1x64c4__avx512_vnni(int taps, int channels, const void *const *rows, const int8_t *b, const struct store_s8 *s,
                                     int count, int cols);
void gemm_u8s8s8_6x16c4__avx_vnni(int taps, int channels, const void *const *rows, const int8_t *b, const struct store_s8 *s, int count,
                                  int cols);
void gemm_u8s8s8_1x64c4__avx_vnni(int taps, int channels, const void *const *rows, const int8_t *b, const struct store_s8 *s, int count,
                                  int cols);
void gemm_f32f32_6x64__avx512(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s,
                              int count, int cols);
void gemm_f32f16_6x64__avx512(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s,
                              int count, int cols);
void gemm_f32s8_6x64__avx512(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s, int count,
                             int cols);
void gemm_f32f32_7x48__avx512(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s,
                              int count, int cols);
void gemm_f32f16_7x48__avx512(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s,
                              int count, int cols);
void gemm_f32s8_7x48__avx512(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s,
                              int count, int cols);
void gemm_f32f32_14x32__avx512(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s,
                               int count, int cols);
void gemm_f32f16_14x32__avx512(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s,
                               int count, int cols);
void gemm_f32s8_14x32__avx512(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s,
                              int count, int cols);
void gemm_f32f32_14x16__avx512(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s,
                               int count, int cols);
void gemm_f32f16_14x16__avx512(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s,
                               int count, int cols);
void gemm_f32s8_14x16__avx512(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s,
                              int count, int cols);
void gemm_f32f32_1x64__avx512(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s,
                              int count, int cols);
void gemm_f32f16_1x64__avx512(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s,
                              int count, int cols);
void gemm_f32s8_1x64__avx512(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s, int count,
                             int cols);
void gemm_f16f16_6x64c2__avx512_fp16(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s,
                                     int count, int cols);
void gemm_f16f16_7x48c2__avx512_fp16(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s,
                                     int count, int cols);
void gemm_f16f16_14x32c2__avx512_fp16(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s,
                                      int count, int cols);
void gemm_f16f16_14x16c2__avx512_fp16(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s,
                                      int count, int cols);
void gemm_f16f16_1x64c2__avx512_fp16(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s,
                                     int count, int cols);

/* arm/ */
void gemm_s8s8s32_4x8c16__neon(int taps, int channels, const void *const *rows, const int8_t *b, int32_t *tile);
void gemm_s8s8s32_4x8c16__neon_a53(int taps, int channels, const void *const *rows, const int8_t *b, int32_t *tile);
void store_s8__neon(const struct store_s8 *s, const int32_t *tile, int nr, int rows, int cols);
void gemm_f32f32_8x8__neon(int taps, int channels, const void *const *rows, const float *b, float *tile);
void gemm_f32f16_8x8__neon(int taps, int channels, const void *const *rows, const uint16_t *b, float *tile);
void gemm_f32s8_8x8__neon(int taps, int channels, const void *const *rows, const int8_t *b, float *tile);
extern const struct vector_ops vector_ops__neon;
void outer_f32_8x8__neon(const struct outer_block *o);
void gemm_s16s16s32_8x8__neon(int channels, const int16_t *a, int count, const int16_t *b, int32_t *tile);
void gemm_f16f16_8x16__neon_half(int taps, int channels, const void *const *rows, const void *b, const struct store_f32 *s,
                                 int count, int cols);
void gemm_s8s8s32_5x16c4__neon_dot(int taps, int channels, const void *const *rows, const int8_t *b, int32_t *tile);
void gemm_s8s8s32_8x8c4__neon_dot(int taps, int channels, const void *const *rows, const int8_t *b, int32_t *tile);
void gemm_s8s8s32_4x16c8__neon_i8mm(int taps, int channels, const void *const *rows, const int8_t *b, int32_t *tile);

#endif

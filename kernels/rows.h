// SPDX-License-Identifier: MIT
//
// rows.h - the rows of A that tiles read: pointers to the inputs under the kernel, without an im2col matrix in memory.
//
// Three ways, chosen when a convolution is packed:
//     in place   every tap of every row is a piece of the input tensor, or of a row of zeros where it lies in the padding
//     band       the same, on a copy of the input's pixels that this strip reads, as q + 128 (rows of A_U8)
//     lines      each row is gathered into one line of scratch: where elements need widening, and where a tap has too few channels
//                or an odd number (the first layer's 3): then all taps of a row become one piece

#ifndef KERNELS_ROWS_H
#define KERNELS_ROWS_H

#include "kernels/conv.h"
#include "kernels/tiles.h"

enum rows_way { ROWS_IN_PLACE, ROWS_BAND, ROWS_LINES };
enum rows_type { ROWS_S8, ROWS_U8, ROWS_S16, ROWS_F32, ROWS_F32_FROM_F16 };

struct rows {
    struct conv_shape s;
    const struct vector_ops *ops;
    enum rows_way way;
    enum rows_type type;
    int mr;
    int taps, channels;  /* of what a tile gets: 1 tap of the whole padded depth for lines */
    int zero;            /* the input's zero point, int8 */
    int strip;           /* rows prepared at a time, a multiple of mr */
    size_t band_bytes, line_bytes;
};

/* way, taps, channels and strip for a shape; ku: channels of a tap must be a multiple of it. */
void rows_init(struct rows *r, const struct conv_shape *s, const struct vector_ops *ops, enum rows_type type, int mr, int ku, int zero);

size_t rows_scratch_bytes(const struct rows *r);

/* Pointers for `count` (<= strip) rows from row m of a group: [block][taps][mr], block by block of mr rows, valid until the next
   call with this scratch. Rows beyond count repeat an existing one. */
const void *const *rows_prepare(const struct rows *r, const void *x, int group, int m, int count, void *scratch);

#endif

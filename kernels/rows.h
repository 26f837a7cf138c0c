// SPDX-License-Identifier: MIT
//
// rows.h - the rows of A that tiles read: pointers to the inputs under the kernel, without an im2col matrix in memory.
//
// In place, every tap of every row is a piece of the input tensor, or of a row of zeros where it lies in the padding.
//
// Where elements need another type, or a tap has a number of channels that tiles cannot read (the first layer's 3), the part of the
// image that a strip reads is copied into a band: converted, with its padding, only one group's channels. In it a whole line of the
// kernel lies together and becomes one tap; each input is touched once per strip instead of once per tap.
//
// A tap that lies above or below the image for all rows of a tile can be skipped where padding adds nothing to the sums: on a 7x7
// image under a 3x3 kernel that is a tenth of the work.

#ifndef KERNELS_ROWS_H
#define KERNELS_ROWS_H

#include "kernels/conv.h"
#include "kernels/tiles.h"

enum rows_type { ROWS_S8, ROWS_U8, ROWS_S16, ROWS_F16, ROWS_F32, ROWS_F32_FROM_F16 };

struct rows {
    struct conv_shape s;
    const struct vector_ops *ops;
    enum rows_type type;
    int in_place;
    int mr;
    int taps, channels;    /* of what a tile gets; on a band, channels is padded to what the tile reads at once */
    int zero;              /* the input's zero point, int8 */
    int skip_padding;      /* the caller's: tiles understand NULL, and padding is zeros */
    int strip;             /* rows prepared at a time, a multiple of mr */
    int step_h, step_w;    /* inputs between neighbours in the band: a 1x1 kernel's stride is taken while copying */
    int stride_h, stride_w, band_w; /* of the output on the band, and its width, in pixels of the band */
    size_t band_bytes;
};

/* ku: channels of a tap must be a multiple of it. */
void rows_init(struct rows *r, const struct conv_shape *s, const struct vector_ops *ops, enum rows_type type, int mr, int ku, int zero);

/* Depths of one tap that exist; weights beyond them are zero. */
int rows_tap_depth(const struct rows *r);

/* Whether padding is all zeros in this type of row, so that skip_padding may be set. */
int rows_padding_is_zero(const struct rows *r);

/* Share of the taps that tiles of mr rows may skip. */
double rows_skipped(const struct conv_shape *s, int mr);

size_t rows_scratch_bytes(const struct rows *r);

/* Pointers for `count` (<= strip) rows from row m of a group: [block][taps][mr], block by block of mr rows, valid until the next
   call with this scratch. Rows beyond count repeat an existing one. With skip_padding, the first pointer of a tap that is to be
   skipped is NULL. */
const void *const *rows_prepare(const struct rows *r, const void *x, int group, int m, int count, void *scratch);

#endif

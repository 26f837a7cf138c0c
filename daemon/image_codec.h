// SPDX-License-Identifier: MIT
//
// image_codec.h - private to image*.c and to estimate.c, which foretells them: one function per format, and what the formats
// share.
//
// A decoder learns size and orientation from the header, checks them, takes the pixels with image_begin, and hands over its rows
// in file order with image_put_rows, which turns them upright on the way: no second copy of the image exists.

#ifndef DAEMON_IMAGE_CODEC_H
#define DAEMON_IMAGE_CODEC_H

#include "daemon/image.h"

#define IMAGE_BAND 16 /* rows handed over at a time: a turned image is written in runs of that many pixels */

/* 0, or -1 with ERR_DAMAGED for a side of 0 and ERR_TOO_LARGE beyond the limits. */
int image_check_size(int64_t width, int64_t height, const struct image_limits *limits, struct err *e);

/* 0, or -1 with ERR_TOO_LARGE when the time for decoding is over. To be asked every few rows. */
int image_check_time(const struct image_limits *limits, struct err *e);

/* Takes i->rgb for decoded rows of w x h and sets i->width and i->height, sides exchanged as i->orientation says. */
int image_begin(struct image *i, int w, int h, struct err *e);

/* Rows y .. y+n-1 of the file's order, [n][w][3], stride bytes apart. */
void image_put_rows(struct image *i, int y, int n, const uint8_t *rows, size_t stride);

/* In place: n pixels RGBA -> n pixels RGB, laid over black. */
void image_over_black(uint8_t *pixels, size_t n);

/* The formats. They fill *out, whose format is set and the rest 0; on failure the caller frees what it holds. */
int image_jpeg(const uint8_t *bytes, size_t size, const struct image_limits *limits, const struct preprocess *want,
               struct image *out, struct err *e);
int image_png(const uint8_t *bytes, size_t size, const struct image_limits *limits, struct image *out, struct err *e);
int image_webp(const uint8_t *bytes, size_t size, const struct image_limits *limits, struct image *out, struct err *e);

#endif

// SPDX-License-Identifier: MIT
//
// make_image.h - encoded images for tests, made by the encoders of the libraries that decode them.
//
// Every picture shows the same pattern: smooth, so that lossy formats keep it within a few steps, and without symmetry, so that a
// wrong turn shows. A failure of an encoder ends the test.

#ifndef TESTS_MAKE_IMAGE_H
#define TESTS_MAKE_IMAGE_H

#include <stddef.h>
#include <stdint.h>

struct bytes {
    uint8_t *data; /* exactly size bytes, so that a sanitizer sees the first read past them; free() */
    size_t size;
};

/* Channel c of pixel (x, y) of a w x h pattern; channel 3 is the alpha (or the black). */
uint8_t pattern(int x, int y, int w, int h, int c);

struct jpeg_kind {
    int components;  /* 1 gray, 2 without meaning, 3 YCbCr, 4 CMYK, 5 YCCK */
    int progressive; /* 1: the usual scans */
    int scans;       /* > 0: so many scans, at least 2 */
    int arithmetic;  /* only where make_jpeg_arithmetic says so */
    int flat;        /* gray 128 everywhere: cheap for large sizes */
    const uint8_t *app1;
    size_t app1_size;
};
struct bytes make_jpeg(int w, int h, const struct jpeg_kind *kind);
int make_jpeg_arithmetic(void); /* 1: this libjpeg writes arithmetic coding */

/* "Exif\0\0" and a block with that orientation; the TIFF block starts at EXIF_TIFF. */
#define EXIF_TIFF 6
struct bytes make_exif(int big_endian, int orientation);

/* type: of png.h; trns: the first palette entry, or gray or red 0, is transparent; orientation 0: no eXIf. */
struct bytes make_png(int w, int h, int type, int depth, int interlaced, int trns, int orientation);
/* What a decoder must find in channel c of that image, laid over black, as 8 bits. */
uint8_t png_expected(int x, int y, int w, int h, int type, int depth, int trns, int c);

struct bytes make_webp(int w, int h, int alpha, int lossless, int orientation);
/* The headers of an animation, without frames. */
struct bytes make_webp_animation(void);

#endif

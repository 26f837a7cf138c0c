// SPDX-License-Identifier: MIT
//
// image.h - encoded bytes -> RGB pixels, within limits: recognise by content, decode, orient, convert.
//
// libjpeg's longjmp and every decoder's own memory end in here. Limits are checked before memory is taken. Warnings of a decoder
// are errors unless the limits say otherwise: a half-grey image would be a silently wrong prediction.

#ifndef DAEMON_IMAGE_H
#define DAEMON_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "models/err.h"
#include "models/preprocess.h"

struct image_limits {
    int width, height; /* of the encoded image */
    int64_t pixels;
    int scans;            /* of a progressive JPEG */
    size_t decoder_bytes; /* memory a decoder may take beside the pixels it returns */
    int lenient;          /* 1: decoder warnings are counted, not errors */
    int64_t deadline_ms;  /* of clock_ms(), after which JPEG and PNG are given up; 0: none. WebP is over in seconds */
};
extern const struct image_limits image_limits_default; /* 16384 x 16384, 50 million pixels, 100 scans, 256 MiB, strict */

enum image_format { IMAGE_UNKNOWN, IMAGE_JPEG, IMAGE_PNG, IMAGE_WEBP };

struct image {
    uint8_t *rgb;      /* [height][width][3], upright; owned: image_free */
    int width, height; /* as decoded: scaled decoding may make them smaller than the file's */
    enum image_format format;
    int file_width, file_height; /* as the file states them, before orientation */
    int orientation;             /* EXIF 1..8; 1 when absent or damaged; already applied to rgb */
    int warnings;                /* of the decoder: not 0 only with limits.lenient */
};

/* By the first bytes alone. */
enum image_format image_recognise(const uint8_t *bytes, size_t size);
const char *image_format_name(enum image_format f); /* "jpeg" ... */

/* Decodes. want: preprocessing whose resize allows scaled decoding (JPEG at 1/2, 1/4, 1/8, never below the resize target), or
   NULL for full size. What follows the end of the image is ignored. Gray, CMYK and YCCK become RGB as in Pillow, alpha is laid
   over black, of 16 bits the upper 8 are kept. Errors: ERR_UNSUPPORTED not an image we read (415); ERR_DAMAGED (422);
   ERR_TOO_LARGE (422); ERR_MEMORY (503). *out is written on success only. */
int image_decode(const uint8_t *bytes, size_t size, const struct image_limits *limits, const struct preprocess *want,
                 struct image *out, struct err *e);
void image_free(struct image *i); /* leaves it empty */

/* EXIF orientation of a JPEG's APP1 payload ("Exif\0\0" ...), 1 when absent, damaged or out of range. Bounded walk. */
int exif_orientation(const uint8_t *app1, size_t size);
/* The same for the TIFF structure behind that header, which PNG and WebP store bare. */
int exif_tiff_orientation(const uint8_t *tiff, size_t size);

/* Resize (Pillow's antialiased filters, 8 bits per pass as Pillow does) and centre crop of an upright image as p says, into
   out [crop_h][crop_w][3] in RGB order (without crop: the size that preprocess_output_size gives for i->width x i->height). An
   image smaller than the crop is centred on black. Only the columns and rows that the crop keeps are computed. Takes its scratch
   from the heap: ERR_MEMORY. ERR_TOO_LARGE: without crop, a side would exceed PREPROCESS_SIDE_MAX. */
int image_preprocess(const struct image *i, const struct preprocess *p, uint8_t *out, struct err *e);

#endif

// SPDX-License-Identifier: MIT
//
// preprocess.h - how pixels become the network's input, as data (design section 4, field `preprocess`).
// Decoding, resizing and cropping happen in daemon/; x = (pixel / scale - mean) / std happens in the session.

#ifndef MODELS_PREPROCESS_H
#define MODELS_PREPROCESS_H

#include <stdint.h>

#include "kernels/conv.h"
#include "models/err.h"

enum resize_side { RESIZE_NONE, RESIZE_SHORTER, RESIZE_EXACT };
enum resize_filter { FILTER_BILINEAR, FILTER_BICUBIC };

struct preprocess {
    int bgr;                   /* 0: RGB, 1: BGR */
    enum resize_side resize;
    int size;                  /* RESIZE_SHORTER: pixels of the shorter side; the other is int(size * long / short) */
    int width, height;         /* RESIZE_EXACT */
    enum resize_filter filter; /* Pillow's, antialiased */
    int crop_w, crop_h;        /* centre crop; 0, 0: none. An image smaller than the crop is centred on black */
    float scale;               /* 255 or 1 */
    float mean[3], std[3];     /* in the order of the network's channels */
};

#define PREPROCESS_SIDE_MAX 4096 /* limit of size, width, height, crop */

/* "imagenet" (256, crop 224) or "cifar10" (exact 32x32); -1 with e set when there is no such preset. */
int preprocess_preset(const char *name, struct preprocess *out, struct err *e);

/* The same in every field. */
int preprocess_equal(const struct preprocess *a, const struct preprocess *b);

/* Strict: unknown keys, missing keys, sizes outside 1..PREPROCESS_SIDE_MAX, std or scale <= 0, non-finite numbers are errors. */
int preprocess_from_json(const char *text, struct preprocess *out, struct err *e);

/* The JSON text, to be freed by the caller; NULL: no memory. */
char *preprocess_to_json(const struct preprocess *p);

/* Size in pixels of what reaches the network for an image of w x h (0 x 0: when it does not depend on the image, that; else 0). */
void preprocess_output_size(const struct preprocess *p, int w, int h, int *out_w, int *out_h);

/* One value: (pixel / scale - mean[c]) / std[c] in float arithmetic, each operation rounded once. */
float preprocess_value(const struct preprocess *p, int channel, uint8_t pixel);

/* Quantisation of the network's input: the smallest range that holds 0 and every value that preprocess_value can give. */
struct quant preprocess_quant(const struct preprocess *p);

#endif

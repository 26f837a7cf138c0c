// SPDX-License-Identifier: MIT
//
// augment.h - one image of a batch: crop, flip and cutout on the way from pixels to values, then mixup of the batch.

#ifndef MODELS_TRAIN_AUGMENT_H
#define MODELS_TRAIN_AUGMENT_H

#include "models/train/feed.h"
#include "models/train/random.h"

/* What happens to an image, drawn from a stream. */
struct variation {
    int dx, dy; /* the crop's corner in the image, -pad .. pad */
    int flip;   /* after the crop */
    int x0, x1; /* cutout: columns x0 .. x1 - 1, rows y0 .. y1 - 1 after the flip; empty when x0 = x1 */
    int y0, y1;
};

/* Crop corners, flips and cutout centres are all equally likely. (Random crop with padding: Krizhevsky and others; cutout:
   DeVries and Taylor, "Improved regularization of convolutional neural networks with cutout", 2017.) */
struct variation augment_draw(const struct augment *a, int w, int h, struct random *r);

/* Pixels [h][w][3], RGB -> x [h][w][3] in the network's channel order. table[c][pixel] is preprocess_value. v NULL: as it is. */
void augment_image(const struct variation *v, const uint8_t *rgb, int w, int h, const float table[3][256], int bgr, float *x);

/* Mixup (Zhang and others, "mixup: beyond empirical risk minimization", 2018): image i becomes weight * x[i] + (1 - weight) * x[n
 * - 1 - i]. */
void augment_mix(float *x, int images, int64_t values, float weight);

#endif

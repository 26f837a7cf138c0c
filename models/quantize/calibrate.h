// SPDX-License-Identifier: MIT
//
// calibrate.h - calibration images and what the fp32 network does with them.
//
// Some images are held back: every second of the first 32, then every fourth, so that 64 images hold back 24 and 256 hold
// back 72. They never take part in choosing ranges, and serve to judge a quantised network by what it makes of them.

#ifndef MODELS_QUANTIZE_CALIBRATE_H
#define MODELS_QUANTIZE_CALIBRATE_H

#include "models/network.h"
#include "models/quantize/observe.h"

#define CALIBRATION_BYTES_MAX (256u << 20) /* of pixels and logits kept; images beyond only fill histograms */

struct calibration;
struct kernels;
struct pthreadpool;

/* The next image as pixels [h][w][3], RGB, and its class in *label, which is -1 before, if that is known; 1, 0 at the end, -1 on
   error. */
typedef int next_image(void *user, uint8_t *rgb, int *label, struct err *e);

/* Runs the fp32 network over the images. fp32, k and pool (NULL: this thread alone) are borrowed until calibration_free. On
   failure *out is untouched: no images, no memory, a layer that gives infinite values. */
int calibration_new(const struct network *fp32, const struct kernels *k, struct pthreadpool *pool, next_image *next, void *user,
                    struct calibration **out, struct err *e);
void calibration_free(struct calibration *c); /* NULL is fine */

int calibration_images(const struct calibration *c); /* seen, held-back ones included */
int calibration_fit(const struct calibration *c);    /* kept and not held back: what calibration_walk can use */
int calibration_held(const struct calibration *c);   /* what calibration_compare uses: held back, or all when there is one */

/* What went through a node; NULL for a node without a tensor of its own (a convolution computed within an add). The input
   (node 0) has one too. */
const struct histogram *calibration_histogram(const struct calibration *c, int node);

const struct network *calibration_network(const struct calibration *c);
const struct kernels *calibration_kernels(const struct calibration *c);
struct pthreadpool *calibration_pool(const struct calibration *c);

/* How a network follows the fp32 one on held-back images. */
struct fidelity {
    int images, agree;    /* agree: equal top-1 */
    double signal, noise; /* sums of squares: fp32 logits, differences */
    int labelled;         /* images with a label, and of how many of these fp32 and the network find it */
    int fp32_right, right;
};
double fidelity_db(const struct fidelity *f);      /* 10 log10 signal / noise; INFINITY without noise */
double fidelity_percent(const struct fidelity *f); /* of agree */
double fidelity_drop(const struct fidelity *f);    /* of top-1 against fp32, in points; NAN without labels */

/* Runs n, any precision of the calibrated network with its input and classes, over the first `most` (0: all) held-back images. */
int calibration_compare(const struct calibration *c, const struct network *n, int most, struct fidelity *out, struct err *e);

/* Runs the fp32 network observed over up to `most` images that are not held back, spread evenly, CALIBRATION_BLOCK at a time.
   see() gets the values of a node, node 0 included and first, for the image of that place (0 to CALIBRATION_BLOCK - 1) in the
   block, for several images at once from several threads. after() is called when a block is through: -1 ends the walk. */
#define CALIBRATION_BLOCK 8
struct calibration_walk {
    void (*see)(void *user, int place, int node, const float *values);
    int (*after)(void *user, int images, struct err *e); /* images of the block */
    void *user;
};
int calibration_walk(const struct calibration *c, int most, const struct calibration_walk *w, struct err *e);
int calibration_walk_images(const struct calibration *c, int most); /* how many that will be */

#endif

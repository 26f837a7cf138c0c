// SPDX-License-Identifier: MIT
//
// channels.h - what training does around convolutions: affine functions of each channel, as batch norm is one, with ReLU, and
// their gradients. x and y are [pixels][c], factors [c]. Every implementation gives the same bits.

#ifndef KERNELS_CHANNELS_H
#define KERNELS_CHANNELS_H

#include <stddef.h>

/* Sums run in float over short runs of pixels, then in double, and are added to what is there. */
struct channel_ops {
    /* Sums of x - shift, and of its square. */
    void (*moments)(size_t pixels, int c, const float *x, const float *shift, double *sum, double *square);
    /* y = x * mult + bias, + add unless NULL, ReLU; y may be x or add. */
    void (*affine)(size_t pixels, int c, const float *x, const float *mult, const float *bias, const float *add, int relu,
                   float *y);
    /* With g = dy, with ReLU only where x * mult + bias > 0: sums of g, and of g * (x - shift). */
    void (*gradient_moments)(size_t pixels, int c, const float *x, const float *mult, const float *bias, int relu,
                             const float *shift, const float *dy, double *sum, double *product);
    /* With the same g: dx = g * of_gradient + (x * of_x + constant); dx may be dy. */
    void (*affine_gradient)(size_t pixels, int c, const float *x, const float *mult, const float *bias, int relu, const float *dy,
                            const float *of_gradient, const float *of_x, const float *constant, float *dx);
    /* dx = dy where y > 0, else 0; dx may be dy. */
    void (*mask)(size_t count, const float *y, const float *dy, float *dx);
    /* y = a + b, ReLU; y may be either. */
    void (*sum_of)(size_t count, const float *a, const float *b, int relu, float *y);
};

#endif

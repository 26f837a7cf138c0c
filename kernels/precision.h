// SPDX-License-Identifier: MIT
//
// precision.h - the four ways in which a network is stored and computed.

#ifndef KERNELS_PRECISION_H
#define KERNELS_PRECISION_H

enum precision {
    PRECISION_FP32,   /* float weights, float activations */
    PRECISION_FP16,   /* IEEE half weights and activations, sums in float */
    PRECISION_HYBRID, /* int8 weights per output channel, float activations */
    PRECISION_INT8    /* int8 weights per output channel, int8 activations per tensor */
};
enum { PRECISIONS = 4 };

#endif

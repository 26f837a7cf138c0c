// SPDX-License-Identifier: MIT
//
// half.h - IEEE 754 binary16 to and from float, in portable C. Halves are carried as uint16_t.

#ifndef KERNELS_HALF_H
#define KERNELS_HALF_H

#include <stddef.h>
#include <stdint.h>

#define HALF_MAX 65504.0f

/* Exact; subnormals, infinities and NaN included. */
float half_to_float(uint16_t h);

/* Round to nearest even; beyond HALF_MAX + half a step becomes infinity; NaN stays NaN. */
uint16_t half_from_float(float f);

#endif

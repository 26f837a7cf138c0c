// SPDX-License-Identifier: MIT
//
// compensate.h - rounding in which later weights make up for the errors of earlier ones.
//
// Of a sum y = w x, what rounding costs is E (w - s q)^2 H with H = E x x^T, not the sum of squared errors: inputs go together.
// The weights are rounded one after the other; each is first moved by what its predecessors' errors, seen through H, leave for it
// to cancel. (Frantar et al. 2022, "GPTQ"; the order of work here is that of Babai's nearest plane over the Cholesky factor,
// which gives the same weights without an inverse.)

#ifndef MODELS_QUANTIZE_COMPENSATE_H
#define MODELS_QUANTIZE_COMPENSATE_H

#include <stddef.h>
#include <stdint.h>

struct pthreadpool;

#define FACTOR_TILE 16

/* n rounded up to whole tiles: rows and columns of the matrices here. */
static inline size_t factor_side(int n)
{
    return ((size_t)n + FACTOR_TILE - 1) / FACTOR_TILE * FACTOR_TILE;
}

/* a [side][side]: the upper triangle of a symmetric matrix becomes R with R^T R = a; below the diagonal tiles nothing is read or
   written. Rows and columns from n to side must be those of the identity. Same bits for any number of threads. -1: no memory, or
   a is not positive definite. */
int factor_upper(float *a, int n, struct pthreadpool *pool);

/* q [channels][n] for w [channels][n] and scale [channels], |q| <= 127. r: of factor_upper for H of n inputs. -1: no memory. */
int round_compensated(const float *r, int n, const float *w, int channels, const float *scale, int8_t *q,
                      struct pthreadpool *pool);

#endif

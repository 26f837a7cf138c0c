// SPDX-License-Identifier: MIT
//
// random.h - random numbers that can be asked for again: every use has a stream of its own, named by numbers (seed, epoch, image
// ...), so that what an image gets depends neither on threads nor on what was drawn before. SplitMix64 (Steele, Lea and Flood,
// "Fast splittable pseudorandom number generators", 2014); not for secrets.

#ifndef MODELS_TRAIN_RANDOM_H
#define MODELS_TRAIN_RANDOM_H

#include <stdint.h>

struct random {
    uint64_t state;
};

/* What a stream is for: the first of its names after the seed, so that two uses never share numbers. */
enum random_use { RANDOM_SHUFFLE, RANDOM_AUGMENT, RANDOM_MIXUP, RANDOM_SPLIT, RANDOM_INITIALISE };

struct random random_stream(uint64_t seed, enum random_use use, uint64_t a, uint64_t b);

uint64_t random_bits(struct random *r);
int random_below(struct random *r, int n);          /* 0 .. n - 1; n > 0 */
double random_unit(struct random *r);               /* [0, 1), multiples of 2^-53 */
double random_normal(struct random *r);             /* mean 0, variance 1 */
double random_beta(struct random *r, double alpha); /* Beta(alpha, alpha), alpha > 0 */
void random_shuffle(struct random *r, int *v, int n);

#endif

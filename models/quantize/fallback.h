// SPDX-License-Identifier: MIT
//
// fallback.h - how good an int8 network must be, and which layers go to fp16 so that it is.

#ifndef MODELS_QUANTIZE_FALLBACK_H
#define MODELS_QUANTIZE_FALLBACK_H

#include "models/quantize/quantize.h"
#include "models/quantize/sensitivity.h"

/* "conv1,fc" -> chosen[i] = 1 for those; the others stay. -1 names what is no layer with weights. */
int layers_parse(const struct graph *g, const char *names, unsigned char *chosen, struct err *e);

struct guard {            /* on held-back images */
    double min_agreement; /* percent of equal top-1; negative: any */
    double max_drop;      /* points of top-1 below fp32, where images have labels; negative: any */
};

/* 0 when it holds; else e says what was asked for and what there is. A drop without labels is an error. */
int guard_check(const struct guard *g, const struct fidelity *f, struct err *e);

struct fallback {
    struct fidelity before, after; /* all layers in int8 but those of `keep`; the network that came out */
    struct sensitivity *layers;    /* that fell back, the worst first (`alone` over FALLBACK_IMAGES); NULL when none had to */
    int count;
};
#define FALLBACK_IMAGES 16 /* held-back ones, by which layers are put in order */
void fallback_free(struct fallback *f);

/* q, an int8 form of c's network, is replaced: the layers for which keep[i] is not 0 (NULL: none) work in fp16, and of the
   others, in the order of their sensitivity, as few as let the guard hold. How many is found by doubling, then by halving the
   step; last, those are taken back without which it holds too. `quantization` names them in "fp16_layers", and in "fallback"
   tells before, after and what each layer cost alone. -1 when the guard does not hold with all layers in fp16, or fp16 cannot
   hold the network: q stays as it is, but before and after of *out are set. out: ended by fallback_free, on failure too. */
int fall_back(const struct calibration *c, const struct guard *g, const unsigned char *keep, const struct quantize_options *o,
              struct network *q, struct fallback *out, struct err *e);

#endif

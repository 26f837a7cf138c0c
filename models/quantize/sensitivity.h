// SPDX-License-Identifier: MIT
//
// sensitivity.h - what each layer's int8 costs, measured by running mixed networks (mixed.h), not by a model of them: so
// clipping, rounding and fusion are those of the engine.

#ifndef MODELS_QUANTIZE_SENSITIVITY_H
#define MODELS_QUANTIZE_SENSITIVITY_H

#include "models/quantize/quantize.h"

struct sensitivity {        /* of one layer */
    int node;               /* of the fp32 graph */
    struct fidelity alone;  /* this layer in int8, with what it reads and what it gives; all others in fp16 */
    struct fidelity spared; /* this layer in fp16, all others in int8 */
};

/* *out: every layer, the worst by the signal-to-noise ratio of `alone` first; freed with free. int8 and fp16 are quantised forms
   of c's network. Over the first `most` (0: all) held-back images; both: `spared` too, else that stays zero. o: for its progress,
   may be NULL. Takes a run of the network for each layer, image and (both) column. */
int sensitivity_measure(const struct calibration *c, const struct network *int8, const struct network *fp16, int most, int both,
                        const struct quantize_options *o, struct sensitivity **out, int *count, struct err *e);

#endif

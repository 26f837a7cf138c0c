// SPDX-License-Identifier: MIT
//
// ctl_guard.h - quantize's guards: how close to fp32 the result must be, which layers of int8 go to fp16 for it, and what each
// layer's int8 costs.

#ifndef DAEMON_CTL_GUARD_H
#define DAEMON_CTL_GUARD_H

#include <stdio.h>

#include "daemon/ctl.h"
#include "models/quantize/fallback.h"

struct ctl_guard_options {
    const char *keep_fp16; /* layers, separated by commas; NULL: none. int8 */
    int sensitivity;       /* 1: measure every layer. int8 */
    struct guard guard;
};

struct ctl_guarded {    /* zeroed at the start */
    cJSON *sensitivity; /* array, the most sensitive layer first; NULL: not measured */
    cJSON *fallback;    /* {"keep","before","after","layers","weights_bytes_before","weights_bytes_after"}; NULL: all in int8 */
    int failed;         /* 1: the guard does not hold; the network is as it was, and must not be written */
    struct err why;
};

/* Holds q, made from c's network, against the guard on held-back images. int8: layers go to fp16 by hand and by need
   (fallback.h). how: for its progress. -1: nothing could be measured. out: ended by ctl_guarded_free, on failure too. */
int ctl_guard(const struct ctl_guard_options *o, const struct calibration *c, const struct quantize_options *how,
              struct network *q, struct ctl_guarded *out, struct err *e);
void ctl_guarded_free(struct ctl_guarded *g);

/* The tables, for a terminal or as Markdown. */
void ctl_guarded_print(FILE *f, int markdown, const cJSON *sensitivity, const cJSON *fallback);

#endif

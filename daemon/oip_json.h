// SPDX-License-Identifier: MIT
//
// oip_json.h - private to oip_*.c: the JSON of a request, read into what it says, before that is held against the model and the
// body.

#ifndef DAEMON_OIP_JSON_H
#define DAEMON_OIP_JSON_H

#include "daemon/oip.h"

#define OIP_RANK_MAX 4 /* dimensions of a shape, levels of data */

/* What a nested or flat array of data turned out to be. */
struct oip_layout {
    int depth;
    int64_t dims[OIP_RANK_MAX]; /* of each level */
    int64_t leaves;
    int numbers, strings, others;
};

struct oip_input {
    int tensor; /* 1: `tensor`, 0: `image` */
    int fp32;   /* datatype: 1 FP32, 0 BYTES */
    int64_t shape[OIP_RANK_MAX];
    int rank;
    int64_t binary_size; /* -1: not given */
    const char *data;    /* the array's text; NULL: not given */
    size_t data_size;
    struct oip_layout layout;
};

struct oip_json {
    char *text; /* what the scan reads: strings are resolved in place */
    struct json_scan s;
    int ended; /* s has nothing more to say */
    struct err *e;
    struct oip_request *out;
    const struct oip_model *model;
    struct oip_input input;
    int inputs;
    int binary_output;                  /* binary_data_output */
    signed char binary_of[OIP_TENSORS]; /* binary_data of each output: -1 not given */
};

/* Reads size bytes of text, changing them: p->input, and of *p->out the id, the outputs and the timeout. p is zero but for out
   and model. -1: ERR_INPUT; no JSON before anything else that may be wrong. */
int oip_json_read(struct oip_json *p, char *text, size_t size, struct err *e);

/* Asks for all outputs. */
void oip_all_outputs(struct oip_request *r);

#endif

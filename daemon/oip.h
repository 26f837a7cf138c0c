// SPDX-License-Identifier: MIT
//
// oip.h - bodies of the Open Inference Protocol v2 with its binary tensor and classification extensions: a request read from
// bytes, a reply written from logits. No HTTP here and no network: what a model expects comes as numbers.
//
// A request holds one input: `image` BYTES [n], encoded images, or `tensor` FP32 [n,3,height,width], normalised values. It is
// read in place and takes no memory: JSON numbers stay text until they are wanted, base64 becomes bytes where it stands. A tree
// of values would be forty times the size of the body.
//
// https://github.com/kserve/open-inference-protocol (specification/protocol/inference_rest.md) and docs/protocol/extension_*.md
// of https://github.com/triton-inference-server/server

#ifndef DAEMON_OIP_H
#define DAEMON_OIP_H

#include <stddef.h>
#include <stdint.h>

#include "daemon/text.h"
#include "models/err.h"
#include "models/json_scan.h"

#define OIP_IMAGES_MAX 32  /* in one request */
#define OIP_ID_MAX     256 /* bytes of a request's id */

enum oip_tensor { OIP_PROBABILITIES, OIP_LOGITS, OIP_TENSORS };
extern const char *const oip_tensor_names[OIP_TENSORS];

struct oip_model {
    const char *name, *version;
    int height, width, classes;
    char *const *labels; /* [classes], NULL: none */
};

struct oip_request {
    char id[OIP_ID_MAX + 1];
    int has_id;
    int64_t timeout_us; /* 0: none */
    int count;          /* images, or first dimension of the tensor: 1 .. OIP_IMAGES_MAX */
    int encoded;        /* 1: image[], 0: oip_values */
    struct {
        const uint8_t *bytes;
        size_t size;
    } image[OIP_IMAGES_MAX]; /* in the body */
    const uint8_t *binary;   /* of the tensor: what comes next; NULL: it is JSON */
    struct json_scan scan;
    struct {
        enum oip_tensor tensor;
        int binary;
        int classification; /* of so many classes; 0: the tensor */
    } outputs[OIP_TENSORS];
    int output_count;
};

/* Reads a body and changes it. header: its JSON's length (Inference-Header-Content-Length), 0 when all of it is the one input, -1
   when there is no binary data. Everything but the values of a JSON tensor is checked here. ERR_INPUT; *out borrows the body. */
int oip_parse(uint8_t *body, size_t size, int64_t header, const struct oip_model *m, struct oip_request *out, struct err *e);

/* The next image of the tensor, as [height][width][3]; call it count times. ERR_INPUT: a number beyond float, or not finite. */
int oip_values(struct oip_request *r, const struct oip_model *m, float *out, struct err *e);

/* The reply for logits [count][classes]. Returns the length of its JSON when binary data follows it, else -1. */
int64_t oip_write(const struct oip_request *r, const struct oip_model *m, const float *logits, struct text *out);

#endif

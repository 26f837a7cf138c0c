// SPDX-License-Identifier: MIT
//
// tflite_operators.h - private to tflite*.c: what is known while the operators of a file are walked, and the steps of that walk.

#ifndef MODELS_CHECKPOINT_TFLITE_OPERATORS_H
#define MODELS_CHECKPOINT_TFLITE_OPERATORS_H

#include "models/checkpoint/flatbuffer.h"
#include "models/checkpoint/tflite_tensor.h"
#include "models/network.h"

struct tflite_value {                             /* what a tensor of the file is here */
    int node;                                     /* that computes it; -1: it is a constant, or not computed yet */
    int pad_top, pad_left, pad_bottom, pad_right; /* zeros around it, by PAD, that the next operator must take over */
    int renamed;                                  /* another tensor is the node's own */
    int end;                                      /* it is behind the logits: probabilities, or another type */
    int constant;                                 /* index + 1 of the constant that DEQUANTIZE makes it of */
};

struct tflite_reader {
    struct flatbuffer buffer;
    struct fb_vector codes, buffers, tensors, operators; /* of the file */
    struct network *net;                                 /* layers and quants have room for operators.count + 1 nodes */
    struct tflite_value *values;                         /* [tensors.count] */
    int typed;                                           /* net->precision is decided */
};

enum { TFLITE_INPUTS_MAX = 3 };

struct tflite_operation {
    int32_t in[TFLITE_INPUTS_MAX]; /* tensors that are there; -1: an optional one that is not */
    int inputs;                    /* as many as the operator takes */
    int32_t out;
    uint32_t index;
    struct fb_table options;
};

/* Operator i of the file; errors name it. */
int tflite_operator(struct tflite_reader *r, uint32_t i, struct err *e);

/* Those that become nodes, for the table of operators. */
int tflite_read_conv(struct tflite_reader *r, const struct tflite_operation *o, struct err *e);
int tflite_read_dense(struct tflite_reader *r, const struct tflite_operation *o, struct err *e);
int tflite_read_add(struct tflite_reader *r, const struct tflite_operation *o, struct err *e);
int tflite_read_maxpool(struct tflite_reader *r, const struct tflite_operation *o, struct err *e);
int tflite_read_avgpool(struct tflite_reader *r, const struct tflite_operation *o, struct err *e);
int tflite_read_mean(struct tflite_reader *r, const struct tflite_operation *o, struct err *e);

int tflite_read_tensor(const struct tflite_reader *r, int32_t index, struct tflite_tensor *t, struct err *e);
int tflite_same_quant(struct quant a, struct quant b);

/* Input k as an activation of the network's type, which the first decides. padded: whether the operator takes PAD over. */
int tflite_take_input(struct tflite_reader *r, const struct tflite_operation *o, int k, int padded, struct tflite_tensor *t,
                      struct tflite_value *v, struct err *e);

/* int8: whether tensor out has the quantisation of in. */
int tflite_check_kept(const struct tflite_reader *r, const struct tflite_tensor *in, int32_t out, struct err *e);

/* The output, which must have no value yet and not be a constant; t is set to it. */
int tflite_take_output(const struct tflite_reader *r, const struct tflite_operation *o, struct tflite_tensor *t, struct err *e);

#endif

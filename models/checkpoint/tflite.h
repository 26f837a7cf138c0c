// SPDX-License-Identifier: MIT
//
// tflite.h - a .tflite file -> a network: int8 with its own scales, zero points and rounding (kernels/tflite.h), or fp32.

#ifndef MODELS_CHECKPOINT_TFLITE_H
#define MODELS_CHECKPOINT_TFLITE_H

#include "models/checkpoint/checkpoint.h"

#define TFLITE_TENSORS_MAX 65536
#define TFLITE_CODES_MAX   1024 /* kinds of operator that a file lists */

/* A reader for checkpoint.c. Operators: CONV_2D, FULLY_CONNECTED, ADD, MAX_POOL_2D, AVERAGE_POOL_2D and MEAN over all pixels, PAD
   before a convolution or maximum, RESHAPE and SQUEEZE of 1x1 pixels, RELU (float), SOFTMAX as the last, QUANTIZE and DEQUANTIZE
   at the ends. Any other, and any other form of these, is ERR_UNSUPPORTED by number and name. Weights of a float network may be
   stored as halves or int8. Without o->preprocess an int8 network takes pixels as its input quantisation steps: q = pixel - 128.
 */
int tflite_import(const char *path, const struct import_options *o, struct network *out, struct err *e);

#endif

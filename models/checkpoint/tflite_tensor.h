// SPDX-License-Identifier: MIT
//
// tflite_tensor.h - private to tflite*.c: one tensor of a .tflite file, checked: its type, shape, values and quantisation.

#ifndef MODELS_CHECKPOINT_TFLITE_TENSOR_H
#define MODELS_CHECKPOINT_TFLITE_TENSOR_H

#include "kernels/conv.h"
#include "models/checkpoint/flatbuffer.h"

/* Numbers of the schema. */
enum tflite_type { TFLITE_F32 = 0, TFLITE_F16 = 1, TFLITE_I32 = 2, TFLITE_U8 = 3, TFLITE_I64 = 4, TFLITE_I8 = 9 };

enum { TFLITE_RANK_MAX = 4 };

struct tflite_tensor {
    int type;
    int rank;
    int32_t shape[TFLITE_RANK_MAX]; /* each >= 1 */
    int64_t count;                  /* elements */
    const uint8_t *data;            /* of a constant, in the file, not aligned; NULL: computed when the network runs */
    struct fb_vector scale, zero;   /* of the quantisation; zero.count is 0 or scale.count */
    int32_t axis;                   /* of the scales, when there are several */
};

/* Tensor `index` of the vectors of a file. Errors name it by number and by its name in the file. */
int tflite_tensor(const struct fb_vector *tensors, const struct fb_vector *buffers, int32_t index, struct tflite_tensor *out,
                  struct err *e);

/* Height, width and channels of an activation of one image: [1, h, w, c], or [1, c] as 1x1 pixels. */
int tflite_image(const struct tflite_tensor *t, int *h, int *w, int *c, struct err *e);

/* The one scale and zero point of an int8 or uint8 activation, as those of int8: a uint8 zero point less 128. */
int tflite_quant(const struct tflite_tensor *t, struct quant *out, struct err *e);

/* A constant of 32-bit integers: its element i. */
int32_t tflite_int32(const struct tflite_tensor *t, int i);

/* Weights [channels][count / channels] as they are: int8, at most one of a channel -128, with one scale per channel or one for
   all. malloc'd. */
int tflite_weights_s8(const struct tflite_tensor *t, int channels, int8_t **weight, float **scale, struct err *e);

/* The same, or biases, as floats: from float, half or int8 with scales. malloc'd. */
int tflite_floats(const struct tflite_tensor *t, int channels, float **out, struct err *e);

/* Biases of an int8 layer, whose scale may differ from in.scale * scale[c] by at most a fiftieth of a step of the output, as the
   reference has it. t NULL: zeros. malloc'd. */
int tflite_bias(const struct tflite_tensor *t, int channels, const float *scale, struct quant in, struct quant out,
                int32_t **bias, struct err *e);

#endif

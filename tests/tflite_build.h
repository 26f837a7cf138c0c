// SPDX-License-Identifier: MIT
//
// tflite_build.h - writes small .tflite files from a list of tensors and operators, right or wrong, for the tests of the reader.

#ifndef TESTS_TFLITE_BUILD_H
#define TESTS_TFLITE_BUILD_H

#include <stddef.h>
#include <stdint.h>

enum { F32 = 0, F16 = 1, I32 = 2, U8 = 3, I64 = 4, I8 = 9 };
enum {
    ADD = 0,
    AVERAGE_POOL = 1,
    CONV = 3,
    DEPTHWISE = 4,
    DEQUANTIZE = 6,
    DENSE = 9,
    MAX_POOL = 17,
    RELU = 19,
    RESHAPE = 22,
    SOFTMAX = 25,
    CUSTOM = 32,
    PAD = 34,
    MEAN = 40,
    QUANTIZE = 114,
    NEW = 130
};

struct build_tensor {
    int type, rank;
    int shape[5];
    const void *data; /* NULL: computed */
    int bytes;
    float scale[4];
    int scales;
    int zero;
    int axis;
};

struct build_op {
    int code;
    int in[4], inputs, out;
    int options; /* kind; 0: none */
    struct {
        int bytes, value; /* of field i; bytes 0: absent */
    } option[6];
};

struct build {
    struct build_tensor tensors[24];
    int tensor_count;
    struct build_op ops[16];
    int op_count;
    int input, output;
    int version, subgraphs;                    /* 0: as they should be */
    int extra_tensors, extra_ops, extra_codes; /* more of the last, for limits */
};

/* The file, to be freed. */
uint8_t *build_file(const struct build *b, size_t *size);

/* An int8 network on 2x2 pixels, of two convolutions, ADD, AVERAGE_POOL_2D (mean: MEAN), FULLY_CONNECTED and SOFTMAX, and one in
   float whose weights are halves and int8. What they compute is worked out in test_tflite.c. */
struct build build_int8(int mean);
struct build build_float(void);

#endif

// SPDX-License-Identifier: MIT
//
// golden.h - real checkpoints, images and PyTorch's logits, when the optional data is there: reading them.

#ifndef TESTS_GOLDEN_H
#define TESTS_GOLDEN_H

#include "models/network.h"

/* The data's directory, or NULL with SKIP printed. */
const char *golden_data(void);

/* Imports weights/<name>.safetensors, or expands weights/<name>.pq.safetensors into dir first, with preprocess/<preprocess>.json.
   Ends the program on failure. */
struct network golden_network(const char *data, const char *dir, const char *name, const char *preprocess);

/* Images as encoded in a tar with its csv (file,class), or raw records of 3073 bytes (.bin). */
struct golden_images {
    char *bytes;  /* the whole file */
    size_t size;
    int records;  /* 1: raw */
    int count;
    struct golden_image {
        const uint8_t *data; /* JPEG, or 3072 planar bytes */
        size_t size;
        int label;
    } * images;
};
struct golden_images golden_images(const char *data, const char *file);
void golden_images_free(struct golden_images *g);

/* Image i decoded and preprocessed as n says, into rgb [h][w][3]. */
void golden_pixels(const struct golden_images *g, int i, const struct network *n, uint8_t *rgb);

/* golden/<name>: count floats, or bytes; to be freed. */
float *golden_logits(const char *data, const char *name, size_t count);

#endif

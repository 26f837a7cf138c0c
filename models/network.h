// SPDX-License-Identifier: MIT
//
// network.h - a network with its weights, unpacked: what import makes, quantisation changes, and file.h writes and reads.

#ifndef MODELS_NETWORK_H
#define MODELS_NETWORK_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/conv.h"
#include "kernels/precision.h"
#include "models/err.h"
#include "models/graph.h"
#include "models/preprocess.h"

#define NETWORK_NAME_MAX 65 /* [A-Za-z0-9._-]{1,64}, no leading dot, with the terminator */
#define LABEL_MAX 256       /* bytes of one label */

struct layer { /* weights of one conv or dense node; all NULL for the others. Owned by the network */
    void *weight;      /* float, half as uint16_t, or int8_t, as node_precision says: [O][KH][KW][I/groups] */
    float *scale;      /* [O]: hybrid, int8 */
    float *bias;       /* [O]: fp32, fp16, hybrid */
    int32_t *bias_s32; /* [O]: int8, in units of input scale * scale[o] */
};

#define SELFTEST_IMAGES_MAX 16
#define SELFTEST_BYTES_MAX (16 << 20) /* of all its images */

/* Images and what the network must answer to them (selftest.h); images 0: none. Owned by the network. */
struct selftest {
    int images;
    uint8_t *input; /* [images][h][w][3], as session_set_pixels takes them; NULL when only the header was read */
    float *logits;  /* [images][classes] */
};

struct network {
    char name[NETWORK_NAME_MAX];
    enum precision precision;
    struct graph graph;
    struct layer *layers;   /* [graph.count] */
    struct quant *quants;   /* [graph.count], output of each node, scale 0 where that is half; int8 only, else NULL */
    enum rounding rounding; /* int8. ROUNDING_TFLITE: every conv and dense has keep_output */
    struct preprocess preprocess;
    char **labels;          /* [label_count]; label_count is 0 or the number of classes */
    int label_count;
    char *quantization;     /* JSON texts as stored in the file, NULL where there is none */
    char *provenance;
    char *accuracy;
    struct selftest selftest;
    char digest[65];        /* SHA-256 of the data section in hex; set when read from a file */
};

void network_free(struct network *n); /* empty and half-built are fine; leaves it empty */
void layer_free(struct layer *l);     /* leaves it empty */
void selftest_free(struct selftest *t); /* the same */

/* 0 unless a node would mean nothing under n->rounding: ROUNDING_TFLITE knows neither sums within an add nor float logits. */
int rounding_check(const struct network *n, struct err *e);

/* 0 unless nodes work in half where they may not: in networks that are not int8, or follow ROUNDING_TFLITE. */
int half_check(const struct network *n, struct err *e);

/* "fp32" ... and back; -1 with e listing the names. */
const char *precision_name(enum precision p);
int precision_parse(const char *text, enum precision *out, struct err *e);

/* 0 when name is [A-Za-z0-9._-]{1,64} without a leading dot. */
int name_check(const char *name, struct err *e);

/* Bytes of one weight element: 4, 2, 1, 1. */
size_t weight_bytes(enum precision p);

/* One label per line (a leading "nSYNSET " and a trailing CR are dropped), or a JSON array of strings; must give `classes` of
   them. On success the network owns the labels. */
int network_labels_from_file(struct network *n, const char *path, struct err *e);

/* The same as a list: classes of them, or (0) as many as there are, at least one. The caller ends *out with labels_free. */
int labels_from_file(const char *path, int classes, char ***out, int *count, struct err *e);

/* A JSON array of `classes` labels (0: of any number), or of none. On success the caller owns *out and ends it with labels_free. */
int labels_from_json(const char *text, size_t size, int classes, char ***out, int *count, struct err *e);
void labels_free(char **labels, int count); /* NULL is fine */
int labels_copy(const struct network *from, struct network *to, struct err *e); /* to has none; on failure it may have some */
char *labels_to_json(const struct network *n); /* freed by the caller; NULL: no memory */

/* 0 when it is UTF-8 of 1 to LABEL_MAX bytes without control characters. */
int label_check(const char *label, size_t size, struct err *e);

#endif

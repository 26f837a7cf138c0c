// SPDX-License-Identifier: MIT
//
// session.h - one worker's arena. Making it takes all memory; running it takes none and cannot fail.

#ifndef MODELS_SESSION_H
#define MODELS_SESSION_H

#include "models/model.h"

#define SESSION_BATCH_MAX 256

struct session;

/* Room for `batch` images; pool runs the parallel loops (borrowed; NULL: this thread alone). Takes a reference on m. */
int session_new(struct model *m, int batch, struct pthreadpool *pool, struct session **out, struct err *e);
void session_free(struct session *s); /* NULL is fine */

/* Input of image `index` (< batch): pixels [h][w][3] in RGB order, which pass the model's preprocess (channel order, scale, mean,
   std) and, in int8, the input's quantisation. */
void session_set_pixels(struct session *s, int index, const uint8_t *rgb);

/* The same from normalised values [h][w][3] in the network's channel order. */
void session_set_values(struct session *s, int index, const float *x);

/* Runs the first `images` inputs. Returns logits [images][classes], owned by the session, good until the next call. Inputs are
   consumed: set them again before the next run. */
const float *session_run(struct session *s, int images);

/* As session_run, and calls see() after each step with the output of `node` for all images as floats [images][h][w][c] (int8:
   dequantised). For calibration and reports; allocates nothing either: the values pass through a buffer taken here at first use
   (NULL back: no memory). */
typedef void session_see(void *user, int node, const float *values, size_t count);
const float *session_run_observed(struct session *s, int images, session_see *see, void *user);

/* As session_run; seconds[i] becomes the time of step i (model_steps of them). */
const float *session_run_timed(struct session *s, int images, double *seconds);

struct model *session_model(const struct session *s); /* borrowed */
size_t session_bytes(const struct session *s);

/* exp and sum in double, numerically stable. p must not be logits. */
void softmax(const float *logits, int n, float *p);

/* Indices of the k largest values, ties by lower index, in falling order. k <= n. */
void top_k(const float *values, int n, int k, int *indices);

#endif

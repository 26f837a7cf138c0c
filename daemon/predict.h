// SPDX-License-Identifier: MIT
//
// predict.h - one request on a worker: find the image in the body, decode, preprocess, infer, write the reply.

#ifndef DAEMON_PREDICT_H
#define DAEMON_PREDICT_H

struct request;
struct worker;

/* Always leaves a reply in the request. */
void predict_run(struct request *r, struct worker *w);

/* What a request gets whose deadline passed before or after its work. */
void predict_late(struct request *r, const char *where);

#endif

// SPDX-License-Identifier: MIT
//
// job.h - what a request has the workers compute: inputs of one model -> logits -> a reply.
//
// An API fills request->job (kind, loaded, deadline_ms, its own params) and calls job_push. A worker opens the job: kind->open
// says what the inputs are. Each input is then decoded, preprocessed and computed, by one thread or side by side by several; the
// thread that ends the last one has kind->reply write the answer from the logits. Whatever fails (a damaged image, the deadline,
// a client that hung up) ends that job alone, with a reply.

#ifndef DAEMON_JOB_H
#define DAEMON_JOB_H

#include <stdatomic.h>

#include "daemon/api.h"
#include "daemon/image.h"
#include "daemon/metrics.h"
#include "daemon/registry.h"
#include "models/session.h"

struct request;

#define JOB_INPUTS_MAX 64

struct job_input { /* bytes or values; borrowed: they lie in the body or in job->held */
    const uint8_t *bytes;
    size_t size;         /* an encoded image */
    const float *values; /* [h][w][3], normalised, in the network's channel order; not NULL: bytes are not looked at */

    struct image image; /* set by the worker: format, sizes, orientation; no pixels; all 0 for values */
    int64_t us[STAGES]; /* what it took; STAGE_QUEUE is the same for all inputs of a job */
};

struct job_kind {
    /* On a worker, before anything is decoded: finds the inputs in the request (job_inputs, then each one's bytes or values).
       What they point into besides the body goes to job->held. -1 with *e: the client is told. */
    int (*open)(struct request *r, struct err *e);
    /* Every input has its logits, all finite: fills request->reply. */
    void (*reply)(struct request *r);
};

struct job {
    const struct job_kind *kind;
    struct loaded *loaded; /* a reference, given back with the request */
    int64_t deadline_ms;   /* clock_ms */
    void *params;          /* of the kind; freed with free() */

    void *held; /* freed with held_free as soon as all inputs are decoded, like the body; NULL: nothing */
    void (*held_free)(void *);
    size_t held_bytes; /* reserved in the budget by who set held */

    int count; /* inputs */
    struct job_input *inputs;
    float *logits; /* [count][classes] */

    /* of the workers */
    int64_t queued_us;
    int begun;            /* inputs that a thread has taken */
    struct request *next; /* in the same run */
    atomic_int undecoded, left, failed;
    struct job_input one; /* inputs, when there is one */
    size_t reserved;
};

/* Hands the request to the workers; API_DONE: the queue is full, the reply says so. */
enum api_state job_push(struct request *r);

/* 1 when job_push would find no room now: the reply says so. For before a long body is sent. */
int job_no_room(struct request *r);

/* From kind->open: room for the inputs of a job, 1 to JOB_INPUTS_MAX, all zero. -1: ERR_INPUT, ERR_BUSY, ERR_MEMORY. */
int job_inputs(struct request *r, int count, struct err *e);

void job_free(struct request *r);

/* ---- for who takes requests out of the queue ---- */

/* 1: the inputs wait to be computed. 0: the request is answered and no longer the caller's. */
int job_open(struct request *r);

/* Computes one input on s, which has room for one image; rgb: room for its pixels. Each index once; after the last of them the
   request is answered. 1: the network ran. */
int job_compute(struct request *r, int index, struct session *s, uint8_t *rgb);

/* Answers without computing. */
void job_refuse(struct request *r, const struct err *e);
void job_expire(struct request *r); /* the deadline passed in the queue */

#endif

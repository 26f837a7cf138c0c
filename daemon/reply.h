// SPDX-License-Identifier: MIT
//
// reply.h - what a request is answered with: JSON, text, or a problem (RFC 9457). The one place that turns errors into statuses.

#ifndef DAEMON_REPLY_H
#define DAEMON_REPLY_H

#include <stdint.h>

#include "daemon/text.h"
#include "models/err.h"

struct reply {
    int status;       /* 0: none yet */
    const char *type; /* Content-Type */
    struct text body;
    char allow[64], timing[160]; /* Allow, Server-Timing; "" for none */
    int retry_after;             /* seconds, 0 for none */
    int close;                   /* end the connection after it */
    int oip;                     /* problems also say what is wrong where the Open Inference Protocol looks for it */
    int64_t json_bytes;          /* Inference-Header-Content-Length; 0: no binary data follows JSON */
};

enum problem {
    PROBLEM_BAD_REQUEST,
    PROBLEM_PARAMETER,
    PROBLEM_HOST,
    PROBLEM_SITE,
    PROBLEM_FORBIDDEN,
    PROBLEM_NOT_FOUND,
    PROBLEM_MODEL_NOT_FOUND,
    PROBLEM_METHOD,
    PROBLEM_SLOW,
    PROBLEM_NOT_RESIDENT,
    PROBLEM_NOT_RELOADED,
    PROBLEM_LENGTH,
    PROBLEM_TOO_LARGE,
    PROBLEM_CODING,
    PROBLEM_IMAGE_UNSUPPORTED,
    PROBLEM_IMAGE_DAMAGED,
    PROBLEM_IMAGE_TOO_LARGE,
    PROBLEM_HEADER,
    PROBLEM_INTERNAL,
    PROBLEM_NOT_FINITE,
    PROBLEM_ENCODING,
    PROBLEM_QUEUE_FULL,
    PROBLEM_DRAINING,
    PROBLEM_MEMORY,
    PROBLEM_NOT_READY,
    PROBLEM_DEADLINE,
    PROBLEM_VERSION
};

/* Replaces whatever the reply held. */
void reply_problem(struct reply *r, enum problem p, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The problem that stands for a status of the request guard. */
enum problem problem_of_status(int status);

/* 200 with what is in text, which the reply takes over; out of memory becomes a 503. */
void reply_json(struct reply *r, struct text *text);
void reply_text(struct reply *r, const char *type, struct text *text);

void reply_free(struct reply *r);

#endif

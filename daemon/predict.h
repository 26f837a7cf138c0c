// SPDX-License-Identifier: MIT
//
// predict.h - POST /predict as a job: the image is found in the body, and the reply is written from its logits.

#ifndef DAEMON_PREDICT_H
#define DAEMON_PREDICT_H

#include "daemon/job.h"

extern const struct job_kind predict_kind;

#endif

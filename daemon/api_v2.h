// SPDX-License-Identifier: MIT
//
// api_v2.h - pieces of the Open Inference Protocol's routes that api_v2*.c share.

#ifndef DAEMON_API_V2_H
#define DAEMON_API_V2_H

#include "models/err.h"

struct request;
struct loaded;

/* The model and precision that the path names (a reference), or NULL with ERR_NOT_FOUND, ERR_BUSY, ERR_DAMAGED. */
struct loaded *api_v2_loaded(struct request *r, struct err *e);

/* The reply for that error. */
void api_v2_refuse_model(struct request *r, const struct err *e);

#endif

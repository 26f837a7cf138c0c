// SPDX-License-Identifier: MIT
//
// api_precision.h - pieces of GET and PUT /precision that other files use.

#ifndef DAEMON_API_PRECISION_H
#define DAEMON_API_PRECISION_H

#include "daemon/registry.h"
#include "daemon/text.h"

struct request;

/* "resident":[...],"available":[...] */
void api_precision_lists(struct text *t, const struct model_state *m);

/* The switch itself; runs in the change thread. */
void api_precision_switch(struct request *r);

#endif

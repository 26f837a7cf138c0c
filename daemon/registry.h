// SPDX-License-Identifier: MIT
//
// registry.h - the models being served: which precisions are there, which are in memory, which one answers.
//
// A model in memory is immutable and counted: requests and workers' sessions hold it, so that publishing another one takes a
// pointer and a lock of nanoseconds, and the old one goes when its last request ends. Loading happens outside the lock, in one
// thread (change.h), and a failure leaves everything as it was.

#ifndef DAEMON_REGISTRY_H
#define DAEMON_REGISTRY_H

#include <stdatomic.h>

#include "daemon/budget.h"
#include "daemon/conf.h"
#include "models/model.h"

struct loaded {
    struct model *model;
    int slot; /* index for metrics and sessions: < MODELS_MAX, one per model name for the life of the process */
    char name[NETWORK_NAME_MAX];
    enum precision precision;
    int tasks;                        /* threads of a session: 1 when the network is too small to gain from more */
    size_t weight_bytes, arena_bytes; /* of one session */
    atomic_int refs, retired;         /* retired: no longer published; sessions of it should go */
    struct budget *budget;
    size_t reserved;
};
void loaded_free(struct loaded *l); /* drops one reference; NULL is fine */

struct registry;

struct registry *registry_new(struct budget *b, const struct kernels *k, int tasks); /* tasks: threads of a session */
void registry_free(struct registry *r);

/* Makes the registry what the configuration says: start and reload. Models whose file did not change stay as they are. When
   nothing is served yet, a model that does not pass its self-test is no failure: it has a place, is not served, and
   registry_ready says why. */
int registry_apply(struct registry *r, const struct conf *c, struct err *e);

/* Reads the headers of every model file that c would load. For -t. */
int registry_check(const struct conf *c, struct err *e);

/* model NULL: the first one; precision PRECISION_AUTO: the active one. The caller ends it with loaded_free. NULL back with
   ERR_NOT_FOUND (no such model, precision not installed), ERR_BUSY (installed, not in memory) or ERR_DAMAGED (its self-test
   failed at start). */
struct loaded *registry_get(struct registry *r, const char *model, int precision, struct err *e);

/* 0 when every model that the configuration wants in memory passed its self-test; else -1 with the reason. */
int registry_ready(struct registry *r, struct err *e);

struct model_state {
    char name[NETWORK_NAME_MAX];
    int slot, active;                    /* enum precision */
    int available;                       /* bits: the file is there */
    struct loaded *resident[PRECISIONS]; /* references; NULL: not in memory */
};
/* Copies the state of all models, in the order of the configuration; returns how many. End with registry_release. */
int registry_states(struct registry *r, struct model_state out[MODELS_MAX]);
void registry_release(struct model_state *states, int count);

/* Makes precision p the active one of a model (NULL: the first). *previous is what was active. */
int registry_switch(struct registry *r, const char *model, enum precision p, enum precision *previous, int *slot, struct err *e);

#endif

// SPDX-License-Identifier: MIT
//
// checkpoint.h - a checkpoint as others wrote it -> a network; the reader is picked by the file's content, not by its name.
//
// Which formats there are is one table in checkpoint.c: {name, suffixes, probe, import}. A new reader is a file of its own, its
// prototype, and a row there.

#ifndef MODELS_CHECKPOINT_CHECKPOINT_H
#define MODELS_CHECKPOINT_CHECKPOINT_H

#include "models/network.h"

struct import_options {
    const char *arch;                    /* what the checkpoint has to be ("resnet50", "resnet50-v1" ...); NULL: whatever it is */
    const struct preprocess *preprocess; /* NULL: the reader chooses by the network's stem and input */
};

/* *out is empty before the call. On success it is an fp32 network, or an int8 one with exactly the scales and zero points of its
   source; preprocess is set, name is the architecture's usual one. ERR_UNSUPPORTED when no reader knows the content or the
   library that its reader needs is not built in. Errors name the file and the place in it; *out is then empty. */
int checkpoint_import(const char *path, const struct import_options *o, struct network *out, struct err *e);

/* For readers: o's preprocessing, or that preset when it gives none. */
int checkpoint_preprocess(const struct import_options *o, const char *preset, struct preprocess *out, struct err *e);

#endif

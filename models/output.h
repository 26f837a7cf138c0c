// SPDX-License-Identifier: MIT
//
// output.h - a file that is there whole or not at all: written without a name (or, where there is no such thing, under another
// one) in its directory, synced, then renamed. What a killed writer left under that other name, the next one in the directory
// removes.

#ifndef MODELS_OUTPUT_H
#define MODELS_OUTPUT_H

#include <stdint.h>

#include "models/err.h"

struct output {
    int dir, fd;
    const char *base;   /* borrowed from the path */
    char temporary[64]; /* empty while the file has no name */
};

/* Errors name what failed, not the path. After success output_end must follow. */
int output_begin(const char *path, struct output *o, struct err *e);
int output_write(const struct output *o, const void *data, uint64_t size, struct err *e);

/* result 0: syncs the file, renames it over the path and syncs the directory. result -1, or when that fails: nothing is left
   behind and an old file at the path is untouched; -1. */
int output_end(struct output *o, int result, struct err *e);

#endif

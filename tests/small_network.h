// SPDX-License-Identifier: MIT
//
// small_network.h - a small network with every op, random weights and awkward labels, and a place to write it: for the tests of
// the model file.

#ifndef TESTS_SMALL_NETWORK_H
#define TESTS_SMALL_NETWORK_H

#include <stddef.h>
#include <stdint.h>

#include "models/network.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* Made and removed by the group fixtures below, which fail when a temporary file is left behind. */
extern char *dir, model[300], other[300]; /* dir/model.safetensors, dir/other.safetensors */
int make_dir(void **state);
int remove_dir(void **state);

extern const char graph_text[];                /* its graph as JSON */
void *take(size_t size);                       /* zeroed; ends the test when there is no memory */
struct network make_network(enum precision p); /* end it with network_free; all but fp32 have a self-test, of noise */
int same_network(const struct network *a, const struct network *b);
int is_empty(const struct network *n);

void write_good(const struct network *n);       /* into model */
uint8_t *slurp(const char *path, size_t *size); /* the whole file, to be freed */

#endif

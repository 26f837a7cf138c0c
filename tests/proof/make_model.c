// SPDX-License-Identifier: MIT
//
// make_model.c - model files for the tests of the daemon: whole and rightly digested, and yet wrong where it is wanted.
//
//     make_model FROM TO selftest   with golden inputs and logits as resnetctl writes them
//                        golden     whose last golden logit is another
//                        weight     one weight of which is another, and the golden logits are not
//                        plain      without a self-test
//                        infinite   without a self-test, and with sums beyond float (not int8)

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/file.h"
#include "models/selftest.h"

static int last_layer(const struct network *n)
{
    int i = n->graph.count - 1;
    while (!n->layers[i].weight)
        i--;
    return i;
}

static int change(struct network *n, const char *how, struct err *e)
{
    struct layer *l = &n->layers[last_layer(n)];
    if (strcmp(how, "plain") == 0 || strcmp(how, "infinite") == 0)
        selftest_free(&n->selftest);
    else if (selftest_make(n, NULL, e) < 0)
        return -1;
    if (strcmp(how, "golden") == 0)
        n->selftest.logits[n->selftest.images * n->graph.nodes[n->graph.output].c - 1] += 1;
    if (strcmp(how, "weight") == 0 && n->precision == PRECISION_INT8)
        l->bias_s32[0] += 1000;
    else if (strcmp(how, "weight") == 0)
        l->bias[0] += 1;
    for (int c = 0; strcmp(how, "infinite") == 0 && l->bias && c < n->graph.nodes[last_layer(n)].c; c++)
        l->bias[c] = 3e38f;
    for (int64_t i = 0;
         strcmp(how, "infinite") == 0 && n->precision == PRECISION_FP32 && i < node_weights(&n->graph, last_layer(n)); i++)
        ((float *)l->weight)[i] = 3e38f;
    return 0;
}

int main(int argc, char **argv)
{
    struct network n;
    struct err e;
    if (argc != 4)
        return 2;
    if (model_file_read(argv[1], &n, &e) == 0 && change(&n, argv[3], &e) == 0 && model_file_write(argv[2], &n, &e) == 0) {
        network_free(&n);
        return 0;
    }
    fprintf(stderr, "%s\n", e.text);
    network_free(&n);
    return 1;
}

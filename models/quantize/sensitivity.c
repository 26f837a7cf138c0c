// SPDX-License-Identifier: MIT

#include "models/quantize/sensitivity.h"

#include <stdlib.h>
#include <string.h>

#include "models/quantize/mixed.h"

static int compare_mixed(const struct calibration *c, const struct network *int8, const struct network *fp16,
                         const unsigned char *chosen, int most, struct fidelity *out, struct err *e)
{
    struct network n;
    if (mixed_network(int8, fp16, chosen, &n, e) < 0)
        return -1;
    const int rc = calibration_compare(c, &n, most, out, e);
    network_free(&n);
    return rc;
}

/* Most noise for the signal first; ties by node. */
static int worst_first(const void *a, const void *b)
{
    const struct sensitivity *x = a, *y = b;
    const double left = x->alone.noise * y->alone.signal, right = y->alone.noise * x->alone.signal;
    return left != right ? (left < right ? 1 : -1) : x->node - y->node;
}

int sensitivity_measure(const struct calibration *c, const struct network *int8, const struct network *fp16, int most, int both,
                        const struct quantize_options *o, struct sensitivity **out, int *count, struct err *e)
{
    const struct graph *g = &int8->graph;
    struct sensitivity *layers = calloc((size_t)g->count, sizeof *layers);
    unsigned char *chosen = malloc((size_t)g->count);
    int found = 0, rc = layers && chosen ? 0 : err_set(e, ERR_MEMORY, "no memory for %d layers", g->count);
    for (int i = 0; rc == 0 && i < g->count; i++)
        if (node_has_weights(&g->nodes[i]))
            layers[found++].node = i;
    for (int i = 0; rc == 0 && i < found; i++) {
        if (o && o->progress)
            o->progress(o->user, "layer by layer", i, found);
        memset(chosen, 1, (size_t)g->count);
        chosen[layers[i].node] = 0;
        rc = compare_mixed(c, int8, fp16, chosen, most, &layers[i].alone, e);
        if (rc < 0 || !both)
            continue;
        memset(chosen, 0, (size_t)g->count);
        chosen[layers[i].node] = 1;
        rc = compare_mixed(c, int8, fp16, chosen, most, &layers[i].spared, e);
    }
    free(chosen);
    if (rc < 0) {
        free(layers);
        return -1;
    }
    qsort(layers, (size_t)found, sizeof *layers, worst_first);
    *out = layers;
    *count = found;
    return 0;
}

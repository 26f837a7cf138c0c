// SPDX-License-Identifier: MIT

#include "models/quantize/search.h"

#include <stdlib.h>

#include "models/quantize/study.h"

/* The best network so far and how it was made. */
struct search {
    const struct network *n;
    const struct calibration *c;
    const struct quantize_options *o;
    struct recipe recipe;
    struct range *found[RANGE_METHODS]; /* int8: [graph.count] of each method that is tried */
    struct network best;
    struct quantize_result result;
    int steps, done; /* for the progress */
};

static void tell(struct search *s, const char *what, int done, int total)
{
    if (s->o->progress)
        s->o->progress(s->o->user, what, done, total);
}

/* The logits are never clipped. */
static int find_ranges(struct search *s, enum range_method m, struct err *e)
{
    const struct graph *g = &s->n->graph;
    s->found[m] = calloc((size_t)g->count, sizeof *s->found[m]);
    if (!s->found[m])
        return err_set(e, ERR_MEMORY, "no memory for the ranges");
    for (int i = 0; i < g->count; i++) {
        const struct histogram *h = calibration_histogram(s->c, i);
        if (h && h->images)
            s->found[m][i] = range_find(h, i == g->output ? RANGE_MINMAX : m);
    }
    return 0;
}

static double ratio(const struct fidelity *f)
{
    return f->signal > 0 ? f->noise / f->signal : f->noise;
}

/* Makes the network of that row, compares it, and keeps it when it is the best so far. */
static int try_one(struct search *s, struct quantize_try row, struct err *e)
{
    struct network q;
    tell(s, "trying", s->done++, s->steps);
    s->recipe.weights = row.weights;
    s->recipe.correct_bias = row.bias_corrected;
    if (s->recipe.precision == PRECISION_INT8)
        s->recipe.ranges = s->found[row.range];
    if (convert_network_by(s->n, &s->recipe, &q, e) < 0)
        return -1;
    if (calibration_compare(s->c, &q, 0, &row.fidelity, e) < 0) {
        network_free(&q);
        return -1;
    }
    const int i = s->result.count++;
    s->result.tries[i] = row;
    if (i > 0 && ratio(&row.fidelity) >= ratio(&s->result.tries[s->result.chosen].fidelity)) {
        network_free(&q);
        return 0;
    }
    s->result.chosen = i;
    network_free(&s->best);
    s->best = q;
    return 0;
}

/* Ranges first, under the simplest weights; then, under the best of them, what can be done about the weights. */
static int search(struct search *s, struct err *e)
{
    const int int8 = s->recipe.precision == PRECISION_INT8;
    const unsigned ranges = !int8 ? 1 : s->o->ranges ? s->o->ranges : RANGES_ALL;
    const unsigned usual = int8 ? 1u << WEIGHTS_BALANCED | 1u << WEIGHTS_GPTQ : WEIGHTS_ALL;
    const unsigned weights = s->o->weights ? s->o->weights : usual;
    const int first = __builtin_ctz(weights), gptq = weights >> WEIGHTS_GPTQ & 1;
    const int corrected = !s->o->plain_bias, methods = __builtin_popcount(ranges), roundings = __builtin_popcount(weights);
    struct layer_study *studies = NULL;
    int rc = 0;
    s->steps = methods + corrected * roundings + roundings - 1;
    if (gptq || corrected)
        rc = studies_make(s->n, s->c, gptq, s->o, &studies, e);
    s->recipe.studies = studies;
    for (int m = 0; rc == 0 && m < RANGE_METHODS; m++)
        if (ranges >> m & 1) {
            rc = int8 ? find_ranges(s, (enum range_method)m, e) : 0;
            if (rc == 0)
                rc = try_one(s, (struct quantize_try){.range = (enum range_method)m, .weights = (enum weight_rounding)first}, e);
        }
    const enum range_method range = rc == 0 ? s->result.tries[s->result.chosen].range : RANGE_MINMAX;
    for (int r = first; rc == 0 && r <= WEIGHTS_GPTQ; r++)
        for (int bias = r == first; rc == 0 && bias <= corrected; bias++)
            if (weights >> r & 1)
                rc = try_one(s, (struct quantize_try){.range = range, .weights = (enum weight_rounding)r, .bias_corrected = bias},
                             e);
    studies_free(studies, s->n->graph.count);
    return rc;
}

int quantize_search(const struct network *n, enum precision p, const struct quantize_options *o, const struct calibration *c,
                    struct network *out, struct quantize_result *result, struct err *e)
{
    struct search s = {.n = n, .c = c, .o = o, .recipe = {.precision = p}, .result = {.chosen = -1}};
    const int rc = search(&s, e);
    for (int m = 0; m < RANGE_METHODS; m++)
        free(s.found[m]);
    if (rc < 0) {
        network_free(&s.best);
        return -1;
    }
    *out = s.best;
    *result = s.result;
    return 0;
}

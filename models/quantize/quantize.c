// SPDX-License-Identifier: MIT

#include "models/quantize/quantize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/half.h"
#include "models/json.h"
#include "models/quantize/convert.h"
#include "models/quantize/study.h"

static const char *const rounding_names[] = {[WEIGHTS_NEAREST] = "nearest", [WEIGHTS_GPTQ] = "gptq"};

const char *weight_rounding_name(enum weight_rounding r)
{
    return rounding_names[r];
}

int quantize_parse_method(const char *text, unsigned *ranges, struct err *e)
{
    unsigned set = 0;
    if (!strcmp(text, "auto"))
        set = RANGES_ALL;
    else if (!strcmp(text, "percentile"))
        set = 1u << RANGE_PERCENTILE_99_99 | 1u << RANGE_PERCENTILE_99_999;
    for (int m = 0; m < RANGE_METHODS; m++)
        if (!strcmp(text, range_method_name((enum range_method)m)))
            set = 1u << m;
    if (!set)
        return err_set(e, ERR_INPUT, "there is no method %.32s: auto, minmax, average, percentile, mse or entropy", text);
    *ranges = set;
    return 0;
}

int quantize_parse_rounding(const char *text, unsigned *weights, struct err *e)
{
    unsigned set = !strcmp(text, "auto") ? WEIGHTS_ALL : 0;
    for (int r = WEIGHTS_NEAREST; r <= WEIGHTS_GPTQ; r++)
        if (!strcmp(text, rounding_names[r]))
            set = 1u << r;
    if (!set)
        return err_set(e, ERR_INPUT, "there is no rounding %.32s: auto, nearest or gptq", text);
    *weights = set;
    return 0;
}

/* ---- the search ---- */

/* The best network so far and how it was made. */
struct search {
    const struct network *n;
    const struct calibration *c;
    const struct quantize_options *o;
    struct recipe recipe;
    struct range *ranges; /* [graph.count], of the try */
    struct network best;
    struct quantize_result result;
    int tries; /* expected, for the progress */
};

static void find_ranges(struct search *s, enum range_method m)
{
    const struct graph *g = &s->n->graph;
    for (int i = 0; i < g->count; i++) {
        const struct histogram *h = calibration_histogram(s->c, i);
        if (h && h->images)
            s->ranges[i] = range_find(h, i == g->output ? RANGE_MINMAX : m);
    }
}

static int better(const struct fidelity *a, const struct fidelity *b)
{
    return a->noise * b->signal < b->noise * a->signal;
}

/* Makes the network of that row, compares it, and keeps it when it is the best so far. */
static int try_one(struct search *s, struct quantize_try row, struct err *e)
{
    struct network q;
    if (s->o->progress)
        s->o->progress(s->o->user, "trying", s->result.count, s->tries);
    s->recipe.weights = row.weights;
    s->recipe.correct_bias = row.bias_corrected;
    if (s->recipe.precision == PRECISION_INT8)
        find_ranges(s, row.range);
    if (convert_network_by(s->n, &s->recipe, &q, e) < 0)
        return -1;
    if (calibration_compare(s->c, &q, 0, &row.fidelity, e) < 0) {
        network_free(&q);
        return -1;
    }
    int i = s->result.count++;
    s->result.tries[i] = row;
    if (i > 0 && !better(&row.fidelity, &s->result.tries[s->result.chosen].fidelity)) {
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
    const unsigned ranges = s->o->ranges && int8 ? s->o->ranges : int8 ? RANGES_ALL : 1;
    const unsigned weights = s->o->weights ? s->o->weights : WEIGHTS_ALL;
    const enum weight_rounding first = weights & 1u << WEIGHTS_NEAREST ? WEIGHTS_NEAREST : WEIGHTS_GPTQ;
    const int gptq = weights >> WEIGHTS_GPTQ & 1, nearest = weights & 1;
    struct layer_study *studies = NULL;
    int rc = 0;
    s->tries = __builtin_popcount(ranges) + !s->o->plain_bias * (nearest + gptq) + (gptq && nearest);
    if (gptq || !s->o->plain_bias)
        rc = studies_make(s->n, s->c, gptq, s->o, &studies, e);
    s->recipe.studies = studies;
    for (int m = 0; rc == 0 && m < RANGE_METHODS; m++)
        if (ranges >> m & 1)
            rc = try_one(s, (struct quantize_try){.range = (enum range_method)m, .weights = first}, e);
    const enum range_method range = rc == 0 ? s->result.tries[s->result.chosen].range : RANGE_MINMAX;
    for (int r = first; rc == 0 && r <= WEIGHTS_GPTQ; r++)
        for (int bias = r == (int)first; rc == 0 && bias <= !s->o->plain_bias; bias++)
            if (weights >> r & 1)
                rc = try_one(s, (struct quantize_try){.range = range, .weights = (enum weight_rounding)r, .bias_corrected = bias},
                             e);
    studies_free(studies, s->n->graph.count);
    s->recipe.studies = NULL;
    return rc;
}

/* ---- what the file tells ---- */

static int put_row(cJSON *o, enum precision p, const struct quantize_try *t)
{
    const char *method = p == PRECISION_INT8 ? range_method_name(t->range) : "weights";
    int bad = !cJSON_AddStringToObject(o, "method", method);
    bad |= !cJSON_AddStringToObject(o, "weights", rounding_names[t->weights]);
    bad |= !cJSON_AddBoolToObject(o, "bias_corrected", t->bias_corrected);
    const double db = fidelity_db(&t->fidelity);
    bad |= !(isfinite(db) ? cJSON_AddNumberToObject(o, "logit_sqnr_db", round(db * 100) / 100)
                          : cJSON_AddNullToObject(o, "logit_sqnr_db"));
    bad |= !cJSON_AddNumberToObject(o, "agreement", round(fidelity_percent(&t->fidelity) * 100) / 100);
    return bad ? -1 : 0;
}

static char *describe(enum precision p, const struct calibration *c, const struct quantize_result *r)
{
    cJSON *o = cJSON_CreateObject(), *tried;
    int bad = !o;
    if (r->chosen < 0) {
        bad |= !cJSON_AddStringToObject(o, "method", p == PRECISION_FP16 ? "cast" : "weights");
    } else {
        bad |= put_row(o, p, &r->tries[r->chosen]);
        bad |= !cJSON_AddNumberToObject(o, "images", calibration_images(c));
        bad |= !cJSON_AddNumberToObject(o, "held_back", calibration_held(c));
        bad |= !(tried = cJSON_AddArrayToObject(o, "tried"));
        for (int i = 0; !bad && i < r->count; i++) {
            cJSON *row = cJSON_CreateObject();
            bad |= !row || put_row(row, p, &r->tries[i]) < 0;
            if (!cJSON_AddItemToArray(tried, row))
                cJSON_Delete(row);
        }
    }
    char *text = bad ? NULL : cJSON_PrintUnformatted(o);
    cJSON_Delete(o);
    return text;
}

/* ---- the network ---- */

static int check_activations(const struct network *n, const struct calibration *c, struct err *e)
{
    for (int i = 0; c && i < n->graph.count; i++) {
        const struct histogram *h = calibration_histogram(c, i);
        const float largest = h ? fmaxf(h->max, -h->min) : 0;
        if (largest > HALF_MAX)
            return err_set(e, ERR_UNSUPPORTED, "layer %s reaches %g in calibration, beyond fp16's %g", n->graph.nodes[i].name,
                           (double)largest, (double)HALF_MAX);
    }
    return 0;
}

int quantize_network(const struct network *n, enum precision p, const struct quantize_options *o, const struct calibration *c,
                     struct network *out, struct quantize_result *result, struct err *e)
{
    static const struct quantize_options all;
    if (n->precision != PRECISION_FP32 || p == PRECISION_FP32)
        return err_set(e, ERR_INPUT, "only fp32 networks can be quantised, and not to fp32: this is %s to %s",
                       precision_name(n->precision), precision_name(p));
    if (p == PRECISION_INT8 && !c)
        return err_set(e, ERR_INPUT, "int8 needs calibration");
    struct search s = {.n = n, .c = c, .o = o ? o : &all, .recipe = {.precision = p}, .result = {.chosen = -1}};
    int rc = 0;
    if (p == PRECISION_FP16 || !c) {
        rc = check_activations(n, c, e);
        if (rc == 0)
            rc = convert_network_by(n, &s.recipe, &s.best, e);
    } else {
        s.ranges = calloc((size_t)n->graph.count, sizeof *s.ranges);
        s.recipe.ranges = s.ranges;
        rc = s.ranges ? search(&s, e) : err_set(e, ERR_MEMORY, "no memory for the ranges");
    }
    if (rc == 0 && !(s.best.quantization = describe(p, c, &s.result)))
        rc = err_set(e, ERR_MEMORY, "no memory for a network");
    free(s.ranges);
    if (rc < 0) {
        network_free(&s.best);
        return -1;
    }
    *out = s.best;
    if (result)
        *result = s.result;
    return 0;
}

// SPDX-License-Identifier: MIT

#include "models/quantize/fallback.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "models/json.h"
#include "models/quantize/mixed.h"

int layers_parse(const struct graph *g, const char *names, unsigned char *chosen, struct err *e)
{
    for (const char *at = names;; at++) {
        const size_t length = strcspn(at, ",");
        int i = 0;
        while (i < g->count && (strlen(g->nodes[i].name) != length || memcmp(g->nodes[i].name, at, length) != 0))
            i++;
        if (i == g->count || !node_has_weights(&g->nodes[i]))
            return err_set(e, ERR_INPUT, "'%.*s' is no %s of this network", length < 96 ? (int)length : 96, at,
                           i == g->count ? "layer" : "convolution or dense layer");
        chosen[i] = 1;
        at += length;
        if (!*at)
            return 0;
    }
}

int guard_check(const struct guard *g, const struct fidelity *f, struct err *e)
{
    if (g->max_drop >= 0 && f->labelled == 0)
        return err_set(e, ERR_INPUT, "a limit for the drop of top-1 needs labelled images, and none of these has a label");
    if (g->min_agreement >= 0 && !(fidelity_percent(f) >= g->min_agreement))
        return err_set(e, ERR_INPUT, "top-1 agrees with fp32 on %.2f %% of %d held-back images, %g %% are asked for",
                       fidelity_percent(f), f->images, g->min_agreement);
    if (g->max_drop >= 0 && !(fidelity_drop(f) <= g->max_drop))
        return err_set(e, ERR_INPUT, "top-1 is %.2f points below fp32 on %d held-back images, at most %g are allowed",
                       fidelity_drop(f), f->labelled, g->max_drop);
    return 0;
}

void fallback_free(struct fallback *f)
{
    free(f->layers);
    f->layers = NULL;
    f->count = 0;
}

struct search {
    const struct calibration *c;
    const struct guard *guard;
    const unsigned char *keep;
    const struct quantize_options *o;
    const struct network *int8;
    struct network fp16;
    struct sensitivity *layers; /* worst first */
    int count, tries;
    unsigned char *in;     /* [count]: layers[i] works in fp16 */
    unsigned char *chosen; /* [graph.count], what that means for nodes */
};

/* The network with the layers of s->in and s->keep in fp16; *f says how it does. */
static int make(struct search *s, struct network *out, struct fidelity *f, struct err *e)
{
    for (int i = 0; i < s->int8->graph.count; i++)
        s->chosen[i] = s->keep && s->keep[i];
    for (int i = 0; i < s->count; i++)
        s->chosen[s->layers[i].node] |= s->in[i];
    if (mixed_network(s->int8, &s->fp16, s->chosen, out, e) < 0)
        return -1;
    if (calibration_compare(s->c, out, 0, f, e) == 0)
        return 0;
    network_free(out);
    return -1;
}

/* 1: the guard holds with s->in, 0: not, -1: e is set. */
static int holds(struct search *s, struct fidelity *f, struct err *e)
{
    struct network n;
    if (s->o && s->o->progress)
        s->o->progress(s->o->user, "fp16 layers", s->tries++, 3 * s->count);
    if (make(s, &n, f, e) < 0)
        return -1;
    network_free(&n);
    return guard_check(s->guard, f, NULL) == 0;
}

static int holds_with_first(struct search *s, int first, struct fidelity *f, struct err *e)
{
    for (int i = 0; i < s->count; i++)
        s->in[i] = i < first;
    return holds(s, f, e);
}

/* The least number of the most sensitive layers with which the guard holds, in s->in. */
static int find_first(struct search *s, struct fidelity *f, struct err *e)
{
    int fails = 0, held = 1, rc;
    while ((rc = holds_with_first(s, held, f, e)) == 0) {
        if (held == s->count) {
            guard_check(s->guard, f, e);
            return err_prefix(e, "even with all layers in fp16");
        }
        fails = held;
        held = 2 * held < s->count ? 2 * held : s->count;
    }
    while (rc >= 0 && held - fails > 1) {
        const int middle = fails + (held - fails) / 2;
        rc = holds_with_first(s, middle, f, e);
        if (rc > 0)
            held = middle;
        else
            fails = middle;
    }
    for (int i = 0; i < s->count; i++)
        s->in[i] = i < held;
    return rc < 0 ? -1 : held;
}

/* Some of them may only have stood beside a worse one, whose noise they passed on. */
static int take_back(struct search *s, int first, struct err *e)
{
    struct fidelity f;
    for (int i = first - 2; i >= 0; i--) {
        s->in[i] = 0;
        const int rc = holds(s, &f, e);
        if (rc < 0)
            return -1;
        s->in[i] = rc == 0;
    }
    return 0;
}

/* Layers that are kept in fp16 anyway leave the list. */
static void without_kept(struct search *s)
{
    int count = 0;
    for (int i = 0; i < s->count; i++)
        if (!s->keep || !s->keep[s->layers[i].node])
            s->layers[count++] = s->layers[i];
    s->count = count;
}

static int search(struct search *s, struct fallback *out, struct err *e)
{
    if (sensitivity_measure(s->c, s->int8, &s->fp16, FALLBACK_IMAGES, 0, s->o, &s->layers, &s->count, e) < 0)
        return -1;
    without_kept(s);
    if (s->count == 0)
        return guard_check(s->guard, &out->before, e);
    s->in = calloc((size_t)s->count, 1);
    if (!s->in)
        return err_set(e, ERR_MEMORY, "no memory for %d layers", s->count);
    const int first = find_first(s, &out->after, e);
    return first < 0 ? -1 : take_back(s, first, e);
}

/* ---- what the file tells */

static int put_fidelity(cJSON *o, const struct fidelity *f)
{
    const double db = fidelity_db(f), drop = fidelity_drop(f);
    int ok = cJSON_AddNumberToObject(o, "agreement", round(fidelity_percent(f) * 100) / 100) != NULL;
    ok = ok && (isfinite(db) ? cJSON_AddNumberToObject(o, "logit_sqnr_db", round(db * 100) / 100)
                             : cJSON_AddNullToObject(o, "logit_sqnr_db"));
    return ok && (isnan(drop) || cJSON_AddNumberToObject(o, "top1_drop", round(drop * 100) / 100));
}

/* g: of the fp32 network, which f counts by. */
static int describe(const struct fallback *f, const struct graph *g, struct network *q, struct err *e)
{
    cJSON *o = json_parse(q->quantization, strlen(q->quantization), e);
    if (!o)
        return err_prefix(e, "quantization");
    cJSON *fallback = cJSON_AddObjectToObject(o, "fallback");
    cJSON *before = cJSON_AddObjectToObject(fallback, "before"), *after = cJSON_AddObjectToObject(fallback, "after");
    cJSON *layers = cJSON_AddArrayToObject(fallback, "layers");
    int ok = before && after && layers && put_fidelity(before, &f->before) && put_fidelity(after, &f->after);
    for (int i = 0; ok && i < f->count; i++) {
        cJSON *row = cJSON_CreateObject();
        ok = row && cJSON_AddItemToArray(layers, row) && cJSON_AddStringToObject(row, "name", g->nodes[f->layers[i].node].name) &&
             put_fidelity(row, &f->layers[i].alone);
    }
    char *text = ok ? cJSON_PrintUnformatted(o) : NULL;
    cJSON_Delete(o);
    if (!text)
        return err_set(e, ERR_MEMORY, "no memory for a network");
    free(q->quantization);
    q->quantization = text;
    return 0;
}

/* The layers of s->in, in their order, become those of *out. */
static void report(struct search *s, struct fallback *out)
{
    for (int i = 0; i < s->count; i++)
        if (s->in[i])
            s->layers[out->count++] = s->layers[i];
    out->layers = s->layers;
    s->layers = NULL;
}

int fall_back(const struct calibration *c, const struct guard *g, const unsigned char *keep, const struct quantize_options *o,
              struct network *q, struct fallback *out, struct err *e)
{
    struct search s = {.c = c, .guard = g, .keep = keep, .o = o, .int8 = q};
    struct network mixed = {0};
    *out = (struct fallback){0};
    if (calibration_compare(c, q, 0, &out->before, e) < 0)
        return -1;
    out->after = out->before;
    if (!keep && guard_check(g, &out->before, NULL) == 0)
        return 0;
    if (g->max_drop >= 0 && out->before.labelled == 0)
        return guard_check(g, &out->before, e);
    s.chosen = malloc((size_t)q->graph.count);
    int rc = s.chosen ? 0 : err_set(e, ERR_MEMORY, "no memory for %d layers", q->graph.count);
    if (rc == 0 && quantize_network(calibration_network(c), PRECISION_FP16, NULL, c, &s.fp16, NULL, e) < 0)
        rc = err_prefix(e, "layers in fp16");
    if (rc == 0 && (rc = make(&s, &mixed, &out->before, e)) == 0 && guard_check(g, &out->before, NULL) < 0) {
        network_free(&mixed);
        rc = search(&s, out, e);
        if (rc == 0)
            rc = make(&s, &mixed, &out->after, e);
        if (rc == 0)
            report(&s, out);
    } else if (rc == 0) {
        out->after = out->before;
    }
    if (rc == 0 && out->count)
        rc = describe(out, &q->graph, &mixed, e);
    if (rc == 0) {
        network_free(q);
        *q = mixed;
    } else {
        network_free(&mixed);
    }
    network_free(&s.fp16);
    free(s.layers);
    free(s.in);
    free(s.chosen);
    return rc;
}

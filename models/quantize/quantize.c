// SPDX-License-Identifier: MIT

#include "models/quantize/quantize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/half.h"
#include "models/json.h"
#include "models/quantize/convert.h"
#include "models/quantize/search.h"

static const char *const rounding_names[] = {
    [WEIGHTS_BALANCED] = "balanced", [WEIGHTS_NEAREST] = "nearest", [WEIGHTS_GPTQ] = "gptq"};

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
    unsigned set = 0;
    for (int r = WEIGHTS_BALANCED; r <= WEIGHTS_GPTQ; r++)
        if (!strcmp(text, rounding_names[r]))
            set = 1u << r;
    if (!set && strcmp(text, "auto") != 0)
        return err_set(e, ERR_INPUT, "there is no rounding %.32s: auto, balanced, nearest or gptq", text);
    *weights = set;
    return 0;
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

/* weights: of a network of which nothing was tried. */
static char *describe(enum precision p, enum weight_rounding weights, const struct calibration *c,
                      const struct quantize_result *r)
{
    cJSON *o = cJSON_CreateObject(), *tried;
    int bad = !o;
    if (r->chosen < 0) {
        bad |= !cJSON_AddStringToObject(o, "method", p == PRECISION_FP16 ? "cast" : "weights");
        bad |= p == PRECISION_HYBRID && !cJSON_AddStringToObject(o, "weights", rounding_names[weights]);
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
    struct recipe plain = {.precision = p,
                           .weights = o && o->weights ? (enum weight_rounding)__builtin_ctz(o->weights) : WEIGHTS_BALANCED};
    if (p == PRECISION_HYBRID && !c && plain.weights == WEIGHTS_GPTQ)
        return err_set(e, ERR_INPUT, "rounding by gptq needs calibration");
    struct quantize_result r = {.chosen = -1};
    struct network q = {0};
    int rc = p == PRECISION_FP16 ? check_activations(n, c, e) : 0;
    if (rc == 0 && (p == PRECISION_FP16 || !c))
        rc = convert_network_by(n, &plain, &q, e);
    else if (rc == 0)
        rc = quantize_search(n, p, o ? o : &all, c, &q, &r, e);
    if (rc == 0 && !(q.quantization = describe(p, plain.weights, c, &r)))
        rc = err_set(e, ERR_MEMORY, "no memory for a network");
    if (rc < 0) {
        network_free(&q);
        return -1;
    }
    *out = q;
    if (result)
        *result = r;
    return 0;
}

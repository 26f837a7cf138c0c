// SPDX-License-Identifier: MIT

#include "models/quantize/convert.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/half.h"
#include "models/plan.h"
#include "models/quantize/balance.h"

/* A scale must stay a normal number, or dividing by it loses the weights. */
static float weight_scale(const float *w, int64_t depth)
{
    float max = 0;
    for (int64_t i = 0; i < depth; i++)
        max = fabsf(w[i]) > max ? fabsf(w[i]) : max;
    const float s = max / 127.0f;
    return s >= 1e-30f ? s : 1;
}

void quantize_weights(const float *w, int channels, int64_t depth, int8_t *q, float *scale)
{
    for (int o = 0; o < channels; o++) {
        const float *row = w + (int64_t)o * depth, s = weight_scale(row, depth);
        scale[o] = s;
        for (int64_t i = 0; i < depth; i++) {
            long v = lrintf(row[i] / s);
            q[(int64_t)o * depth + i] = (int8_t)(v > 127 ? 127 : v < -127 ? -127 : v);
        }
    }
}

/* ---- the input ---- */

/* Sum of squared errors over all values that a pixel can become, as the session rounds them. */
static double input_error(const struct preprocess *p, struct quant q)
{
    double sum = 0;
    for (int c = 0; c < 3; c++)
        for (int i = 0; i < 256; i++) {
            const float x = preprocess_value(p, c, (uint8_t)i);
            const long y = lrintf(x / q.scale) + q.zero;
            const double error = (double)q.scale * (double)((y < -128 ? -128 : y > 127 ? 127 : y) - q.zero) - (double)x;
            sum += error * error;
        }
    return sum;
}

#define INPUT_STEPS 100    /* scales that are tried, from that of preprocess_quant */
#define INPUT_STEP  0.001f /* up to a tenth above */
#define INPUT_GAIN  0.8    /* of the error, or the plain one stays */

/* Values from -1 to 1 in 256 steps lie half way between two quantised ones, the worst place there is: every error is half a step,
   up for one pixel and down for the next. A slightly larger step spreads them. */
static struct quant input_quant(const struct preprocess *p)
{
    const struct quant plain = preprocess_quant(p);
    struct quant best = plain;
    double least = INPUT_GAIN * input_error(p, plain);
    for (int i = 0; i <= INPUT_STEPS; i++)
        for (int zero = plain.zero - 1; zero <= plain.zero + 1; zero++) {
            const struct quant q = {plain.scale * (1 + (float)i * INPUT_STEP), zero < -128 ? -128 : zero > 127 ? 127 : zero};
            const double error = input_error(p, q);
            if (error < least) {
                least = error;
                best = q;
            }
        }
    return best;
}

/* ---- ranges to quants ---- */

/* Tensors that a plan materialises were observed. A convolution fused into an add takes the add's; pooling by maximum and the
   parameter-free shortcut copy values, so they keep their input's. */
static int make_quants(const struct network *n, const struct range *ranges, struct quant *quants, struct err *e)
{
    const struct graph *g = &n->graph;
    struct plan plan;
    if (plan_make(g, 1, &plan, e) < 0)
        return -1;
    quants[0] = input_quant(&n->preprocess);
    for (int s = 0; s < plan.count; s++) {
        const struct step *step = &plan.steps[s];
        struct range r = ranges[step->node];
        if (step->op == OP_MAXPOOL || step->op == OP_SHORTCUT)
            quants[step->node] = quants[step->in[0]];
        else
            quants[step->node] = quant_from_range(step->relu && r.min < 0 ? 0 : r.min, r.max);
        if (step->weights >= 0)
            quants[step->weights] = quants[step->node];
    }
    plan_free(&plan);
    return 0;
}

/* ---- layers ---- */

static int to_fp16(const struct node *n, const struct layer *from, struct layer *to, int64_t count, struct err *e)
{
    uint16_t *w = malloc((size_t)count * sizeof *w);
    to->weight = w;
    to->bias = malloc((size_t)n->c * sizeof *to->bias);
    if (!w || !to->bias)
        return err_set(e, ERR_MEMORY, "no memory for layer %s", n->name);
    for (int64_t i = 0; i < count; i++) {
        float v = ((const float *)from->weight)[i];
        if (fabsf(v) > HALF_MAX)
            return err_set(e, ERR_UNSUPPORTED, "layer %s has a weight of %g, beyond fp16's %g", n->name, (double)v,
                           (double)HALF_MAX);
        w[i] = half_from_float(v);
    }
    memcpy(to->bias, from->bias, (size_t)n->c * sizeof *to->bias);
    return 0;
}

static int to_int8_weights(const struct node *n, const struct layer *from, struct layer *to, int64_t count,
                           const struct recipe *r, const struct layer_study *study, struct err *e)
{
    to->weight = malloc((size_t)count);
    to->scale = malloc((size_t)n->c * sizeof *to->scale);
    if (!to->weight || !to->scale)
        return err_set(e, ERR_MEMORY, "no memory for layer %s", n->name);
    if (r->weights == WEIGHTS_GPTQ && study && study->rounded) {
        memcpy(to->weight, study->rounded, (size_t)count);
        for (int o = 0; o < n->c; o++)
            to->scale[o] = weight_scale((const float *)from->weight + o * (count / n->c), count / n->c);
    } else {
        quantize_weights(from->weight, n->c, count / n->c, to->weight, to->scale);
        if (r->weights != WEIGHTS_NEAREST)
            balance_weights(from->weight, n->c, count / n->c, n->kernel_h * n->kernel_w, to->scale, to->weight);
    }
    return 0;
}

/* What the output of channel o lacks on average because its weights were rounded. */
static double mean_error(const struct node *n, const struct layer *from, const struct layer *to, int o, int64_t depth,
                         const struct recipe *r, const struct layer_study *study)
{
    if (!r->correct_bias || !study || !study->mean)
        return 0;
    const float *mean = study->mean + (int64_t)(o / (n->c / n->groups)) * depth;
    const float *w = (const float *)from->weight + (int64_t)o * depth;
    const int8_t *q = (const int8_t *)to->weight + (int64_t)o * depth;
    double sum = 0;
    for (int64_t i = 0; i < depth; i++)
        sum += ((double)w[i] - (double)to->scale[o] * q[i]) * (double)mean[i];
    return sum;
}

static int to_hybrid(const struct node *n, const struct layer *from, struct layer *to, int64_t count, const struct recipe *r,
                     const struct layer_study *study, struct err *e)
{
    if (to_int8_weights(n, from, to, count, r, study, e) < 0)
        return -1;
    to->bias = malloc((size_t)n->c * sizeof *to->bias);
    if (!to->bias)
        return err_set(e, ERR_MEMORY, "no memory for layer %s", n->name);
    for (int o = 0; o < n->c; o++)
        to->bias[o] = (float)((double)from->bias[o] + mean_error(n, from, to, o, count / n->c, r, study));
    return 0;
}

/* A channel whose weights are tiny beside its bias would need a bias beyond 31 bits: its scale is raised until the bias fits,
   which costs weights that hardly matter there. */
#define BIAS_MAX (1 << 30)

static void fit_bias(const struct layer *from, struct layer *to, int o, int64_t depth, float in_scale)
{
    double least = fabs((double)from->bias[o]) / ((double)in_scale * BIAS_MAX);
    if ((double)to->scale[o] >= least)
        return;
    float s = nextafterf((float)least, INFINITY);
    to->scale[o] = s;
    int8_t *q = (int8_t *)to->weight + (int64_t)o * depth;
    const float *w = (const float *)from->weight + (int64_t)o * depth;
    for (int64_t i = 0; i < depth; i++)
        q[i] = (int8_t)lrintf(w[i] / s);
}

static int to_int8(const struct network *n, int node, const struct quant *in, struct layer *to, int64_t count,
                   const struct recipe *r, const struct layer_study *study, struct err *e)
{
    const struct node *v = &n->graph.nodes[node];
    const struct layer *from = &n->layers[node];
    if (to_int8_weights(v, from, to, count, r, study, e) < 0)
        return -1;
    to->bias_s32 = malloc((size_t)v->c * sizeof *to->bias_s32);
    if (!to->bias_s32)
        return err_set(e, ERR_MEMORY, "no memory for layer %s", v->name);
    for (int o = 0; o < v->c; o++) {
        fit_bias(from, to, o, count / v->c, in->scale);
        double bias = (double)from->bias[o] + mean_error(v, from, to, o, count / v->c, r, study);
        to->bias_s32[o] = (int32_t)lrint(bias / ((double)in->scale * (double)to->scale[o]));
    }
    const struct node *input = &n->graph.nodes[v->in[0]];
    struct conv_shape shape = {
        .in_c = input->c, .out_c = v->c, .kernel_h = v->kernel_h, .kernel_w = v->kernel_w, .groups = v->groups};
    struct conv_params params = {.weight = to->weight, .bias_s32 = to->bias_s32};
    int channel = conv_check_s8(&shape, &params);
    if (channel >= 0)
        return err_set(e, ERR_UNSUPPORTED, "layer %s, channel %d: sums could leave 32 bits", v->name, channel);
    return 0;
}

/* ---- the network ---- */

static int copy_rest(const struct network *n, struct network *q, struct err *e)
{
    memcpy(q->name, n->name, sizeof q->name);
    q->preprocess = n->preprocess;
    q->layers = calloc((size_t)n->graph.count, sizeof *q->layers);
    if (!q->layers || graph_copy(&n->graph, &q->graph, e) < 0)
        return q->layers ? -1 : err_set(e, ERR_MEMORY, "no memory for a network");
    if (n->provenance && !(q->provenance = strdup(n->provenance)))
        return err_set(e, ERR_MEMORY, "no memory for a network");
    if (n->label_count == 0)
        return 0;
    q->labels = calloc((size_t)n->label_count, sizeof *q->labels);
    for (int i = 0; q->labels && i < n->label_count; i++) {
        if (!(q->labels[i] = strdup(n->labels[i])))
            return err_set(e, ERR_MEMORY, "no memory for labels");
        q->label_count = i + 1;
    }
    return q->labels ? 0 : err_set(e, ERR_MEMORY, "no memory for labels");
}

static int convert(const struct network *n, const struct recipe *r, struct network *q, struct err *e)
{
    const struct graph *g = &n->graph;
    if (r->precision == PRECISION_INT8) {
        q->quants = calloc((size_t)g->count, sizeof *q->quants);
        if (!q->quants)
            return err_set(e, ERR_MEMORY, "no memory for a network");
        if (make_quants(n, r->ranges, q->quants, e) < 0)
            return -1;
    }
    for (int i = 0; i < g->count; i++) {
        const struct node *v = &g->nodes[i];
        if (!node_has_weights(v))
            continue;
        const int64_t count = node_weights(g, i);
        const struct layer *from = &n->layers[i];
        const struct layer_study *study = r->studies ? &r->studies[i] : NULL;
        struct layer *to = &q->layers[i];
        int bad = r->precision == PRECISION_FP16     ? to_fp16(v, from, to, count, e)
                  : r->precision == PRECISION_HYBRID ? to_hybrid(v, from, to, count, r, study, e)
                                                     : to_int8(n, i, &q->quants[v->in[0]], to, count, r, study, e);
        if (bad)
            return -1;
    }
    return 0;
}

int convert_network_by(const struct network *n, const struct recipe *r, struct network *out, struct err *e)
{
    struct network q = {.precision = r->precision};
    if (copy_rest(n, &q, e) < 0 || convert(n, r, &q, e) < 0) {
        network_free(&q);
        return -1;
    }
    *out = q;
    return 0;
}

// SPDX-License-Identifier: MIT
//
// Forward and backward of an int8 network that learns.

#include <math.h>
#include <pthreadpool.h>
#include <string.h>

#include "kernels/pool.h"
#include "models/train/fake_quantise.h"
#include "models/train/qat_parts.h"

void qat_parallel(const struct qat *q, void (*task)(void *user, size_t i), void *user, size_t tasks)
{
    pthreadpool_parallelize_1d(q->pool, task, user, tasks, 0); /* without a pool here and now */
}

/* ---- parameters to integers ---- */

#define SCALE_SPAN 64 /* how far a scale may go from where it began, up or down */
#define BIAS_MAX   (1 << 30)

static float kept_near(float scale, float begin)
{
    const float lo = begin / SCALE_SPAN, hi = begin * SCALE_SPAN;
    scale = scale > lo ? scale : lo; /* NaN too */
    return scale < hi ? scale : hi;
}

static int32_t integer_bias(float bias, double unit)
{
    double b = (double)bias / unit;
    b = b > -BIAS_MAX ? b : -BIAS_MAX;
    return (int32_t)lrint(b < BIAS_MAX ? b : BIAS_MAX);
}

static void prepare_layer(void *user, size_t i)
{
    struct qat *q = user;
    struct qat_step *s = &q->steps[i];
    struct qat_layer *l = s->layer;
    if (!l)
        return;
    struct layer *to = &q->net.layers[s->plan.weights];
    const struct quant *in = &q->net.quants[s->plan.in[0]], *out = &q->net.quants[s->plan.node];
    const float *weight = q->parameters[l->weight].value, *bias = q->parameters[l->bias].value;
    float *scale = q->parameters[l->scale].value;
    for (int o = 0; o < l->shape.out_c; o++) {
        scale[o] = to->scale[o] = kept_near(scale[o], l->begin[o]);
        fake_quantise_weights(weight + o * l->depth, l->depth, scale[o], l->levels, (int8_t *)to->weight + o * l->depth);
        to->bias_s32[o] = integer_bias(bias[o], (double)in->scale * (double)scale[o]);
        const float product = in->scale * scale[o];
        l->mult[o] = s->logits ? product : product / out->scale;
    }
    /* With scales of 1 the kernels' logits are the sums, each converted to float once. */
    const struct conv_params params = {
        .weight = to->weight, .scale = q->ones, .bias_s32 = to->bias_s32, .in = {1, in->zero}, .out = {1, 0}, .float_out = 1};
    l->conv = conv_init(l->memory, q->kernels, PRECISION_INT8, &l->shape, &params);
}

void qat_prepare(struct qat *q)
{
    for (int i = 0; i < q->plan.count; i++) {
        struct qat_step *s = &q->steps[i];
        struct quant *quants = q->net.quants;
        if (s->scale >= 0) {
            float *scale = q->parameters[s->scale].value;
            quants[s->plan.node].scale = *scale = kept_near(*scale, s->begin);
        } else if (!s->logits) {
            quants[s->plan.node] = quants[s->plan.in[0]];
        }
        if (s->plan.weights >= 0)
            quants[s->plan.weights] = quants[s->plan.node];
    }
    qat_parallel(q, prepare_layer, q, (size_t)q->plan.count);
}

/* ---- one step ---- */

static int first_image(const struct qat *q, size_t part)
{
    return (int)((size_t)q->images * part / qat_parts(q->images));
}

static size_t values_of(const struct qat *q, int node)
{
    const struct node *n = &q->net.graph.nodes[node];
    return (size_t)n->h * (size_t)n->w * (size_t)n->c;
}

/* Tensor of a node, from an image on. */
static int8_t *tensor(const struct qat *q, int node, int image)
{
    return q->tensor[node] + (size_t)image * values_of(q, node);
}

/* What a step rounds: distances from the zero point in steps of the output; of logits, these. */
static void steps_of_conv(const struct qat *q, const struct qat_step *s, int image, int images, float *t, void *scratch)
{
    const struct quant *quants = q->net.quants;
    const int r = s->plan.in[1];
    const struct conv_io io = {tensor(q, s->plan.in[0], image), NULL, t, images};
    const size_t channels = (size_t)s->layer->shape.out_c;
    conv_run(s->layer->conv, &io, 0, 1, scratch);
    fake_quantise_steps(t, (size_t)images * s->size / channels, channels, s->layer->mult, r >= 0 ? tensor(q, r, image) : NULL,
                        r >= 0 ? quants[r].zero : 0, r >= 0 ? quants[r].scale / quants[s->plan.node].scale : 0);
}

static void steps_of_add(const struct qat *q, const struct qat_step *s, int image, int images, float *t)
{
    const struct quant *a = &q->net.quants[s->plan.in[0]], *b = &q->net.quants[s->plan.in[1]];
    const float scale = q->net.quants[s->plan.node].scale, ma = a->scale / scale, mb = b->scale / scale;
    const int8_t *qa = tensor(q, s->plan.in[0], image), *qb = tensor(q, s->plan.in[1], image);
    for (size_t i = 0; i < (size_t)images * s->size; i++)
        t[i] = (float)(qa[i] - a->zero) * ma + (float)(qb[i] - b->zero) * mb;
}

static void steps_of_avgpool(const struct qat *q, const struct qat_step *s, int image, int images, float *t)
{
    const struct quant *in = &q->net.quants[s->plan.in[0]], *out = &q->net.quants[s->plan.node];
    const int8_t *x = tensor(q, s->plan.in[0], image);
    const size_t pixels = values_of(q, s->plan.in[0]) / s->size;
    const float m = in->scale / ((float)(int)pixels * out->scale);
    for (int i = 0; i < images; i++, x += pixels * s->size, t += s->size)
        for (size_t c = 0; c < s->size; c++) {
            int32_t sum = 0;
            for (size_t k = 0; k < pixels; k++)
                sum += x[k * s->size + c] - in->zero;
            t[c] = (float)sum * m;
        }
}

static void steps_of(const struct qat *q, const struct qat_step *s, int image, int images, float *t, void *scratch)
{
    if (s->layer)
        steps_of_conv(q, s, image, images, t, scratch);
    else if (s->plan.op == OP_ADD)
        steps_of_add(q, s, image, images, t);
    else
        steps_of_avgpool(q, s, image, images, t);
}

static struct pool_shape pool_shape(const struct graph *g, const struct step *s)
{
    const struct node *in = &g->nodes[s->in[0]], *n = &g->nodes[s->node];
    return (struct pool_shape){in->h,       in->w,       in->c,       n->h,       n->w,       n->kernel_h,
                               n->kernel_w, n->stride_h, n->stride_w, n->pad_top, n->pad_left};
}

static struct shortcut_shape shortcut_shape(const struct graph *g, const struct step *s)
{
    const struct node *in = &g->nodes[s->in[0]], *n = &g->nodes[s->node];
    return (struct shortcut_shape){in->h, in->w, in->c, n->h, n->w, n->stride_h, n->stride_w, n->pad_before, n->pad_after};
}

/* ---- forward ---- */

struct forward {
    const struct qat *q;
    const float *x; /* the input as floats */
};

static void quantise_input(const struct qat *q, const float *x, size_t part)
{
    const struct quant *in = &q->net.quants[0];
    const size_t size = values_of(q, 0);
    float *t = q->parts[part].steps;
    for (int i = first_image(q, part); i < first_image(q, part + 1); i++) {
        for (size_t k = 0; k < size; k++)
            t[k] = x[(size_t)i * size + k] / in->scale;
        fake_quantise(t, size, (float)(-128 - in->zero), (float)(127 - in->zero), in->zero, tensor(q, 0, i));
    }
}

static void forward_images(const struct qat *q, const struct qat_step *s, int image, int images, const struct qat_part *p)
{
    const struct graph *g = &q->net.graph;
    const int zero = q->net.quants[s->plan.node].zero;
    const int8_t *x = tensor(q, s->plan.in[0], image);
    if (s->plan.op == OP_MAXPOOL) {
        const struct pool_shape shape = pool_shape(g, &s->plan);
        maxpool_run(q->kernels, PRECISION_INT8, &shape, x, tensor(q, s->plan.node, image), images, 0, 1);
    } else if (s->plan.op == OP_SHORTCUT) {
        const struct shortcut_shape shape = shortcut_shape(g, &s->plan);
        shortcut_run(PRECISION_INT8, &shape, zero, x, tensor(q, s->plan.node, image), images, 0, 1);
    } else if (s->logits) {
        steps_of(q, s, image, images, q->logits + (size_t)image * s->size, p->scratch);
    } else {
        steps_of(q, s, image, images, p->steps, p->scratch);
        fake_quantise(p->steps, (size_t)images * s->size, s->lo, s->hi, zero, tensor(q, s->plan.node, image));
    }
}

/* All steps: nothing forwards asks for other images, and these stay in the cache. */
static void forward_part(void *user, size_t part)
{
    const struct forward *f = user;
    const struct qat *q = f->q;
    const int end = first_image(q, part + 1);
    quantise_input(q, f->x, part);
    for (const struct qat_step *s = q->steps; s < q->steps + q->plan.count; s++)
        for (int i = first_image(q, part); i < end; i += s->together)
            forward_images(q, s, i, end - i < s->together ? end - i : s->together, &q->parts[part]);
}

const float *qat_forward(struct qat *q, const float *x, int images)
{
    const int output = q->net.graph.output;
    q->images = images;
    qat_prepare(q);
    qat_parallel(q, forward_part, &(struct forward){q, x}, qat_parts(images));
    if (q->tensor[output]) {
        const struct quant *out = &q->net.quants[output];
        for (size_t i = 0; i < (size_t)images * values_of(q, output); i++)
            q->logits[i] = out->scale * (float)(q->tensor[output][i] - out->zero);
    }
    return q->logits;
}

/* ---- backward ---- */

struct work {
    struct qat *q;
    const struct qat_step *s;
    const struct conv_to_input *to_input;
};

static float *gradient(const struct qat *q, int node, int image)
{
    return q->gradient[q->slot[node]] + (size_t)image * values_of(q, node);
}

static void pass(const float *from, size_t count, int add, float *to)
{
    if (!add)
        memcpy(to, from, count * sizeof *to);
    for (size_t i = 0; add && i < count; i++)
        to[i] += from[i];
}

static void back_through_maxpool(const struct qat *q, const struct step *p, int image, const float *g, float *to)
{
    const struct pool_shape s = pool_shape(&q->net.graph, p);
    const int8_t *x = tensor(q, p->in[0], image);
    for (int oy = 0; oy < s.out_h; oy++)
        for (int ox = 0; ox < s.out_w; ox++) {
            const int top = oy * s.stride_h - s.pad_top, left = ox * s.stride_w - s.pad_left;
            const int h0 = top < 0 ? 0 : top, h1 = top + s.kernel_h < s.in_h ? top + s.kernel_h : s.in_h;
            const int w0 = left < 0 ? 0 : left, w1 = left + s.kernel_w < s.in_w ? left + s.kernel_w : s.in_w;
            for (int c = 0; c < s.c; c++) {
                size_t best = ((size_t)h0 * (size_t)s.in_w + (size_t)w0) * (size_t)s.c + (size_t)c;
                for (int h = h0; h < h1; h++)
                    for (int w = w0; w < w1; w++) {
                        const size_t at = ((size_t)h * (size_t)s.in_w + (size_t)w) * (size_t)s.c + (size_t)c;
                        best = x[at] > x[best] ? at : best; /* the first of equals */
                    }
                to[best] += *g++;
            }
        }
}

static void back_through_shortcut(const struct qat *q, const struct step *p, const float *g, float *to)
{
    const struct shortcut_shape s = shortcut_shape(&q->net.graph, p);
    const int channels = s.pad_before + s.in_c + s.pad_after;
    for (int oy = 0; oy < s.out_h; oy++)
        for (int ox = 0; ox < s.out_w; ox++, g += channels) {
            float *at = to + ((size_t)(oy * s.stride_h) * (size_t)s.in_w + (size_t)(ox * s.stride_w)) * (size_t)s.in_c;
            for (int c = 0; c < s.in_c; c++)
                at[c] += g[s.pad_before + c];
        }
}

static void back_through_avgpool(const struct qat *q, const struct qat_step *s, const float *g, int add, float *to)
{
    const size_t pixels = values_of(q, s->plan.in[0]) / s->size;
    for (size_t i = 0; i < pixels; i++)
        for (size_t c = 0; c < s->size; c++)
            to[i * s->size + c] = (add ? to[i * s->size + c] : 0) + g[c] / (float)pixels;
}

static void dequantise(const int8_t *q, size_t count, const struct quant *quant, float *x)
{
    for (size_t i = 0; i < count; i++)
        x[i] = quant->scale * (float)(q[i] - quant->zero);
}

/* Pools and shortcuts, image by image. */
static void back_to_input(const struct qat *q, const struct qat_step *s, int image, int images)
{
    const struct step *p = &s->plan;
    const int add = q->written[p->in[0]];
    for (int i = image; i < image + images; i++) {
        const float *g = gradient(q, p->node, i);
        float *to = gradient(q, p->in[0], i);
        if (!add && p->op != OP_AVGPOOL)
            memset(to, 0, values_of(q, p->in[0]) * sizeof *to);
        if (p->op == OP_AVGPOOL)
            back_through_avgpool(q, s, g, add, to);
        else if (p->op == OP_MAXPOOL)
            back_through_maxpool(q, p, i, g, to);
        else
            back_through_shortcut(q, p, g, to);
    }
}

/* g: of the sums. first: the part's first images. */
static void back_through_conv(const struct work *w, size_t part, int image, int images, int first, const float *g)
{
    const struct qat *q = w->q;
    const struct qat_layer *l = w->s->layer;
    const struct qat_part *p = &q->parts[part];
    const size_t channels = (size_t)l->shape.out_c, rows = (size_t)images * w->s->size / channels;
    const int in = w->s->plan.in[0];
    float *restrict bias_sum = p->bias_sum;
    for (size_t i = 0; i < rows; i++)
        for (size_t c = 0; c < channels; c++)
            bias_sum[c] += g[i * channels + c];
    dequantise(tensor(q, in, image), (size_t)images * values_of(q, in), &q->net.quants[in], p->values);
    conv_to_weights_run(&l->to_weights, p->values, g, images, !first,
                        q->weight_sums + part * conv_to_weights_sums(&l->to_weights), p->scratch);
    if (in > 0) {
        float *to = gradient(q, in, image);
        conv_to_input_run(w->to_input, g, q->written[in] || w->s->plan.in[1] == in ? to : NULL, to, images, p->scratch);
    }
}

static void backward_images(const struct work *w, size_t part, int image, int images, int first)
{
    const struct qat *q = w->q;
    const struct qat_step *s = w->s;
    struct qat_part *p = &w->q->parts[part];
    const size_t count = (size_t)images * s->size;
    const int *in = s->plan.in;
    float *g = gradient(q, s->plan.node, image);
    if (s->scale >= 0) {
        steps_of(q, s, image, images, p->steps, p->scratch);
        p->scale_sum += fake_quantise_backward(p->steps, count, s->lo, s->hi, g);
    }
    /* The residual of a convolution, and both operands of an add that computes none, take the gradient as it is. */
    if (s->plan.op == OP_ADD && in[0] > 0)
        pass(g, count, q->written[in[0]], gradient(q, in[0], image));
    if (in[1] > 0)
        pass(g, count, q->written[in[1]] || (s->plan.op == OP_ADD && in[0] == in[1]), gradient(q, in[1], image));
    if (s->layer)
        back_through_conv(w, part, image, images, first, g);
    else if (s->plan.op != OP_ADD && in[0] > 0)
        back_to_input(q, s, image, images);
}

static void backward_part(void *user, size_t part)
{
    const struct work *w = user;
    struct qat_part *p = &w->q->parts[part];
    const int begin = first_image(w->q, part), end = first_image(w->q, part + 1);
    p->scale_sum = 0;
    if (w->s->layer)
        memset(p->bias_sum, 0, (size_t)w->s->layer->shape.out_c * sizeof *p->bias_sum);
    for (int i = begin; i < end; i += w->s->together)
        backward_images(w, part, i, end - i < w->s->together ? end - i : w->s->together, i == begin);
}

/* One output channel: sums of all parts, and what rounding makes of the weights' gradient. */
static void finish_channel(void *user, size_t o)
{
    const struct work *w = user;
    struct qat *q = w->q;
    const struct qat_layer *l = w->s->layer;
    const struct parameter *weight = &q->parameters[l->weight], *scale = &q->parameters[l->scale];
    const size_t parts = qat_parts(q->images), stride = conv_to_weights_sums(&l->to_weights);
    const int64_t at = (int64_t)o * l->depth;
    double sum = 0;
    for (size_t i = 0; i < parts; i++)
        sum += (double)q->parts[i].bias_sum[o];
    q->parameters[l->bias].grad[o] = (float)sum;
    conv_to_weights_finish(&l->to_weights, q->weight_sums, (int)parts, stride, (int)o, (int)o + 1, weight->grad);
    sum = fake_quantise_weights_backward(weight->value + at, l->depth, scale->value[o], l->levels, weight->grad + at);
    scale->grad[o] = (float)sum * l->rate;
}

static void backward_step(struct qat *q, const struct qat_step *s)
{
    struct work w = {.q = q, .s = s};
    const size_t channels = s->layer ? (size_t)s->layer->shape.out_c : 0;
    if (!q->written[s->plan.node]) /* nobody reads it */
        memset(gradient(q, s->plan.node, 0), 0, (size_t)q->images * s->size * sizeof(float));
    if (s->layer && s->plan.in[0] > 0) {
        const struct layer *l = &q->net.layers[s->plan.weights];
        const size_t depth = (size_t)s->layer->depth;
        for (size_t o = 0; o < channels; o++)
            dequantise((const int8_t *)l->weight + o * depth, depth, &(struct quant){l->scale[o], 0}, q->weights + o * depth);
        w.to_input = conv_to_input_init(q->to_input_memory, q->kernels, &s->layer->shape, q->weights, q->turned);
    }
    qat_parallel(q, backward_part, &w, qat_parts(q->images));
    if (s->layer)
        qat_parallel(q, finish_channel, &w, channels);
    if (s->scale >= 0) {
        double sum = 0;
        for (size_t i = 0; i < qat_parts(q->images); i++)
            sum += q->parts[i].scale_sum;
        *q->parameters[s->scale].grad = (float)sum * s->rate;
    }
    for (int j = 0; j < 2; j++)
        if (s->plan.in[j] >= 0)
            q->written[s->plan.in[j]] = 1;
}

void qat_backward(struct qat *q, const float *dlogits)
{
    const int output = q->net.graph.output;
    memset(q->written, 0, (size_t)q->net.graph.count);
    memcpy(gradient(q, output, 0), dlogits, (size_t)q->images * values_of(q, output) * sizeof *dlogits);
    q->written[output] = 1;
    for (int i = q->plan.count - 1; i >= 0; i--)
        backward_step(q, &q->steps[i]);
}

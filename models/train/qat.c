// SPDX-License-Identifier: MIT

#include "models/train/qat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu.h"
#include "kernels/kernels.h"
#include "models/model_parts.h"
#include "models/train/fake_quantise.h"
#include "models/train/qat_parts.h"

/* ---- memory: in one list, so that a half-built one ends as easily as a whole ---- */

struct block {
    struct block *next;
    char rest[CONV_ALIGN - sizeof(struct block *)];
};

/* Zeroed, aligned for kernels; NULL: no memory. */
static void *take(struct qat *q, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX / 2)
        return NULL;
    bytes = conv_align(bytes) + sizeof(struct block);
    struct block *b = aligned_alloc(CONV_ALIGN, bytes);
    if (!b)
        return NULL;
    memset(b, 0, bytes);
    b->next = q->blocks;
    q->blocks = b;
    q->bytes += bytes;
    return b + 1;
}

void qat_free(struct qat *q)
{
    if (!q)
        return;
    for (struct block *b = q->blocks, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    network_free(&q->net);
    plan_free(&q->plan);
    free(q);
}

size_t qat_bytes(const struct qat *q)
{
    return q->bytes;
}

static size_t elements(const struct graph *g, int node)
{
    const struct node *n = &g->nodes[node];
    return (size_t)n->h * (size_t)n->w * (size_t)n->c;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* ---- parameters ---- */

static int add_parameter(struct qat *q, int node, const char *part, int64_t count, int decay)
{
    const int i = q->parameter_count;
    struct parameter *p = &q->parameters[i];
    snprintf(p->name, sizeof p->name, "%s.%s", q->net.graph.nodes[node].name, part);
    p->count = count;
    p->node = node;
    p->decay = decay;
    p->value = take(q, (size_t)count, sizeof *p->value);
    p->grad = take(q, (size_t)count, sizeof *p->grad);
    p->momentum = take(q, (size_t)count, sizeof *p->momentum);
    if (!p->value || !p->grad || !p->momentum)
        return -1;
    q->parameter_count++;
    return i;
}

struct parameter *qat_parameters(struct qat *q, int *count)
{
    *count = q->parameter_count;
    return q->parameters;
}

/* ---- steps ---- */

/* Sums of the largest magnitude that weights and a bias of 2^30 can give must stay inside 32 bits: conv_check_s8 then accepts
   whatever is learned. */
#define DEPTH_MAX (((1 << 30) - 1) / (512 * 127))

static int make_layer(struct qat *q, struct qat_step *s, const struct network *fp32, int levels, struct err *e)
{
    const struct graph *g = &q->net.graph;
    const int node = s->plan.weights;
    const struct node *n = &g->nodes[node], *in = &g->nodes[n->in[0]];
    const struct layer *from = &fp32->layers[node];
    struct layer *to = &q->net.layers[node];
    const int64_t count = node_weights(g, node), depth = node_depth(g, node);
    const size_t channels = (size_t)n->c;
    if (depth > DEPTH_MAX)
        return err_set(e, ERR_UNSUPPORTED, "layer %s sums %lld products, int8 training is limited to %d", n->name,
                       (long long)depth, DEPTH_MAX);
    struct qat_layer *l = s->layer = take(q, 1, sizeof *l);
    to->weight = malloc((size_t)count);
    to->scale = malloc(channels * sizeof *to->scale);
    to->bias_s32 = malloc(channels * sizeof *to->bias_s32);
    float *begin = take(q, channels, sizeof *begin);
    if (!l || !to->weight || !to->scale || !to->bias_s32 || !begin)
        return err_set(e, ERR_MEMORY, "no memory for training layer %s", n->name);
    l->shape = (struct conv_shape){in->h,       in->w,       in->c,       n->h,       n->w,        n->c,     n->kernel_h,
                                   n->kernel_w, n->stride_h, n->stride_w, n->pad_top, n->pad_left, n->groups};
    l->depth = depth;
    l->levels = levels;
    l->rate = fake_quantise_rate(depth, (float)levels);
    l->begin = begin;
    l->weight = add_parameter(q, node, "weight", count, 1);
    l->scale = add_parameter(q, node, "wscale", n->c, 0);
    l->bias = add_parameter(q, node, "bias", n->c, 0);
    l->mult = take(q, channels, sizeof *l->mult);
    conv_to_weights_plan(&l->to_weights, q->kernels, &l->shape);
    l->memory = take(q, conv_bytes(q->kernels, PRECISION_INT8, &l->shape), 1);
    if (l->weight < 0 || l->scale < 0 || l->bias < 0 || !l->mult || !l->memory)
        return err_set(e, ERR_MEMORY, "no memory for training layer %s", n->name);
    memcpy(q->parameters[l->weight].value, from->weight, (size_t)count * sizeof(float));
    memcpy(q->parameters[l->bias].value, from->bias, channels * sizeof(float));
    for (int o = 0; o < n->c; o++)
        q->parameters[l->scale].value[o] = begin[o] =
            fake_quantise_weight_scale((const float *)from->weight + o * depth, depth, levels);
    return 0;
}

#define PIXELS 1024 /* that fill a kernel's tiles well */

static int together(const struct graph *g, int node, int batch)
{
    const int most = (batch + TRAINEE_PARTS - 1) / TRAINEE_PARTS, pixels = g->nodes[node].h * g->nodes[node].w;
    const int images = pixels < PIXELS ? PIXELS / pixels : 1;
    return images < most ? images : most;
}

static int make_step(struct qat *q, int i, const struct network *fp32, const struct qat_options *o, struct err *e)
{
    const struct graph *g = &q->net.graph;
    struct qat_step *s = &q->steps[i];
    s->plan = q->plan.steps[i];
    s->size = elements(g, s->plan.node);
    s->logits = step_writes_logits(&q->net, &s->plan);
    s->scale = -1;
    s->together = together(g, s->plan.node, o->batch);
    const struct quant *out = &q->net.quants[s->plan.node];
    s->lo = (float)(s->plan.relu ? 0 : -128 - out->zero);
    s->hi = (float)(127 - out->zero);
    const int edge = s->plan.in[0] == 0 || s->plan.node == g->output;
    if (s->plan.weights >= 0 && make_layer(q, s, fp32, fake_quantise_levels(edge ? o->edge_bits : o->weight_bits), e) < 0)
        return -1;
    if (s->logits || s->plan.op == OP_MAXPOOL || s->plan.op == OP_SHORTCUT)
        return 0;
    s->begin = out->scale;
    s->rate = fake_quantise_rate((int64_t)s->size, s->hi > 0 ? s->hi : -s->lo);
    s->scale = add_parameter(q, s->plan.node, "scale", 1, 0);
    if (s->scale < 0)
        return err_set(e, ERR_MEMORY, "no memory for training node %s", g->nodes[s->plan.node].name);
    *q->parameters[s->scale].value = s->begin;
    return 0;
}

/* ---- slots ---- */

/* Backward, a node's gradient begins with the last step that reads it and ends with the step that writes it. sizes[slots]: values
   of one image. */
static int assign_slots(struct qat *q, size_t *sizes, int *busy)
{
    const struct graph *g = &q->net.graph;
    int slots = 0;
    for (int i = 0; i < g->count; i++)
        q->slot[i] = -1;
    for (int i = q->plan.count - 1; i >= 0; i--) {
        const struct step *s = &q->plan.steps[i];
        const int nodes[3] = {s->node, s->in[0], s->in[1]};
        for (int j = 0; j < 3; j++) {
            const int node = nodes[j];
            if (node <= 0 || q->slot[node] >= 0)
                continue;
            int at = 0;
            while (at < slots && busy[at])
                at++;
            slots = at == slots ? slots + 1 : slots;
            busy[at] = 1;
            sizes[at] = larger(sizes[at], elements(g, node));
            q->slot[node] = at;
        }
        busy[q->slot[s->node]] = 0;
    }
    return slots;
}

static int make_slots(struct qat *q)
{
    const size_t nodes = (size_t)q->net.graph.count;
    size_t *sizes = calloc(nodes, sizeof *sizes);
    int *busy = calloc(nodes, sizeof *busy);
    q->slot = take(q, nodes, sizeof *q->slot);
    q->written = take(q, nodes, 1);
    int bad = !sizes || !busy || !q->slot || !q->written;
    const int slots = bad ? 0 : assign_slots(q, sizes, busy);
    bad = bad || !(q->gradient = take(q, (size_t)slots, sizeof *q->gradient));
    for (int i = 0; !bad && i < slots; i++)
        bad = !(q->gradient[i] = take(q, (size_t)q->batch * sizes[i], sizeof(float)));
    free(sizes);
    free(busy);
    return bad ? -1 : 0;
}

/* ---- the rest ---- */

/* What all steps and all layers take of shared memory, as the largest of them. */
struct needs {
    size_t steps, values, channels, scratch;
    size_t weights, turned, to_input, weight_sums;
};

static int find_needs(struct qat *q, struct needs *n)
{
    const struct graph *g = &q->net.graph;
    n->steps = elements(g, 0);
    for (int i = 0; i < q->plan.count; i++) {
        const struct qat_step *s = &q->steps[i];
        const size_t together = (size_t)s->together;
        n->steps = larger(n->steps, together * s->size);
        n->channels = larger(n->channels, (size_t)g->nodes[s->plan.node].c);
        if (!s->layer)
            continue;
        const struct conv_shape *shape = &s->layer->shape;
        n->values = larger(n->values, together * elements(g, s->plan.in[0]));
        n->weights = larger(n->weights, (size_t)node_weights(g, s->plan.weights));
        n->turned = larger(n->turned, conv_to_input_turned(shape));
        n->to_input = larger(n->to_input, conv_to_input_bytes(q->kernels, shape));
        n->weight_sums = larger(n->weight_sums, conv_to_weights_sums(&s->layer->to_weights));
        n->scratch = larger(n->scratch, conv_to_weights_scratch_bytes(&s->layer->to_weights, s->together));
    }
    q->ones = take(q, n->channels, sizeof(float));
    q->weights = take(q, n->weights, sizeof(float));
    q->turned = take(q, n->turned, sizeof(float));
    q->to_input_memory = take(q, n->to_input, 1);
    if (!q->ones || !q->weights || !q->turned || !q->to_input_memory)
        return -1;
    for (size_t c = 0; c < n->channels; c++)
        q->ones[c] = 1;
    qat_prepare(q);
    for (int i = 0; i < q->plan.count; i++) { /* packed layers tell their scratch */
        const struct qat_step *s = &q->steps[i];
        if (!s->layer)
            continue;
        n->scratch = larger(n->scratch, conv_scratch_bytes(s->layer->conv));
        const struct conv_to_input *c =
            conv_to_input_init(q->to_input_memory, q->kernels, &s->layer->shape, q->weights, q->turned);
        n->scratch = larger(n->scratch, conv_to_input_scratch_bytes(c, s->together));
    }
    return 0;
}

static int make_buffers(struct qat *q)
{
    const struct graph *g = &q->net.graph;
    const size_t batch = (size_t)q->batch, parts = qat_parts(q->batch);
    struct needs n = {0};
    if (find_needs(q, &n) < 0)
        return -1;
    q->tensor = take(q, (size_t)g->count, sizeof *q->tensor);
    int bad = !q->tensor || !(q->tensor[0] = take(q, batch, elements(g, 0)));
    for (int i = 0; !bad && i < q->plan.count; i++)
        bad = !q->steps[i].logits && !(q->tensor[q->steps[i].plan.node] = take(q, batch, q->steps[i].size));
    bad = bad || !(q->logits = take(q, batch * elements(g, g->output), sizeof(float)));
    bad = bad || !(q->weight_sums = take(q, parts * n.weight_sums, sizeof(float)));
    for (size_t i = 0; !bad && i < parts; i++) {
        struct qat_part *p = &q->parts[i];
        p->steps = take(q, n.steps, sizeof(float));
        p->values = take(q, n.values, sizeof(float));
        p->bias_sum = take(q, n.channels, sizeof(float));
        p->scratch = take(q, n.scratch, 1);
        bad = !p->steps || !p->values || !p->bias_sum || !p->scratch;
    }
    return bad ? -1 : make_slots(q);
}

static int check(const struct network *fp32, const struct network *int8, const struct qat_options *o, struct err *e)
{
    if (o->batch < 1 || o->batch > TRAINEE_BATCH_MAX)
        return err_set(e, ERR_INPUT, "batch of %d images: 1 to %d are possible", o->batch, TRAINEE_BATCH_MAX);
    if (o->weight_bits < 2 || o->weight_bits > 8 || o->edge_bits < 2 || o->edge_bits > 8)
        return err_set(e, ERR_INPUT, "weights of %d and %d bits: 2 to 8 are possible", o->weight_bits, o->edge_bits);
    if (fp32->precision != PRECISION_FP32 || int8->precision != PRECISION_INT8 || fp32->graph.count != int8->graph.count)
        return err_set(e, ERR_INPUT, "int8 training starts from an fp32 network and its int8 form, not from %s and %s",
                       precision_name(fp32->precision), precision_name(int8->precision));
    if (int8->rounding != ROUNDING_NEAREST_EVEN)
        return err_set(e, ERR_UNSUPPORTED, "networks with the rounding of TensorFlow Lite cannot be trained");
    for (int i = 0; i < fp32->graph.count; i++) {
        const struct node *a = &fp32->graph.nodes[i], *b = &int8->graph.nodes[i];
        if (strcmp(a->name, b->name) || a->op != b->op || a->h != b->h || a->w != b->w || a->c != b->c)
            return err_set(e, ERR_INPUT, "node %s is not the same in the fp32 and the int8 network", a->name);
        if (b->half)
            return err_set(e, ERR_UNSUPPORTED, "node %s works in fp16: int8 training takes int8 everywhere", b->name);
        if ((int64_t)a->h * a->w * o->batch > INT32_MAX / 2)
            return err_set(e, ERR_TOO_LARGE, "batch of %d images is too large for node %s", o->batch, a->name);
    }
    return 0;
}

/* Everything but weights and quants. */
static int copy_header(const struct network *from, struct network *to, struct err *e)
{
    memcpy(to->name, from->name, sizeof to->name);
    to->precision = PRECISION_INT8;
    to->preprocess = from->preprocess;
    to->layers = calloc((size_t)from->graph.count, sizeof *to->layers);
    to->quants = malloc((size_t)from->graph.count * sizeof *to->quants);
    if (!to->layers || !to->quants || (from->provenance && !(to->provenance = strdup(from->provenance))))
        return err_set(e, ERR_MEMORY, "no memory for a network");
    return graph_copy(&from->graph, &to->graph, e) < 0 || labels_copy(from, to, e) < 0 ? -1 : 0;
}

static int build(struct qat *q, const struct network *fp32, const struct network *int8, const struct qat_options *o,
                 struct err *e)
{
    if (copy_header(fp32, &q->net, e) < 0 || plan_make(&q->net.graph, 1, &q->plan, e) < 0)
        return -1;
    memcpy(q->net.quants, int8->quants, (size_t)int8->graph.count * sizeof *int8->quants);
    q->batch = o->batch;
    q->pool = o->pool;
    q->kernels = o->kernels ? o->kernels : kernels_pick(cpu_features(), NULL);
    q->steps = take(q, (size_t)q->plan.count, sizeof *q->steps);
    q->parameters = take(q, 4 * (size_t)q->plan.count, sizeof *q->parameters);
    if (!q->steps || !q->parameters)
        return err_set(e, ERR_MEMORY, "no memory for training a network of %d steps", q->plan.count);
    for (int i = 0; i < q->plan.count; i++)
        if (make_step(q, i, fp32, o, e) < 0)
            return -1;
    char text[80];
    snprintf(text, sizeof text, "{\"method\":\"qat\",\"weight_bits\":%d,\"edge_bits\":%d}", o->weight_bits, o->edge_bits);
    if (!(q->net.quantization = strdup(text)) || make_buffers(q) < 0)
        return err_set(e, ERR_MEMORY, "no memory for training with batches of %d images", o->batch);
    return 0;
}

int qat_new(const struct network *fp32, const struct network *int8, const struct qat_options *options, struct qat **out,
            struct err *e)
{
    struct qat_options o = *options;
    o.weight_bits = o.weight_bits ? o.weight_bits : 8;
    o.edge_bits = o.edge_bits ? o.edge_bits : 8;
    if (check(fp32, int8, &o, e) < 0)
        return -1;
    struct qat *q = calloc(1, sizeof *q);
    if (!q)
        return err_set(e, ERR_MEMORY, "no memory for training");
    if (build(q, fp32, int8, &o, e) < 0) {
        qat_free(q);
        return -1;
    }
    *out = q;
    return 0;
}

/* ---- what it has become ---- */

static int copy_layers(const struct network *from, struct network *to, struct err *e)
{
    const struct graph *g = &from->graph;
    memcpy(to->quants, from->quants, (size_t)g->count * sizeof *to->quants);
    for (int i = 0; i < g->count; i++) {
        const struct layer *l = &from->layers[i];
        struct layer *copy = &to->layers[i];
        const size_t count = (size_t)node_weights(g, i), channels = (size_t)g->nodes[i].c;
        if (count == 0)
            continue;
        copy->weight = malloc(count);
        copy->scale = malloc(channels * sizeof *copy->scale);
        copy->bias_s32 = malloc(channels * sizeof *copy->bias_s32);
        if (!copy->weight || !copy->scale || !copy->bias_s32)
            return err_set(e, ERR_MEMORY, "no memory for layer %s", g->nodes[i].name);
        memcpy(copy->weight, l->weight, count);
        memcpy(copy->scale, l->scale, channels * sizeof *copy->scale);
        memcpy(copy->bias_s32, l->bias_s32, channels * sizeof *copy->bias_s32);
    }
    return 0;
}

int qat_to_network(struct qat *q, struct network *out, struct err *e)
{
    struct network n = {0};
    qat_prepare(q);
    if (copy_header(&q->net, &n, e) < 0 || copy_layers(&q->net, &n, e) < 0) {
        network_free(&n);
        return -1;
    }
    if (!(n.quantization = strdup(q->net.quantization))) {
        network_free(&n);
        return err_set(e, ERR_MEMORY, "no memory for a network");
    }
    *out = n;
    return 0;
}

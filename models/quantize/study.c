// SPDX-License-Identifier: MIT
//
// Columns of inputs, as a convolution's sums see them, are sampled while the fp32 network runs; their products are gathered by
// the float convolution itself, which is the fastest matrix product there is here. Layers are studied in groups that fit a limit
// of memory, with one walk over the images for each group.

#include "models/quantize/study.h"

#include <math.h>
#include <pthreadpool.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/conv.h"
#include "models/quantize/balance.h"
#include "models/quantize/compensate.h"

#define BLOCK         256                 /* inputs of one panel of products */
#define GROUP_MAX     ((size_t)320 << 20) /* bytes of products and columns of one group of layers */
#define ROWS_MAX      ((size_t)64 << 20)  /* bytes of one layer's columns: fewer are taken then */
#define DEPTH_MAX     8192                /* a deeper layer is balanced only: its matrix would take more than all else */
#define COLUMNS_LEAST 4096                /* wanted per layer, or DEPTHS times the depth when that is more */
#define DEPTHS        3
#define IMAGES_MAX    128 /* walked over */
#define ALONE_MACS    1e6 /* a product this small is not worth waking other threads for */
#define DAMPING       0.001

/* One layer. Products are symmetric: panel b holds the columns [b * BLOCK, ...) of the rows [0, (b + 1) * BLOCK). */
struct moments {
    int node, depth, groups;
    int products;   /* wanted: without them only means */
    int per_image;  /* columns that an image gives */
    double columns; /* so far */
    double *sums;   /* [groups][depth] */
    float *rows;    /* [images of a block * per_image][groups * depth]: columns of one block of images */
    float **panels; /* [groups * blocks] */
};

struct study {
    const struct network *n;
    const struct calibration *c;
    const struct quantize_options *o;
    struct moments *layers;
    int count, gptq;
    struct pthreadpool *pool;
    size_t tasks;
    float *turned;   /* [groups][depth][columns] of one layer, room for the largest of the group */
    int images;      /* of this walk */
    int done, total; /* layers, for the progress */
};

static int blocks(const struct moments *m)
{
    return (m->depth + BLOCK - 1) / BLOCK;
}

static int block_size(const struct moments *m, int b)
{
    return m->depth - b * BLOCK < BLOCK ? m->depth - b * BLOCK : BLOCK;
}

/* ---- products ---- */

struct product {
    const struct conv *conv;
    struct conv_io io;
    size_t tasks, scratch_bytes;
    char *scratch;
};

static void product_task(void *user, size_t task)
{
    const struct product *p = user;
    conv_run(p->conv, &p->io, (int)task, (int)p->tasks, p->scratch + task * p->scratch_bytes);
}

/* Rows of inputs become rows of columns. */
static void turn(const struct moments *m, int columns, float *turned)
{
    const size_t width = (size_t)m->depth * (size_t)m->groups, n = (size_t)columns;
    for (size_t i0 = 0; i0 < width; i0 += 16)
        for (size_t t = 0; t < n; t++)
            for (size_t i = i0; i < width && i < i0 + 16; i++)
                turned[i * n + t] = m->rows[t * width + i];
}

/* A panel is a 1x1 convolution whose pixels and whose filters both are inputs seen along the columns. */
static int add_panel(const struct study *s, const struct moments *m, int g, int b, int columns)
{
    const struct kernels *k = calibration_kernels(s->c);
    const float *x = s->turned + (size_t)g * (size_t)m->depth * (size_t)columns;
    const int rows = b * BLOCK + block_size(m, b);
    struct conv_shape shape = {1, rows, columns, 1, rows, block_size(m, b), 1, 1, 1, 1, 0, 0, 1};
    struct conv_params params = {.weight = x + (size_t)b * BLOCK * (size_t)columns};
    void *memory = aligned_alloc(CONV_ALIGN, conv_bytes(k, PRECISION_FP32, &shape));
    if (!memory)
        return -1;
    const double macs = (double)rows * columns * block_size(m, b);
    struct product p = {.conv = conv_init(memory, k, PRECISION_FP32, &shape, &params), .tasks = macs > ALONE_MACS ? s->tasks : 1};
    float *y = m->panels[g * blocks(m) + b];
    p.io = (struct conv_io){x, y, y, 1};
    p.scratch_bytes = conv_scratch_bytes(p.conv);
    p.scratch = aligned_alloc(CONV_ALIGN, p.tasks * p.scratch_bytes + CONV_ALIGN);
    if (p.scratch)
        pthreadpool_parallelize_1d(s->pool, product_task, &p, p.tasks, PTHREADPOOL_FLAG_YIELD_WORKERS);
    free(p.scratch);
    free(memory);
    return p.scratch ? 0 : -1;
}

/* Adds sums and products of a block of images. */
static int add_block(struct study *s, struct moments *m, int images, struct err *e)
{
    const size_t width = (size_t)m->depth * (size_t)m->groups;
    const int columns = images * m->per_image;
    for (int t = 0; t < columns; t++)
        for (size_t i = 0; i < width; i++)
            m->sums[i] += (double)m->rows[(size_t)t * width + i];
    m->columns += columns;
    if (!m->panels)
        return 0;
    turn(m, columns, s->turned);
    for (int g = 0; g < m->groups; g++)
        for (int b = 0; b < blocks(m); b++)
            if (add_panel(s, m, g, b, columns) < 0)
                return err_set(e, ERR_MEMORY, "no memory for products of inputs");
    return 0;
}

/* ---- columns ---- */

/* One column of every group, [groups][kernel_h][kernel_w][channels of the group], as the weights lie. */
static void take_column(const struct network *n, const struct moments *m, const float *x, int position, float *column)
{
    const struct node *v = &n->graph.nodes[m->node], *in = &n->graph.nodes[v->in[0]];
    const int top = position / v->w * v->stride_h - v->pad_top, left = position % v->w * v->stride_w - v->pad_left;
    const int channels = in->c / m->groups;
    for (int kh = 0; kh < v->kernel_h; kh++)
        for (int kw = 0; kw < v->kernel_w; kw++) {
            const int row = top + kh, col = left + kw, inside = row >= 0 && row < in->h && col >= 0 && col < in->w;
            const float *from = inside ? x + ((size_t)row * (size_t)in->w + (size_t)col) * (size_t)in->c : NULL;
            for (int g = 0; g < m->groups; g++) {
                float *to = column + (size_t)g * (size_t)m->depth + (size_t)(kh * v->kernel_w + kw) * (size_t)channels;
                if (inside)
                    memcpy(to, from + (size_t)g * (size_t)channels, (size_t)channels * sizeof *to);
                else
                    memset(to, 0, (size_t)channels * sizeof *to);
            }
        }
}

/* calibration_walk: from several threads, each with a place of its own. */
static void see(void *user, int place, int node, const float *values)
{
    const struct study *s = user;
    for (int l = 0; l < s->count; l++) {
        const struct moments *m = &s->layers[l];
        const struct node *v = &s->n->graph.nodes[m->node];
        const int positions = v->h * v->w;
        for (int i = 0; v->in[0] == node && i < m->per_image; i++) {
            /* Evenly over the image, starting elsewhere in each of a block. */
            const int position = (int)(((long long)i * positions / m->per_image + place * 7919LL) % positions);
            const size_t column = (size_t)(place * m->per_image + i);
            take_column(s->n, m, values, position, m->rows + column * (size_t)m->depth * (size_t)m->groups);
        }
    }
}

static int after(void *user, int images, struct err *e)
{
    struct study *s = user;
    for (int l = 0; l < s->count; l++)
        if (add_block(s, &s->layers[l], images, e) < 0)
            return -1;
    s->images += images;
    if (s->o->progress)
        s->o->progress(s->o->user, "studying layers", s->done * calibration_walk_images(s->c, IMAGES_MAX) + s->images * s->count,
                       s->total * calibration_walk_images(s->c, IMAGES_MAX));
    return 0;
}

/* ---- one layer ---- */

static void moments_free(struct moments *m)
{
    for (int i = 0; m->panels && i < m->groups * blocks(m); i++)
        free(m->panels[i]);
    free(m->panels);
    free(m->sums);
    free(m->rows);
    *m = (struct moments){0};
}

static size_t product_bytes(const struct moments *m)
{
    const size_t depth = (size_t)m->depth;
    return depth * (depth + BLOCK) / 2 * sizeof(float) * (size_t)m->groups;
}

/* Of the columns of a block of images. */
static size_t row_bytes(const struct study *s, const struct moments *m)
{
    const int images = calibration_walk_images(s->c, CALIBRATION_BLOCK);
    return (size_t)images * (size_t)m->per_image * (size_t)m->depth * (size_t)m->groups * sizeof *m->rows;
}

/* How a layer is to be studied, before any memory is taken. */
static struct moments moments_plan(const struct study *s, int node)
{
    const struct node *v = &s->n->graph.nodes[node];
    struct moments m = {.node = node, .depth = (int)node_depth(&s->n->graph, node), .groups = v->groups, .per_image = 1};
    m.products = s->gptq && m.depth <= DEPTH_MAX && product_bytes(&m) <= GROUP_MAX;
    const int images = calibration_walk_images(s->c, IMAGES_MAX), positions = v->h * v->w;
    const int want = m.products && DEPTHS * m.depth > COLUMNS_LEAST ? DEPTHS * m.depth : COLUMNS_LEAST;
    const size_t most = ROWS_MAX / row_bytes(s, &m);
    m.per_image = (want + images - 1) / images;
    m.per_image = m.per_image < positions ? m.per_image : positions;
    m.per_image = (size_t)m.per_image < most ? m.per_image : most ? (int)most : 1;
    return m;
}

static size_t moments_bytes(const struct study *s, const struct moments *m)
{
    return row_bytes(s, m) + (m->products ? product_bytes(m) : 0);
}

static int moments_init(const struct study *s, struct moments *m, struct err *e)
{
    const size_t width = (size_t)m->depth * (size_t)m->groups;
    m->sums = calloc(width, sizeof *m->sums);
    m->rows = malloc(row_bytes(s, m));
    int bad = !m->sums || !m->rows;
    if (m->products) {
        m->panels = calloc((size_t)(m->groups * blocks(m)), sizeof *m->panels);
        bad |= !m->panels;
        for (int i = 0; !bad && i < m->groups * blocks(m); i++) {
            const int b = i % blocks(m);
            m->panels[i] = calloc((size_t)(b * BLOCK + block_size(m, b)) * (size_t)block_size(m, b), sizeof(float));
            bad = !m->panels[i];
        }
    }
    return bad ? err_set(e, ERR_MEMORY, "no memory to study layer %s", s->n->graph.nodes[m->node].name) : 0;
}

/* The covariance of a group's inputs, damped; 0 when all are constant. What is common to all columns is for the bias to mend. */
static int covariance(const struct moments *m, int g, float *a)
{
    const size_t n = (size_t)m->depth, side = factor_side(m->depth);
    const double *sums = m->sums + (size_t)g * n;
    memset(a, 0, side * side * sizeof *a);
    for (size_t j = 0; j < n; j++) {
        const int b = (int)(j / BLOCK);
        const float *panel = m->panels[g * blocks(m) + b];
        for (size_t i = 0; i <= j; i++) {
            const double p = (double)panel[i * (size_t)block_size(m, b) + j % BLOCK];
            a[i * side + j] = a[j * side + i] = (float)(p / m->columns - sums[i] / m->columns * (sums[j] / m->columns));
        }
    }
    double mean = 0;
    for (size_t i = 0; i < n; i++)
        mean += (double)a[i * side + i] / (double)n;
    if (!(mean > 0))
        return 0;
    for (size_t i = 0; i < side; i++)
        a[i * side + i] = i < n ? a[i * side + i] + (float)(DAMPING * mean) : 1;
    return 1;
}

static int round_layer(const struct study *s, const struct moments *m, struct layer_study *out, struct err *e)
{
    const struct node *v = &s->n->graph.nodes[m->node];
    const float *w = s->n->layers[m->node].weight;
    const int channels = v->c / m->groups;
    const size_t side = factor_side(m->depth), each = (size_t)channels * (size_t)m->depth;
    float *a = malloc(side * side * sizeof *a), *scale = malloc((size_t)v->c * sizeof *scale);
    int8_t *q = malloc(each * (size_t)m->groups);
    int bad = !a || !scale || !q;
    if (!bad) {
        quantize_weights(w, v->c, m->depth, q, scale);
        balance_weights(w, v->c, m->depth, v->kernel_h * v->kernel_w, scale, q);
    }
    for (int g = 0; g < m->groups && !bad; g++) /* a group that cannot be factored keeps its balanced weights */
        if (covariance(m, g, a) && factor_upper(a, m->depth, s->pool) == 0)
            bad = round_compensated(a, m->depth, w + (size_t)g * each, channels, scale + g * channels, q + (size_t)g * each,
                                    s->pool);
    free(a);
    free(scale);
    if (bad) {
        free(q);
        return err_set(e, ERR_MEMORY, "no memory to round layer %s", v->name);
    }
    out->rounded = q;
    return 0;
}

static int finish_layer(const struct study *s, const struct moments *m, struct layer_study *out, struct err *e)
{
    const size_t width = (size_t)m->depth * (size_t)m->groups;
    out->mean = malloc(width * sizeof *out->mean);
    if (!out->mean)
        return err_set(e, ERR_MEMORY, "no memory for the means of layer %s", s->n->graph.nodes[m->node].name);
    for (size_t i = 0; i < width; i++)
        out->mean[i] = (float)(m->sums[i] / m->columns);
    return !m->panels ? 0 : round_layer(s, m, out, e);
}

/* ---- all layers ---- */

/* Studies layers from *next on, as many as the limit allows, and at least one. */
static int study_group(struct study *s, int *next, struct layer_study *out, struct err *e)
{
    const struct graph *g = &s->n->graph;
    size_t bytes = 0;
    int i = *next, bad = 0;
    for (; i < g->count && !bad; i++)
        if (node_has_weights(&g->nodes[i])) {
            struct moments m = moments_plan(s, i);
            bytes += moments_bytes(s, &m);
            if (s->count && bytes > GROUP_MAX)
                break;
            s->layers[s->count] = m;
            bad = moments_init(s, &s->layers[s->count++], e) < 0;
        }
    *next = i;
    size_t largest = 0;
    for (int l = 0; l < s->count; l++)
        largest = row_bytes(s, &s->layers[l]) > largest ? row_bytes(s, &s->layers[l]) : largest;
    if (!bad && !(s->turned = malloc(largest)))
        bad = err_set(e, ERR_MEMORY, "no memory to study layers");
    s->images = 0;
    if (!bad)
        bad = calibration_walk(s->c, IMAGES_MAX, &(struct calibration_walk){see, after, s}, e);
    free(s->turned);
    s->turned = NULL;
    for (int l = 0; l < s->count; l++) {
        struct moments *m = &s->layers[l];
        bad = bad || finish_layer(s, m, &out[m->node], e) < 0;
        moments_free(m);
    }
    s->done += s->count;
    s->count = 0;
    return bad ? -1 : 0;
}

int studies_make(const struct network *n, const struct calibration *c, int gptq, const struct quantize_options *o,
                 struct layer_study **out, struct err *e)
{
    struct study s = {.n = n, .c = c, .o = o, .gptq = gptq, .pool = calibration_pool(c)};
    struct layer_study *studies = calloc((size_t)n->graph.count, sizeof *studies);
    s.layers = calloc((size_t)n->graph.count, sizeof *s.layers);
    s.tasks = s.pool ? pthreadpool_get_threads_count(s.pool) : 1;
    int bad = !studies || !s.layers ? err_set(e, ERR_MEMORY, "no memory to study layers") : 0;
    for (int i = 0; i < n->graph.count; i++)
        s.total += node_has_weights(&n->graph.nodes[i]);
    for (int i = 0; !bad && s.done < s.total;)
        bad = study_group(&s, &i, studies, e);
    free(s.layers);
    if (bad) {
        studies_free(studies, n->graph.count);
        return -1;
    }
    *out = studies;
    return 0;
}

void studies_free(struct layer_study *s, int count)
{
    for (int i = 0; s && i < count; i++) {
        free(s[i].mean);
        free(s[i].rounded);
    }
    free(s);
}

// SPDX-License-Identifier: MIT

#include "models/quantize/calibrate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "models/plan.h"
#include "models/session.h"

struct calibration {
    const struct network *fp32;
    const struct kernels *kernels;
    struct pthreadpool *pool;
    struct histogram **histograms; /* [graph.count] */
    size_t image_bytes;
    int classes;
    int images;
    int kept, held, room; /* kept images: of pixels and held flags; held of them have logits */
    uint8_t **pixels;     /* [kept] */
    char *is_held;        /* [kept] */
    float **logits;       /* [kept] */
    int *labels;          /* [kept] */
};

static int is_held_back(int image)
{
    return image < 32 ? image % 2 == 1 : image % 4 == 3;
}

static int take_histograms(struct calibration *c, struct err *e)
{
    const struct graph *g = &c->fp32->graph;
    struct plan plan;
    if (plan_make(g, sizeof(float), &plan, e) < 0)
        return -1;
    c->histograms = calloc((size_t)g->count, sizeof *c->histograms);
    int bad = !c->histograms || !(c->histograms[0] = calloc(1, sizeof **c->histograms));
    for (int s = 0; !bad && s < plan.count; s++)
        bad = !(c->histograms[plan.steps[s].node] = calloc(1, sizeof **c->histograms));
    plan_free(&plan);
    return bad ? err_set(e, ERR_MEMORY, "no memory for the histograms of %d nodes", g->count) : 0;
}

static void see(void *user, int node, const float *values, size_t count)
{
    struct calibration *c = user;
    histogram_add(c->histograms[node], values, count);
}

/* The input as the network sees it, channels last. */
static void input_values(const struct network *n, const uint8_t *rgb, size_t pixels, float *x)
{
    float table[3][256];
    for (int c = 0; c < 3; c++)
        for (int i = 0; i < 256; i++)
            table[c][i] = preprocess_value(&n->preprocess, c, (uint8_t)i);
    for (size_t i = 0; i < pixels; i++)
        for (size_t c = 0; c < 3; c++)
            x[3 * i + c] = table[c][rgb[3 * i + (n->preprocess.bgr ? 2 - c : c)]];
}

static int keep(struct calibration *c, const uint8_t *rgb, int label, int held, const float *logits, struct err *e)
{
    size_t each = c->image_bytes + (size_t)c->classes * sizeof *logits;
    if (c->kept >= 2 && (size_t)(c->kept + 1) * each > CALIBRATION_BYTES_MAX)
        return 0;
    if (c->kept == c->room) {
        int room = c->room ? 2 * c->room : 64;
        uint8_t **pixels = realloc(c->pixels, (size_t)room * sizeof *pixels);
        c->pixels = pixels ? pixels : c->pixels;
        float **all = realloc(c->logits, (size_t)room * sizeof *all);
        c->logits = all ? all : c->logits;
        char *flags = realloc(c->is_held, (size_t)room);
        c->is_held = flags ? flags : c->is_held;
        int *labels = realloc(c->labels, (size_t)room * sizeof *labels);
        c->labels = labels ? labels : c->labels;
        if (!pixels || !all || !flags || !labels)
            return err_set(e, ERR_MEMORY, "no memory for calibration images");
        c->room = room;
    }
    uint8_t *copy = malloc(c->image_bytes);
    float *answer = malloc((size_t)c->classes * sizeof *answer);
    if (!copy || !answer) {
        free(copy);
        free(answer);
        return err_set(e, ERR_MEMORY, "no memory for calibration images");
    }
    memcpy(copy, rgb, c->image_bytes);
    memcpy(answer, logits, (size_t)c->classes * sizeof *answer);
    c->pixels[c->kept] = copy;
    c->logits[c->kept] = answer;
    c->labels[c->kept] = label;
    c->is_held[c->kept++] = (char)held;
    c->held += held;
    return 0;
}

static int see_image(struct calibration *c, struct session *s, const uint8_t *rgb, int label, float *x, struct err *e)
{
    const int held = is_held_back(c->images++);
    const float *logits;
    session_set_pixels(s, 0, rgb);
    if (held) {
        logits = session_run(s, 1);
    } else {
        input_values(c->fp32, rgb, c->image_bytes / 3, x);
        see(c, 0, x, c->image_bytes);
        logits = session_run_observed(s, 1, see, c);
    }
    if (!logits)
        return err_set(e, ERR_MEMORY, "no memory for calibration");
    for (int i = 0; !held && i < c->fp32->graph.count; i++)
        if (c->histograms[i] && c->histograms[i]->broken)
            return err_set(e, ERR_INPUT, "layer %s gave infinite values in calibration", c->fp32->graph.nodes[i].name);
    return keep(c, rgb, label, held, logits, e);
}

static int see_images(struct calibration *c, next_image *next, void *user, struct err *e)
{
    struct model *m = NULL;
    struct session *s = NULL;
    uint8_t *rgb = malloc(c->image_bytes);
    float *x = malloc(c->image_bytes * sizeof *x);
    int rc = rgb && x ? 0 : err_set(e, ERR_MEMORY, "no memory for an image");
    if (rc == 0)
        rc = model_from_network(c->fp32, c->kernels, &m, e);
    if (rc == 0)
        rc = session_new(m, 1, c->pool, &s, e);
    for (int label = -1; rc == 0 && (rc = next(user, rgb, &label, e)) == 1; label = -1)
        rc = see_image(c, s, rgb, label, x, e);
    if (rc == 0 && c->images == 0)
        rc = err_set(e, ERR_INPUT, "calibration needs at least one image");
    session_free(s);
    model_free(m);
    free(x);
    free(rgb);
    return rc;
}

int calibration_new(const struct network *fp32, const struct kernels *k, struct pthreadpool *pool, next_image *next, void *user,
                    struct calibration **out, struct err *e)
{
    if (fp32->precision != PRECISION_FP32)
        return err_set(e, ERR_INPUT, "calibration needs an fp32 network, this one is %s", precision_name(fp32->precision));
    struct calibration *c = calloc(1, sizeof *c);
    if (!c)
        return err_set(e, ERR_MEMORY, "no memory for calibration");
    const struct node *in = &fp32->graph.nodes[0];
    c->fp32 = fp32;
    c->kernels = k;
    c->pool = pool;
    c->image_bytes = (size_t)in->h * (size_t)in->w * 3;
    c->classes = fp32->graph.nodes[fp32->graph.output].c;
    if (take_histograms(c, e) < 0 || see_images(c, next, user, e) < 0) {
        calibration_free(c);
        return -1;
    }
    *out = c;
    return 0;
}

void calibration_free(struct calibration *c)
{
    if (!c)
        return;
    for (int i = 0; c->histograms && i < c->fp32->graph.count; i++)
        free(c->histograms[i]);
    for (int i = 0; i < c->kept; i++) {
        free(c->pixels[i]);
        free(c->logits[i]);
    }
    free(c->histograms);
    free(c->pixels);
    free(c->logits);
    free(c->is_held);
    free(c->labels);
    free(c);
}

int calibration_images(const struct calibration *c)
{
    return c->images;
}

int calibration_fit(const struct calibration *c)
{
    return c->kept - c->held;
}

int calibration_held(const struct calibration *c)
{
    return c->held ? c->held : c->kept;
}

const struct histogram *calibration_histogram(const struct calibration *c, int node)
{
    return c->histograms[node];
}

const struct network *calibration_network(const struct calibration *c)
{
    return c->fp32;
}

const struct kernels *calibration_kernels(const struct calibration *c)
{
    return c->kernels;
}

struct pthreadpool *calibration_pool(const struct calibration *c)
{
    return c->pool;
}

/* ---- how a network does ---- */

double fidelity_db(const struct fidelity *f)
{
    return f->noise > 0 ? 10 * log10(f->signal / f->noise) : (double)INFINITY;
}

double fidelity_percent(const struct fidelity *f)
{
    return 100.0 * f->agree / f->images;
}

double fidelity_drop(const struct fidelity *f)
{
    return f->labelled ? 100.0 * (f->fp32_right - f->right) / f->labelled : (double)NAN;
}

static void add(struct fidelity *f, const float *reference, const float *logits, int classes, int label)
{
    int a, b;
    top_k(reference, classes, 1, &a);
    top_k(logits, classes, 1, &b);
    f->images++;
    f->agree += a == b;
    f->labelled += label >= 0;
    f->fp32_right += a == label;
    f->right += b == label;
    for (int i = 0; i < classes; i++) {
        double r = (double)reference[i], d = (double)logits[i] - r;
        f->signal += r * r;
        f->noise += d * d;
    }
}

int calibration_compare(const struct calibration *c, const struct network *n, int most, struct fidelity *out, struct err *e)
{
    struct model *m = NULL;
    struct session *s = NULL;
    struct fidelity f = {0};
    if (model_from_network(n, c->kernels, &m, e) < 0)
        return -1;
    if (session_new(m, 1, c->pool, &s, e) < 0) {
        model_free(m);
        return -1;
    }
    for (int i = 0; i < c->kept && (most == 0 || f.images < most); i++)
        if (c->is_held[i] || c->held == 0) {
            session_set_pixels(s, 0, c->pixels[i]);
            add(&f, c->logits[i], session_run(s, 1), c->classes, c->labels[i]);
        }
    session_free(s);
    model_free(m);
    *out = f;
    return 0;
}

int calibration_walk(const struct calibration *c, int most, void (*before)(void *user, int image, int images),
                     calibration_see *see_node, void *user, struct err *e)
{
    struct model *m = NULL;
    struct session *s = NULL;
    float *x = malloc(c->image_bytes * sizeof *x);
    int rc = x ? 0 : err_set(e, ERR_MEMORY, "no memory for an image");
    if (rc == 0)
        rc = model_from_network(c->fp32, c->kernels, &m, e);
    if (rc == 0)
        rc = session_new(m, 1, c->pool, &s, e);
    const int all = c->kept - c->held, count = most < all ? most : all;
    for (int i = 0, seen = 0, used = 0; rc == 0 && i < c->kept && used < count; i++) {
        if (c->is_held[i] || (long long)seen++ * count / all < used)
            continue;
        if (before)
            before(user, used, count);
        used++;
        input_values(c->fp32, c->pixels[i], c->image_bytes / 3, x);
        see_node(user, 0, x, c->image_bytes);
        session_set_values(s, 0, x);
        if (!session_run_observed(s, 1, see_node, user))
            rc = err_set(e, ERR_MEMORY, "no memory for calibration");
    }
    session_free(s);
    model_free(m);
    free(x);
    return rc;
}

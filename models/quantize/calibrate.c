// SPDX-License-Identifier: MIT

#include "models/quantize/calibrate.h"

#include <math.h>
#include <pthreadpool.h>
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

#define READ_AHEAD 16 /* images read before they are run together */

static int is_held_back(int image)
{
    return image < 32 ? image % 2 == 1 : image % 4 == 3;
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

/* ---- runners: each thread takes images of its own, which needs no waiting within an image. Here and in all of quantize/ threads
   sleep between two loops: what lies between is long, and busy waiting would take the CPU from others ---- */

#define RUNNERS_MAX   16
#define RUNNERS_NODES 8192 /* of all runners' histograms together */

struct runner {
    struct session *session;
    float *input;
    struct histogram **histograms; /* [graph.count], when observing */
};

struct runners {
    const struct calibration *c;
    struct runner r[RUNNERS_MAX];
    int count;
};

static void runners_free(struct runners *all)
{
    for (int i = 0; i < all->count; i++) {
        struct runner *r = &all->r[i];
        for (int k = 0; r->histograms && k < all->c->fp32->graph.count; k++)
            free(r->histograms[k]);
        free(r->histograms);
        free(r->input);
        session_free(r->session);
    }
}

static int take_histograms(const struct graph *g, struct histogram ***out, struct err *e)
{
    struct plan plan;
    if (plan_make(g, sizeof(float), &plan, e) < 0)
        return -1;
    struct histogram **all = *out = calloc((size_t)g->count, sizeof *all);
    int bad = !all || !(all[0] = calloc(1, sizeof **all));
    for (int s = 0; !bad && s < plan.count; s++)
        bad = !(all[plan.steps[s].node] = calloc(1, sizeof **all));
    plan_free(&plan);
    return bad ? err_set(e, ERR_MEMORY, "no memory for the histograms of %d nodes", g->count) : 0;
}

/* As many as there are threads, within limits of memory. */
static int runners_make(const struct calibration *c, const struct network *n, int histograms, struct runners *all, struct err *e)
{
    struct model *m = NULL;
    const size_t threads = c->pool ? pthreadpool_get_threads_count(c->pool) : 1, most = (size_t)(RUNNERS_NODES / n->graph.count);
    const size_t want = threads < RUNNERS_MAX ? threads : RUNNERS_MAX;
    *all = (struct runners){.c = c};
    if (model_from_network(n, c->kernels, &m, e) < 0)
        return -1;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < want && i < (most ? most : 1); i++) {
        struct runner *r = &all->r[all->count++];
        r->input = malloc(c->image_bytes * sizeof *r->input);
        rc = r->input ? session_new(m, 1, NULL, &r->session, e) : err_set(e, ERR_MEMORY, "no memory for an image");
        if (rc == 0 && histograms)
            rc = take_histograms(&n->graph, &r->histograms, e);
    }
    model_free(m);
    if (rc < 0)
        runners_free(all);
    return rc;
}

/* ---- the images ---- */

/* A block of images that has been read and waits for its turn. */
struct block {
    struct runners *runners;
    struct calibration *c;
    int first, count; /* numbers of its images */
    uint8_t *pixels[READ_AHEAD];
    int labels[READ_AHEAD];
    float *logits[READ_AHEAD];
    struct range *seen[READ_AHEAD]; /* [graph.count] */
    int failed;
};

struct seeing {
    struct runner *runner;
    struct range *seen;
};

static void see(void *user, int node, const float *values, size_t count)
{
    const struct seeing *s = user;
    s->seen[node] = histogram_add(s->runner->histograms[node], values, count);
}

static void run_share(void *user, size_t task)
{
    struct block *b = user;
    struct calibration *c = b->c;
    struct runner *r = &b->runners->r[task];
    for (int i = (int)task; i < b->count; i += b->runners->count) {
        const float *logits;
        struct seeing s = {r, b->seen[i]};
        session_set_pixels(r->session, 0, b->pixels[i]);
        if (is_held_back(b->first + i)) {
            logits = session_run(r->session, 1);
        } else {
            input_values(c->fp32, b->pixels[i], c->image_bytes / 3, r->input);
            see(&s, 0, r->input, c->image_bytes);
            logits = session_run_observed(r->session, 1, see, &s);
        }
        if (logits)
            memcpy(b->logits[i], logits, (size_t)c->classes * sizeof *logits);
        else
            b->failed = 1;
    }
}

static int run_block(struct calibration *c, struct block *b, struct err *e)
{
    const struct graph *g = &c->fp32->graph;
    pthreadpool_parallelize_1d(c->pool, run_share, b, (size_t)b->runners->count, PTHREADPOOL_FLAG_YIELD_WORKERS);
    if (b->failed)
        return err_set(e, ERR_MEMORY, "no memory for calibration");
    for (int i = 0; i < b->count; i++) {
        const int held = is_held_back(b->first + i);
        for (int k = 0; !held && k < g->count; k++)
            if (c->histograms[k])
                histogram_average(c->histograms[k], b->seen[i][k]);
        if (keep(c, b->pixels[i], b->labels[i], held, b->logits[i], e) < 0)
            return -1;
    }
    c->images += b->count;
    for (int r = 0; r < b->runners->count; r++)
        for (int k = 0; k < g->count; k++)
            if (c->histograms[k] && b->runners->r[r].histograms[k]->broken)
                return err_set(e, ERR_INPUT, "layer %s gave infinite values in calibration", g->nodes[k].name);
    return 0;
}

static int block_init(struct calibration *c, struct runners *runners, struct block *b, struct err *e)
{
    int bad = 0;
    *b = (struct block){.runners = runners, .c = c};
    for (int i = 0; i < READ_AHEAD; i++) {
        b->pixels[i] = malloc(c->image_bytes);
        b->logits[i] = malloc((size_t)c->classes * sizeof **b->logits);
        b->seen[i] = calloc((size_t)c->fp32->graph.count, sizeof **b->seen);
        bad |= !b->pixels[i] || !b->logits[i] || !b->seen[i];
    }
    return bad ? err_set(e, ERR_MEMORY, "no memory for images") : 0;
}

static void block_free(struct block *b)
{
    for (int i = 0; i < READ_AHEAD; i++) {
        free(b->pixels[i]);
        free(b->logits[i]);
        free(b->seen[i]);
    }
}

static int see_images(struct calibration *c, next_image *next, void *user, struct err *e)
{
    struct runners runners;
    struct block b = {0};
    int more = 1;
    if (runners_make(c, c->fp32, 1, &runners, e) < 0)
        return -1;
    int rc = block_init(c, &runners, &b, e);
    while (rc == 0 && more == 1) {
        b.first = c->images;
        for (b.count = 0; b.count < READ_AHEAD; b.count++) {
            b.labels[b.count] = -1;
            if ((more = next(user, b.pixels[b.count], &b.labels[b.count], e)) != 1)
                break;
        }
        rc = more < 0 ? -1 : b.count ? run_block(c, &b, e) : 0;
    }
    if (rc == 0 && c->images == 0)
        rc = err_set(e, ERR_INPUT, "calibration needs at least one image");
    for (int r = 0; rc == 0 && r < runners.count; r++)
        for (int k = 0; k < c->fp32->graph.count; k++)
            if (c->histograms[k])
                histogram_merge(c->histograms[k], runners.r[r].histograms[k]);
    block_free(&b);
    runners_free(&runners);
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
    if (take_histograms(&fp32->graph, &c->histograms, e) < 0 || see_images(c, next, user, e) < 0) {
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

struct comparison {
    struct runners *runners;
    const struct calibration *c;
    const int *images; /* [count] places among the kept ones */
    int count;
    struct fidelity *fidelity; /* [count]: summed in order, so threads do not matter */
};

static void compare_share(void *user, size_t task)
{
    const struct comparison *k = user;
    const struct calibration *c = k->c;
    struct session *s = k->runners->r[task].session;
    for (int i = (int)task; i < k->count; i += k->runners->count) {
        session_set_pixels(s, 0, c->pixels[k->images[i]]);
        add(&k->fidelity[i], c->logits[k->images[i]], session_run(s, 1), c->classes, c->labels[k->images[i]]);
    }
}

static void sum_up(struct fidelity *f, const struct fidelity *one)
{
    f->images += one->images;
    f->agree += one->agree;
    f->labelled += one->labelled;
    f->fp32_right += one->fp32_right;
    f->right += one->right;
    f->signal += one->signal;
    f->noise += one->noise;
}

int calibration_compare(const struct calibration *c, const struct network *n, int most, struct fidelity *out, struct err *e)
{
    struct runners runners = {0};
    const size_t room = (size_t)c->kept;
    int *images = malloc(room * sizeof *images), count = 0;
    struct fidelity *each = calloc(room, sizeof *each), sum = {0};
    for (int i = 0; images && i < c->kept && (most == 0 || count < most); i++)
        if (c->held == 0 || c->is_held[i])
            images[count++] = i;
    int rc = images && each ? runners_make(c, n, 0, &runners, e) : err_set(e, ERR_MEMORY, "no memory to compare networks");
    if (rc == 0) {
        struct comparison k = {&runners, c, images, count, each};
        pthreadpool_parallelize_1d(c->pool, compare_share, &k, (size_t)runners.count, PTHREADPOOL_FLAG_YIELD_WORKERS);
        for (int i = 0; i < count; i++)
            sum_up(&sum, &each[i]);
        runners_free(&runners);
        *out = sum;
    }
    free(images);
    free(each);
    return rc;
}

/* ---- once more through the fp32 network ---- */

struct walking {
    struct runners *runners;
    const struct calibration *c;
    const struct calibration_walk *w;
    int images[CALIBRATION_BLOCK], count; /* places among the kept ones */
    int failed;
};

struct place {
    const struct calibration_walk *w;
    int place;
};

static void pass_on(void *user, int node, const float *values, size_t count)
{
    const struct place *p = user;
    (void)count;
    p->w->see(p->w->user, p->place, node, values);
}

static void walk_share(void *user, size_t task)
{
    struct walking *k = user;
    const struct calibration *c = k->c;
    struct runner *r = &k->runners->r[task];
    for (int i = (int)task; i < k->count; i += k->runners->count) {
        struct place p = {k->w, i};
        input_values(c->fp32, c->pixels[k->images[i]], c->image_bytes / 3, r->input);
        pass_on(&p, 0, r->input, c->image_bytes);
        session_set_values(r->session, 0, r->input);
        if (!session_run_observed(r->session, 1, pass_on, &p))
            k->failed = 1;
    }
}

int calibration_walk_images(const struct calibration *c, int most)
{
    const int all = calibration_fit(c);
    return most < all ? most : all;
}

int calibration_walk(const struct calibration *c, int most, const struct calibration_walk *w, struct err *e)
{
    struct runners runners;
    if (runners_make(c, c->fp32, 0, &runners, e) < 0)
        return -1;
    const int all = calibration_fit(c), count = calibration_walk_images(c, most);
    struct walking k = {.runners = &runners, .c = c, .w = w};
    int rc = 0;
    for (int i = 0, seen = 0, used = 0; rc == 0 && used < count; i++) {
        if (c->is_held[i] || (long long)seen++ * count / all < used)
            continue;
        k.images[k.count++] = i;
        if (++used < count && k.count < CALIBRATION_BLOCK)
            continue;
        pthreadpool_parallelize_1d(c->pool, walk_share, &k, (size_t)runners.count, PTHREADPOOL_FLAG_YIELD_WORKERS);
        rc = k.failed ? err_set(e, ERR_MEMORY, "no memory for calibration") : w->after(w->user, k.count, e);
        k.count = 0;
    }
    runners_free(&runners);
    return rc;
}

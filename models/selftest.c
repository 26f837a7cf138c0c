// SPDX-License-Identifier: MIT

#include "models/selftest.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "models/session.h"

#define SMALL_BYTES 16384 /* of an image: two of them cost little, in the file and in time */

double selftest_bound(const struct network *n)
{
    int half = 0;
    for (int i = 0; i < n->graph.count; i++)
        half |= n->graph.nodes[i].half;
    if (n->precision == PRECISION_INT8)
        return half ? 1e-1 : 0; /* what half layers leave may round to another step of 8 bits in those behind them */
    return half || n->precision == PRECISION_FP16 ? 2e-2 : 1e-3;
}

/* Gradients that differ by channel, under noise: a quarter of the range in the first image, half of it in the second. */
static void draw(int image, int w, int h, uint8_t *rgb)
{
    uint32_t seed = 1 + (uint32_t)image;
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            const int across = 255 * x / w, down = 255 * y / h;
            const int value[3] = {across, image ? 255 - down : down, (across + down) / 2};
            for (int c = 0; c < 3; c++) {
                seed = seed * 1664525 + 1013904223;
                const int noise = (int)(seed >> 24) - 128, v = value[c] + noise * (image + 1) / 4;
                *rgb++ = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
            }
        }
}

/* Logits of one image after the other into out. */
static int answer(struct model *m, struct pthreadpool *pool, const uint8_t *input, int images, float *out, struct err *e)
{
    const size_t classes = (size_t)model_classes(m);
    struct session *s;
    int w, h;
    if (session_new(m, 1, pool, &s, e) < 0)
        return -1;
    model_input_size(m, &w, &h);
    for (int i = 0; i < images; i++) {
        session_set_pixels(s, 0, input + (size_t)i * 3 * (size_t)w * (size_t)h);
        memcpy(out + (size_t)i * classes, session_run(s, 1), classes * sizeof *out);
    }
    session_free(s);
    return 0;
}

static int all_finite(const float *v, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!isfinite(v[i]))
            return 0;
    return 1;
}

int selftest_make(struct network *n, struct pthreadpool *pool, struct err *e)
{
    const struct node *in = &n->graph.nodes[0];
    const size_t bytes = 3 * (size_t)in->h * (size_t)in->w, classes = (size_t)n->graph.nodes[n->graph.output].c;
    const int images = bytes <= SMALL_BYTES ? 2 : 1;
    struct model *m;
    selftest_free(&n->selftest);
    if (bytes > SELFTEST_BYTES_MAX)
        return 0;
    if (model_from_network(n, kernels_find("ref"), &m, e) < 0)
        return -1;
    struct selftest made = {images, malloc((size_t)images * bytes), malloc((size_t)images * classes * sizeof(float))};
    int rc = made.input && made.logits ? 0 : err_set(e, ERR_MEMORY, "no memory for the self-test");
    for (int i = 0; i < images && rc == 0; i++)
        draw(i, in->w, in->h, made.input + (size_t)i * bytes);
    if (rc == 0)
        rc = answer(m, pool, made.input, images, made.logits, e);
    if (rc == 0 && !all_finite(made.logits, (size_t)images * classes))
        rc = err_set(e, ERR_INPUT, "%s: the network answers the images of its self-test with logits that are not finite",
                     precision_name(n->precision));
    if (rc == 0)
        n->selftest = made;
    else
        selftest_free(&made);
    model_free(m);
    return rc;
}

static float largest(const float *v, int count)
{
    float most = 0;
    for (int i = 0; i < count; i++)
        most = fabsf(v[i]) > most ? fabsf(v[i]) : most;
    return most;
}

static int compare(const struct model *m, int image, const float *came, const float *wanted, struct err *e)
{
    const int classes = model_classes(m);
    const double bound = selftest_bound(model_network(m)), most = (double)largest(wanted, classes);
    for (int i = 0; i < classes; i++) {
        const double off = fabs((double)came[i] - (double)wanted[i]);
        if (off <= bound * most) /* false for what is not a number */
            continue;
        err_set(
            e, ERR_DAMAGED,
            "the self-test failed: with kernels %s, logit %d of image %d is %.9g where the file has %.9g; it may be off by %g. "
            "The file's numbers or this machine's are wrong",
            model_kernels(m)->name, i, image, (double)came[i], (double)wanted[i], bound * most);
        return SELFTEST_FAILED;
    }
    return 0;
}

int selftest_run(struct model *m, struct pthreadpool *pool, struct err *e)
{
    const struct selftest *t = &model_network(m)->selftest;
    const int stored = t->images > 0, images = stored ? t->images : 1;
    const size_t classes = (size_t)model_classes(m);
    int w, h, rc;
    model_input_size(m, &w, &h);
    uint8_t *black = stored ? NULL : calloc((size_t)w * (size_t)h, 3);
    float *logits = malloc((size_t)images * classes * sizeof *logits);
    if (!logits || (!stored && !black))
        rc = err_set(e, ERR_MEMORY, "no memory for the self-test");
    else
        rc = answer(m, pool, stored ? t->input : black, images, logits, e);
    for (int i = 0; i < t->images && rc == 0; i++)
        rc = compare(m, i, logits + (size_t)i * classes, t->logits + (size_t)i * classes, e);
    if (rc == 0 && !all_finite(logits, (size_t)images * classes)) {
        err_set(e, ERR_DAMAGED, "the self-test gave logits that are not finite");
        rc = SELFTEST_FAILED;
    }
    free(black);
    free(logits);
    return rc;
}

// SPDX-License-Identifier: MIT
//
// ctl_run.c - classify images without a daemon.

#include "daemon/ctl.h"

#include <pthreadpool.h>
#include <stdio.h>
#include <stdlib.h>

#include "models/file.h"

struct options {
    int top_k, logits, threads, json;
    const char *kernels, *precision;
};

static const struct ctl_option options[] = {
    {"precision", 0, CTL_TEXT, offsetof(struct options, precision), 0, 0, "P",
     "which file of a model directory: fp32 (default), fp16, hybrid or int8"},
    {"top-k", 0, CTL_INT, offsetof(struct options, top_k), 1, 65536, "N", "how many classes to show (default 5)"},
    {"logits", 0, CTL_FLAG, offsetof(struct options, logits), 0, 0, NULL, "show what the network computed for every class"},
    {"kernels", 0, CTL_TEXT, offsetof(struct options, kernels), 0, 0, "NAME",
     "a row of the kernel table (default: the best here)"},
    {"threads", 0, CTL_INT, offsetof(struct options, threads), 1, 256, "N", "threads (default: all CPUs)"},
    {"json", 0, CTL_FLAG, offsetof(struct options, json), 0, 0, NULL, "print the results as JSON"},
    {0},
};

static const struct ctl_usage usage = {
    "run MODEL IMAGE... [--precision P] [--top-k N] [--logits] [--kernels NAME] [--threads N] [--json]",
    "Classifies JPEG, PNG or WebP files. An image that cannot be read is reported, the others are still classified.", options, 2,
    -1};

static const char *label_of(const struct network *n, int class)
{
    return class < n->label_count ? n->labels[class] : NULL;
}

static cJSON *result_json(const struct ctl_model *m, const char *file, const float *logits, const float *p, const int *best,
                          int k, int with_logits)
{
    cJSON *o = cJSON_CreateObject(), *predictions = cJSON_CreateArray();
    int bad = ctl_put_text(o, "file", file);
    for (int i = 0; i < k; i++) {
        cJSON *one = cJSON_CreateObject();
        bad |= ctl_put_number(one, "class", best[i], 9);
        bad |= ctl_put_text(one, "label", label_of(m->network, best[i]));
        bad |= ctl_put_number(one, "probability", (double)p[best[i]], 6);
        bad |= ctl_append(predictions, one);
    }
    bad |= ctl_put_item(o, "predictions", predictions);
    if (with_logits) {
        cJSON *all = cJSON_CreateArray();
        for (int i = 0; i < m->classes; i++)
            bad |= ctl_append(all, ctl_number((double)logits[i], 9));
        bad |= ctl_put_item(o, "logits", all);
    }
    return ctl_whole(o, bad);
}

static void result_text(const struct ctl_model *m, const char *file, const float *logits, const float *p, const int *best, int k,
                        int with_logits)
{
    printf("%s\n", file);
    for (int i = 0; i < k; i++) {
        const char *label = label_of(m->network, best[i]);
        printf("  %6.2f %%  %4d  %s\n", 100 * (double)p[best[i]], best[i], label ? label : "");
    }
    if (with_logits) {
        printf("  logits");
        for (int i = 0; i < m->classes; i++)
            printf(" %.9g", (double)logits[i]);
        printf("\n");
    }
}

struct buffers {
    uint8_t *rgb;
    float *p;
    int *best;
};

static int classify(const struct ctl_model *m, const char *file, const struct buffers *b, const float **logits, struct err *e)
{
    uint8_t *bytes;
    size_t size;
    if (ctl_read_file(file, CTL_IMAGE_BYTES_MAX, &bytes, &size, e) != 0)
        return -1;
    int rc = ctl_pixels_decode(bytes, size, &m->network->preprocess, m->width, m->height, b->rgb, e);
    free(bytes);
    if (rc != 0)
        return err_prefix(e, "%s", file);
    session_set_pixels(m->session, 0, b->rgb);
    *logits = session_run(m->session, 1);
    softmax(*logits, m->classes, b->p);
    return 0;
}

static int classify_all(const struct options *o, const struct ctl_model *m, char *const *files, int count)
{
    struct buffers b = {malloc(3u * (size_t)m->width * (size_t)m->height), malloc(sizeof *b.p * (size_t)m->classes),
                        malloc(sizeof *b.best * (size_t)m->classes)};
    int k = o->top_k < m->classes ? o->top_k : m->classes, status = CTL_DONE, bad = 0;
    cJSON *results = o->json ? cJSON_CreateArray() : NULL;
    struct err e;
    if (!b.rgb || !b.p || !b.best) {
        err_set(&e, ERR_MEMORY, "no memory for an image");
        status = ctl_fail(&e);
        count = 0;
    }
    for (int i = 0; i < count; i++) {
        const float *logits = NULL;
        if (classify(m, files[i], &b, &logits, &e) != 0) {
            status = ctl_fail(&e);
            continue;
        }
        top_k(logits, m->classes, k, b.best);
        if (o->json)
            bad |= ctl_append(results, result_json(m, files[i], logits, b.p, b.best, k, o->logits));
        else
            result_text(m, files[i], logits, b.p, b.best, k, o->logits);
    }
    if (o->json) {
        cJSON *root = cJSON_CreateObject();
        bad |= ctl_put_item(root, "results", results);
        if (ctl_print_json(root, bad) != CTL_DONE)
            status = CTL_FAILED;
    }
    free(b.rgb);
    free(b.p);
    free(b.best);
    return status;
}

int ctl_run(int argc, char **argv)
{
    struct options o = {.top_k = 5};
    int status, first = ctl_parse(&usage, argc, argv, &o, &status);
    if (first < 0)
        return status;
    enum precision precision = PRECISION_FP32;
    struct err e;
    if (o.precision && precision_parse(o.precision, &precision, &e) != 0)
        return ctl_wrong(&usage, "%s", e.text);

    char path[4096];
    const struct kernels *k;
    struct pthreadpool *pool = NULL;
    struct ctl_model m = {0};
    if (model_path(argv[first], precision, path, sizeof path, &e) != 0 || ctl_kernels(o.kernels, &k, &e) != 0 ||
        ctl_pool(&o.threads, &pool, &e) != 0 || ctl_model_open(path, k, 1, pool, &m, &e) != 0) {
        status = ctl_fail(&e);
    } else if (o.precision && m.network->precision != precision) {
        err_set(&e, ERR_INPUT, "%s is %s, not %s", path, precision_name(m.network->precision), o.precision);
        status = ctl_fail(&e);
    } else {
        status = classify_all(&o, &m, argv + first + 1, argc - first - 1);
    }
    ctl_model_close(&m);
    if (pool)
        pthreadpool_destroy(pool);
    return status;
}

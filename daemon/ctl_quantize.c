// SPDX-License-Identifier: MIT
//
// ctl_quantize.c - the fp32 model file -> fp16, hybrid or int8, measured against fp32 before anything is written.

#include "daemon/ctl_guard.h"
#include "daemon/ctl_loss.h"
#include "daemon/ctl_table.h"
#include "daemon/progress.h"

#include <pthreadpool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/file.h"
#include "models/quantize/quantize.h"

struct options {
    const char *output, *precision, *data, *method, *rounding, *report;
    int images, threads, layers, json;
    struct ctl_guard_options guard;
};

static const struct ctl_option options[] = {
    {"output", 'o', CTL_TEXT, offsetof(struct options, output), 0, 0, "DIR|FILE",
     "where to write: FILE.safetensors, or PRECISION.safetensors in DIR"},
    {"precision", 'p', CTL_TEXT, offsetof(struct options, precision), 0, 0, "P", "fp16, hybrid or int8"},
    {"calibrate", 0, CTL_TEXT, offsetof(struct options, data), 0, 0, "DATA",
     "images like those to come; int8 needs them, the others are only measured on them"},
    {"images", 0, CTL_INT, offsetof(struct options, images), 1, 1e6, "N", "how many, spread evenly over DATA (default 256)"},
    {"method", 0, CTL_TEXT, offsetof(struct options, method), 0, 0, "M",
     "how int8 ranges are chosen: minmax, average, percentile, mse, entropy, or auto (default): the best of them"},
    {"rounding", 0, CTL_TEXT, offsetof(struct options, rounding), 0, 0, "R",
     "how int8 weights are rounded: nearest, balanced (errors cancel), gptq (each makes up for those before it), or auto "
     "(default)"},
    {"min-agreement", 0, CTL_NUMBER, offsetof(struct options, guard.guard.min_agreement), 0, 100, "P",
     "write only if top-1 agrees with fp32 on P percent of held-back images; in int8, layers go to fp16 until it does"},
    {"max-drop", 0, CTL_NUMBER, offsetof(struct options, guard.guard.max_drop), 0, 100, "D",
     "likewise, if top-1 is at most D points below fp32; needs labels"},
    {"keep-fp16", 0, CTL_TEXT, offsetof(struct options, guard.keep_fp16), 0, 0, "LAYER[,LAYER]",
     "leave these layers of an int8 network in fp16"},
    {"sensitivity", 0, CTL_FLAG, offsetof(struct options, guard.sensitivity), 0, 0, NULL,
     "measure what int8 costs, layer by layer: two runs of each held-back image for each layer"},
    {"report", 0, CTL_TEXT, offsetof(struct options, report), 0, 0, "FILE.json|FILE.md",
     "write what was lost, layer by layer, as JSON or Markdown"},
    {"threads", 0, CTL_INT, offsetof(struct options, threads), 1, 256, "N", "threads (default: all CPUs)"},
    {"layers", 0, CTL_FLAG, offsetof(struct options, layers), 0, 0, NULL, "print what each layer lost"},
    {"json", 0, CTL_FLAG, offsetof(struct options, json), 0, 0, NULL, "print the result as JSON, layers included"},
    {0},
};

static const struct ctl_usage usage = {
    "quantize MODEL -o DIR|FILE --precision fp16|hybrid|int8 [--calibrate DATA] [--images N] [--method M] [--rounding R]\n"
    "       [--min-agreement P] [--max-drop D] [--keep-fp16 LAYER[,LAYER]] [--sensitivity] [--report FILE.json|FILE.md] "
    "[--layers]\n"
    "       [--threads N] [--json]",
    "Makes a smaller, faster file from the fp32 file of a model (or from the fp32.safetensors of a directory).", options, 1, 1};

/* The calibration images, walked twice: once for the ranges, once to compare. */
struct images {
    struct dataset *data;
    const struct network *network;
    int count, next;
    char file[320]; /* the last one */
    struct progress progress;
};

static void rewind_images(struct images *s, const char *what, int quiet)
{
    s->next = 0;
    progress_start(&s->progress, what, "images", s->count, quiet);
}

/* next_image of quantize.h */
static int next_pixels(void *user, uint8_t *rgb, int *label, struct err *e)
{
    struct images *s = user;
    struct sample sample;
    const struct node *input = &s->network->graph.nodes[0];
    progress_step(&s->progress, s->next);
    if (s->next == s->count)
        return 0;
    int i = (int)((long long)s->next++ * dataset_count(s->data) / s->count);
    const int classes = s->network->graph.nodes[s->network->graph.output].c;
    if (ctl_pixels_read(s->data, i, &s->network->preprocess, input->w, input->h, &sample, rgb, e) != 0 ||
        ctl_check_label(&sample, classes, e) != 0)
        return -1;
    snprintf(s->file, sizeof s->file, "%s", sample.name);
    *label = sample.label;
    return 1;
}

static int open_images(const struct options *o, const struct network *n, struct images *s, struct err *e)
{
    if (!o->data)
        return 0;
    if (dataset_open(o->data, n->labels, n->label_count, &s->data, e) != 0)
        return -1;
    int count = dataset_count(s->data);
    s->network = n;
    s->count = o->images < count ? o->images : count;
    return s->count ? 0 : err_set(e, ERR_NOT_FOUND, "%s: there are no images", o->data);
}

/* ---- what was lost ---- */

static int compare(const struct options *o, const struct kernels *k, struct pthreadpool *pool, struct images *images,
                   struct loss *l, struct err *e)
{
    const struct loss_source source = {next_pixels, images, images->file};
    rewind_images(images, "comparing", o->json);
    int rc = loss_measure(l, k, pool, &source, o->layers || o->json || o->report, e);
    progress_end(&images->progress);
    return rc;
}

/* What the guards did goes to the result. */
static int add_guarded(cJSON *result, struct ctl_guarded *g)
{
    int bad = g->sensitivity && ctl_put_item(result, "sensitivity", g->sensitivity);
    g->sensitivity = NULL;
    bad |= g->fallback && ctl_put_item(result, "fallback", g->fallback);
    g->fallback = NULL;
    return bad;
}

static void print_guarded(FILE *f, int as_markdown, const cJSON *result)
{
    ctl_guarded_print(f, as_markdown, cJSON_GetObjectItemCaseSensitive(result, "sensitivity"),
                      cJSON_GetObjectItemCaseSensitive(result, "fallback"));
}

static void markdown(FILE *f, const cJSON *result)
{
    loss_markdown(f, result);
    print_guarded(f, 1, result);
}

static int print_result(const struct options *o, const char *path, cJSON *result)
{
    const long long bytes = ctl_file_bytes(path);
    char size[16];
    if (o->json) {
        int bad = ctl_put_text(result, "file", path);
        bad |= ctl_put_number(result, "file_bytes", (double)bytes, 17);
        return ctl_print_json(result, bad);
    }
    ctl_size((double)bytes, size);
    print_guarded(stdout, 0, result);
    loss_print_summary(result);
    printf("%s: %s in %s, %s\n", path, ctl_text_of(result, "name"), ctl_text_of(result, "precision"), size);
    if (o->layers)
        loss_print_layers(result);
    cJSON_Delete(result);
    return CTL_DONE;
}

/* ---- the command ---- */

/* quantize_options.progress */
static void show_progress(void *user, const char *what, int done, int total)
{
    struct images *s = user;
    if (s->progress.what != what)
        progress_start(&s->progress, what, "steps", total, s->progress.quiet);
    progress_step(&s->progress, done);
}

/* Calibration when there are images, then the network in the wanted precision. */
static int convert(const struct options *o, enum precision p, const struct network *fp32, const struct kernels *k,
                   struct pthreadpool *pool, struct images *images, struct network *q, struct ctl_guarded *guarded, struct err *e)
{
    struct quantize_options how = {.progress = show_progress, .user = images};
    struct calibration *c = NULL;
    int rc = quantize_parse_method(o->method, &how.ranges, e);
    if (rc == 0)
        rc = quantize_parse_rounding(o->rounding, &how.weights, e);
    if (rc == 0 && images->data) {
        rewind_images(images, "calibrating", o->json);
        rc = calibration_new(fp32, k, pool, next_pixels, images, &c, e);
    }
    if (rc == 0)
        rc = quantize_network(fp32, p, &how, c, q, NULL, e);
    if (rc == 0 && c)
        rc = ctl_guard(&o->guard, c, &how, q, guarded, e);
    progress_end(&images->progress);
    calibration_free(c);
    return rc;
}

static int check_guard(const struct ctl_guarded *g, struct err *e)
{
    if (!g->failed)
        return 0;
    *e = g->why;
    return err_prefix(e, "no model was written");
}

static int quantize(const struct options *o, enum precision p, const char *model, struct err *e)
{
    char source[4096], *path = NULL;
    struct network fp32 = {0}, q = {0};
    struct images images = {0};
    struct loss loss = {0};
    struct ctl_guarded guarded = {0};
    cJSON *result = NULL;
    struct pthreadpool *pool = NULL;
    const struct kernels *k = NULL;
    int threads = o->threads;
    int rc = model_path(model, PRECISION_FP32, source, sizeof source, e);
    if (rc == 0)
        rc = model_file_read(source, &fp32, e);
    if (rc == 0 && fp32.precision != PRECISION_FP32)
        rc = err_set(e, ERR_INPUT, "%s is %s already; quantize starts from fp32", source, precision_name(fp32.precision));
    if (rc == 0)
        rc = ctl_kernels(NULL, &k, e);
    if (rc == 0)
        rc = ctl_pool(&threads, &pool, e);
    if (rc == 0)
        rc = open_images(o, &fp32, &images, e);
    if (rc == 0)
        rc = convert(o, p, &fp32, k, pool, &images, &q, &guarded, e);
    if (rc == 0)
        loss_start(&loss, &fp32, &q);
    if (rc == 0 && images.data)
        rc = compare(o, k, pool, &images, &loss, e);
    if (rc == 0 && (!(result = loss_json(&loss)) || add_guarded(result, &guarded)))
        rc = err_set(e, ERR_MEMORY, "no memory for the result");
    if (rc == 0 && o->report) /* above all when the agreement is too low */
        rc = ctl_write_report(o->report, result, markdown, e);
    if (rc == 0)
        rc = check_guard(&guarded, e);
    if (rc == 0 && !(path = ctl_output_path(o->output, p, e)))
        rc = -1;
    if (rc == 0)
        rc = ctl_write_model(path, &q, pool, e);
    if (rc == 0) {
        if (print_result(o, path, result) != CTL_DONE)
            rc = err_set(e, ERR_MEMORY, "the result cannot be shown");
        result = NULL;
    }
    cJSON_Delete(result);
    loss_free(&loss);
    ctl_guarded_free(&guarded);
    free(path);
    dataset_close(images.data);
    network_free(&q);
    network_free(&fp32);
    if (pool)
        pthreadpool_destroy(pool);
    return rc;
}

int ctl_quantize(int argc, char **argv)
{
    struct options o = {.images = 256, .method = "auto", .rounding = "auto", .guard.guard = {-1, -1}};
    int status, first = ctl_parse(&usage, argc, argv, &o, &status);
    if (first < 0)
        return status;
    enum precision p;
    struct err e;
    if (!o.output)
        return ctl_wrong(&usage, "-o says where to write and is missing");
    if (!o.precision)
        return ctl_wrong(&usage, "--precision is missing: fp16, hybrid or int8");
    if (precision_parse(o.precision, &p, &e) != 0)
        return ctl_wrong(&usage, "%s", e.text);
    if (p == PRECISION_FP32)
        return ctl_wrong(&usage, "--precision fp32 is what there is already: fp16, hybrid or int8");
    if (!o.data && (p == PRECISION_INT8 || o.guard.guard.min_agreement >= 0 || o.guard.guard.max_drop >= 0))
        return ctl_wrong(&usage, "%s needs images: --calibrate DATA", p == PRECISION_INT8 ? "int8" : "a guard");
    if (p != PRECISION_INT8 && (o.guard.keep_fp16 || o.guard.sensitivity))
        return ctl_wrong(&usage, "%s is about the layers of int8", o.guard.keep_fp16 ? "--keep-fp16" : "--sensitivity");
    unsigned set;
    if (quantize_parse_method(o.method, &set, &e) != 0 || quantize_parse_rounding(o.rounding, &set, &e) != 0)
        return ctl_wrong(&usage, "%s", e.text);
    if (!o.data && p == PRECISION_HYBRID && set == 1u << WEIGHTS_GPTQ)
        return ctl_wrong(&usage, "rounding by gptq needs images: --calibrate DATA");
    return quantize(&o, p, argv[first], &e) == 0 ? CTL_DONE : ctl_fail(&e);
}

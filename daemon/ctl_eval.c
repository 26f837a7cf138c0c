// SPDX-License-Identifier: MIT
//
// ctl_eval.c - accuracy of several models on one set of images, and how well the others follow the first.

#include "daemon/ctl.h"
#include "daemon/ctl_table.h"
#include "daemon/progress.h"

#include <math.h>
#include <pthreadpool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options {
    const char *data, *kernels, *report;
    int limit, threads, json;
};

static const struct ctl_option options[] = {
    {"data", 'd', CTL_TEXT, offsetof(struct options, data), 0, 0, "DATA",
     "images: a directory with labels.csv or a folder per class, or CIFAR-10 *.bin"},
    {"limit", 0, CTL_INT, offsetof(struct options, limit), 1, 1e9, "N", "use N images, spread evenly over DATA (default: all)"},
    {"threads", 0, CTL_INT, offsetof(struct options, threads), 1, 256, "N", "threads (default: all CPUs)"},
    {"kernels", 0, CTL_TEXT, offsetof(struct options, kernels), 0, 0, "NAME",
     "a row of the kernel table (default: the best here)"},
    {"report", 0, CTL_TEXT, offsetof(struct options, report), 0, 0, "FILE.json|FILE.md",
     "also write the results, as JSON or Markdown"},
    {"json", 0, CTL_FLAG, offsetof(struct options, json), 0, 0, NULL, "print the results as JSON"},
    {0},
};

static const struct ctl_usage usage = {
    "eval MODEL... --data DATA [--limit N] [--threads N] [--kernels NAME] [--report FILE.json|FILE.md] [--json]",
    "Runs every model over the images: top-1 and top-5 accuracy where DATA has labels, agreement of the most likely class and\n"
    "signal-to-noise ratio of the logits against the first model, time from pixels to logits, time to load, and memory. MODEL\n"
    "is a file, or a directory, of which every precision is taken, fp32 first.",
    options, 1, -1};

struct row {
    struct ctl_model m;
    char *preprocess; /* JSON: equal texts see equal pixels */
    int top1, top5, labelled;
    double ms;
    struct ctl_compare to_first;
};

struct eval {
    const struct ctl_files *files;
    struct row *rows; /* [files->count] */
    struct dataset *data;
    int images;
    uint8_t *rgb;     /* of the largest input */
    float *reference; /* logits of the first model */
};

static int open_rows(struct eval *v, const struct kernels *k, struct pthreadpool *pool, struct err *e)
{
    size_t largest = 0;
    for (int i = 0; i < v->files->count; i++) {
        struct row *r = &v->rows[i];
        if (ctl_model_open(v->files->paths[i], k, 1, pool, &r->m, e) != 0)
            return -1;
        r->preprocess = preprocess_to_json(&r->m.network->preprocess);
        if (!r->preprocess)
            return err_set(e, ERR_MEMORY, "no memory for the preprocessing of %s", v->files->paths[i]);
        size_t bytes = 3u * (size_t)r->m.width * (size_t)r->m.height;
        largest = bytes > largest ? bytes : largest;
    }
    v->rgb = malloc(largest);
    v->reference = malloc(sizeof *v->reference * (size_t)v->rows[0].m.classes);
    return v->rgb && v->reference ? 0 : err_set(e, ERR_MEMORY, "no memory for an image");
}

static int same_pixels(const struct row *a, const struct row *b)
{
    return a->m.width == b->m.width && a->m.height == b->m.height && !strcmp(a->preprocess, b->preprocess);
}

static void score(struct row *r, const float *logits, int label)
{
    int best[5], k = r->m.classes < 5 ? r->m.classes : 5;
    if (label < 0 || label >= r->m.classes)
        return;
    top_k(logits, r->m.classes, k, best);
    r->labelled++;
    r->top1 += best[0] == label;
    for (int i = 0; i < k; i++)
        r->top5 += best[i] == label;
}

static int see_image(struct eval *v, int index, struct err *e)
{
    struct sample sample = {0};
    for (int i = 0; i < v->files->count; i++) {
        struct row *r = &v->rows[i];
        /* Neighbours mostly are precisions of one network: decode once for all of them. */
        if ((i == 0 || !same_pixels(r, r - 1)) &&
            ctl_pixels_read(v->data, index, &r->m.network->preprocess, r->m.width, r->m.height, &sample, v->rgb, e) != 0)
            return -1;
        if (i == 0 && ctl_check_label(&sample, r->m.classes, e) != 0)
            return -1;
        double start = ctl_now_ms();
        session_set_pixels(r->m.session, 0, v->rgb);
        const float *logits = session_run(r->m.session, 1);
        r->ms += ctl_now_ms() - start;
        score(r, logits, sample.label);
        if (i == 0)
            memcpy(v->reference, logits, sizeof *logits * (size_t)r->m.classes);
        if (r->m.classes == v->rows[0].m.classes)
            ctl_compare_add(&r->to_first, v->reference, logits, r->m.classes);
    }
    return 0;
}

static int see_all(struct eval *v, const struct options *o, struct err *e)
{
    int count = dataset_count(v->data);
    v->images = o->limit && o->limit < count ? o->limit : count;
    if (v->images == 0)
        return err_set(e, ERR_NOT_FOUND, "%s: there are no images", o->data);
    struct progress progress;
    progress_start(&progress, "evaluating", "images", v->images, o->json);
    int rc = 0;
    for (int i = 0; i < v->images && rc == 0; i++) {
        rc = see_image(v, (int)((long long)i * count / v->images), e);
        progress_step(&progress, i + 1);
    }
    progress_end(&progress);
    return rc;
}

static double percent(const struct eval *v, const struct row *r, int right)
{
    return r->labelled == v->images ? 100.0 * right / v->images : (double)NAN;
}

static cJSON *row_json(const struct eval *v, int i)
{
    const struct row *r = &v->rows[i];
    cJSON *o = cJSON_CreateObject();
    int bad = ctl_put_text(o, "file", v->files->paths[i]);
    bad |= ctl_put_text(o, "name", r->m.network->name);
    bad |= ctl_put_text(o, "precision", precision_name(r->m.network->precision));
    bad |= ctl_put_text(o, "kernels", model_kernels(r->m.model)->name);
    bad |= ctl_put_number(o, "images", v->images, 9);
    bad |= ctl_put_number(o, "top1", percent(v, r, r->top1), 6);
    bad |= ctl_put_number(o, "top5", percent(v, r, r->top5), 6);
    bad |= ctl_put_number(o, "agreement_with_first", ctl_compare_percent(&r->to_first), 6);
    bad |= ctl_put_number(o, "logit_sqnr_db", ctl_compare_db(&r->to_first), 6);
    bad |= ctl_put_number(o, "ms_per_image", r->ms / v->images, 6);
    bad |= ctl_put_number(o, "file_bytes", (double)ctl_file_bytes(v->files->paths[i]), 17);
    bad |= ctl_put_number(o, "weights_bytes", (double)model_weight_bytes(r->m.model), 17);
    bad |= ctl_put_number(o, "arena_bytes", (double)session_bytes(r->m.session), 17);
    bad |= ctl_put_number(o, "unplanned_bytes", (double)model_unplanned_bytes(r->m.model), 17);
    bad |= ctl_put_number(o, "load_ms", r->m.load_ms, 6);
    return ctl_whole(o, bad);
}

static const struct ctl_column columns[] = {
    {"name", "model", CELL_TEXT, 0, 0},
    {"precision", "precision", CELL_TEXT, 0, 0},
    {"top1", "top-1 %", CELL_NUMBER, 2, 0},
    {"top5", "top-5 %", CELL_NUMBER, 2, 0},
    {"agreement_with_first", "agree %", CELL_NUMBER, 2, 0},
    {"logit_sqnr_db", "SQNR dB", CELL_NUMBER, 1, 0},
    {"ms_per_image", "ms/image", CELL_NUMBER, 2, 0},
    {"load_ms", "load ms", CELL_NUMBER, 1, 0},
    {"file_bytes", "file", CELL_BYTES, 0, 0},
    {"weights_bytes", "weights", CELL_BYTES, 0, 0},
    {"arena_bytes", "arena", CELL_BYTES, 0, 0},
    {"unplanned_bytes", "unplanned", CELL_BYTES, 0, 0},
    {0},
};

/* To be deleted; NULL: no memory. */
static cJSON *results_json(const struct eval *v)
{
    cJSON *root = cJSON_CreateObject(), *models = cJSON_CreateArray();
    int bad = 0;
    for (int i = 0; i < v->files->count; i++)
        bad |= ctl_append(models, row_json(v, i));
    bad |= ctl_put_item(root, "models", models);
    return ctl_whole(root, bad);
}

static void markdown(FILE *f, const cJSON *results)
{
    const cJSON *models = cJSON_GetObjectItemCaseSensitive(results, "models"), *first = cJSON_GetArrayItem(models, 0);
    fprintf(f, "# %s on %.0f images\n\n", ctl_text_of(first, "name"), ctl_number_of(first, "images"));
    ctl_table(f, TABLE_MARKDOWN, models, columns);
    fprintf(f, "\nKernels %s. Agreement and signal-to-noise ratio of the logits are those with the first row. Weights as packed in\n",
            ctl_text_of(first, "kernels"));
    fprintf(f, "memory; arena: all that a session takes; unplanned: the activations if each had memory of its own.\n");
}

static int show(const struct options *o, cJSON *results, struct err *e)
{
    const cJSON *models = cJSON_GetObjectItemCaseSensitive(results, "models"), *first = cJSON_GetArrayItem(models, 0);
    if (!results)
        return err_set(e, ERR_MEMORY, "no memory for the results");
    const int rc = o->report ? ctl_write_report(o->report, results, markdown, e) : 0; /* shown even when it cannot be written */
    if (o->json)
        return ctl_print_json(results, 0) == CTL_DONE ? rc : err_set(e, ERR_MEMORY, "the results cannot be shown");
    printf("%.0f images, kernels %s\n", ctl_number_of(first, "images"), ctl_text_of(first, "kernels"));
    ctl_table(stdout, TABLE_ALIGNED, models, columns);
    cJSON_Delete(results);
    return rc;
}

static int eval(const struct options *o, struct eval *v, const struct kernels *k, struct pthreadpool *pool, struct err *e)
{
    if (open_rows(v, k, pool, e) != 0)
        return -1;
    const struct network *first = v->rows[0].m.network;
    if (dataset_open(o->data, first->labels, first->label_count, &v->data, e) != 0)
        return -1;
    return see_all(v, o, e) == 0 ? show(o, results_json(v), e) : -1;
}

int ctl_eval(int argc, char **argv)
{
    struct options o = {0};
    int status, first = ctl_parse(&usage, argc, argv, &o, &status);
    if (first < 0)
        return status;
    if (!o.data)
        return ctl_wrong(&usage, "--data says which images and is missing");

    struct ctl_files files = {0};
    struct eval v = {.files = &files};
    struct pthreadpool *pool = NULL;
    const struct kernels *k;
    struct err e;
    status = CTL_FAILED;
    if (ctl_files_find(argv + first, argc - first, &files, &e) != 0 || ctl_kernels(o.kernels, &k, &e) != 0 ||
        ctl_pool(&o.threads, &pool, &e) != 0) {
        ctl_fail(&e);
    } else if (!(v.rows = calloc((size_t)files.count, sizeof *v.rows))) {
        err_set(&e, ERR_MEMORY, "no memory for %d models", files.count);
        ctl_fail(&e);
    } else if (eval(&o, &v, k, pool, &e) != 0) {
        ctl_fail(&e);
    } else {
        status = CTL_DONE;
    }
    for (int i = 0; v.rows && i < files.count; i++) {
        ctl_model_close(&v.rows[i].m);
        free(v.rows[i].preprocess);
    }
    free(v.rows);
    free(v.rgb);
    free(v.reference);
    dataset_close(v.data);
    ctl_files_free(&files);
    if (pool)
        pthreadpool_destroy(pool);
    return status;
}

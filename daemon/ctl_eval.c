// SPDX-License-Identifier: MIT
//
// ctl_eval.c - accuracy of several models on one set of images, and how well the others follow the first.

#include "daemon/ctl.h"
#include "daemon/ctl_table.h"
#include "daemon/progress.h"

#include <limits.h>
#include <math.h>
#include <pthreadpool.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options {
    const char *data, *kernels, *report;
    int limit, threads, json;
};

static const struct ctl_option options[] = {
    {"data", 'd', CTL_TEXT, offsetof(struct options, data), 0, 0, "DATA",
     "images: a directory with labels.csv or a folder per class, CIFAR-10 *.bin, or a tar archive of these"},
    {"limit", 0, CTL_INT, offsetof(struct options, limit), 1, 1e9, "N", "use N images, spread evenly over DATA (default: all)"},
    {"threads", 0, CTL_INT, offsetof(struct options, threads), 1, 256, "N",
     "images side by side, a thread each (default: all CPUs)"},
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
    "signal-to-noise ratio of the logits against the first model, time from pixels to logits on one thread, time to load, and\n"
    "memory. MODEL is a file, or a directory, of which every precision is taken, fp32 first.",
    options, 1, -1};

struct row {
    struct ctl_model m; /* without a session: those are the walkers' */
    char *preprocess;   /* JSON: equal texts see equal pixels */
};

/* What one model did with a walker's share of the images. */
struct score {
    int top1, top5, labelled;
    double ms;
    struct ctl_compare to_first;
};

/* One thread's own: images go side by side, since many small networks on one core each are done sooner than one on many. */
struct walker {
    struct dataset *data;
    struct session **sessions; /* [files->count] */
    struct score *scores;      /* [files->count] */
    uint8_t *rgb;              /* of the largest input */
    float *reference;          /* logits of the first model */
    int failed_at;             /* the image that e is about */
    struct err e;
};

struct eval {
    const struct ctl_files *files;
    struct row *rows;       /* [files->count] */
    struct walker *walkers; /* [walker_count] */
    int walker_count;
    int images, count;          /* used, and in the data set */
    atomic_int seen, failed_at; /* failed_at: the lowest, INT_MAX for none */
    struct progress progress;
};

static int open_rows(struct eval *v, const struct kernels *k, struct pthreadpool *pool, struct err *e)
{
    for (int i = 0; i < v->files->count; i++) {
        struct row *r = &v->rows[i];
        if (ctl_model_open(v->files->paths[i], k, 0, pool, &r->m, e) != 0)
            return -1;
        r->preprocess = preprocess_to_json(&r->m.network->preprocess);
        if (!r->preprocess)
            return err_set(e, ERR_MEMORY, "no memory for the preprocessing of %s", v->files->paths[i]);
    }
    return 0;
}

static int walker_open(struct walker *w, const struct eval *v, const char *data, struct err *e)
{
    const struct network *first = v->rows[0].m.network;
    const int models = v->files->count;
    size_t largest = 0;
    w->sessions = calloc((size_t)models, sizeof *w->sessions);
    w->scores = calloc((size_t)models, sizeof *w->scores);
    w->reference = malloc(sizeof *w->reference * (size_t)v->rows[0].m.classes);
    if (!w->sessions || !w->scores || !w->reference)
        return err_set(e, ERR_MEMORY, "no memory for %d models", models);
    for (int i = 0; i < models; i++) {
        const struct ctl_model *m = &v->rows[i].m;
        const size_t bytes = 3u * (size_t)m->width * (size_t)m->height;
        largest = bytes > largest ? bytes : largest;
        if (session_new(m->model, 1, NULL, &w->sessions[i], e) != 0)
            return err_prefix(e, "%s", v->files->paths[i]);
    }
    w->rgb = malloc(largest);
    if (!w->rgb)
        return err_set(e, ERR_MEMORY, "no memory for an image");
    return dataset_open(data, first->labels, first->label_count, &w->data, e);
}

static void walker_close(struct walker *w, int models)
{
    for (int i = 0; w->sessions && i < models; i++)
        session_free(w->sessions[i]);
    free(w->sessions);
    free(w->scores);
    free(w->rgb);
    free(w->reference);
    dataset_close(w->data);
}

static int same_pixels(const struct row *a, const struct row *b)
{
    return a->m.width == b->m.width && a->m.height == b->m.height && !strcmp(a->preprocess, b->preprocess);
}

static void score_add(struct score *s, const float *logits, int classes, int label)
{
    int best[5], k = classes < 5 ? classes : 5;
    if (label < 0 || label >= classes)
        return;
    top_k(logits, classes, k, best);
    s->labelled++;
    s->top1 += best[0] == label;
    for (int i = 0; i < k; i++)
        s->top5 += best[i] == label;
}

static int see_image(const struct eval *v, struct walker *w, int index, struct err *e)
{
    struct sample sample = {0};
    for (int i = 0; i < v->files->count; i++) {
        const struct row *r = &v->rows[i];
        struct score *score = &w->scores[i];
        /* Neighbours mostly are precisions of one network: decode once for all of them. */
        if ((i == 0 || !same_pixels(r, r - 1)) &&
            ctl_pixels_read(w->data, index, &r->m.network->preprocess, r->m.width, r->m.height, &sample, w->rgb, e) != 0)
            return -1;
        if (i == 0 && ctl_check_label(&sample, r->m.classes, e) != 0)
            return -1;
        double start = ctl_now_ms();
        session_set_pixels(w->sessions[i], 0, w->rgb);
        const float *logits = session_run(w->sessions[i], 1);
        score->ms += ctl_now_ms() - start;
        score_add(score, logits, r->m.classes, sample.label);
        if (i == 0)
            memcpy(w->reference, logits, sizeof *logits * (size_t)r->m.classes);
        if (r->m.classes == v->rows[0].m.classes)
            ctl_compare_add(&score->to_first, w->reference, logits, r->m.classes);
    }
    return 0;
}

/* The share is fixed, so that sums, and the image that an error is about, are the same in every run. */
static void walk(void *user, size_t index)
{
    struct eval *v = user;
    struct walker *w = &v->walkers[index];
    w->failed_at = INT_MAX;
    for (int i = (int)index; i < v->images && i < atomic_load(&v->failed_at); i += v->walker_count) {
        if (see_image(v, w, (int)((long long)i * v->count / v->images), &w->e) != 0) {
            w->failed_at = i;
            int lowest = atomic_load(&v->failed_at);
            while (i < lowest && !atomic_compare_exchange_weak(&v->failed_at, &lowest, i))
                ;
        }
        const int seen = atomic_fetch_add(&v->seen, 1) + 1;
        if (index == 0)
            progress_step(&v->progress, seen);
    }
}

static int see_all(struct eval *v, const struct options *o, struct pthreadpool *pool, struct err *e)
{
    v->walkers = calloc((size_t)o->threads, sizeof *v->walkers);
    if (!v->walkers)
        return err_set(e, ERR_MEMORY, "no memory for %d threads", o->threads);
    for (; v->walker_count == 0 || (v->walker_count < o->threads && v->walker_count < v->images); v->walker_count++) {
        struct walker *w = &v->walkers[v->walker_count];
        if (walker_open(w, v, o->data, e) != 0) {
            v->walker_count++; /* what it has is freed as well */
            return -1;
        }
        v->count = dataset_count(w->data);
        v->images = o->limit && o->limit < v->count ? o->limit : v->count;
    }
    if (v->images == 0)
        return err_set(e, ERR_NOT_FOUND, "%s: there are no images", o->data);
    progress_start(&v->progress, "evaluating", "images", v->images, o->json);
    atomic_init(&v->seen, 0);
    atomic_init(&v->failed_at, INT_MAX);
    pthreadpool_parallelize_1d(pool, walk, v, (size_t)v->walker_count, PTHREADPOOL_FLAG_YIELD_WORKERS);
    progress_end(&v->progress);
    for (int i = 0; i < v->walker_count; i++)
        if (v->walkers[i].failed_at == atomic_load(&v->failed_at) && v->walkers[i].failed_at != INT_MAX) {
            *e = v->walkers[i].e;
            return -1;
        }
    return 0;
}

/* Of all walkers, model i. */
static struct score score_of(const struct eval *v, int i)
{
    struct score sum = {0};
    for (int j = 0; j < v->walker_count; j++) {
        const struct score *s = &v->walkers[j].scores[i];
        sum.top1 += s->top1;
        sum.top5 += s->top5;
        sum.labelled += s->labelled;
        sum.ms += s->ms;
        ctl_compare_merge(&sum.to_first, &s->to_first);
    }
    return sum;
}

static double percent(const struct eval *v, const struct score *s, int right)
{
    return s->labelled == v->images ? 100.0 * right / v->images : (double)NAN;
}

static cJSON *row_json(const struct eval *v, int i)
{
    const struct row *r = &v->rows[i];
    const struct score s = score_of(v, i);
    cJSON *o = cJSON_CreateObject();
    int bad = ctl_put_text(o, "file", v->files->paths[i]);
    bad |= ctl_put_text(o, "name", r->m.network->name);
    bad |= ctl_put_text(o, "precision", precision_name(r->m.network->precision));
    bad |= ctl_put_text(o, "kernels", model_kernels(r->m.model)->name);
    bad |= ctl_put_number(o, "images", v->images, 9);
    bad |= ctl_put_number(o, "top1", percent(v, &s, s.top1), 6);
    bad |= ctl_put_number(o, "top5", percent(v, &s, s.top5), 6);
    bad |= ctl_put_number(o, "agreement_with_first", ctl_compare_percent(&s.to_first), 6);
    bad |= ctl_put_number(o, "logit_sqnr_db", ctl_compare_db(&s.to_first), 6);
    bad |= ctl_put_number(o, "ms_per_image", s.ms / v->images, 6);
    bad |= ctl_put_number(o, "file_bytes", (double)ctl_file_bytes(v->files->paths[i]), 17);
    bad |= ctl_put_number(o, "weights_bytes", (double)model_weight_bytes(r->m.model), 17);
    bad |= ctl_put_number(o, "arena_bytes", (double)session_bytes(v->walkers[0].sessions[i]), 17);
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
    fprintf(
        f, "\nKernels %s. Agreement and signal-to-noise ratio of the logits are those with the first row. Weights as packed in\n",
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
    return open_rows(v, k, pool, e) == 0 && see_all(v, o, pool, e) == 0 ? show(o, results_json(v), e) : -1;
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
    for (int i = 0; i < v.walker_count; i++)
        walker_close(&v.walkers[i], files.count);
    free(v.walkers);
    ctl_files_free(&files);
    if (pool)
        pthreadpool_destroy(pool);
    return status;
}

// SPDX-License-Identifier: MIT
//
// ctl_bench.c - how fast models run here. Rounds over all models are interleaved, so that what else the machine does hits them
// alike; the minimum is the time of the undisturbed machine, noise only adds.

#include "daemon/ctl_bench.h"
#include "daemon/process.h"
#include "daemon/progress.h"

#include <pthreadpool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RUNS_MAX 100000
#define RUNS_MIN 3

#define BUNDLED "resnet20-cifar10"

static const struct ctl_option options[] = {
    {"threads", 0, CTL_INT, offsetof(struct bench, threads), 1, 256, "N", "threads (default: all CPUs)"},
    {"batch", 0, CTL_INT, offsetof(struct bench, batch), 1, 1024, "N", "images per run (default 1)"},
    {"kernels", 0, CTL_TEXT, offsetof(struct bench, kernels), 0, 0, "NAME", "a row of the kernel table (default: the best here)"},
    {"seconds", 0, CTL_NUMBER, offsetof(struct bench, seconds), 0, 86400, "S", "how long each model runs (default 3)"},
    {"layers", 0, CTL_FLAG, offsetof(struct bench, layers), 0, 0, NULL,
     "also time every layer and compare it with this CPU's peak"},
    {"report", 0, CTL_FLAG, offsetof(struct bench, report), 0, 0, NULL,
     "the machine and all models on one thread and on all, as Markdown for docs/performance.md"},
    {"json", 0, CTL_FLAG, offsetof(struct bench, json), 0, 0, NULL, "print the results as JSON"},
    {0},
};

static const struct ctl_usage usage = {
    "bench MODEL... [--threads N] [--batch N] [--kernels NAME] [--seconds S] [--layers | --report] [--json]",
    "Times models on random pixels, from pixels to logits, after a warm-up, several models by turns. Rates follow from the "
    "median.\n"
    "MODEL is a file, or a directory, of which every precision is taken. --report adds the installed model " BUNDLED ".",
    options, 0, -1};

struct row {
    struct ctl_model m;
    double *ms; /* of each run, sorted at the end */
    int runs, room;
    double total_ms;
};

/* xorshift32: noise that is the same everywhere. */
static void set_noise(struct session *s, int batch, uint8_t *rgb, size_t bytes)
{
    uint32_t x = 2463534242u;
    for (int i = 0; i < batch; i++) {
        for (size_t j = 0; j < bytes; j++) {
            x ^= x << 13;
            x ^= x >> 17;
            x ^= x << 5;
            rgb[j] = (uint8_t)(x >> 24);
        }
        session_set_pixels(s, i, rgb);
    }
}

/* Inputs are consumed by a run: setting them again belongs to the time of a request. */
static double time_run(struct row *r, int batch, const uint8_t *rgb)
{
    double start = ctl_now_ms();
    for (int i = 0; i < batch; i++)
        session_set_pixels(r->m.session, i, rgb);
    session_run(r->m.session, batch);
    return ctl_now_ms() - start;
}

static int add_run(struct row *r, double ms, struct err *e)
{
    if (r->runs == r->room) {
        int room = r->room ? 2 * r->room : 64;
        double *more = realloc(r->ms, sizeof *more * (size_t)room);
        if (!more)
            return err_set(e, ERR_MEMORY, "no memory for the times");
        r->ms = more;
        r->room = room;
    }
    r->ms[r->runs++] = ms;
    r->total_ms += ms;
    return 0;
}

static int by_time(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int unfinished(const struct row *r, double seconds)
{
    return r->runs < RUNS_MIN || (r->total_ms < seconds * 1e3 && r->runs < RUNS_MAX);
}

static int time_all(struct row *rows, int count, const struct bench *o, struct err *e)
{
    size_t largest = 0;
    for (int i = 0; i < count; i++) {
        size_t bytes = 3u * (size_t)rows[i].m.width * (size_t)rows[i].m.height;
        largest = bytes > largest ? bytes : largest;
    }
    uint8_t *rgb = malloc(largest);
    if (!rgb)
        return err_set(e, ERR_MEMORY, "no memory for an image");
    struct progress progress;
    progress_start(&progress, "measuring", "ms", (long long)(o->seconds * 1e3 * count), o->json);
    for (int i = 0; i < count; i++) {
        set_noise(rows[i].m.session, o->batch, rgb, 3u * (size_t)rows[i].m.width * (size_t)rows[i].m.height);
        session_run(rows[i].m.session, o->batch); /* warm-up */
    }
    int rc = 0;
    double spent = 0;
    for (int busy = 1; busy && rc == 0;) {
        busy = 0;
        for (int i = 0; i < count && rc == 0; i++)
            if (unfinished(&rows[i], o->seconds)) {
                double ms = time_run(&rows[i], o->batch, rgb);
                rc = add_run(&rows[i], ms, e);
                spent += ms;
                busy = 1;
                progress_step(&progress, (long long)spent);
            }
    }
    progress_end(&progress);
    free(rgb);
    for (int i = 0; i < count && rc == 0; i++)
        qsort(rows[i].ms, (size_t)rows[i].runs, sizeof *rows[i].ms, by_time);
    return rc;
}

/* Peak resident memory of this process, all models together; -1: the kernel does not tell. */
static double peak_rss_bytes(void)
{
    struct process p;
    process_read(&p);
    return p.peak_rss_bytes > 0 ? (double)p.peak_rss_bytes : -1;
}

static double median(const struct row *r)
{
    return r->runs % 2 ? r->ms[r->runs / 2] : (r->ms[r->runs / 2 - 1] + r->ms[r->runs / 2]) / 2;
}

static int print_json(const struct row *rows, const struct ctl_files *files, const struct bench *o)
{
    cJSON *root = cJSON_CreateObject(), *results = cJSON_CreateArray();
    int bad = 0;
    double rss = peak_rss_bytes();
    for (int i = 0; i < files->count; i++) {
        const struct row *r = &rows[i];
        double ms = median(r), macs = (double)graph_macs(&r->m.network->graph);
        cJSON *one = cJSON_CreateObject();
        bad |= ctl_put_text(one, "file", files->paths[i]);
        bad |= ctl_put_text(one, "name", r->m.network->name);
        bad |= ctl_put_text(one, "precision", precision_name(r->m.network->precision));
        bad |= ctl_put_text(one, "kernels", model_kernels(r->m.model)->name);
        bad |= ctl_put_number(one, "threads", o->threads, 9);
        bad |= ctl_put_number(one, "batch", o->batch, 9);
        bad |= ctl_put_number(one, "runs", r->runs, 9);
        bad |= ctl_put_number(one, "ms_min", r->ms[0], 6);
        bad |= ctl_put_number(one, "ms_median", ms, 6);
        bad |= ctl_put_number(one, "images_per_second", 1e3 * o->batch / ms, 6);
        bad |= ctl_put_number(one, "gmacs_per_second", macs * o->batch / ms / 1e6, 6);
        bad |= ctl_put_number(one, "macs", macs, 17);
        bad |= ctl_put_number(one, "load_ms", r->m.load_ms, 6);
        bad |= ctl_put_item(one, "rss_bytes", rss < 0 ? cJSON_CreateNull() : ctl_number(rss, 17));
        if (o->layers)
            bad |= ctl_put_item(one, "layers", ctl_layers_json(&r->m, o->batch, o->threads));
        bad |= ctl_append(results, one);
    }
    bad |= ctl_put_item(root, "results", results);
    return ctl_print_json(root, bad);
}

static int print_table(const struct row *rows, const struct ctl_files *files, const struct bench *o)
{
    printf("kernels %s, threads %d, batch %d\n", model_kernels(rows[0].m.model)->name, o->threads, o->batch);
    printf("%-24s %-9s %8s %10s %10s %10s %8s %9s\n", "model", "precision", "runs", "ms min", "ms median", "images/s", "GMAC/s",
           "load ms");
    for (int i = 0; i < files->count; i++) {
        const struct row *r = &rows[i];
        double ms = median(r), macs = (double)graph_macs(&r->m.network->graph);
        printf("%-24s %-9s %8d %10.3f %10.3f %10.1f %8.2f %9.1f\n", r->m.network->name, precision_name(r->m.network->precision),
               r->runs, r->ms[0], ms, 1e3 * o->batch / ms, macs * o->batch / ms / 1e6, r->m.load_ms);
    }
    double rss = peak_rss_bytes();
    char size[16];
    ctl_size(rss, size);
    if (rss >= 0)
        printf("peak resident memory of this process: %s\n", size);
    for (int i = 0; o->layers && i < files->count; i++)
        ctl_layers_print(&rows[i].m, o->batch, o->threads);
    return CTL_DONE;
}

/* Loads, times and prints the models in this process; returns an exit status. */
static int bench_models(const struct ctl_files *files, const struct bench *b)
{
    struct bench o = *b; /* with the number of threads */
    struct row *rows = calloc((size_t)files->count, sizeof *rows);
    struct pthreadpool *pool = NULL;
    const struct kernels *k = NULL;
    struct err e;
    int status, rc = rows ? 0 : err_set(&e, ERR_MEMORY, "no memory for %d models", files->count);
    if (rc == 0)
        rc = ctl_kernels(o.kernels, &k, &e);
    if (rc == 0)
        rc = ctl_pool(&o.threads, &pool, &e);
    for (int i = 0; i < files->count && rc == 0; i++)
        rc = ctl_model_open(files->paths[i], k, o.batch, pool, &rows[i].m, &e);
    if (rc == 0)
        rc = time_all(rows, files->count, &o, &e);
    if (rc != 0)
        status = ctl_fail(&e);
    else
        status = o.json ? print_json(rows, files, &o) : print_table(rows, files, &o);

    for (int i = 0; rows && i < files->count; i++) {
        ctl_model_close(&rows[i].m);
        free(rows[i].ms);
    }
    free(rows);
    if (pool)
        pthreadpool_destroy(pool);
    return status;
}

/* The last name of a path, without slashes behind it. */
static int is_bundled(const char *path)
{
    size_t end = strlen(path), start;
    while (end > 0 && path[end - 1] == '/')
        end--;
    for (start = end; start > 0 && path[start - 1] != '/';)
        start--;
    return end - start == strlen(BUNDLED) && strncmp(path + start, BUNDLED, end - start) == 0;
}

/* The models of a report: those given, after the bundled one where it is installed and not among them. *all is to be freed. */
static int with_bundled(char *const *given, int *count, char ***all)
{
    static char bundled[] = PKGDATADIR "/models/" BUNDLED;
    char **list = malloc(((size_t)*count + 1) * sizeof *list);
    if (!list)
        return -1;
    int n = 0, wanted = access(bundled, R_OK) == 0;
    for (int i = 0; i < *count; i++)
        wanted = wanted && !is_bundled(given[i]);
    if (wanted)
        list[n++] = bundled;
    for (int i = 0; i < *count; i++)
        list[n++] = given[i];
    *count = n;
    *all = list;
    return 0;
}

int ctl_bench(int argc, char **argv)
{
    struct bench o = {.batch = 1, .seconds = 3};
    int status, first = ctl_parse(&usage, argc, argv, &o, &status);
    if (first < 0)
        return status;
    if (o.report && o.layers)
        return ctl_wrong(&usage, "--report and --layers are two different tables");

    struct ctl_files files = {0};
    struct err e;
    int count = argc - first;
    char **all = NULL;
    if (o.report && with_bundled(argv + first, &count, &all) < 0) {
        err_set(&e, ERR_MEMORY, "no memory for the list of models");
        return ctl_fail(&e);
    }
    if (count == 0)
        status = o.report ? ctl_wrong(&usage, "%s is not installed in %s/models: name a model", BUNDLED, PKGDATADIR)
                          : ctl_wrong(&usage, "something is missing");
    else if (ctl_files_find(all ? all : argv + first, count, &files, &e) < 0)
        status = ctl_fail(&e);
    else
        status = o.report ? bench_report(&files, &o) : bench_models(&files, &o);
    ctl_files_free(&files);
    free(all);
    return status;
}

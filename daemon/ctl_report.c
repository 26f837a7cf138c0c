// SPDX-License-Identifier: MIT
//
// ctl_report.c - `resnetctl bench --report`: the table of docs/performance.md for the machine at hand, ready to paste.

#include "daemon/ctl_bench.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/progress.h"
#include "models/json.h"

#define REPLY_BYTES_MAX 65536
#define TICK_MS         100

/* The child becomes `resnetctl bench FILE --json`, with its output on fd. */
static void be_bench(const char *path, const struct bench *b, int fd)
{
    char threads[16], batch[16], seconds[32];
    const char *args[16] = {"resnetctl", "bench", "--json", "--threads", threads, "--batch", batch, "--seconds", seconds};
    int n = 9;
    snprintf(threads, sizeof threads, "%d", b->threads);
    snprintf(batch, sizeof batch, "%d", b->batch);
    snprintf(seconds, sizeof seconds, "%.9g", b->seconds);
    if (b->kernels) {
        args[n++] = "--kernels";
        args[n++] = b->kernels;
    }
    args[n++] = "--";
    args[n++] = path;
    if (dup2(fd, STDOUT_FILENO) >= 0)
        execv("/proc/self/exe", (char **)args);
    fprintf(stderr, "resnetctl: cannot start itself from /proc/self/exe: %s\n", strerror(errno));
    _exit(CTL_FAILED);
}

/* All that comes from fd, while the bar moves on; -1 when it is too much or cannot be read. */
static int listen_to(int fd, char *reply, size_t size, struct progress *p, double done_ms, double row_ms)
{
    size_t used = 0;
    const double start = ctl_now_ms();
    for (;;) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        poll(&ready, 1, TICK_MS);
        const double spent = ctl_now_ms() - start;
        progress_step(p, (long long)(done_ms + (spent < row_ms ? spent : row_ms)));
        if (!ready.revents)
            continue;
        const ssize_t n = read(fd, reply + used, size - 1 - used);
        if (n <= 0 || used + (size_t)n == size - 1)
            return n == 0 ? (reply[used] = '\0', 0) : -1;
        used += (size_t)n;
    }
}

/* One row, to be deleted: the result of a child; NULL with e set, or, when the child has said why, with an empty text. */
static cJSON *measure(const char *path, const struct bench *b, struct progress *p, double done_ms, struct err *e)
{
    static char reply[REPLY_BYTES_MAX];
    int ends[2], status = -1;
    if (pipe2(ends, O_CLOEXEC) != 0) {
        err_set(e, ERR_IO, "cannot make a pipe");
        return NULL;
    }
    const pid_t child = fork();
    if (child == 0) {
        be_bench(path, b, ends[1]);
    }
    close(ends[1]);
    const int rc = child < 0 ? -1 : listen_to(ends[0], reply, sizeof reply, p, done_ms, b->seconds * 1e3);
    close(ends[0]);
    if (child < 0 || waitpid(child, &status, 0) != child || rc < 0) {
        err_set(e, ERR_IO, "%s: cannot be measured in a process of its own", path);
        return NULL;
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) != CTL_DONE) {
        e->text[0] = '\0';
        return NULL;
    }
    cJSON *all = WIFEXITED(status) ? json_parse(reply, strlen(reply), e) : NULL;
    cJSON *row = cJSON_DetachItemFromArray(cJSON_GetObjectItemCaseSensitive(all, "results"), 0);
    cJSON_Delete(all);
    if (!row)
        err_set(e, ERR_INTERNAL, "%s: the process that measured it ended without a result", path);
    return row;
}

/* Every file on one thread and on all; 0 with them in *rows. */
static int measure_all(const struct ctl_files *files, const struct bench *b, cJSON *rows, struct err *e)
{
    const int all = b->threads ? b->threads : ctl_cpus(), counts[2] = {1, all}, widths = all > 1 ? 2 : 1;
    const double row_ms = b->seconds * 1e3;
    struct progress p;
    int rc = 0;
    progress_start(&p, "measuring", "ms", (long long)(row_ms * files->count * widths), b->json);
    for (int i = 0; i < files->count * widths && rc == 0; i++) {
        struct bench one = *b;
        one.threads = counts[i % widths];
        cJSON *row = measure(files->paths[i / widths], &one, &p, row_ms * i, e);
        const long long bytes = ctl_file_bytes(files->paths[i / widths]);
        if (!row)
            rc = -1;
        else if (ctl_put_number(row, "file_bytes", (double)bytes, 17) | ctl_append(rows, row))
            rc = err_set(e, ERR_MEMORY, "no memory for the results");
    }
    progress_end(&p);
    return rc;
}

/* ---- Markdown */

static const char *text_of(const cJSON *o, const char *name)
{
    const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, name));
    return s ? s : "unknown";
}

static double number_of(const cJSON *o, const char *name)
{
    return cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(o, name)); /* NAN when there is none */
}

/* What is known of it. */
static void print_state(const char *when, const cJSON *o)
{
    const double celsius = number_of(o, "celsius"), mhz = number_of(o, "mhz");
    const cJSON *low = cJSON_GetObjectItemCaseSensitive(o, "undervoltage"),
                *bits = cJSON_GetObjectItemCaseSensitive(o, "throttled_bits");
    char line[160];
    int n = 0;
    if (isfinite(celsius))
        n += snprintf(line + n, 32, ", %.1f °C", celsius);
    if (isfinite(mhz))
        n += snprintf(line + n, 32, ", %.0f MHz", mhz);
    if (cJSON_IsBool(low))
        n += snprintf(line + n, 32, ", %s", cJSON_IsTrue(low) ? "undervoltage" : "no undervoltage");
    if (cJSON_IsString(bits))
        n += snprintf(line + n, 32, ", throttled 0x%.8s", bits->valuestring);
    printf("* %s: %s\n", when, n ? line + 2 : "temperature, clock and throttling are not to be read here");
}

static void print_head(const cJSON *m, const char *date, const struct bench *b)
{
    const cJSON *mhz = cJSON_GetObjectItemCaseSensitive(m, "frequency_mhz");
    char memory[16];
    ctl_size(number_of(m, "memory_bytes"), memory);
    printf("## %s, %s, %s\n\n", date, text_of(m, "machine"), text_of(m, "architecture"));
    printf("* %s, %.0f CPUs", text_of(m, "cpu"), number_of(m, "cpus"));
    if (cJSON_IsArray(mhz))
        printf(", %.0f to %.0f MHz", cJSON_GetNumberValue(cJSON_GetArrayItem(mhz, 0)),
               cJSON_GetNumberValue(cJSON_GetArrayItem(mhz, 1)));
    printf(", governor %s\n", text_of(m, "governor"));
    printf("* memory %s, Linux %s, %s\n", memory, text_of(m, "kernel"), text_of(m, "distribution"));
    printf("* resnetd %s, commit %s, %s, %s\n", text_of(m, "version"), text_of(m, "commit"), text_of(m, "compiler"),
           text_of(m, "flags"));
    printf("* `resnetctl bench --report`, %g seconds a row, batch %d, every row in a process of its own\n", b->seconds, b->batch);
}

static void print_rows(const cJSON *rows)
{
    printf("\n| model | precision | kernels | threads | ms min | ms median | images/s | GMAC/s | load ms | peak MB | file MB |\n"
           "|---|---|---|---|---|---|---|---|---|---|---|\n");
    const cJSON *r;
    cJSON_ArrayForEach(r, rows)
    {
        char peak[24];
        ctl_cell(number_of(r, "rss_bytes") / 1e6, 1, peak);
        printf("| %s | %s | %s | %.0f | %.3f | %.3f | %.1f | %.2f | %.1f | %s | %.1f |\n", text_of(r, "name"),
               text_of(r, "precision"), text_of(r, "kernels"), number_of(r, "threads"), number_of(r, "ms_min"),
               number_of(r, "ms_median"), number_of(r, "images_per_second"), number_of(r, "gmacs_per_second"),
               number_of(r, "load_ms"), peak, number_of(r, "file_bytes") / 1e6);
    }
}

int bench_report(const struct ctl_files *files, const struct bench *b)
{
    char date[16] = "";
    const time_t now = time(NULL);
    struct tm day;
    if (gmtime_r(&now, &day))
        strftime(date, sizeof date, "%Y-%m-%d", &day);
    cJSON *machine = machine_facts(), *before = machine_state(), *rows = cJSON_CreateArray(), *after = NULL;
    struct err e;
    int status = CTL_DONE, rc = machine && before && rows ? 0 : err_set(&e, ERR_MEMORY, "no memory for a report");
    if (rc == 0)
        rc = measure_all(files, b, rows, &e);
    if (rc == 0 && !(after = machine_state()))
        rc = err_set(&e, ERR_MEMORY, "no memory for a report");
    if (rc != 0) {
        status = e.text[0] ? ctl_fail(&e) : CTL_FAILED;
    } else if (b->json) {
        cJSON *root = cJSON_CreateObject();
        int bad = ctl_put_text(root, "date", date);
        bad |= ctl_put_item(root, "machine", machine);
        bad |= ctl_put_item(root, "before", before);
        bad |= ctl_put_item(root, "after", after);
        bad |= ctl_put_item(root, "results", rows);
        return ctl_print_json(root, bad);
    } else {
        print_head(machine, date, b);
        print_state("before", before);
        print_state("after", after);
        print_rows(rows);
    }
    cJSON_Delete(machine);
    cJSON_Delete(before);
    cJSON_Delete(after);
    cJSON_Delete(rows);
    return status;
}

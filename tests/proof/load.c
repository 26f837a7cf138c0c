// SPDX-License-Identifier: MIT
//
// load.c - clients on kept connections that know what every answer has to be: good and bad requests mixed, precision switches
// meanwhile, and ten rests in which the daemon's memory, descriptors, threads and mappings are read.
//
//     load NAME PORT PID CLIENTS REQUESTS SWITCHES BAD-PERCENT IMAGE...
//
// The work comes in ten parts of REQUESTS/10 requests and SWITCHES/10 switches; a part ends when both are done. Before it starts,
// each image is asked for in every precision: under load a reply must repeat these logits to the letter, for the precision that
// it names. Prints lines "NAME: asked, reached, pass|fail".

#include "tests/proof/client.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PARTS = 10, CLIENTS_MAX = 256, IMAGES_MAX = 8, PRECISIONS = 4, BUCKETS = 400 };

static const char *const precisions[PRECISIONS] = {"int8", "fp16", "hybrid", "fp32"};

struct image {
    char *bytes, *b64;
    size_t size;
    char *logits[PRECISIONS]; /* the text between the brackets */
};

static struct image images[IMAGES_MAX];
static int image_count, port, pid, clients, bad_percent;
static long requests, switches;
static const char *proof;

static atomic_long started, ended, switched, unexpected, answered[PRECISIONS], refused, hung_up, slowest_us[PARTS];
static atomic_long times[PARTS][BUCKETS]; /* of good requests; bucket b: below 20 us * 1.04^b */
static int part;                          /* changes only while the clients rest */
static long part_requests, part_switches; /* how many in all by its end */

static void die(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
static void die(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n%s: fail\n", proof);
    exit(1);
}

static void *need(void *p)
{
    if (!p)
        die("no memory");
    return p;
}

struct asker {
    struct client http;
    unsigned seed;
};

static void wrong(const char *what, int wanted, int status, const struct asker *c)
{
    if (atomic_fetch_add(&unexpected, 1) < 20)
        printf("unexpected: %s: %d instead of %d: %.300s\n", what, status, wanted, status > 0 ? c->http.reply : strerror(errno));
}

/* ---- what is asked ---- */

/* Index of the precision that the reply names, its logits in *logits as a string of their own; -1: neither. */
static int read_answer(char *reply, char **logits)
{
    char *p = strstr(reply, "\"precision\":\""), *l = strstr(reply, "\"logits\":["), *end = l ? strchr(l, ']') : NULL;
    if (!p || !end)
        return -1;
    *end = '\0';
    *logits = l + strlen("\"logits\":[");
    for (int i = 0; i < PRECISIONS; i++)
        if (strncmp(p + 13, precisions[i], strlen(precisions[i])) == 0 && p[13 + strlen(precisions[i])] == '"')
            return i;
    return -1;
}

static void note_time(int64_t us)
{
    int b = us <= 20 ? 0 : (int)(log((double)us / 20) / log(1.04)) + 1;
    atomic_fetch_add(&times[part][b < BUCKETS ? b : BUCKETS - 1], 1);
    if (us > atomic_load(&slowest_us[part]))
        atomic_store(&slowest_us[part], us);
}

static void ask_good(struct asker *c)
{
    const struct image *image = &images[rand_r(&c->seed) % (unsigned)image_count];
    const int as_json = rand_r(&c->seed) % 8 == 0;
    const int64_t begin = now_us();
    const int status = as_json
                           ? client_ask(&c->http, "POST", "/predict?logits=1", "application/json", image->b64, strlen(image->b64))
                           : client_ask(&c->http, "POST", "/predict?logits=1", "image/jpeg", image->bytes, image->size);
    char *logits;
    note_time(now_us() - begin);
    const int p = status == 200 ? read_answer(c->http.reply, &logits) : -1;
    if (status != 200)
        wrong("POST /predict", 200, status, c);
    else if (p < 0 || strcmp(logits, image->logits[p]) != 0)
        wrong("POST /predict: other logits than those of its precision", 200, status, c);
    else
        atomic_fetch_add(&answered[p], 1);
}

/* Every one has one right answer. */
static void ask_bad(struct asker *c)
{
    static char zeros[70000];
    const struct image *image = &images[rand_r(&c->seed) % (unsigned)image_count];
    const struct {
        const char *method, *path, *type, *body;
        size_t size;
        int status;
    } cases[] = {
        {"POST", "/predict", "image/jpeg", image->bytes, image->size / 2, 422},
        {"POST", "/predict", "image/jpeg", zeros, 5000, 415},
        {"POST", "/predict", "image/jpeg", "", 0, 400},
        {"POST", "/predict?top_k=0", "image/jpeg", image->bytes, image->size, 400},
        {"POST", "/predict?nonsense=1", "image/jpeg", image->bytes, image->size, 400},
        {"POST", "/predict?precision=int4", "image/jpeg", image->bytes, image->size, 400},
        {"POST", "/predict?model=nobody", "image/jpeg", image->bytes, image->size, 404},
        {"POST", "/predict", "application/json", "{\"image\":{\"b64\":\"AAA", 20, 400},
        {"POST", "/predict", "application/json", "{\"image\":{\"b64\":\"!!!!\"}}", 25, 400},
        {"POST", "/predict", "multipart/form-data; boundary=x", "--y--\r\n", 7, 400},
        {"GET", "/predict", NULL, "", 0, 405},
        {"GET", "/nowhere/at/all", NULL, "", 0, 404},
        {"PUT", "/precision", "application/json", "{\"precision\":\"int4\"}", 20, 400},
        {"PUT", "/precision", "application/json", "[[[[[[[[", 8, 400},
        {"GET", "/readyz", NULL, "", 0, 200},
        {"GET", "/metrics", NULL, "", 0, 200},
        {"POST", "/predict", "image/jpeg", zeros, sizeof zeros, 413},
    };
    const unsigned kinds = sizeof cases / sizeof *cases, i = (unsigned)rand_r(&c->seed) % (kinds + 1);
    if (i == kinds) { /* goes away in the middle of its body */
        char head[200];
        if (c->http.fd < 0 && client_dial(&c->http) < 0) {
            wrong("connect", 0, -1, c);
            return;
        }
        const int n = snprintf(head, sizeof head, "POST /predict HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: %zu\r\n\r\n",
                               port, image->size);
        if (client_send(&c->http, head, (size_t)n) == 0)
            client_send(&c->http, image->bytes, image->size / 3);
        client_hang_up(&c->http);
        atomic_fetch_add(&hung_up, 1);
        return;
    }
    const int status = client_ask(&c->http, cases[i].method, cases[i].path, cases[i].type, cases[i].body, cases[i].size);
    /* Who refuses a body by its length may close before it was sent, and the answer is lost with the connection. */
    if (status != cases[i].status && !(cases[i].status == 413 && status < 0))
        wrong(cases[i].path, cases[i].status, status, c);
    else
        atomic_fetch_add(&refused, 1);
}

static void *client(void *user)
{
    struct asker *c = user;
    /* A part lasts until its switches are done, too. */
    while (atomic_load(&started) < part_requests || atomic_load(&switched) < part_switches) {
        atomic_fetch_add(&started, 1);
        if (rand_r(&c->seed) % 100 < bad_percent)
            ask_bad(c);
        else
            ask_good(c);
        atomic_fetch_add(&ended, 1);
    }
    return NULL;
}

static void switch_to(struct asker *c, int precision)
{
    char body[64];
    const int n = snprintf(body, sizeof body, "{\"precision\":\"%s\"}", precisions[precision]);
    const int status = client_ask(&c->http, "PUT", "/precision", "application/json", body, (size_t)n);
    if (status != 200)
        wrong("PUT /precision", 200, status, c);
}

/* Spread over the requests; at once when these are few. */
static void *switcher(void *user)
{
    struct asker *c = user;
    while (atomic_load(&switched) < part_switches) {
        const long due = switches ? requests * (atomic_load(&switched) + 1) / (switches + 1) : 0;
        if (atomic_load(&ended) < due && atomic_load(&started) < part_requests) {
            usleep(2000);
            continue;
        }
        switch_to(c, rand_r(&c->seed) % PRECISIONS);
        atomic_fetch_add(&switched, 1);
    }
    return NULL;
}

/* ---- what the daemon holds ---- */

struct rest {
    long anonymous_kb, fds, threads, maps;
};

static long count_entries(const char *folder)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, folder);
    DIR *d = opendir(path);
    long n = 0;
    if (!d)
        die("%s: %s: the daemon is gone", path, strerror(errno));
    while (readdir(d))
        n++;
    closedir(d);
    return n - 2;
}

static struct rest look(void)
{
    char path[64], line[512];
    struct rest r = {.fds = count_entries("fd"), .threads = count_entries("task")};
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        sscanf(line, "Anonymous: %ld", &r.anonymous_kb);
    if (f)
        fclose(f);
    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        r.maps++;
    if (f)
        fclose(f);
    return r;
}

/* ---- the run ---- */

static void take_references(struct asker *c)
{
    for (int p = PRECISIONS - 1; p >= 0; p--) { /* ends with int8 */
        switch_to(c, p);
        for (int i = 0; i < image_count; i++) {
            char *logits;
            if (client_ask(&c->http, "POST", "/predict?logits=1", "image/jpeg", images[i].bytes, images[i].size) != 200 ||
                read_answer(c->http.reply, &logits) != p)
                die("no reference for %s: %.300s", precisions[p], c->http.reply);
            images[i].logits[p] = need(strdup(logits));
        }
    }
    for (int i = 0; i < image_count; i++)
        for (int p = 0; p < PRECISIONS; p++)
            for (int q = 0; q < p; q++)
                if (strcmp(images[i].logits[p], images[i].logits[q]) == 0)
                    die("image %d has the same logits in %s and %s", i, precisions[p], precisions[q]);
}

/* In microseconds, the upper end of its bucket. */
static double percentile(int of, double share)
{
    long total = 0, sum = 0;
    for (int b = 0; b < BUCKETS; b++)
        total += atomic_load(&times[of][b]);
    for (int b = 0; b < BUCKETS; b++)
        if ((double)(sum += atomic_load(&times[of][b])) >= share * (double)total)
            return 20 * pow(1.04, b);
    return 0;
}

static int verdict(int good, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int verdict(int good, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    printf("%s: ", proof);
    vprintf(fmt, ap);
    va_end(ap);
    printf(", %s\n", good ? "pass" : "fail");
    return !good;
}

/* Least squares over the rests but the first, in kB per part, and its standard error. */
static void slope(const struct rest *r, double *of, double *error)
{
    const int n = PARTS - 1;
    double mx = 0, my = 0, sxx = 0, sxy = 0, rest = 0;
    for (int i = 1; i <= n; i++) {
        mx += (double)i / n;
        my += (double)r[i].anonymous_kb / n;
    }
    for (int i = 1; i <= n; i++) {
        sxx += (i - mx) * (i - mx);
        sxy += (i - mx) * ((double)r[i].anonymous_kb - my);
    }
    *of = sxy / sxx;
    for (int i = 1; i <= n; i++) {
        const double off = (double)r[i].anonymous_kb - my - *of * (i - mx);
        rest += off * off;
    }
    *error = sqrt(rest / (n - 2) / sxx);
}

static int report(const struct rest *r, double seconds)
{
    const struct rest *a = &r[0], *z = &r[PARTS - 1];
    const double p99a = percentile(0, 0.99) / 1000, p99z = percentile(PARTS - 1, 0.99) / 1000;
    double drift, error, maps[2] = {0};
    int steady = 1, bad = 0;
    slope(r, &drift, &error);
    for (int i = 1; i < PARTS; i++)
        steady &= r[i].fds == a->fds && r[i].threads == a->threads;
    for (int i = 0; i < PARTS; i++)
        maps[i >= PARTS / 2] += (double)r[i].maps / (PARTS / 2);
    printf(
        "%.0f s, %.0f requests/s; int8 %ld, fp16 %ld, hybrid %ld, fp32 %ld answers; %ld refused as they should be, %ld hung up\n",
        seconds, (double)ended / seconds, answered[0], answered[1], answered[2], answered[3], refused, hung_up);
    bad |= verdict(unexpected == 0, "%ld requests and %ld switches without an unexpected answer, reached %ld and %ld with %ld",
                   requests, switches, atomic_load(&ended), atomic_load(&switched), atomic_load(&unexpected));
    const char *sanitized = getenv("SANITIZED"), *emulator = getenv("EMULATOR");
    if ((sanitized && *sanitized) || (emulator && *emulator)) { /* their own memory grows for reasons of their own */
        printf("%s: memory, descriptors and mappings are not measured under a sanitizer or an emulator\n", proof);
        return bad;
    }
    bad |= verdict(labs(z->anonymous_kb - a->anonymous_kb) <= 1024,
                   "resident anonymous memory at rest within 1024 kB between first and last tenth, reached %ld kB (%ld, %ld)",
                   z->anonymous_kb - a->anonymous_kb, a->anonymous_kb, z->anonymous_kb);
    if (requests + 100 * switches >= 100000) /* a short run is all warming up */
        bad |= verdict(fabs(drift) <= 2.4 * error ||
                           fabs(drift) * PARTS <= 128, /* 2.36 is the 95 % limit with 7 degrees of freedom */
                       "its slope zero within noise, reached %.1f +- %.1f kB per tenth", drift, error);
    /* How many mappings there are depends on the precision of the moment: of halves of the run, the means. */
    bad |= verdict(steady && fabs(maps[1] - maps[0]) <= 2,
                   "descriptors, threads and mappings constant, reached %ld %ld, %ld %ld, %.1f %.1f", a->fds, z->fds, a->threads,
                   z->threads, maps[0], maps[1]);
    printf("%s: p99 of the last tenth within 10 %% of the first, reached %.2f ms after %.2f ms (p50 %.2f, %.2f; slowest %.0f, "
           "%.0f), %s\n",
           proof, p99z, p99a, percentile(PARTS - 1, 0.5) / 1000, percentile(0, 0.5) / 1000, (double)slowest_us[PARTS - 1] / 1000,
           (double)slowest_us[0] / 1000, p99z <= 1.1 * p99a ? "pass" : "not reached: compare the load of the machine");
    return bad;
}

int main(int argc, char **argv)
{
    static struct asker all[CLIENTS_MAX + 1];
    struct rest rests[PARTS];
    pthread_t threads[CLIENTS_MAX + 1];
    if (argc < 9)
        return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    proof = argv[1];
    port = atoi(argv[2]);
    pid = atoi(argv[3]);
    clients = atoi(argv[4]);
    requests = atol(argv[5]);
    switches = atol(argv[6]);
    bad_percent = atoi(argv[7]);
    if (clients < 1 || clients > CLIENTS_MAX)
        die("1 to %d clients", CLIENTS_MAX);
    for (int i = 8; i < argc && image_count < IMAGES_MAX; i++) {
        struct image *image = &images[image_count++];
        image->bytes = file_read(argv[i], &image->size);
        image->b64 = file_as_json(image->bytes, image->size);
    }
    for (int i = 0; i <= clients; i++)
        all[i] = (struct asker){.http = {.port = port, .fd = -1}, .seed = 1 + (unsigned)i};
    take_references(&all[clients]);
    const int64_t begin = now_us();
    for (part = 0; part < PARTS; part++) {
        part_requests = requests * (part + 1) / PARTS;
        part_switches = switches * (part + 1) / PARTS;
        for (int i = 0; i <= clients; i++)
            if (pthread_create(&threads[i], NULL, i < clients ? client : switcher, &all[i]) != 0)
                die("no thread");
        for (int i = 0; i <= clients; i++)
            pthread_join(threads[i], NULL);
        switch_to(&all[clients], 0);
        for (int i = 0; i <= clients; i++)
            if (all[i].http.fd < 0)
                client_dial(&all[i].http);
        usleep(requests < 100000 ? 500000 : 1000000);
        rests[part] = look();
        printf("part %d: %ld requests, %ld switches, %.0f s; %ld kB anonymous, %ld descriptors, %ld threads, %ld mappings; p50 "
               "%.2f p99 %.2f ms\n",
               part + 1, atomic_load(&ended), atomic_load(&switched), (double)(now_us() - begin) / 1e6, rests[part].anonymous_kb,
               rests[part].fds, rests[part].threads, rests[part].maps, percentile(part, 0.5) / 1000,
               percentile(part, 0.99) / 1000);
    }
    for (int i = 0; i <= clients; i++)
        client_free(&all[i].http);
    return report(rests, (double)(now_us() - begin) / 1e6);
}

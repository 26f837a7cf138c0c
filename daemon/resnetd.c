// SPDX-License-Identifier: MIT
//
// resnetd.c - the daemon's main: options, start, the loop that keeps house, and the way out.

#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/change.h"
#include "daemon/clock.h"
#include "daemon/http.h"
#include "daemon/job.h"
#include "daemon/log.h"
#include "daemon/notify.h"
#include "daemon/server.h"
#include "daemon/worker.h"
#include "kernels/cpu.h"
#include "kernels/kernels.h"

#define STANDARD_CONF SYSCONFDIR "/resnetd.conf"
#define OVERRIDES_MAX 256
#define LOOKS         3 /* 10 ms apart, at a daemon that may be free to go */
#define TICK_MS       50

enum { EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_CONF = 78 /* EX_CONFIG: starting again will not help */ };

static const char usage[] =
    "usage: resnetd [-c FILE] [-o section.key=value]... [--model DIR|FILE]... [--precision P]\n"
    "               [--listen ADDR]... [-t|--test-config] [--print-config] [-V] [-h]\n"
    "\n"
    "  -c, --config FILE     configuration; without it " STANDARD_CONF " if that exists\n"
    "  -o section.key=value  overrides one value of the configuration, e.g. -o log.level=debug\n"
    "      --model PATH      serves this model directory or file; its name is the directory's or file's\n"
    "      --precision P     fp32, fp16, hybrid or int8: active precision of the models given with --model,\n"
    "                        or of the bundled one\n"
    "      --listen ADDR     ADDRESS:PORT, [IPv6]:PORT or unix:/path, instead of the configured ones\n"
    "  -t, --test-config     checks configuration and model files' headers, then exits\n"
    "      --print-config    prints the effective configuration, then exits\n"
    "  -V, --version         prints the version\n"
    "  -h, --help            prints this\n";

struct options {
    const char *conf_path;
    int test, print;
    char *texts[OVERRIDES_MAX]; /* of -o, in the order of the command line; owned */
    int count;
    const char *precision;
    char listen[1024];
    char models[MODELS_MAX][NETWORK_NAME_MAX]; /* names of --model */
    int model_count;
};

static int complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static int complain(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("resnetd: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    return -1;
}

static int add_override(struct options *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int add_override(struct options *o, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = o->count < OVERRIDES_MAX ? vasprintf(&o->texts[o->count], fmt, ap) : -1;
    va_end(ap);
    if (n < 0)
        return complain("too many options");
    o->count++;
    return 0;
}

/* The name of a model given by path: its directory's or file's, without .safetensors. */
static int add_model(struct options *o, const char *path)
{
    char copy[4096];
    struct err e;
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    if (n == 0 || n >= sizeof copy)
        return complain("--model %s: not a usable path", path);
    memcpy(copy, path, n);
    copy[n] = '\0';
    char *name = strrchr(copy, '/') ? strrchr(copy, '/') + 1 : copy;
    size_t len = strlen(name);
    if (len > 12 && strcmp(name + len - 12, ".safetensors") == 0)
        name[len - 12] = '\0';
    if (name_check(name, &e) < 0)
        return complain("--model %s: %s; name it in the configuration instead", path, e.text);
    for (int i = 0; i < o->model_count; i++)
        if (strcmp(o->models[i], name) == 0)
            return complain("--model %s: there are two models of the name %s; name one in the configuration instead", path, name);
    if (o->model_count == MODELS_MAX)
        return complain("more than %d models", MODELS_MAX);
    snprintf(o->models[o->model_count++], NETWORK_NAME_MAX, "%.64s", name);
    return add_override(o, "model.%s.path=%s", name, path);
}

static int add_listen(struct options *o, const char *address)
{
    size_t n = strlen(o->listen), more = strlen(address);
    if (n + more + 2 > sizeof o->listen)
        return complain("--listen: too many addresses");
    snprintf(o->listen + n, sizeof o->listen - n, "%s%s", n ? " " : "", address);
    return 0;
}

/* What the long options mean in terms of -o. */
static int finish_options(struct options *o)
{
    enum precision p;
    struct err e;
    if (o->listen[0] && add_override(o, "server.listen=%s", o->listen) < 0)
        return -1;
    if (!o->precision)
        return 0;
    if (precision_parse(o->precision, &p, &e) < 0)
        return complain("--precision: %s", e.text);
    for (int i = 0; i < o->model_count; i++)
        if (add_override(o, "model.%s.precision=%s", o->models[i], o->precision) < 0)
            return -1;
    return 0;
}

/* -1: go on; else the exit status. */
static int read_options(int argc, char **argv, struct options *o)
{
    enum { OPT_MODEL = 256, OPT_PRECISION, OPT_LISTEN, OPT_PRINT };
    static const struct option names[] = {{"config", required_argument, NULL, 'c'},
                                          {"model", required_argument, NULL, OPT_MODEL},
                                          {"precision", required_argument, NULL, OPT_PRECISION},
                                          {"listen", required_argument, NULL, OPT_LISTEN},
                                          {"test-config", no_argument, NULL, 't'},
                                          {"print-config", no_argument, NULL, OPT_PRINT},
                                          {"version", no_argument, NULL, 'V'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    int c;
    while ((c = getopt_long(argc, argv, "c:o:tVh", names, NULL)) >= 0) {
        int rc = 0;
        switch (c) {
        case 'c':
            o->conf_path = optarg;
            break;
        case 'o':
            rc = add_override(o, "%s", optarg);
            break;
        case OPT_MODEL:
            rc = add_model(o, optarg);
            break;
        case OPT_PRECISION:
            o->precision = optarg;
            break;
        case OPT_LISTEN:
            rc = add_listen(o, optarg);
            break;
        case 't':
            o->test = 1;
            break;
        case OPT_PRINT:
            o->print = 1;
            break;
        case 'V':
            printf("resnetd %s\n", PACKAGE_VERSION);
            return 0;
        case 'h':
            fputs(usage, stdout);
            return 0;
        default:
            rc = -1;
        }
        if (rc < 0) {
            fputs("Try 'resnetd --help'.\n", stderr);
            return EXIT_USAGE;
        }
    }
    if (optind < argc) {
        complain("'%s' is not an option", argv[optind]);
        fputs("Try 'resnetd --help'.\n", stderr);
        return EXIT_USAGE;
    }
    return finish_options(o) < 0 ? EXIT_USAGE : -1;
}

static int count_cpus(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return n > 0 ? n : 1;
}

#ifdef __SANITIZE_THREAD__ /* which keeps megabytes of its own on each: with less no thread starts */
#define STACK_BYTES (8 * 1024 * 1024)
#else
#define STACK_BYTES (512 * 1024)
#endif

/* Small stacks, few arenas, and memory that goes back to the system: the machines are small. */
static void bound_memory(void)
{
    pthread_attr_t a;
    mallopt(M_ARENA_MAX, 2);
    mallopt(M_MMAP_THRESHOLD, 512 * 1024); /* fixed: left alone it grows with what is freed, and the heap keeps it */
    mallopt(M_TRIM_THRESHOLD, 1024 * 1024);
    if (pthread_attr_init(&a) == 0) {
        pthread_attr_setstacksize(&a, STACK_BYTES);
        pthread_setattr_default_np(&a);
        pthread_attr_destroy(&a);
    }
}

/* ---- running ---- */

static sigset_t watched(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGUSR1);
    return set;
}

/* Requests whose deadline passed in the queue are answered now, not when a worker finds them. */
static void expire(struct server *s)
{
    struct request *r;
    while ((r = queue_pop_expired(s->queue, clock_ms())))
        job_expire(r);
}

struct watch {
    int64_t interval_ms, last_ms, status_ms;
};

/* The watchdog is fed by progress: a worker that is stuck starves it. */
static void sign_of_life(struct server *s, struct watch *w)
{
    int64_t now = clock_ms();
    struct conf *c = server_conf(s);
    int stuck = workers_stalled_ms(s->workers) > c->stall_timeout;
    conf_free(c);
    if (w->interval_ms && !stuck && now - w->last_ms >= w->interval_ms / 3) {
        notify_alive();
        w->last_ms = now;
    }
    if (now - w->status_ms >= 5000) {
        notify_status("%s, %d waiting, %d in flight", stuck ? "stuck" : "serving", queue_depth(s->queue),
                      atomic_load(&s->inflight));
        w->status_ms = now;
    }
}

/* Keeps house until something asks to stop. */
static void serve(struct server *s)
{
    sigset_t set = watched();
    struct watch w = {.interval_ms = notify_watchdog_ms()};
    const struct timespec tick = {0, TICK_MS * 1000000L};
    while (!atomic_load(&s->drain_asked)) {
        int sig = sigtimedwait(&set, NULL, &tick);
        if (sig == SIGTERM || sig == SIGINT)
            return;
        if (sig == SIGHUP)
            change_reload(s->change);
        http_reap(s->http);
        expire(s);
        sign_of_life(s, &w);
    }
}

/* Not ready any more; what was accepted is answered; idle connections are closed. -1 when work could not be finished. */
static int drain(struct server *s)
{
    sigset_t set = watched();
    const struct timespec tick = {0, 10 * 1000000L};
    struct conf *c = server_conf(s);
    int64_t begin = clock_ms(), end = begin + c->drain_timeout, quiesce = begin + c->drain_grace;
    int quiet = 0, asked_twice = 0, nobody = 0;
    conf_free(c);
    log_info("stopping: %d requests in flight, %d connections", atomic_load(&s->inflight), conns_count(&s->conns));
    notify_stopping();
    atomic_store(&s->draining, 1);
    for (;;) {
        int64_t now = clock_ms();
        if (!quiet && now >= quiesce) {
            http_quiesce(s->http);
            quiet = 1;
        }
        http_reap(s->http);
        expire(s);
        int left = quiet ? conns_close_idle(&s->conns) : conns_count(&s->conns);
        nobody = quiet && left == 0 && !atomic_load(&s->inflight) && !change_busy(s->change) ? nobody + 1 : 0;
        if (nobody == LOOKS) /* whom libmicrohttpd has just accepted it tells of a moment later */
            return 0;
        if (now >= end || asked_twice) {
            int working = queue_depth(s->queue) || workers_busy(s->workers) || change_busy(s->change);
            log_warning("stopping with %d requests in flight, %d connections", atomic_load(&s->inflight), left);
            return working ? -1 : 0; /* the rest are clients that never finished their request */
        }
        int sig = sigtimedwait(&set, NULL, &tick);
        asked_twice = sig == SIGTERM || sig == SIGINT;
    }
}

static int start(struct server *s, struct err *e)
{
    int64_t begin = clock_us();
    s->kernels = kernels_pick(cpu_features(), s->conf->kernels);
    if (server_start(s, e) < 0)
        return -1;
    notify_ready();
    log_info("%s in %.1f ms: %lld workers of %lld threads, kernels %s, memory limit %zu MB",
             registry_ready(s->registry, NULL) == 0 ? "ready" : "started, but not ready,", (double)(clock_us() - begin) / 1000,
             (long long)s->conf->workers, (long long)s->conf->threads, s->kernels->name, atomic_load(&s->budget.limit) >> 20);
    return 0;
}

static int run(struct server *s)
{
    struct err e;
    sigset_t set = watched();
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    s->started_unix = (double)now.tv_sec + (double)now.tv_nsec / 1e9;
    s->started_ms = clock_ms();
    signal(SIGPIPE, SIG_IGN);
    pthread_sigmask(SIG_BLOCK, &set, NULL); /* every thread inherits it: only main takes signals */
    server_use_conf(s, s->conf);
    if (start(s, &e) < 0) {
        log_error("cannot start: %s", e.text);
        server_stop(s);
        return EXIT_FAILED;
    }
    serve(s);
    if (drain(s) < 0)
        _exit(EXIT_FAILED); /* a worker is stuck: nothing can be freed under it */
    server_stop(s);
    log_info("stopped");
    return 0;
}

int main(int argc, char **argv)
{
    struct options o = {0};
    struct conf_override overrides[OVERRIDES_MAX];
    struct server s = {.conf_lock = PTHREAD_MUTEX_INITIALIZER, .decoding = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP};
    struct stat st;
    struct err e;
    bound_memory();
    int status = read_options(argc, argv, &o);
    if (status < 0) {
        for (int i = 0; i < o.count; i++)
            overrides[i].text = o.texts[i];
        s.conf_path = o.conf_path ? o.conf_path : stat(STANDARD_CONF, &st) == 0 ? STANDARD_CONF : NULL;
        s.overrides = overrides;
        s.override_count = o.count;
        s.cpus = count_cpus();
        s.standard_precision = o.model_count ? NULL : o.precision;
        int read = server_read_conf(&s, &s.conf, &e);
        if (read < 0 || (o.test && registry_check(s.conf, &e) < 0)) {
            complain("%s", e.text);
            status = read < 0 && e.code != ERR_MEMORY ? EXIT_CONF : EXIT_FAILED;
            conf_free(s.conf);
        } else if (o.test || o.print) {
            if (o.print)
                conf_print(s.conf, stdout);
            else
                puts("configuration and model files are fine");
            status = fflush(stdout) == 0 ? 0 : EXIT_FAILED;
            conf_free(s.conf);
        } else {
            status = run(&s);
        }
    }
    for (int i = 0; i < o.count; i++)
        free(o.texts[i]);
    return status;
}

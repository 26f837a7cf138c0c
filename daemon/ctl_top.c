// SPDX-License-Identifier: MIT
//
// ctl_top.c - a running daemon at a glance: on a terminal a page that renews itself, elsewhere the same page again and again, or
// JSON.
//
// It asks for GET /metrics and nothing else, so it works wherever Prometheus would. The terminal is told where the cursor goes
// and what to erase, which every terminal since the VT100 understands; it is left as it was found, however this ends.

#include "daemon/ctl.h"
#include "daemon/ctl_http.h"
#include "daemon/watch.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define LINES_MAX      64
#define LINE_MAX_BYTES 256

struct options {
    struct ctl_server server;
    int interval, once, json;
};

static const struct ctl_option options[] = {
    {"url", 'u', CTL_TEXT, offsetof(struct options, server.url), 0, 0, "URL", CTL_URL_HELP},
    {"cacert", 0, CTL_TEXT, offsetof(struct options, server.ca_file), 0, 0, "FILE", CTL_CA_HELP},
    {"timeout", 0, CTL_INT, offsetof(struct options, server.timeout), 1, 86400, "S", "give up after S seconds (default 10)"},
    {"interval", 'i', CTL_INT, offsetof(struct options, interval), 1, 3600, "S", "seconds between two looks (default 1)"},
    {"once", 0, CTL_FLAG, offsetof(struct options, once), 0, 0, NULL, "look once, over one interval, and end"},
    {"json", 0, CTL_FLAG, offsetof(struct options, json), 0, 0, NULL, "print a JSON object for each look"},
    {0},
};
static const struct ctl_usage usage = {
    "top [--url URL] [--interval S] [--once] [--json]",
    "Shows what a running daemon is doing, every second: requests, times by stage, queue, memory, "
    "precision, temperature. q ends it.",
    options, 0, 0};

/* ---- the page ---- */

struct page {
    char lines[LINES_MAX][LINE_MAX_BYTES];
    int count;
};

static void line(struct page *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void line(struct page *p, const char *fmt, ...)
{
    va_list ap;
    if (p->count == LINES_MAX)
        return;
    va_start(ap, fmt);
    vsnprintf(p->lines[p->count++], LINE_MAX_BYTES, fmt, ap);
    va_end(ap);
}

static void bar(double part, double whole, char out[24])
{
    int n = whole > 0 && part > 0 ? (int)ceil(20 * part / whole) : 0;
    if (n > 20)
        n = 20;
    memset(out + 1, '#', (size_t)n);
    memset(out + 1 + n, '.', (size_t)(20 - n));
    out[0] = '[';
    memcpy(out + 21, "]", 2);
}

static void uptime(double s, char out[32])
{
    long long t = s > 0 ? (long long)s : 0;
    if (isnan(s))
        snprintf(out, 32, "-");
    else if (t >= 86400)
        snprintf(out, 32, "%lld d %02lld:%02lld", t / 86400, t / 3600 % 24, t / 60 % 60);
    else
        snprintf(out, 32, "%lld:%02lld:%02lld", t / 3600, t / 60 % 60, t % 60);
}

static void size_cell(double bytes, char out[16])
{
    if (isfinite(bytes))
        ctl_size(bytes, out);
    else
        snprintf(out, 16, "-");
}

static void machine_line(const struct watch *w, struct page *p)
{
    char text[160];
    int n = snprintf(text, sizeof text, "cpu %.0f %%", w->cpu_percent);
    if (isfinite(w->celsius))
        n += snprintf(text + n, sizeof text - (size_t)n, "   %.1f C", w->celsius);
    for (int i = 0; i < w->cpus && i < 8; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "%s%.2f", i ? " " : "   ", w->hertz[i] / 1e9);
    n += snprintf(text + n, sizeof text - (size_t)n, "%s", w->cpus > 8 ? " ... GHz" : w->cpus ? " GHz" : "");
    if (isfinite(w->throttled))
        snprintf(text + n, sizeof text - (size_t)n, "%s", w->throttled > 0 ? "   THROTTLED" : "   not throttled");
    line(p, "machine    %s", text);
}

static void draw(const struct watch *w, const char *url, struct page *p)
{
    char up[32], used[24], a[16], b[16], c[16], p50[24], p99[24];
    uptime(w->uptime_s, up);
    line(p, "resnetd %s at %s   up %s   kernels %s", w->version, url, up, w->kernels);
    line(p, "%s", "");
    line(p, "requests   %.1f /s   images %.1f /s   refused %.1f /s   in flight %.0f   connections %.0f", w->requests_per_second,
         w->images_per_second, w->refused_per_second, w->in_flight, w->connections);
    bar(w->queue_depth, w->queue_capacity, used);
    line(p, "queue      %s %.0f of %.0f", used, w->queue_depth, w->queue_capacity);
    bar(w->admitted_bytes, w->limit_bytes, used);
    size_cell(w->admitted_bytes, a);
    size_cell(w->limit_bytes, b);
    size_cell(w->resident_bytes, c);
    line(p, "memory     %s %s of %s admitted, %s resident", used, a, b, c);
    machine_line(w, p);
    line(p, "%s", "");
    line(p, "%-12s %10s %10s %10s", "stage", "per s", "p50 ms", "p99 ms");
    for (int i = 0; i < WATCH_STAGES; i++) {
        ctl_cell(w->stages[i].p50_ms, 2, p50);
        ctl_cell(w->stages[i].p99_ms, 2, p99);
        line(p, "%-12s %10.1f %10s %10s", i == WATCH_REQUEST ? "/predict" : watch_stages[i], w->stages[i].per_second, p50, p99);
    }
    line(p, "%s", "");
    line(p, "%-24s %-10s %10s %10s  %s", "model", "precision", "images/s", "weights", "also in memory");
    for (int i = 0; i < w->model_count; i++) {
        const struct watch_model *m = &w->models[i];
        size_cell(m->weights_bytes, a);
        line(p, "%-24s %-10s %10.1f %10s  %s", m->name, m->precision, m->images_per_second, a, *m->others ? m->others : "-");
    }
}

/* ---- the terminal ---- */

static struct { /* what must be undone */
    int active;
    struct termios before;
    int input;
} terminal;

static volatile sig_atomic_t resized, ended;

static void on_signal(int sig)
{
    if (sig == SIGWINCH)
        resized = 1;
    else
        ended = sig;
}

static void tell(const char *s)
{
    for (size_t n = strlen(s); n > 0;) {
        ssize_t k = write(STDOUT_FILENO, s, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return;
        s += k;
        n -= (size_t)k;
    }
}

static void terminal_open(void)
{
    struct sigaction act = {.sa_handler = on_signal}; /* no SA_RESTART: poll shall end */
    static const int signals[] = {SIGWINCH, SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        sigaction(signals[i], &act, NULL);
    terminal.input = tcgetattr(STDIN_FILENO, &terminal.before) == 0;
    if (terminal.input) {
        struct termios t = terminal.before;
        t.c_lflag &= ~(tcflag_t)(ICANON | ECHO); /* keys as they come; Ctrl-C stays what it is */
        t.c_cc[VMIN] = 0;
        t.c_cc[VTIME] = 0;
        tcsetattr(STDIN_FILENO, TCSANOW, &t);
    }
    terminal.active = 1;
    tell("\033[?1049h\033[?25l"); /* the other screen, no cursor */
}

static void terminal_close(void)
{
    if (!terminal.active)
        return;
    tell("\033[?25h\033[?1049l");
    if (terminal.input)
        tcsetattr(STDIN_FILENO, TCSANOW, &terminal.before);
    terminal.active = 0;
}

static void show_page(const struct page *p)
{
    struct winsize size;
    char out[LINES_MAX * (LINE_MAX_BYTES + 8) + 32];
    int n = snprintf(out, sizeof out, "\033[H");
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || !size.ws_row || !size.ws_col)
        size = (struct winsize){.ws_row = 24, .ws_col = 80};
    for (int i = 0; i < p->count && i < size.ws_row; i++)
        n += snprintf(out + n, sizeof out - (size_t)n, "%s%.*s\033[K", i ? "\r\n" : "", size.ws_col, p->lines[i]);
    snprintf(out + n, sizeof out - (size_t)n, "\033[J");
    tell(out);
}

/* Waits; 0 when it is time to end. A new size shows the old page anew. */
static int pause_until(double end_ms, const struct page *shown)
{
    while (!ended) {
        double left = end_ms - ctl_now_ms();
        struct pollfd keys = {.fd = terminal.input ? STDIN_FILENO : -1, .events = POLLIN};
        char key;
        if (left <= 0)
            return 1;
        int n = poll(&keys, 1, (int)ceil(left));
        if (resized && terminal.active) {
            resized = 0;
            tell("\033[2J");
            show_page(shown);
        }
        if (n > 0 && read(STDIN_FILENO, &key, 1) <= 0)
            terminal.input = 0; /* its end: no keys any more */
        else if (n > 0 && (key == 'q' || key == 'Q'))
            return 0;
    }
    return 0;
}

/* ---- looking ---- */

static int look(const struct options *o, struct samples *out, double *at_ms, struct err *e)
{
    struct ctl_reply r = {0};
    if (ctl_ask(&o->server, &(struct ctl_request){.method = "GET", .path = "/metrics"}, &r, e) != 0)
        return -1;
    *at_ms = ctl_now_ms();
    if (samples_parse(r.text, out, e) == 0)
        return 0;
    err_prefix(e, "%s", o->server.url);
    return -1;
}

static int print(const struct options *o, const struct watch *w, struct page *p)
{
    if (o->json) {
        cJSON *json = watch_json(w);
        char *text = cJSON_PrintUnformatted(json);
        cJSON_Delete(json);
        if (!text) {
            fprintf(stderr, "resnetctl: no memory for the JSON text\n");
            return CTL_FAILED;
        }
        puts(text);
        cJSON_free(text);
        return fflush(stdout) == 0 ? CTL_DONE : CTL_FAILED;
    }
    *p = (struct page){0};
    draw(w, o->server.url, p);
    if (terminal.active) {
        line(p, "%s", "");
        line(p, "q ends");
        show_page(p);
        return CTL_DONE;
    }
    for (int i = 0; i < p->count; i++)
        puts(p->lines[i]);
    if (!o->once)
        puts("");
    return fflush(stdout) == 0 ? CTL_DONE : CTL_FAILED;
}

static double unix_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* A daemon that does not answer once it was there may be starting anew: a live view waits for it. */
static int watch(const struct options *o, struct samples *before, double before_ms)
{
    static struct page page; /* large for a stack, and one is enough */
    struct watch w;
    struct err e;
    for (;;) {
        struct samples now = {0};
        double now_ms;
        if (!pause_until(before_ms + 1000.0 * o->interval, &page))
            return CTL_DONE;
        if (look(o, &now, &now_ms, &e) < 0) {
            if (!terminal.active)
                return ctl_fail(&e);
            page = (struct page){0};
            line(&page, "%s", e.text);
            line(&page, "%s", "");
            line(&page, "trying again; q ends");
            show_page(&page);
            before_ms = ctl_now_ms();
            continue;
        }
        watch_compare(before, &now, (now_ms - before_ms) / 1000, unix_now(), &w);
        samples_free(before);
        *before = now;
        before_ms = now_ms;
        if (print(o, &w, &page) != CTL_DONE)
            return CTL_FAILED;
        if (o->once)
            return CTL_DONE;
    }
}

int ctl_top(int argc, char **argv)
{
    struct options o = {.server = {.url = "http://127.0.0.1:8080", .timeout = 10}, .interval = 1};
    struct samples first = {0};
    struct err e;
    double at_ms;
    int status;
    if (ctl_parse(&usage, argc, argv, &o, &status) < 0)
        return status;
    if (!ctl_is_url(o.server.url))
        return ctl_wrong(&usage, CTL_URL_WANTED, o.server.url);
    if (look(&o, &first, &at_ms, &e) < 0)
        return ctl_fail(&e);
    if (!o.once && !o.json && isatty(STDOUT_FILENO))
        terminal_open();
    status = watch(&o, &first, at_ms);
    terminal_close();
    samples_free(&first);
    return status;
}

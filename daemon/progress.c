// SPDX-License-Identifier: MIT

#include "daemon/progress.h"
#include "daemon/clock.h"

#include <stdio.h>
#include <unistd.h>

#define BAR         30
#define TERMINAL_MS 100.0  /* between two paintings of the bar */
#define PLAIN_MS    5000.0 /* between two lines */

void progress_start(struct progress *p, const char *what, const char *unit, long long total, int quiet)
{
    *p = (struct progress){.what = what, .unit = unit, .total = total, .quiet = quiet, .terminal = isatty(STDERR_FILENO)};
    p->start_ms = p->last_ms = (double)clock_us() / 1e3;
}

static void time_left(double seconds, char text[32])
{
    if (seconds < 90)
        snprintf(text, 32, "%.0f s left", seconds);
    else if (seconds < 5400)
        snprintf(text, 32, "%.0f min left", seconds / 60);
    else
        snprintf(text, 32, "%.1f h left", seconds / 3600);
}

void progress_step(struct progress *p, long long done)
{
    double now = (double)clock_us() / 1e3;
    if (p->quiet || now - p->last_ms < (p->terminal ? TERMINAL_MS : PLAIN_MS))
        return;
    p->last_ms = now;
    double seconds = (now - p->start_ms) / 1e3, rate = seconds > 0 ? (double)done / seconds : 0;
    char left[32] = "";
    if (p->total >= done && rate > 0)
        time_left((double)(p->total - done) / rate, left);
    if (!p->terminal) {
        fprintf(stderr, "%s: %lld of %lld %s, %.3g/s%s%s\n", p->what, done, p->total, p->unit, rate, *left ? ", " : "", left);
        return;
    }
    int full = p->total > 0 ? (int)(BAR * done / p->total) : 0;
    char bar[BAR + 1];
    for (int i = 0; i < BAR; i++)
        bar[i] = i < full ? '#' : '.';
    bar[BAR] = '\0';
    fprintf(stderr, "\r%s [%s] %lld/%lld %.3g/s %s\033[K", p->what, bar, done, p->total, rate, left);
    fflush(stderr);
    p->shown = 1;
}

void progress_end(struct progress *p)
{
    if (p->shown)
        fprintf(stderr, "\r\033[K");
    p->shown = 0;
}

// SPDX-License-Identifier: MIT
//
// progress.h - how far long work has come, on stderr: a bar on a terminal, a plain line every few seconds elsewhere.

#ifndef DAEMON_PROGRESS_H
#define DAEMON_PROGRESS_H

struct progress {
    const char *what; /* borrowed: "calibrating" */
    const char *unit; /* borrowed: "images" */
    long long total;
    int quiet, terminal, shown;
    double start_ms, last_ms;
};

/* quiet: nothing is ever printed. total may be 0 when unknown. */
void progress_start(struct progress *p, const char *what, const char *unit, long long total, int quiet);
void progress_step(struct progress *p, long long done);

/* Takes the bar away. What was done is for the caller to tell. */
void progress_end(struct progress *p);

#endif

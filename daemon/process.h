// SPDX-License-Identifier: MIT
//
// process.h - what the kernel knows: this process's memory, time and descriptors, the board's temperature and clocks.

#ifndef DAEMON_PROCESS_H
#define DAEMON_PROCESS_H

#include "daemon/text.h"

struct process {
    double cpu_seconds;
    long long rss_bytes, peak_rss_bytes, virtual_bytes, threads, open_fds, max_fds;
};

/* Whatever cannot be read stays 0. */
void process_read(struct process *out);

/* Degrees Celsius of the first thermal zone; -1 when the machine has none. */
int process_temperature(double *celsius);

/* Calls fn for each CPU whose frequency the kernel tells, in hertz. */
void process_frequencies(void (*fn)(void *user, int cpu, double hertz), void *user);

/* 1 throttled, 0 not, -1 when the kernel does not tell (Raspberry Pi: under-voltage alarm of hwmon). */
int process_throttled(void);

#endif

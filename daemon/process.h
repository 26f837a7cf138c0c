// SPDX-License-Identifier: MIT
//
// process.h - what the kernel knows: this process's memory, time and descriptors, the board's temperature and clocks.

#ifndef DAEMON_PROCESS_H
#define DAEMON_PROCESS_H

#include "daemon/text.h"

struct process {
    double cpu_seconds, virtual_max_bytes; /* no limit: 2^64, as other programs report it */
    long long rss_bytes, peak_rss_bytes, virtual_bytes, heap_bytes, threads, open_fds, max_fds;
};

/* Whatever cannot be read stays 0. */
void process_read(struct process *out);

/* What sysfs, mounted at that path, says about the machine. Boards differ; where a file is missing or nonsense, the value is.

   Degrees Celsius of the CPU: the first thermal zone whose type names it (cpu-thermal, x86_pkg_temp, soc-thermal), else the hwmon
   chip that measures it (coretemp, k10temp), else the first zone there is. -1: none. */
int process_temperature(const char *sysfs, double *celsius);

/* Calls fn for each CPU whose frequency the kernel tells, in hertz. */
void process_frequencies(const char *sysfs, void (*fn)(void *user, int cpu, double hertz), void *user);

/* 1 throttled now, 0 not, -1 when the kernel does not tell. Raspberry Pi: the firmware's get_throttled, or the under-voltage
   alarm of hwmon. */
int process_throttled(const char *sysfs);

#endif

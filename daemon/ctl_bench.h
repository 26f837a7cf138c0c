// SPDX-License-Identifier: MIT
//
// ctl_bench.h - what the parts of `resnetctl bench` share.

#ifndef DAEMON_CTL_BENCH_H
#define DAEMON_CTL_BENCH_H

#include "daemon/ctl.h"

struct bench {
    int threads, batch, layers, report, json; /* threads 0: all CPUs */
    const char *kernels;
    double seconds; /* for each model */
};

/* ctl_report.c: every model on one thread and on b->threads, each time in a process of its own, so that peak memory is that of the
   one model; then the machine and the results as Markdown or JSON. Returns an exit status. */
int bench_report(const struct ctl_files *files, const struct bench *b);

/* ctl_machine.c: what figures depend on, as far as it can be read; NULL: no memory. The caller deletes them.
   Fixed: {"machine","architecture","cpu","cpus","frequency_mhz":[least,most],"governor","memory_bytes","kernel","distribution",
   "version","commit","compiler","flags"}. Passing: {"celsius","mhz","undervoltage","throttled_bits"}. Unknown: null. */
cJSON *machine_facts(void);
cJSON *machine_state(void);

#endif

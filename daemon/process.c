// SPDX-License-Identifier: MIT
#include "daemon/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* A small file of /proc or /sys as text; -1 when it is not there. */
static int slurp(const char *path, char *out, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, out, size - 1);
    if (fd >= 0)
        close(fd);
    out[n > 0 ? n : 0] = '\0';
    return n > 0 ? 0 : -1;
}

static long long field(const char *status, const char *name)
{
    const char *p = strstr(status, name);
    return p ? strtoll(p + strlen(name), NULL, 10) : 0;
}

static long long count_fds(void)
{
    long long n = 0;
    DIR *d = opendir("/proc/self/fd");
    if (!d)
        return 0;
    while (readdir(d))
        n++;
    closedir(d);
    return n - 3; /* ".", ".." and the directory itself */
}

void process_read(struct process *out)
{
    char status[4096];
    struct rusage u;
    struct rlimit fds;
    memset(out, 0, sizeof *out);
    if (slurp("/proc/self/status", status, sizeof status) == 0) {
        out->rss_bytes = field(status, "\nVmRSS:") * 1024;
        out->peak_rss_bytes = field(status, "\nVmHWM:") * 1024;
        out->virtual_bytes = field(status, "\nVmSize:") * 1024;
        out->threads = field(status, "\nThreads:");
    }
    if (getrusage(RUSAGE_SELF, &u) == 0)
        out->cpu_seconds =
            (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
    if (getrlimit(RLIMIT_NOFILE, &fds) == 0)
        out->max_fds = (long long)fds.rlim_cur;
    out->open_fds = count_fds();
}

int process_temperature(double *celsius)
{
    char text[64];
    if (slurp("/sys/class/thermal/thermal_zone0/temp", text, sizeof text) < 0)
        return -1;
    *celsius = strtod(text, NULL) / 1000;
    return 0;
}

void process_frequencies(void (*fn)(void *user, int cpu, double hertz), void *user)
{
    for (int cpu = 0; cpu < 256; cpu++) {
        char path[96], text[64];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/cpufreq/scaling_cur_freq", cpu);
        if (slurp(path, text, sizeof text) < 0)
            return;
        fn(user, cpu, strtod(text, NULL) * 1000);
    }
}

int process_throttled(void)
{
    for (int i = 0; i < 16; i++) {
        char path[80], text[16];
        snprintf(path, sizeof path, "/sys/class/hwmon/hwmon%d/in0_lcrit_alarm", i);
        if (slurp(path, text, sizeof text) == 0)
            return text[0] == '1';
    }
    return -1;
}

// SPDX-License-Identifier: MIT
#include "config.h"

#include "daemon/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdarg.h>
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

/* The same below a root, the line's end taken off. */
static int slurp_at(char *out, size_t size, const char *root, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
static int slurp_at(char *out, size_t size, const char *root, const char *fmt, ...)
{
    char path[512];
    va_list ap;
    int n = snprintf(path, sizeof path, "%s/", root);
    if (n < 0 || (size_t)n >= sizeof path)
        return -1;
    va_start(ap, fmt);
    int more = vsnprintf(path + n, sizeof path - (size_t)n, fmt, ap);
    va_end(ap);
    if (more < 0 || (size_t)more >= sizeof path - (size_t)n || slurp(path, out, size) < 0)
        return -1;
    out[strcspn(out, "\n")] = '\0';
    return 0;
}

/* A whole number and nothing else. */
static int number(const char *text, int base, long long *out)
{
    char *end;
    *out = strtoll(text, &end, base);
    return end != text && !*end ? 0 : -1;
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
    struct rlimit space;
    if (getrlimit(RLIMIT_AS, &space) == 0)
        out->virtual_max_bytes = (double)space.rlim_cur;
#ifdef HAVE_MALLINFO2
    struct mallinfo2 heap = mallinfo2();
    out->heap_bytes = (long long)(heap.arena + heap.hblkhd);
#endif
    if (getrlimit(RLIMIT_NOFILE, &fds) == 0)
        out->max_fds = (long long)fds.rlim_cur;
    out->open_fds = count_fds();
}

#define ZONES_MAX 32
#define CHIPS_MAX 32
#define CPUS_MAX  1024

static int thousandths(const char *text, double *out)
{
    long long v;
    if (number(text, 10, &v) < 0)
        return -1;
    *out = (double)v / 1000;
    return 0;
}

static int zone(const char *sysfs, int i, double *celsius)
{
    char text[64];
    return slurp_at(text, sizeof text, sysfs, "class/thermal/thermal_zone%d/temp", i) == 0 ? thousandths(text, celsius) : -1;
}

int process_temperature(const char *sysfs, double *celsius)
{
    static const char *const of_cpu[] = {"cpu", "pkg", "soc"}, *const chips[] = {"coretemp", "k10temp", "zenpower",
                                                                                 "cpu_thermal"};
    char text[64];
    for (int i = 0; i < ZONES_MAX; i++)
        for (size_t k = 0; k < sizeof of_cpu / sizeof of_cpu[0]; k++)
            if (slurp_at(text, sizeof text, sysfs, "class/thermal/thermal_zone%d/type", i) == 0 && strcasestr(text, of_cpu[k]) &&
                zone(sysfs, i, celsius) == 0)
                return 0;
    for (int i = 0; i < CHIPS_MAX; i++)
        for (size_t k = 0; k < sizeof chips / sizeof chips[0]; k++)
            if (slurp_at(text, sizeof text, sysfs, "class/hwmon/hwmon%d/name", i) == 0 && strcmp(text, chips[k]) == 0 &&
                slurp_at(text, sizeof text, sysfs, "class/hwmon/hwmon%d/temp1_input", i) == 0 && thousandths(text, celsius) == 0)
                return 0;
    for (int i = 0; i < ZONES_MAX; i++)
        if (zone(sysfs, i, celsius) == 0)
            return 0;
    return -1;
}

/* The last CPU of the machine, from a list such as "0-3" or "0,2-5"; those that are offline have no frequency. */
static int last_cpu(const char *sysfs)
{
    char text[256];
    long long v;
    if (slurp_at(text, sizeof text, sysfs, "devices/system/cpu/present") < 0)
        return -1;
    const char *p = text + strlen(text);
    while (p > text && p[-1] >= '0' && p[-1] <= '9')
        p--;
    return number(p, 10, &v) == 0 && v < CPUS_MAX ? (int)v : -1;
}

void process_frequencies(const char *sysfs, void (*fn)(void *user, int cpu, double hertz), void *user)
{
    char text[64];
    long long khz;
    for (int cpu = 0, last = last_cpu(sysfs); cpu <= last; cpu++)
        if (slurp_at(text, sizeof text, sysfs, "devices/system/cpu/cpu%d/cpufreq/scaling_cur_freq", cpu) == 0 &&
            number(text, 10, &khz) == 0)
            fn(user, cpu, (double)khz * 1000);
}

int process_throttled(const char *sysfs)
{
    char text[64];
    long long bits;
    if (slurp_at(text, sizeof text, sysfs, "devices/platform/soc/soc:firmware/get_throttled") == 0 &&
        number(text, 16, &bits) == 0)
        return (bits & 0xf) != 0; /* under-voltage, clock capped, throttled, soft limit of temperature; above them: since boot */
    for (int i = 0; i < CHIPS_MAX; i++)
        if (slurp_at(text, sizeof text, sysfs, "class/hwmon/hwmon%d/in0_lcrit_alarm", i) == 0 && number(text, 10, &bits) == 0)
            return bits != 0;
    return -1;
}

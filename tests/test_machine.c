// SPDX-License-Identifier: MIT
//
// test_machine.c - temperature, clocks and throttling as different boards tell them, from trees that look like their sysfs.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/process.h"
#include "tests/files.h"

struct entry {
    const char *path, *text;
};

static char *root;

/* Makes the tree new, of at most one board. */
static void board(const struct entry *entries)
{
    char path[256];
    if (root)
        files_remove_dir(root);
    root = files_make_dir();
    for (const struct entry *n = entries; n && n->path; n++) {
        for (const char *slash = n->path; (slash = strchr(slash, '/')); slash++) {
            snprintf(path, sizeof path, "%s/%.*s", root, (int)(slash - n->path), n->path);
            mkdir(path, 0755);
        }
        files_write(root, n->path, n->text, strlen(n->text));
    }
}

static double celsius(void)
{
    double v;
    return process_temperature(root, &v) == 0 ? v : NAN;
}

static void add_frequency(void *user, int cpu, double hertz)
{
    char *out = user;
    size_t n = strlen(out);
    snprintf(out + n, 256 - n, "%d:%.0f ", cpu, hertz);
}

static const char *frequencies(void)
{
    static char out[256];
    out[0] = '\0';
    process_frequencies(root, add_frequency, out);
    return out;
}

static void raspberry_pi(void **state)
{
    static const struct entry hwmon[] = {{"class/thermal/thermal_zone0/type", "cpu-thermal\n"},
                                         {"class/thermal/thermal_zone0/temp", "48312\n"},
                                         {"class/hwmon/hwmon0/name", "cpu_thermal\n"},
                                         {"class/hwmon/hwmon0/temp1_input", "48799\n"},
                                         {"class/hwmon/hwmon1/name", "rpi_volt\n"},
                                         {"class/hwmon/hwmon1/in0_lcrit_alarm", "1\n"},
                                         {"devices/system/cpu/present", "0-3\n"},
                                         {"devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "1500000\n"},
                                         {"devices/system/cpu/cpu1/cpufreq/scaling_cur_freq", "1500000\n"},
                                         {"devices/system/cpu/cpu3/cpufreq/scaling_cur_freq", "600000\n"}, /* cpu2 is offline */
                                         {NULL, NULL}};
    static const struct entry firmware[] = {{"devices/platform/soc/soc:firmware/get_throttled", "50005\n"},
                                            {"class/hwmon/hwmon0/name", "rpi_volt\n"},
                                            {"class/hwmon/hwmon0/in0_lcrit_alarm", "0\n"},
                                            {NULL, NULL}};
    static const struct entry once[] = {{"devices/platform/soc/soc:firmware/get_throttled", "50000\n"}, {NULL, NULL}};
    static const struct entry fine[] = {
        {"class/hwmon/hwmon0/name", "rpi_volt\n"}, {"class/hwmon/hwmon0/in0_lcrit_alarm", "0\n"}, {NULL, NULL}};
    (void)state;
    board(hwmon);
    assert_float_equal(celsius(), 48.312, 1e-9);
    assert_string_equal(frequencies(), "0:1500000000 1:1500000000 3:600000000 ");
    assert_int_equal(process_throttled(root), 1);
    board(firmware);
    assert_int_equal(process_throttled(root), 1);
    board(once); /* since boot, but not now */
    assert_int_equal(process_throttled(root), 0);
    board(fine);
    assert_int_equal(process_throttled(root), 0);
}

static void x86(void **state)
{
    static const struct entry intel[] = {{"class/thermal/thermal_zone0/type", "acpitz\n"},
                                         {"class/thermal/thermal_zone0/temp", "27800\n"},
                                         {"class/thermal/thermal_zone1/type", "x86_pkg_temp\n"},
                                         {"class/thermal/thermal_zone1/temp", "61000\n"},
                                         {"devices/system/cpu/present", "0\n"},
                                         {"devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "3400000\n"},
                                         {NULL, NULL}};
    static const struct entry amd[] = {{"class/thermal/thermal_zone0/type", "acpitz\n"},
                                       {"class/thermal/thermal_zone0/temp", "16800\n"},
                                       {"class/hwmon/hwmon0/name", "nvme\n"},
                                       {"class/hwmon/hwmon0/temp1_input", "38850\n"},
                                       {"class/hwmon/hwmon2/name", "k10temp\n"}, /* numbers may have gaps */
                                       {"class/hwmon/hwmon2/temp1_input", "52125\n"},
                                       {NULL, NULL}};
    static const struct entry old[] = {
        {"class/thermal/thermal_zone0/type", "acpitz\n"}, {"class/thermal/thermal_zone0/temp", "-1500\n"}, {NULL, NULL}};
    (void)state;
    board(intel);
    assert_float_equal(celsius(), 61, 1e-9);
    assert_string_equal(frequencies(), "0:3400000000 ");
    assert_int_equal(process_throttled(root), -1);
    board(amd);
    assert_float_equal(celsius(), 52.125, 1e-9);
    board(old);
    assert_float_equal(celsius(), -1.5, 1e-9);
}

/* Nothing there, or nothing that makes sense: no value rather than a wrong one. */
static void nonsense(void **state)
{
    static const struct entry wrong[] = {{"class/thermal/thermal_zone0/type", "cpu-thermal\n"},
                                         {"class/thermal/thermal_zone0/temp", "hot\n"},
                                         {"class/hwmon/hwmon0/name", "coretemp\n"},
                                         {"class/hwmon/hwmon0/temp1_input", ""},
                                         {"class/hwmon/hwmon0/in0_lcrit_alarm", "yes\n"},
                                         {"devices/system/cpu/present", "0-\n"},
                                         {"devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "<unknown>\n"},
                                         {"devices/platform/soc/soc:firmware/get_throttled", "throttled=0x0\n"},
                                         {NULL, NULL}};
    static const struct entry many[] = {{"devices/system/cpu/present", "0-99999999\n"},
                                        {"devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "1000\n"},
                                        {NULL, NULL}};
    static const struct entry list[] = {
        {"devices/system/cpu/present", "0,2-3\n"}, {"devices/system/cpu/cpu3/cpufreq/scaling_cur_freq", "1000\n"}, {NULL, NULL}};
    (void)state;
    board(NULL);
    assert_true(isnan(celsius()));
    assert_string_equal(frequencies(), "");
    assert_int_equal(process_throttled(root), -1);
    board(wrong);
    assert_true(isnan(celsius()));
    assert_string_equal(frequencies(), "");
    assert_int_equal(process_throttled(root), -1);
    board(many);
    assert_string_equal(frequencies(), "");
    board(list);
    assert_string_equal(frequencies(), "3:1000000 ");
}

static void *wait_for(void *gate)
{
    pthread_mutex_lock(gate);
    pthread_mutex_unlock(gate);
    return NULL;
}

static void process(void **state)
{
    struct process p, with_another;
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    pthread_t first, another; /* the first one may bring one of a sanitizer's with it */
    (void)state;
    pthread_mutex_lock(&gate);
    assert_int_equal(pthread_create(&first, NULL, wait_for, &gate), 0);
    process_read(&p);
    assert_int_equal(pthread_create(&another, NULL, wait_for, &gate), 0);
    process_read(&with_another);
    pthread_mutex_unlock(&gate);
    pthread_join(first, NULL);
    pthread_join(another, NULL);
    assert_true(p.cpu_seconds >= 0 && p.max_fds > 0 && p.virtual_max_bytes > 0);
    if (p.rss_bytes) { /* /proc is there */
        assert_true(p.open_fds >= 3 && p.threads >= 1); /* an emulator has threads of its own */
        assert_int_equal(with_another.threads, p.threads + 1);
        assert_true(p.virtual_bytes >= p.rss_bytes && p.peak_rss_bytes >= p.rss_bytes);
    }
    long long before = p.heap_bytes;
    char *volatile more = malloc(8 << 20);
    assert_non_null(more);
    more[0] = 1;
    process_read(&p);
    if (before) /* the allocator tells */
        assert_true(p.heap_bytes >= before + (8 << 20));
    free(more);
}

static int teardown(void **state)
{
    (void)state;
    if (root)
        files_remove_dir(root);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(raspberry_pi), cmocka_unit_test(x86), cmocka_unit_test(nonsense),
                                       cmocka_unit_test(process)};
    return cmocka_run_group_tests(tests, NULL, teardown);
}

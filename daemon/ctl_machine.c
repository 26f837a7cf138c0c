// SPDX-License-Identifier: MIT
//
// ctl_machine.c - on what a measurement was made: board, cores, clocks, system, build; and how hot and how fast it is right now.

#include "config.h"

#include "daemon/ctl_bench.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "build-commit.h"
#include "daemon/process.h"

/* The first line of a small file, or of the first that the pattern finds; "" when there is none. */
static void read_line(const char *pattern, char *out, size_t size)
{
    glob_t found;
    *out = '\0';
    if (glob(pattern, 0, NULL, &found) != 0)
        return;
    FILE *f = fopen(found.gl_pathv[0], "re");
    globfree(&found);
    if (!f)
        return;
    size_t n = fread(out, 1, size - 1, f);
    fclose(f);
    out[n] = '\0';
    out[strcspn(out, "\n")] = '\0';
}

/* The value behind "key<blanks><separator><blanks>" in a file of such lines, without quotes around it; "" when it is not there.
 */
static void read_field(const char *path, const char *key, char separator, char *out, size_t size)
{
    char line[512];
    FILE *f = fopen(path, "re");
    *out = '\0';
    while (f && !*out && fgets(line, sizeof line, f)) {
        const size_t length = strlen(key);
        char *value = line + length;
        if (strncmp(line, key, length) != 0)
            continue;
        value += strspn(value, " \t");
        if (*value != separator)
            continue;
        value += 1 + strspn(value + 1, " \t\"");
        value[strcspn(value, "\n\"")] = '\0';
        snprintf(out, size, "%s", value);
    }
    if (f)
        fclose(f);
}

/* "" becomes null. */
static int put_known(cJSON *o, const char *name, const char *text)
{
    return ctl_put_text(o, name, *text ? text : NULL);
}

/* arm64 names its cores by numbers only. */
static void describe_cpu(char *out, size_t size)
{
    static const struct {
        const char *part, *name;
    } parts[] = {{"0xd03", "Cortex-A53"},  {"0xd04", "Cortex-A35"}, {"0xd05", "Cortex-A55"}, {"0xd07", "Cortex-A57"},
                 {"0xd08", "Cortex-A72"},  {"0xd09", "Cortex-A73"}, {"0xd0a", "Cortex-A75"}, {"0xd0b", "Cortex-A76"},
                 {"0xd0c", "Neoverse-N1"}, {"0xd41", "Cortex-A78"}};
    char implementer[16], part[16];
    read_field("/proc/cpuinfo", "model name", ':', out, size);
    if (*out)
        return;
    read_field("/proc/cpuinfo", "CPU implementer", ':', implementer, sizeof implementer);
    read_field("/proc/cpuinfo", "CPU part", ':', part, sizeof part);
    if (!*part)
        return;
    snprintf(out, size, "implementer %s part %s", implementer, part);
    for (size_t i = 0; strcmp(implementer, "0x41") == 0 && i < sizeof parts / sizeof *parts; i++)
        if (strcmp(part, parts[i].part) == 0)
            snprintf(out, size, "%s", parts[i].name);
}

#define CPUFREQ "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/"

cJSON *machine_facts(void)
{
    char text[256], least[32], most[32];
    struct utsname u;
    cJSON *o = cJSON_CreateObject();
    int bad = 0;
    read_line("/proc/device-tree/model", text, sizeof text);
    if (!*text)
        read_line("/sys/class/dmi/id/product_name", text, sizeof text);
    bad |= put_known(o, "machine", text);
    const int known = uname(&u) == 0;
    bad |= ctl_put_text(o, "architecture", known ? u.machine : NULL);
    *text = '\0';
    describe_cpu(text, sizeof text);
    bad |= put_known(o, "cpu", text);
    bad |= ctl_put_number(o, "cpus", ctl_cpus(), 9);
    read_line(CPUFREQ "cpuinfo_min_freq", least, sizeof least);
    read_line(CPUFREQ "cpuinfo_max_freq", most, sizeof most);
    if (*least && *most) {
        const double mhz[2] = {strtod(least, NULL) / 1000, strtod(most, NULL) / 1000};
        bad |= ctl_put_item(o, "frequency_mhz", cJSON_CreateDoubleArray(mhz, 2));
    } else {
        bad |= ctl_put_item(o, "frequency_mhz", cJSON_CreateNull());
    }
    read_line(CPUFREQ "scaling_governor", text, sizeof text);
    bad |= put_known(o, "governor", text);
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    bad |= ctl_put_item(o, "memory_bytes",
                        pages > 0 && page > 0 ? ctl_number((double)pages * (double)page, 17) : cJSON_CreateNull());
    bad |= ctl_put_text(o, "kernel", known ? u.release : NULL);
    read_field("/etc/os-release", "PRETTY_NAME", '=', text, sizeof text);
    bad |= put_known(o, "distribution", text);
    bad |= ctl_put_text(o, "version", PACKAGE_VERSION);
    bad |= put_known(o, "commit", BUILD_COMMIT);
#ifdef __clang__
    bad |= ctl_put_text(o, "compiler", __VERSION__);
#else
    bad |= ctl_put_text(o, "compiler", "gcc " __VERSION__);
#endif
    bad |= put_known(o, "flags", BUILD_FLAGS);
    return ctl_whole(o, bad);
}

static void take_fastest(void *user, int cpu, double hertz)
{
    double *most = user;
    (void)cpu;
    *most = hertz > *most ? hertz : *most;
}

cJSON *machine_state(void)
{
    char text[64];
    double celsius, hertz = 0;
    cJSON *o = cJSON_CreateObject();
    int bad = 0;
    bad |= ctl_put_item(o, "celsius", process_temperature("/sys", &celsius) == 0 ? ctl_number(celsius, 4) : cJSON_CreateNull());
    process_frequencies("/sys", take_fastest, &hertz);
    bad |= ctl_put_item(o, "mhz", hertz > 0 ? ctl_number(hertz / 1e6, 6) : cJSON_CreateNull());
    const int low = process_throttled("/sys");
    bad |= ctl_put_item(o, "undervoltage", low < 0 ? cJSON_CreateNull() : cJSON_CreateBool(low));
    read_line("/sys/devices/platform/soc*/soc*firmware/get_throttled", text, sizeof text);
    bad |= put_known(o, "throttled_bits", text); /* of the Raspberry Pi's firmware, hexadecimal: 0 is never since the start */
    return ctl_whole(o, bad);
}

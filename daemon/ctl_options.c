// SPDX-License-Identifier: MIT
//
// ctl_options.c - options as data: the same table parses the command line, checks the values and prints the help.

#include "daemon/ctl.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPTIONS_MAX 40

static const char help_text[] = "print this text";

static void print_option(char letter, const char *name, const char *argument, const char *help)
{
    char left[64];
    snprintf(left, sizeof left, "%c%c%s --%s%s%s", letter ? '-' : ' ', letter ? letter : ' ', letter ? "," : " ", name,
             argument ? " " : "", argument ? argument : "");
    printf("  %-28s %s\n", left, help);
}

static void print_help(const struct ctl_usage *u)
{
    printf("usage: resnetctl %s\n\n%s\n\n", u->synopsis, u->about);
    for (const struct ctl_option *o = u->options; o->name; o++)
        print_option(o->letter, o->name, o->argument, o->help);
    print_option('h', "help", NULL, help_text);
}

int ctl_wrong(const struct ctl_usage *u, const char *fmt, ...)
{
    int name = (int)strcspn(u->synopsis, " ");
    fprintf(stderr, "resnetctl %.*s: ", name, u->synopsis);
    va_list args;
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fprintf(stderr, "\nusage: resnetctl %s\n`resnetctl %.*s --help` explains the options.\n", u->synopsis, name, u->synopsis);
    return CTL_USAGE;
}

int ctl_fail(const struct err *e)
{
    fprintf(stderr, "resnetctl: %s\n", e->text);
    return CTL_FAILED;
}

static int set_value(const struct ctl_usage *u, const struct ctl_option *o, const char *text, void *values)
{
    void *field = (char *)values + o->offset;
    char *end;
    errno = 0;
    switch (o->kind) {
    case CTL_FLAG:
        *(int *)field = 1;
        return 0;
    case CTL_TEXT:
        if (!*text)
            return ctl_wrong(u, "--%s is empty", o->name);
        *(const char **)field = text;
        return 0;
    case CTL_INT: {
        long long n = strtoll(text, &end, 10);
        if (errno || end == text || *end || (double)n < o->min || (double)n > o->max)
            return ctl_wrong(u, "--%s takes a whole number from %.0f to %.0f, not %s", o->name, o->min, o->max, text);
        *(int *)field = (int)n;
        return 0;
    }
    case CTL_NUMBER: {
        double x = strtod(text, &end);
        if (errno || end == text || *end || !(x >= o->min && x <= o->max))
            return ctl_wrong(u, "--%s takes a number from %g to %g, not %s", o->name, o->min, o->max, text);
        *(double *)field = x;
        return 0;
    }
    }
    return CTL_USAGE;
}

int ctl_parse(const struct ctl_usage *u, int argc, char **argv, void *values, int *status)
{
    struct option longs[OPTIONS_MAX + 2];
    char shorts[2 * OPTIONS_MAX + 4];
    int count = 0, length = 0;
    shorts[length++] = ':'; /* a missing argument is told from an unknown option */
    for (const struct ctl_option *o = u->options; o->name; o++, count++) {
        assert(count < OPTIONS_MAX);
        int takes = o->kind == CTL_FLAG ? no_argument : required_argument;
        longs[count] = (struct option){o->name, takes, NULL, 256 + count};
        if (o->letter) {
            shorts[length++] = o->letter;
            if (takes == required_argument)
                shorts[length++] = ':';
        }
    }
    longs[count] = (struct option){"help", no_argument, NULL, 'h'};
    longs[count + 1] = (struct option){NULL, 0, NULL, 0};
    shorts[length++] = 'h';
    shorts[length] = '\0';

    opterr = 0;
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, shorts, longs, NULL)) != -1;) {
        if (c == 'h') {
            print_help(u);
            *status = CTL_DONE;
            return -1;
        }
        if (c == '?' || c == ':') {
            *status = ctl_wrong(u, c == ':' ? "%s needs an argument" : "%s is not an option of this command", argv[optind - 1]);
            return -1;
        }
        const struct ctl_option *o = u->options;
        if (c >= 256)
            o += c - 256;
        else
            while (o->letter != c)
                o++;
        *status = set_value(u, o, optarg, values);
        if (*status)
            return -1;
    }
    int operands = argc - optind;
    if (operands < u->operands_min)
        *status = ctl_wrong(u, "something is missing");
    else if (u->operands_max >= 0 && operands > u->operands_max)
        *status = ctl_wrong(u, "%s is one argument too many", argv[optind + u->operands_max]);
    else
        return optind;
    return -1;
}

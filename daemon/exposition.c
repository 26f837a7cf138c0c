// SPDX-License-Identifier: MIT
#include "daemon/exposition.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

const double metrics_bounds[BUCKETS] = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
                                        0.05,   0.1,     0.25,   0.5,   1,      2.5,   5,    10};

/* ---- which format ---- */

#define BLANKS " \t"

static int is_word(const char *s, size_t n, const char *word)
{
    return strlen(word) == n && strncasecmp(s, word, n) == 0;
}

/* The value of one parameter, quotes taken off. */
static size_t unquote(const char **s, size_t n)
{
    if (n >= 2 && (*s)[0] == '"' && (*s)[n - 1] == '"') {
        ++*s;
        n -= 2;
    }
    return n;
}

/* q of RFC 9110: 0 to 1 with up to three decimals; -1 for what is none. Locales do not come in. */
static double quality(const char *s, size_t n)
{
    double q, place = 0.1;
    if (n < 1 || n > 5 || s[0] < '0' || s[0] > '1' || (n > 1 && s[1] != '.'))
        return -1;
    q = s[0] - '0';
    for (size_t i = 2; i < n; i++, place /= 10) {
        if (s[i] < '0' || s[i] > '9')
            return -1;
        q += place * (s[i] - '0');
    }
    return q <= 1 ? q : -1;
}

struct liking {
    double openmetrics, text, any_text, any; /* q of the range that names it; -1: not named */
};

static void take_range(struct liking *l, const char *s, size_t n)
{
    size_t type = 0, version_n = 0;
    const char *version = "", *end = s + n;
    double q = 1;
    while (type < n && !strchr(";" BLANKS, s[type]))
        type++;
    for (const char *p = memchr(s, ';', n); p && p < end;) {
        p += 1 + strspn(p + 1, BLANKS);
        const char *stop = p < end ? memchr(p, ';', (size_t)(end - p)) : NULL;
        size_t len = p < end ? (size_t)((stop ? stop : end) - p) : 0;
        while (len && strchr(BLANKS, p[len - 1]))
            len--;
        if (len > 2 && strncasecmp(p, "q=", 2) == 0)
            q = quality(p + 2, len - 2);
        if (len > 8 && strncasecmp(p, "version=", 8) == 0) {
            version = p + 8;
            version_n = unquote(&version, len - 8);
        }
        p = stop;
    }
    double *to = NULL;
    if (is_word(s, type, "application/openmetrics-text"))
        to = !version_n || is_word(version, version_n, "1.0.0") ? &l->openmetrics : NULL;
    else if (is_word(s, type, "text/plain"))
        to = !version_n || is_word(version, version_n, "0.0.4") ? &l->text : NULL;
    else if (is_word(s, type, "text/*"))
        to = &l->any_text;
    else if (is_word(s, type, "*/*"))
        to = &l->any;
    if (to && q > *to)
        *to = q;
}

int exposition_accept(const char *accept)
{
    struct liking l = {-1, -1, -1, -1};
    for (const char *p = accept; p && *p;) {
        p += strspn(p, "," BLANKS);
        size_t n = strcspn(p, ",");
        take_range(&l, p, n);
        p += n;
    }
    double text = l.text >= 0 ? l.text : l.any_text >= 0 ? l.any_text : l.any;
    return l.openmetrics > 0 && l.openmetrics >= text; /* whoever can read it names it: a wildcard does not */
}

const char *exposition_type(int openmetrics)
{
    return openmetrics ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                       : "text/plain; version=0.0.4; charset=utf-8";
}

/* ---- pieces ---- */

static int ends(const char *s, size_t n, const char *suffix)
{
    size_t m = strlen(suffix);
    return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

void exposition_family(struct exposition *x, const char *name, const char *type, const char *help)
{
    static const char *const units[] = {"seconds", "bytes", "celsius", "hertz"};
    int n = (int)strlen(name);
    if (!x->openmetrics) {
        text_printf(x->t, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, strcmp(type, "info") == 0 ? "gauge" : type);
        return;
    }
    if (ends(name, (size_t)n, "_total"))
        n -= 6;
    else if (ends(name, (size_t)n, "_info"))
        n -= 5;
    text_printf(x->t, "# TYPE %.*s %s\n", n, name, type);
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (ends(name, (size_t)n, units[i]))
            text_printf(x->t, "# UNIT %.*s %s\n", n, name, units[i]);
    text_printf(x->t, "# HELP %.*s %s\n", n, name, help);
}

void exposition_label(struct text *t, const char *name, const char *value)
{
    text_printf(t, "%s=\"", name);
    for (const char *p = value; *p; p++) {
        if (*p == '\\' || *p == '"')
            text_printf(t, "\\%c", *p);
        else if (*p == '\n')
            text_puts(t, "\\n");
        else
            text_add(t, p, 1);
    }
    text_puts(t, "\"");
}

void exposition_value(struct text *t, double v)
{
    if (isnan(v))
        text_puts(t, "NaN");
    else if (isinf(v))
        text_puts(t, v > 0 ? "+Inf" : "-Inf");
    else if (v == floor(v) && fabs(v) < 1e15)
        text_printf(t, "%.0f", v);
    else
        text_printf(t, "%.12g", v);
}

void exposition_sample(struct exposition *x, const char *name, const char *labels, double value)
{
    text_printf(x->t, *labels ? "%s{%s} " : "%s%s ", name, labels);
    exposition_value(x->t, value);
    text_puts(x->t, "\n");
}

static void bucket(struct exposition *x, const char *name, const char *labels, const char *le, uint64_t count,
                   const struct exemplar *e)
{
    text_printf(x->t, "%s_bucket{%s%sle=\"%s\"} %llu", name, labels, *labels ? "," : "", le, (unsigned long long)count);
    if (x->openmetrics && e->label) {
        text_printf(x->t, " # {%s=\"%s\"} ", e->label, e->id);
        exposition_value(x->t, e->value);
        text_printf(x->t, " %.3f", e->unix_time);
    }
    text_puts(x->t, "\n");
}

void exposition_histogram(struct exposition *x, const char *name, const char *labels, const struct histogram *h,
                          const double *bounds, int n)
{
    uint64_t total = 0;
    for (int i = 0; i <= n; i++) {
        char le[32] = "+Inf";
        if (i < n) /* integers as Prometheus 3 and OpenMetrics write them */
            snprintf(le, sizeof le, bounds[i] == floor(bounds[i]) ? "%.1f" : "%g", bounds[i]);
        total += h->bucket[i];
        bucket(x, name, labels, le, total, &h->exemplar[i]);
    }
    const char *open = *labels ? "{" : "", *close = *labels ? "}" : "";
    text_printf(x->t, "%s_sum%s%s%s ", name, open, labels, close);
    exposition_value(x->t, h->sum);
    text_printf(x->t, "\n%s_count%s%s%s %llu\n", name, open, labels, close, (unsigned long long)total);
}

void exposition_end(struct exposition *x)
{
    if (x->openmetrics)
        text_puts(x->t, "# EOF\n");
}

// SPDX-License-Identifier: MIT
#include "daemon/samples.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- reading ---- */

/* The brace that ends the labels, not one within a value; NULL: none. */
static char *end_of_labels(char *p)
{
    int quoted = 0;
    for (; *p; p++) {
        if (quoted && *p == '\\' && p[1])
            p++;
        else if (*p == '"')
            quoted = !quoted;
        else if (*p == '}' && !quoted)
            return p;
    }
    return NULL;
}

/* name{labels} value, taken apart in place. */
static int parse_line(char *line, struct metric *out)
{
    size_t n = strcspn(line, "{ ");
    char *rest = line + n, *end;
    if (n == 0 || !*rest)
        return -1;
    out->name = line;
    out->labels = "";
    if (*rest == '{') {
        out->labels = rest + 1;
        *rest = '\0';
        rest = end_of_labels(rest + 1);
        if (!rest)
            return -1;
    }
    *rest++ = '\0';
    out->value = strtod(rest, &end);
    return end == rest || (*end && *end != ' ') ? -1 : 0; /* a time may follow */
}

int samples_parse(char *text, struct samples *out, struct err *e)
{
    struct samples s = {.text = text};
    int room = 0, number = 0;
    for (char *line = text, *next; line && *line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        number++;
        if (!*line || *line == '#')
            continue;
        if (s.count == room) {
            room = room ? room * 2 : 1024;
            struct metric *more = room <= 2 * SAMPLES_MAX ? realloc(s.s, (size_t)room * sizeof *more) : NULL;
            if (!more) {
                samples_free(&s);
                return err_set(e, ERR_MEMORY, "no memory for so many metrics");
            }
            s.s = more;
        }
        if (parse_line(line, &s.s[s.count++]) < 0) {
            samples_free(&s);
            return err_set(e, ERR_DAMAGED, "line %d of the metrics is not in Prometheus' text format", number);
        }
    }
    *out = s;
    return 0;
}

void samples_free(struct samples *s)
{
    free(s->text);
    free(s->s);
    *s = (struct samples){0};
}

/* ---- labels ---- */

int samples_label(const struct metric *s, const char *label, char *out, size_t size)
{
    size_t want = strlen(label), n = 0;
    const char *p = s->labels;
    out[0] = '\0';
    while (*p) {
        size_t name = strcspn(p, "=");
        int mine = name == want && memcmp(p, label, want) == 0;
        p += name;
        if (p[0] != '=' || p[1] != '"')
            return 0;
        for (p += 2; *p && *p != '"'; p++) {
            if (*p == '\\' && p[1])
                p++;
            if (mine && n + 1 < size)
                out[n++] = *p >= ' ' && *p <= '~' ? *p : '?';
        }
        if (mine) {
            out[n] = '\0';
            return 1;
        }
        p += *p == '"';
        p += *p == ',';
    }
    return 0;
}

static int matches(const struct metric *s, const char *name, const char *label, const char *value)
{
    char text[256];
    if (strcmp(s->name, name) != 0)
        return 0;
    return !label || (samples_label(s, label, text, sizeof text) && strcmp(text, value) == 0);
}

double samples_sum(const struct samples *s, const char *name, const char *label, const char *value, int *found)
{
    double sum = 0;
    int n = 0;
    for (int i = 0; i < s->count; i++)
        if (matches(&s->s[i], name, label, value)) {
            sum += s->s[i].value;
            n++;
        }
    if (found)
        *found = n;
    return sum;
}

/* ---- histograms ---- */

static void add_bucket(struct buckets *b, double bound, double count)
{
    int i = 0;
    while (i < b->n && b->bound[i] < bound)
        i++;
    if (i == b->n || b->bound[i] != bound) {
        if (b->n == SAMPLES_BOUNDS_MAX)
            return;
        memmove(&b->bound[i + 1], &b->bound[i], (size_t)(b->n - i) * sizeof b->bound[0]);
        memmove(&b->count[i + 1], &b->count[i], (size_t)(b->n - i) * sizeof b->count[0]);
        b->bound[i] = bound;
        b->count[i] = 0;
        b->n++;
    }
    b->count[i] += count;
}

void samples_buckets(const struct samples *s, const char *name, const char *label, const char *value, struct buckets *b)
{
    char bucket[128], le[64];
    snprintf(bucket, sizeof bucket, "%s_bucket", name);
    for (int i = 0; i < s->count; i++)
        if (matches(&s->s[i], bucket, label, value) && samples_label(&s->s[i], "le", le, sizeof le))
            add_bucket(b, strtod(le, NULL), s->s[i].value);
}

void buckets_since(struct buckets *b, const struct buckets *before)
{
    if (before->n != b->n || (b->n && before->count[b->n - 1] > b->count[b->n - 1]))
        return; /* another process answers: all of it is new */
    for (int i = 0; i < b->n; i++)
        b->count[i] -= before->count[i];
}

double buckets_quantile(const struct buckets *b, double q)
{
    double total = b->n ? b->count[b->n - 1] : 0, rank = q * total;
    int i = 0;
    if (!(total > 0) || !isinf(b->bound[b->n - 1]))
        return NAN;
    while (i < b->n - 1 && b->count[i] < rank)
        i++;
    if (i == b->n - 1)
        return i ? b->bound[i - 1] : NAN;
    double low = i ? b->bound[i - 1] : 0, below = i ? b->count[i - 1] : 0, here = b->count[i] - below;
    return here > 0 ? low + (b->bound[i] - low) * (rank - below) / here : b->bound[i];
}

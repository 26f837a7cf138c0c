// SPDX-License-Identifier: MIT
#include "daemon/query.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes from *in up to one of stop into *out; both move on. */
static int decode(const char **in, const char *stop, char **out, const char *end, struct err *e)
{
    const char *p = *in;
    char *o = *out;
    while (*p && !strchr(stop, *p)) {
        int c = (unsigned char)*p;
        if (c == '%') {
            int high = hex(p[1]), low = high < 0 ? -1 : hex(p[2]);
            if (low < 0)
                return err_set(e, ERR_INPUT, "a '%%' in the query is not followed by two hexadecimal digits");
            c = high * 16 + low;
            p += 2;
        } else if (c == '+') {
            c = ' ';
        }
        if (c < 0x20 || c == 0x7f)
            return err_set(e, ERR_INPUT, "the query holds a control character");
        if (o + 1 >= end)
            return err_set(e, ERR_INPUT, "the query is too long");
        *o++ = (char)c;
        p++;
    }
    *o++ = '\0';
    *in = p;
    *out = o;
    return 0;
}

int query_parse(const char *uri, struct query *out, struct err *e)
{
    const char *p = strchr(uri, '?');
    char *o = out->text, *end = out->text + sizeof out->text;
    out->count = 0;
    for (p = p ? p + 1 : ""; *p;) {
        if (*p == '&') {
            p++;
            continue;
        }
        if (out->count == QUERY_MAX)
            return err_set(e, ERR_INPUT, "the query has more than %d parameters", QUERY_MAX);
        const char *name = o;
        if (o + 1 >= end)
            return err_set(e, ERR_INPUT, "the query is too long");
        if (decode(&p, "=&", &o, end, e) < 0)
            return -1;
        const char *value = o - 1; /* the empty string that ends the name */
        if (*p == '=') {
            p++;
            value = o;
            if (o + 1 >= end)
                return err_set(e, ERR_INPUT, "the query is too long");
            if (decode(&p, "&", &o, end, e) < 0)
                return -1;
        }
        if (query_get(out, name))
            return err_set(e, ERR_INPUT, "parameter '%s' is given twice", name);
        out->items[out->count].name = name;
        out->items[out->count++].value = value;
    }
    return 0;
}

const char *query_get(const struct query *q, const char *name)
{
    for (int i = 0; i < q->count; i++)
        if (strcmp(q->items[i].name, name) == 0)
            return q->items[i].value;
    return NULL;
}

int query_only(const struct query *q, const char *const *names, struct err *e)
{
    for (int i = 0; i < q->count; i++) {
        int known = 0;
        for (const char *const *n = names; *n; n++)
            known |= strcmp(*n, q->items[i].name) == 0;
        if (!known) {
            char list[160] = "";
            for (const char *const *n = names; *n; n++) {
                size_t len = strlen(list);
                snprintf(list + len, sizeof list - len, "%s%s", len ? ", " : "", *n);
            }
            return err_set(e, ERR_INPUT, "unknown parameter '%.40s'; there are %s", q->items[i].name, list);
        }
    }
    return 0;
}

int query_int(const struct query *q, const char *name, long min, long max, long *out, struct err *e)
{
    const char *s = query_get(q, name);
    if (!s)
        return 0;
    char *end;
    errno = 0;
    long v = strtol(s, &end, 10);
    if (*s < '0' || *s > '9' || *end || errno || v < min || v > max)
        return err_set(e, ERR_INPUT, "%s must be a whole number from %ld to %ld", name, min, max);
    *out = v;
    return 0;
}

int query_number(const struct query *q, const char *name, double min, double max, double *out, struct err *e)
{
    const char *s = query_get(q, name);
    if (!s)
        return 0;
    char *end;
    double v = strtod(s, &end);
    size_t digits = strspn(s, "0123456789.");
    if (!*s || s[digits] || *end || !(v >= min && v <= max))
        return err_set(e, ERR_INPUT, "%s must be a number from %g to %g", name, min, max);
    *out = v;
    return 0;
}

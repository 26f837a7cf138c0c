// SPDX-License-Identifier: MIT
#include "daemon/text.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/utf8.h"

static int text_room(struct text *t, size_t more)
{
    if (t->failed || more >= (size_t)-1 / 2 - t->len) {
        t->failed = 1;
        return -1;
    }
    size_t need = t->len + more + 1;
    if (need <= t->cap)
        return 0;
    size_t cap = t->cap ? t->cap : 256;
    while (cap < need)
        cap *= 2;
    char *s = realloc(t->s, cap);
    if (!s) {
        t->failed = 1;
        return -1;
    }
    t->s = s;
    t->cap = cap;
    return 0;
}

void text_add(struct text *t, const char *s, size_t len)
{
    if (text_room(t, len) < 0)
        return;
    memcpy(t->s + t->len, s, len);
    t->len += len;
    t->s[t->len] = '\0';
}

void text_puts(struct text *t, const char *s)
{
    text_add(t, s, strlen(s));
}

void text_printf(struct text *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0 || text_room(t, (size_t)n) < 0)
        return;
    va_start(ap, fmt);
    vsnprintf(t->s + t->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    t->len += (size_t)n;
}

void text_json(struct text *t, const char *s)
{
    size_t n, left = strlen(s);
    text_add(t, "\"", 1);
    for (const char *p = s; left; p += n, left -= n) {
        unsigned char c = (unsigned char)*p;
        n = utf8_length(p, left);
        if (n == 0) {
            text_puts(t, "\\ufffd");
            n = 1;
        } else if (c == '"' || c == '\\') {
            text_printf(t, "\\%c", c);
        } else if (c < 0x20 || c == 0x7f) {
            text_printf(t, "\\u%04x", c);
        } else {
            text_add(t, p, n);
        }
    }
    text_add(t, "\"", 1);
}

void text_float(struct text *t, float v)
{
    if (!isfinite(v)) {
        text_puts(t, "null");
        return;
    }
    char number[32];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(number, sizeof number, "%.*g", digits, (double)v);
        if (strtof(number, NULL) == v)
            break;
    }
    text_puts(t, number);
}

void text_free(struct text *t)
{
    free(t->s);
    *t = (struct text){0};
}

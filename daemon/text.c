// SPDX-License-Identifier: MIT
#include "daemon/text.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* Length of the UTF-8 sequence at s, 0 when it is none (overlong, surrogate, beyond U+10FFFF, cut). */
static int utf8_length(const unsigned char *s)
{
    if (s[0] < 0x80)
        return 1;
    int n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4)
        return 0;
    for (int i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
        (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return n;
}

void text_json(struct text *t, const char *s)
{
    text_add(t, "\"", 1);
    for (const unsigned char *p = (const unsigned char *)s; *p;) {
        int n = utf8_length(p);
        if (n == 0) {
            text_puts(t, "\\ufffd");
            n = 1;
        } else if (*p == '"' || *p == '\\') {
            text_printf(t, "\\%c", *p);
        } else if (*p < 0x20 || *p == 0x7f) {
            text_printf(t, "\\u%04x", *p);
        } else {
            text_add(t, (const char *)p, (size_t)n);
        }
        p += n;
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

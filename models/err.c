// SPDX-License-Identifier: MIT

#include "models/err.h"

#include "models/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Texts reach terminals and logs, and may quote what a stranger sent. */
static void sanitise(char *s)
{
    for (; *s; s++)
        for (size_t n = utf8_control(s); n > 0; n--)
            s[n - 1] = '?';
}

int err_set(struct err *e, enum err_code code, const char *fmt, ...)
{
    if (!e)
        return -1;
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    e->code = code;
    if (n >= (int)sizeof e->text)
        utf8_mend_end(e->text);
    sanitise(e->text);
    return -1;
}

int err_prefix(struct err *e, const char *fmt, ...)
{
    if (!e)
        return -1;
    char prefix[sizeof e->text];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(prefix, sizeof prefix, fmt, ap);
    va_end(ap);
    /* Shift the text to the right and put the prefix in front, all cut to fit. */
    size_t length = strlen(prefix), room = sizeof e->text - 1;
    if (length + 2 < room) {
        memcpy(prefix + length, ": ", 2);
        length += 2;
    }
    size_t whole = strlen(e->text), keep = whole < room - length ? whole : room - length;
    memmove(e->text + length, e->text, keep);
    memcpy(e->text, prefix, length);
    e->text[length + keep] = 0;
    if (keep < whole)
        utf8_mend_end(e->text);
    sanitise(e->text);
    return -1;
}

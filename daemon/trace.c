// SPDX-License-Identifier: MIT
#include "daemon/trace.h"

#include <string.h>

/* version "-" trace-id "-" parent-id "-" trace-flags; later versions may append "-" and more. */
enum { AT_ID = 3, AT_PARENT = AT_ID + TRACE_ID_BYTES + 1, AT_FLAGS = AT_PARENT + TRACE_SPAN_BYTES + 1, LENGTH = AT_FLAGS + 2 };

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; /* upper case is not allowed */
}

static int all_digits(const char *s, int n)
{
    for (int i = 0; i < n; i++)
        if (digit(s[i]) < 0)
            return 0;
    return 1;
}

static int all_zero(const char *s, int n)
{
    return (int)strspn(s, "0") >= n;
}

int trace_parse(const char *s, struct trace *out)
{
    memset(out, 0, sizeof *out);
    size_t n = s ? strlen(s) : 0;
    if (n < LENGTH || !all_digits(s, 2) || s[2] != '-' || !all_digits(s + AT_ID, TRACE_ID_BYTES) || s[AT_PARENT - 1] != '-' ||
        !all_digits(s + AT_PARENT, TRACE_SPAN_BYTES) || s[AT_FLAGS - 1] != '-' || !all_digits(s + AT_FLAGS, 2))
        return -1;
    if (memcmp(s, "ff", 2) == 0 || all_zero(s + AT_ID, TRACE_ID_BYTES) || all_zero(s + AT_PARENT, TRACE_SPAN_BYTES))
        return -1;
    if (n > LENGTH && (memcmp(s, "00", 2) == 0 || s[LENGTH] != '-'))
        return -1;
    memcpy(out->id, s + AT_ID, TRACE_ID_BYTES);
    memcpy(out->parent, s + AT_PARENT, TRACE_SPAN_BYTES);
    out->sampled = digit(s[AT_FLAGS + 1]) & 1;
    return 0;
}

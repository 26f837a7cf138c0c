// SPDX-License-Identifier: MIT

#include "models/json_scan.h"

#include "models/utf8.h"

#include <string.h>

_Static_assert(JSON_DEPTH_MAX <= 64, "json_scan.objects has one bit per level");

/* What may come next. */
enum {
    VALUE,
    FIRST_VALUE, /* or the end of the array */
    FIRST_KEY,   /* or the end of the object */
    AFTER_VALUE  /* a comma, the end of the container, the end of the text */
};

static int fail_at(const struct json_scan *s, const char *at, struct err *e, enum err_code code, const char *what)
{
    size_t line = 1;
    const char *start = s->text;
    for (const char *p = s->text; (p = memchr(p, '\n', (size_t)(at - p))) != NULL; start = ++p)
        line++;
    return err_set(e, code, "JSON line %zu, column %zu: %s", line, (size_t)(at - start) + 1, what);
}

int json_scan_fail(const struct json_scan *s, struct err *e, const char *what)
{
    return fail_at(s, s->token, e, ERR_INPUT, what);
}

static enum json_event fail(const struct json_scan *s, struct err *e, const char *what)
{
    fail_at(s, s->at, e, ERR_INPUT, s->at < s->end ? what : "the text ends too early");
    return JSON_ERROR;
}

void json_scan_start(struct json_scan *s, const char *text, size_t len)
{
    *s = (struct json_scan){.text = text, .at = text, .end = text + len, .token = text, .state = VALUE};
}

static void skip_space(struct json_scan *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\r' || *s->at == '\t'))
        s->at++;
}

/* The character at the cursor; 0 at the end (0 itself is nowhere allowed, so the two need not be told apart). */
static char peek(const struct json_scan *s)
{
    return s->at < s->end ? *s->at : '\0';
}

/* Four hexadecimal digits, or -1. */
static int hex4(const char *p, const char *end)
{
    static const char digits[] = "0123456789abcdefABCDEF";
    int v = 0;
    if (end - p < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        const char *d = p[i] ? strchr(digits, p[i]) : NULL;
        if (!d)
            return -1;
        int digit = (int)(d - digits);
        v = 16 * v + (digit < 16 ? digit : digit - 6);
    }
    return v;
}

static int scan_escape(struct json_scan *s, struct err *e)
{
    const char *p = s->at + 1; /* behind the backslash */
    if (p < s->end && *p != '\0' && strchr("\"\\/bfnrt", *p)) {
        s->at += 2;
        return 0;
    }
    int unit = p < s->end && *p == 'u' ? hex4(p + 1, s->end) : -1;
    if (unit < 0) {
        fail(s, e, "a backslash that starts no escape");
        return -1;
    }
    p += 5;
    if (unit >= 0xd800 && unit <= 0xdfff) {
        int low = s->end - p >= 6 && p[0] == '\\' && p[1] == 'u' ? hex4(p + 2, s->end) : -1;
        if (unit >= 0xdc00 || low < 0xdc00 || low > 0xdfff) {
            fail(s, e, "half a surrogate pair");
            return -1;
        }
        p += 6;
    }
    s->at = p;
    return 0;
}

static int scan_string(struct json_scan *s, struct err *e)
{
    s->token = ++s->at;
    while (s->at < s->end) {
        unsigned char c = (unsigned char)*s->at;
        if (c == '"') {
            s->length = (size_t)(s->at++ - s->token);
            return 0;
        }
        if (c == '\\') {
            if (scan_escape(s, e) < 0)
                return -1;
            continue;
        }
        size_t n = c < 0x20 ? 0 : utf8_length(s->at, (size_t)(s->end - s->at));
        if (!n) {
            fail(s, e, c < 0x20 ? "a control character in a string" : "not UTF-8");
            return -1;
        }
        s->at += n;
    }
    fail(s, e, "");
    return -1;
}

static int scan_digits(struct json_scan *s)
{
    const char *start = s->at;
    while (peek(s) >= '0' && peek(s) <= '9')
        s->at++;
    return s->at > start;
}

static int scan_number(struct json_scan *s)
{
    s->token = s->at;
    if (peek(s) == '-')
        s->at++;
    if (peek(s) == '0')
        s->at++; /* a digit behind it is refused by what follows: no leading zeros */
    else if (!scan_digits(s))
        return -1;
    if (peek(s) == '.') {
        s->at++;
        if (!scan_digits(s))
            return -1;
    }
    if (peek(s) == 'e' || peek(s) == 'E') {
        s->at++;
        if (peek(s) == '+' || peek(s) == '-')
            s->at++;
        if (!scan_digits(s))
            return -1;
    }
    s->length = (size_t)(s->at - s->token);
    return 0;
}

static int scan_word(struct json_scan *s, const char *word)
{
    size_t n = strlen(word);
    s->token = s->at;
    if ((size_t)(s->end - s->at) < n || memcmp(s->at, word, n) != 0)
        return 0;
    s->at += n;
    return 1;
}

static enum json_event open_container(struct json_scan *s, int object, struct err *e)
{
    if (s->depth == JSON_DEPTH_MAX) {
        fail_at(s, s->at, e, ERR_TOO_LARGE, "nested too deeply");
        return JSON_ERROR;
    }
    s->objects = (s->objects & ~(1ull << s->depth)) | (uint64_t)object << s->depth;
    s->depth++;
    s->token = s->at++;
    s->state = object ? FIRST_KEY : FIRST_VALUE;
    return object ? JSON_OBJECT : JSON_ARRAY;
}

static enum json_event close_container(struct json_scan *s, int object)
{
    s->depth--;
    s->token = s->at++;
    s->state = AFTER_VALUE;
    return object ? JSON_OBJECT_END : JSON_ARRAY_END;
}

static enum json_event scan_value(struct json_scan *s, struct err *e)
{
    char c = peek(s);
    if (c == '{' || c == '[')
        return open_container(s, c == '{', e);
    s->state = AFTER_VALUE;
    if (c == '"')
        return scan_string(s, e) < 0 ? JSON_ERROR : JSON_STRING;
    if (c == '-' || (c >= '0' && c <= '9'))
        return scan_number(s) < 0 ? fail(s, e, "not a number as JSON writes it") : JSON_NUMBER;
    if (scan_word(s, "true"))
        return JSON_TRUE;
    if (scan_word(s, "false"))
        return JSON_FALSE;
    if (scan_word(s, "null"))
        return JSON_NULL;
    return fail(s, e, "expected a value");
}

static enum json_event scan_key(struct json_scan *s, struct err *e)
{
    if (peek(s) != '"')
        return fail(s, e, "expected a key in double quotes");
    if (scan_string(s, e) < 0)
        return JSON_ERROR;
    skip_space(s);
    if (peek(s) != ':')
        return fail(s, e, "expected ':' after a key");
    s->at++;
    s->state = VALUE;
    return JSON_KEY;
}

enum json_event json_scan_next(struct json_scan *s, struct err *e)
{
    skip_space(s);
    int object = s->depth > 0 && (s->objects >> (s->depth - 1) & 1);
    char c = peek(s);
    switch (s->state) {
    case FIRST_KEY:
        return c == '}' ? close_container(s, 1) : scan_key(s, e);
    case FIRST_VALUE:
        return c == ']' ? close_container(s, 0) : scan_value(s, e);
    case VALUE:
        return scan_value(s, e);
    default:
        break;
    }
    if (s->depth == 0)
        return s->at == s->end ? JSON_END : fail(s, e, "something follows the end of the value");
    if (c == (object ? '}' : ']'))
        return close_container(s, object);
    if (c != ',')
        return fail(s, e, object ? "expected ',' or '}'" : "expected ',' or ']'");
    s->at++;
    skip_space(s);
    return object ? scan_key(s, e) : scan_value(s, e);
}

static char *put_utf8(char *out, unsigned c)
{
    if (c < 0x80) {
        *out++ = (char)c;
    } else if (c < 0x800) {
        *out++ = (char)(0xc0 | c >> 6);
        *out++ = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *out++ = (char)(0xe0 | c >> 12);
        *out++ = (char)(0x80 | (c >> 6 & 0x3f));
        *out++ = (char)(0x80 | (c & 0x3f));
    } else {
        *out++ = (char)(0xf0 | c >> 18);
        *out++ = (char)(0x80 | (c >> 12 & 0x3f));
        *out++ = (char)(0x80 | (c >> 6 & 0x3f));
        *out++ = (char)(0x80 | (c & 0x3f));
    }
    return out;
}

size_t json_scan_string(const struct json_scan *s, char *out)
{
    static const char letters[] = "bfnrt", meaning[] = "\b\f\n\r\t";
    const char *p = s->token, *end = p + s->length;
    char *start = out;
    while (p < end) {
        if (*p != '\\') {
            *out++ = *p++;
            continue;
        }
        const char *letter = strchr(letters, p[1]);
        if (p[1] == 'u') {
            unsigned c = (unsigned)hex4(p + 2, end);
            p += 6;
            if (c >= 0xd800 && c <= 0xdbff) { /* the scan has seen that its other half follows */
                c = 0x10000 + ((c - 0xd800) << 10) + ((unsigned)hex4(p + 2, end) - 0xdc00);
                p += 6;
            }
            out = put_utf8(out, c);
        } else {
            *out++ = letter ? meaning[letter - letters] : p[1];
            p += 2;
        }
    }
    *out = '\0';
    return (size_t)(out - start);
}

// SPDX-License-Identifier: MIT
#include "daemon/conf_value.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/conf.h"

struct unit {
    const char *name;
    long long factor;
};
static const struct unit byte_units[] = {{"", 1}, {"K", 1LL << 10}, {"M", 1LL << 20}, {"G", 1LL << 30}, {NULL, 0}};
static const struct unit time_units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {NULL, 0}};
static const struct unit no_units[] = {{"", 1}, {NULL, 0}};

static const struct unit *units_of(enum conf_type type)
{
    return type == CONF_BYTES ? byte_units : type == CONF_TIME ? time_units : no_units;
}

static int set_number(const struct conf_row *row, int64_t *out, const char *text, struct err *e)
{
    char *end;
    errno = 0;
    if (*text < '0' || *text > '9')
        return err_set(e, ERR_INPUT, "a number is needed");
    long long v = strtoll(text, &end, 10);
    const struct unit *u = units_of(row->type);
    while (u->name && strcmp(u->name, end) != 0)
        u++;
    if (!u->name)
        return err_set(e, ERR_INPUT, "%s",
                       row->type == CONF_TIME    ? "a time is a number with its unit: ms, s, m or h"
                       : row->type == CONF_BYTES ? "a size is a number, with K, M or G if you like"
                                                 : "something follows the number");
    if (errno == ERANGE || v > INT64_MAX / u->factor || v * u->factor < row->min || v * u->factor > row->max)
        return err_set(e, ERR_INPUT, "out of range: %lld to %lld%s", row->min, row->max,
                       row->type == CONF_TIME    ? " ms"
                       : row->type == CONF_BYTES ? " bytes"
                                                 : "");
    *out = v * u->factor;
    return 0;
}

static int set_bool(int *out, const char *text, struct err *e)
{
    if (strcmp(text, "yes") != 0 && strcmp(text, "no") != 0)
        return err_set(e, ERR_INPUT, "yes or no is needed");
    *out = text[0] == 'y';
    return 0;
}

static int set_choice(const struct conf_row *row, int *out, const char *text, struct err *e)
{
    char names[128] = "";
    size_t len = 0;
    for (const struct conf_choice *c = row->choices; c->name; c++) {
        if (strcmp(c->name, text) == 0) {
            *out = c->value;
            return 0;
        }
        int n = snprintf(names + len, sizeof names - len, "%s%s", len ? ", " : "", c->name);
        len += n > 0 && (size_t)n < sizeof names - len ? (size_t)n : 0;
    }
    return err_set(e, ERR_INPUT, "one of %s is needed", names);
}

static int count_word(void *user, const char *word, size_t len)
{
    (void)word, (void)len;
    ++*(int *)user;
    return 0;
}

static int set_text(const struct conf_row *row, char **out, const char *text, struct err *e)
{
    int n = 0;
    conf_words(text, count_word, &n);
    long long size = row->type == CONF_WORDS ? n : (long long)strlen(text);
    if (size < row->min)
        return err_set(e, ERR_INPUT, "it must not be empty");
    if (size > row->max)
        return err_set(e, ERR_INPUT, "too long: at most %lld %s", row->max, row->type == CONF_WORDS ? "words" : "bytes");
    char *copy = strdup(text);
    if (!copy)
        return err_set(e, ERR_MEMORY, "no memory");
    free(*out);
    *out = copy;
    return 0;
}

struct precisions {
    int bits;
    struct err *e;
};

static int add_precision(void *user, const char *word, size_t len)
{
    struct precisions *p = user;
    char name[16];
    enum precision v;
    snprintf(name, sizeof name, "%.*s", (int)(len < sizeof name ? len : sizeof name - 1), word);
    if (precision_parse(name, &v, p->e) < 0)
        return -1;
    p->bits |= 1 << v;
    return 0;
}

int conf_value_set(const struct conf_row *row, void *base, const char *text, struct err *e)
{
    void *field = (char *)base + row->at;
    switch (row->type) {
    case CONF_INT:
    case CONF_BYTES:
    case CONF_TIME:
        return set_number(row, field, text, e);
    case CONF_BOOL:
        return set_bool(field, text, e);
    case CONF_CHOICE:
        return set_choice(row, field, text, e);
    case CONF_TEXT:
    case CONF_WORDS:
        return set_text(row, field, text, e);
    case CONF_PRECISION: {
        enum precision p;
        if (strcmp(text, "auto") == 0) {
            *(int *)field = PRECISION_AUTO;
            return 0;
        }
        if (precision_parse(text, &p, e) < 0)
            return err_prefix(e, "auto or a precision is needed");
        *(int *)field = (int)p;
        return 0;
    }
    case CONF_PRECISIONS: {
        struct precisions p = {0, e};
        if (conf_words(text, add_precision, &p) < 0)
            return -1;
        *(int *)field = p.bits;
        return 0;
    }
    }
    return -1;
}

void conf_value_free(const struct conf_row *row, void *base)
{
    if (row->type == CONF_TEXT || row->type == CONF_WORDS) {
        char **field = (char **)(void *)((char *)base + row->at);
        free(*field);
        *field = NULL;
    }
}

static void print_number(int64_t v, const struct unit *units, FILE *f)
{
    const struct unit *best = units;
    for (const struct unit *u = units; u->name; u++)
        if (v && v % u->factor == 0 && u->factor > best->factor)
            best = u;
    fprintf(f, "%lld%s\n", v / best->factor, best->name);
}

void conf_value_print(const struct conf_row *row, const void *base, FILE *f)
{
    const void *field = (const char *)base + row->at;
    fprintf(f, "%s = ", row->key);
    switch (row->type) {
    case CONF_INT:
    case CONF_BYTES:
    case CONF_TIME:
        print_number(*(const int64_t *)field, units_of(row->type), f);
        return;
    case CONF_BOOL:
        fprintf(f, "%s\n", *(const int *)field ? "yes" : "no");
        return;
    case CONF_CHOICE:
        for (const struct conf_choice *c = row->choices; c->name; c++)
            if (c->value == *(const int *)field)
                fprintf(f, "%s\n", c->name);
        return;
    case CONF_TEXT:
    case CONF_WORDS:
        fprintf(f, "%s\n", *(char *const *)field ? *(char *const *)field : "");
        return;
    case CONF_PRECISION: {
        int p = *(const int *)field;
        fprintf(f, "%s\n", p == PRECISION_AUTO ? "auto" : precision_name((enum precision)p));
        return;
    }
    case CONF_PRECISIONS:
        for (int p = 0, first = 1; p < PRECISIONS; p++)
            if (*(const int *)field & 1 << p) {
                fprintf(f, "%s%s", first ? "" : " ", precision_name((enum precision)p));
                first = 0;
            }
        fputc('\n', f);
        return;
    }
}

int conf_value_equal(const struct conf_row *row, const void *a, const void *b)
{
    const void *x = (const char *)a + row->at, *y = (const char *)b + row->at;
    switch (row->type) {
    case CONF_INT:
    case CONF_BYTES:
    case CONF_TIME:
        return *(const int64_t *)x == *(const int64_t *)y;
    case CONF_TEXT:
    case CONF_WORDS:
        return strcmp(*(char *const *)x, *(char *const *)y) == 0;
    default:
        return *(const int *)x == *(const int *)y;
    }
}

int conf_value_copy(const struct conf_row *row, void *to, const void *from, struct err *e)
{
    void *x = (char *)to + row->at;
    const void *y = (const char *)from + row->at;
    switch (row->type) {
    case CONF_INT:
    case CONF_BYTES:
    case CONF_TIME:
        *(int64_t *)x = *(const int64_t *)y;
        return 0;
    case CONF_TEXT:
    case CONF_WORDS: {
        char *copy = strdup(*(char *const *)y);
        if (!copy)
            return err_set(e, ERR_MEMORY, "no memory for the configuration");
        free(*(char **)x);
        *(char **)x = copy;
        return 0;
    }
    default:
        *(int *)x = *(const int *)y;
        return 0;
    }
}

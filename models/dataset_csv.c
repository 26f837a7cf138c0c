// SPDX-License-Identifier: MIT
//
// labels.csv: `file,label` per line, fields quoted as in RFC 4180 where they hold a comma, a quote or a line's end.

#include "models/dataset_list.h"

#include "models/dataset_store.h"

#include <string.h>
#include <strings.h>

struct cursor {
    char *at; /* in a terminated text */
    int line;
};

/* Quotes are taken off in place. Returns the field; *stop is what ended it: ',' or '\n' or 0 at the end; NULL: bad quoting. */
static char *take_quoted(struct cursor *c, char *stop)
{
    char *field = c->at + 1, *out = field, *p = field;
    for (; *p != '"' || p[1] == '"'; p++) {
        if (*p == '\0')
            return NULL;
        if (*p == '"')
            p++;
        else if (*p == '\n')
            c->line++;
        *out++ = *p;
    }
    p++;
    p += strspn(p, " \t\r");
    *stop = *p;
    *out = '\0';
    c->at = *p ? p + 1 : p;
    return *stop == ',' || *stop == '\n' || *stop == '\0' ? field : NULL;
}

static char *take_field(struct cursor *c, char *stop)
{
    c->at += strspn(c->at, " \t");
    if (*c->at == '"')
        return take_quoted(c, stop);
    char *field = c->at, *end = field + strcspn(field, ",\n");
    *stop = *end;
    c->at = *end ? end + 1 : end;
    while (end > field && strchr(" \t\r", end[-1]))
        end--;
    *end = '\0';
    return field;
}

static int check_name(const char *name, struct err *e)
{
    if (*name == '\0')
        return err_set(e, ERR_INPUT, "no file name");
    if (*name == '/')
        return err_set(e, ERR_INPUT, "'%.80s': file names are relative to the directory", name);
    for (const char *part = name; part; part = strchr(part, '/')) {
        part += *part == '/';
        if (part[0] == '.' && part[1] == '.' && (part[2] == '/' || part[2] == '\0'))
            return err_set(e, ERR_INPUT, "'%.80s': file names must not contain '..'", name);
    }
    return 0;
}

static int is_heading(const struct store *store, const char *name, const char *label)
{
    return (strcasecmp(label, "label") == 0 || strcasecmp(label, "class") == 0) && !store_has(store, name);
}

static int take_row(const struct store *store, struct cursor *c, const struct label_names *labels, struct entry_list *out,
                    int *heading, struct err *e)
{
    char stop;
    int label;
    char *name = take_field(c, &stop);
    if (name && stop != ',' && *name == '\0')
        return 0; /* an empty line */
    if (name && stop != ',')
        return err_set(e, ERR_INPUT, "expected `file,label`");
    char *text = name ? take_field(c, &stop) : NULL;
    if (!text)
        return err_set(e, ERR_INPUT, "a quoted field does not end with a quote");
    if (stop == ',')
        return err_set(e, ERR_INPUT, "more than two fields: put a name with a comma in double quotes");
    int first = *heading;
    *heading = 0;
    if (first && is_heading(store, name, text))
        return 0;
    if (check_name(name, e) < 0 || label_find(labels, text, &label, e) < 0)
        return -1;
    return entry_list_add(out, name, label, e);
}

int dataset_csv(const struct store *store, char *text, size_t size, const struct label_names *labels, struct entry_list *out,
                struct err *e)
{
    struct cursor c = {.at = text, .line = 1};
    int heading = 1; /* only the first row may be one */
    if (memchr(text, '\0', size))
        return err_set(e, ERR_DAMAGED, "%.140s/labels.csv: not a text", store->path);
    if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        c.at += 3; /* the mark that spreadsheets put in front of UTF-8 */
    while (*c.at) {
        int line = c.line;
        if (take_row(store, &c, labels, out, &heading, e) < 0)
            return err_prefix(e, "%.140s/labels.csv:%d", store->path, line);
        c.line++;
    }
    return out->count > 0 ? 0 : err_set(e, ERR_INPUT, "%.140s/labels.csv: lists no images", store->path);
}

// SPDX-License-Identifier: MIT

#include "daemon/ctl_table.h"

#include "daemon/ctl.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define CELL_MAX    400 /* bytes of a cell: a file's name, or a label */
#define COLUMNS_MAX 24

const char *ctl_text_of(const cJSON *o, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, name));
}

double ctl_number_of(const cJSON *o, const char *name)
{
    return cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(o, name));
}

static void shape_cell(const cJSON *item, char text[CELL_MAX])
{
    size_t used = 0;
    const cJSON *side;
    cJSON_ArrayForEach(side, item)
    {
        if (used < CELL_MAX - 32)
            used += (size_t)snprintf(text + used, 32, "%s%.0f", used ? "x" : "", cJSON_GetNumberValue(side));
    }
}

static void number_cell(const struct ctl_column *c, double value, char text[CELL_MAX])
{
    value *= c->factor != 0 ? c->factor : 1;
    if (c->kind == CELL_BYTES)
        ctl_size(value, text);
    else if (c->kind == CELL_FIGURE)
        snprintf(text, CELL_MAX, "%.*g", c->digits, value);
    else
        snprintf(text, CELL_MAX, "%.*f", c->digits, value);
}

/* A bar would end a cell of Markdown; a control character might do anything. */
static void plain_cell(const char *from, enum ctl_table_style style, char text[CELL_MAX])
{
    size_t used = 0;
    for (; *from && used < CELL_MAX - 3; from++) {
        if (*from == '|' && style == TABLE_MARKDOWN)
            text[used++] = '\\';
        text[used++] = (unsigned char)*from < ' ' || *from == 127 ? '?' : *from;
    }
    text[used] = '\0';
}

static void cell(const cJSON *row, const struct ctl_column *c, enum ctl_table_style style, char text[CELL_MAX])
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(row, c->field);
    snprintf(text, CELL_MAX, "-");
    if (cJSON_IsString(item))
        plain_cell(item->valuestring, style, text);
    else if (cJSON_IsBool(item))
        snprintf(text, CELL_MAX, "%s", cJSON_IsTrue(item) ? "yes" : "no");
    else if (cJSON_IsArray(item))
        shape_cell(item, text);
    else if (cJSON_IsNumber(item))
        number_cell(c, item->valuedouble, text);
}

/* Characters, not bytes. */
static int width(const char *text)
{
    int n = 0;
    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

/* last: nothing follows that would have to be aligned. */
static void put(FILE *f, const struct ctl_column *c, enum ctl_table_style style, int wide, int first, int last, const char *text)
{
    const int left = c->kind == CELL_TEXT || c->kind == CELL_SHAPE, gap = wide - width(text);
    if (style == TABLE_MARKDOWN)
        fprintf(f, "%s%s |", first ? "| " : " ", text);
    else
        fprintf(f, "%s%*s%s%*s", first ? "" : "  ", left ? 0 : gap, "", text, left && !last ? gap : 0, "");
}

/* The titles, or the cells of a row. */
static void put_line(FILE *f, enum ctl_table_style style, const cJSON *row, const struct ctl_column *columns, const int *wide)
{
    char text[CELL_MAX];
    int first = -1, last = -1;
    for (int i = 0; columns[i].field; i++)
        if (wide[i]) {
            first = first < 0 ? i : first;
            last = i;
        }
    for (int i = 0; i <= last; i++) {
        if (!wide[i])
            continue;
        if (row)
            cell(row, &columns[i], style, text);
        else
            snprintf(text, sizeof text, "%s", columns[i].title);
        put(f, &columns[i], style, wide[i], i == first, i == last, text);
    }
    fprintf(f, "\n");
}

void ctl_table(FILE *f, enum ctl_table_style style, const cJSON *rows, const struct ctl_column *columns)
{
    int wide[COLUMNS_MAX] = {0}; /* 0: nobody knows it */
    char text[CELL_MAX];
    const cJSON *row;
    if (cJSON_GetArraySize(rows) == 0)
        return;
    for (int i = 0; columns[i].field; i++) {
        assert(i < COLUMNS_MAX);
        int known = 0;
        cJSON_ArrayForEach(row, rows)
        {
            const cJSON *item = cJSON_GetObjectItemCaseSensitive(row, columns[i].field);
            cell(row, &columns[i], style, text);
            known |= item && !cJSON_IsNull(item);
            wide[i] = width(text) > wide[i] ? width(text) : wide[i];
        }
        wide[i] = !known ? 0 : wide[i] > width(columns[i].title) ? wide[i] : width(columns[i].title);
    }
    put_line(f, style, NULL, columns, wide);
    if (style == TABLE_MARKDOWN) {
        for (int i = 0; columns[i].field; i++)
            if (wide[i])
                fprintf(f, columns[i].kind == CELL_TEXT || columns[i].kind == CELL_SHAPE ? "|---" : "|---:");
        fprintf(f, "|\n");
    }
    cJSON_ArrayForEach(row, rows) put_line(f, style, row, columns, wide);
}

int ctl_write_report(const char *path, const cJSON *o, ctl_markdown *markdown, struct err *e)
{
    const size_t n = strlen(path);
    if (n < 3 || strcmp(path + n - 3, ".md") != 0)
        return ctl_write_json(path, o, e);
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (!f)
        return err_set(e, ERR_MEMORY, "no memory for the text of %s", path);
    markdown(f, o);
    const int bad = ferror(f) | fclose(f);
    const int rc = bad ? err_set(e, ERR_MEMORY, "no memory for the text of %s", path) : ctl_write_text(path, text, e);
    free(text);
    return rc;
}

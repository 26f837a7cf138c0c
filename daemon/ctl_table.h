// SPDX-License-Identifier: MIT
//
// ctl_table.h - one description of a table, three outputs: the rows are JSON objects, printed as they are for machines, as
// aligned text for a terminal, or as Markdown for a page.

#ifndef DAEMON_CTL_TABLE_H
#define DAEMON_CTL_TABLE_H

#include <cjson/cJSON.h>
#include <stdio.h>

#include "models/err.h"

enum ctl_cell_kind {
    CELL_TEXT,   /* strings, booleans, or whole numbers; to the left */
    CELL_NUMBER, /* factor * value with `digits` decimals */
    CELL_FIGURE, /* with `digits` significant digits */
    CELL_BYTES,  /* "25.6 MB" */
    CELL_SHAPE   /* an array of numbers, "56x56x64"; to the left */
};

struct ctl_column {
    const char *field; /* of the row; NULL ends the columns */
    const char *title;
    enum ctl_cell_kind kind;
    int digits;
    double factor; /* 0: 1 */
};

enum ctl_table_style { TABLE_ALIGNED, TABLE_MARKDOWN };

/* What is null or missing is "-". A column that no row knows is left out, so that nobody reads about top-1 of images without
   labels or zero points of floats. Control characters of names are shown as '?'. Nothing is printed when there are no rows. */
void ctl_table(FILE *f, enum ctl_table_style style, const cJSON *rows, const struct ctl_column *columns);

/* Writes o to path, through a temporary file: by markdown() when the name ends in .md, else as JSON. */
typedef void ctl_markdown(FILE *f, const cJSON *o);
int ctl_write_report(const char *path, const cJSON *o, ctl_markdown *markdown, struct err *e);

/* Fields of an object: NULL, NAN when missing or of another type. */
const char *ctl_text_of(const cJSON *o, const char *name);
double ctl_number_of(const cJSON *o, const char *name);

#endif

// SPDX-License-Identifier: MIT
//
// files.h - what tests need around files: a directory of their own, files in it, and where optional data lies.

#ifndef TESTS_FILES_H
#define TESTS_FILES_H

#include <stddef.h>

/* A new directory under $TMPDIR or /tmp; ends the program when there is none to be had. Free with files_remove_dir. */
char *files_make_dir(void);
void files_remove_dir(char *dir); /* with all it holds */

/* "dir/name", formatted into one of four rotating buffers. */
const char *files_path(const char *dir, const char *name);

/* Creates or replaces dir/name; ends the program on failure. */
void files_write(const char *dir, const char *name, const void *data, size_t size);

/* The whole file, to be freed, with a terminator behind its size bytes; NULL: cannot be read. */
char *files_read(const char *path, size_t *size);

/* Entries of a directory, without . and .. */
int files_count(const char *dir);

/* $variable, else $srcdir/../shared/`folder`, when that is a directory; else prints SKIP with the reason and returns NULL. */
const char *files_shared(const char *variable, const char *folder);

#endif

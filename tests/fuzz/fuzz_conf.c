// SPDX-License-Identifier: MIT
//
// fuzz_conf.c - configuration files: what is accepted must print as a file that is accepted and means the same.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *print(const struct conf *c, size_t *size)
{
    char *text = NULL;
    FILE *f = open_memstream(&text, size);
    if (!f)
        return NULL;
    conf_print(c, f);
    fclose(f);
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct conf *c, *again;
    struct err e;
    size_t n, m;
    if (conf_parse("input", (const char *)data, size, NULL, 0, 4, &c, &e) < 0)
        return 0;
    char *text = print(c, &n);
    if (text && conf_parse("printed", text, n, NULL, 0, 4, &again, &e) == 0) {
        char *second = print(again, &m);
        if (second && strcmp(text, second) != 0)
            abort();
        free(second);
        conf_free(again);
    }
    free(text);
    conf_free(c);
    return 0;
}

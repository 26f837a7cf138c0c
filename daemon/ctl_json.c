// SPDX-License-Identifier: MIT

#include "daemon/ctl.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int ctl_put_item(cJSON *object, const char *name, cJSON *item)
{
    if (item && object && cJSON_AddItemToObject(object, name, item))
        return 0;
    cJSON_Delete(item);
    return -1;
}

int ctl_append(cJSON *array, cJSON *item)
{
    if (item && array && cJSON_AddItemToArray(array, item))
        return 0;
    cJSON_Delete(item);
    return -1;
}

int ctl_put_text(cJSON *object, const char *name, const char *text)
{
    return ctl_put_item(object, name, text ? cJSON_CreateString(text) : cJSON_CreateNull());
}

/* A double made from few digits is printed with few digits again. */
cJSON *ctl_number(double value, int digits)
{
    char text[40];
    if (!isfinite(value))
        return cJSON_CreateNull();
    snprintf(text, sizeof text, "%.*g", digits, value);
    return cJSON_CreateNumber(strtod(text, NULL));
}

int ctl_put_number(cJSON *object, const char *name, double value, int digits)
{
    return ctl_put_item(object, name, ctl_number(value, digits));
}

int ctl_put_raw(cJSON *object, const char *name, const char *json)
{
    return ctl_put_item(object, name, json ? cJSON_Parse(json) : cJSON_CreateNull());
}

cJSON *ctl_whole(cJSON *item, int bad)
{
    if (!bad)
        return item;
    cJSON_Delete(item);
    return NULL;
}

int ctl_print_json(cJSON *item, int bad)
{
    char *text = bad ? NULL : cJSON_Print(item);
    cJSON_Delete(item);
    if (!text) {
        fprintf(stderr, "resnetctl: no memory for the JSON text\n");
        return CTL_FAILED;
    }
    puts(text);
    cJSON_free(text);
    return CTL_DONE;
}

int ctl_write_text(const char *path, const char *text, struct err *e)
{
    char *temporary = NULL;
    if (asprintf(&temporary, "%s.%ld", path, (long)getpid()) < 0)
        return err_set(e, ERR_MEMORY, "no memory for a path");
    FILE *f = fopen(temporary, "wxe"); /* never another's file; unlike mkstemp's, for all to read as the umask says */
    int rc = -1;
    if (f) {
        int bad = fputs(text, f) < 0;
        bad |= fclose(f) != 0;
        rc = bad ? -1 : rename(temporary, path);
    }
    if (rc != 0)
        err_set(e, ERR_IO, "cannot write %s: %s", path, strerror(errno));
    if (rc != 0 && f)
        unlink(temporary);
    free(temporary);
    return rc == 0 ? 0 : -1;
}

int ctl_write_json(const char *path, const cJSON *item, struct err *e)
{
    char *json = cJSON_Print(item), *text = NULL;
    if (!json || asprintf(&text, "%s\n", json) < 0) {
        cJSON_free(json);
        return err_set(e, ERR_MEMORY, "no memory for the text of %s", path);
    }
    int rc = ctl_write_text(path, text, e);
    cJSON_free(json);
    free(text);
    return rc;
}

void ctl_cell(double value, int decimals, char text[24])
{
    if (isfinite(value))
        snprintf(text, 24, "%.*f", decimals, value);
    else
        snprintf(text, 24, "-");
}

// SPDX-License-Identifier: MIT

#include "models/train/checkpoint.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/checkpoint/safetensors.h"

static const char format[] = "resnetd training", version[] = "1";

void checkpoint_free(struct checkpoint *c)
{
    free(c->options);
    free(c->log);
    *c = (struct checkpoint){0};
}

int checkpoint_write(const char *path, const struct checkpoint *c, const struct checkpoint_tensor *tensors, int count,
                     struct err *e)
{
    char epochs[16], seconds[40];
    snprintf(epochs, sizeof epochs, "%d", c->epochs);
    snprintf(seconds, sizeof seconds, "%.3f", c->seconds);
    const struct st_meta meta[] = {{"format", format},   {"format_version", version}, {"epochs", epochs},
                                   {"seconds", seconds}, {"options", c->options},     {"log", c->log}};
    struct st_item *items = calloc((size_t)count + 1, sizeof *items);
    if (!items)
        return err_set(e, ERR_MEMORY, "no memory for a checkpoint");
    for (int i = 0; i < count; i++)
        items[i] = (struct st_item){tensors[i].name, ST_F32, 1, {tensors[i].count}, tensors[i].value};
    const int rc = st_write(path, items, count, meta, (int)(sizeof meta / sizeof *meta), 64, e);
    free(items);
    return rc;
}

/* A whole number or a number of seconds in a field; -1 when it is none. */
static double number(const struct st_file *f, const char *key)
{
    const char *text = st_metadata(f, key);
    char *end;
    errno = 0;
    const double x = text ? strtod(text, &end) : -1;
    return text && end != text && !*end && !errno && x >= 0 && x <= 1e9 ? x : -1;
}

static int read_fields(const char *path, const struct st_file *f, struct checkpoint *out, struct err *e)
{
    const char *kind = st_metadata(f, "format"), *v = st_metadata(f, "format_version");
    if (!kind || strcmp(kind, format))
        return err_set(e, ERR_INPUT, "%s is no checkpoint of a training: it is called checkpoint.safetensors there", path);
    if (!v || strcmp(v, version))
        return err_set(e, ERR_UNSUPPORTED, "%s is a checkpoint of version %.16s, this program knows %s", path, v ? v : "?",
                       version);
    const char *options = st_metadata(f, "options"), *log = st_metadata(f, "log");
    const double epochs = number(f, "epochs"), seconds = number(f, "seconds");
    if (!options || !log || epochs < 0 || epochs != floor(epochs) || seconds < 0)
        return err_set(e, ERR_DAMAGED, "%s lacks options, log, epochs or seconds", path);
    if (strlen(options) > CHECKPOINT_TEXT_MAX || strlen(log) > CHECKPOINT_TEXT_MAX)
        return err_set(e, ERR_TOO_LARGE, "%s holds a text of more than %d bytes", path, CHECKPOINT_TEXT_MAX);
    struct checkpoint c = {(int)epochs, seconds, strdup(options), strdup(log)};
    if (!c.options || !c.log) {
        checkpoint_free(&c);
        return err_set(e, ERR_MEMORY, "no memory for a checkpoint");
    }
    *out = c;
    return 0;
}

int checkpoint_read(const char *path, struct checkpoint *out, struct err *e)
{
    struct st_file *f;
    if (st_open(path, &f, e) != 0)
        return -1;
    const int rc = read_fields(path, f, out, e);
    st_close(f);
    return rc;
}

static int read_tensor(const char *path, const struct st_file *f, const struct checkpoint_tensor *to, struct err *e)
{
    const struct st_tensor *t = st_find(f, to->name);
    if (!t)
        return err_set(e, ERR_INPUT, "%s has no %s: it belongs to another network", path, to->name);
    if (t->dtype != ST_F32 || t->count != to->count)
        return err_set(e, ERR_INPUT, "%s: %s has %lld values, this network has %lld", path, to->name, (long long)t->count,
                       (long long)to->count);
    if (st_read_float(f, t, to->value, e) != 0)
        return -1;
    for (int64_t i = 0; i < to->count; i++)
        if (!isfinite(to->value[i]))
            return err_set(e, ERR_DAMAGED, "%s: %s holds a NaN or infinity", path, to->name);
    return 0;
}

int checkpoint_read_tensors(const char *path, const struct checkpoint_tensor *tensors, int count, struct err *e)
{
    struct st_file *f;
    if (st_open(path, &f, e) != 0)
        return -1;
    int rc = 0;
    for (int i = 0; i < count && rc == 0; i++)
        rc = read_tensor(path, f, &tensors[i], e);
    if (rc == 0 && st_count(f) != count)
        rc = err_set(e, ERR_INPUT, "%s has %d tensors, this network %d: it belongs to another network", path, st_count(f), count);
    st_close(f);
    return rc;
}

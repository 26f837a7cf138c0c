// SPDX-License-Identifier: MIT
//
// ctl_export.c - a model file -> ONNX, so that other runtimes can run it and check ours.

#include "config.h"

#include "daemon/ctl.h"

#include <stdio.h>
#include <string.h>

#include "models/checkpoint/onnx_write.h"
#include "models/file.h"

struct options {
    const char *output;
    int json;
};

static const struct ctl_option options[] = {
    {"output", 'o', CTL_TEXT, offsetof(struct options, output), 0, 0, "FILE.onnx", "where to write"},
    {"json", 0, CTL_FLAG, offsetof(struct options, json), 0, 0, NULL, "print the result as JSON"},
    {0},
};

static const struct ctl_usage usage = {"export MODEL -o FILE.onnx [--json]",
                                       "Writes a model file as ONNX: int8 as QDQ, the other precisions in float.", options, 1, 1};

static int export(const struct network *n, const char *path, struct err *e)
{
#ifdef HAVE_ONNX
    return onnx_write(path, n, e);
#else
    (void)n;
    return err_set(e, ERR_UNSUPPORTED, "%s: ONNX needs protobuf-c, which this build is without", path);
#endif
}

/* The file itself, or the only one of a directory. */
static int find_file(char *const *argument, struct ctl_files *f, struct err *e)
{
    if (ctl_files_find(argument, 1, f, e) != 0)
        return -1;
    if (f->count == 1)
        return 0;
    err_set(e, ERR_INPUT, "%s holds %d precisions; name the file of one, such as %s", *argument, f->count, f->paths[0]);
    ctl_files_free(f);
    return -1;
}

static int report(const struct network *n, const char *path, int json)
{
    const int quantised = n->precision == PRECISION_INT8;
    const long long bytes = ctl_file_bytes(path);
    if (json) {
        cJSON *o = cJSON_CreateObject();
        int bad = ctl_put_text(o, "file", path);
        bad |= ctl_put_text(o, "name", n->name);
        bad |= ctl_put_text(o, "precision", precision_name(n->precision));
        bad |= ctl_put_text(o, "kind", quantised ? "qdq" : "float");
        bad |= ctl_put_number(o, "opset", ONNX_WRITE_OPSET, 9);
        bad |= ctl_put_number(o, "file_bytes", (double)bytes, 17);
        return ctl_print_json(o, bad);
    }
    char size[16];
    ctl_size((double)bytes, size);
    printf("%s: %s in %s as %s ONNX, opset %d, %s\n", path, n->name, precision_name(n->precision), quantised ? "QDQ" : "float",
           ONNX_WRITE_OPSET, size);
    return CTL_DONE;
}

int ctl_export(int argc, char **argv)
{
    struct options o = {0};
    int status, first = ctl_parse(&usage, argc, argv, &o, &status);
    if (first < 0)
        return status;
    const size_t length = o.output ? strlen(o.output) : 0;
    if (length < 6 || strcmp(o.output + length - 5, ".onnx") != 0)
        return ctl_wrong(&usage, "-o says where to write, a name that ends in .onnx");

    struct ctl_files files;
    struct network n = {0};
    struct err e;
    if (find_file(argv + first, &files, &e) != 0)
        return ctl_fail(&e);
    if (model_file_read(files.paths[0], &n, &e) != 0 || export(&n, o.output, &e) != 0)
        status = ctl_fail(&e);
    else
        status = report(&n, o.output, o.json);
    network_free(&n);
    ctl_files_free(&files);
    return status;
}

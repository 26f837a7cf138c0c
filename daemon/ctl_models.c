// SPDX-License-Identifier: MIT
//
// ctl_models.c - what every command that runs a network needs first: files, kernels, threads, a session.

#include "daemon/ctl.h"
#include "daemon/clock.h"
#include "daemon/threads.h"

#include <errno.h>
#include <limits.h>
#include <pthreadpool.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernels/cpu.h"
#include "models/file.h"
#include "models/selftest.h"

#define SUFFIX ".safetensors"

static int add_file(struct ctl_files *f, const char *path, struct err *e)
{
    char **more = realloc(f->paths, sizeof *more * ((size_t)f->count + 1));
    if (more)
        f->paths = more;
    char *copy = strdup(path);
    if (!more || !copy) {
        free(copy);
        return err_set(e, ERR_MEMORY, "no memory for the list of files");
    }
    f->paths[f->count++] = copy;
    return 0;
}

static int add_directory(struct ctl_files *f, const char *path, struct err *e)
{
    char file[PATH_MAX];
    int before = f->count;
    for (int p = 0; p < PRECISIONS; p++) {
        int n = snprintf(file, sizeof file, "%s/%s" SUFFIX, path, precision_name((enum precision)p));
        if (n < 0 || (size_t)n >= sizeof file)
            return err_set(e, ERR_INPUT, "the path %s is too long", path);
        if (access(file, F_OK) == 0 && add_file(f, file, e) != 0)
            return -1;
    }
    if (f->count == before)
        return err_set(e, ERR_NOT_FOUND, "%s holds no model file (fp32" SUFFIX ", fp16" SUFFIX ", ...)", path);
    return 0;
}

int ctl_files_find(char *const *args, int count, struct ctl_files *out, struct err *e)
{
    struct ctl_files f = {0};
    for (int i = 0; i < count; i++) {
        struct stat st;
        int rc;
        if (stat(args[i], &st) != 0)
            rc = err_set(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "cannot open %s: %s", args[i], strerror(errno));
        else
            rc = S_ISDIR(st.st_mode) ? add_directory(&f, args[i], e) : add_file(&f, args[i], e);
        if (rc != 0) {
            ctl_files_free(&f);
            return -1;
        }
    }
    *out = f;
    return 0;
}

void ctl_files_free(struct ctl_files *f)
{
    for (int i = 0; i < f->count; i++)
        free(f->paths[i]);
    free(f->paths);
    *f = (struct ctl_files){0};
}

int ctl_output_is_file(const char *out)
{
    size_t n = strlen(out), s = strlen(SUFFIX);
    return n > s && strcmp(out + n - s, SUFFIX) == 0;
}

char *ctl_output_path(const char *out, enum precision p, struct err *e)
{
    char *path = NULL;
    if (ctl_output_is_file(out)) {
        path = strdup(out);
    } else {
        if (mkdir(out, 0777) != 0 && errno != EEXIST) {
            err_set(e, ERR_IO, "cannot make the directory %s: %s", out, strerror(errno));
            return NULL;
        }
        if (asprintf(&path, "%s/%s" SUFFIX, out, precision_name(p)) < 0)
            path = NULL;
    }
    if (!path)
        err_set(e, ERR_MEMORY, "no memory for a path");
    return path;
}

int ctl_kernels(const char *name, const struct kernels **out, struct err *e)
{
    unsigned have = cpu_features();
    *out = kernels_pick(have, name);
    if (*out)
        return 0;
    char names[160] = "auto";
    size_t used = strlen(names);
    for (const struct kernels *k = kernels_table; k->name && used < sizeof names; k++)
        if (!(k->need & ~have))
            used += (size_t)snprintf(names + used, sizeof names - used, ", %s", k->name);
    if (name && kernels_find(name))
        return err_set(e, ERR_UNSUPPORTED, "this CPU cannot run the kernels %s; it can run: %s", name, names);
    return err_set(e, ERR_INPUT, "there are no kernels named %s; this CPU can run: %s", name ? name : "auto", names);
}

int ctl_cpus(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return CPU_COUNT(&set);
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 && n < INT_MAX ? (int)n : 1;
}

int ctl_pool(int *threads, struct pthreadpool **out, struct err *e)
{
    if (*threads == 0)
        *threads = ctl_cpus();
    *out = NULL;
    const int rc = *threads > 1 ? threads_pool(*threads, 0, out) : 0;
    return rc ? err_set(e, ERR_MEMORY, "cannot start %d threads: %s", *threads, strerror(rc)) : 0;
}

int ctl_write_model(const char *path, struct network *n, struct pthreadpool *pool, struct err *e)
{
    return selftest_make(n, pool, e) < 0 ? -1 : model_file_write(path, n, e);
}

static int attach(struct model *model, int batch, struct pthreadpool *pool, struct ctl_model *out, struct err *e)
{
    struct ctl_model m = {.model = model, .network = model_network(model), .classes = model_classes(model)};
    model_input_size(model, &m.width, &m.height);
    if (batch > 0 && session_new(model, batch, pool, &m.session, e) != 0) {
        model_free(model);
        return -1;
    }
    *out = m;
    return 0;
}

int ctl_model_open(const char *path, const struct kernels *k, int batch, struct pthreadpool *pool, struct ctl_model *out,
                   struct err *e)
{
    struct model *model;
    double start = ctl_now_ms();
    if (model_load(path, k, pool, &model, e) != 0)
        return -1;
    double end = ctl_now_ms();
    if (attach(model, batch, pool, out, e) != 0)
        return err_prefix(e, "%s", path);
    out->load_ms = end - start;
    return 0;
}

int ctl_model_make(const struct network *n, const struct kernels *k, struct pthreadpool *pool, struct ctl_model *out,
                   struct err *e)
{
    struct model *model;
    return model_from_network(n, k, &model, e) == 0 ? attach(model, 1, pool, out, e) : -1;
}

void ctl_model_close(struct ctl_model *m)
{
    session_free(m->session);
    model_free(m->model);
    *m = (struct ctl_model){0};
}

int ctl_name_from_path(const char *path, char name[NETWORK_NAME_MAX])
{
    static const char *const suffixes[] = {".safetensors", ".pth", ".pt", ".onnx", ".tflite"};
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    size_t start = end;
    while (start > 0 && path[start - 1] != '/')
        start--;
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        size_t suffix = strlen(suffixes[i]);
        if (end - start > suffix && !strncmp(path + end - suffix, suffixes[i], suffix)) {
            end -= suffix;
            break;
        }
    }
    while (start < end && path[start] == '.')
        start++;
    size_t n = 0;
    for (; start < end && n < NETWORK_NAME_MAX - 1; start++, n++) {
        char c = path[start];
        int fine = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
        name[n] = fine ? c : '-';
    }
    name[n] = '\0';
    return n > 0;
}

double ctl_now_ms(void)
{
    return (double)clock_us() / 1e3;
}

long long ctl_file_bytes(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? (long long)st.st_size : -1;
}

void ctl_shape(const struct node *n, char text[48])
{
    snprintf(text, 48, "%dx%dx%d", n->h, n->w, n->c);
}

void ctl_window(const struct node *n, char text[48])
{
    int used = 0;
    text[0] = '\0';
    if (n->op == OP_CONV || n->op == OP_MAXPOOL)
        used = snprintf(text, 48, "%dx%d", n->kernel_h, n->kernel_w);
    if (n->stride_h != 1 || n->stride_w != 1)
        used += snprintf(text + used, 48 - (size_t)used, "/%d", n->stride_h);
    if (n->groups > 1)
        snprintf(text + used, 48 - (size_t)used, " g%d", n->groups);
}

void ctl_size(double bytes, char text[16])
{
    static const char *const units[] = {"B", "kB", "MB", "GB"};
    int u = 0;
    for (; bytes >= 1000 && u < 3; u++)
        bytes /= 1000;
    snprintf(text, 16, u ? "%.1f %s" : "%.0f %s", bytes, units[u]);
}

// SPDX-License-Identifier: MIT
#include "daemon/registry.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <pthreadpool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/threads.h"
#include "models/file.h"
#include "models/selftest.h"

/* Below this many multiplications per image a barrier after every layer costs more than a second thread saves, and much more when
   other processes want the CPU too. */
#define SMALL_MACS 100000000

struct entry {
    int used;
    char name[NETWORK_NAME_MAX];
    char path[PATH_MAX];
    int wanted, keep; /* as configured: PRECISION_AUTO or a precision; bits */
    int active;
    struct loaded *resident[PRECISIONS];
    int failed; /* bits of precisions that are wanted but did not pass their self-test at start */
    char why[sizeof((struct err *)0)->text];
};

struct registry {
    struct budget *budget;
    const struct kernels *kernels;
    int tasks;
    pthread_mutex_t lock; /* guards entries; held for pointers only */
    struct entry entries[MODELS_MAX];
    int order[MODELS_MAX], count; /* slots in the order of the configuration */
};

struct registry *registry_new(struct budget *b, const struct kernels *k, int tasks)
{
    struct registry *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->budget = b;
    r->kernels = k;
    r->tasks = tasks;
    pthread_mutex_init(&r->lock, NULL);
    return r;
}

static void entry_clear(struct entry *n)
{
    for (int p = 0; p < PRECISIONS; p++)
        loaded_free(n->resident[p]);
    memset(n->resident, 0, sizeof n->resident);
}

void registry_free(struct registry *r)
{
    if (!r)
        return;
    for (int i = 0; i < MODELS_MAX; i++)
        entry_clear(&r->entries[i]);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

void loaded_free(struct loaded *l)
{
    if (!l || atomic_fetch_sub(&l->refs, 1) != 1)
        return;
    model_free(l->model);
    budget_release(l->budget, l->reserved);
    free(l);
    malloc_trim(0); /* tens of megabytes: the machine wants them back now */
}

/* 1, 0, or -1 when that cannot be told now: then no other precision may take its place. */
static int file_there(const char *path, enum precision p, struct err *e)
{
    char file[PATH_MAX];
    if (model_path(path, p, file, sizeof file, e) < 0)
        return e->code == ERR_NOT_FOUND ? 0 : -1;
    if (access(file, R_OK) == 0)
        return 1;
    return errno == ENOENT || errno == EACCES ? 0 : err_set(e, ERR_IO, "%s: %s", file, strerror(errno));
}

/* Bits of the precisions that can be loaded from path; 0: none, and e says why. */
static int available_at(const char *path, struct err *e)
{
    struct stat st;
    int bits = 0;
    if (stat(path, &st) < 0) {
        err_set(e, ERR_NOT_FOUND, "%s: %s", path, strerror(errno));
        return 0;
    }
    if (S_ISREG(st.st_mode)) {
        struct network n = {0};
        if (model_file_header(path, &n, e) == 0)
            bits = 1 << n.precision;
        network_free(&n);
        return bits;
    }
    for (int p = 0; p < PRECISIONS; p++) {
        int there = file_there(path, (enum precision)p, e);
        if (there < 0)
            return 0;
        bits |= there << p;
    }
    if (!bits)
        err_set(e, ERR_NOT_FOUND, "no model file (fp32, fp16, hybrid or int8.safetensors) in %s", path);
    return bits;
}

/* The precision that a model begins with. */
static int choose(const char *name, const char *path, int wanted, int available, struct err *e)
{
    static const enum precision best_first[PRECISIONS] = {PRECISION_INT8, PRECISION_HYBRID, PRECISION_FP16, PRECISION_FP32};
    if (!available)
        return err_prefix(e, "model %s", name);
    int p = wanted;
    for (int i = 0; p == PRECISION_AUTO; i++)
        if (available & 1 << best_first[i])
            p = (int)best_first[i];
    return available & 1 << p ? p
                              : err_set(e, ERR_NOT_FOUND, "model %s: precision %s is not installed in %s", name,
                                        precision_name((enum precision)p), path);
}

/* 0, SELFTEST_FAILED, or -1. */
static int load(struct registry *r, const char *name, int slot, const char *path, enum precision p, struct loaded **out,
                struct err *e)
{
    char file[PATH_MAX];
    struct stat st;
    struct loaded *l = calloc(1, sizeof *l);
    if (!l)
        return err_set(e, ERR_MEMORY, "no memory for model %s", name);
    atomic_init(&l->refs, 1);
    l->slot = slot;
    l->precision = p;
    l->budget = r->budget;
    snprintf(l->name, sizeof l->name, "%s", name);
    int rc = -1;
    /* As many threads as a request gets, for as long as this takes; one that cannot be had is done without. */
    struct pthreadpool *pool = NULL;
    if (r->tasks > 1)
        (void)threads_pool(r->tasks, 0, &pool);
    if (model_path(path, p, file, sizeof file, e) < 0)
        goto failed;
    if (stat(file, &st) < 0) {
        err_set(e, ERR_NOT_FOUND, "%s is not there", file);
        goto failed;
    }
    /* The file's size foretells the packed size closely enough to refuse before anything is allocated. */
    if (budget_reserve(r->budget, (size_t)st.st_size, file, e) < 0)
        goto failed;
    l->reserved = (size_t)st.st_size;
    if (model_load(file, r->kernels, pool, &l->model, e) < 0)
        goto failed;
    if (model_network(l->model)->precision != p) {
        err_set(e, ERR_DAMAGED, "%s holds precision %s", file, precision_name(model_network(l->model)->precision));
        goto failed;
    }
    l->weight_bytes = model_weight_bytes(l->model);
    l->tasks = graph_macs(&model_network(l->model)->graph) < SMALL_MACS ? 1 : r->tasks;
    l->arena_bytes = model_arena_bytes(l->model, 1, l->tasks);
    if (l->weight_bytes > l->reserved && budget_reserve(r->budget, l->weight_bytes - l->reserved, file, e) < 0)
        goto failed;
    if (l->weight_bytes < l->reserved)
        budget_release(r->budget, l->reserved - l->weight_bytes);
    l->reserved = l->weight_bytes;
    if (budget_reserve(r->budget, l->arena_bytes, "the self-test", e) < 0)
        goto failed;
    rc = selftest_run(l->model, l->tasks > 1 ? pool : NULL, e);
    budget_release(r->budget, l->arena_bytes);
    if (rc != 0) {
        err_prefix(e, "model %s: %s", name, precision_name(p));
        goto failed;
    }
    model_drop_selftest(l->model);
    log_info("loaded %s %s: %zu kB of weights, %zu kB per session, %s, sha256 %.12s", name, precision_name(p),
             l->weight_bytes / 1024, l->arena_bytes / 1024, model_kernels(l->model)->name, model_network(l->model)->digest);
    pthreadpool_destroy(pool);
    *out = l;
    return 0;
failed:
    pthreadpool_destroy(pool);
    loaded_free(l);
    return rc;
}

/* 1 when the file at path still is what l was loaded from. */
static int unchanged(const struct loaded *l, const char *path)
{
    char file[PATH_MAX];
    struct network n = {0};
    struct err e;
    int same = model_path(path, l->precision, file, sizeof file, &e) == 0 && model_file_header(file, &n, &e) == 0 &&
               strcmp(n.digest, model_network(l->model)->digest) == 0;
    network_free(&n);
    return same;
}

/* A name keeps its slot for the life of the process: metrics of one model must not continue those of another. */
static int slot_of(const struct registry *r, const struct entry *next, const char *name, struct err *e)
{
    for (int i = 0; i < MODELS_MAX; i++)
        if (r->entries[i].used && strcmp(r->entries[i].name, name) == 0)
            return i;
    for (int i = 0; i < MODELS_MAX; i++)
        if (!r->entries[i].used && !next[i].used)
            return i;
    return err_set(e, ERR_TOO_LARGE, "more than %d model names since the start: restart to forget the old ones", MODELS_MAX);
}

/* Fills *n with references to what stays and with what had to be loaded. */
static int stage(struct registry *r, int slot, const struct conf_model *m, struct entry *n, struct err *e)
{
    const struct entry *old = &r->entries[slot];
    int available = available_at(m->path, e);
    n->used = 1;
    n->wanted = m->precision;
    n->keep = m->keep;
    snprintf(n->name, sizeof n->name, "%s", m->name);
    snprintf(n->path, sizeof n->path, "%s", m->path);
    /* What an operator switched to stays, unless the configuration now says something else or the file is gone. */
    int stays = old->used && old->resident[old->active] && old->wanted == m->precision && (available & 1 << old->active);
    n->active = stays ? old->active : choose(m->name, m->path, m->precision, available, e);
    if (n->active < 0)
        return -1;
    for (int p = 0; p < PRECISIONS; p++) {
        if (p != n->active && !(m->keep & 1 << p))
            continue;
        if (choose(m->name, m->path, p, available, e) < 0)
            return -1;
        struct loaded *l = old->resident[p];
        if (l && unchanged(l, m->path)) {
            atomic_fetch_add(&l->refs, 1);
            n->resident[p] = l;
            continue;
        }
        const int rc = load(r, m->name, slot, m->path, (enum precision)p, &n->resident[p], e);
        if (rc == SELFTEST_FAILED && r->count == 0) { /* at start: nothing else could serve, and staying tells why */
            log_error("not ready: %s", e->text);
            memcpy(n->why, e->text, sizeof n->why);
            n->failed |= 1 << p;
        } else if (rc != 0) {
            return -1;
        }
    }
    return 0;
}

int registry_apply(struct registry *r, const struct conf *c, struct err *e)
{
    /* Only this thread changes entries, so they can be read without the lock. */
    struct entry *next = calloc(MODELS_MAX, sizeof *next);
    int order[MODELS_MAX];
    if (!next)
        return err_set(e, ERR_MEMORY, "no memory for the list of models");
    for (int i = 0; i < c->model_count; i++) {
        int slot = slot_of(r, next, c->models[i].name, e);
        if (slot < 0 || stage(r, slot, &c->models[i], &next[slot], e) < 0) {
            for (int j = 0; j < MODELS_MAX; j++)
                entry_clear(&next[j]);
            free(next);
            return -1;
        }
        order[i] = slot;
    }
    pthread_mutex_lock(&r->lock);
    for (int i = 0; i < MODELS_MAX; i++) {
        struct entry old = r->entries[i];
        if (!next[i].used) { /* the name keeps its slot */
            next[i] = (struct entry){.used = old.used};
            memcpy(next[i].name, old.name, sizeof old.name);
        }
        r->entries[i] = next[i];
        next[i] = old;
    }
    memcpy(r->order, order, sizeof order);
    r->count = c->model_count;
    for (int i = 0; i < MODELS_MAX; i++)
        for (int p = 0; p < PRECISIONS; p++)
            if (next[i].resident[p] && next[i].resident[p] != r->entries[i].resident[p])
                atomic_store(&next[i].resident[p]->retired, 1);
    pthread_mutex_unlock(&r->lock);
    for (int i = 0; i < MODELS_MAX; i++)
        entry_clear(&next[i]);
    free(next);
    return 0;
}

int registry_check(const struct conf *c, struct err *e)
{
    for (int i = 0; i < c->model_count; i++) {
        const struct conf_model *m = &c->models[i];
        int available = available_at(m->path, e);
        int active = choose(m->name, m->path, m->precision, available, e);
        if (active < 0)
            return -1;
        for (int p = 0; p < PRECISIONS; p++) {
            char file[PATH_MAX];
            struct network n = {0};
            if (p != active && !(m->keep & 1 << p))
                continue;
            int rc = choose(m->name, m->path, p, available, e) < 0 ||
                     model_path(m->path, (enum precision)p, file, sizeof file, e) < 0 || model_file_header(file, &n, e) < 0;
            network_free(&n);
            if (rc)
                return -1;
        }
    }
    return 0;
}

/* With the lock held; NULL: no such model. */
static struct entry *find(struct registry *r, const char *model)
{
    for (int i = 0; i < r->count; i++)
        if (!model || strcmp(r->entries[r->order[i]].name, model) == 0)
            return &r->entries[r->order[i]];
    return NULL;
}

struct loaded *registry_get(struct registry *r, const char *model, int precision, struct err *e)
{
    struct loaded *l = NULL;
    char path[PATH_MAX] = "";
    int failed = 0;
    pthread_mutex_lock(&r->lock);
    const struct entry *n = find(r, model);
    if (n) {
        precision = precision == PRECISION_AUTO ? n->active : precision;
        l = n->resident[precision];
        if (l)
            atomic_fetch_add(&l->refs, 1);
        memcpy(path, n->path, sizeof path);
        failed = n->failed & 1 << precision;
        if (failed)
            err_set(e, ERR_DAMAGED, "%s", n->why);
    }
    pthread_mutex_unlock(&r->lock);
    if (l || failed)
        return l;
    if (!n) {
        err_set(e, ERR_NOT_FOUND, model ? "there is no model '%s' here" : "no model is loaded", model);
    } else if (available_at(path, e) & 1 << precision) {
        err_set(e, ERR_BUSY,
                "precision %s is installed but not in memory: make it the active one (PUT /precision) or name it in the "
                "configuration's keep",
                precision_name((enum precision)precision));
    } else {
        err_set(e, ERR_NOT_FOUND, "precision %s is not installed for this model", precision_name((enum precision)precision));
    }
    return NULL;
}

int registry_ready(struct registry *r, struct err *e)
{
    int rc = 0;
    pthread_mutex_lock(&r->lock);
    for (int i = 0; i < r->count && rc == 0; i++) {
        const struct entry *n = &r->entries[r->order[i]];
        if (n->failed & (1 << n->active | n->keep))
            rc = err_set(e, ERR_DAMAGED, "%s", n->why);
    }
    pthread_mutex_unlock(&r->lock);
    return rc;
}

int registry_states(struct registry *r, struct model_state out[MODELS_MAX])
{
    char path[PATH_MAX];
    struct err e;
    pthread_mutex_lock(&r->lock);
    int count = r->count;
    for (int i = 0; i < count; i++) {
        const struct entry *n = &r->entries[r->order[i]];
        out[i].slot = r->order[i];
        out[i].active = n->active;
        memcpy(out[i].name, n->name, sizeof out[i].name);
        memcpy(out[i].resident, n->resident, sizeof out[i].resident);
        for (int p = 0; p < PRECISIONS; p++)
            if (out[i].resident[p])
                atomic_fetch_add(&out[i].resident[p]->refs, 1);
    }
    pthread_mutex_unlock(&r->lock);
    for (int i = 0; i < count; i++) { /* files are looked at outside the lock */
        pthread_mutex_lock(&r->lock);
        memcpy(path, r->entries[out[i].slot].path, sizeof path);
        pthread_mutex_unlock(&r->lock);
        out[i].available = available_at(path, &e);
    }
    return count;
}

void registry_release(struct model_state *states, int count)
{
    for (int i = 0; i < count; i++)
        for (int p = 0; p < PRECISIONS; p++)
            loaded_free(states[i].resident[p]);
}

int registry_switch(struct registry *r, const char *model, enum precision p, enum precision *previous, int *slot, struct err *e)
{
    struct loaded *fresh = NULL, *old = NULL;
    struct entry *n = find(r, model); /* only this thread changes entries */
    if (!n)
        return err_set(e, ERR_NOT_FOUND, model ? "there is no model '%s' here" : "no model is loaded", model);
    *previous = (enum precision)n->active;
    *slot = (int)(n - r->entries);
    if (n->active == (int)p && n->resident[p])
        return 0;
    if (!n->resident[p]) {
        if (!(available_at(n->path, e) & 1 << p))
            return err_set(e, ERR_NOT_FOUND, "precision %s is not installed for model %s", precision_name(p), n->name);
        if (load(r, n->name, *slot, n->path, p, &fresh, e) != 0)
            return -1;
    }
    pthread_mutex_lock(&r->lock);
    if (fresh)
        n->resident[p] = fresh;
    n->failed &= ~(1 << p);
    if (n->active != (int)p && !(n->keep & 1 << n->active)) {
        old = n->resident[n->active];
        n->resident[n->active] = NULL;
        if (old)
            atomic_store(&old->retired, 1);
    }
    n->active = (int)p;
    pthread_mutex_unlock(&r->lock);
    loaded_free(old);
    return 0;
}

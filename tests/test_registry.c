// SPDX-License-Identifier: MIT
//
// test_registry.c - which precisions of which models are in memory and which one answers: what is chosen, kept, replaced and
// refused, and that every step that fails, for want of a file, of memory or of room in the budget, leaves everything as it was.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/registry.h"
#include "kernels/cpu.h"
#include "models/file.h"
#include "models/selftest.h"
#include "tests/files.h"
#include "tests/networks.h"
#include "tests/scarce.h"

#define ROOM  ((size_t)1 << 30)
#define PROSE 400000

/* The n-th look at a file from now fails, as one at a file that is gone unless look_error says otherwise; -1: none. */
static _Atomic int looks_left = -1;
static int look_error = ENOENT;

int __real_stat(const char *path, struct stat *st);
int __real_access(const char *path, int mode);
int __wrap_stat(const char *path, struct stat *st);
int __wrap_access(const char *path, int mode);

static int gone(void)
{
    if (looks_left < 0 || looks_left-- > 0)
        return 0;
    errno = look_error;
    return 1;
}

int __wrap_stat(const char *path, struct stat *st)
{
    return gone() ? -1 : __real_stat(path, st);
}

int __wrap_access(const char *path, int mode)
{
    return gone() ? -1 : __real_access(path, mode);
}

static struct network nets[PRECISIONS];
static char *dir;
static struct budget budget;

/* ---- files and configurations ---- */

/* dir/model/<precision>.safetensors */
static void put(const char *model, enum precision p, const struct network *n)
{
    char path[4200];
    struct err e;
    snprintf(path, sizeof path, "%s/%s", dir, model);
    (void)mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/%s/%s.safetensors", dir, model, precision_name(p));
    if (model_file_write(path, n, &e) < 0)
        fail_msg("%s", e.text);
}

static void put_all(const char *model, int bits)
{
    for (int p = 0; p < PRECISIONS; p++)
        if (bits & 1 << p)
            put(model, (enum precision)p, &nets[p]);
}

static void drop(const char *model, enum precision p)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/%s/%s.safetensors", dir, model, precision_name(p));
    assert_int_equal(unlink(path), 0);
}

/* A file whose sums come out otherwise than it says. */
static void put_wrong(const char *model, enum precision p)
{
    struct network *n = &nets[p];
    struct err e;
    assert_int_equal(selftest_make(n, NULL, &e), 0);
    n->selftest.logits[0] += 100;
    put(model, p, n);
    selftest_free(&n->selftest);
}

/* The same weights but one. */
static void put_changed(const char *model, enum precision p)
{
    struct network *n = &nets[p];
    float *bias = n->layers[1].bias;
    assert_non_null(bias);
    bias[0] += 1;
    put(model, p, n);
    bias[0] -= 1;
}

/* text: sections; $ stands for the directory. */
static struct conf *configure(const char *text)
{
    char *all = malloc(strlen(text) + 64 * strlen(dir)), *end = all;
    struct conf *c;
    struct err e;
    assert_non_null(all);
    for (; *text; text++)
        if (*text == '$')
            end = stpcpy(end, dir);
        else
            *end++ = *text;
    if (conf_parse("test", all, (size_t)(end - all), NULL, 0, 2, &c, &e) < 0)
        fail_msg("%s", e.text);
    free(all);
    return c;
}

static int apply(struct registry *r, const char *text, struct err *e)
{
    struct conf *c = configure(text);
    int rc = registry_apply(r, c, e);
    conf_free(c);
    return rc;
}

static int check(const char *text, struct err *e)
{
    struct conf *c = configure(text);
    int rc = registry_check(c, e);
    conf_free(c);
    return rc;
}

static struct registry *new_registry(int tasks)
{
    atomic_store(&budget.limit, ROOM);
    struct registry *r = registry_new(&budget, kernels_pick(cpu_features(), "auto"), tasks);
    assert_non_null(r);
    return r;
}

static struct registry *begin(const char *text)
{
    struct registry *r = new_registry(1);
    struct err e;
    if (apply(r, text, &e) < 0)
        fail_msg("%s", e.text);
    return r;
}

/* All memory is given back. */
static void end(struct registry *r)
{
    registry_free(r);
    assert_int_equal(atomic_load(&budget.used), 0);
}

static void must_apply(struct registry *r, const char *text)
{
    struct err e;
    if (apply(r, text, &e) < 0)
        fail_msg("%s", e.text);
}

static void wrong(int rc, const struct err *e, enum err_code code, const char *part)
{
    assert_int_equal(rc, -1);
    if (e->code != code || !strstr(e->text, part))
        fail_msg("code %d instead of %d: '%s' without '%s'", (int)e->code, (int)code, e->text, part);
}

/* What is there, as text: "NAME active resident,resident\n" of each model. */
static const char *state_text(struct registry *r)
{
    static char text[4096];
    struct model_state states[MODELS_MAX];
    int n = registry_states(r, states);
    char *at = text;
    *at = '\0';
    for (int i = 0; i < n; i++) {
        at += sprintf(at, "%s %s", states[i].name, precision_name((enum precision)states[i].active));
        for (int p = 0; p < PRECISIONS; p++)
            if (states[i].resident[p])
                at += sprintf(at, " +%s", precision_name((enum precision)p));
        at += sprintf(at, "\n");
    }
    registry_release(states, n);
    return text;
}

static void state_is(struct registry *r, const char *expected)
{
    assert_string_equal(state_text(r), expected);
}

static int active(struct registry *r, const char *model)
{
    struct err e;
    struct loaded *l = registry_get(r, model, PRECISION_AUTO, &e);
    int p = l ? (int)l->precision : -1;
    loaded_free(l);
    return p;
}

static int switch_to(struct registry *r, const char *model, enum precision p, struct err *e)
{
    enum precision previous;
    int slot;
    return registry_switch(r, model, p, &previous, &slot, e);
}

static void must_switch(struct registry *r, const char *model, enum precision p)
{
    struct err e;
    if (switch_to(r, model, p, &e) < 0)
        fail_msg("%s", e.text);
}

/* ---- tests ---- */

static void the_best(void **state)
{
    static const enum precision best[] = {PRECISION_INT8, PRECISION_HYBRID, PRECISION_FP16, PRECISION_FP32};
    char name[32], text[100];
    struct err e;
    (void)state;
    for (int bits = 1; bits < 1 << PRECISIONS; bits++) {
        int expected = 0;
        while (!(bits & 1 << best[expected]))
            expected++;
        snprintf(name, sizeof name, "best%d", bits);
        put_all(name, bits);
        snprintf(text, sizeof text, "[model.m]\npath = $/%s\n", name);
        assert_int_equal(check(text, &e), 0);
        struct registry *r = begin(text);
        assert_int_equal(active(r, "m"), best[expected]);
        for (int p = 0; p < PRECISIONS; p++) {
            snprintf(text, sizeof text, "[model.m]\npath = $/%s\nprecision = %s\n", name, precision_name((enum precision)p));
            int there = (bits & 1 << p) != 0;
            if (there) {
                assert_int_equal(check(text, &e), 0);
                must_apply(r, text);
                assert_int_equal(active(r, "m"), p);
            } else {
                wrong(check(text, &e), &e, ERR_NOT_FOUND, "not installed");
                wrong(apply(r, text, &e), &e, ERR_NOT_FOUND, "not installed");
            }
        }
        end(r);
    }
}

static void nothing_to_load(void **state)
{
    static const struct {
        const char *text;
        enum err_code code;
        const char *part;
    } cases[] = {
        {"[model.m]\npath = $/nowhere\n", ERR_NOT_FOUND, "model m: "},
        {"[model.m]\npath = $/nowhere\nprecision = int8\n", ERR_NOT_FOUND, "No such file"},
        {"[model.m]\npath = $/empty\n", ERR_NOT_FOUND, "no model file"},
        {"[model.m]\npath = $/empty\nprecision = fp16\n", ERR_NOT_FOUND, "no model file"},
        {"[model.m]\npath = $/damaged\n", ERR_DAMAGED, "model m: "},
        {"[model.m]\npath = $/one/int8.safetensors\nprecision = fp32\n", ERR_NOT_FOUND, "not installed"},
        {"[model.m]\npath = $/one\nkeep = fp32\n", ERR_NOT_FOUND, "not installed"},
        {"[model.m]\npath = $/bad\n", ERR_DAMAGED, "fp16.safetensors"},
        {"[model.m]\npath = $/bad\nprecision = fp32\nkeep = fp16\n", ERR_DAMAGED, "fp16.safetensors"},
        {"[model.a]\npath = $/one\n[model.m]\npath = $/empty\n", ERR_NOT_FOUND, "no model file"},
    };
    char path[4200];
    struct err e;
    (void)state;
    snprintf(path, sizeof path, "%s/empty", dir);
    assert_int_equal(mkdir(path, 0700), 0);
    files_write(dir, "damaged", "no model", 8);
    put_all("one", 1 << PRECISION_INT8);
    put_all("bad", 1 << PRECISION_FP32);
    files_write(dir, "bad/fp16.safetensors", "no model", 8);
    struct registry *r = begin("[model.before]\npath = $/one\n");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        print_message("%s", cases[i].text);
        wrong(check(cases[i].text, &e), &e, cases[i].code, cases[i].part);
        wrong(apply(r, cases[i].text, &e), &e, cases[i].code, cases[i].part);
        state_is(r, "before int8 +int8\n");
    }
    assert_int_equal(check("[model.m]\npath = $/one/int8.safetensors\n", &e), 0);
    must_apply(r, "[model.m]\npath = $/one/int8.safetensors\n");
    state_is(r, "m int8 +int8\n");
    /* a file under the name of another precision: seen when it has been read */
    put("one", PRECISION_FP16, &nets[PRECISION_FP32]);
    wrong(switch_to(r, "m", PRECISION_FP16, &e), &e, ERR_NOT_FOUND, "not installed");
    must_apply(r, "[model.m]\npath = $/one\n");
    wrong(switch_to(r, "m", PRECISION_FP16, &e), &e, ERR_DAMAGED, "holds precision fp32");
    state_is(r, "m int8 +int8\n");
    end(r);
    drop("one", PRECISION_FP16);
}

static void names(void **state)
{
    struct err e;
    (void)state;
    put_all("two", 1 << PRECISION_FP32 | 1 << PRECISION_INT8);
    struct registry *r = new_registry(1);
    assert_null(registry_get(r, NULL, PRECISION_AUTO, &e));
    wrong(-1, &e, ERR_NOT_FOUND, "no model is loaded");
    wrong(switch_to(r, NULL, PRECISION_FP32, &e), &e, ERR_NOT_FOUND, "no model is loaded");
    must_apply(r, "[model.a]\npath = $/two\n[model.b]\npath = $/two\nprecision = fp32\n");
    assert_int_equal(active(r, NULL), PRECISION_INT8);
    assert_int_equal(active(r, "a"), PRECISION_INT8);
    assert_int_equal(active(r, "b"), PRECISION_FP32);
    assert_null(registry_get(r, "c", PRECISION_AUTO, &e));
    wrong(-1, &e, ERR_NOT_FOUND, "no model 'c'");
    wrong(switch_to(r, "c", PRECISION_FP32, &e), &e, ERR_NOT_FOUND, "no model 'c'");
    assert_null(registry_get(r, "a", PRECISION_FP32, &e));
    wrong(-1, &e, ERR_BUSY, "not in memory");
    assert_null(registry_get(r, "a", PRECISION_FP16, &e));
    wrong(-1, &e, ERR_NOT_FOUND, "not installed");
    wrong(switch_to(r, "a", PRECISION_FP16, &e), &e, ERR_NOT_FOUND, "not installed");
    struct loaded *l = registry_get(r, "b", PRECISION_FP32, &e);
    assert_non_null(l);
    assert_string_equal(l->name, "b");
    loaded_free(l);
    end(r);
}

/* A switch, then reloads: what the operator chose stays until the configuration says otherwise or its file is gone. */
static void switches_and_reloads(void **state)
{
    static const char keeps[] = "[model.m]\npath = $/three\nkeep = int8\n",
                      other[] = "[model.m]\npath = $/three\nprecision = fp32\n";
    struct err e;
    enum precision previous;
    int slot;
    (void)state;
    put_all("three", 1 << PRECISION_FP32 | 1 << PRECISION_FP16 | 1 << PRECISION_INT8);
    struct registry *r = begin(keeps);
    struct loaded *int8 = registry_get(r, "m", PRECISION_INT8, &e);
    assert_int_equal(registry_switch(r, "m", PRECISION_FP32, &previous, &slot, &e), 0);
    assert_int_equal(previous, PRECISION_INT8);
    state_is(r, "m fp32 +fp32 +int8\n"); /* kept */
    assert_false(atomic_load(&int8->retired));
    struct loaded *fp32 = registry_get(r, "m", PRECISION_AUTO, &e);
    must_switch(r, "m", PRECISION_FP32); /* again: nothing to do */
    state_is(r, "m fp32 +fp32 +int8\n");
    must_apply(r, keeps);
    state_is(r, "m fp32 +fp32 +int8\n");
    assert_false(atomic_load(&fp32->retired) || atomic_load(&int8->retired));
    put_changed("three", PRECISION_FP32);
    must_apply(r, keeps);
    state_is(r, "m fp32 +fp32 +int8\n");
    assert_true(atomic_load(&fp32->retired)); /* another file; the old one answers who still has it */
    assert_false(atomic_load(&int8->retired));
    loaded_free(fp32);
    must_switch(r, "m", PRECISION_INT8);
    state_is(r, "m int8 +int8\n");
    must_switch(r, "m", PRECISION_FP16);
    drop("three", PRECISION_FP16);
    must_apply(r, keeps);
    state_is(r, "m int8 +int8\n");
    must_apply(r, other);
    state_is(r, "m fp32 +fp32\n");
    assert_true(atomic_load(&int8->retired));
    loaded_free(int8);
    end(r);
}

static void slots(void **state)
{
    char text[200];
    struct err e;
    enum precision previous;
    int slot, again;
    (void)state;
    put_all("four", 1 << PRECISION_INT8 | 1 << PRECISION_FP16);
    struct registry *r = begin("[model.first]\npath = $/four\n");
    assert_int_equal(registry_switch(r, NULL, PRECISION_FP16, &previous, &slot, &e), 0);
    for (int i = 1; i < MODELS_MAX; i++) {
        snprintf(text, sizeof text, "[model.m%d]\npath = $/four\n", i);
        must_apply(r, text);
        assert_null(registry_get(r, "first", PRECISION_AUTO, &e));
    }
    wrong(apply(r, "[model.m1]\npath = $/four\n[model.seventeenth]\npath = $/four\n", &e), &e, ERR_TOO_LARGE, "16 model names");
    state_is(r, "m15 int8 +int8\n");
    must_apply(r, "[model.m1]\npath = $/four\n[model.first]\npath = $/four\n");
    state_is(r, "m1 int8 +int8\nfirst int8 +int8\n"); /* what it was switched to went with it */
    assert_int_equal(registry_switch(r, "first", PRECISION_INT8, &previous, &again, &e), 0);
    assert_int_equal(slot, again);
    end(r);
}

static void wrong_sums(void **state)
{
    static const char text[] = "[model.m]\npath = $/sums\n", kept[] = "[model.m]\npath = $/sums\nkeep = fp16\n",
                      both[] = "[model.m]\npath = $/sums\n[model.n]\npath = $/sums\nprecision = fp32\n";
    struct err e;
    (void)state;
    put_all("sums", 1 << PRECISION_FP32 | 1 << PRECISION_INT8);
    put_wrong("sums", PRECISION_FP16);
    put_wrong("sums", PRECISION_INT8);
    struct registry *r = begin(both); /* at the start: it tells why it does not serve */
    wrong(registry_ready(r, &e), &e, ERR_DAMAGED, "model m: int8");
    assert_null(registry_get(r, "m", PRECISION_AUTO, &e));
    wrong(-1, &e, ERR_DAMAGED, "model m: int8");
    state_is(r, "m int8\nn fp32 +fp32\n");
    wrong(switch_to(r, "m", PRECISION_FP16, &e), &e, ERR_DAMAGED, "model m: fp16");
    wrong(apply(r, text, &e), &e, ERR_DAMAGED, "model m: int8"); /* later, what serves goes on */
    state_is(r, "m int8\nn fp32 +fp32\n");
    must_switch(r, "m", PRECISION_FP32); /* nothing to let go of */
    state_is(r, "m fp32 +fp32\nn fp32 +fp32\n");
    assert_int_equal(registry_ready(r, &e), 0);
    end(r);

    r = begin(text);
    put_all("sums", 1 << PRECISION_INT8);
    must_switch(r, "m", PRECISION_INT8); /* the same one, mended */
    assert_int_equal(registry_ready(r, &e), 0);
    state_is(r, "m int8 +int8\n");
    end(r);

    r = begin(kept); /* what is to be kept counts as well */
    state_is(r, "m int8 +int8\n");
    wrong(registry_ready(r, &e), &e, ERR_DAMAGED, "model m: fp16");
    put_all("sums", 1 << PRECISION_FP16);
    must_apply(r, kept);
    state_is(r, "m int8 +fp16 +int8\n");
    assert_int_equal(registry_ready(r, &e), 0);
    end(r);
}

/* 0, or -1 with the budget as it was. */
static int start_within(size_t limit, enum precision p)
{
    char text[100];
    struct err e;
    struct registry *r = new_registry(1);
    snprintf(text, sizeof text, "[model.m]\npath = $/room\nprecision = %s\n", precision_name(p));
    atomic_store(&budget.limit, limit);
    int rc = apply(r, text, &e);
    if (rc < 0) {
        wrong(rc, &e, ERR_BUSY, "of memory_limit");
        assert_int_equal(atomic_load(&budget.used), 0);
    }
    end(r);
    return rc;
}

/* The file, then what it becomes in memory, then one session for the self-test: each is refused when it is a byte too large. */
static void room_is(void)
{
    char text[100];
    struct err e;
    for (int p = 0; p < PRECISIONS; p++) {
        struct stat st;
        snprintf(text, sizeof text, "[model.m]\npath = $/room\nprecision = %s\n", precision_name((enum precision)p));
        struct registry *r = begin(text);
        struct loaded *l = registry_get(r, NULL, PRECISION_AUTO, &e);
        assert_int_equal(atomic_load(&budget.used), l->weight_bytes);
        snprintf(text, sizeof text, "room/%s.safetensors", precision_name((enum precision)p));
        assert_int_equal(stat(files_path(dir, text), &st), 0);
        size_t file = (size_t)st.st_size, weights = l->weight_bytes, all = weights + l->arena_bytes;
        loaded_free(l);
        end(r);
        const size_t most = file > all ? file : all;
        assert_int_equal(start_within(most, (enum precision)p), 0);
        assert_int_equal(start_within(most - 1, (enum precision)p), -1);
        assert_int_equal(start_within(file - 1, (enum precision)p), -1);
        assert_int_equal(start_within(weights - 1, (enum precision)p), -1);
        print_message("%s: file %zu, weights %zu, arena %zu\n", precision_name((enum precision)p), file, weights, all - weights);
    }
}

static void room(void **state)
{
    (void)state;
    put_all("room", (1 << PRECISIONS) - 1);
    room_is();
    for (int p = 0; p < PRECISIONS; p++) { /* files that are larger than what they become */
        nets[p].provenance = malloc(PROSE);
        assert_non_null(nets[p].provenance);
        memset(nets[p].provenance, ' ', PROSE);
        memcpy(nets[p].provenance, "{", 1);
        memcpy(nets[p].provenance + PROSE - 2, "}", 2);
    }
    put_all("room", (1 << PRECISIONS) - 1);
    room_is();
    for (int p = 0; p < PRECISIONS; p++) {
        free(nets[p].provenance);
        nets[p].provenance = NULL;
    }
}

/* ---- what fails in between ---- */

static const char before[] = "[model.m]\npath = $/fail\nkeep = fp16\n", after[] = "[model.m]\npath = $/then\nkeep = fp32 fp16\n";

static int do_apply(struct registry *r, struct conf *c, struct err *e)
{
    return registry_apply(r, c, e);
}

static int do_check(struct registry *r, struct conf *c, struct err *e)
{
    (void)r;
    return registry_check(c, e);
}

static int do_switch(struct registry *r, struct conf *c, struct err *e)
{
    (void)c;
    return switch_to(r, "m", PRECISION_HYBRID, e);
}

static int do_get(struct registry *r, struct conf *c, struct err *e)
{
    struct loaded *l = registry_get(r, "m", PRECISION_HYBRID, e);
    (void)c;
    assert_null(l);
    assert_true(e->code == ERR_BUSY || e->code == ERR_NOT_FOUND);
    return e->code == ERR_BUSY ? 0 : -1;
}

static int do_states(struct registry *r, struct conf *c, struct err *e)
{
    struct model_state states[MODELS_MAX];
    (void)c, (void)e;
    int n = registry_states(r, states);
    assert_int_equal(n, 1);
    int all = states[0].available == (1 << PRECISIONS) - 1;
    registry_release(states, n);
    return all ? 0 : -1;
}

/* Each step with *left counted from 0 until nothing fails: what could not be done left all as it was. instead: also possible. */
static void each_fails(_Atomic int *left, int (*step)(struct registry *r, struct conf *c, struct err *e), const char *then,
                       const char *instead)
{
    struct conf *c = configure(after);
    struct registry *r = begin(before);
    for (int n = 0, all_done = 0; !all_done; n++) {
        struct err e;
        assert_true(n < 2000);
        struct loaded *served = registry_get(r, "m", PRECISION_AUTO, &e);
        assert_non_null(served);
        const size_t used = atomic_load(&budget.used);
        *left = n;
        const int rc = step(r, c, &e);
        all_done = rc == 0 && *left >= (left == &looks_left);
        *left = -1;
        if (rc < 0) {
            state_is(r, "m int8 +fp16 +int8\n");
            assert_false(atomic_load(&served->retired));
            assert_int_equal(atomic_load(&budget.used), used);
            struct loaded *now = registry_get(r, "m", PRECISION_AUTO, &e);
            assert_ptr_equal(now, served);
            loaded_free(now);
        } else if (all_done || strcmp(state_text(r), instead) != 0) {
            state_is(r, then);
        }
        loaded_free(served);
        if (rc == 0) {
            end(r);
            r = begin(before);
        }
    }
    end(r);
    conf_free(c);
}

static void files_go(void **state)
{
    (void)state;
    put_all("fail", (1 << PRECISIONS) - 1);
    put_all("then", (1 << PRECISIONS) - 1);
    put_changed("then", PRECISION_FP16);
    each_fails(&looks_left, do_apply, "m int8 +fp32 +fp16 +int8\n", "m hybrid +fp32 +fp16 +hybrid\n");
    each_fails(&looks_left, do_switch, "m hybrid +fp16 +hybrid\n", "");
    each_fails(&looks_left, do_check, "m int8 +fp16 +int8\n", "");
    each_fails(&looks_left, do_get, "m int8 +fp16 +int8\n", "");
    each_fails(&looks_left, do_states, "m int8 +fp16 +int8\n", "");
    look_error = EIO; /* what cannot be told is not gone: no other precision takes its place */
    each_fails(&looks_left, do_apply, "m int8 +fp32 +fp16 +int8\n", "");
    look_error = EACCES;
    each_fails(&looks_left, do_apply, "m int8 +fp32 +fp16 +int8\n", "m hybrid +fp32 +fp16 +hybrid\n");
    look_error = ENOENT;
}

static void no_memory(void **state)
{
    (void)state;
    scarce_left = 0;
    struct registry *none = registry_new(&budget, kernels_pick(cpu_features(), "auto"), 1);
    scarce_left = -1;
    assert_null(none);
    registry_free(none);
    loaded_free(NULL);
    each_fails(&scarce_left, do_apply, "m int8 +fp32 +fp16 +int8\n", "");
    each_fails(&scarce_left, do_switch, "m hybrid +fp16 +hybrid\n", "");
    each_fails(&scarce_left, do_check, "m int8 +fp16 +int8\n", "");
}

/* Large enough for threads of its own: 76 million multiplications in the second layer, 38 in the third. */
static void large(void **state)
{
    static const int channels[] = {3, 64, 128, 32};
    struct network n = {.precision = PRECISION_FP32};
    struct err e;
    (void)state;
    strcpy(n.name, "large");
    assert_int_equal(preprocess_preset("cifar10", &n.preprocess, &e), 0);
    for (int i = 0; i < 6; i++) {
        struct node *v = graph_add(&n.graph, i == 0 ? OP_INPUT : i < 4 ? OP_CONV : i == 4 ? OP_AVGPOOL : OP_DENSE, "n%d", i);
        assert_non_null(v);
        v->in[0] = i - 1;
        v->in[1] = -1;
        if (i < 4)
            v->c = channels[i];
        if (i == 0)
            v->h = v->w = 32;
        if (i >= 1 && i < 4) {
            v->kernel_h = v->kernel_w = 3;
            v->stride_h = v->stride_w = v->groups = 1;
            v->pad_top = v->pad_left = v->pad_bottom = v->pad_right = 1;
        }
    }
    n.graph.nodes[5].c = 7;
    n.graph.output = 5;
    if (graph_check(&n.graph, &e) < 0)
        fail_msg("%s", e.text);
    n.layers = calloc(6, sizeof *n.layers);
    assert_non_null(n.layers);
    for (int i = 1; i < 6; i++)
        if (node_has_weights(&n.graph.nodes[i])) {
            n.layers[i].weight = calloc((size_t)node_weights(&n.graph, i), sizeof(float));
            n.layers[i].bias = calloc((size_t)n.graph.nodes[i].c, sizeof(float));
        }
    put("large", PRECISION_FP32, &n);
    network_free(&n);
    for (int tasks = 1; tasks <= 2; tasks++) {
        struct registry *r = new_registry(tasks);
        must_apply(r, "[model.m]\npath = $/large\n[model.small]\npath = $/one\n");
        struct loaded *l = registry_get(r, "m", PRECISION_AUTO, &e), *small = registry_get(r, "small", PRECISION_AUTO, &e);
        assert_int_equal(l->tasks, tasks);
        assert_int_equal(small->tasks, 1);
        loaded_free(l);
        loaded_free(small);
        end(r);
    }
}

static int make_all(void **state)
{
    (void)state;
    dir = files_make_dir();
    log_setup(LOG_LEVEL_ERROR, LOG_TEXT, LOG_PREFIX_OFF);
    nets[PRECISION_FP32] = make_network(5);
    for (int p = 0; p < PRECISIONS; p++)
        if (p != PRECISION_FP32)
            nets[p] = convert_network(&nets[PRECISION_FP32], (enum precision)p);
    return 0;
}

static int free_all(void **state)
{
    (void)state;
    for (int p = 0; p < PRECISIONS; p++)
        network_free(&nets[p]);
    files_remove_dir(dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_best),  cmocka_unit_test(nothing_to_load),
                                       cmocka_unit_test(names),     cmocka_unit_test(switches_and_reloads),
                                       cmocka_unit_test(slots),     cmocka_unit_test(wrong_sums),
                                       cmocka_unit_test(room),      cmocka_unit_test(files_go),
                                       cmocka_unit_test(no_memory), cmocka_unit_test(large)};
    return cmocka_run_group_tests(tests, make_all, free_all);
}

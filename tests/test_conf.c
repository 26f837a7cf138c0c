// SPDX-License-Identifier: MIT
//
// test_conf.c - the configuration: the reference file against the table, every refusal with its line, overrides, reload.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/conf.h"
#include "daemon/conf_value.h"

static struct conf *parse(const char *text, struct err *e)
{
    struct conf *c = NULL;
    return conf_parse("f", text, strlen(text), NULL, 0, 4, &c, e) == 0 ? c : NULL;
}

static char *print(const struct conf *c)
{
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    assert_non_null(f);
    conf_print(c, f);
    fclose(f);
    return text;
}

static void defaults(void **state)
{
    struct err e;
    (void)state;
    struct conf *c = parse("", &e);
    assert_non_null(c);
    assert_string_equal(c->listen, "127.0.0.1:8080");
    assert_int_equal(c->max_body, 16 << 20);
    assert_int_equal(c->header_timeout, 10000);
    assert_int_equal(c->workers, 1);
    assert_int_equal(c->threads, 4); /* all of the 4 CPUs that parse() gives */
    assert_int_equal(c->model_count, 0);
    conf_free(c);
}

static void values(void **state)
{
    struct err e;
    (void)state;
    struct conf *c =
        parse("# a comment\n[server]\nmax_body = 1M\nidle_timeout = 2m\nlisten = 0.0.0.0:80 unix:/a\n"
              "[inference]\nworkers = 2\nmemory_limit = 3G\n[image]\nlenient = yes\n[log]\nlevel = debug\nformat=json\n"
              "[model.my.net]\npath = /m\nprecision = fp16\nkeep = int8 fp32\n[model.b]\npath = /b\n",
              &e);
    assert_non_null(c);
    assert_int_equal(c->max_body, 1 << 20);
    assert_int_equal(c->idle_timeout, 120000);
    assert_int_equal(c->workers, 2);
    assert_int_equal(c->threads, 2);
    assert_true(c->memory_limit == 3LL << 30);
    assert_true(c->lenient);
    assert_int_equal(c->model_count, 2);
    assert_string_equal(c->models[0].name, "my.net");
    assert_string_equal(c->models[0].path, "/m");
    assert_int_equal(c->models[0].precision, PRECISION_FP16);
    assert_int_equal(c->models[0].keep, 1 << PRECISION_INT8 | 1 << PRECISION_FP32);
    assert_int_equal(c->models[1].precision, PRECISION_AUTO);
    char *text = print(c);
    struct conf *again = parse(text, &e);
    assert_non_null(again);
    char *second = print(again);
    assert_string_equal(text, second);
    free(text);
    free(second);
    conf_free(again);
    conf_free(c);
}

static void refusals(void **state)
{
    static const struct {
        const char *text, *error;
    } cases[] = {
        {"[server]\nmax_bodi = 1\n", "f:2: unknown key 'max_bodi' in [server]"},
        {"\n[serve]\nx = 1\n", "f:3: unknown section [serve]"},
        {"x = 1\n", "f:1: unknown section []"},
        {"[server]\nmax_body = 1M\nmax_body = 2M\n", "f:3: 'max_body' is given twice, first in line 2"},
        {"[server]\nmax_body = lots\n", "f:2: max_body = lots: a number is needed"},
        {"[server]\nmax_body = 1T\n", "f:2: max_body = 1T: a size is a number"},
        {"[server]\nmax_body = -1\n", "f:2: max_body = -1: a number is needed"},
        {"[server]\nmax_body = 1023\n", "f:2: max_body = 1023: out of range"},
        {"[server]\nmax_body = 99999999999999999999\n", "f:2: max_body = 99999999999999999999: out of range"},
        {"[server]\nmax_body = 9999999999G\n", "out of range"},
        {"[server]\nidle_timeout = 5\n", "f:2: idle_timeout = 5: a time is a number with its unit"},
        {"[server]\nlisten =\n", "f:2: listen = : it must not be empty"},
        {"[inference]\nworkers = 0\n", "f:2: workers = 0: out of range"},
        {"[inference]\nqueue = 65537\n", "f:2: queue = 65537: out of range: 1 to 65536"},
        {"[server]\nidle_timeout = 99ms\n", "f:2: idle_timeout = 99ms: out of range: 100 to"},
        {"[inference]\nworkers = 3\nthreads = 2\n", "f:3: workers x threads is 3 x 2, but this machine has 4 CPUs"},
        {"[server]\nrequest_timeout = 2h\n", "f:2: request_timeout is longer than max_timeout"},
        {"[server]\nmax_connections = 5\n", "max_connections_per_address is larger than max_connections"},
        {"[log]\nlevel = loud\n", "f:2: level = loud: one of error, warning, info, debug is needed"},
        {"[log]\naccess = 1\n", "f:2: access = 1: yes or no is needed"},
        {"[model.x]\nprecision = int4\npath = x\n", "f:2: precision = int4: auto or a precision is needed"},
        {"[model.x]\nkeep = int8 int4\npath = x\n", "f:2: keep = int8 int4:"},
        {"[model.x]\nkeep = int8\n", "f:2: [model.x] has no path"},
        {"[model..x]\npath = y\n", "f:2: [model..x]"},
        {"[server]\nnonsense\n", "f:2: neither a [section], a comment nor key = value"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err e = {0};
        struct conf *c = parse(cases[i].text, &e);
        if (c || !strstr(e.text, cases[i].error))
            print_message("case %zu: wanted '%s', got '%s'\n", i, cases[i].error, c ? "success" : e.text);
        assert_null(c);
        assert_non_null(strstr(e.text, cases[i].error));
    }
}

static void strange_bytes(void **state)
{
    struct conf *c = NULL;
    struct err e;
    char line[400] = "[log]\nlevel = ";
    (void)state;
    assert_int_equal(conf_parse("f", "[log]\nlev\0el = info\n", 20, NULL, 0, 4, &c, &e), -1);
    assert_non_null(strstr(e.text, "f:2: a NUL byte"));
    memset(line + strlen(line), 'x', 300);
    assert_null(parse(line, &e));
    assert_non_null(strstr(e.text, "f:2: the line has 308 bytes"));
}

static void overrides(void **state)
{
    const struct conf_override good[] = {{"log.level=error"}, {"model.a.b.path=/x"}, {"server.max_body=2M"}, {"server.hosts="}};
    static const char *const bad[] = {"level=error", "log.level", "log.nothing=1", "log.level=loud", "=", ".="};
    const char *file = "[server]\nmax_body = 1M\nhosts = pi\n";
    struct conf *c = NULL;
    struct err e;
    (void)state;
    assert_int_equal(conf_parse("f", file, strlen(file), good, 4, 4, &c, &e), 0);
    assert_int_equal(c->max_body, 2 << 20); /* the command line wins over the file */
    assert_string_equal(c->hosts, "");
    assert_string_equal(c->models[0].name, "a.b");
    assert_string_equal(c->models[0].path, "/x");
    conf_free(c);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const struct conf_override o = {bad[i]};
        assert_int_equal(conf_parse("f", file, strlen(file), &o, 1, 4, &c, &e), -1);
    }
}

static void restart(void **state)
{
    char names[256];
    struct err e;
    (void)state;
    struct conf *a = parse("", &e), *b = parse("[server]\nlisten = 127.0.0.1:9\nmax_body = 1M\n[inference]\nqueue = 3\n", &e);
    assert_int_equal(conf_keep_started(b, b, names, sizeof names, &e), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(conf_keep_started(b, a, names, sizeof names, &e), i ? 0 : 2);
        assert_string_equal(names, i ? "" : "server.listen, inference.queue");
        assert_string_equal(b->listen, "127.0.0.1:8080"); /* as it was started */
        assert_int_equal(b->queue, 32);
        assert_int_equal(b->max_body, 1 << 20); /* as it is wanted now */
    }
    conf_free(a);
    conf_free(b);
}

/* Two keys that do not go together: the line of the later one, none when the command line gave both. */
static void pairs(void **state)
{
    static const struct {
        const char *text, *override, *error;
    } cases[] = {
        {"[server]\nmax_timeout = 2s\n", NULL, "f:2: request_timeout is longer"},
        {"[server]\nmax_timeout = 2s\n\nrequest_timeout = 3s\n", NULL, "f:4: request_timeout is longer"},
        {"[server]\nmax_connections = 5\n", NULL, "f:2: max_connections_per_address is larger"},
        {"[server]\ndrain_grace = 10s\n", NULL, "f:2: drain_grace must be shorter"},
        {"[server]\ndrain_grace = 1s\n# more\ndrain_timeout = 1s\n", NULL, "f:4: drain_grace must be shorter"},
        {"[inference]\nthreads = 5\n", NULL, "f:2: workers x threads is 1 x 5"},
        {"", "inference.workers=5", "workers x threads is 5 x 1"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct conf_override o = {cases[i].override};
        struct conf *c;
        struct err e;
        assert_int_equal(conf_parse("f", cases[i].text, strlen(cases[i].text), &o, o.text != NULL, 4, &c, &e), -1);
        if (strncmp(e.text, cases[i].error, strlen(cases[i].error)) != 0)
            fail_msg("%s instead of %s", e.text, cases[i].error);
    }
}

/* etc/resnetd.conf has every key with its default, no other, and reads. */
static void reference_file(void **state)
{
    const char *srcdir = getenv("srcdir"), *section, *key, *standard;
    char path[1024];
    struct conf *c = NULL, *d;
    struct err e;
    (void)state;
    snprintf(path, sizeof path, "%s/etc/resnetd.conf", srcdir ? srcdir : ".");
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    char *text = calloc(1, 100000);
    assert_non_null(text);
    assert_true(fread(text, 1, 99999, f) > 0);
    fclose(f);
    for (int i = 0; conf_option(i, &section, &key, &standard); i++) {
        char head[64], line[160];
        int model = strcmp(section, "model.NAME") == 0;
        snprintf(head, sizeof head, "\n%s[%s]\n", model ? "#" : "", section);
        const char *start = strstr(text, head);
        assert_non_null(start);
        snprintf(line, sizeof line, "\n%s%s =", model ? "#" : "", key);
        if (!strstr(start, line))
            print_message("%s does not document [%s] %s\n", path, section, key);
        assert_non_null(strstr(start, line));
    }
    if (conf_load(path, NULL, 0, 4, &c, &e) < 0)
        print_message("%s\n", e.text);
    assert_non_null(c);
    d = parse("", &e);
    char *from_file = print(c), *from_table = print(d);
    assert_string_equal(from_file, from_table);
    free(from_file);
    free(from_table);
    free(text);
    conf_free(c);
    conf_free(d);
    assert_int_equal(conf_load("/nonexistent/resnetd.conf", NULL, 0, 4, &c, &e), -1);
    assert_non_null(strstr(e.text, "/nonexistent/resnetd.conf: No such file"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),  cmocka_unit_test(values),  cmocka_unit_test(refusals), cmocka_unit_test(strange_bytes),
        cmocka_unit_test(overrides), cmocka_unit_test(restart), cmocka_unit_test(pairs),    cmocka_unit_test(reference_file)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

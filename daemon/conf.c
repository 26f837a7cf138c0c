// SPDX-License-Identifier: MIT
#include "daemon/conf.h"

#include <errno.h>
#include <ini.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/log.h"
#include "daemon/conf_value.h"

#define AT(field)       offsetof(struct conf, field)
#define IN_MODEL(field) offsetof(struct conf_model, field)
#define DAY             (24LL * 3600 * 1000)
#define RESTART         1 /* takes effect at the next start only */

static const struct conf_choice levels[] = {
    {"error", LOG_LEVEL_ERROR}, {"warning", LOG_LEVEL_WARNING}, {"info", LOG_LEVEL_INFO}, {"debug", LOG_LEVEL_DEBUG}, {NULL, 0}};
static const struct conf_choice formats[] = {{"text", LOG_TEXT}, {"json", LOG_JSON}, {NULL, 0}};
static const struct conf_choice prefixes[] = {
    {"auto", LOG_PREFIX_AUTO}, {"on", LOG_PREFIX_ON}, {"off", LOG_PREFIX_OFF}, {NULL, 0}};

/* The truth about every key. A new row also needs its paragraph in etc/resnetd.conf, which a test demands. */
static const struct conf_row rows[] = {
    {"server", "listen", CONF_WORDS, AT(listen), 1, LISTEN_MAX, "127.0.0.1:8080", NULL, RESTART},
    {"server", "max_body", CONF_BYTES, AT(max_body), 1024, 1LL << 30, "16M", NULL, 0},
    {"server", "max_connections", CONF_INT, AT(max_connections), 1, 100000, "256", NULL, RESTART},
    {"server", "max_connections_per_address", CONF_INT, AT(max_connections_per_address), 0, 100000, "64", NULL, RESTART},
    {"server", "header_timeout", CONF_TIME, AT(header_timeout), 100, DAY, "10s", NULL, 0},
    {"server", "body_timeout", CONF_TIME, AT(body_timeout), 100, DAY, "30s", NULL, 0},
    {"server", "write_timeout", CONF_TIME, AT(write_timeout), 100, DAY, "30s", NULL, 0},
    {"server", "idle_timeout", CONF_TIME, AT(idle_timeout), 100, DAY, "15s", NULL, 0},
    {"server", "request_timeout", CONF_TIME, AT(request_timeout), 1, DAY, "10s", NULL, 0},
    {"server", "max_timeout", CONF_TIME, AT(max_timeout), 1, DAY, "60s", NULL, 0},
    {"server", "drain_grace", CONF_TIME, AT(drain_grace), 0, DAY, "0s", NULL, 0},
    {"server", "drain_timeout", CONF_TIME, AT(drain_timeout), 100, DAY, "10s", NULL, 0},
    {"server", "hosts", CONF_WORDS, AT(hosts), 0, 64, "", NULL, 0},
    {"server", "admin_token_file", CONF_TEXT, AT(admin_token_file), 0, PATH_MAX - 1, "", NULL, 0},
    {"server", "loopback_changes", CONF_BOOL, AT(loopback_changes), 0, 1, "yes", NULL, 0},
    {"server", "tls_certificate", CONF_TEXT, AT(tls_certificate), 0, PATH_MAX - 1, "", NULL, 0},
    {"server", "tls_key", CONF_TEXT, AT(tls_key), 0, PATH_MAX - 1, "", NULL, 0},
    {"inference", "kernels", CONF_TEXT, AT(kernels), 1, 64, "auto", NULL, RESTART},
    {"inference", "workers", CONF_INT, AT(workers), 1, 256, "1", NULL, RESTART},
    {"inference", "threads", CONF_INT, AT(threads), 0, 256, "0", NULL, RESTART},
    {"inference", "max_batch", CONF_INT, AT(max_batch), 1, 32, "16", NULL, 0},
    {"inference", "queue", CONF_INT, AT(queue), 1, 65536, "32", NULL, RESTART},
    {"inference", "memory_limit", CONF_BYTES, AT(memory_limit), 0, 1LL << 50, "0", NULL, 0},
    {"inference", "stall_timeout", CONF_TIME, AT(stall_timeout), 1000, DAY, "30s", NULL, 0},
    {"image", "max_width", CONF_INT, AT(max_width), 1, 65535, "16384", NULL, 0},
    {"image", "max_height", CONF_INT, AT(max_height), 1, 65535, "16384", NULL, 0},
    {"image", "max_pixels", CONF_INT, AT(max_pixels), 1, 1LL << 32, "50000000", NULL, 0},
    {"image", "max_scans", CONF_INT, AT(max_scans), 1, 10000, "100", NULL, 0},
    {"image", "decoder_memory", CONF_BYTES, AT(decoder_memory), 1 << 20, 1LL << 40, "256M", NULL, 0},
    {"image", "lenient", CONF_BOOL, AT(lenient), 0, 1, "no", NULL, 0},
    {"log", "level", CONF_CHOICE, AT(log_level), 0, 0, "info", levels, 0},
    {"log", "format", CONF_CHOICE, AT(log_format), 0, 0, "text", formats, 0},
    {"log", "prefix", CONF_CHOICE, AT(log_prefix), 0, 0, "auto", prefixes, 0},
    {"log", "access", CONF_BOOL, AT(access_log), 0, 1, "no", NULL, 0},
    {"metrics", "sysfs", CONF_TEXT, AT(sysfs), 1, 255, "/sys", NULL, 0},
    {"model.NAME", "path", CONF_TEXT, IN_MODEL(path), 1, PATH_MAX - 1, "", NULL, 0},
    {"model.NAME", "precision", CONF_PRECISION, IN_MODEL(precision), 0, 0, "auto", NULL, 0},
    {"model.NAME", "keep", CONF_PRECISIONS, IN_MODEL(keep), 0, 0, "", NULL, 0},
};
enum { ROWS = sizeof rows / sizeof rows[0] };

int conf_option(int i, const char **section, const char **key, const char **standard)
{
    if (i < 0 || i >= ROWS)
        return 0;
    *section = rows[i].section;
    *key = rows[i].key;
    *standard = rows[i].standard;
    return 1;
}

static int is_model(const struct conf_row *r)
{
    return strncmp(r->section, "model.", 6) == 0;
}

static int row_find(const char *section, const char *key)
{
    int model = strncmp(section, "model.", 6) == 0;
    for (int i = 0; i < ROWS; i++)
        if (strcmp(rows[i].key, key) == 0 && (model ? is_model(&rows[i]) : strcmp(rows[i].section, section) == 0))
            return i;
    return -1;
}

static int section_known(const char *section)
{
    for (int i = 0; i < ROWS; i++)
        if (strcmp(rows[i].section, section) == 0 || (is_model(&rows[i]) && strncmp(section, "model.", 6) == 0))
            return 1;
    return 0;
}

/* State of one load. Where a value came from is kept for the checks that come last. */
struct loader {
    struct conf *conf;
    const char *name; /* of the file; NULL: the command line */
    const char *text;
    size_t left;
    int line, rc;
    int set_at[ROWS];             /* line of the file, 0: not set there */
    int model_set[MODELS_MAX][3]; /* the same for the model rows */
    int model_rows;               /* index of the first of them */
    struct err *e;
};

static int fail(struct loader *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int fail(struct loader *l, const char *fmt, ...)
{
    if (l->rc < 0)
        return 0; /* the first error is the one to tell */
    char text[sizeof l->e->text];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (l->name && l->line)
        l->rc = err_set(l->e, ERR_INPUT, "%s:%d: %s", l->name, l->line, text);
    else
        l->rc = err_set(l->e, ERR_INPUT, "%s", text);
    return 0;
}

static int model_find(struct loader *l, const char *name)
{
    struct conf *c = l->conf;
    struct err e;
    for (int i = 0; i < c->model_count; i++)
        if (strcmp(c->models[i].name, name) == 0)
            return i;
    if (name_check(name, &e) < 0) {
        fail(l, "[model.%s]: %s", name, e.text);
        return -1;
    }
    if (c->model_count == MODELS_MAX) {
        fail(l, "more than %d models", MODELS_MAX);
        return -1;
    }
    struct conf_model *m = &c->models[c->model_count];
    snprintf(m->name, sizeof m->name, "%s", name);
    m->precision = PRECISION_AUTO;
    return c->model_count++;
}

/* inih's handler: 1 on success. */
static int set(void *user, const char *section, const char *key, const char *value)
{
    struct loader *l = user;
    if (l->rc < 0)
        return 0;
    int i = row_find(section, key);
    if (i < 0 && !section_known(section))
        return fail(l, "unknown section [%s]", section);
    if (i < 0)
        return fail(l, "unknown key '%s' in [%s]", key, section);
    void *base = l->conf;
    int *at = &l->set_at[i];
    if (is_model(&rows[i])) {
        int m = model_find(l, section + 6);
        if (m < 0)
            return 0;
        base = &l->conf->models[m];
        at = &l->model_set[m][i - l->model_rows];
    }
    if (l->name && *at)
        return fail(l, "'%s' is given twice, first in line %d", key, *at);
    if (l->name)
        *at = l->line;
    struct err e;
    if (conf_value_set(&rows[i], base, value, &e) < 0)
        return fail(l, "%s = %s: %s", key, value, e.text);
    return 1;
}

/* inih's reader, like fgets, over memory; counts lines, which inih does not hand on. */
static char *next_line(char *out, int size, void *user)
{
    struct loader *l = user;
    if (l->left == 0 || l->rc < 0)
        return NULL;
    const char *eol = memchr(l->text, '\n', l->left);
    size_t n = eol ? (size_t)(eol - l->text) + 1 : l->left;
    l->line++;
    if (memchr(l->text, '\0', n)) {
        fail(l, "a NUL byte");
        return NULL;
    }
    if (n >= (size_t)size) {
        fail(l, "the line has %zu bytes, %d are allowed", n, size - 1);
        return NULL;
    }
    memcpy(out, l->text, n);
    out[n] = '\0';
    l->text += n;
    l->left -= n;
    return out;
}

static int defaults(struct loader *l)
{
    for (int i = 0; i < ROWS; i++)
        if (!is_model(&rows[i]) && conf_value_set(&rows[i], l->conf, rows[i].standard, l->e) < 0)
            return -1;
    return 0;
}

/* section.key=value; a model's name may hold dots, so the key is behind the last dot before '='. */
static void override(struct loader *l, const char *text)
{
    char section[256];
    const char *equal = strchr(text, '=');
    const char *dot = equal ? memrchr(text, '.', (size_t)(equal - text)) : NULL;
    if (!dot || (size_t)(equal - text) >= sizeof section) {
        fail(l, "-o %s: write it as section.key=value", text);
        return;
    }
    memcpy(section, text, (size_t)(equal - text));
    section[equal - text] = '\0';
    section[dot - text] = '\0';
    set(l, section, section + (dot - text) + 1, equal + 1);
}

/* Two keys that do not go together: the error is in the line of the later one, in none when both came from elsewhere. */
static void at_later(struct loader *l, const char *section, const char *a, const char *b)
{
    int x = l->set_at[row_find(section, a)], y = l->set_at[row_find(section, b)];
    l->line = x > y ? x : y;
}

/* What only the whole can tell. */
static int check(struct loader *l, int cpus)
{
    struct conf *c = l->conf;
    if (c->threads == 0)
        c->threads = cpus / c->workers > 0 ? cpus / c->workers : 1;
    if (c->workers * c->threads > cpus) {
        at_later(l, "inference", "workers", "threads");
        fail(l, "workers x threads is %lld x %lld, but this machine has %d CPUs", (long long)c->workers, (long long)c->threads,
             cpus);
    }
    if (c->request_timeout > c->max_timeout) {
        at_later(l, "server", "request_timeout", "max_timeout");
        fail(l, "request_timeout is longer than max_timeout");
    }
    if (c->max_connections_per_address > c->max_connections) {
        at_later(l, "server", "max_connections_per_address", "max_connections");
        fail(l, "max_connections_per_address is larger than max_connections");
    }
    if (c->drain_grace >= c->drain_timeout) {
        at_later(l, "server", "drain_grace", "drain_timeout");
        fail(l, "drain_grace must be shorter than drain_timeout, of which it is the beginning");
    }
    for (int i = 0; i < c->model_count; i++)
        if (!c->models[i].path || !*c->models[i].path) {
            l->line = l->model_set[i][1] ? l->model_set[i][1] : l->model_set[i][2];
            fail(l, "[model.%s] has no path", c->models[i].name);
        }
    return l->rc;
}

int conf_parse(const char *name, const char *text, size_t len, const struct conf_override *overrides, int override_count,
               int cpus, struct conf **out, struct err *e)
{
    struct loader l = {.name = name, .text = text, .left = len, .e = e, .model_rows = row_find("model.", "path")};
    l.conf = calloc(1, sizeof *l.conf);
    if (!l.conf)
        return err_set(e, ERR_MEMORY, "no memory for the configuration");
    atomic_init(&l.conf->refs, 1);
    if (defaults(&l) < 0)
        goto failed;
    if (text) {
        int bad = ini_parse_stream(next_line, &l, set, &l);
        if (l.rc == 0 && bad) {
            l.line = bad > 0 ? bad : l.line;
            fail(&l, "%s", bad > 0 ? "neither a [section], a comment nor key = value" : "no memory to read the line");
        }
    }
    l.name = NULL;
    for (int i = 0; i < override_count && l.rc == 0; i++)
        override(&l, overrides[i].text);
    l.name = name;
    if (l.rc < 0 || check(&l, cpus) < 0)
        goto failed;
    *out = l.conf;
    return 0;
failed:
    conf_free(l.conf);
    return -1;
}

int conf_load(const char *path, const struct conf_override *overrides, int override_count, int cpus, struct conf **out,
              struct err *e)
{
    if (!path)
        return conf_parse(NULL, NULL, 0, overrides, override_count, cpus, out, e);
    FILE *f = fopen(path, "re");
    if (!f)
        return err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
    char *text = malloc(CONF_FILE_MAX + 1);
    size_t n = text ? fread(text, 1, CONF_FILE_MAX + 1, f) : 0;
    int broken = ferror(f), rc;
    fclose(f);
    if (!text)
        rc = err_set(e, ERR_MEMORY, "no memory to read %s", path);
    else if (broken)
        rc = err_set(e, ERR_IO, "%s: cannot be read", path);
    else if (n > CONF_FILE_MAX)
        rc = err_set(e, ERR_TOO_LARGE, "%s: larger than %d bytes", path, CONF_FILE_MAX);
    else
        rc = conf_parse(path, text, n, overrides, override_count, cpus, out, e);
    free(text);
    return rc;
}

struct conf *conf_ref(struct conf *c)
{
    atomic_fetch_add(&c->refs, 1);
    return c;
}

void conf_free(struct conf *c)
{
    if (!c || atomic_fetch_sub(&c->refs, 1) != 1)
        return;
    for (int i = 0; i < ROWS; i++)
        if (!is_model(&rows[i]))
            conf_value_free(&rows[i], c);
    for (int m = 0; m < c->model_count; m++)
        free(c->models[m].path);
    free(c);
}

void conf_print(const struct conf *c, FILE *f)
{
    const char *section = "";
    for (int i = 0; i < ROWS && !is_model(&rows[i]); i++) {
        if (strcmp(section, rows[i].section) != 0)
            fprintf(f, "%s[%s]\n", *section ? "\n" : "", rows[i].section);
        section = rows[i].section;
        conf_value_print(&rows[i], c, f);
    }
    for (int m = 0; m < c->model_count; m++) {
        fprintf(f, "\n[model.%s]\n", c->models[m].name);
        for (int i = 0; i < ROWS; i++)
            if (is_model(&rows[i]))
                conf_value_print(&rows[i], &c->models[m], f);
    }
}

int conf_keep_started(struct conf *fresh, const struct conf *old, char *out, size_t size, struct err *e)
{
    int n = 0;
    size_t len = 0;
    out[0] = '\0';
    for (int i = 0; i < ROWS; i++) {
        if (!(rows[i].flags & RESTART) || conf_value_equal(&rows[i], fresh, old))
            continue;
        if (conf_value_copy(&rows[i], fresh, old, e) < 0)
            return -1;
        int more = snprintf(out + len, size - len, "%s%s.%s", n ? ", " : "", rows[i].section, rows[i].key);
        if (more > 0 && (size_t)more < size - len)
            len += (size_t)more;
        n++;
    }
    return n;
}

int conf_words(const char *list, int (*fn)(void *user, const char *word, size_t len), void *user)
{
    int rc = 0;
    for (const char *p = list ? list : ""; rc == 0;) {
        p += strspn(p, " \t,");
        size_t n = strcspn(p, " \t,");
        if (n == 0)
            break;
        rc = fn(user, p, n);
        p += n;
    }
    return rc;
}

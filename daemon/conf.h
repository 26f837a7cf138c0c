// SPDX-License-Identifier: MIT
//
// conf.h - the configuration: INI by inih, one table of options that reads, checks, prints and documents.
//
// A struct conf is immutable once loaded and reference-counted: a request keeps the one it started with, a reload publishes
// another. etc/resnetd.conf documents every key; a test compares it with the table.

#ifndef DAEMON_CONF_H
#define DAEMON_CONF_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "models/err.h"
#include "models/network.h"

#define MODELS_MAX     16
#define LISTEN_MAX     8
#define CONF_FILE_MAX  (1 << 20) /* bytes */
#define PRECISION_AUTO (-1)

struct conf_model {
    char name[NETWORK_NAME_MAX];
    char *path;
    int precision; /* enum precision or PRECISION_AUTO: int8 when there is one, else hybrid, fp16, fp32 */
    int keep;      /* bits 1 << enum precision: resident besides the active one */
};

struct conf {
    atomic_int refs;
    /* server */
    char *listen; /* blank-separated */
    int64_t max_body, max_connections, max_connections_per_address;
    int64_t header_timeout, body_timeout, write_timeout, idle_timeout; /* milliseconds */
    int64_t request_timeout, max_timeout, drain_grace, drain_timeout;
    char *hosts; /* names allowed in Host besides the loopback ones */
    char *admin_token_file;
    int loopback_changes;
    char *tls_certificate, *tls_key; /* PEM files; both or none */
    /* inference */
    char *kernels;
    int64_t workers, threads, max_batch, queue, memory_limit, stall_timeout;
    /* image */
    int64_t max_width, max_height, max_pixels, max_scans, decoder_memory;
    int lenient;
    /* log */
    int log_level, log_format, log_prefix, access_log;
    /* metrics */
    char *sysfs; /* where sysfs is mounted, without a slash at its end */

    struct conf_model models[MODELS_MAX];
    int model_count;
};

/* One line given on the command line with -o: section.key=value. */
struct conf_override {
    const char *text;
};

/* Defaults, then the file (NULL: none), then the overrides, then the checks that need all of it. The caller ends *out with
   conf_free. Errors name file, line and reason. cpus bounds workers x threads; threads = 0 becomes cpus / workers. */
int conf_load(const char *path, const struct conf_override *overrides, int override_count, int cpus, struct conf **out,
              struct err *e);

/* The same from memory; name stands for the file in errors. */
int conf_parse(const char *name, const char *text, size_t len, const struct conf_override *overrides, int override_count,
               int cpus, struct conf **out, struct err *e);

struct conf *conf_ref(struct conf *c);
void conf_free(struct conf *c); /* drops one reference; NULL is fine */

/* Every effective value as a file that conf_load reads. */
void conf_print(const struct conf *c, FILE *f);

/* What only a restart changes stays in fresh as it is in old, so that a configuration says what is in effect. The names of those
   that differed go comma-separated into out; returns how many, -1 when there was no memory. */
int conf_keep_started(struct conf *fresh, const struct conf *old, char *out, size_t size, struct err *e);

/* Walks the table: section, key, default text; section "model.NAME" for those of a model. 0 behind the last. */
int conf_option(int i, const char **section, const char **key, const char **standard);

/* Calls fn for each blank-separated word of list until it returns non-zero, which is returned. */
int conf_words(const char *list, int (*fn)(void *user, const char *word, size_t len), void *user);

#endif

// SPDX-License-Identifier: MIT
#include "daemon/server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "daemon/listen.h"
#include "daemon/log.h"
#include "daemon/tls.h"
#include "kernels/cpu.h"
#include "kernels/kernels.h"

#define STANDARD_MODEL PKGDATADIR "/models/resnet20-cifar10"

struct conf *server_conf(struct server *s)
{
    pthread_mutex_lock(&s->conf_lock);
    struct conf *c = conf_ref(s->conf);
    pthread_mutex_unlock(&s->conf_lock);
    return c;
}

int server_ready(struct server *s, struct err *e)
{
    if (atomic_load(&s->draining))
        return err_set(e, ERR_BUSY, "the daemon is stopping");
    return registry_ready(s->registry, e);
}

static int check_listen(void *user, const char *word, size_t len)
{
    return listen_check(word, len, user);
}

/* A secret that systemd hands over (LoadCredential=) serves where the configuration names no file. */
static int use_credential(char **value, const char *name, struct err *e)
{
    const char *dir = getenv("CREDENTIALS_DIRECTORY");
    char *path = NULL;
    if (**value || !dir)
        return 0;
    if (asprintf(&path, "%s/%s", dir, name) < 0)
        return err_set(e, ERR_MEMORY, "no memory for the configuration");
    if (access(path, F_OK) < 0) {
        free(path);
        return 0;
    }
    free(*value);
    *value = path;
    return 0;
}

/* *out: what is configured, NULL for no TLS. */
static int read_tls(const struct conf *c, struct tls_pair **out, struct err *e)
{
    *out = NULL;
    if (!*c->tls_certificate != !*c->tls_key)
        return err_set(e, ERR_INPUT, "tls_certificate and tls_key are needed together");
    return *c->tls_key ? tls_load(c->tls_certificate, c->tls_key, out, e) : 0;
}

int server_start_tls(struct server *s, struct err *e)
{
    struct tls_pair *pair;
    if (read_tls(s->conf, &pair, e) < 0)
        return -1;
    s->with_tls = pair != NULL;
    tls_use(pair);
    return 0;
}

int server_read_conf(const struct server *s, struct conf **out, struct err *e)
{
    struct conf *c;
    struct tls_pair *pair;
    if (conf_load(s->conf_path, s->overrides, s->override_count, s->cpus, &c, e) < 0)
        return -1;
    if (conf_words(c->listen, check_listen, e) < 0 || use_credential(&c->admin_token_file, "admin-token", e) < 0 ||
        use_credential(&c->tls_certificate, "tls-certificate", e) < 0 || use_credential(&c->tls_key, "tls-key", e) < 0 ||
        read_tls(c, &pair, e) < 0)
        goto failed;
    tls_free(pair); /* it was to be tried */
    if (*c->admin_token_file && access(c->admin_token_file, R_OK) < 0) {
        err_set(e, ERR_NOT_FOUND, "admin_token_file %s cannot be read", c->admin_token_file);
        goto failed;
    }
    if (!kernels_pick(cpu_features(), c->kernels)) {
        if (kernels_find(c->kernels))
            err_set(e, ERR_UNSUPPORTED, "kernels = %s: this CPU cannot run them", c->kernels);
        else
            err_set(e, ERR_INPUT, "kernels = %s: there are none of that name; auto takes the best", c->kernels);
        goto failed;
    }
    if (c->model_count && s->standard_precision) {
        err_set(e, ERR_INPUT,
                "--precision is for --model and for the bundled model; the configuration has models of its own, whose "
                "precision is set there");
        goto failed;
    }
    if (c->model_count == 0) {
        struct conf_model *m = &c->models[0];
        m->path = strdup(STANDARD_MODEL);
        if (!m->path) {
            err_set(e, ERR_MEMORY, "no memory for the configuration");
            goto failed;
        }
        memcpy(m->name, "resnet20-cifar10", sizeof "resnet20-cifar10");
        m->precision = PRECISION_AUTO;
        c->model_count = 1;
        enum precision p;
        if (s->standard_precision && precision_parse(s->standard_precision, &p, e) == 0)
            m->precision = (int)p;
    }
    *out = c;
    return 0;
failed:
    conf_free(c);
    return -1;
}

/* memory_limit = 0: half of what the machine has, so that a wish too many cannot push it into swap. */
static size_t memory_limit(const struct conf *c)
{
    struct sysinfo info;
    if (c->memory_limit)
        return (size_t)c->memory_limit;
    return sysinfo(&info) == 0 ? info.totalram / 2 * info.mem_unit : (size_t)256 << 20;
}

void server_use_conf(struct server *s, const struct conf *c)
{
    log_setup((enum log_level)c->log_level, (enum log_format)c->log_format, (enum log_prefix)c->log_prefix);
    atomic_store(&s->budget.limit, memory_limit(c));
}

static int reload(struct server *s, struct err *e)
{
    struct conf *fresh, *old = s->conf; /* only this thread replaces it */
    char names[512];
    struct tls_pair *pair = NULL;
    if (server_read_conf(s, &fresh, e) < 0)
        return -1;
    int waiting = conf_keep_started(fresh, old, names, sizeof names, e), bad = waiting < 0 || read_tls(fresh, &pair, e) < 0;
    if (!bad && (pair != NULL) != s->with_tls)
        bad = err_set(e, ERR_INPUT, "tls_certificate: only a restart switches TLS on or off");
    if (bad || registry_apply(s->registry, fresh, e) < 0) {
        tls_free(pair);
        conf_free(fresh);
        return -1;
    }
    if (pair)
        tls_use(pair);
    if (waiting)
        log_warning("reloaded, but a restart is needed for: %s", names);
    server_use_conf(s, fresh);
    pthread_mutex_lock(&s->conf_lock);
    s->conf = fresh;
    pthread_mutex_unlock(&s->conf_lock);
    conf_free(old);
    queue_wake(s->queue); /* idle workers let go of sessions of replaced models */
    log_info("configuration and models reloaded");
    return 0;
}

int server_reload(struct server *s, struct err *e)
{
    int rc = reload(s, e);
    atomic_store(&s->reload_failed, rc < 0);
    metrics_reload(s->metrics, rc == 0);
    return rc;
}

// SPDX-License-Identifier: MIT
#include "config.h"

#include "daemon/tls.h"

#ifdef HAVE_GNUTLS

#include <errno.h>
#include <fcntl.h>
#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PEM_MAX   (64 * 1024)
#define CHAIN_MAX 8

struct tls_pair {
    gnutls_datum_t certificate, key; /* PEM */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct tls_pair *current;

static int read_pem(const char *path, gnutls_datum_t *out, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
    unsigned char *text = calloc(1, PEM_MAX + 1);
    ssize_t n = 0, len = 0;
    while (text && len <= PEM_MAX && (n = read(fd, text + len, (size_t)(PEM_MAX + 1 - len))) > 0)
        len += n;
    int failed = errno;
    close(fd);
    if (!text)
        return err_set(e, ERR_MEMORY, "no memory for %s", path);
    *out = (gnutls_datum_t){text, (unsigned)len};
    if (n < 0)
        return err_set(e, ERR_IO, "%s: %s", path, strerror(failed));
    return len <= PEM_MAX ? 0 : err_set(e, ERR_TOO_LARGE, "%s: larger than %d bytes", path, PEM_MAX);
}

int tls_load(const char *certificate, const char *key, struct tls_pair **out, struct err *e)
{
    gnutls_certificate_credentials_t trial = NULL;
    struct tls_pair *p = calloc(1, sizeof *p);
    if (!p)
        return err_set(e, ERR_MEMORY, "no memory for the TLS certificate");
    if (read_pem(certificate, &p->certificate, e) < 0 || read_pem(key, &p->key, e) < 0)
        goto failed;
    int rc = gnutls_certificate_allocate_credentials(&trial);
    if (rc == 0)
        rc = gnutls_certificate_set_x509_key_mem(trial, &p->certificate, &p->key, GNUTLS_X509_FMT_PEM);
    if (trial)
        gnutls_certificate_free_credentials(trial);
    if (rc < 0) {
        err_set(e, ERR_INPUT, "tls_certificate %s with tls_key %s: %s", certificate, key, gnutls_strerror(rc));
        goto failed;
    }
    *out = p;
    return 0;
failed:
    tls_free(p);
    return -1;
}

void tls_free(struct tls_pair *p)
{
    if (!p)
        return;
    if (p->key.data)
        explicit_bzero(p->key.data, p->key.size);
    free(p->key.data);
    free(p->certificate.data);
    free(p);
}

void tls_use(struct tls_pair *p)
{
    pthread_mutex_lock(&lock);
    struct tls_pair *old = current;
    current = p;
    pthread_mutex_unlock(&lock);
    tls_free(old);
}

/* Fresh copies, which GnuTLS frees with the connection: a reload meanwhile takes nothing away from it. */
static int retrieve(gnutls_session_t session, const struct gnutls_cert_retr_st *info, gnutls_pcert_st **chain, unsigned *length,
                    gnutls_ocsp_data_st **ocsp, unsigned *ocsp_length, gnutls_privkey_t *key, unsigned *flags)
{
    unsigned n = CHAIN_MAX;
    gnutls_pcert_st *certificates = gnutls_calloc(CHAIN_MAX, sizeof *certificates);
    int rc = certificates ? gnutls_privkey_init(key) : GNUTLS_E_MEMORY_ERROR;
    (void)session, (void)info;
    if (rc < 0) {
        gnutls_free(certificates);
        return -1;
    }
    pthread_mutex_lock(&lock);
    rc = current ? gnutls_privkey_import_x509_raw(*key, &current->key, GNUTLS_X509_FMT_PEM, NULL, 0) : -1;
    if (rc == 0)
        rc = gnutls_pcert_list_import_x509_raw(certificates, &n, &current->certificate, GNUTLS_X509_FMT_PEM, 0);
    pthread_mutex_unlock(&lock);
    if (rc < 0) {
        gnutls_privkey_deinit(*key);
        gnutls_free(certificates);
        return -1;
    }
    *chain = certificates;
    *length = n;
    *ocsp = NULL;
    *ocsp_length = 0;
    *flags = GNUTLS_CERT_RETR_DEINIT_ALL;
    return 0;
}

void *tls_callback(void)
{
    return (void *)retrieve;
}

#else

#include <stddef.h>

int tls_load(const char *certificate, const char *key, struct tls_pair **out, struct err *e)
{
    (void)certificate, (void)key, (void)out;
    return err_set(e, ERR_UNSUPPORTED, "tls_certificate: this resnetd was built without GnuTLS; put a proxy in front");
}

void tls_free(struct tls_pair *p)
{
    (void)p;
}

void tls_use(struct tls_pair *p)
{
    (void)p;
}

void *tls_callback(void)
{
    return NULL;
}

#endif

// SPDX-License-Identifier: MIT
//
// tls.h - the certificate and key of libmicrohttpd's own TLS, replaced while connections are made. Off unless configured: a proxy
// in front (etc/haproxy.cfg) is the way that is recommended.

#ifndef DAEMON_TLS_H
#define DAEMON_TLS_H

#include "models/err.h"

/* TLS 1.2 and 1.3 with GnuTLS's own choice of ciphers. */
#define TLS_PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:%SERVER_PRECEDENCE"

struct tls_pair;

/* Reads PEM files and checks that they belong together. Errors name the file. The caller ends *out with tls_free or gives it to
   tls_use. */
int tls_load(const char *certificate, const char *key, struct tls_pair **out, struct err *e);
void tls_free(struct tls_pair *p); /* NULL is fine */

/* What new connections get from now on; takes p over, NULL forgets. One pair serves the whole process: the callback that GnuTLS
   has for this knows no more than the connection. */
void tls_use(struct tls_pair *p);

/* gnutls_certificate_retrieve_function3, for MHD_OPTION_HTTPS_CERT_CALLBACK2; NULL when built without GnuTLS. */
void *tls_callback(void);

#endif

// SPDX-License-Identifier: MIT
//
// request.h - the life of a request: header, guard, body within limits, route, reply.
//
// A thread of libmicrohttpd's per listening address parses and collects. A request that needs work is suspended, handed on, and
// resumed with its reply; its struct is made when its first line arrives and freed when libmicrohttpd says that it is over,
// whatever happened.

#ifndef DAEMON_REQUEST_H
#define DAEMON_REQUEST_H

#include <microhttpd.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/api.h"
#include "daemon/guard.h"
#include "daemon/job.h"
#include "daemon/log.h"
#include "daemon/reply.h"
#include "daemon/server.h"
#include "daemon/trace.h"

struct conn;

#define REQUEST_ID_MAX     64
#define CONTENT_TYPE_MAX   256
#define REQUEST_VALUES_MAX 64    /* of a JSON body, of which three are meant */
#define BODY_PIECES_MAX    65536 /* of a chunked body: small chunks are a way to burn CPU */

/* What POST /predict was asked for; filled by api_predict.c, used by predict.c. */
struct predict {
    long top_k;
    double threshold;
    long logits;
};

struct request {
    struct server *server;
    struct conf *conf; /* a reference: the configuration this request began with */
    struct MHD_Connection *connection;
    struct conn *conn;
    char *uri; /* raw target */
    char method[33];
    int http_11; /* 0: an older client, which knows no interim replies */
    int phase;
    struct guard_result guard;
    const struct route *route;
    struct api_parts parts; /* of the path */
    char id[REQUEST_ID_MAX + 1];
    struct trace trace;
    char content_type[CONTENT_TYPE_MAX]; /* "" when absent */

    uint8_t *body;
    size_t body_len, body_cap; /* body_cap bytes are reserved in the budget */
    int pieces;
    size_t received; /* bytes of a body that was read and dropped */

    int64_t started_us; /* end of the header */
    struct predict predict;
    struct job job;
    struct reply reply;
};

/* What libmicrohttpd calls: with the first line, before unescaping, where the request begins (user is the struct server); then
   with the header, each piece of the body and the end; then when the request is over. */
void *request_begin(void *user, const char *uri, struct MHD_Connection *connection);
enum MHD_Result request_step(void *user, struct MHD_Connection *connection, const char *url, const char *method,
                             const char *version, const char *data, size_t *size, void **state);
void request_end(void *user, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode code);

/* The connection is closed. When libmicrohttpd has no memory left for what it makes of a header, such as thousands of cookies, it
   ends a request that has begun without saying so. */
void request_forget(struct conn *c);

/* The reply is in request->reply: libmicrohttpd sends it. The request is no longer the caller's. */
void request_resume(struct request *r);

/* What a log line and an exemplar say of where the request comes from; borrowed from it. */
struct origin request_origin(const struct request *r);
void request_log(const struct request *r, enum log_level level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Frees the body and gives its bytes back. */
void request_drop_body(struct request *r);

/* 1 when the client of a suspended request has hung up. */
int request_client_gone(const struct request *r);

/* A header's value, NULL when absent. Only before the request is handed on. */
const char *request_header(const struct request *r, const char *name);

#endif

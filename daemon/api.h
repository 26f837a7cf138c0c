// SPDX-License-Identifier: MIT
//
// api.h - the table of routes: which path and method goes to which function of which api_*.c. Guard, metrics, the index at `/`
// and `Allow` all walk it.

#ifndef DAEMON_API_H
#define DAEMON_API_H

#define API_ROUTES_MAX 32
#define API_PART_MAX   65 /* [A-Za-z0-9._-]{1,64}, with the terminator */

struct request;

/* Fills request->reply at once, or hands the request on (queue, change) and returns API_PENDING; whoever has it then calls
   request_resume when the reply is there. */
enum api_state { API_DONE, API_PENDING };
typedef enum api_state api_fn(struct request *r);

enum api_flags {
    API_BODY = 1,  /* reads the request's body */
    API_ADMIN = 2, /* changes something: access.h decides who may */
    API_SLOW = 4,  /* may hand the request on */
    API_QUEUE = 8  /* to the workers' queue */
};

struct route {
    const char *path;   /* {m} and {p} stand for a model and a precision; also the route's name in metrics */
    const char *method; /* GET serves HEAD too */
    api_fn *fn;
    int flags;
    const char *help; /* for the index */
};
extern const struct route api_routes[]; /* ends with a NULL path */

/* What stood in a path for {m} and {p}; "" where the route has none. */
struct api_parts {
    char m[API_PART_MAX], p[API_PART_MAX];
};

/* For the path and method; NULL back with *path_known set when only the method is wrong. */
const struct route *api_find(const char *path, const char *method, int *path_known, struct api_parts *parts);

/* "GET, HEAD, PUT" for a known path, into out. */
void api_allow(const char *path, char *out, unsigned long size);

/* Names for metrics: one index per path, the last is "other". */
int api_route_index(const char *name);
const char *api_route_name(int index);              /* NULL beyond the last */
int api_route_flags(int index, const char *method); /* of its row; -1: the table has no such method there */

#endif

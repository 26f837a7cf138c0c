// SPDX-License-Identifier: MIT
#include "daemon/api.h"

#include <stdio.h>
#include <string.h>

#include "daemon/api_routes.h"

const struct route api_routes[] = {
    {"/predict", "POST", api_predict, API_BODY | API_SLOW, "classify an image (JPEG, PNG, WebP; multipart; JSON base64)"},
    {"/precision", "GET", api_precision, 0, "active, resident and available precisions"},
    {"/precision", "PUT", api_precision_put, API_BODY | API_ADMIN | API_SLOW, "switch: {\"precision\":\"int8\"}"},
    {"/metrics", "GET", api_metrics, 0, "Prometheus metrics"},
    {"/livez", "GET", api_livez, 0, "200 while workers make progress"},
    {"/readyz", "GET", api_readyz, 0, "200 when requests will be answered"},
    {"/models", "GET", api_models, 0, "what is loaded"},
    {"/v1/status", "GET", api_status, 0, "effective configuration, queue, memory, temperature"},
    {"/v1/reload", "POST", api_reload, API_ADMIN | API_SLOW, "read the configuration and changed model files again"},
    {"/v1/drain", "POST", api_drain, API_ADMIN, "finish what is running, then exit"},
    {"/", "GET", api_index, 0, "this list"},
    {NULL, NULL, NULL, 0, NULL}};

/* HEAD is GET without the body, which libmicrohttpd leaves out. */
static int serves(const struct route *r, const char *method)
{
    return strcmp(r->method, method) == 0 || (strcmp(method, "HEAD") == 0 && strcmp(r->method, "GET") == 0);
}

const struct route *api_find(const char *path, const char *method, int *path_known)
{
    *path_known = 0;
    for (const struct route *r = api_routes; r->path; r++) {
        if (strcmp(r->path, path) != 0)
            continue;
        *path_known = 1;
        if (serves(r, method))
            return r;
    }
    return NULL;
}

void api_allow(const char *path, char *out, unsigned long size)
{
    int get = 0, post = 0, put = 0, any = strcmp(path, "*") == 0;
    for (const struct route *r = api_routes; r->path; r++)
        if (any || strcmp(r->path, path) == 0) {
            get |= strcmp(r->method, "GET") == 0;
            post |= strcmp(r->method, "POST") == 0;
            put |= strcmp(r->method, "PUT") == 0;
        }
    snprintf(out, size, "%s%s%sOPTIONS", get ? "GET, HEAD, " : "", post ? "POST, " : "", put ? "PUT, " : "");
}

/* The n-th different path: the first row that has it counts. */
static int is_first(const struct route *r)
{
    for (const struct route *q = api_routes; q < r; q++)
        if (strcmp(q->path, r->path) == 0)
            return 0;
    return 1;
}

int api_route_index(const char *name)
{
    int i = 0;
    for (const struct route *r = api_routes; r->path; r++)
        if (is_first(r)) {
            if (strcmp(r->path, name) == 0)
                return i;
            i++;
        }
    return i;
}

const char *api_route_name(int index)
{
    int i = 0;
    for (const struct route *r = api_routes; r->path; r++)
        if (is_first(r) && i++ == index)
            return r->path;
    return i == index ? "other" : NULL;
}

int api_route_has(int index, const char *method)
{
    const char *name = api_route_name(index);
    for (const struct route *r = api_routes; name && r->path; r++)
        if (strcmp(r->path, name) == 0 && strcmp(r->method, method) == 0)
            return 1;
    return 0;
}

// SPDX-License-Identifier: MIT
#include "daemon/api.h"

#include <stdio.h>
#include <string.h>

#include "daemon/api_routes.h"

const struct route api_routes[] = {
    {"/predict", "POST", api_predict, API_BODY | API_SLOW | API_QUEUE,
     "classify an image (JPEG, PNG, WebP; multipart; JSON base64)"},
    {"/precision", "GET", api_precision, 0, "active, resident and available precisions"},
    {"/precision", "PUT", api_precision_put, API_BODY | API_ADMIN | API_SLOW, "switch: {\"precision\":\"int8\"}"},
    {"/metrics", "GET", api_metrics, 0, "Prometheus metrics"},
    {"/livez", "GET", api_livez, 0, "200 while workers make progress"},
    {"/readyz", "GET", api_readyz, 0, "200 when requests will be answered"},
    {"/models", "GET", api_models, 0, "what is loaded"},
    {"/v1/status", "GET", api_status, 0, "effective configuration, queue, memory, temperature"},
    {"/v1/reload", "POST", api_reload, API_ADMIN | API_SLOW, "read the configuration and changed model files again"},
    {"/v1/drain", "POST", api_drain, API_ADMIN, "finish what is running, then exit"},
    {"/v2", "GET", api_v2_server, 0, "Open Inference Protocol: this server"},
    {"/v2/", "GET", api_v2_server, 0, "the same"},
    {"/v2/health/live", "GET", api_v2_live, 0, "as /livez"},
    {"/v2/health/ready", "GET", api_v2_ready, 0, "as /readyz"},
    {"/v2/models/{m}", "GET", api_v2_model, 0, "a model's inputs, outputs, versions (precisions), preprocessing"},
    {"/v2/models/{m}/ready", "GET", api_v2_model_ready, 0, "200 when the model answers"},
    {"/v2/models/{m}/infer", "POST", api_v2_infer, API_BODY | API_SLOW | API_QUEUE, "classify images or tensors"},
    {"/v2/models/{m}/versions/{p}", "GET", api_v2_model, 0, "the same of one precision"},
    {"/v2/models/{m}/versions/{p}/ready", "GET", api_v2_model_ready, 0, "200 when the precision is in memory"},
    {"/v2/models/{m}/versions/{p}/infer", "POST", api_v2_infer, API_BODY | API_SLOW | API_QUEUE, "the same with one precision"},
    {"/openapi.json", "GET", api_openapi, 0, "all this as OpenAPI 3.1"},
    {"/", "GET", api_index, 0, "this list"},
    {"/", "POST", api_arrived, 0, "says what arrived of a request: for trying out proxies, limits and rights"},
    {NULL, NULL, NULL, 0, NULL}};

/* HEAD is GET without the body, which libmicrohttpd leaves out. */
static int serves(const struct route *r, const char *method)
{
    return strcmp(r->method, method) == 0 || (strcmp(method, "HEAD") == 0 && strcmp(r->method, "GET") == 0);
}

static int matches(const char *pattern, const char *path, struct api_parts *parts)
{
    *parts = (struct api_parts){"", ""};
    while (*pattern) {
        if (*pattern != '{') {
            if (*pattern++ != *path++)
                return 0;
            continue;
        }
        char *part = pattern[1] == 'm' ? parts->m : parts->p;
        size_t n = strspn(path, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
        if (n < 1 || n >= API_PART_MAX)
            return 0;
        memcpy(part, path, n);
        part[n] = '\0';
        path += n;
        pattern += strlen("{m}");
    }
    return *path == '\0';
}

const struct route *api_find(const char *path, const char *method, int *path_known, struct api_parts *parts)
{
    *path_known = 0;
    for (const struct route *r = api_routes; r->path; r++) {
        if (!matches(r->path, path, parts))
            continue;
        *path_known = 1;
        if (serves(r, method))
            return r;
    }
    return NULL;
}

void api_allow(const char *path, char *out, unsigned long size)
{
    struct api_parts parts;
    int get = 0, post = 0, put = 0, any = strcmp(path, "*") == 0;
    for (const struct route *r = api_routes; r->path; r++)
        if (any || matches(r->path, path, &parts)) {
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

int api_route_flags(int index, const char *method)
{
    const char *name = api_route_name(index);
    for (const struct route *r = api_routes; name && r->path; r++)
        if (strcmp(r->path, name) == 0 && serves(r, method))
            return r->flags;
    return -1;
}

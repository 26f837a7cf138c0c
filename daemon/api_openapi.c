// SPDX-License-Identifier: MIT
//
// api_openapi.c - GET /openapi.json.

#include "daemon/api_routes.h"
#include "daemon/openapi.h"
#include "daemon/request.h"

enum api_state api_openapi(struct request *r)
{
    struct text t = {0};
    text_puts(&t, openapi_json);
    reply_text(&r->reply, "application/json", &t);
    return API_DONE;
}

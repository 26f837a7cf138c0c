// SPDX-License-Identifier: MIT
//
// api_v2.c - the Open Inference Protocol v2: what this server and its models are, and whether they are ready. A model's versions
// are its precisions.

#include "config.h"

#include <string.h>

#include "daemon/api_routes.h"
#include "daemon/api_v2.h"
#include "daemon/oip.h"
#include "daemon/request.h"

enum api_state api_v2_server(struct request *r)
{
    struct text t = {0};
    text_printf(&t,
                "{\"name\":\"resnetd\",\"version\":\"%s\",\"extensions\":[\"binary_tensor_data\",\"classification\","
                "\"schedule_policy\"]}",
                PACKAGE_VERSION);
    reply_json(&r->reply, &t);
    return API_DONE;
}

/* The same conditions as /livez and /readyz; the bodies are what the protocol's readers look for. */
static enum api_state health(struct request *r, api_fn *native, const char *body)
{
    native(r);
    if (r->reply.status == 200) {
        struct text t = {0};
        text_puts(&t, body);
        reply_json(&r->reply, &t);
    }
    return API_DONE;
}

enum api_state api_v2_live(struct request *r)
{
    return health(r, api_livez, "{\"live\":true}");
}

enum api_state api_v2_ready(struct request *r)
{
    return health(r, api_readyz, "{\"live\":true,\"ready\":true}");
}

struct loaded *api_v2_loaded(struct request *r, struct err *e)
{
    enum precision named;
    int precision = PRECISION_AUTO;
    if (r->parts.p[0]) {
        if (precision_parse(r->parts.p, &named, e) < 0) {
            err_set(e, ERR_NOT_FOUND, "there is no version '%s': a version is a precision, fp32, fp16, hybrid or int8",
                    r->parts.p);
            return NULL;
        }
        precision = (int)named;
    }
    return registry_get(r->server->registry, r->parts.m, precision, e);
}

void api_v2_refuse_model(struct request *r, const struct err *e)
{
    reply_problem(&r->reply,
                  e->code == ERR_BUSY      ? PROBLEM_NOT_RESIDENT
                  : e->code == ERR_DAMAGED ? PROBLEM_NOT_READY
                                           : PROBLEM_MODEL_NOT_FOUND,
                  "%s", e->text);
}

static void versions(struct request *r, struct text *t)
{
    struct model_state states[MODELS_MAX];
    int n = registry_states(r->server->registry, states), first = 1;
    for (int i = 0; i < n; i++)
        for (int p = 0; p < PRECISIONS && strcmp(states[i].name, r->parts.m) == 0; p++)
            if (states[i].resident[p]) {
                text_printf(t, "%s\"%s\"", first ? "" : ",", precision_name((enum precision)p));
                first = 0;
            }
    registry_release(states, n);
}

static void three(struct text *t, const char *name, const float v[3])
{
    text_printf(t, ",\"preprocessing.%s\":\"", name);
    for (int i = 0; i < 3; i++) {
        text_puts(t, i ? "," : "");
        text_float(t, v[i]);
    }
    text_puts(t, "\"");
}

/* How `tensor` is made from an image, and what the outputs mean: texts, as the protocol wants properties to be. */
static void properties(struct text *t, const struct loaded *l)
{
    const struct network *n = model_network(l->model);
    const struct preprocess *p = &n->preprocess;
    const char *filter = p->filter == FILTER_BICUBIC ? "bicubic" : "bilinear";
    text_puts(t, "\"preprocessing.resize\":\"");
    if (p->resize == RESIZE_SHORTER)
        text_printf(t, "shorter side %d, %s, antialiased", p->size, filter);
    else if (p->resize == RESIZE_EXACT)
        text_printf(t, "%dx%d, %s, antialiased", p->width, p->height, filter);
    else
        text_puts(t, "none");
    if (p->crop_w)
        text_printf(t, "\",\"preprocessing.crop\":\"center %dx%d", p->crop_w, p->crop_h);
    text_printf(t, "\",\"preprocessing.color\":\"%s\",\"preprocessing.layout\":\"NCHW\",\"preprocessing.scale\":\"%g\"",
                p->bgr ? "BGR" : "RGB", (double)p->scale);
    three(t, "mean", p->mean);
    three(t, "std", p->std);
    text_printf(t, ",\"labels.count\":\"%d\",\"precision\":\"%s\",\"digest\":\"sha256:%s\",\"kernels\":\"%s\"", n->label_count,
                precision_name(l->precision), n->digest, model_kernels(l->model)->name);
}

enum api_state api_v2_model(struct request *r)
{
    struct err e;
    struct loaded *l = api_v2_loaded(r, &e);
    if (!l) {
        e.code = e.code == ERR_BUSY ? ERR_NOT_FOUND : e.code; /* what is not in memory is no version */
        api_v2_refuse_model(r, &e);
        return API_DONE;
    }
    int w, h, classes = model_classes(l->model);
    model_input_size(l->model, &w, &h);
    struct text t = {0};
    text_puts(&t, "{\"name\":");
    text_json(&t, l->name);
    text_puts(&t, ",\"versions\":[");
    versions(r, &t);
    text_printf(&t,
                "],\"platform\":\"resnetd_v1\",\"inputs\":[{\"name\":\"image\",\"datatype\":\"BYTES\",\"shape\":[-1]},"
                "{\"name\":\"tensor\",\"datatype\":\"FP32\",\"shape\":[-1,3,%d,%d]}],\"outputs\":[",
                h, w);
    for (int i = 0; i < OIP_TENSORS; i++)
        text_printf(&t, "%s{\"name\":\"%s\",\"datatype\":\"FP32\",\"shape\":[-1,%d]}", i ? "," : "", oip_tensor_names[i],
                    classes);
    text_puts(&t, "],\"properties\":{");
    properties(&t, l);
    text_puts(&t, "}}");
    loaded_free(l);
    reply_json(&r->reply, &t);
    return API_DONE;
}

/* 200 or not is what clients look at. */
enum api_state api_v2_model_ready(struct request *r)
{
    struct err e;
    struct loaded *l = api_v2_loaded(r, &e);
    if (!l) {
        reply_problem(&r->reply, e.code == ERR_NOT_FOUND ? PROBLEM_MODEL_NOT_FOUND : PROBLEM_NOT_READY, "%s", e.text);
        return API_DONE;
    }
    loaded_free(l);
    api_readyz(r);
    if (r->reply.status == 200) {
        struct text t = {0};
        text_puts(&t, "{\"name\":");
        text_json(&t, r->parts.m);
        text_puts(&t, ",\"ready\":true}");
        reply_json(&r->reply, &t);
    }
    return API_DONE;
}

// SPDX-License-Identifier: MIT
//
// ctl_client.c - the commands that talk to a running daemon over HTTP or its unix socket.

#include "daemon/ctl.h"
#include "daemon/ctl_http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/json.h"
#include "models/network.h"
#include "models/utf8.h"

#define REPLY_BYTES_MAX (64u << 20)
#define TOKEN_FILE_MAX  4096

struct options {
    struct ctl_server server;
    const char *precision, *model;
    int top_k, json;
};

#define COMMON_OPTIONS                                                                                                            \
    {"url", 'u', CTL_TEXT, offsetof(struct options, server.url), 0, 0, "URL", CTL_URL_HELP},                                      \
        {"cacert", 0, CTL_TEXT, offsetof(struct options, server.ca_file), 0, 0, "FILE", CTL_CA_HELP},                             \
        {"token-file",                                                                                                            \
         0,                                                                                                                       \
         CTL_TEXT,                                                                                                                \
         offsetof(struct options, server.token_file),                                                                             \
         0,                                                                                                                       \
         0,                                                                                                                       \
         "FILE",                                                                                                                  \
         "file with the admin token on its first line"},                                                                          \
        {"timeout", 0, CTL_INT, offsetof(struct options, server.timeout), 1, 86400, "S", "give up after S seconds (default 60)"}, \
    {                                                                                                                             \
        "json", 0, CTL_FLAG, offsetof(struct options, json), 0, 0, NULL, "print the daemon's JSON as it came"                     \
    }

static const struct ctl_option options[] = {COMMON_OPTIONS, {0}};
static const struct ctl_option predict_options[] = {
    COMMON_OPTIONS,
    {"top-k", 0, CTL_INT, offsetof(struct options, top_k), 1, 65536, "N", "how many classes to show"},
    {"precision", 0, CTL_TEXT, offsetof(struct options, precision), 0, 0, "P", "ask for fp32, fp16, hybrid or int8"},
    {"model", 0, CTL_TEXT, offsetof(struct options, model), 0, 0, "N", "ask for the model of that name"},
    {0},
};
static const struct ctl_option precision_options[] = {
    COMMON_OPTIONS,
    {"model", 0, CTL_TEXT, offsetof(struct options, model), 0, 0, "N", "of the model of that name (default: the first)"},
    {0},
};

static const struct ctl_usage status_usage = {"status [--url URL] [--json]", "Shows what a running daemon is doing.", options, 0,
                                              0};
static const struct ctl_usage predict_usage = {
    "predict IMAGE... [--url URL] [--top-k N] [--precision P] [--model N] [--json]",
    "Has a running daemon classify images. An image that it refuses is reported, the others are still sent.", predict_options, 1,
    -1};
static const struct ctl_usage precision_usage = {
    "precision [P] [--model N] [--url URL] [--token-file FILE] [--json]",
    "Shows the precisions of a running daemon, or switches it to P: fp32, fp16, hybrid or int8.", precision_options, 0, 1};
static const struct ctl_usage reload_usage = {"reload [--url URL] [--token-file FILE] [--json]",
                                              "Has a running daemon read its configuration and models again.", options, 0, 0};
static const struct ctl_usage drain_usage = {"drain [--url URL] [--token-file FILE] [--json]",
                                             "Has a running daemon finish its requests, take no more, and stop.", options, 0, 0};

/* ---- what people see ---- */

/* What a daemon sends is not for the terminal to obey. */
static void print_text(const char *s)
{
    for (size_t n; *s; s += n ? n : 1) {
        n = utf8_control(s);
        putchar(n ? '?' : *s);
    }
}

static void print_scalar(const cJSON *v)
{
    if (cJSON_IsString(v))
        print_text(v->valuestring);
    else if (cJSON_IsNumber(v))
        printf("%.15g", v->valuedouble);
    else
        printf("%s", cJSON_IsTrue(v) ? "yes" : cJSON_IsFalse(v) ? "no" : "-");
}

static int is_flat(const cJSON *array)
{
    const cJSON *v;
    cJSON_ArrayForEach(v, array) if (cJSON_IsObject(v) || cJSON_IsArray(v)) return 0;
    return 1;
}

/* Any JSON as indented "key  value" lines, so that whatever a newer daemon adds is shown, too. */
static void print_tree(const cJSON *v, int indent)
{
    const cJSON *child;
    if (cJSON_IsArray(v) && is_flat(v)) {
        cJSON_ArrayForEach(child, v)
        {
            print_scalar(child);
            printf("%s", child->next ? ", " : "");
        }
        printf("\n");
    } else if (cJSON_IsObject(v) || cJSON_IsArray(v)) {
        if (indent)
            printf("\n");
        cJSON_ArrayForEach(child, v)
        {
            printf("%*s", indent, "");
            print_text(child->string ? child->string : "-");
            printf("%*s ", child->string && strlen(child->string) < 20 ? 20 - (int)strlen(child->string) : 0, "");
            print_tree(child, indent + 2);
        }
    } else {
        print_scalar(v);
        printf("\n");
    }
}

static void print_predictions(const char *file, const cJSON *body)
{
    const cJSON *p, *model = cJSON_GetObjectItemCaseSensitive(body, "model");
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(model, "name"));
    const char *precision = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(model, "precision"));
    const cJSON *timing = cJSON_GetObjectItemCaseSensitive(body, "timing_ms");
    const cJSON *total = cJSON_GetObjectItemCaseSensitive(timing, "total");
    printf("%s: ", file);
    print_text(name ? name : "?");
    printf(" ");
    print_text(precision ? precision : "?");
    if (cJSON_IsNumber(total))
        printf(", %.1f ms", total->valuedouble);
    printf("\n");
    cJSON_ArrayForEach(p, cJSON_GetObjectItemCaseSensitive(body, "predictions"))
    {
        const cJSON *class = cJSON_GetObjectItemCaseSensitive(p, "class");
        const cJSON *probability = cJSON_GetObjectItemCaseSensitive(p, "probability");
        const char *label = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(p, "label"));
        if (cJSON_IsNumber(class) && cJSON_IsNumber(probability)) {
            printf("  %6.2f %%  %4d  ", 100 * probability->valuedouble, class->valueint);
            print_text(label ? label : "");
            printf("\n");
        }
    }
}

/* Shows a reply: as it came, or as a tree, or (file given) as predictions. */
static int show(const struct options *o, const struct ctl_reply *r, const char *file)
{
    struct err e;
    if (o->json) {
        printf("%s%s", r->size ? r->text : "null", r->size && r->text[r->size - 1] == '\n' ? "" : "\n");
        return CTL_DONE;
    }
    if (r->size == 0) {
        printf("done\n");
        return CTL_DONE;
    }
    cJSON *body = json_parse(r->text, r->size, &e);
    if (!body) {
        err_prefix(&e, "%s does not answer in JSON", o->server.url);
        return ctl_fail(&e);
    }
    if (file)
        print_predictions(file, body);
    else
        print_tree(body, 0);
    cJSON_Delete(body);
    return CTL_DONE;
}

static int ask_and_show(const struct options *o, const struct ctl_request *q)
{
    struct ctl_reply r = {0};
    struct err e;
    if (ctl_ask(&o->server, q, &r, &e) != 0)
        return ctl_fail(&e);
    int status = show(o, &r, NULL);
    free(r.text);
    return status;
}

/* ---- the commands ---- */

/* Options of a client command; -1: *status is the exit status. */
static int parse(const struct ctl_usage *u, int argc, char **argv, struct options *o, int *status)
{
    *o = (struct options){.server = {.url = "http://127.0.0.1:8080", .timeout = 60}};
    int first = ctl_parse(u, argc, argv, o, status);
    if (first >= 0 && !ctl_is_url(o->server.url)) {
        *status = ctl_wrong(u, CTL_URL_WANTED, o->server.url);
        return -1;
    }
    return first;
}

static int simple(const struct ctl_usage *u, int argc, char **argv, const struct ctl_request *q)
{
    struct options o;
    int status;
    return parse(u, argc, argv, &o, &status) < 0 ? status : ask_and_show(&o, q);
}

int ctl_status(int argc, char **argv)
{
    return simple(&status_usage, argc, argv, &(struct ctl_request){.method = "GET", .path = "/v1/status"});
}

/* Browsers cannot send application/json to another site unasked, which is why the daemon wants it even without a body to speak
 * of. */
int ctl_reload(int argc, char **argv)
{
    return simple(&reload_usage, argc, argv, &(struct ctl_request){"POST", "/v1/reload", "application/json", "{}", 2});
}

int ctl_drain(int argc, char **argv)
{
    return simple(&drain_usage, argc, argv, &(struct ctl_request){"POST", "/v1/drain", "application/json", "{}", 2});
}

int ctl_precision(int argc, char **argv)
{
    struct options o;
    int status, first = parse(&precision_usage, argc, argv, &o, &status);
    if (first < 0)
        return status;
    enum precision p;
    struct err e;
    char path[32 + NETWORK_NAME_MAX] = "/precision", body[64 + NETWORK_NAME_MAX], model[16 + NETWORK_NAME_MAX] = "";
    if (o.model && name_check(o.model, &e) != 0) /* which leaves nothing to be escaped */
        return ctl_wrong(&precision_usage, "%s", e.text);
    if (first == argc) {
        if (o.model)
            snprintf(path, sizeof path, "/precision?model=%s", o.model);
        return ask_and_show(&o, &(struct ctl_request){.method = "GET", .path = path});
    }
    if (precision_parse(argv[first], &p, &e) != 0)
        return ctl_wrong(&precision_usage, "%s", e.text);
    if (o.model)
        snprintf(model, sizeof model, ",\"model\":\"%s\"", o.model);
    int n = snprintf(body, sizeof body, "{\"precision\":\"%s\"%s}", precision_name(p), model);
    return ask_and_show(&o, &(struct ctl_request){"PUT", "/precision", "application/json", body, (size_t)n});
}

static int predict_path(const struct options *o, char path[256], struct err *e)
{
    enum precision p;
    int n = snprintf(path, 256, "/predict");
    if (o->top_k)
        n += snprintf(path + n, 256 - (size_t)n, "?top_k=%d", o->top_k);
    if (o->precision) {
        if (precision_parse(o->precision, &p, e) != 0)
            return -1;
        n += snprintf(path + n, 256 - (size_t)n, "%cprecision=%s", strchr(path, '?') ? '&' : '?', precision_name(p));
    }
    if (o->model) {
        if (name_check(o->model, e) != 0)
            return -1;
        snprintf(path + n, 256 - (size_t)n, "%cmodel=%s", strchr(path, '?') ? '&' : '?', o->model);
    }
    return 0;
}

static int predict_one(const struct options *o, const char *path, const char *file)
{
    struct ctl_reply r = {0};
    struct err e;
    uint8_t *bytes;
    size_t size;
    if (ctl_read_file(file, CTL_IMAGE_BYTES_MAX, &bytes, &size, &e) != 0)
        return ctl_fail(&e);
    /* The daemon goes by the content, whatever the type says; what may stand in between does not. */
    char type[32] = "application/octet-stream";
    enum image_format format = image_recognise(bytes, size);
    if (format != IMAGE_UNKNOWN)
        snprintf(type, sizeof type, "image/%s", image_format_name(format));
    int rc = ctl_ask(&o->server, &(struct ctl_request){"POST", path, type, bytes, size}, &r, &e);
    free(bytes);
    if (rc != 0) {
        err_prefix(&e, "%s", file);
        return ctl_fail(&e);
    }
    int status = show(o, &r, file);
    free(r.text);
    return status;
}

int ctl_predict(int argc, char **argv)
{
    struct options o;
    int status, first = parse(&predict_usage, argc, argv, &o, &status);
    if (first < 0)
        return status;
    char path[256];
    struct err e;
    if (predict_path(&o, path, &e) != 0)
        return ctl_wrong(&predict_usage, "%s", e.text);
    status = CTL_DONE;
    for (int i = first; i < argc; i++)
        if (predict_one(&o, path, argv[i]) != CTL_DONE)
            status = CTL_FAILED;
    return status;
}

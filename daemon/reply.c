// SPDX-License-Identifier: MIT
#include "daemon/reply.h"

#include <stdarg.h>
#include <stdio.h>

static const struct {
    int status;
    const char *name, *title;
} problems[] = {
    [PROBLEM_BAD_REQUEST] = {400, "bad-request", "Bad request"},
    [PROBLEM_PARAMETER] = {400, "invalid-parameter", "Invalid parameter"},
    [PROBLEM_HOST] = {403, "host-not-allowed", "Host not allowed"},
    [PROBLEM_SITE] = {403, "cross-site", "From another site's page"},
    [PROBLEM_FORBIDDEN] = {403, "forbidden", "Not allowed to change this"},
    [PROBLEM_NOT_FOUND] = {404, "not-found", "Not found"},
    [PROBLEM_MODEL_NOT_FOUND] = {404, "model-not-found", "Model or precision not found"},
    [PROBLEM_METHOD] = {405, "method-not-allowed", "Method not allowed"},
    [PROBLEM_SLOW] = {408, "request-timeout", "Request too slow"},
    [PROBLEM_NOT_RESIDENT] = {409, "precision-not-resident", "Precision not in memory"},
    [PROBLEM_NOT_RELOADED] = {409, "not-reloaded", "Configuration not reloaded"},
    [PROBLEM_LENGTH] = {411, "length-required", "Length required"},
    [PROBLEM_TOO_LARGE] = {413, "body-too-large", "Body too large"},
    [PROBLEM_CODING] = {415, "coding-unsupported", "Content coding not supported"},
    [PROBLEM_IMAGE_UNSUPPORTED] = {415, "image-unsupported", "Not an image that is read here"},
    [PROBLEM_IMAGE_DAMAGED] = {422, "image-damaged", "Image damaged"},
    [PROBLEM_IMAGE_TOO_LARGE] = {422, "image-too-large", "Image beyond a limit"},
    [PROBLEM_HEADER] = {431, "header-too-large", "Header too large"},
    [PROBLEM_INTERNAL] = {500, "internal", "Internal error"},
    [PROBLEM_NOT_FINITE] = {500, "not-finite", "The network's output is not finite"},
    [PROBLEM_ENCODING] = {501, "not-implemented", "Not implemented"},
    [PROBLEM_QUEUE_FULL] = {503, "queue-full", "Queue full"},
    [PROBLEM_DRAINING] = {503, "draining", "Draining"},
    [PROBLEM_MEMORY] = {503, "memory-limit", "Memory limit reached"},
    [PROBLEM_NOT_READY] = {503, "not-ready", "Not ready"},
    [PROBLEM_DEADLINE] = {504, "deadline-exceeded", "Deadline passed"},
    [PROBLEM_VERSION] = {505, "version-not-supported", "HTTP version not supported"},
};

enum problem problem_of_status(int status)
{
    switch (status) {
    case 405:
        return PROBLEM_METHOD;
    case 413:
        return PROBLEM_TOO_LARGE;
    case 431:
        return PROBLEM_HEADER;
    case 501:
        return PROBLEM_ENCODING;
    case 505:
        return PROBLEM_VERSION;
    default:
        return PROBLEM_BAD_REQUEST;
    }
}

void reply_problem(struct reply *r, enum problem p, const char *fmt, ...)
{
    char detail[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(detail, sizeof detail, fmt, ap);
    va_end(ap);
    text_free(&r->body);
    r->status = problems[p].status;
    r->type = "application/problem+json";
    r->timing[0] = '\0';
    r->json_bytes = 0;
    if (r->status == 503 && !r->retry_after)
        r->retry_after = 1;
    text_printf(&r->body, "{\"type\":\"urn:resnetd:problem:%s\",\"title\":\"%s\",\"status\":%d,\"detail\":", problems[p].name,
                problems[p].title, problems[p].status);
    text_json(&r->body, detail);
    if (r->oip) {
        text_puts(&r->body, ",\"error\":");
        text_json(&r->body, detail);
    }
    text_puts(&r->body, "}\n");
}

void reply_text(struct reply *r, const char *type, struct text *text)
{
    text_free(&r->body);
    if (text->failed) {
        text_free(text);
        reply_problem(r, PROBLEM_MEMORY, "no memory for the reply");
        return;
    }
    r->status = 200;
    r->type = type;
    r->body = *text;
    *text = (struct text){0};
}

void reply_json(struct reply *r, struct text *text)
{
    text_puts(text, "\n");
    reply_text(r, "application/json", text);
}

void reply_free(struct reply *r)
{
    text_free(&r->body);
}

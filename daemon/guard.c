// SPDX-License-Identifier: MIT
#include "daemon/guard.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

/* A letter, a digit, or one of the others. */
static int is_one_of(char c, const char *others, size_t count)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || memchr(others, c, count);
}

static int is_token(const char *s, size_t len)
{
    static const char others[] = "!#$%&'*+-.^_`|~";
    for (size_t i = 0; i < len; i++)
        if (!is_one_of(s[i], others, sizeof others - 1))
            return 0;
    return len > 0;
}

const struct guard_header *guard_find(const struct guard_request *r, const char *name, int *count)
{
    const struct guard_header *found = NULL;
    size_t len = strlen(name);
    int n = 0;
    for (int i = 0; i < r->header_count; i++)
        if (r->headers[i].name_len == len && strncasecmp(r->headers[i].name, name, len) == 0) {
            found = found ? found : &r->headers[i];
            n++;
        }
    if (count)
        *count = n;
    return found;
}

/* Each rule returns NULL, or what is wrong. */
typedef const char *rule_fn(const struct guard_request *r, struct guard_result *out);

static int is_version(const char *v)
{
    return strncmp(v, "HTTP/", 5) == 0 && v[5] >= '0' && v[5] <= '9' && v[6] == '.' && v[7] >= '0' && v[7] <= '9' && !v[8];
}

static const char *version_form(const struct guard_request *r, struct guard_result *out)
{
    (void)out;
    return is_version(r->version) ? NULL : "the version of the request line is not HTTP/1.0 or HTTP/1.1";
}

static const char *version_known(const struct guard_request *r, struct guard_result *out)
{
    (void)out;
    return r->version[5] == '1' ? NULL : "only HTTP/1.0 and HTTP/1.1 are spoken here";
}

static int is_http10(const struct guard_request *r)
{
    return strcmp(r->version, "HTTP/1.0") == 0;
}

static const char *method_form(const struct guard_request *r, struct guard_result *out)
{
    (void)out;
    return is_token(r->method, strlen(r->method)) && strlen(r->method) <= 32 ? NULL
                                                                             : "the method is not a token of 1 to 32 characters";
}

static const char *method_allowed(const struct guard_request *r, struct guard_result *out)
{
    (void)out;
    return strcmp(r->method, "CONNECT") && strcmp(r->method, "TRACE") ? NULL : "CONNECT and TRACE are not available here";
}

static const char *uri_bytes(const struct guard_request *r, struct guard_result *out)
{
    (void)out;
    for (const unsigned char *p = (const unsigned char *)r->uri; *p; p++) {
        if (*p <= 0x20 || *p >= 0x7f || strchr("\"<>\\^`{|}#", *p))
            return "the request target holds a character that must be percent-encoded";
        if (p[0] == '%' && p[1] == '0' && p[2] == '0')
            return "the request target holds an encoded NUL";
    }
    return NULL;
}

static const char *uri_form(const struct guard_request *r, struct guard_result *out)
{
    const char *uri = r->uri;
    if (strcmp(uri, "*") == 0 && strcmp(r->method, "OPTIONS") == 0) {
        out->path = uri;
        return NULL;
    }
    size_t scheme = strncasecmp(uri, "http://", 7) == 0 ? 7 : strncasecmp(uri, "https://", 8) == 0 ? 8 : 0;
    if (scheme) { /* absolute form; its authority must agree with Host */
        const char *authority = uri + scheme;
        size_t len = strcspn(authority, "/?");
        int n;
        const struct guard_header *host = guard_find(r, "Host", &n);
        if (len == 0 || (host && (host->value_len != len || strncasecmp(host->value, authority, len) != 0)))
            return "the host in the request target and the Host header differ";
        uri = authority[len] == '/' ? authority + len : "/";
    }
    if (*uri != '/')
        return "the request target must start with '/'";
    out->path = uri;
    return NULL;
}

static const char *header_size(const struct guard_request *r, struct guard_result *out)
{
    (void)out;
    return r->too_large ? "the header has more than 100 fields or 32 KiB" : NULL;
}

static const char *header_whole(const struct guard_request *r, struct guard_result *out)
{
    (void)out;
    return r->hidden ? "a line of the header is folded, has no name, holds a NUL or does not end with CR LF" : NULL;
}

static const char *header_names(const struct guard_request *r, struct guard_result *out)
{
    (void)out;
    for (int i = 0; i < r->header_count; i++)
        if (!is_token(r->headers[i].name, r->headers[i].name_len))
            return "a header field's name is not a token";
    return NULL;
}

static const char *header_values(const struct guard_request *r, struct guard_result *out)
{
    (void)out;
    for (int i = 0; i < r->header_count; i++)
        for (size_t j = 0; j < r->headers[i].value_len; j++) {
            unsigned char c = (unsigned char)r->headers[i].value[j];
            if ((c < 0x20 && c != '\t') || c == 0x7f)
                return "a header field's value holds a control character";
        }
    return NULL;
}

static const char *host_once(const struct guard_request *r, struct guard_result *out)
{
    int n;
    (void)out;
    guard_find(r, "Host", &n);
    if (n > 1)
        return "Host is given more than once";
    return n == 0 && !is_http10(r) ? "Host is missing" : NULL;
}

/* Splits "name:port" and "[v6]:port"; the port must be digits. */
static const char *host_form(const struct guard_request *r, struct guard_result *out)
{
    const struct guard_header *h = guard_find(r, "Host", NULL);
    if (!h)
        return NULL;
    const char *v = h->value, *wrong = "Host is not a name or address with an optional port";
    size_t len = h->value_len, end = 0;
    if (len == 0 || len >= GUARD_HOST_MAX)
        return "Host is empty or too long";
    if (v[0] == '[') {
        const char *close = memchr(v, ']', len);
        end = close ? (size_t)(close - v) + 1 : 0;
        for (size_t i = 1; i + 1 < end; i++)
            if (!((v[i] >= '0' && v[i] <= '9') || (v[i] >= 'a' && v[i] <= 'f') || (v[i] >= 'A' && v[i] <= 'F') || v[i] == ':' ||
                  v[i] == '.'))
                return wrong;
    } else {
        static const char others[] = "-._~%!$&'()*+;=";
        for (; end < len && v[end] != ':'; end++)
            if (!is_one_of(v[end], others, sizeof others - 1))
                return wrong;
    }
    if (end == 0 || (end < len && v[end] != ':') || len - end > 6)
        return wrong;
    for (size_t i = end + 1; i < len; i++)
        if (v[i] < '0' || v[i] > '9')
            return wrong;
    for (size_t i = 0; i < end; i++)
        out->host[i] = v[i] >= 'A' && v[i] <= 'Z' ? (char)(v[i] + 32) : v[i];
    out->host[end] = '\0';
    return NULL;
}

/* What decides who may do what, and how a body is read: a proxy may have looked at another one than we would. */
static const char *given_once(const struct guard_request *r, struct guard_result *out)
{
    static const char *const names[] = {"Authorization", "Content-Encoding", "Content-Type",
                                        "Expect",        "Origin",           "Inference-Header-Content-Length",
                                        "Sec-Fetch-Site"};
    (void)out;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        int n;
        guard_find(r, names[i], &n);
        if (n > 1)
            return "a field that decides about rights or about the body is given more than once";
    }
    return NULL;
}

static const char *length_form(const struct guard_request *r, struct guard_result *out)
{
    int n;
    const struct guard_header *h = guard_find(r, "Content-Length", &n);
    if (n > 1)
        return "Content-Length is given more than once";
    if (!h)
        return NULL;
    if (h->value_len < 1 || h->value_len > 18 || (h->value[0] == '0' && h->value_len > 1))
        return "Content-Length is not a number of 1 to 18 digits without leading zeros";
    int64_t v = 0;
    for (size_t i = 0; i < h->value_len; i++) {
        if (h->value[i] < '0' || h->value[i] > '9')
            return "Content-Length is not a number of 1 to 18 digits without leading zeros";
        v = v * 10 + (h->value[i] - '0');
    }
    out->length = v;
    out->has_body = v > 0;
    return NULL;
}

static const char *encoding_once(const struct guard_request *r, struct guard_result *out)
{
    int n;
    const struct guard_header *h = guard_find(r, "Transfer-Encoding", &n);
    if (n > 1)
        return "Transfer-Encoding is given more than once";
    if (!h)
        return NULL;
    if (is_http10(r))
        return "HTTP/1.0 has no Transfer-Encoding";
    if (guard_find(r, "Content-Length", NULL))
        return "Content-Length and Transfer-Encoding exclude each other";
    out->chunked = out->has_body = 1;
    return NULL;
}

static const char *encoding_form(const struct guard_request *r, struct guard_result *out)
{
    const struct guard_header *h = guard_find(r, "Transfer-Encoding", NULL);
    (void)out;
    return !h || (h->value_len == 7 && strncasecmp(h->value, "chunked", 7) == 0)
               ? NULL
               : "the only Transfer-Encoding read here is chunked";
}

static const char *length_limit(const struct guard_request *r, struct guard_result *out)
{
    return out->length > r->body_max ? "the body is larger than max_body" : NULL;
}

/* In this order; the first that objects answers. The connection is closed after each of them. */
static const struct rule {
    rule_fn *check;
    int status;
} rules[] = {
    {version_form, 400}, {version_known, 505}, {method_form, 400},   {header_size, 431},   {header_whole, 400},
    {uri_bytes, 400},    {header_names, 400},  {header_values, 400}, {host_once, 400},     {host_form, 400},
    {given_once, 400},   {length_form, 400},   {encoding_once, 400}, {encoding_form, 400}, {method_allowed, 405},
    {uri_form, 400},     {length_limit, 413},
};

void guard_check(const struct guard_request *r, struct guard_result *out)
{
    *out = (struct guard_result){.length = -1, .path = "/"};
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        out->detail = rules[i].check(r, out);
        if (out->detail) {
            out->status = rules[i].status;
            return;
        }
    }
}

int guard_is_loopback_name(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;
    char plain[GUARD_HOST_MAX];
    size_t len = strlen(host);
    if (strcmp(host, "localhost") == 0 || (len > 10 && strcmp(host + len - 10, ".localhost") == 0))
        return 1;
    if (inet_pton(AF_INET, host, &v4) == 1)
        return (ntohl(v4.s_addr) >> 24) == 127;
    if (len < 3 || host[0] != '[' || host[len - 1] != ']' || len >= sizeof plain)
        return 0;
    memcpy(plain, host + 1, len - 2);
    plain[len - 2] = '\0';
    return inet_pton(AF_INET6, plain, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

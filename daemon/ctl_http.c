// SPDX-License-Identifier: MIT
//
// libcurl is loaded when the first request is made: with what it depends on it takes 4 ms and 5 MB, which commands that run a
// network here shall not pay.

#include "daemon/ctl_http.h"
#include "daemon/ctl.h"

#include <curl/curl.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/json.h"

#define REPLY_BYTES_MAX (64u << 20)
#define TOKEN_FILE_MAX  4096

#undef curl_easy_setopt /* macros that check types where they are called by name */
#undef curl_easy_getinfo

struct curl_api {
    __typeof__(curl_easy_init) *easy_init;
    __typeof__(curl_easy_setopt) *easy_setopt;
    __typeof__(curl_easy_perform) *easy_perform;
    __typeof__(curl_easy_getinfo) *easy_getinfo;
    __typeof__(curl_easy_strerror) *easy_strerror;
    __typeof__(curl_easy_cleanup) *easy_cleanup;
    __typeof__(curl_slist_append) *slist_append;
    __typeof__(curl_slist_free_all) *slist_free_all;
};

/* The library stays loaded: its own exit handlers outlive us. */
static int load_curl(struct curl_api *curl, struct err *e)
{
    static const char *const names[] = {"libcurl-gnutls.so.4", "libcurl.so.4", "libcurl-nss.so.4"};
    const struct {
        const char *name;
        void *place;
    } functions[] = {{"curl_easy_init", &curl->easy_init},         {"curl_easy_setopt", &curl->easy_setopt},
                     {"curl_easy_perform", &curl->easy_perform},   {"curl_easy_getinfo", &curl->easy_getinfo},
                     {"curl_easy_strerror", &curl->easy_strerror}, {"curl_easy_cleanup", &curl->easy_cleanup},
                     {"curl_slist_append", &curl->slist_append},   {"curl_slist_free_all", &curl->slist_free_all}};
    void *library = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names && !library; i++)
        library = dlopen(names[i], RTLD_NOW);
    if (!library)
        return err_set(e, ERR_UNSUPPORTED, "cannot talk to a daemon without libcurl: install libcurl3-gnutls or libcurl4 (%s)",
                       dlerror());
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        void *f = dlsym(library, functions[i].name);
        if (!f)
            return err_set(e, ERR_UNSUPPORTED, "libcurl has no %s", functions[i].name);
        memcpy(functions[i].place, &f, sizeof f);
    }
    return 0;
}

int ctl_is_url(const char *url)
{
    return !strncmp(url, "unix:/", 6) || !strncmp(url, "http://", 7) || !strncmp(url, "https://", 8);
}

struct incoming {
    char *text;
    size_t size;
    int too_large;
};

static size_t take_reply(char *bytes, size_t one, size_t count, void *user)
{
    struct incoming *r = user;
    size_t n = one * count;
    if (n > REPLY_BYTES_MAX - r->size) {
        r->too_large = 1;
        return 0;
    }
    char *more = realloc(r->text, r->size + n + 1);
    if (!more)
        return 0;
    r->text = more;
    memcpy(r->text + r->size, bytes, n);
    r->size += n;
    r->text[r->size] = '\0';
    return n;
}

/* "Authorization: Bearer ..." from the first line of the file. */
static int read_token(const char *path, char **header, struct err *e)
{
    uint8_t *bytes;
    size_t size;
    if (ctl_read_file(path, TOKEN_FILE_MAX, &bytes, &size, e) != 0)
        return -1;
    char *token = (char *)bytes;
    token[strcspn(token, "\r\n")] = '\0';
    int rc = 0;
    if (!*token)
        rc = err_set(e, ERR_INPUT, "%s: there is no token on the first line", path);
    else if (asprintf(header, "Authorization: Bearer %s", token) < 0)
        rc = err_set(e, ERR_MEMORY, "no memory for the token");
    free(bytes);
    return rc;
}

static int add_header(const struct curl_api *curl, struct curl_slist **list, const char *line, struct err *e)
{
    struct curl_slist *more = curl->slist_append(*list, line);
    if (!more)
        return err_set(e, ERR_MEMORY, "no memory for a request");
    *list = more;
    return 0;
}

static int set_headers(const struct curl_api *curl, const struct ctl_server *s, const struct ctl_request *q,
                       struct curl_slist **list, struct err *e)
{
    char line[128], *token = NULL;
    if (add_header(curl, list, "Expect:", e) != 0 || add_header(curl, list, "Accept: application/json", e) != 0)
        return -1;
    if (q->content_type) {
        snprintf(line, sizeof line, "Content-Type: %s", q->content_type);
        if (add_header(curl, list, line, e) != 0)
            return -1;
    }
    if (!s->token_file)
        return 0;
    if (read_token(s->token_file, &token, e) != 0)
        return -1;
    int rc = add_header(curl, list, token, e);
    free(token);
    return rc;
}

/* The address that --url names, with the path behind it. */
static int set_address(const struct curl_api *curl, CURL *c, const struct ctl_server *s, const char *path, struct err *e)
{
    char *url = NULL;
    CURLcode rc = CURLE_OK;
    if (!strncmp(s->url, "unix:", 5)) {
        rc = curl->easy_setopt(c, CURLOPT_UNIX_SOCKET_PATH, s->url + 5);
        if (asprintf(&url, "http://localhost%s", path) < 0)
            url = NULL;
    } else {
        size_t n = strlen(s->url);
        while (n > 0 && s->url[n - 1] == '/')
            n--;
        if (asprintf(&url, "%.*s%s", (int)n, s->url, path) < 0)
            url = NULL;
    }
    if (url && rc == CURLE_OK)
        rc = curl->easy_setopt(c, CURLOPT_URL, url);
    int bad = !url || rc != CURLE_OK;
    free(url);
    return bad ? err_set(e, ERR_INPUT, "%s is not a usable address", s->url) : 0;
}

static int set_options(const struct curl_api *curl, CURL *c, const struct ctl_server *s, const struct ctl_request *q,
                       struct curl_slist *headers, char *reason, struct incoming *r)
{
    int bad = 0;
    bad |= curl->easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    bad |= curl->easy_setopt(c, CURLOPT_PROXY, ""); /* the daemon is near: proxies of the environment would only be in the way */
    bad |= curl->easy_setopt(c, CURLOPT_TIMEOUT, (long)s->timeout);
    bad |= curl->easy_setopt(c, CURLOPT_ERRORBUFFER, reason);
    bad |= curl->easy_setopt(c, CURLOPT_HTTPHEADER, headers);
    bad |= curl->easy_setopt(c, CURLOPT_WRITEFUNCTION, take_reply);
    bad |= curl->easy_setopt(c, CURLOPT_WRITEDATA, r);
    bad |= curl->easy_setopt(c, CURLOPT_USERAGENT, "resnetctl");
    if (s->ca_file)
        bad |= curl->easy_setopt(c, CURLOPT_CAINFO, s->ca_file);
    if (strcmp(q->method, "GET")) {
        bad |= curl->easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)q->size);
        bad |= curl->easy_setopt(c, CURLOPT_POSTFIELDS, q->size ? q->body : "");
        bad |= curl->easy_setopt(c, CURLOPT_CUSTOMREQUEST, q->method);
    }
    return bad;
}

/* "title: detail" of an application/problem+json body; whatever else came is named by its status alone. */
static int problem(const struct ctl_server *s, long status, const struct incoming *r, struct err *e)
{
    cJSON *body = r->text ? json_parse(r->text, r->size, e) : NULL;
    const char *title = NULL, *detail = NULL;
    if (cJSON_IsObject(body)) {
        title = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(body, "title"));
        detail = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(body, "detail"));
    }
    if (title || detail)
        err_set(e, ERR_INPUT, "%s%s%s (status %ld)", title ? title : "", title && detail ? ": " : "", detail ? detail : "",
                status);
    else
        err_set(e, ERR_INPUT, "%s answers with status %ld", s->url, status);
    cJSON_Delete(body);
    return -1;
}

/* libcurl names a port that a unix socket does not have; the system's reason is the plainer one for both. */
static int no_answer(const struct curl_api *curl, CURL *c, const struct ctl_server *s, CURLcode done, const char *reason,
                     struct err *e)
{
    long number = 0;
    if (done == CURLE_COULDNT_CONNECT && curl->easy_getinfo(c, CURLINFO_OS_ERRNO, &number) == CURLE_OK && number > 0)
        return err_set(e, ERR_IO, "no answer from %s: %s; is resnetd running there?", s->url, strerror((int)number));
    if (done == CURLE_PEER_FAILED_VERIFICATION)
        return err_set(e, ERR_IO, "%s has no certificate that is trusted here: %s; --cacert FILE names one to trust", s->url,
                       reason);
    if (done == CURLE_SSL_CACERT_BADFILE)
        return err_set(e, ERR_IO, "%s: no certificates that can be read", s->ca_file ? s->ca_file : "the system's certificates");
    return err_set(e, ERR_IO, "no answer from %s: %s", s->url, *reason ? reason : curl->easy_strerror(done));
}

int ctl_ask(const struct ctl_server *s, const struct ctl_request *q, struct ctl_reply *r, struct err *e)
{
    char reason[CURL_ERROR_SIZE] = "";
    struct curl_slist *headers = NULL;
    struct incoming got = {0};
    long status = 0;
    struct curl_api api, *curl = &api;
    if (load_curl(curl, e) < 0)
        return -1;
    CURL *c = curl->easy_init();
    int rc = c ? 0 : err_set(e, ERR_MEMORY, "no memory for a connection");
    if (rc == 0)
        rc = set_headers(curl, s, q, &headers, e);
    if (rc == 0)
        rc = set_address(curl, c, s, q->path, e);
    if (rc == 0 && set_options(curl, c, s, q, headers, reason, &got) != 0)
        rc = err_set(e, ERR_INTERNAL, "libcurl refuses a request");
    if (rc == 0) {
        CURLcode done = curl->easy_perform(c);
        if (got.too_large)
            rc = err_set(e, ERR_TOO_LARGE, "%s answers with more than %u bytes", s->url, REPLY_BYTES_MAX);
        else if (done != CURLE_OK)
            rc = no_answer(curl, c, s, done, reason, e);
        else if (curl->easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status) != CURLE_OK || status < 200 || status > 299)
            rc = problem(s, status, &got, e);
    }
    curl->slist_free_all(headers);
    curl->easy_cleanup(c);
    if (rc == 0)
        *r = (struct ctl_reply){got.text, got.size};
    else
        free(got.text);
    return rc;
}

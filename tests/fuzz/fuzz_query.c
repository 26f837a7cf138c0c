// SPDX-License-Identifier: MIT
//
// fuzz_query.c - any request target: its query is refused with a reason, or read into names and values without control
// characters; numbers that are accepted lie in their range.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/query.h"
#include "daemon/text.h"
#include "models/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "fuzz_query: %s\n", what);
        abort();
    }
}

static void check_word(const struct query *q, const char *s)
{
    require(s >= q->text && s + strlen(s) < q->text + sizeof q->text, "a word outside of the query's text");
    for (; *s; s++)
        require((unsigned char)*s >= 0x20 && *s != 0x7f, "a control character");
}

/* What a stranger wrote is quoted in answers: those must be JSON. */
static void check_quoted(const char *s)
{
    struct text t = {0};
    struct err e;
    text_json(&t, s);
    cJSON *json = t.failed ? NULL : json_parse(t.s, t.len, &e);
    require(t.failed || cJSON_IsString(json), "a text that is not JSON");
    cJSON_Delete(json);
    text_free(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const known[] = {"top_k", "threshold", "precision", "model", NULL};
    struct query q;
    struct err e = {.text = ""};
    char *uri = malloc(size + 1); /* exactly as long as it is */
    if (!uri)
        return 0;
    memcpy(uri, data, size);
    uri[size] = '\0';
    if (query_parse(uri, &q, &e) < 0) {
        require(e.code == ERR_INPUT && e.text[0], "an error without a reason");
        check_quoted(e.text);
        free(uri);
        return 0;
    }
    free(uri); /* nothing may point there */
    require(q.count >= 0 && q.count <= QUERY_MAX, "too many parameters");
    for (int i = 0; i < q.count; i++) {
        long whole = 3;
        double number = 0.25;
        check_word(&q, q.items[i].name);
        check_word(&q, q.items[i].value);
        require(query_get(&q, q.items[i].name) == q.items[i].value, "a parameter is not found by its name");
        check_quoted(q.items[i].value);
        if (query_int(&q, q.items[i].name, 1, 1000, &whole, &e) == 0)
            require(whole >= 1 && whole <= 1000, "a whole number out of range");
        else
            require(whole == 3 && e.text[0], "a refused number was written");
        if (query_number(&q, q.items[i].name, 0, 1, &number, &e) == 0)
            require(number >= 0 && number <= 1, "a number out of range");
        else
            require(number >= 0.25 && number <= 0.25 && e.text[0], "a refused number was written");
    }
    if (query_only(&q, known, &e) < 0)
        check_quoted(e.text);
    return 0;
}

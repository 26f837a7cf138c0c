// SPDX-License-Identifier: MIT
#include "daemon/multipart.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static int boundary_char(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c && strchr("'()+_,-./:=? ", c));
}

static const char *skip_blank(const char *s, const char *end)
{
    while (s < end && (*s == ' ' || *s == '\t'))
        s++;
    return s;
}

/* Reads "; name=value" or "; name="value"" at *s; 1 and *s behind it, 0 at the end, -1 malformed. The value keeps its escapes. */
static int parameter(const char **s, const char *end, const char **name, size_t *name_len, const char **value, size_t *value_len)
{
    const char *p = skip_blank(*s, end);
    if (p == end)
        return 0;
    if (*p++ != ';')
        return -1;
    p = skip_blank(p, end);
    *name = p;
    while (p < end && *p != '=' && *p != ';' && *p != ' ')
        p++;
    *name_len = (size_t)(p - *name);
    if (p == end || *p++ != '=' || *name_len == 0)
        return -1;
    if (p < end && *p == '"') {
        *value = ++p;
        while (p < end && *p != '"')
            p += *p == '\\' && p + 1 < end ? 2 : 1;
        if (p >= end)
            return -1;
        *value_len = (size_t)(p++ - *value);
    } else {
        *value = p;
        while (p < end && *p != ';' && *p != ' ' && *p != '\t')
            p++;
        *value_len = (size_t)(p - *value);
    }
    *s = p;
    return 1;
}

static int is_word(const char *s, size_t len, const char *word)
{
    return len == strlen(word) && strncasecmp(s, word, len) == 0;
}

int multipart_boundary(const char *content_type, char out[71], struct err *e)
{
    const char *s = content_type + strcspn(content_type, ";"), *end = content_type + strlen(content_type);
    const char *name, *value, *found = NULL;
    size_t name_len, value_len, found_len = 0;
    int more;
    while ((more = parameter(&s, end, &name, &name_len, &value, &value_len)) > 0) {
        if (!is_word(name, name_len, "boundary"))
            continue;
        if (found)
            return err_set(e, ERR_INPUT, "Content-Type names two boundaries");
        found = value;
        found_len = value_len;
    }
    if (more < 0 || !found)
        return err_set(e, ERR_INPUT, "Content-Type multipart/form-data comes without a readable boundary");
    if (found_len < 1 || found_len > 70 || found[found_len - 1] == ' ')
        return err_set(e, ERR_INPUT, "the multipart boundary has %zu characters; 1 to 70 are allowed", found_len);
    for (size_t i = 0; i < found_len; i++)
        if (!boundary_char((unsigned char)found[i]))
            return err_set(e, ERR_INPUT, "character %zu of the multipart boundary is not allowed there", i + 1);
    memcpy(out, found, found_len);
    out[found_len] = '\0';
    return 0;
}

struct part {
    int has_disposition, has_filename, named_image;
};

/* One header line of a part, without its CRLF. */
static int part_header(const char *line, const char *end, struct part *part, struct err *e)
{
    const char *colon = memchr(line, ':', (size_t)(end - line));
    if (!colon || colon == line)
        return err_set(e, ERR_INPUT, "a multipart header line has no name");
    for (const char *p = line; p < end; p++)
        if ((unsigned char)*p < 0x20 && *p != '\t')
            return err_set(e, ERR_INPUT, "a multipart header holds a control character");
    size_t name_len = (size_t)(colon - line);
    const char *value = skip_blank(colon + 1, end);
    if (is_word(line, name_len, "Content-Transfer-Encoding")) {
        size_t len = (size_t)(end - value);
        if (!is_word(value, len, "binary") && !is_word(value, len, "8bit") && !is_word(value, len, "7bit"))
            return err_set(e, ERR_INPUT, "a multipart part uses a transfer encoding other than binary");
        return 0;
    }
    if (!is_word(line, name_len, "Content-Disposition"))
        return 0;
    if (part->has_disposition)
        return err_set(e, ERR_INPUT, "a multipart part has two Content-Disposition headers");
    part->has_disposition = 1;
    const char *s = value;
    while (s < end && *s != ';' && *s != ' ')
        s++;
    if (!is_word(value, (size_t)(s - value), "form-data"))
        return err_set(e, ERR_INPUT, "a multipart part is not form-data");
    const char *name, *v;
    size_t v_len;
    int more;
    while ((more = parameter(&s, end, &name, &name_len, &v, &v_len)) > 0) {
        if (is_word(name, name_len, "filename") || is_word(name, name_len, "filename*"))
            part->has_filename = 1;
        else if (is_word(name, name_len, "name"))
            part->named_image = is_word(v, v_len, "image") || is_word(v, v_len, "file");
    }
    return more < 0 ? err_set(e, ERR_INPUT, "a Content-Disposition of the multipart body cannot be read") : 0;
}

int multipart_file(const uint8_t *body, size_t size, const char *boundary, const uint8_t **file, size_t *file_size, struct err *e)
{
    char delimiter[80]; /* CRLF "--" boundary */
    size_t d = (size_t)snprintf(delimiter, sizeof delimiter, "\r\n--%s", boundary);
    const char *p = (const char *)body, *end = p + size;
    const char *found[2] = {NULL, NULL}; /* by filename, by name */
    size_t found_size[2] = {0, 0};
    int count[2] = {0, 0};

    if (size < d - 2 || memcmp(p, delimiter + 2, d - 2) != 0)
        return err_set(e, ERR_INPUT, "the body does not start with the multipart boundary");
    p += d - 2;
    for (int parts = 0;; parts++) {
        if (end - p >= 2 && memcmp(p, "--", 2) == 0) { /* the last delimiter; one CRLF may follow */
            if (end - p != 2 && !(end - p == 4 && memcmp(p + 2, "\r\n", 2) == 0))
                return err_set(e, ERR_INPUT, "bytes follow the closing multipart boundary");
            break;
        }
        if (parts == MULTIPART_PARTS_MAX)
            return err_set(e, ERR_INPUT, "the multipart body has more than %d parts", MULTIPART_PARTS_MAX);
        if (end - p < 2 || memcmp(p, "\r\n", 2) != 0)
            return err_set(e, ERR_INPUT, "a multipart boundary is not followed by a line end");
        p += 2;
        struct part part = {0};
        const char *header = p;
        for (;;) {
            const char *eol = memmem(p, (size_t)(end - p), "\r\n", 2);
            if (!eol || eol - header > MULTIPART_HEADER_MAX)
                return err_set(e, ERR_INPUT, "a multipart part's header does not end");
            if (eol == p) {
                p += 2;
                break;
            }
            if (part_header(p, eol, &part, e) < 0)
                return -1;
            p = eol + 2;
        }
        if (!part.has_disposition)
            return err_set(e, ERR_INPUT, "a multipart part has no Content-Disposition");
        const char *data = p; /* an empty part's delimiter may begin with the CRLF that ended the header */
        const char *next = memmem(p - 2, (size_t)(end - p) + 2, delimiter, d);
        if (!next)
            return err_set(e, ERR_INPUT, "the multipart body ends without its closing boundary");
        size_t n = next < data ? 0 : (size_t)(next - data);
        int kind = part.has_filename ? 0 : part.named_image ? 1 : -1;
        if (kind >= 0) {
            count[kind]++;
            found[kind] = data;
            found_size[kind] = n;
        }
        p = next + d;
    }
    int kind = count[0] ? 0 : 1;
    if (count[kind] == 0)
        return err_set(e, ERR_INPUT, "the multipart body holds no file");
    if (count[kind] > 1)
        return err_set(e, ERR_INPUT, "the multipart body holds %d files; send one per request", count[kind]);
    *file = (const uint8_t *)found[kind];
    *file_size = found_size[kind];
    return 0;
}

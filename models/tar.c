// SPDX-License-Identifier: MIT

#include "config.h" /* 64-bit file offsets on 32-bit machines */

#include "models/tar.h"

#include "models/input.h"

#include <stdlib.h>
#include <string.h>

/* Fields of a header: offset and bytes. */
enum {
    NAME = 0,
    NAME_BYTES = 100,
    SIZE = 124,
    SIZE_BYTES = 12,
    CHECKSUM = 148,
    CHECKSUM_BYTES = 8,
    TYPE = 156,
    MAGIC = 257,
    PREFIX = 345,
    PREFIX_BYTES = 155
};

struct walk {
    int fd;
    uint64_t bytes;
    uint64_t at; /* of the header in hand */
    uint8_t header[TAR_BLOCK];
    char name[TAR_NAME_MAX + 1];
    int has_name, has_size; /* an extended header has given them for the next member */
    uint64_t size;
    char *extended; /* TAR_EXTENDED_MAX bytes and a terminator */
};

int tar_recognise(const uint8_t *block, size_t size)
{
    return size >= TAR_BLOCK && memcmp(block + MAGIC, "ustar", 5) == 0;
}

/* Octal digits between spaces, ended by a space, a NUL or the field; or, with the first bit set, GNU's big-endian binary. */
static int read_number(const uint8_t *field, int bytes, uint64_t *out)
{
    uint64_t v = 0;
    int i = 0, digits = 0;
    if (field[0] & 0x80) {
        if (field[0] != 0x80)
            return -1; /* negative, or beyond any file */
        for (i = 1; i < bytes; i++) {
            if (v >> 55)
                return -1;
            v = v << 8 | field[i];
        }
        *out = v;
        return 0;
    }
    while (i < bytes && field[i] == ' ')
        i++;
    for (; i < bytes && field[i] >= '0' && field[i] <= '7'; i++, digits++)
        v = v << 3 | (uint64_t)(field[i] - '0'); /* 12 digits at most */
    if (digits == 0 || (i < bytes && field[i] != ' ' && field[i] != '\0'))
        return -1;
    *out = v;
    return 0;
}

static int check_sum(const uint8_t *header)
{
    uint64_t sum = 0, wanted;
    for (int i = 0; i < TAR_BLOCK; i++)
        sum += i >= CHECKSUM && i < CHECKSUM + CHECKSUM_BYTES ? ' ' : header[i];
    return read_number(header + CHECKSUM, CHECKSUM_BYTES, &wanted) == 0 && wanted == sum;
}

static int set_name(struct walk *w, const char *name, size_t length, struct err *e)
{
    if (length > TAR_NAME_MAX)
        return err_set(e, ERR_TOO_LARGE, "a name of %zu bytes, the limit is %d", length, TAR_NAME_MAX);
    if (length == 0 || memchr(name, '\0', length))
        return err_set(e, ERR_DAMAGED, "a name that is empty or holds a NUL");
    memcpy(w->name, name, length);
    w->name[length] = '\0';
    w->has_name = 1;
    return 0;
}

/* ustar keeps long names in two fields; GNU tar and the old format have other things where the second would be. */
static int take_name(struct walk *w, struct err *e)
{
    const char *h = (const char *)w->header;
    char joined[PREFIX_BYTES + 1 + NAME_BYTES];
    size_t length = 0;
    if (w->has_name)
        return 0;
    if (memcmp(h + MAGIC, "ustar", 6) == 0) {
        length = strnlen(h + PREFIX, PREFIX_BYTES);
        memcpy(joined, h + PREFIX, length);
        if (length > 0)
            joined[length++] = '/';
    }
    const size_t rest = strnlen(h + NAME, NAME_BYTES);
    memcpy(joined + length, h + NAME, rest);
    return set_name(w, joined, length + rest, e);
}

static int read_extended(struct walk *w, uint64_t size, struct err *e)
{
    if (size > TAR_EXTENDED_MAX)
        return err_set(e, ERR_TOO_LARGE, "an extended header of %llu bytes, the limit is %d", (unsigned long long)size,
                       TAR_EXTENDED_MAX);
    if (!w->extended && !(w->extended = malloc(TAR_EXTENDED_MAX + 1)))
        return err_set(e, ERR_MEMORY, "no memory for an extended header");
    w->extended[size] = '\0';
    return input_read(w->fd, w->extended, size, w->at + TAR_BLOCK, e);
}

/* Decimal digits up to `end`, and only these. */
static int read_decimal(const char *p, const char *end, uint64_t *out)
{
    uint64_t v = 0;
    if (p == end || end - p > 18)
        return -1;
    for (; p < end; p++) {
        if (*p < '0' || *p > '9')
            return -1;
        v = v * 10 + (uint64_t)(*p - '0');
    }
    *out = v;
    return 0;
}

static int take_record(struct walk *w, int global, const char *key, const char *value, const char *end, struct err *e)
{
    const int is_path = strncmp(key, "path=", 5) == 0, is_size = strncmp(key, "size=", 5) == 0;
    if (strncmp(key, "GNU.sparse.", 11) == 0)
        return err_set(e, ERR_UNSUPPORTED, "a sparse file: make the archive without --sparse");
    if (global && (is_path || is_size))
        return err_set(e, ERR_UNSUPPORTED, "a global header that gives a name or a size");
    if (is_path)
        return set_name(w, value, (size_t)(end - value), e);
    if (is_size) {
        if (read_decimal(value, end, &w->size) < 0)
            return err_set(e, ERR_DAMAGED, "an extended header with a size that is no number");
        w->has_size = 1;
    }
    return 0;
}

/* Records "LENGTH KEY=VALUE\n", LENGTH counting all of it. */
static int take_extended(struct walk *w, uint64_t size, int global, struct err *e)
{
    if (read_extended(w, size, e) < 0)
        return -1;
    for (const char *p = w->extended, *end = p + size; p < end;) {
        uint64_t length;
        const char *space = memchr(p, ' ', (size_t)(end - p));
        if (!space || read_decimal(p, space, &length) < 0 || length > (uint64_t)(end - p) || length < (uint64_t)(space - p) + 3 ||
            p[length - 1] != '\n')
            return err_set(e, ERR_DAMAGED, "an extended header that is no list of records");
        const char *key = space + 1, *stop = p + length - 1, *equals = memchr(key, '=', (size_t)(stop - key));
        if (!equals)
            return err_set(e, ERR_DAMAGED, "an extended header that is no list of records");
        if (take_record(w, global, key, equals + 1, stop, e) < 0)
            return -1;
        p += length;
    }
    return 0;
}

/* What GNU tar puts in front of a member with a long name. */
static int take_long_name(struct walk *w, uint64_t size, struct err *e)
{
    if (read_extended(w, size, e) < 0)
        return -1;
    return set_name(w, w->extended, strnlen(w->extended, (size_t)size), e);
}

static int see_member(struct walk *w, char type, uint64_t size, tar_see *see, void *user, struct err *e)
{
    struct tar_member m = {.name = w->name, .kind = TAR_OTHER};
    if (take_name(w, e) < 0)
        return -1;
    while (m.name[0] == '.' && m.name[1] == '/')
        m.name += 2 + strspn(m.name + 2, "/");
    if (type == '1' || type == '2')
        m.kind = TAR_LINK;
    else if ((type == '0' || type == '\0' || type == '7') && m.name[0] && m.name[strlen(m.name) - 1] != '/')
        m = (struct tar_member){m.name, TAR_FILE, w->at + TAR_BLOCK, size};
    w->has_name = w->has_size = 0;
    return m.name[0] ? see(user, &m, e) : 0; /* "./" is the directory that was packed */
}

/* The member whose header is in hand. *size becomes the bytes that follow the header. */
static int take_member(struct walk *w, tar_see *see, void *user, uint64_t *size, struct err *e)
{
    const char type = (char)w->header[TYPE];
    if (!check_sum(w->header))
        return err_set(e, ERR_DAMAGED, "no header of a tar archive, or a damaged one: its checksum is wrong");
    if (read_number(w->header + SIZE, SIZE_BYTES, size) < 0)
        return err_set(e, ERR_DAMAGED, "the size of a member is no number");
    if (w->has_size && (type == '\0' || !strchr("xgLK", type)))
        *size = w->size;
    if (type != '\0' && strchr("123456", type))
        *size = 0; /* links, devices, directories: the field says something else, or nothing */
    if (*size > w->bytes - w->at - TAR_BLOCK)
        return err_set(e, ERR_DAMAGED, "a member goes beyond the end: the archive is cut off");
    switch (type) {
    case 'x':
        return take_extended(w, *size, 0, e);
    case 'g':
        return take_extended(w, *size, 1, e);
    case 'L':
        return take_long_name(w, *size, e);
    case 'K': /* GNU: a link's long target */
        return 0;
    case 'S':
        return err_set(e, ERR_UNSUPPORTED, "a sparse file: make the archive without --sparse");
    case 'M':
        return err_set(e, ERR_UNSUPPORTED, "an archive in several parts");
    case '\0':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case 'D': /* GNU: a directory and its list */
    case 'V': /* GNU: the archive's title */
        return see_member(w, type, *size, see, user, e);
    default:
        return err_set(e, ERR_UNSUPPORTED, "a member of type 0x%02x", (unsigned char)type);
    }
}

int tar_walk(int fd, uint64_t bytes, tar_see *see, void *user, struct err *e)
{
    static const uint8_t zeros[TAR_BLOCK];
    struct walk *w = calloc(1, sizeof *w);
    int result = -1;
    if (!w)
        return err_set(e, ERR_MEMORY, "no memory to read an archive");
    w->fd = fd;
    w->bytes = bytes;
    for (uint64_t size = 0;; w->at += TAR_BLOCK + (size + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK) {
        if (w->at + TAR_BLOCK > bytes) {
            err_set(e, ERR_DAMAGED, "no end mark: the archive is cut off");
            break;
        }
        if (input_read(fd, w->header, TAR_BLOCK, w->at, e) < 0)
            break;
        if (memcmp(w->header, zeros, TAR_BLOCK) == 0) {
            result = 0;
            break;
        }
        if (take_member(w, see, user, &size, e) < 0)
            break;
    }
    if (result < 0)
        err_prefix(e, "at byte %llu", (unsigned long long)w->at);
    free(w->extended);
    free(w);
    return result;
}

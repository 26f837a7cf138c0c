// SPDX-License-Identifier: MIT
//
// The header is checked by the reader's own parser before a byte is written, so what st_write writes, st_open reads.

#include "models/checkpoint/safetensors_header.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/output.h"

#define ALIGN_MAX 4096

static uint64_t item_bytes(const struct st_item *item)
{
    uint64_t bytes = st_dtype_bytes(item->dtype);
    for (int i = 0; i < item->rank; i++)
        bytes *= (uint64_t)item->shape[i];
    return bytes;
}

static void put_string(FILE *out, const char *s)
{
    putc('"', out);
    for (; *s; s++) {
        if ((unsigned char)*s < 0x20)
            fprintf(out, "\\u%04x", *s);
        else if (*s == '"' || *s == '\\')
            fprintf(out, "\\%c", *s);
        else
            putc(*s, out);
    }
    putc('"', out);
}

static void put_item(FILE *out, const struct st_item *item, uint64_t begin)
{
    put_string(out, item->name);
    fprintf(out, ":{\"dtype\":\"%s\",\"shape\":[", st_dtype_name(item->dtype));
    for (int i = 0; i < item->rank; i++)
        fprintf(out, "%s%lld", i ? "," : "", (long long)item->shape[i]);
    fprintf(out, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)begin, (unsigned long long)(begin + item_bytes(item)));
}

/* The first bytes of the file: 8 for the length, JSON, spaces up to a multiple of align. To be freed; NULL with e set. */
static char *make_header(const struct st_item *items, int item_count, const struct st_meta *meta, int meta_count, int align,
                         size_t *size, uint64_t *data_bytes, struct err *e)
{
    char *text = NULL;
    size_t len = 0;
    uint64_t at = 0;
    FILE *out = open_memstream(&text, &len);
    if (!out) {
        err_set(e, ERR_MEMORY, "no memory for a safetensors header");
        return NULL;
    }
    fwrite("\0\0\0\0\0\0\0\0{", 1, 9, out);
    if (meta_count > 0) {
        fputs("\"__metadata__\":{", out);
        for (int i = 0; i < meta_count; i++) {
            if (i)
                putc(',', out);
            put_string(out, meta[i].key);
            putc(':', out);
            put_string(out, meta[i].value);
        }
        putc('}', out);
    }
    for (int i = 0; i < item_count; i++) {
        if (i || meta_count > 0)
            putc(',', out);
        put_item(out, &items[i], at);
        at += item_bytes(&items[i]);
    }
    putc('}', out);
    while (ftell(out) % align != 0 && !ferror(out))
        putc(' ', out);
    int failed = ferror(out);
    if (fclose(out) != 0 || failed) {
        free(text);
        err_set(e, ERR_MEMORY, "no memory for a safetensors header");
        return NULL;
    }
    for (int i = 0; i < 8; i++)
        text[i] = (char)((uint64_t)(len - 8) >> 8 * i);
    *size = len;
    *data_bytes = at;
    return text;
}

/* Whatever the reader would refuse is refused here. */
static int check_header(const char *text, size_t size, uint64_t data_bytes, struct err *e)
{
    struct st_header h;
    if (size - 8 > ST_HEADER_MAX)
        return err_set(e, ERR_TOO_LARGE, "the header would have %zu bytes, the limit is %u", size - 8, ST_HEADER_MAX);
    char *copy = malloc(size - 8); /* the parser writes into it */
    if (!copy)
        return err_set(e, ERR_MEMORY, "no memory for a safetensors header");
    memcpy(copy, text + 8, size - 8);
    if (st_header_parse(copy, size - 8, data_bytes, &h, e) < 0) {
        if (e && e->code == ERR_DAMAGED)
            e->code = ERR_INPUT;
        return -1;
    }
    st_header_free(&h);
    return 0;
}

static int check_items(const struct st_item *items, int item_count, int align, struct err *e)
{
    if (align < 1 || align > ALIGN_MAX)
        return err_set(e, ERR_INPUT, "data cannot be aligned to %d bytes (1 to %d)", align, ALIGN_MAX);
    for (int i = 0; i < item_count; i++) {
        uint64_t count = 1;
        if (items[i].rank < 0 || items[i].rank > ST_RANK_MAX)
            return err_set(e, ERR_INPUT, "tensor '%.80s': rank %d, at most %d", items[i].name, items[i].rank, ST_RANK_MAX);
        for (int d = 0; d < items[i].rank; d++) {
            int64_t dim = items[i].shape[d];
            if (dim < 0 || (dim > 0 && count > (uint64_t)INT64_MAX / 8 / (uint64_t)dim))
                return err_set(e, ERR_INPUT, "tensor '%.80s': impossible shape", items[i].name);
            count *= (uint64_t)dim;
        }
    }
    return 0;
}

static int write_content(const struct output *to, const char *header, size_t header_size, const struct st_item *items,
                         int item_count, struct err *e)
{
    if (output_write(to, header, header_size, e) < 0)
        return -1;
    for (int i = 0; i < item_count; i++)
        if (output_write(to, items[i].data, item_bytes(&items[i]), e) < 0)
            return -1;
    return 0;
}

int st_write(const char *path, const struct st_item *items, int item_count, const struct st_meta *meta, int meta_count, int align,
             struct err *e)
{
    size_t header_size = 0;
    uint64_t data_bytes = 0;
    struct output to;
    int result = -1;

    if (check_items(items, item_count, align, e) < 0)
        return err_prefix(e, "%.140s", path);
    char *header = make_header(items, item_count, meta, meta_count, align, &header_size, &data_bytes, e);
    if (header && check_header(header, header_size, data_bytes, e) == 0 && output_begin(path, &to, e) == 0)
        result = output_end(&to, write_content(&to, header, header_size, items, item_count, e), e);
    free(header);
    return result < 0 ? err_prefix(e, "%.140s", path) : 0;
}

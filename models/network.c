// SPDX-License-Identifier: MIT

#include "models/network.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/json.h"
#include "models/utf8.h"

#define LABELS_FILE_MAX (32 << 20) /* bytes: more than GRAPH_CHANNELS_MAX labels of LABEL_MAX bytes with their quotes */

static const char *const precision_names[PRECISIONS] = {
    [PRECISION_FP32] = "fp32",
    [PRECISION_FP16] = "fp16",
    [PRECISION_HYBRID] = "hybrid",
    [PRECISION_INT8] = "int8",
};

const char *precision_name(enum precision p)
{
    return precision_names[p];
}

int precision_parse(const char *text, enum precision *out, struct err *e)
{
    for (int p = 0; p < PRECISIONS; p++) {
        if (strcmp(text, precision_names[p]) == 0) {
            *out = (enum precision)p;
            return 0;
        }
    }
    return err_set(e, ERR_INPUT, "no precision is called '%.32s'; there are fp32, fp16, hybrid, int8", text);
}

int rounding_check(const struct network *n, struct err *e)
{
    for (int i = 0; n->rounding == ROUNDING_TFLITE && i < n->graph.count; i++)
        if (node_has_weights(&n->graph.nodes[i]) && !n->graph.nodes[i].keep_output)
            return err_set(e, ERR_INPUT, "quantization: rounding is tflite, so node '%s' must have keep_output",
                           n->graph.nodes[i].name);
    return 0;
}

int half_check(const struct network *n, struct err *e)
{
    for (int i = 0; i < n->graph.count; i++)
        if (n->graph.nodes[i].half && (n->precision != PRECISION_INT8 || n->rounding == ROUNDING_TFLITE))
            return err_set(e, ERR_INPUT, "graph: node '%s' works in half: only int8 networks mix, not those rounded as tflite",
                           n->graph.nodes[i].name);
    return 0;
}

size_t weight_bytes(enum precision p)
{
    return p == PRECISION_FP32 ? 4 : p == PRECISION_FP16 ? 2 : 1;
}

int name_check(const char *name, struct err *e)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    const size_t length = strlen(name);
    if (length == 0 || length >= NETWORK_NAME_MAX || name[0] == '.' || strspn(name, allowed) != length)
        return err_set(e, ERR_INPUT, "'%.80s' is no model name: 1 to %d of A-Z a-z 0-9 . _ - without a leading dot", name,
                       NETWORK_NAME_MAX - 1);
    return 0;
}

char *labels_to_json(const struct network *n)
{
    char *text = NULL;
    cJSON *a = cJSON_CreateStringArray((const char *const *)n->labels, n->label_count);
    if (a)
        text = cJSON_PrintUnformatted(a);
    cJSON_Delete(a);
    return text;
}

void labels_free(char **labels, int count)
{
    for (int i = 0; labels && i < count; i++)
        free(labels[i]);
    free(labels);
}

int labels_copy(const struct network *from, struct network *to, struct err *e)
{
    if (from->label_count == 0)
        return 0;
    to->labels = calloc((size_t)from->label_count, sizeof *to->labels);
    for (int i = 0; to->labels && i < from->label_count; i++) {
        to->labels[i] = strdup(from->labels[i]);
        if (!to->labels[i])
            return err_set(e, ERR_MEMORY, "no memory for labels");
        to->label_count = i + 1;
    }
    return to->labels ? 0 : err_set(e, ERR_MEMORY, "no memory for labels");
}

void network_free(struct network *n)
{
    for (int i = 0; n->layers && i < n->graph.count; i++)
        layer_free(&n->layers[i]);
    free(n->layers);
    free(n->quants);
    labels_free(n->labels, n->label_count);
    free(n->quantization);
    free(n->provenance);
    free(n->accuracy);
    selftest_free(&n->selftest);
    graph_free(&n->graph);
    *n = (struct network){0};
}

void selftest_free(struct selftest *t)
{
    free(t->input);
    free(t->logits);
    *t = (struct selftest){0};
}

void layer_free(struct layer *l)
{
    free(l->weight);
    free(l->scale);
    free(l->bias);
    free(l->bias_s32);
    *l = (struct layer){0};
}

int label_check(const char *label, size_t size, struct err *e)
{
    if (size == 0 || size > LABEL_MAX)
        return err_set(e, ERR_INPUT, "a label has %zu bytes, must have 1 to %d", size, LABEL_MAX);
    for (size_t i = 0; i < size;) {
        const size_t n = utf8_length(label + i, size - i);
        if (n == 0)
            return err_set(e, ERR_INPUT, "a label is not UTF-8");
        if (utf8_control(label + i))
            return err_set(e, ERR_INPUT, "a label holds a control character");
        i += n;
    }
    return 0;
}

int labels_from_json(const char *text, size_t size, int classes, char ***out, int *count, struct err *e)
{
    cJSON *a = json_parse(text, size, e);
    if (!a)
        return -1;
    int r = -1, n = 0;
    char **labels = NULL;
    const int given = cJSON_IsArray(a) ? cJSON_GetArraySize(a) : -1;
    if (given < 0) {
        err_set(e, ERR_INPUT, "not a JSON array of strings");
        goto out;
    }
    if (given > GRAPH_CHANNELS_MAX) {
        err_set(e, ERR_TOO_LARGE, "%d labels, the limit is %d", given, GRAPH_CHANNELS_MAX);
        goto out;
    }
    if (classes && given != classes && given != 0) {
        err_set(e, ERR_INPUT, "%d labels for %d classes", given, classes);
        goto out;
    }
    labels = calloc((size_t)given + 1, sizeof *labels);
    if (!labels)
        goto no_memory;
    for (const cJSON *v = a->child; v; v = v->next, n++) {
        if (!cJSON_IsString(v)) {
            err_set(e, ERR_INPUT, "label %d is not a string", n);
            goto out;
        }
        if (label_check(v->valuestring, strlen(v->valuestring), e)) {
            err_prefix(e, "label %d", n);
            goto out;
        }
        labels[n] = strdup(v->valuestring);
        if (!labels[n])
            goto no_memory;
    }
    *out = labels;
    *count = n;
    labels = NULL;
    r = 0;
    goto out;
no_memory:
    err_set(e, ERR_MEMORY, "no memory for %d labels", given);
out:
    labels_free(labels, n);
    cJSON_Delete(a);
    return r;
}

/* "n01440764 tench, Tinca tinca" -> "tench, Tinca tinca" */
static size_t synset_prefix(const char *line, size_t length)
{
    if (length < 11 || line[0] != 'n' || line[9] != ' ')
        return 0;
    for (int i = 1; i < 9; i++)
        if (line[i] < '0' || line[i] > '9')
            return 0;
    return 10;
}

static int labels_from_lines(const char *text, size_t size, int classes, char ***out, int *count, struct err *e)
{
    while (size && (text[size - 1] == '\n' || text[size - 1] == '\r'))
        size--;
    if (!classes) {
        for (size_t i = 0; i < size; i++)
            classes += text[i] == '\n';
        if (++classes > GRAPH_CHANNELS_MAX)
            return err_set(e, ERR_TOO_LARGE, "%d labels, the limit is %d", classes, GRAPH_CHANNELS_MAX);
    }
    char **labels = calloc((size_t)classes + 1, sizeof *labels);
    if (!labels)
        return err_set(e, ERR_MEMORY, "no memory for %d labels", classes);
    int n = 0, lines = 0;
    for (const char *line = text, *end = text + size; line < end; lines++) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        const char *next = stop ? stop + 1 : end;
        size_t length = (size_t)((stop ? stop : end) - line);
        if (length && line[length - 1] == '\r')
            length--;
        const size_t skip = synset_prefix(line, length);
        if (label_check(line + skip, length - skip, e)) {
            err_prefix(e, "line %d", lines + 1);
            goto failed;
        }
        if (n < classes) {
            labels[n] = strndup(line + skip, length - skip);
            if (!labels[n]) {
                err_set(e, ERR_MEMORY, "no memory for %d labels", classes);
                goto failed;
            }
            n++;
        }
        line = next;
    }
    if (lines == classes) {
        *out = labels;
        *count = n;
        return 0;
    }
    err_set(e, ERR_INPUT, "%d labels for %d classes", lines, classes);
failed:
    labels_free(labels, n);
    return -1;
}

/* The whole file, NULL with e set when it cannot be read or is beyond the limit. */
static char *read_text(const char *path, size_t *size, struct err *e)
{
    FILE *f = fopen(path, "rbe");
    if (!f) {
        err_set(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s", strerror(errno));
        return NULL;
    }
    char *text = NULL;
    size_t used = 0, room = 0;
    do {
        if (used == room) {
            room = room ? room * 2 : 1 << 16;
            char *more = room <= LABELS_FILE_MAX ? realloc(text, room) : NULL;
            if (!more) {
                err_set(e, room <= LABELS_FILE_MAX ? ERR_MEMORY : ERR_TOO_LARGE, "too large for a file of labels");
                goto failed;
            }
            text = more;
        }
        used += fread(text + used, 1, room - used, f);
    } while (!feof(f) && !ferror(f));
    if (ferror(f)) {
        err_set(e, ERR_IO, "%s", strerror(errno));
        goto failed;
    }
    fclose(f);
    *size = used;
    return text;
failed:
    free(text);
    fclose(f);
    return NULL;
}

/* Lines, or elements of a JSON array, however many there are. */
static int labels_read(const char *text, size_t size, int classes, char ***out, int *count, struct err *e)
{
    const size_t bom = size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    size_t first = bom;
    while (first < size && strchr(" \t\r\n", text[first]) && text[first])
        first++;
    if (first < size && text[first] == '[')
        return labels_from_json(text + bom, size - bom, classes, out, count, e);
    return labels_from_lines(text + bom, size - bom, classes, out, count, e);
}

int labels_from_file(const char *path, int classes, char ***out, int *count, struct err *e)
{
    size_t size;
    char *text = read_text(path, &size, e);
    if (!text)
        return err_prefix(e, "%s", path);
    char **labels = NULL;
    int n = 0, r = labels_read(text, size, classes, &labels, &n, e);
    free(text);
    if (r == 0 && (n == 0 || (classes && n != classes)))
        r = classes ? err_set(e, ERR_INPUT, "%d labels for %d classes", n, classes)
                    : err_set(e, ERR_INPUT, "there are no labels in it");
    if (r) {
        labels_free(labels, n);
        return err_prefix(e, "%s", path);
    }
    *out = labels;
    *count = n;
    return 0;
}

int network_labels_from_file(struct network *n, const char *path, struct err *e)
{
    char **labels;
    int count;
    if (labels_from_file(path, n->graph.nodes[n->graph.output].c, &labels, &count, e) != 0)
        return -1;
    labels_free(n->labels, n->label_count);
    n->labels = labels;
    n->label_count = count;
    return 0;
}

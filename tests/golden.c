// SPDX-License-Identifier: MIT

#include "tests/golden.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/image.h"
#include "models/resnet.h"
#include "tests/files.h"

static void *must(void *p, const char *what)
{
    if (!p) {
        printf("cannot read or hold %s\n", what);
        exit(99);
    }
    return p;
}

static void check(int bad, const struct err *e)
{
    if (bad) {
        printf("golden data: %s\n", e->text);
        exit(99);
    }
}

const char *golden_data(void)
{
    return files_shared("RESNETD_DATA", "data");
}

/* ---- product-quantised checkpoints: weight[o] = concatenation of codebook[codes[o][j]] ---- */

static int ends(const char *s, const char *tail)
{
    size_t n = strlen(s), t = strlen(tail);
    return n >= t && strcmp(s + n - t, tail) == 0;
}

static int kernel_of(const char *layer, int bottleneck)
{
    if (strcmp(layer, "fc") == 0)
        return 0;
    if (strstr(layer, "downsample") || (bottleneck && !ends(layer, "conv2")))
        return 1;
    return 3;
}

static float *expand_codes(const struct st_file *f, const struct st_tensor *codes, const char *layer, int64_t *depth)
{
    struct err e;
    char name[160];
    snprintf(name, sizeof name, "%s.codebook", layer);
    const struct st_tensor *book = must((void *)(uintptr_t)st_find(f, name), name);
    float *rows = must(malloc((size_t)book->count * sizeof *rows), name), *code = must(malloc((size_t)codes->count * sizeof *code), name);
    check(st_read_float(f, book, rows, &e), &e);
    check(st_read_float(f, codes, code, &e), &e);
    size_t width = (size_t)book->shape[1];
    float *w = must(malloc((size_t)codes->count * width * sizeof *w), name);
    for (int64_t i = 0; i < codes->count; i++)
        memcpy(w + (size_t)i * width, rows + (size_t)code[i] * width, width * sizeof *w);
    *depth = codes->shape[1] * (int64_t)width;
    free(rows);
    free(code);
    return w;
}

static void expand(const char *from, const char *to)
{
    struct err e;
    struct st_file *f;
    check(st_open(from, &f, &e), &e);
    int n = st_count(f), count = 0, bottleneck = st_find(f, "layer1.0.conv3.codes") != NULL;
    struct st_item *items = must(calloc((size_t)n * 3, sizeof *items), from);
    char(*names)[160] = must(calloc((size_t)n * 3, sizeof *names), from);
    for (int i = 0; i < n; i++) {
        const struct st_tensor *t = st_get(f, i);
        char layer[128];
        snprintf(layer, sizeof layer, "%.*s", (int)(strrchr(t->name, '.') - t->name), t->name);
        struct st_item *item = &items[count];
        if (ends(t->name, ".codebook"))
            continue;
        if (ends(t->name, ".codes")) {
            int64_t depth;
            int k = kernel_of(layer, bottleneck);
            item->data = expand_codes(f, t, layer, &depth);
            snprintf(names[count], sizeof names[0], "%s.weight", layer);
            *item = (struct st_item){names[count], ST_F32, k ? 4 : 2, {t->shape[0], k ? depth / (k * k) : depth, k, k}, item->data};
            count++;
            continue;
        }
        float *v = must(malloc((size_t)t->count * sizeof *v), t->name);
        check(st_read_float(f, t, v, &e), &e);
        snprintf(names[count], sizeof names[0], "%s", t->name);
        *item = (struct st_item){.name = names[count], .dtype = ST_F32, .rank = t->rank, .data = v};
        memcpy(item->shape, t->shape, sizeof item->shape);
        count++;
        if (t->rank != 1 || !ends(t->name, ".weight")) /* a batch norm: mean 0 and variance 1 by construction */
            continue;
        for (int var = 0; var < 2; var++) {
            float *fixed = must(malloc((size_t)t->count * sizeof *fixed), t->name);
            for (int64_t k = 0; k < t->count; k++)
                fixed[k] = (float)var;
            snprintf(names[count], sizeof names[0], "%s.%s", layer, var ? "running_var" : "running_mean");
            items[count] = (struct st_item){names[count], ST_F32, 1, {t->count}, fixed};
            count++;
        }
    }
    check(st_write(to, items, count, NULL, 0, 8, &e), &e);
    for (int i = 0; i < count; i++)
        free((void *)(uintptr_t)items[i].data);
    free(items);
    free(names);
    st_close(f);
}

struct network golden_network(const char *data, const char *dir, const char *name, const char *preprocess)
{
    char path[512], text[512];
    struct network n = {0};
    struct err e;
    size_t size;
    snprintf(text, sizeof text, "preprocess/%s.json", preprocess);
    snprintf(path, sizeof path, "%s", files_path(data, text));
    char *json = must(files_read(path, &size), path);
    check(preprocess_from_json(json, &n.preprocess, &e), &e);
    free(json);
    snprintf(text, sizeof text, "weights/%s.pq.safetensors", name);
    snprintf(path, sizeof path, "%s", files_path(data, text));
    FILE *pq = fopen(path, "rb");
    if (pq) {
        fclose(pq);
        expand(path, files_path(dir, "expanded.safetensors"));
        snprintf(path, sizeof path, "%s", files_path(dir, "expanded.safetensors"));
    } else {
        snprintf(text, sizeof text, "weights/%s.safetensors", name);
        snprintf(path, sizeof path, "%s", files_path(data, text));
    }
    struct tensors *t;
    check(tensors_open_safetensors(path, &t, &e), &e);
    check(resnet_from_tensors(t, NULL, &n, &e), &e);
    tensors_close(t);
    return n;
}

/* ---- images ---- */

static int csv_label(const char *csv, const char *name)
{
    size_t n = strlen(name);
    for (const char *line = csv; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (strncmp(line, name, n) == 0 && line[n] == ',')
            return atoi(line + n + 1);
    return -1;
}

/* POSIX ustar: 512-byte headers, names in the first 100 bytes, sizes in octal. The csv gives the order. */
static void index_tar(struct golden_images *g, const char *csv)
{
    struct golden_image *found = must(calloc(g->size / 512 + 1, sizeof *found), "tar");
    g->images = found;
    for (size_t at = 0; at + 512 <= g->size && g->bytes[at];) {
        const char *header = g->bytes + at, *base = strrchr(header, '/');
        size_t size = strtoul(header + 124, NULL, 8);
        int label = csv_label(csv, base ? base + 1 : header);
        if (header[156] != '5' && label >= 0)
            found[g->count++] = (struct golden_image){(const uint8_t *)header + 512, size, label};
        at += 512 + (size + 511) / 512 * 512;
    }
}

struct golden_images golden_images(const char *data, const char *file)
{
    struct golden_images g = {0};
    char name[256];
    snprintf(name, sizeof name, "images/%s", file);
    g.bytes = must(files_read(files_path(data, name), &g.size), file);
    if (ends(file, ".tar")) {
        size_t size;
        snprintf(name, sizeof name, "images/%.*s.csv", (int)(strlen(file) - 4), file);
        char *csv = must(files_read(files_path(data, name), &size), name);
        index_tar(&g, csv);
        free(csv);
    } else {
        g.records = 1;
        g.count = (int)(g.size / 3073);
        g.images = must(calloc((size_t)g.count, sizeof *g.images), file);
        for (int i = 0; i < g.count; i++) {
            const uint8_t *record = (const uint8_t *)g.bytes + (size_t)i * 3073;
            g.images[i] = (struct golden_image){record + 1, 3072, record[0]};
        }
    }
    return g;
}

void golden_images_free(struct golden_images *g)
{
    free(g->bytes);
    free(g->images);
}

void golden_pixels(const struct golden_images *g, int i, const struct network *n, uint8_t *rgb)
{
    struct image image = {0};
    struct err e;
    const struct golden_image *from = &g->images[i];
    if (g->records) {
        image.width = image.height = 32;
        image.rgb = must(malloc(3072), "an image");
        for (int p = 0; p < 1024; p++)
            for (int c = 0; c < 3; c++)
                image.rgb[3 * p + c] = from->data[1024 * c + p];
    } else {
        check(image_decode(from->data, from->size, &image_limits_default, &n->preprocess, &image, &e), &e);
    }
    check(image_preprocess(&image, &n->preprocess, rgb, &e), &e);
    image_free(&image);
}

float *golden_logits(const char *data, const char *name, size_t count)
{
    char path[256];
    size_t size;
    snprintf(path, sizeof path, "golden/%s", name);
    char *bytes = must(files_read(files_path(data, path), &size), name);
    if (size != count * sizeof(float)) {
        printf("%s holds %zu bytes, expected %zu\n", name, size, count * sizeof(float));
        exit(99);
    }
    return (float *)(void *)bytes;
}

// SPDX-License-Identifier: MIT
//
// image_files.c - decodes files with the daemon's limits and says what each cost, for tests/proof/images.sh.
//
//     image_files whole FILE...    a line per file: what became of it, milliseconds, most KiB taken beside the pixels it returns
//     image_files cuts FILE...     the same over every shorter length: how many were refused, the worst of them
//     image_files pixels FILE      width, height and RGB as a PPM to standard output
//
// The heap is counted by standing before the C library's allocator (not under AddressSanitizer, which has its own).

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/image.h"
#include "tests/files.h"

static size_t taken, most;

#if defined __GLIBC__ && !defined __SANITIZE_ADDRESS__
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void __libc_free(void *p);

static void *count(void *p)
{
    taken += p ? malloc_usable_size(p) : 0;
    most = taken > most ? taken : most;
    return p;
}

void *malloc(size_t size)
{
    return count(__libc_malloc(size));
}

void *calloc(size_t n, size_t size)
{
    return count(__libc_calloc(n, size));
}

void free(void *p)
{
    taken -= p ? malloc_usable_size(p) : 0;
    __libc_free(p);
}

void *realloc(void *p, size_t size)
{
    void *fresh = malloc(size);
    if (fresh && p) {
        size_t old = malloc_usable_size(p);
        memcpy(fresh, p, old < size ? old : size);
        free(p);
    }
    return fresh;
}
#endif

struct cost {
    double ms;
    size_t bytes;
};

/* The error's code, -1: decoded. Each is decoded as the daemon does for a network that wants 224 x 224. */
static int decode(const uint8_t *bytes, size_t size, struct cost *cost, struct err *e)
{
    const struct preprocess p = {.resize = RESIZE_SHORTER, .size = 256, .filter = FILTER_BILINEAR, .crop_w = 224, .crop_h = 224};
    struct image i;
    struct timespec from, to;
    size_t before = taken;
    most = taken;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
    int rc = image_decode(bytes, size, &image_limits_default, &p, &i, e);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
    cost->ms = (double)(to.tv_sec - from.tv_sec) * 1e3 + (double)(to.tv_nsec - from.tv_nsec) / 1e6;
    cost->bytes = most - before;
    if (rc == 0) {
        size_t pixels = (size_t)i.width * (size_t)i.height * 3;
        cost->bytes -= pixels < cost->bytes ? pixels : cost->bytes;
        image_free(&i);
    }
    return rc ? (int)e->code : -1;
}

static void whole(const char *path, const uint8_t *bytes, size_t size)
{
    struct cost cost;
    struct err e = {.text = "decoded"};
    int code = decode(bytes, size, &cost, &e);
    printf("%s: code %d, %.1f ms, %zu KiB: %s\n", path, code, cost.ms, cost.bytes / 1024, e.text);
}

static void cuts(const char *path, const uint8_t *bytes, size_t size)
{
    struct cost worst = {0, 0};
    size_t decoded = 0, strange = 0;
    for (size_t n = 0; n < size; n++) {
        struct cost cost;
        struct err e = {.text = ""};
        uint8_t *cut = malloc(n ? n : 1); /* exactly so long, for a sanitizer */
        if (!cut)
            exit(1);
        memcpy(cut, bytes, n);
        int code = decode(cut, n, &cost, &e);
        free(cut);
        decoded += code == -1;
        strange += code != -1 && ((code != ERR_DAMAGED && code != ERR_UNSUPPORTED && code != ERR_TOO_LARGE) || !e.text[0]);
        worst.ms = cost.ms > worst.ms ? cost.ms : worst.ms;
        worst.bytes = cost.bytes > worst.bytes ? cost.bytes : worst.bytes;
    }
    printf("%s: cut at %zu lengths, %zu decoded, %zu strange, worst %.1f ms, %zu KiB\n", path, size, decoded, strange, worst.ms,
           worst.bytes / 1024);
}

static int pixels(const uint8_t *bytes, size_t size)
{
    struct image i;
    struct err e;
    if (image_decode(bytes, size, &image_limits_default, NULL, &i, &e) < 0) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    printf("P6\n%d %d\n255\n", i.width, i.height);
    size_t n = (size_t)i.width * (size_t)i.height * 3, written = fwrite(i.rgb, 1, n, stdout);
    image_free(&i);
    return written != n;
}

int main(int argc, char **argv)
{
    int rc = argc < 3;
    for (int k = 2; k < argc && !rc; k++) {
        size_t size;
        char *text = files_read(argv[k], &size);
        if (!text) {
            fprintf(stderr, "image_files: cannot read %s\n", argv[k]);
            return 1;
        }
        if (strcmp(argv[1], "whole") == 0)
            whole(argv[k], (const uint8_t *)text, size);
        else if (strcmp(argv[1], "cuts") == 0)
            cuts(argv[k], (const uint8_t *)text, size);
        else
            rc = strcmp(argv[1], "pixels") == 0 ? pixels((const uint8_t *)text, size) : 2;
        free(text);
    }
    return rc;
}

// SPDX-License-Identifier: MIT
//
// fuzz_image.c - a body that claims to be an image: recognise, estimate, decode strictly and leniently, at full size and scaled,
// resize.
//
// Two helps for the engine. A PNG's checksums are mended in every second input, by its size: else nearly every change would end
// at them. And the codecs are not built with the engine's instruments, so what they say, and how far they came, is counted for
// it.

#include "daemon/estimate.h"
#include "daemon/image.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define COUNTERS 1024

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The engine takes what is in this section for coverage, and clears it before each run. */
__attribute__((section("__libfuzzer_extra_counters"))) static uint8_t counters[COUNTERS];

static void count(unsigned what)
{
    counters[what * 2654435761u >> 16 & (COUNTERS - 1)] = 1;
}

/* One counter for each message; numbers in it, hexadecimal ones as well, do not make another. */
static void count_text(const char *s)
{
    unsigned hash = 5381;
    for (; *s; s++)
        if (!isxdigit((unsigned char)*s))
            hash = hash * 33 + (unsigned char)*s;
    count(hash);
}

static uint32_t crc32_of(const uint8_t *p, size_t n)
{
    static uint32_t table[256];
    uint32_t crc = 0xffffffff;
    for (uint32_t i = 0; !table[255] && i < 256; i++) {
        table[i] = i;
        for (int k = 0; k < 8; k++)
            table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xedb88320 : 0);
    }
    for (size_t i = 0; i < n; i++)
        crc = crc >> 8 ^ table[(crc ^ p[i]) & 255];
    return ~crc;
}

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Chunks: length, name, content, checksum of name and content. */
static void mend_png(uint8_t *p, size_t size)
{
    for (size_t at = 8; size - at >= 12;) {
        size_t n = be32(p + at);
        if (n > size - at - 12)
            return;
        uint32_t crc = crc32_of(p + at + 4, n + 4);
        for (int i = 0; i < 4; i++)
            p[at + 8 + n + (size_t)i] = (uint8_t)(crc >> (24 - 8 * i));
        at += n + 12;
    }
}

/* What a decode promises, whatever the input. */
static void check(const struct image *i, const struct image_limits *limits)
{
    if (i->width < 1 || i->height < 1 || i->file_width > limits->width || i->file_height > limits->height || i->orientation < 1 ||
        i->orientation > 8 || i->format == IMAGE_UNKNOWN || (i->warnings && !limits->lenient))
        abort();
    volatile uint8_t last = i->rgb[(size_t)i->width * (size_t)i->height * 3 - 1]; /* the buffer is as large as stated */
    (void)last;
    int scaled = i->width != (i->orientation >= 5 ? i->file_height : i->file_width);
    count(0x10000u + (unsigned)(i->format * 32 + i->orientation * 2 + scaled));
    count(0x20000u + (unsigned)(i->warnings > 3 ? 3 : i->warnings));
}

static void decode(const uint8_t *data, size_t size, const struct image_limits *limits, const struct preprocess *p,
                   const struct preprocess *want)
{
    struct image i;
    struct err e = {.text = ""};
    uint8_t out[14 * 15 * 3];
    if (image_decode(data, size, limits, want, &i, &e)) {
        if (!e.text[0] || e.code < ERR_UNSUPPORTED || e.code > ERR_TOO_LARGE)
            abort();
        count_text(e.text);
        return;
    }
    check(&i, limits);
    if (image_preprocess(&i, p, out, &e))
        abort();
    image_free(&i);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct preprocess p = {
        .resize = RESIZE_SHORTER, .size = 16, .filter = size & 1 ? FILTER_BICUBIC : FILTER_BILINEAR, .crop_w = 14, .crop_h = 15};
    /* Small limits keep the engine fast: a larger image takes the same paths more often. Still wider than a band of rows, and
       with a reduction by 8. */
    struct image_limits limits = {.width = 300, .height = 200, .pixels = 20000, .scans = 20, .decoder_bytes = 1 << 20};
    uint8_t *mended = NULL;
    if (image_recognise(data, size) == IMAGE_PNG && size & 2 && (mended = malloc(size)) != NULL) {
        mend_png(memcpy(mended, data, size), size);
        data = mended;
    }
    estimate_decode(data, size, &limits, &p);
    for (int k = 0; k < 4; k++) {
        limits.lenient = k & 1;
        decode(data, size, &limits, &p, k & 2 ? &p : NULL);
        if (image_recognise(data, size) != IMAGE_JPEG && k == (image_recognise(data, size) == IMAGE_PNG))
            break; /* only a JPEG is scaled, and neither WebP nor what is no image has a lenient form */
    }
    free(mended);
    return 0;
}

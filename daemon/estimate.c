// SPDX-License-Identifier: MIT
#include "daemon/estimate.h"

#include <string.h>

#include "daemon/image_codec.h"

#define LEAST (512 * 1024) /* tables, rows, codec state */

struct header {
    size_t width, height;
    size_t whole; /* bytes that the decoder keeps of the whole image beside the pixels */
    int scales;   /* the decoder can give 1/2, 1/4, 1/8 */
};

static size_t be16(const uint8_t *p)
{
    return (size_t)p[0] << 8 | p[1];
}

/* Two bytes for each coefficient of whole blocks, fewer of the subsampled components. frame: the frame header from its marker. */
static size_t coefficients(const uint8_t *frame, size_t size, const struct header *h)
{
    size_t sum = 0, most = 1, width = (h->width + 31) / 32 * 32, height = (h->height + 31) / 32 * 32;
    for (size_t i = 0; i < frame[9] && 10 + 3 * i + 1 < size; i++) {
        size_t samples = (size_t)(frame[11 + 3 * i] >> 4) * (frame[11 + 3 * i] & 15);
        sum += samples;
        most = samples > most ? samples : most;
    }
    return width * height * 2 * sum / most;
}

/* Walks the markers as libjpeg does, up to the first scan. What comes in several scans, of which a progressive frame is one kind
   and a scan that holds not all components the other, is kept until the last of them. */
static void jpeg_header(const uint8_t *p, size_t size, struct header *h)
{
    const uint8_t *frame = NULL;
    for (size_t at = 2; at + 9 < size;) {
        int marker = p[at + 1];
        if (p[at] != 0xff || marker == 0xff || marker == 0) {
            at++;
            continue;
        }
        if (marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc && !frame) {
            frame = p + at;
            h->height = be16(frame + 5);
            h->width = be16(frame + 7);
            h->scales = 1;
        } else if (marker == 0xda) {
            if (frame && (frame[1] == 0xc2 || frame[1] == 0xca || p[at + 4] < frame[9]))
                h->whole = coefficients(frame, size - (size_t)(frame - p), h);
            return;
        }
        at += marker == 0x01 || (marker >= 0xd0 && marker <= 0xd9) ? 2 : 2 + be16(p + at + 2);
    }
}

static void png_header(const uint8_t *p, size_t size, struct header *h)
{
    if (size < 29)
        return;
    h->width = be16(p + 16) << 16 | be16(p + 18);
    h->height = be16(p + 20) << 16 | be16(p + 22);
    h->whole = h->width * h->height * 5; /* 16-bit or interlaced rows, alpha */
}

static void webp_header(const uint8_t *p, size_t size, struct header *h)
{
    if (size < 30)
        return;
    if (memcmp(p + 12, "VP8X", 4) == 0) {
        h->width = 1 + ((size_t)p[24] | (size_t)p[25] << 8 | (size_t)p[26] << 16);
        h->height = 1 + ((size_t)p[27] | (size_t)p[28] << 8 | (size_t)p[29] << 16);
    } else if (memcmp(p + 12, "VP8L", 4) == 0) {
        h->width = 1 + (((size_t)p[22] << 8 | p[21]) & 0x3fff);
        h->height = 1 + (((size_t)p[24] << 16 | (size_t)p[23] << 8 | p[22]) >> 6 & 0x3fff);
    } else {
        h->width = ((size_t)p[27] << 8 | p[26]) & 0x3fff;
        h->height = ((size_t)p[29] << 8 | p[28]) & 0x3fff;
    }
    h->whole = h->width * h->height * 5; /* ARGB, and the alpha plane */
}

/* The largest of 8, 4, 2, 1 at which the decoded image is not smaller than what the resize asks for. */
static size_t scale_of(const struct header *h, const struct preprocess *p)
{
    if (!h->scales || p->resize == RESIZE_NONE)
        return 1;
    size_t want = p->resize == RESIZE_SHORTER ? (size_t)p->size : (size_t)(p->width > p->height ? p->width : p->height);
    size_t shorter = h->width < h->height ? h->width : h->height;
    for (size_t d = 8; d > 1; d /= 2)
        if (shorter / d >= want)
            return d;
    return 1;
}

size_t estimate_decode(const uint8_t *bytes, size_t size, const struct image_limits *limits, const struct preprocess *p)
{
    struct header h = {0};
    const enum image_format format = image_recognise(bytes, size);
    if (format == IMAGE_JPEG)
        jpeg_header(bytes, size, &h);
    else if (format == IMAGE_PNG)
        png_header(bytes, size, &h);
    else if (format == IMAGE_WEBP)
        webp_header(bytes, size, &h);
    if (image_check_size((int64_t)h.width, (int64_t)h.height, limits, NULL) < 0)
        return LEAST; /* of another kind, or refused before anything is taken */
    if (h.whole > limits->decoder_bytes)
        h.whole = limits->decoder_bytes; /* refused when it gets there */
    size_t d = scale_of(&h, p), pixels = ((h.width + d - 1) / d) * ((h.height + d - 1) / d);
    /* pixels, an upright copy of them, and one pass of the resize */
    return LEAST + pixels * 3 * 2 + pixels * 3 / 2 + h.whole;
}

// SPDX-License-Identifier: MIT
//
// image_webp.c - still WebP images by libwebp. The container (RIFF) is libwebp's business, but for the EXIF chunk.

#include "config.h"
#include "daemon/image_codec.h"

#ifdef HAVE_WEBP

#include <stdlib.h>
#include <string.h>

#include <webp/decode.h>

static uint32_t le32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Chunks follow the 12 bytes of the RIFF header: name, length, content padded to even. Each step goes forward by at least 8
 * bytes. */
static int find_orientation(const uint8_t *bytes, size_t size)
{
    for (size_t at = 12; size - at >= 8;) {
        size_t n = le32(bytes + at + 4), rest = size - at - 8;
        if (n > rest)
            return 1;
        const uint8_t *content = bytes + at + 8;
        if (!memcmp(bytes + at, "EXIF", 4)) /* bare by the specification, with JPEG's header by some writers */
            return n > 6 && !memcmp(content, "Exif\0", 5) ? exif_orientation(content, n) : exif_tiff_orientation(content, n);
        at += 8 + n + (n & 1 && n < rest);
    }
    return 1;
}

static int status_error(VP8StatusCode status, struct err *e)
{
    switch (status) {
    case VP8_STATUS_OUT_OF_MEMORY:
    case VP8_STATUS_USER_ABORT: /* libwebp's own output stage got no memory: we pass no callbacks that could abort */
        return err_set(e, ERR_MEMORY, "no memory to decode the WebP image");
    case VP8_STATUS_UNSUPPORTED_FEATURE:
        return err_set(e, ERR_UNSUPPORTED, "WebP of a kind we do not read");
    case VP8_STATUS_NOT_ENOUGH_DATA:
    case VP8_STATUS_SUSPENDED:
        return err_set(e, ERR_DAMAGED, "WebP is damaged: it ends too early");
    default:
        return err_set(e, ERR_DAMAGED, "WebP is damaged");
    }
}

/* A failed allocation inside a lossless image is a bitstream error to libwebp, and in versions up to 1.3.2 that of a table makes
   it follow an uninitialised pointer. So whether there is memory is asked before, and once more when the image seems damaged. */
#define TABLES_BYTES (1 << 20)
static int memory_lacks(size_t n)
{
    void *volatile p = malloc(n); /* volatile: else the compiler may drop the pair and assume success */
    free(p);
    return !p;
}

int image_webp(const uint8_t *bytes, size_t size, const struct image_limits *limits, struct image *out, struct err *e)
{
    WebPDecoderConfig config;
    if (!WebPInitDecoderConfig(&config))
        return err_set(e, ERR_INTERNAL, "libwebp is another version than the one this was built with");
    VP8StatusCode status = WebPGetFeatures(bytes, size, &config.input);
    if (status != VP8_STATUS_OK)
        return status_error(status, e);
    int w = config.input.width, h = config.input.height, alpha = config.input.has_alpha;
    if (image_check_size(w, h, limits, e))
        return -1;
    if (config.input.has_animation)
        return err_set(e, ERR_UNSUPPORTED, "WebP is an animation: send a still image");
    out->file_width = w;
    out->file_height = h;
    out->orientation = find_orientation(bytes, size);

    /* An upright image without alpha is decoded where it belongs, others into a frame first. A lossless one (or one that mixes,
       format 0) is kept by libwebp as 4 bytes per pixel, and so is the alpha plane of a lossy one with 1. */
    int framed = alpha || out->orientation != 1;
    size_t stride = (size_t)w * (alpha ? 4 : 3);
    uint64_t pixels = (uint64_t)w * (uint64_t)h;
    uint64_t needed = (framed ? stride * (uint64_t)h : 0) + pixels * (config.input.format == 1 ? (uint64_t)alpha : 4);
    if (needed > limits->decoder_bytes)
        return err_set(e, ERR_TOO_LARGE, "WebP is too large: decoding takes more memory than the limit of %zu bytes",
                       limits->decoder_bytes);
    if (image_begin(out, w, h, e))
        return -1;
    uint8_t *frame = framed ? malloc(stride * (size_t)h) : out->rgb;
    if (!frame)
        return err_set(e, ERR_MEMORY, "no memory to decode an image of %dx%d", w, h);
    if (memory_lacks((size_t)needed + TABLES_BYTES)) {
        if (framed)
            free(frame);
        return status_error(VP8_STATUS_OUT_OF_MEMORY, e);
    }
    config.output.colorspace = alpha ? MODE_RGBA : MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = frame;
    config.output.u.RGBA.stride = (int)stride;
    config.output.u.RGBA.size = stride * (size_t)h;
    status = WebPDecode(bytes, size, &config);
    WebPFreeDecBuffer(&config.output);
    if (status == VP8_STATUS_BITSTREAM_ERROR && memory_lacks((size_t)needed + TABLES_BYTES))
        status = VP8_STATUS_OUT_OF_MEMORY;
    int rc = status == VP8_STATUS_OK ? 0 : status_error(status, e);
    for (int y = 0; !rc && framed && y < h; y += IMAGE_BAND) {
        int n = h - y < IMAGE_BAND ? h - y : IMAGE_BAND;
        uint8_t *rows = frame + (size_t)y * stride;
        for (int r = 0; alpha && r < n; r++)
            image_over_black(rows + (size_t)r * stride, (size_t)w);
        image_put_rows(out, y, n, rows, stride);
    }
    if (framed)
        free(frame);
    return rc;
}

#else

int image_webp(const uint8_t *bytes, size_t size, const struct image_limits *limits, struct image *out, struct err *e)
{
    (void)bytes, (void)size, (void)limits, (void)out;
    return err_set(e, ERR_UNSUPPORTED, "this build does not read WebP: send JPEG");
}

#endif

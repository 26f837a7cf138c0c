// SPDX-License-Identifier: MIT
//
// fuzz_image.c - a body that claims to be an image: recognise, decode strictly and leniently, at full size and scaled, resize.

#include "daemon/image.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What a decode promises, whatever the input. */
static void check(const struct image *i, const struct image_limits *limits)
{
    if (i->width < 1 || i->height < 1 || i->file_width > limits->width || i->file_height > limits->height || i->orientation < 1 ||
        i->orientation > 8 || i->format == IMAGE_UNKNOWN || (i->warnings && !limits->lenient))
        abort();
    volatile uint8_t last = i->rgb[(size_t)i->width * (size_t)i->height * 3 - 1]; /* the buffer is as large as stated */
    (void)last;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct preprocess p = {
        .resize = RESIZE_SHORTER, .size = 16, .filter = size & 1 ? FILTER_BICUBIC : FILTER_BILINEAR, .crop_w = 14, .crop_h = 15};
    /* Small limits keep the engine fast; a lenient decode of a large image is slow and proves nothing more. */
    struct image_limits limits = {.width = 2000, .height = 1000, .pixels = 300000, .scans = 20, .decoder_bytes = 4 << 20};
    for (int k = 0; k < 4; k++) {
        struct image i;
        struct err e = {.text = ""};
        limits.lenient = k & 1;
        if (image_decode(data, size, &limits, k & 2 ? &p : NULL, &i, &e)) {
            if (!e.text[0] || e.code < ERR_UNSUPPORTED || e.code > ERR_TOO_LARGE)
                abort();
            continue;
        }
        check(&i, &limits);
        uint8_t out[14 * 15 * 3];
        if (image_preprocess(&i, &p, out, &e))
            abort();
        image_free(&i);
    }
    return 0;
}

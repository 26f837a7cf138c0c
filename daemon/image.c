// SPDX-License-Identifier: MIT

#include "config.h"
#include "daemon/image_codec.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/clock.h"

const struct image_limits image_limits_default = {
    .width = 16384, .height = 16384, .pixels = 50000000, .scans = 100, .decoder_bytes = (size_t)256 << 20, .lenient = 0};

#if defined HAVE_PNG && defined HAVE_WEBP
#define ACCEPTED "JPEG, PNG or WebP"
#elif defined HAVE_PNG
#define ACCEPTED "JPEG or PNG"
#elif defined HAVE_WEBP
#define ACCEPTED "JPEG or WebP"
#else
#define ACCEPTED "JPEG"
#endif

/* What people send by mistake deserves its name in the answer; the formats without an enum of their own are not read. */
static const struct signature {
    enum image_format format;
    size_t at, bytes;
    const char *magic, *name;
} signatures[] = {
    {IMAGE_JPEG, 0, 2, "\xff\xd8", "jpeg"},    {IMAGE_PNG, 0, 8, "\x89PNG\r\n\x1a\n", "png"},
    {IMAGE_WEBP, 8, 4, "WEBP", "webp"},        {IMAGE_UNKNOWN, 0, 4, "GIF8", "GIF"},
    {IMAGE_UNKNOWN, 0, 2, "BM", "BMP"},        {IMAGE_UNKNOWN, 0, 4, "II*\0", "TIFF"},
    {IMAGE_UNKNOWN, 0, 4, "MM\0*", "TIFF"},    {IMAGE_UNKNOWN, 4, 8, "ftypheic", "HEIC"},
    {IMAGE_UNKNOWN, 4, 8, "ftypmif1", "HEIF"}, {IMAGE_UNKNOWN, 4, 8, "ftypavif", "AVIF"},
    {IMAGE_UNKNOWN, 0, 5, "%PDF-", "PDF"},
};

static const struct signature *find_signature(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < sizeof signatures / sizeof *signatures; i++) {
        const struct signature *s = &signatures[i];
        if (size >= s->at + s->bytes && !memcmp(bytes + s->at, s->magic, s->bytes) &&
            (s->format != IMAGE_WEBP || !memcmp(bytes, "RIFF", 4)))
            return s;
    }
    return NULL;
}

enum image_format image_recognise(const uint8_t *bytes, size_t size)
{
    const struct signature *s = find_signature(bytes, size);
    return s ? s->format : IMAGE_UNKNOWN;
}

const char *image_format_name(enum image_format f)
{
    for (size_t i = 0; f != IMAGE_UNKNOWN && i < sizeof signatures / sizeof *signatures; i++)
        if (signatures[i].format == f)
            return signatures[i].name;
    return "unknown";
}

int image_check_size(int64_t width, int64_t height, const struct image_limits *limits, struct err *e)
{
    if (width <= 0 || height <= 0)
        return err_set(e, ERR_DAMAGED, "image is %lldx%lld: it has no pixels", (long long)width, (long long)height);
    if (width > limits->width || height > limits->height)
        return err_set(e, ERR_TOO_LARGE, "image is %lldx%lld, the limit is %dx%d: send a smaller one", (long long)width,
                       (long long)height, limits->width, limits->height);
    if (width * height > limits->pixels)
        return err_set(e, ERR_TOO_LARGE, "image is %lldx%lld, %lld pixels, the limit is %lld: send a smaller one",
                       (long long)width, (long long)height, (long long)(width * height), (long long)limits->pixels);
    return 0;
}

int image_check_time(const struct image_limits *limits, struct err *e)
{
    if (!limits->deadline_ms || clock_ms() <= limits->deadline_ms)
        return 0;
    return err_set(e, ERR_TOO_LARGE, "decoding takes longer than the time there is for it: send a smaller one");
}

int image_begin(struct image *i, int w, int h, struct err *e)
{
    int64_t bytes = (int64_t)w * h * 3;
    i->rgb = bytes > PTRDIFF_MAX ? NULL : malloc((size_t)bytes);
    if (!i->rgb)
        return err_set(e, ERR_MEMORY, "no memory for an image of %dx%d", w, h);
    i->width = i->orientation >= 5 ? h : w;
    i->height = i->orientation >= 5 ? w : h;
    return 0;
}

/* Where pixel (0, 0) of the file goes, and which way its rows and columns run: one step of x or y is one step of X or Y, up or
 * down. */
void image_put_rows(struct image *i, int y, int n, const uint8_t *rows, size_t stride)
{
    static const struct turn {
        unsigned char from_right, from_bottom, swap; /* the place of (0, 0); whether x runs downwards */
    } turns[9] = {[1] = {0, 0, 0}, [2] = {1, 0, 0}, [3] = {1, 1, 0}, [4] = {0, 1, 0},
                  [5] = {0, 0, 1}, [6] = {1, 0, 1}, [7] = {1, 1, 1}, [8] = {0, 1, 1}};
    const struct turn *t = &turns[i->orientation];
    ptrdiff_t right = t->from_right ? -3 : 3, line = (ptrdiff_t)i->width * 3, down = t->from_bottom ? -line : line;
    ptrdiff_t per_x = t->swap ? down : right, per_y = t->swap ? right : down;
    int w = t->swap ? i->height : i->width;
    uint8_t *origin = i->rgb + (t->from_right ? line - 3 : 0) + (t->from_bottom ? (ptrdiff_t)(i->height - 1) * line : 0);
    uint8_t *to = origin + y * per_y;
    if (per_x == 3) {
        for (int r = 0; r < n; r++, to += per_y)
            memcpy(to, rows + (size_t)r * stride, (size_t)w * 3);
        return;
    }
    for (int x = 0; x < w; x++)
        for (int r = 0; r < n; r++)
            memcpy(to + x * per_x + r * per_y, rows + (size_t)r * stride + (size_t)x * 3, 3);
}

void image_over_black(uint8_t *pixels, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const uint8_t *from = pixels + 4 * i;
        unsigned alpha = from[3];
        for (int c = 0; c < 3; c++)
            pixels[3 * i + c] = (uint8_t)((from[c] * alpha + 127) / 255);
    }
}

int image_decode(const uint8_t *bytes, size_t size, const struct image_limits *limits, const struct preprocess *want,
                 struct image *out, struct err *e)
{
    if (!size)
        return err_set(e, ERR_UNSUPPORTED, "there is no image (0 bytes): send " ACCEPTED);
    const struct signature *s = find_signature(bytes, size);
    if (!s)
        return err_set(e, ERR_UNSUPPORTED, "this is not an image we read: send " ACCEPTED);
    struct image image = {.format = s->format, .orientation = 1};
    int rc = -1;
    switch (s->format) {
    case IMAGE_JPEG:
        rc = image_jpeg(bytes, size, limits, want, &image, e);
        break;
    case IMAGE_PNG:
        rc = image_png(bytes, size, limits, &image, e);
        break;
    case IMAGE_WEBP:
        rc = image_webp(bytes, size, limits, &image, e);
        break;
    case IMAGE_UNKNOWN:
        rc = err_set(e, ERR_UNSUPPORTED, "this is %s, which we do not read: send " ACCEPTED, s->name);
        break;
    }
    if (rc) {
        image_free(&image);
        return -1;
    }
    *out = image;
    return 0;
}

void image_free(struct image *i)
{
    if (!i)
        return;
    free(i->rgb);
    *i = (struct image){0};
}

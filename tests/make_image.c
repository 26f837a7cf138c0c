// SPDX-License-Identifier: MIT

#include "config.h"
#include "tests/make_image.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#ifdef HAVE_PNG
#include <png.h>
#endif
#ifdef HAVE_WEBP
#include <webp/encode.h>
#endif

static void check(int ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "make_image: %s failed\n", what);
    abort();
}

static struct bytes bytes_copy(const void *data, size_t size)
{
    struct bytes b = {malloc(size ? size : 1), size};
    check(b.data != NULL, "malloc");
    memcpy(b.data, data, size);
    return b;
}

uint8_t pattern(int x, int y, int w, int h, int c)
{
    int across = w > 1 ? 200 * x / (w - 1) : 0, down = h > 1 ? 200 * y / (h - 1) : 0;
    switch (c) {
    case 0:
        return (uint8_t)(20 + across);
    case 1:
        return (uint8_t)(230 - down);
    case 2:
        return (uint8_t)(10 + (across + 2 * down) / 3);
    default:
        return (uint8_t)(255 - (across + down) / 4);
    }
}

int make_jpeg_arithmetic(void)
{
#ifdef C_ARITH_CODING_SUPPORTED /* of jconfig.h */
    return 1;
#else
    return 0;
#endif
}

/* DC, then single AC bands of the first component: each coefficient first without, then with its two lowest bits. */
static int script(jpeg_scan_info *s, int components, int scans)
{
    memset(s, 0, (size_t)scans * sizeof *s);
    for (int i = 0; i < components; i++)
        s[0].component_index[i] = i;
    s[0].comps_in_scan = components;
    int n = 1;
    for (int low = 2; low >= 0; low--)
        for (int k = 1; k < 64 && n < scans; k++, n++)
            s[n] = (jpeg_scan_info){.comps_in_scan = 1, .Ss = k, .Se = k, .Ah = low == 2 ? 0 : low + 1, .Al = low};
    return n;
}

struct bytes make_jpeg(int w, int h, const struct jpeg_kind *kind)
{
    static const J_COLOR_SPACE spaces[] = {[1] = JCS_GRAYSCALE, [2] = JCS_UNKNOWN, [3] = JCS_RGB, [4] = JCS_CMYK, [5] = JCS_CMYK};
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr errors;
    unsigned char *out = NULL;
    unsigned long size = 0;
    jpeg_scan_info scans[190];
    int channels = kind->components == 5 ? 4 : kind->components;
    c.err = jpeg_std_error(&errors); /* exits on errors, which is right here */
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &out, &size);
    c.image_width = (JDIMENSION)w;
    c.image_height = (JDIMENSION)h;
    c.input_components = channels;
    c.in_color_space = spaces[kind->components];
    jpeg_set_defaults(&c);
    if (kind->components == 5)
        jpeg_set_colorspace(&c, JCS_YCCK);
    jpeg_set_quality(&c, 98, TRUE);
    for (int i = 0; i < c.num_components; i++) /* whole chroma: the pattern comes back within a few steps */
        c.comp_info[i].h_samp_factor = c.comp_info[i].v_samp_factor = 1;
    if (kind->progressive)
        jpeg_simple_progression(&c);
    if (kind->scans) {
        c.num_scans = script(scans, channels, kind->scans);
        c.scan_info = scans;
    }
    c.arith_code = kind->arithmetic ? TRUE : FALSE;
    jpeg_start_compress(&c, TRUE);
    if (kind->app1)
        jpeg_write_marker(&c, JPEG_APP0 + 1, kind->app1, (unsigned)kind->app1_size);
    uint8_t *row = malloc((size_t)w * (size_t)channels);
    check(row != NULL, "malloc");
    memset(row, 128, (size_t)w * (size_t)channels);
    for (int y = 0; y < h; y++) {
        for (int x = 0; x < w && !kind->flat; x++)
            for (int k = 0; k < channels; k++)
                row[x * channels + k] = pattern(x, y, w, h, k);
        jpeg_write_scanlines(&c, &row, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    struct bytes b = bytes_copy(out, size);
    free(out);
    free(row);
    return b;
}

struct bytes make_exif(int big_endian, int orientation)
{
    /* Two entries, ImageWidth before Orientation, and no next directory. */
    static const uint8_t little[] = "Exif\0\0II*\0\10\0\0\0\2\0\0\1\3\0\1\0\0\0\1\0\0\0\22\1\3\0\1\0\0\0\0\0\0\0\0\0\0\0";
    static const uint8_t big[] = "Exif\0\0MM\0*\0\0\0\10\0\2\1\0\0\3\0\0\0\1\0\1\0\0\1\22\0\3\0\0\0\1\0\0\0\0\0\0\0\0";
    struct bytes b = bytes_copy(big_endian ? big : little, sizeof little - 1);
    b.data[EXIF_TIFF + 30 + big_endian] = (uint8_t)orientation;
    return b;
}

#ifdef HAVE_PNG
static unsigned sample(int x, int y, int w, int h, int c, int depth)
{
    unsigned v = pattern(x, y, w, h, c);
    return depth == 16 ? v * 256 + 77 : v >> (8 - depth);
}

uint8_t png_expected(int x, int y, int w, int h, int type, int depth, int trns, int c)
{
    int channel = type & PNG_COLOR_MASK_COLOR && type != PNG_COLOR_TYPE_PALETTE ? c : 0;
    unsigned v = sample(x, y, w, h, channel, depth), first = sample(x, y, w, h, 0, depth);
    unsigned second = sample(x, y, w, h, 1, depth), third = sample(x, y, w, h, 2, depth), alpha = 255;
    if (type == PNG_COLOR_TYPE_PALETTE)
        v = (v * 7 + (unsigned)c * 50) & 255;
    else
        v = depth == 16 ? v >> 8 : v * 255 / ((1U << depth) - 1);
    if (type & PNG_COLOR_MASK_ALPHA)
        alpha = pattern(x, y, w, h, 3);
    else if (trns && type == PNG_COLOR_TYPE_RGB)
        alpha = first == sample(0, 0, w, h, 0, depth) && second == sample(0, 0, w, h, 1, depth) &&
                        third == sample(0, 0, w, h, 2, depth)
                    ? 0
                    : 255;
    else if (trns)
        alpha = first == sample(0, 0, w, h, 0, depth) ? (type == PNG_COLOR_TYPE_PALETTE ? 100 : 0) : 255;
    return (uint8_t)((2 * v * alpha + 255) / 510);
}

static void put_sample(uint8_t *row, int i, unsigned v, int depth)
{
    if (depth == 16) {
        row[2 * i] = (uint8_t)(v >> 8);
        row[2 * i + 1] = (uint8_t)v;
    } else {
        row[i * depth / 8] = (uint8_t)(row[i * depth / 8] | v << (8 - depth - i * depth % 8));
    }
}

struct sink {
    uint8_t *data;
    size_t size;
};

static void on_write(png_structp png, png_bytep data, size_t n)
{
    struct sink *s = png_get_io_ptr(png);
    s->data = realloc(s->data, s->size + n);
    check(s->data != NULL, "realloc");
    memcpy(s->data + s->size, data, n);
    s->size += n;
}

static void on_flush(png_structp png)
{
    (void)png;
}

static void set_trns(png_structp png, png_infop info, int w, int h, int type, int depth)
{
    unsigned first = sample(0, 0, w, h, 0, depth);
    png_color_16 key = {.gray = (png_uint_16)first,
                        .red = (png_uint_16)first,
                        .green = (png_uint_16)sample(0, 0, w, h, 1, depth),
                        .blue = (png_uint_16)sample(0, 0, w, h, 2, depth)};
    uint8_t alpha[256];
    memset(alpha, 255, sizeof alpha);
    alpha[first & 255] = 100;
    if (type == PNG_COLOR_TYPE_PALETTE)
        png_set_tRNS(png, info, alpha, 1 << depth, NULL);
    else
        png_set_tRNS(png, info, NULL, 0, &key);
}

struct bytes make_png(int w, int h, int type, int depth, int interlaced, int trns, int orientation)
{
    struct sink s = {0};
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    check(info != NULL && !setjmp(png_jmpbuf(png)), "libpng");
    png_set_write_fn(png, &s, on_write, on_flush);
    png_set_IHDR(png, info, (png_uint_32)w, (png_uint_32)h, depth, type, interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_BASE, PNG_FILTER_TYPE_BASE);
    png_color palette[256];
    for (int i = 0; i < 256; i++)
        palette[i] = (png_color){(uint8_t)(i * 7), (uint8_t)(i * 7 + 50), (uint8_t)(i * 7 + 100)};
    if (type == PNG_COLOR_TYPE_PALETTE)
        png_set_PLTE(png, info, palette, 1 << depth);
    if (trns)
        set_trns(png, info, w, h, type, depth);
    png_set_text(png, info, &(png_text){.compression = PNG_TEXT_COMPRESSION_zTXt, .key = "Comment", .text = "tests"}, 1);
    if (orientation) {
        struct bytes exif = make_exif(1, orientation);
        png_set_eXIf_1(png, info, (png_uint_32)(exif.size - EXIF_TIFF), exif.data + EXIF_TIFF);
        free(exif.data);
    }
    png_write_info(png, info);
    int channels = png_get_channels(png, info);
    size_t stride = png_get_rowbytes(png, info);
    uint8_t *row = malloc(stride);
    check(row != NULL, "malloc");
    for (int pass = png_set_interlace_handling(png); pass; pass--)
        for (int y = 0; y < h; y++) {
            memset(row, 0, stride);
            for (int x = 0; x < w; x++)
                for (int k = 0; k < channels; k++) {
                    int alpha = type & PNG_COLOR_MASK_ALPHA && k == channels - 1;
                    put_sample(row, x * channels + k, sample(x, y, w, h, alpha ? 3 : k, depth), depth);
                }
            png_write_row(png, row);
        }
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    struct bytes b = bytes_copy(s.data, s.size);
    free(s.data);
    free(row);
    return b;
}
#endif

#ifdef HAVE_WEBP
static void put32(uint8_t *p, size_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> 8 * i);
}

/* libwebp writes RIFF around one VP8 or VP8L chunk, or VP8X first. Metadata needs VP8X, which is written here when missing. */
static struct bytes with_exif(const uint8_t *webp, size_t size, int w, int h, int alpha, int orientation)
{
    struct bytes exif = make_exif(0, orientation), b = {malloc(size + exif.size + 64), 0};
    check(b.data != NULL, "malloc");
    memcpy(b.data, webp, 12);
    b.size = 12;
    const uint8_t *rest = webp + 12;
    if (memcmp(rest, "VP8X", 4) == 0) {
        memcpy(b.data + 12, rest, 18);
        rest += 18;
    } else {
        memcpy(b.data + 12, "VP8X\12\0\0\0\0\0\0", 12);
        b.data[20] = alpha ? 0x10 : 0;
        put32(b.data + 24, (size_t)w - 1);
        put32(b.data + 27, (size_t)h - 1); /* 3 bytes each: the last byte is overwritten below */
    }
    b.data[20] |= 0x08;
    b.size = 30;
    memcpy(b.data + b.size, rest, size - (size_t)(rest - webp));
    b.size += size - (size_t)(rest - webp);
    size_t n = exif.size - EXIF_TIFF;
    memcpy(b.data + b.size, "EXIF", 4);
    put32(b.data + b.size + 4, n);
    memcpy(b.data + b.size + 8, exif.data + EXIF_TIFF, n);
    b.size += 8 + n;
    put32(b.data + 4, b.size - 8);
    struct bytes exact = bytes_copy(b.data, b.size);
    free(exif.data);
    free(b.data);
    return exact;
}

struct bytes make_webp(int w, int h, int alpha, int lossless, int orientation)
{
    WebPConfig config;
    WebPPicture picture;
    WebPMemoryWriter writer;
    check(WebPConfigPreset(&config, WEBP_PRESET_DEFAULT, 95) && WebPPictureInit(&picture), "libwebp");
    WebPMemoryWriterInit(&writer);
    config.lossless = lossless;
    config.exact = 1;
    picture.use_argb = 1;
    picture.width = w;
    picture.height = h;
    picture.writer = WebPMemoryWrite;
    picture.custom_ptr = &writer;
    uint8_t *rgba = malloc((size_t)w * (size_t)h * 4);
    check(rgba != NULL, "malloc");
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++)
            for (int c = 0; c < 4; c++)
                rgba[(y * w + x) * 4 + c] = c == 3 && !alpha ? 255 : pattern(x, y, w, h, c);
    check(WebPPictureImportRGBA(&picture, rgba, w * 4) && WebPEncode(&config, &picture), "libwebp");
    struct bytes b =
        orientation ? with_exif(writer.mem, writer.size, w, h, alpha, orientation) : bytes_copy(writer.mem, writer.size);
    WebPMemoryWriterClear(&writer);
    WebPPictureFree(&picture);
    free(rgba);
    return b;
}

struct bytes make_webp_animation(void)
{
    static const uint8_t animation[] = "RIFF\44\0\0\0WEBPVP8X\12\0\0\0\2\0\0\0\7\0\0\7\0\0ANIM\6\0\0\0\0\0\0\0\0";
    return bytes_copy(animation, sizeof animation);
}
#endif

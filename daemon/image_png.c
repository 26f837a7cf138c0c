// SPDX-License-Identifier: MIT
//
// image_png.c - PNG by libpng: every kind becomes 8-bit RGB, row by row; an interlaced image is held whole, as its passes need.
//
// Chunks that do not change pixels (texts, colour profiles) are skipped unread, so their decompression cannot be abused and their
// harmless flaws do not refuse an image. What libpng still warns of concerns pixels or is a wrong checksum, and is an error as
// for JPEG.

#include "config.h"
#include "daemon/image_codec.h"

#ifdef HAVE_PNG

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>

struct job {
    png_structp png;
    png_infop info;
    jmp_buf failed;
    const uint8_t *bytes;
    size_t size, at;
    const struct image_limits *limits;
    size_t room;        /* of limits->decoder_bytes; freed memory is not given back, libpng takes little and late */
    enum err_code code; /* of the next error: a failed allocation reaches on_error as just another text */
    struct image *image;
    uint8_t *rows;
    struct err *e;
};

static void *take(struct job *j, size_t bytes)
{
    if (bytes > j->room) {
        j->code = ERR_TOO_LARGE;
        return NULL;
    }
    void *p = malloc(bytes);
    if (p)
        j->room -= bytes;
    else
        j->code = ERR_MEMORY;
    return p;
}

static png_voidp on_malloc(png_structp png, png_alloc_size_t bytes)
{
    return take(png_get_mem_ptr(png), bytes);
}

static void on_free(png_structp png, png_voidp p)
{
    (void)png;
    free(p);
}

static int refuse(struct job *j, const char *text)
{
    if (j->code == ERR_TOO_LARGE)
        return err_set(j->e, j->code, "PNG is too large: decoding takes more memory than the limit of %zu bytes",
                       j->limits->decoder_bytes);
    if (j->code == ERR_MEMORY)
        return err_set(j->e, j->code, "no memory to decode the PNG");
    return err_set(j->e, j->code, "PNG is damaged: %s", text);
}

static void on_error(png_structp png, png_const_charp text)
{
    struct job *j = png_get_error_ptr(png);
    refuse(j, text);
    longjmp(j->failed, 1);
}

static void on_warning(png_structp png, png_const_charp text)
{
    struct job *j = png_get_error_ptr(png);
    j->image->warnings++;
    if (!j->limits->lenient || j->code != ERR_DAMAGED)
        on_error(png, text);
}

static void on_read(png_structp png, png_bytep to, size_t n)
{
    struct job *j = png_get_io_ptr(png);
    if (n > j->size - j->at)
        png_error(png, "it ends too early");
    memcpy(to, j->bytes + j->at, n);
    j->at += n;
}

static int find_orientation(struct job *j)
{
#ifdef PNG_eXIf_SUPPORTED
    png_bytep exif;
    png_uint_32 n;
    if (png_get_eXIf_1(j->png, j->info, &n, &exif))
        return exif_tiff_orientation(exif, n);
#endif
    return 1;
}

/* Chooses the conversions to 8-bit RGB or RGBA; the number of passes over the rows. */
static int convert(struct job *j)
{
    png_set_expand(j->png); /* palettes, fewer than 8 bits, a transparent colour */
    png_set_strip_16(j->png);
    png_set_gray_to_rgb(j->png);
    int passes = png_set_interlace_handling(j->png);
    png_read_update_info(j->png, j->info);
    return passes;
}

static void read_row(struct job *j, uint8_t *row)
{
    if (image_check_time(j->limits, j->e))
        longjmp(j->failed, 1);
    png_read_row(j->png, row, NULL);
}

static int decode(struct job *j)
{
    if (setjmp(j->failed))
        return -1;
    j->png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, j, on_error, on_warning, j, on_malloc, on_free);
    if (!j->png)
        return refuse(j, "libpng did not start");
    j->info = png_create_info_struct(j->png);
    if (!j->info)
        return refuse(j, "libpng did not start");
    png_set_read_fn(j->png, j, on_read);
    png_set_user_limits(j->png, (png_uint_32)j->limits->width, (png_uint_32)j->limits->height);
    png_set_chunk_malloc_max(j->png, j->limits->decoder_bytes);
    png_set_keep_unknown_chunks(j->png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
#ifdef PNG_eXIf_SUPPORTED
    png_set_keep_unknown_chunks(j->png, PNG_HANDLE_CHUNK_AS_DEFAULT, (png_const_bytep) "eXIf", 1);
#endif
    png_read_info(j->png, j->info);

    struct image *i = j->image;
    i->file_width = (int)png_get_image_width(j->png, j->info);
    i->file_height = (int)png_get_image_height(j->png, j->info);
    i->orientation = find_orientation(j);
    int passes = convert(j), alpha = png_get_channels(j->png, j->info) == 4;
    size_t stride = png_get_rowbytes(j->png, j->info);
    int height = i->file_height, band = passes > 1 ? height : IMAGE_BAND;
    if (image_begin(i, i->file_width, height, j->e))
        return -1;
    j->rows = stride > SIZE_MAX / (size_t)band ? NULL : take(j, stride * (size_t)band);
    if (!j->rows)
        return refuse(j, "");
    for (int pass = 1; pass < passes; pass++) /* the last one below */
        for (int y = 0; y < height; y++)
            read_row(j, j->rows + (size_t)y * stride);
    for (int y = 0; y < height; y += band) {
        int n = height - y < band ? height - y : band;
        for (int r = 0; r < n; r++) {
            read_row(j, j->rows + (size_t)r * stride);
            if (alpha)
                image_over_black(j->rows + (size_t)r * stride, (size_t)i->file_width);
        }
        image_put_rows(i, y, n, j->rows, stride);
    }
    png_read_end(j->png, NULL);
    return 0;
}

int image_png(const uint8_t *bytes, size_t size, const struct image_limits *limits, struct image *out, struct err *e)
{
    struct job j = {
        .bytes = bytes, .size = size, .limits = limits, .room = limits->decoder_bytes, .code = ERR_DAMAGED, .image = out, .e = e};
    /* Signature, length, "IHDR", width, height: read here, so that sizes get the same words in every format. */
    if (size >= 24 && !memcmp(bytes + 12, "IHDR", 4) &&
        image_check_size(png_get_uint_32(bytes + 16), png_get_uint_32(bytes + 20), limits, e))
        return -1;
    int rc = decode(&j);
    if (j.png)
        png_destroy_read_struct(&j.png, &j.info, NULL);
    free(j.rows);
    return rc;
}

#else

int image_png(const uint8_t *bytes, size_t size, const struct image_limits *limits, struct image *out, struct err *e)
{
    (void)bytes, (void)size, (void)limits, (void)out;
    return err_set(e, ERR_UNSUPPORTED, "this build does not read PNG: send JPEG");
}

#endif

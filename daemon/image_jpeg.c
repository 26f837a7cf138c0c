// SPDX-License-Identifier: MIT
//
// image_jpeg.c - JPEG by libjpeg-turbo, with the limits that libjpeg-turbo's notes on the standard ask an application to set.
//
// A few hundred bytes can claim 65500 x 65500 pixels or a thousand scans. So sizes are checked between header and decompression,
// scans while they are read, and a warning (data that ends early, a bad code) ends the work at once. Settings are those of Pillow
// (accurate DCT, smooth chroma upsampling), so that pixels are equal to what networks were trained with.

#include "daemon/image_codec.h"

#include <limits.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>

/* Arithmetic coding costs ten times as much per byte and pixel and hardly anybody uses it: it is read up to this size. */
#define ARITHMETIC_PIXELS (4 << 20)

/* Every scan walks over all pixels, however short its data. So beside the number of scans their product with the pixels is
   limited, to this many times limits->pixels: an image at the pixel limit may have that many scans (encoders write about ten). */
#define SCANS_OF_LARGEST 20

/* All that outlives a longjmp. libjpeg passes client_data around: it points here. */
struct job {
    struct jpeg_decompress_struct c;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf failed;
    const struct image_limits *limits;
    struct image *image;
    uint8_t *band;
    struct err *e;
};

static enum err_code code_of(const struct jpeg_error_mgr *m)
{
    switch (m->msg_code) {
    case JERR_OUT_OF_MEMORY:
        return ERR_MEMORY;
    case JERR_NO_BACKING_STORE: /* mem->max_memory_to_use is reached */
    case JERR_IMAGE_TOO_BIG:
    case JERR_WIDTH_OVERFLOW:
        return ERR_TOO_LARGE;
    case JERR_SOF_UNSUPPORTED:
    case JERR_ARITH_NOTIMPL:
    case JERR_BAD_PRECISION:
    case JERR_COMPONENT_COUNT:
    case JERR_CONVERSION_NOTIMPL:
    case JERR_CCIR601_NOTIMPL:
    case JERR_FRACT_SAMPLE_NOTIMPL:
    case JERR_NOT_COMPILED:
        return ERR_UNSUPPORTED;
    case JERR_UNKNOWN_MARKER:
        return m->msg_parm.i[0] == 0xf7 ? ERR_UNSUPPORTED : ERR_DAMAGED; /* 0xf7 starts a JPEG-LS frame */
    default:
        return ERR_DAMAGED;
    }
}

static void on_error(j_common_ptr c)
{
    struct job *j = c->client_data;
    char text[JMSG_LENGTH_MAX];
    c->err->format_message(c, text);
    enum err_code code = code_of(c->err);
    if (c->err->msg_code == JERR_NO_BACKING_STORE)
        snprintf(text, sizeof text, "decoding takes more memory than the limit of %zu bytes", j->limits->decoder_bytes);
    const char *what = code == ERR_DAMAGED       ? "JPEG is damaged"
                       : code == ERR_UNSUPPORTED ? "JPEG of a kind we do not read"
                       : code == ERR_TOO_LARGE   ? "JPEG is too large"
                                                 : "JPEG cannot be decoded now";
    err_set(j->e, code, "%s: %s", what, text);
    longjmp(j->failed, 1);
}

static void on_message(j_common_ptr c, int level)
{
    struct job *j = c->client_data;
    if (level >= 0) /* trace */
        return;
    j->image->warnings++;
    if (!j->limits->lenient)
        on_error(c);
}

static void on_output(j_common_ptr c)
{
    (void)c; /* libjpeg would print to stderr */
}

static void on_progress(j_common_ptr c)
{
    struct job *j = c->client_data;
    int64_t pixels = (int64_t)j->c.image_width * j->c.image_height, most = SCANS_OF_LARGEST * j->limits->pixels / pixels;
    most = most < j->limits->scans ? most : j->limits->scans;
    if (j->c.input_scan_number > most) {
        err_set(j->e, ERR_TOO_LARGE, "JPEG is too large: it has more than %d scans, the limit for its size", (int)most);
        longjmp(j->failed, 1);
    }
    if (image_check_time(j->limits, j->e))
        longjmp(j->failed, 1);
}

static int find_orientation(const struct jpeg_decompress_struct *c)
{
    for (const struct jpeg_marker_struct *m = c->marker_list; m; m = m->next)
        if (m->marker == JPEG_APP0 + 1 && m->data_length > 6 && !memcmp(m->data, "Exif\0", 5))
            return exif_orientation(m->data, m->data_length);
    return 1;
}

/* The largest of 8, 4, 2 by which an upright w x h may shrink and still not be below the resize target, else 1. */
static unsigned reduction(const struct preprocess *want, int64_t w, int64_t h)
{
    if (!want || want->resize == RESIZE_NONE)
        return 1;
    int64_t least_w = want->resize == RESIZE_EXACT ? want->width : want->size;
    int64_t least_h = want->resize == RESIZE_EXACT ? want->height : want->size;
    unsigned d = 8;
    while (d > 1 && (w < d * least_w || h < d * least_h))
        d /= 2;
    return d;
}

/* Inverted CMYK, as every program since Photoshop writes it: n pixels become RGB in place, with Pillow's rounding. */
static void cmyk_to_rgb(uint8_t *pixels, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const uint8_t *from = pixels + 4 * i;
        int white = from[3];
        for (int k = 0; k < 3; k++) {
            int t = (255 - from[k]) * white + 128;
            pixels[3 * i + k] = (uint8_t)(white - (((t >> 8) + t) >> 8));
        }
    }
}

static int check_kind(struct job *j)
{
    const struct jpeg_decompress_struct *c = &j->c;
    if (image_check_size(c->image_width, c->image_height, j->limits, j->e))
        return -1;
    if (c->data_precision != 8)
        return err_set(j->e, ERR_UNSUPPORTED, "JPEG has %d bits per sample, we read 8", c->data_precision);
    if (c->num_components != 1 && c->num_components != 3 && c->num_components != 4)
        return err_set(j->e, ERR_UNSUPPORTED, "JPEG has %d components, we read 1 (gray), 3 (colour) and 4 (CMYK)",
                       c->num_components);
    int64_t pixels = (int64_t)c->image_width * c->image_height;
    if (c->arith_code && pixels > ARITHMETIC_PIXELS)
        return err_set(j->e, ERR_TOO_LARGE, "JPEG is arithmetic-coded and has %lld pixels; such are read up to %d",
                       (long long)pixels, ARITHMETIC_PIXELS);
    return 0;
}

static int decode(struct job *j, const uint8_t *bytes, size_t size, const struct preprocess *want)
{
    struct jpeg_decompress_struct *c = &j->c;
    if (setjmp(j->failed))
        return -1;
    jpeg_create_decompress(c);
    size_t most = j->limits->decoder_bytes;
    c->mem->max_memory_to_use = most > LONG_MAX ? LONG_MAX : most ? (long)most : 1; /* 0 would mean: as much as it likes */
    jpeg_mem_src(c, bytes, (unsigned long)size);
    jpeg_save_markers(c, JPEG_APP0 + 1, 0xffff);
    jpeg_read_header(c, TRUE);
    if (check_kind(j))
        return -1;

    struct image *i = j->image;
    i->file_width = (int)c->image_width;
    i->file_height = (int)c->image_height;
    i->orientation = find_orientation(c);
    int turned = i->orientation >= 5;
    c->scale_num = 1;
    c->scale_denom = reduction(want, turned ? i->file_height : i->file_width, turned ? i->file_width : i->file_height);
    c->out_color_space = c->num_components == 4 ? JCS_CMYK : JCS_RGB;
    c->dct_method = JDCT_ISLOW;
    c->do_fancy_upsampling = TRUE;
    c->progress = &j->progress;
    jpeg_start_decompress(c);

    size_t w = c->output_width, stride = w * (size_t)c->output_components;
    if (image_begin(i, (int)w, (int)c->output_height, j->e))
        return -1;
    j->band = malloc(stride * IMAGE_BAND);
    if (!j->band)
        return err_set(j->e, ERR_MEMORY, "no memory to decode an image of %dx%d", i->file_width, i->file_height);
    while (c->output_scanline < c->output_height) {
        int y = (int)c->output_scanline, n = 0;
        for (; n < IMAGE_BAND && c->output_scanline < c->output_height; n++) {
            JSAMPROW row = j->band + (size_t)n * stride;
            jpeg_read_scanlines(c, &row, 1);
            if (c->out_color_space == JCS_CMYK)
                cmyk_to_rgb(row, w);
        }
        image_put_rows(i, y, n, j->band, stride);
    }
    jpeg_finish_decompress(c); /* reads on to the end marker: a missing one is a warning, what follows it is not looked at */
    return 0;
}

int image_jpeg(const uint8_t *bytes, size_t size, const struct image_limits *limits, const struct preprocess *want,
               struct image *out, struct err *e)
{
    struct job j = {.limits = limits, .image = out, .e = e};
    j.c.client_data = &j;
    j.c.err = jpeg_std_error(&j.errors);
    j.errors.error_exit = on_error;
    j.errors.emit_message = on_message;
    j.errors.output_message = on_output;
    j.progress.progress_monitor = on_progress;
    int rc = decode(&j, bytes, size, want);
    jpeg_destroy_decompress(&j.c);
    free(j.band);
    return rc;
}

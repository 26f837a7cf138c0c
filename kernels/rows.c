// SPDX-License-Identifier: MIT

#include "kernels/rows.h"

#include <string.h>

#define STRIP_BYTES (128 * 1024) /* of inputs: they stay in the second cache level while all weights pass over them */
#define STRIP_ROWS 1024
#define CHANNELS_IN_PLACE 16     /* a tap of fewer is too short a loop; on a band a line of the kernel is one tap */
#define SLACK 64                 /* a tile may read the last tap of the band up to this far into weights of zero */

/* Bytes of an element in the tensor, and in a row. */
static size_t tensor_size(enum rows_type t)
{
    return t == ROWS_F32 ? 4 : t == ROWS_F16 || t == ROWS_F32_FROM_F16 ? 2 : 1;
}

static size_t row_size(enum rows_type t)
{
    return t == ROWS_F32 || t == ROWS_F32_FROM_F16 ? 4 : t == ROWS_F16 || t == ROWS_S16 ? 2 : 1;
}

/* An upper bound for the bytes of a band under `rows` output pixels, across images too. */
static size_t band_bytes(const struct rows *r, int rows)
{
    const struct conv_shape *s = &r->s;
    const size_t lines = (size_t)(rows / s->out_w + 2), images = (size_t)(rows / (s->out_w * s->out_h) + 2);
    const size_t height = lines * (size_t)r->stride_h + images * (size_t)s->kernel_h;
    return conv_align(height * (size_t)r->band_w * (size_t)(s->in_c / s->groups) * row_size(r->type) + SLACK);
}

void rows_init(struct rows *r, const struct conv_shape *s, const struct vector_ops *ops, enum rows_type type, int mr, int ku, int zero)
{
    const int channels = s->in_c / s->groups;
    memset(r, 0, sizeof *r);
    r->s = *s;
    r->ops = ops;
    r->type = type;
    r->mr = mr;
    r->zero = zero;
    const int as_stored = type == ROWS_S8 || type == ROWS_F16 || type == ROWS_F32;
    r->in_place = as_stored && channels % ku == 0 && (channels >= CHANNELS_IN_PLACE || s->kernel_w == 1);
    r->taps = r->in_place ? s->kernel_h * s->kernel_w : s->kernel_h;
    r->channels = r->in_place ? channels : (s->kernel_w * channels + ku - 1) / ku * ku;
    r->step_h = s->kernel_h == 1 ? s->stride_h : 1;
    r->step_w = s->kernel_w == 1 ? s->stride_w : 1;
    r->stride_h = s->stride_h / r->step_h;
    r->stride_w = s->stride_w / r->step_w;
    r->band_w = (s->out_w - 1) * r->stride_w + s->kernel_w;

    const int tiles = STRIP_ROWS / mr;
    const size_t per_row = (size_t)channels * (size_t)(r->stride_h * r->stride_w) * row_size(type);
    const size_t fit = STRIP_BYTES / per_row / (size_t)mr;
    r->strip = mr * (fit < 1 ? 1 : fit > (size_t)tiles ? tiles : (int)fit);
    if (!r->in_place)
        r->band_bytes = band_bytes(r, r->strip);
}

int rows_tap_depth(const struct rows *r)
{
    return (r->in_place ? 1 : r->s.kernel_w) * (r->s.in_c / r->s.groups);
}

static size_t pointer_bytes(const struct rows *r)
{
    return conv_align((size_t)r->strip * (size_t)r->taps * sizeof(void *));
}

/* Pointers, then the row of zeros or the band. */
size_t rows_scratch_bytes(const struct rows *r)
{
    return pointer_bytes(r) + (r->in_place ? conv_align((size_t)r->channels * row_size(r->type)) : r->band_bytes);
}

/* Where in the output row m is. */
struct place {
    int image, y, x;
};

static struct place place(const struct conv_shape *s, int m)
{
    const int pixels = s->out_h * s->out_w;
    return (struct place){m / pixels, m % pixels / s->out_w, m % s->out_w};
}

/* The pointers of the next rows: [block][taps][mr]. */
struct slot {
    const void **to;
    int i; /* row in its block */
};

/* How many of `left` rows from here on lie side by side, in the output and in their block. */
static int together(const struct rows *r, struct place p, struct slot slot, int left)
{
    const int line = r->s.out_w - p.x, block = r->mr - slot.i, least = line < block ? line : block;
    return left < least ? left : least;
}

/* `count` rows further, which lie together. */
static void advance(const struct rows *r, int count, struct place *p, struct slot *slot)
{
    p->x += count;
    if (p->x == r->s.out_w) {
        p->x = 0;
        if (++p->y == r->s.out_h) {
            p->y = 0;
            p->image++;
        }
    }
    slot->i += count;
    if (slot->i == r->mr) {
        slot->i = 0;
        slot->to += r->taps * r->mr;
    }
}

/* ---- in place ---- */

static void point_in_place(const struct rows *r, const char *x, int group, int m, int count, const char *zeros, const void **to)
{
    const struct conv_shape *s = &r->s;
    const size_t size = row_size(r->type), pixel = (size_t)s->in_c * size, image = (size_t)(s->in_h * s->in_w) * pixel;
    const char *base = x + (size_t)(group * r->channels) * size;
    struct place p = place(s, m);
    struct slot slot = {to, 0};
    for (int row = 0, n; row < count; row += n, advance(r, n, &p, &slot)) {
        n = together(r, p, slot, count - row);
        const void **at = slot.to + slot.i;
        const int y0 = p.y * s->stride_h - s->pad_top, x0 = p.x * s->stride_w - s->pad_left;
        for (int kh = 0; kh < s->kernel_h; kh++) {
            const int inside = y0 + kh >= 0 && y0 + kh < s->in_h;
            const char *line = base + (size_t)p.image * image + (size_t)(inside ? y0 + kh : 0) * (size_t)s->in_w * pixel;
            for (int kw = 0; kw < s->kernel_w; kw++, at += r->mr) {
                const int width = inside ? s->in_w : 0;
                for (int i = 0, at_x = x0 + kw; i < n; i++, at_x += s->stride_w)
                    at[i] = at_x >= 0 && at_x < width ? line + (size_t)at_x * pixel : zeros;
            }
        }
    }
}

/* ---- on a band ---- */

static void convert(const struct rows *r, size_t n, const char *from, char *to)
{
    switch (r->type) {
    case ROWS_S8:
        memcpy(to, from, n);
        break;
    case ROWS_U8:
        r->ops->s8_to_u8(n, (const int8_t *)from, (uint8_t *)to);
        break;
    case ROWS_S16:
        r->ops->s8_to_s16(n, (const int8_t *)from, (int16_t *)(void *)to);
        break;
    case ROWS_F16:
        memcpy(to, from, 2 * n);
        break;
    case ROWS_F32:
        memcpy(to, from, 4 * n);
        break;
    case ROWS_F32_FROM_F16:
        r->ops->widen(n, (const uint16_t *)(const void *)from, (float *)(void *)to);
        break;
    }
}

/* n elements of padding. */
static void pad(const struct rows *r, size_t n, char *to)
{
    if (r->type == ROWS_S16)
        for (size_t i = 0; i < n; i++)
            ((int16_t *)(void *)to)[i] = (int16_t)r->zero;
    else
        memset(to, r->type == ROWS_S8 ? r->zero : r->type == ROWS_U8 ? r->zero ^ 0x80 : 0, n * row_size(r->type));
}

/* One line of the band from line y of an image, which may lie outside. */
static void copy_line(const struct rows *r, const char *image, int group, int y, char *to)
{
    const struct conv_shape *s = &r->s;
    const size_t channels = (size_t)(s->in_c / s->groups), size = row_size(r->type);
    if (y < 0 || y >= s->in_h) {
        pad(r, (size_t)r->band_w * channels, to);
        return;
    }
    const size_t pixel = (size_t)s->in_c * tensor_size(r->type);
    const char *line = image + (size_t)y * (size_t)s->in_w * pixel + (size_t)group * channels * tensor_size(r->type);
    const int left = s->pad_left < r->band_w ? s->pad_left : r->band_w;
    const int end = r->band_w < s->pad_left + s->in_w ? r->band_w : s->pad_left + s->in_w; /* where step_w is 1 */
    pad(r, (size_t)left * channels, to);
    if (r->step_w == 1 && s->groups == 1) {
        if (end > left)
            convert(r, (size_t)(end - left) * channels, line, to + (size_t)left * channels * size);
        if (r->band_w > end)
            pad(r, (size_t)(r->band_w - end) * channels, to + (size_t)end * channels * size);
        return;
    }
    for (int i = left; i < r->band_w; i++) {
        const int x = i * r->step_w - s->pad_left;
        if (x < s->in_w)
            convert(r, channels, line + (size_t)x * pixel, to + (size_t)i * channels * size);
        else
            pad(r, channels, to + (size_t)i * channels * size);
    }
}

/* Copies what rows [m, m + count) read and points into it. */
static void point_on_band(const struct rows *r, const char *x, int group, int m, int count, char *band, const void **to)
{
    const struct conv_shape *s = &r->s;
    const size_t size = row_size(r->type), pixel = (size_t)(s->in_c / s->groups) * size, width = (size_t)r->band_w * pixel;
    const size_t image = (size_t)(s->in_h * s->in_w * s->in_c) * tensor_size(r->type);
    const size_t step = (size_t)r->stride_w * pixel;
    struct place p = place(s, m);
    const struct place last = place(s, m + count - 1);
    struct slot slot = {to, 0};
    char *line = band; /* the first one of this image */
    for (int row = 0; row < count;) {
        const int end = p.image == last.image ? last.y : s->out_h - 1, first = p.y;
        const int lines = (end - first) * r->stride_h + s->kernel_h;
        for (int i = 0; i < lines; i++)
            copy_line(r, x + (size_t)p.image * image, group, first * s->stride_h - s->pad_top + i * r->step_h, line + (size_t)i * width);
        for (int here = p.image, n; row < count && p.image == here; row += n, advance(r, n, &p, &slot)) {
            n = together(r, p, slot, count - row);
            const void **at = slot.to + slot.i;
            const char *from = line + (size_t)((p.y - first) * r->stride_h) * width + (size_t)(p.x * r->stride_w) * pixel;
            for (int kh = 0; kh < r->taps; kh++, at += r->mr, from += width)
                for (int i = 0; i < n; i++)
                    at[i] = from + (size_t)i * step;
        }
        line += (size_t)lines * width;
    }
    memset(line, 0, SLACK);
}

/* ---- padding above and below ---- */

int rows_padding_is_zero(const struct rows *r)
{
    return r->type == ROWS_F16 || r->type == ROWS_F32 || r->type == ROWS_F32_FROM_F16 || (r->type == ROWS_U8 && r->zero == -128);
}

/* Whether line kh of the kernel lies outside the image for all rows from the first to the last; only within one image. */
static int line_outside(const struct conv_shape *s, struct place first, struct place last, int kh)
{
    const int top = first.y * s->stride_h - s->pad_top + kh, bottom = last.y * s->stride_h - s->pad_top + kh;
    return first.image == last.image && (bottom < 0 || top >= s->in_h);
}

double rows_skipped(const struct conv_shape *s, int mr)
{
    const int pixels = s->out_h * s->out_w, tiles = (pixels + mr - 1) / mr;
    if (s->pad_top == 0 && (s->out_h - 1) * s->stride_h + s->kernel_h <= s->in_h)
        return 0;
    int lines = 0;
    for (int m = 0; m < pixels; m += mr) {
        const struct place first = place(s, m), last = place(s, (pixels - m < mr ? pixels : m + mr) - 1);
        for (int kh = 0; kh < s->kernel_h; kh++)
            lines += line_outside(s, first, last, kh);
    }
    return (double)lines / ((double)tiles * s->kernel_h);
}

static void skip_padding(const struct rows *r, int m, int count, const void **to)
{
    const int wide = r->taps / r->s.kernel_h; /* taps of one line */
    for (int at = 0; at < count; at += r->mr, to += r->taps * r->mr) {
        const struct place first = place(&r->s, m + at), last = place(&r->s, m + (count - at < r->mr ? count : at + r->mr) - 1);
        for (int kh = 0; kh < r->s.kernel_h; kh++)
            if (line_outside(&r->s, first, last, kh))
                for (int kw = 0; kw < wide; kw++)
                    to[(kh * wide + kw) * r->mr] = NULL;
    }
}

/* ---- */

const void *const *rows_prepare(const struct rows *r, const void *x, int group, int m, int count, void *scratch)
{
    const void **pointers = scratch;
    char *rest = (char *)scratch + pointer_bytes(r);
    if (r->in_place) {
        memset(rest, r->type == ROWS_S8 ? r->zero : 0, (size_t)r->channels * row_size(r->type));
        point_in_place(r, x, group, m, count, rest, pointers);
    } else {
        point_on_band(r, x, group, m, count, rest, pointers);
    }
    /* A tile always reads mr rows: those that do not exist repeat the block's first. */
    const size_t block = (size_t)(count / r->mr) * (size_t)(r->taps * r->mr);
    for (int i = count % r->mr; i > 0 && i < r->mr; i++)
        for (int tap = 0; tap < r->taps; tap++)
            pointers[block + (size_t)(tap * r->mr + i)] = pointers[block + (size_t)(tap * r->mr)];
    if (r->skip_padding)
        skip_padding(r, m, count, pointers);
    return pointers;
}

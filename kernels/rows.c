// SPDX-License-Identifier: MIT

#include "kernels/rows.h"

#include <string.h>

#define STRIP_BYTES (128 * 1024) /* of inputs: they stay in the second cache level while all weights pass over them */
#define STRIP_ROWS 1024

static size_t align_up(size_t n)
{
    return (n + CONV_ALIGN - 1) / CONV_ALIGN * CONV_ALIGN;
}

/* Bytes of an element in the tensor, and in a row. */
static size_t tensor_size(enum rows_type t)
{
    return t == ROWS_F32 ? 4 : t == ROWS_F32_FROM_F16 ? 2 : 1;
}

static size_t row_size(enum rows_type t)
{
    return t == ROWS_F32 || t == ROWS_F32_FROM_F16 ? 4 : t == ROWS_S16 ? 2 : 1;
}

/* An upper bound for the pixels between the first and the last input of `rows` output pixels, across images too. */
static size_t band_pixels(const struct conv_shape *s, int rows)
{
    size_t lines = (size_t)(rows / s->out_w + 2), images = (size_t)(rows / (s->out_w * s->out_h) + 2);
    size_t height = lines * (size_t)s->stride_h + images * (size_t)(s->kernel_h + s->in_h - s->out_h * s->stride_h > 0
                                                                         ? s->kernel_h + s->in_h - s->out_h * s->stride_h
                                                                         : s->kernel_h);
    return height * (size_t)s->in_w;
}

void rows_init(struct rows *r, const struct conv_shape *s, const struct vector_ops *ops, enum rows_type type, int mr, int ku, int zero)
{
    const int channels = s->in_c / s->groups, all = s->kernel_h * s->kernel_w * channels;
    memset(r, 0, sizeof *r);
    r->s = *s;
    r->ops = ops;
    r->type = type;
    r->mr = mr;
    r->zero = zero;
    if (type == ROWS_S16 || type == ROWS_F32_FROM_F16 || channels % ku != 0)
        r->way = ROWS_LINES;
    else
        r->way = type == ROWS_U8 ? ROWS_BAND : ROWS_IN_PLACE;
    r->taps = r->way == ROWS_LINES ? 1 : s->kernel_h * s->kernel_w;
    r->channels = r->way == ROWS_LINES ? (all + ku - 1) / ku * ku : channels;
    r->line_bytes = align_up((size_t)r->channels * row_size(type));

    size_t per_row = r->way == ROWS_LINES ? r->line_bytes : (size_t)(s->in_c * s->stride_h * s->stride_w) * tensor_size(type);
    int strip = (int)(STRIP_BYTES / per_row) / mr * mr;
    if (strip > STRIP_ROWS / mr * mr)
        strip = STRIP_ROWS / mr * mr;
    r->strip = strip < mr ? mr : strip;
    if (r->way == ROWS_BAND)
        r->band_bytes = align_up(band_pixels(s, r->strip) * (size_t)s->in_c);
}

static size_t pointer_bytes(const struct rows *r)
{
    return align_up((size_t)r->strip * (size_t)r->taps * sizeof(void *));
}

/* Pointers, the row of zeros, one line as the tensor has it, and the band or the lines. */
size_t rows_scratch_bytes(const struct rows *r)
{
    const size_t line = align_up((size_t)(r->s.kernel_h * r->s.kernel_w * (r->s.in_c / r->s.groups)) * tensor_size(r->type));
    const size_t zeros = align_up((size_t)r->s.in_c * row_size(r->type));
    return pointer_bytes(r) + zeros + line + (r->way == ROWS_LINES ? (size_t)r->strip * r->line_bytes : r->band_bytes);
}

/* ---- in place, and on a band ---- */

/* The first pixel under the kernel at output pixel m, which may lie outside; its image's first pixel. */
struct place {
    int y, x;
    size_t image;
};

static struct place place(const struct conv_shape *s, int m)
{
    const int pixels = s->out_h * s->out_w, in = m % pixels;
    return (struct place){in / s->out_w * s->stride_h - s->pad_top, in % s->out_w * s->stride_w - s->pad_left,
                          (size_t)(m / pixels) * (size_t)s->in_h * (size_t)s->in_w};
}

/* Copies the pixels that rows [m, m + count) read, with every sign bit turned. Returns the offset in the tensor of what is now the
   band's first byte. */
static size_t copy_band(const struct rows *r, const char *x, int m, int count, char *band)
{
    const struct conv_shape *s = &r->s;
    const struct place first = place(s, m), last = place(s, m + count - 1);
    const int top = first.y > 0 ? first.y : 0;
    const int bottom = last.y + s->kernel_h < s->in_h ? last.y + s->kernel_h : s->in_h;
    const size_t from = (first.image + (size_t)top * (size_t)s->in_w) * (size_t)s->in_c;
    const size_t to = (last.image + (size_t)(bottom > 0 ? bottom : 0) * (size_t)s->in_w) * (size_t)s->in_c;
    size_t i = from, n = to > from ? to : from;
    for (; i + 8 <= n; i += 8) {
        uint64_t v;
        memcpy(&v, x + i, 8);
        v ^= 0x8080808080808080u;
        memcpy(band + (i - from), &v, 8);
    }
    for (; i < n; i++)
        band[i - from] = (char)(x[i] ^ 0x80);
    return from;
}

/* x holds the tensor from byte `skip` on. */
static void point(const struct rows *r, const char *x, size_t skip, int group, int m, int count, const char *zeros, const void **to)
{
    const struct conv_shape *s = &r->s;
    const size_t size = row_size(r->type), pixel = (size_t)s->in_c * size;
    const size_t first = (size_t)group * (size_t)r->channels * size;
    for (int row = 0; row < count; row++) {
        const struct place p = place(s, m + row);
        const void **at = to + (size_t)(row / r->mr) * (size_t)(r->taps * r->mr) + row % r->mr;
        for (int kh = 0; kh < s->kernel_h; kh++) {
            const int y = p.y + kh, outside = y < 0 || y >= s->in_h;
            const size_t line = first + (p.image + (size_t)(outside ? 0 : y) * (size_t)s->in_w) * pixel;
            for (int kw = 0; kw < s->kernel_w; kw++, at += r->mr) {
                const int column = p.x + kw;
                *at = outside || column < 0 || column >= s->in_w ? zeros : x + (line + (size_t)column * pixel - skip);
            }
        }
    }
}

/* ---- lines ---- */

/* The inputs under the kernel at one output pixel, in the order kh, kw, channel; in the tensor when they lie there in one piece. */
static const char *gather(const struct rows *r, const char *x, int group, int m, char *line)
{
    const struct conv_shape *s = &r->s;
    const struct place p = place(s, m);
    const size_t size = tensor_size(r->type), piece = (size_t)(s->in_c / s->groups) * size, pixel = (size_t)s->in_c * size;
    const char *base = x + (size_t)group * piece + p.image * pixel;
    if (s->kernel_h == 1 && s->kernel_w == 1 && p.y >= 0 && p.y < s->in_h && p.x >= 0 && p.x < s->in_w)
        return base + ((size_t)p.y * (size_t)s->in_w + (size_t)p.x) * pixel;
    const int padding = size == 1 ? r->zero : 0; /* zero is all-zero bytes in float and half */
    const int left = p.x >= 0 ? 0 : -p.x < s->kernel_w ? -p.x : s->kernel_w;
    int right = p.x + s->kernel_w > s->in_w ? p.x + s->kernel_w - s->in_w : 0;
    if (right > s->kernel_w - left)
        right = s->kernel_w - left;
    const int inside = s->kernel_w - left - right;
    char *to = line;
    for (int kh = 0; kh < s->kernel_h; kh++) {
        const int y = p.y + kh;
        if (y < 0 || y >= s->in_h || inside <= 0) {
            memset(to, padding, piece * (size_t)s->kernel_w);
            to += piece * (size_t)s->kernel_w;
            continue;
        }
        memset(to, padding, piece * (size_t)left);
        to += piece * (size_t)left;
        const char *from = base + ((size_t)y * (size_t)s->in_w + (size_t)(p.x + left)) * pixel;
        if (s->groups == 1) {
            memcpy(to, from, pixel * (size_t)inside);
            to += pixel * (size_t)inside;
        } else {
            for (int kw = 0; kw < inside; kw++, from += pixel, to += piece)
                memcpy(to, from, piece);
        }
        memset(to, padding, piece * (size_t)right);
        to += piece * (size_t)right;
    }
    return line;
}

/* One line in the type of the rows; what lies beyond the depth meets weights of zero but must be finite, so it is zero. */
static void convert(const struct rows *r, const char *from, int depth, char *to)
{
    const int8_t *q = (const int8_t *)from;
    switch (r->type) {
    case ROWS_S8:
    case ROWS_F32:
        memcpy(to, from, (size_t)depth * row_size(r->type));
        break;
    case ROWS_U8:
        for (int i = 0; i < depth; i++)
            ((uint8_t *)to)[i] = (uint8_t)(q[i] ^ 0x80);
        break;
    case ROWS_S16:
        r->ops->s8_to_s16((size_t)depth, q, (int16_t *)(void *)to);
        break;
    case ROWS_F32_FROM_F16:
        r->ops->widen((size_t)depth, (const uint16_t *)(const void *)from, (float *)(void *)to);
        break;
    }
    memset(to + (size_t)depth * row_size(r->type), 0, (size_t)(r->channels - depth) * row_size(r->type));
}

static void gather_lines(const struct rows *r, const char *x, int group, int m, int count, char *line, char *lines, const void **to)
{
    const int depth = r->s.kernel_h * r->s.kernel_w * (r->s.in_c / r->s.groups);
    for (int row = 0; row < count; row++) {
        char *out = lines + (size_t)row * r->line_bytes;
        convert(r, gather(r, x, group, m + row, line), depth, out);
        to[row] = out;
    }
}

/* ---- */

const void *const *rows_prepare(const struct rows *r, const void *x, int group, int m, int count, void *scratch)
{
    char *at = scratch;
    const void **pointers = scratch;
    char *zeros = at + pointer_bytes(r);
    char *line = zeros + align_up((size_t)r->s.in_c * row_size(r->type));
    char *rest = line + align_up((size_t)(r->s.kernel_h * r->s.kernel_w * (r->s.in_c / r->s.groups)) * tensor_size(r->type));
    if (r->way == ROWS_LINES) {
        gather_lines(r, x, group, m, count, line, rest, pointers);
    } else {
        const int zero = r->type == ROWS_S8 ? r->zero : r->type == ROWS_U8 ? r->zero ^ 0x80 : 0;
        memset(zeros, zero, (size_t)r->channels * row_size(r->type));
        const size_t skip = r->way == ROWS_BAND ? copy_band(r, x, m, count, rest) : 0;
        point(r, r->way == ROWS_BAND ? rest : (const char *)x, skip, group, m, count, zeros, pointers);
    }
    /* A tile always reads mr rows: those that do not exist repeat the block's first. */
    const size_t block = (size_t)(count / r->mr) * (size_t)(r->taps * r->mr);
    for (int i = count % r->mr; i > 0 && i < r->mr; i++)
        for (int tap = 0; tap < r->taps; tap++)
            pointers[block + (size_t)(tap * r->mr + i)] = pointers[block + (size_t)(tap * r->mr)];
    return pointers;
}

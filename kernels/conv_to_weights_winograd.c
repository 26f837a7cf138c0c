// SPDX-License-Identifier: MIT

#include "kernels/conv_to_weights_winograd.h"

#include <string.h>

#include "kernels/kernels.h"
#include "kernels/tiles.h"

#define LANES         16           /* channels that the transforms take at once */
#define WEIGHTS_MAX   (128 * 128)  /* in_c * out_c: beyond, transforming the sums back costs more than it saves */
#define LEAST_TILES   4            /* of an image */
#define SCRATCH_BYTES (640 * 1024) /* of transformed inputs and gradients: they stay in the second cache level */
#define ROWS          24           /* inputs whose sums are formed, and transformed back, together */
#define SLACK         CONV_ALIGN   /* floats that a tile may read beyond the last tile's inputs */

static int tiles_of(const struct conv_shape *s)
{
    return ((s->out_h + 3) / 4) * ((s->out_w + 3) / 4);
}

int to_weights_winograd_pays(const struct conv_shape *s)
{
    return s->kernel_h == 3 && s->kernel_w == 3 && s->stride_h == 1 && s->stride_w == 1 && s->groups == 1 &&
           s->in_c % LANES == 0 && s->out_c % LANES == 0 && s->in_c <= WEIGHTS_MAX / s->out_c && tiles_of(s) >= LEAST_TILES;
}

/* Scratch: zeros for pixels outside, inputs and gradients [36][tiles of a block][channels], sums [36][rows][out_c]. */
struct layout {
    int block, rows;
    ptrdiff_t zeros, input_stride, gradient_stride, sum_stride; /* floats: of zeros, and between the 36 */
};
struct places {
    float *zeros, *inputs, *gradients, *sums;
};

/* A cache line more than they need, so that powers of two do not put one element of all 36 into the same set of a cache. */
static ptrdiff_t stride(int count)
{
    return (ptrdiff_t)((conv_align((size_t)count * sizeof(float)) + CONV_ALIGN) / sizeof(float));
}

static struct layout layout(const struct conv_to_weights *c, int images)
{
    const struct conv_shape *s = &c->s;
    struct layout l;
    const int all = images * tiles_of(s), fit = SCRATCH_BYTES / (36 * (int)sizeof(float) * (s->in_c + s->out_c));
    l.block = fit < 1 ? 1 : fit < all ? fit : all;
    l.rows = ROWS / c->tile->mr * c->tile->mr;
    l.zeros = stride(s->in_c > s->out_c ? s->in_c : s->out_c);
    l.input_stride = stride(l.block * s->in_c);
    l.gradient_stride = stride(l.block * s->out_c);
    l.sum_stride = stride(l.rows * s->out_c);
    return l;
}

size_t to_weights_winograd_scratch_bytes(const struct conv_to_weights *c, int images)
{
    const struct layout l = layout(c, images);
    return conv_align((size_t)(l.zeros + 36 * (l.input_stride + l.gradient_stride + l.sum_stride) + SLACK) * sizeof(float));
}

static struct places places(const struct layout *l, void *scratch)
{
    struct places p = {.zeros = scratch};
    p.inputs = p.zeros + l->zeros;
    p.gradients = p.inputs + 36 * l->input_stride + SLACK;
    p.sums = p.gradients + 36 * l->gradient_stride;
    return p;
}

/* Pointers to side x side pixels from (y, x) on. */
static void point(const float *image, int h, int w, int channels, int y, int x, int side, const float *zeros, const void **to)
{
    for (int i = 0; i < side; i++)
        for (int j = 0; j < side; j++)
            *to++ = y + i < 0 || y + i >= h || x + j < 0 || x + j >= w ? zeros
                                                                       : image + ((ptrdiff_t)(y + i) * w + (x + j)) * channels;
}

static void transform(const struct conv_to_weights *c, const struct layout *l, const struct places *p, const float *x,
                      const float *dy, int first, int count)
{
    const struct conv_shape *s = &c->s;
    const int tiles = tiles_of(s), wide = (s->out_w + 3) / 4;
    for (int i = 0; i < count; i++) {
        const int image = (first + i) / tiles, tile = (first + i) % tiles, ty = tile / wide * 4, tx = tile % wide * 4;
        const void *pixels[36];
        point(x + (ptrdiff_t)image * s->in_h * s->in_w * s->in_c, s->in_h, s->in_w, s->in_c, ty - s->pad_top, tx - s->pad_left, 6,
              p->zeros, pixels);
        c->winograd->input_f32(pixels, s->in_c, p->inputs + (ptrdiff_t)i * s->in_c, l->input_stride);
        point(dy + (ptrdiff_t)image * s->out_h * s->out_w * s->out_c, s->out_h, s->out_w, s->out_c, ty, tx, 4, p->zeros, pixels);
        c->winograd->gradient_f32(pixels, s->out_c, p->gradients + (ptrdiff_t)i * s->out_c, l->gradient_stride);
    }
}

static void multiply(const struct conv_to_weights *c, const struct layout *l, const struct places *p, int count, int more,
                     float *sums)
{
    const struct conv_shape *s = &c->s;
    const int mr = c->tile->mr, nr = c->tile->nr;
    for (int row = 0; row < s->in_c; row += l->rows) {
        const int rows = s->in_c - row < l->rows ? s->in_c - row : l->rows;
        struct outer_block o = {.lines = 1, .n = count, .a_step = s->in_c, .b_step = s->out_c, .ldc = s->out_c};
        for (int xi = 0; xi < 36; xi++)
            for (int i = 0; i < rows; i += mr)
                for (int j = 0; j < s->out_c; j += nr) {
                    o.a = p->inputs + xi * l->input_stride + row + i;
                    o.b = p->gradients + xi * l->gradient_stride + j;
                    o.c = p->sums + xi * l->sum_stride + i * s->out_c + j;
                    o.rows = rows - i < mr ? rows - i : mr;
                    c->tile->tile(&o);
                }
        c->winograd->to_weights_f32(p->sums, l->sum_stride, rows * s->out_c, more, sums + row * s->out_c,
                                    (ptrdiff_t)s->in_c * s->out_c);
    }
}

void to_weights_winograd_run(const struct conv_to_weights *c, const float *x, const float *dy, int images, int more, float *sums,
                             void *scratch)
{
    const struct layout l = layout(c, images);
    const struct places p = places(&l, scratch);
    const int all = images * tiles_of(&c->s);
    memset(p.zeros, 0, (size_t)l.zeros * sizeof(float));
    for (int first = 0; first < all; first += l.block) {
        const int count = all - first < l.block ? all - first : l.block;
        transform(c, &l, &p, x, dy, first, count);
        multiply(c, &l, &p, count, more || first > 0, sums);
    }
}

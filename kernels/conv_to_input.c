// SPDX-License-Identifier: MIT

#include <string.h>

#include "kernels/conv_gradient.h"
#include "kernels/kernels.h"

/* One side of one place: the pixels first, first + stride, ... of the input, and the taps that they are under. With i = first +
   stride q, i + pad = out * stride + tap gives tap = rest + stride j and out = q + offset - j. */
struct side {
    int first, count; /* pixels */
    int rest, taps;
    int pad; /* of the convolution over dy: output q sees dy from q - pad on, j falling */
};

static struct side side_of(int in, int kernel, int stride, int pad, int first)
{
    struct side p = {.first = first, .count = first < in ? (in - first + stride - 1) / stride : 0};
    p.rest = (first + pad) % stride;
    p.taps = p.rest < kernel ? (kernel - p.rest + stride - 1) / stride : 0;
    /* Taps beyond the kernel, of zero, where padding puts even the first tap behind the pixel's own place. */
    const int offset = (first + pad - p.rest) / stride;
    if (p.taps > 0 && p.taps < offset + 1)
        p.taps = offset + 1;
    p.pad = p.taps - 1 - offset;
    return p;
}

struct place {
    struct side h, w;
    struct conv_shape s; /* of its convolution */
    int empty;           /* no tap sees it: its gradient is 0 */
};

static struct place place_of(const struct conv_shape *s, int place)
{
    struct place p = {.h = side_of(s->in_h, s->kernel_h, s->stride_h, s->pad_top, place / s->stride_w),
                      .w = side_of(s->in_w, s->kernel_w, s->stride_w, s->pad_left, place % s->stride_w)};
    p.empty = p.h.count == 0 || p.w.count == 0 || p.h.taps == 0 || p.w.taps == 0;
    p.s = (struct conv_shape){.in_h = s->out_h,
                              .in_w = s->out_w,
                              .in_c = s->out_c,
                              .out_h = p.h.count,
                              .out_w = p.w.count,
                              .out_c = s->in_c,
                              .kernel_h = p.h.taps,
                              .kernel_w = p.w.taps,
                              .stride_h = 1,
                              .stride_w = 1,
                              .pad_top = p.h.pad,
                              .pad_left = p.w.pad,
                              .groups = s->groups};
    return p;
}

struct conv_to_input {
    struct conv_shape s;
    int places;
    size_t scratch_bytes; /* of any of the convolutions */
    struct conv *convs[]; /* [places], NULL where empty */
};

static size_t header_bytes(const struct conv_shape *s)
{
    return conv_align(sizeof(struct conv_to_input) + (size_t)(s->stride_h * s->stride_w) * sizeof(struct conv *));
}

size_t conv_to_input_bytes(const struct kernels *k, const struct conv_shape *s)
{
    size_t bytes = header_bytes(s);
    for (int i = 0; i < s->stride_h * s->stride_w; i++) {
        const struct place p = place_of(s, i);
        if (!p.empty)
            bytes += conv_bytes(k, PRECISION_FP32, &p.s);
    }
    return bytes;
}

size_t conv_to_input_turned(const struct conv_shape *s)
{
    size_t most = 0;
    for (int i = 0; i < s->stride_h * s->stride_w; i++) {
        const struct place p = place_of(s, i);
        const size_t count = (size_t)(p.h.taps * p.w.taps) * (size_t)(s->out_c / s->groups) * (size_t)s->in_c;
        most = count > most ? count : most;
    }
    return most;
}

/* [I][taps][O/groups] from [O][KH][KW][I/groups]. */
static void turn(const struct conv_shape *s, const struct place *p, const float *weight, float *turned)
{
    const int ins = s->in_c / s->groups, outs = s->out_c / s->groups;
    const size_t depth = (size_t)(s->kernel_h * s->kernel_w * ins);
    for (int i = 0; i < s->in_c; i++) {
        const float *group = weight + (size_t)(i / ins * outs) * depth + i % ins;
        for (int a = 0; a < p->h.taps; a++)
            for (int b = 0; b < p->w.taps; b++, turned += outs) {
                const int kh = p->h.rest + s->stride_h * (p->h.taps - 1 - a), kw = p->w.rest + s->stride_w * (p->w.taps - 1 - b);
                const int inside = kh < s->kernel_h && kw < s->kernel_w;
                for (int o = 0; o < outs; o++)
                    turned[o] = inside ? group[(size_t)o * depth + (size_t)((kh * s->kernel_w + kw) * ins)] : 0;
            }
    }
}

struct conv_to_input *conv_to_input_init(void *memory, const struct kernels *k, const struct conv_shape *s, const float *weight,
                                         float *turned)
{
    struct conv_to_input *c = memory;
    *c = (struct conv_to_input){.s = *s, .places = s->stride_h * s->stride_w};
    char *at = (char *)memory + header_bytes(s);
    for (int i = 0; i < c->places; i++) {
        const struct place p = place_of(s, i);
        c->convs[i] = NULL;
        if (p.empty)
            continue;
        turn(s, &p, weight, turned);
        c->convs[i] = conv_init(at, k, PRECISION_FP32, &p.s, &(struct conv_params){.weight = turned});
        at += conv_bytes(k, PRECISION_FP32, &p.s);
        const size_t scratch = conv_scratch_bytes(c->convs[i]);
        c->scratch_bytes = scratch > c->scratch_bytes ? scratch : c->scratch_bytes;
    }
    return c;
}

/* The pixels of the largest place. */
static size_t part_bytes(const struct conv_shape *s, int images)
{
    const int h = (s->in_h + s->stride_h - 1) / s->stride_h, w = (s->in_w + s->stride_w - 1) / s->stride_w;
    return s->stride_h * s->stride_w == 1 ? 0
                                          : conv_align((size_t)images * (size_t)h * (size_t)w * (size_t)s->in_c * sizeof(float));
}

size_t conv_to_input_scratch_bytes(const struct conv_to_input *c, int images)
{
    return c->scratch_bytes + part_bytes(&c->s, images);
}

/* Puts the pixels of one place where they belong; part NULL: zeros. */
static void spread(const struct conv_shape *s, const struct place *p, const float *part, const float *add, float *dx, int images)
{
    const size_t channels = (size_t)s->in_c;
    for (int image = 0; image < images; image++)
        for (int y = 0; y < p->h.count; y++) {
            const size_t line = (size_t)(image * s->in_h + p->h.first + y * s->stride_h) * (size_t)s->in_w;
            for (int x = 0; x < p->w.count; x++) {
                const size_t at = (line + (size_t)(p->w.first + x * s->stride_w)) * channels;
                for (size_t c = 0; c < channels; c++)
                    dx[at + c] = (part ? part[c] : 0) + (add ? add[at + c] : 0);
                part = part ? part + channels : NULL;
            }
        }
}

void conv_to_input_run(const struct conv_to_input *c, const float *dy, const float *add, float *dx, int images, void *scratch)
{
    if (c->places == 1 && c->convs[0]) {
        conv_run(c->convs[0], &(struct conv_io){dy, add, dx, images}, 0, 1, scratch);
        return;
    }
    float *part = (float *)(void *)((char *)scratch + c->scratch_bytes);
    for (int i = 0; i < c->places; i++) {
        const struct place p = place_of(&c->s, i);
        if (c->convs[i])
            conv_run(c->convs[i], &(struct conv_io){dy, NULL, part, images}, 0, 1, scratch);
        spread(&c->s, &p, c->convs[i] ? part : NULL, add, dx, images);
    }
}

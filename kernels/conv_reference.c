// SPDX-License-Identifier: MIT
//
// The specification of convolution as loops that follow the formulas of docs/numerics.md. Slow on purpose.

#include <math.h>

#include "kernels/conv.h"
#include "kernels/half.h"
#include "kernels/tflite.h"

/* Index of an input element, or -1 in the padding. */
static int64_t input_at(const struct conv_shape *s, int n, int y, int x, int ch)
{
    if (y < 0 || y >= s->in_h || x < 0 || x >= s->in_w)
        return -1;
    return (((int64_t)n * s->in_h + y) * s->in_w + x) * s->in_c + ch;
}

static void output_s8(const struct conv_params *p, const struct conv_io *io, int64_t at, int o, int32_t acc)
{
    acc += p->bias_s32 ? p->bias_s32[o] : 0;
    if (p->float_out) {
        ((float *)io->y)[at] = (float)acc * (p->in.scale * p->scale[o]);
        return;
    }
    if (p->rounding == ROUNDING_TFLITE) {
        int32_t mult, shift;
        tflite_multiplier(tflite_factor(p, o), &mult, &shift);
        tflite_store(&acc, 1, 1, 1, &mult, &shift, p->out.zero, p->relu ? p->out.zero : -128, (int8_t *)io->y + at, 1);
        return;
    }
    float m = p->in.scale * p->scale[o];
    m = m / p->out.scale;
    float t = (float)acc * m;
    if (io->residual) {
        float m2 = p->residual.scale / p->out.scale;
        float r = (float)(((const int8_t *)io->residual)[at] - p->residual.zero) * m2;
        t = t + r;
    }
    double y = rint((double)t) + p->out.zero; /* exact: t is far from the limits of double */
    double lo = p->relu ? p->out.zero : -128;
    ((int8_t *)io->y)[at] = (int8_t)(y < lo ? lo : y > 127 ? 127 : y);
}

static float load(enum precision p, const void *x, int64_t at)
{
    return p == PRECISION_FP16 ? half_to_float(((const uint16_t *)x)[at]) : ((const float *)x)[at];
}

static void output_float(enum precision pr, const struct conv_params *p, const struct conv_io *io, int64_t at, int o, float acc)
{
    if (pr == PRECISION_HYBRID)
        acc = acc * p->scale[o];
    float y = acc + (p->bias ? p->bias[o] : 0);
    if (io->residual)
        y += load(pr, io->residual, at);
    if (p->relu && y < 0)
        y = 0;
    if (pr == PRECISION_FP16)
        ((uint16_t *)io->y)[at] = half_from_float(y);
    else
        ((float *)io->y)[at] = y;
}

void conv_reference(enum precision pr, const struct conv_shape *s, const struct conv_params *p, const struct conv_io *io)
{
    const int group_in = s->in_c / s->groups, group_out = s->out_c / s->groups;
    for (int n = 0; n < io->images; n++)
        for (int oy = 0; oy < s->out_h; oy++)
            for (int ox = 0; ox < s->out_w; ox++)
                for (int o = 0; o < s->out_c; o++) {
                    int32_t acc = 0;
                    float facc = 0;
                    int64_t w = (int64_t)o * s->kernel_h * s->kernel_w * group_in;
                    for (int kh = 0; kh < s->kernel_h; kh++)
                        for (int kw = 0; kw < s->kernel_w; kw++)
                            for (int i = 0; i < group_in; i++, w++) {
                                int64_t x = input_at(s, n, oy * s->stride_h - s->pad_top + kh, ox * s->stride_w - s->pad_left + kw,
                                                     o / group_out * group_in + i);
                                if (x < 0)
                                    continue; /* padding is zero: qx = zx */
                                if (pr == PRECISION_INT8)
                                    acc += (((const int8_t *)io->x)[x] - p->in.zero) * ((const int8_t *)p->weight)[w];
                                else if (pr == PRECISION_HYBRID)
                                    facc += ((const float *)io->x)[x] * (float)((const int8_t *)p->weight)[w];
                                else
                                    facc += load(pr, io->x, x) * load(pr, p->weight, w);
                            }
                    int64_t at = (((int64_t)n * s->out_h + oy) * s->out_w + ox) * s->out_c + o;
                    if (pr == PRECISION_INT8)
                        output_s8(p, io, at, o, acc);
                    else
                        output_float(pr, p, io, at, o, facc);
                }
}

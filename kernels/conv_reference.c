// SPDX-License-Identifier: MIT
//
// The specification of convolution as loops that follow the formulas of docs/numerics.md. Slow on purpose.

#include <math.h>

#include "kernels/conv.h"
#include "kernels/half.h"
#include "kernels/tflite.h"

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

/* The sums of one tap: n products in the order of the channels, onto those before. */

static int32_t tap_s8(int32_t acc, const int8_t *x, int32_t zero, const int8_t *w, int n)
{
    for (int i = 0; i < n; i++)
        acc += (x[i] - zero) * w[i];
    return acc;
}

static float tap_hybrid(float acc, const float *x, const int8_t *w, int n)
{
    for (int i = 0; i < n; i++)
        acc += x[i] * (float)w[i];
    return acc;
}

static float tap_f16(float acc, const uint16_t *x, const uint16_t *w, int n)
{
    for (int i = 0; i < n; i++)
        acc += half_to_float(x[i]) * half_to_float(w[i]);
    return acc;
}

static float tap_f32(float acc, const float *x, const float *w, int n)
{
    for (int i = 0; i < n; i++)
        acc += x[i] * w[i];
    return acc;
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
                    for (int kh = 0; kh < s->kernel_h; kh++)
                        for (int kw = 0; kw < s->kernel_w; kw++) {
                            int iy = oy * s->stride_h - s->pad_top + kh, ix = ox * s->stride_w - s->pad_left + kw;
                            if (iy < 0 || iy >= s->in_h || ix < 0 || ix >= s->in_w)
                                continue; /* padding is zero: qx = zx */
                            int64_t x = (((int64_t)n * s->in_h + iy) * s->in_w + ix) * s->in_c + o / group_out * group_in;
                            int64_t w = (((int64_t)o * s->kernel_h + kh) * s->kernel_w + kw) * group_in;
                            if (pr == PRECISION_INT8)
                                acc = tap_s8(acc, (const int8_t *)io->x + x, p->in.zero, (const int8_t *)p->weight + w, group_in);
                            else if (pr == PRECISION_HYBRID)
                                facc = tap_hybrid(facc, (const float *)io->x + x, (const int8_t *)p->weight + w, group_in);
                            else if (pr == PRECISION_FP16)
                                facc = tap_f16(facc, (const uint16_t *)io->x + x, (const uint16_t *)p->weight + w, group_in);
                            else
                                facc = tap_f32(facc, (const float *)io->x + x, (const float *)p->weight + w, group_in);
                        }
                    int64_t at = (((int64_t)n * s->out_h + oy) * s->out_w + ox) * s->out_c + o;
                    if (pr == PRECISION_INT8)
                        output_s8(p, io, at, o, acc);
                    else
                        output_float(pr, p, io, at, o, facc);
                }
}

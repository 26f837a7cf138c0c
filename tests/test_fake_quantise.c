// SPDX-License-Identifier: MIT
//
// Rounding to a grid against the rules of kernels/conv_reference.c, and its gradients against their definition in double.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/conv.h"
#include "models/quantize/quantize.h"
#include "models/train/fake_quantise.h"
#include "models/train/random.h"

#define COUNT 1000

static double normal(struct random *r)
{
    return random_normal(r);
}

/* Sums of many sizes through the steps, with and without a residual, and through the reference convolution: 1x1 with one input of
   1 and the sum as its bias. */
static void forward_is_the_reference(void **unused)
{
    (void)unused;
    struct random r = random_stream(1, RANDOM_INITIALISE, 0, 0);
    for (int round = 0; round < 200; round++) {
        enum { CHANNELS = 37 };
        float scale[CHANNELS], mult[CHANNELS], t[CHANNELS];
        int32_t sum[CHANNELS];
        int8_t residual[CHANNELS], expected[CHANNELS], got[CHANNELS], zero[CHANNELS] = {0}, x = 0;
        const int relu = round % 2, with = round / 2 % 2;
        struct conv_shape s = {1, 1, 1, 1, 1, CHANNELS, 1, 1, 1, 1, 0, 0, 1};
        struct conv_params p = {.weight = zero, .scale = scale, .bias_s32 = sum, .relu = relu};
        p.in = (struct quant){(float)exp(normal(&r)), 3};
        p.out = (struct quant){(float)exp(normal(&r)), relu ? -128 : random_below(&r, 256) - 128};
        p.residual = (struct quant){(float)exp(normal(&r)), random_below(&r, 256) - 128};
        for (int c = 0; c < CHANNELS; c++) {
            scale[c] = (float)exp(3 * normal(&r)) / 1000;
            sum[c] = (int32_t)(normal(&r) * exp(12 * random_unit(&r))) - (c == 5 ? INT32_MAX / 2 : 0);
            residual[c] = (int8_t)(random_below(&r, 256) - 128);
            const float m = p.in.scale * scale[c];
            mult[c] = m / p.out.scale;
            t[c] = (float)sum[c];
        }
        if (round % 5 == 0) { /* ties */
            p.in.scale = p.out.scale = 0.25f;
            for (int c = 0; c < CHANNELS; c++)
                mult[c] = scale[c] = 0.5f;
        }
        const struct conv_io io = {&x, with ? residual : NULL, expected, 1};
        x = (int8_t)p.in.zero;
        conv_reference(PRECISION_INT8, &s, &p, &io);
        fake_quantise_steps(t, 1, CHANNELS, mult, with ? residual : NULL, p.residual.zero, p.residual.scale / p.out.scale);
        fake_quantise(t, CHANNELS, (float)(relu ? 0 : -128 - p.out.zero), (float)(127 - p.out.zero), p.out.zero, got);
        assert_memory_equal(got, expected, sizeof got);
    }
    const float odd[4] = {NAN, INFINITY, -INFINITY, -0.0f};
    int8_t q[4];
    fake_quantise(odd, 4, -100, 155, -28, q);
    assert_true(q[0] == -128 && q[1] == 127 && q[2] == -128 && q[3] == -28);
}

static double slope_of_scale(double t, double lo, double hi)
{
    return t < lo ? lo : t > hi ? hi : rint(t) - t;
}

static void gradients_of_activations(void **unused)
{
    (void)unused;
    /* Worked by hand: below, at lo, a tie, at hi, beyond it. The ends belong to the inside, where the gradient passes. */
    const float hand[5] = {-3.25f, -3, 0.5f, 7, 7.25f};
    float g[5] = {1, 2, 4, 8, 16};
    const float passed[5] = {0, 2, 4, 8, 0};
    assert_true(fake_quantise_backward(hand, 5, -3, 7, g) == -3 - 2 + 16 * 7);
    assert_memory_equal(g, passed, sizeof g);

    struct random r = random_stream(2, RANDOM_INITIALISE, 0, 0);
    static float t[40 * COUNT], d[40 * COUNT], copy[40 * COUNT];
    for (int round = 0; round < 60; round++) {
        const size_t count = round < 50 ? (size_t)round : 40 * COUNT - (size_t)round;
        const float lo = round % 2 ? 0 : -100, hi = lo + 255;
        double sum = 0, size = 0;
        for (size_t i = 0; i < count; i++) {
            t[i] = (float)(100 * normal(&r));
            copy[i] = d[i] = (float)normal(&r);
            const double one = (double)d[i] * slope_of_scale((double)t[i], (double)lo, (double)hi);
            sum += one;
            size += fabs(one);
        }
        assert_true(fabs(fake_quantise_backward(t, count, lo, hi, d) - sum) <= 1e-5 * size);
        for (size_t i = 0; i < count; i++)
            assert_true(d[i] == (t[i] < lo || t[i] > hi ? 0 : copy[i]));
    }
    assert_true(fake_quantise_rate(16, 4) == 0.125f);
}

static void weights(void **unused)
{
    (void)unused;
    assert_true(fake_quantise_levels(8) == 127 && fake_quantise_levels(6) == 31 && fake_quantise_levels(4) == 7 &&
                fake_quantise_levels(2) == 1);
    struct random r = random_stream(3, RANDOM_INITIALISE, 0, 0);
    static float w[COUNT], g[COUNT];
    int8_t q[COUNT], expected[COUNT];
    for (int round = 0; round < 20; round++) {
        float scale, plain;
        for (int i = 0; i < COUNT; i++)
            w[i] = (float)normal(&r);
        /* 8 bits: as the quantiser has them, to the bit */
        quantize_weights(w, 1, COUNT, expected, &scale);
        assert_true(fake_quantise_weight_scale(w, COUNT, 127) == scale);
        fake_quantise_weights(w, COUNT, scale, 127, q);
        assert_memory_equal(q, expected, sizeof q);
        for (int bits = 2; bits < 8; bits++) {
            const int levels = fake_quantise_levels(bits);
            double error[2] = {0, 0}, sum = 0;
            scale = fake_quantise_weight_scale(w, COUNT, levels);
            for (int which = 0; which < 2; which++) {
                plain = which ? scale : fake_quantise_weight_scale(w, COUNT, 127) * 127 / (float)levels;
                fake_quantise_weights(w, COUNT, plain, levels, q);
                for (int i = 0; i < COUNT; i++) {
                    assert_true(q[i] >= -levels && q[i] <= levels);
                    error[which] += pow((double)(w[i] - plain * (float)q[i]), 2);
                }
            }
            assert_true(error[1] < error[0]);
            for (int i = 0; i < COUNT; i++) {
                g[i] = 1;
                const double t = (double)(w[i] / scale);
                sum += fabs(t) <= levels + 0.5 ? rint(t) - t : t < 0 ? -levels : levels;
            }
            assert_true(fabs(fake_quantise_weights_backward(w, COUNT, scale, levels, g) - sum) < 0.01);
            for (int i = 0; i < COUNT; i++)
                assert_true(g[i] == (fabsf(w[i] / scale) > (float)levels + 0.5f ? 0 : 1));
        }
    }
    memset(w, 0, sizeof w);
    assert_true(fake_quantise_weight_scale(w, COUNT, 7) == 1);
    w[0] = NAN;
    fake_quantise_weights(w, 2, 1, 7, q);
    assert_true(q[0] == -7 && q[1] == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forward_is_the_reference),
        cmocka_unit_test(gradients_of_activations),
        cmocka_unit_test(weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

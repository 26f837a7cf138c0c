// SPDX-License-Identifier: MIT
//
// Rounding that makes up for its own errors: the factor against its definition, and a small layer whose outputs it must bring
// closer than rounding to nearest does.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <pthreadpool.h>
#include <stdlib.h>
#include <string.h>

#include "models/quantize/compensate.h"
#include "models/quantize/quantize.h"

static unsigned state;

static float uniform(float a, float b)
{
    state = state * 1103515245u + 12345u;
    return a + (b - a) * (float)(state >> 8) / (float)(1 << 24);
}

/* Inputs that go together, as those of neighbouring pixels do: [count][n]. */
static float *inputs(int count, int n)
{
    float *x = malloc((size_t)count * (size_t)n * sizeof *x);
    assert_non_null(x);
    for (int t = 0; t < count; t++) {
        const float common = uniform(-1, 1);
        for (int i = 0; i < n; i++)
            x[t * n + i] = common + 0.3f * uniform(-1, 1);
    }
    return x;
}

static float *products(const float *x, int count, int n)
{
    const size_t side = factor_side(n);
    float *h = calloc(side * side, sizeof *h);
    assert_non_null(h);
    for (size_t i = 0; i < side; i++)
        for (size_t j = 0; j < side; j++) {
            double sum = 0;
            for (int t = 0; t < count && i < (size_t)n && j < (size_t)n; t++)
                sum += (double)x[t * n + (int)i] * (double)x[t * n + (int)j];
            h[i * side + j] = (float)(sum / count) + (i == j ? (i < (size_t)n ? 0.001f : 1) : 0);
        }
    return h;
}

static void factor(void **unused)
{
    (void)unused;
    static const int sizes[] = {1, 15, 16, 17, 64, 150};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        const int n = sizes[k];
        const size_t side = factor_side(n);
        state = 7;
        float *x = inputs(400, n), *h = products(x, 400, n), *r = malloc(side * side * sizeof *r);
        assert_non_null(r);
        memcpy(r, h, side * side * sizeof *r);
        assert_int_equal(factor_upper(r, n, NULL), 0);
        for (size_t i = 0; i < side; i++)
            for (size_t j = i; j < side; j++) {
                double sum = 0;
                for (size_t l = 0; l <= i; l++)
                    sum += (double)r[l * side + i] * (double)r[l * side + j];
                assert_true(fabs(sum - (double)h[i * side + j]) < 1e-4);
            }
        h[0] = -1;
        assert_int_equal(factor_upper(h, n, NULL), -1);
        free(x);
        free(h);
        free(r);
    }
}

/* 2 x 2 by hand: H = [4 2; 2 2] gives R = [2 1; 0 1]. The last weight is rounded first, 0.4 to 0; its error 0.4 moves the first
   by 0.4 * 1 / 2, so 0.35 becomes 0.55 and rounds to 1, where nearest says 0. */
static void by_hand(void **unused)
{
    (void)unused;
    float h[FACTOR_TILE * FACTOR_TILE] = {0};
    for (int i = 2; i < FACTOR_TILE; i++)
        h[i * FACTOR_TILE + i] = 1;
    h[0] = 4;
    h[1] = h[FACTOR_TILE] = 2;
    h[FACTOR_TILE + 1] = 2;
    assert_int_equal(factor_upper(h, 2, NULL), 0);
    assert_true(fabsf(h[0] - 2) < 1e-6f && fabsf(h[1] - 1) < 1e-6f && fabsf(h[FACTOR_TILE + 1] - 1) < 1e-6f);
    const float w[4] = {0.35f, 0.4f, 500, -500}, scale[2] = {1, 1};
    int8_t q[4];
    assert_int_equal(round_compensated(h, 2, w, 2, scale, q, NULL), 0);
    assert_int_equal(q[0], 1);
    assert_int_equal(q[1], 0);
    assert_int_equal(q[2], 127); /* never beyond */
    assert_int_equal(q[3], -127);
}

static double output_error(const float *x, int count, int n, const float *w, const int8_t *q, const float *scale, int channels)
{
    double sum = 0;
    for (int t = 0; t < count; t++)
        for (int o = 0; o < channels; o++) {
            double y = 0;
            for (int i = 0; i < n; i++)
                y += ((double)w[o * n + i] - (double)scale[o] * q[o * n + i]) * (double)x[t * n + i];
            sum += y * y;
        }
    return sum;
}

static void beats_nearest(void **unused)
{
    (void)unused;
    enum { N = 36, CHANNELS = 40, COUNT = 500 };
    state = 3;
    float *x = inputs(2 * COUNT, N), *h = products(x, COUNT, N), w[CHANNELS * N], scale[CHANNELS];
    int8_t nearest[CHANNELS * N], rounded[CHANNELS * N], threads[CHANNELS * N];
    for (int i = 0; i < CHANNELS * N; i++)
        w[i] = uniform(-1, 1);
    quantize_weights(w, CHANNELS, N, nearest, scale);
    assert_int_equal(factor_upper(h, N, NULL), 0);
    assert_int_equal(round_compensated(h, N, w, CHANNELS, scale, rounded, NULL), 0);
    /* On columns that the products have not seen. */
    const double a = output_error(x + COUNT * N, COUNT, N, w, nearest, scale, CHANNELS);
    const double b = output_error(x + COUNT * N, COUNT, N, w, rounded, scale, CHANNELS);
    if (b >= 0.5 * a)
        fail_msg("compensated rounding leaves an error of %g, nearest of %g", b, a);
    float *again = products(x, COUNT, N);
    pthreadpool_t pool = pthreadpool_create(3);
    assert_int_equal(factor_upper(again, N, pool), 0);
    assert_memory_equal(again, h, factor_side(N) * sizeof *h);
    assert_int_equal(round_compensated(again, N, w, CHANNELS, scale, threads, pool), 0);
    assert_memory_equal(threads, rounded, sizeof rounded);
    if (pool)
        pthreadpool_destroy(pool);
    free(again);
    free(x);
    free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(factor),
        cmocka_unit_test(by_hand),
        cmocka_unit_test(beats_nearest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: MIT
//
// Rounding whose errors cancel: sums, single changes and their cost, and a layer with positive inputs whose outputs it must bring
// closer than rounding to nearest does.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "models/quantize/balance.h"
#include "models/quantize/quantize.h"

static unsigned state;

static float uniform(float a, float b)
{
    state = state * 1103515245u + 12345u;
    return a + (b - a) * (float)(state >> 8) / (float)(1 << 24);
}

static void by_hand(void **unused)
{
    (void)unused;
    static const float one = 1;
    /* Lacks 1.2: one change, of the first of the two largest errors. Then 0.2 is left, within half a step. */
    static const float up[5] = {5.2f, 3.4f, -2.6f, 0.4f, -0.2f};
    static const int8_t up_expected[5] = {5, 4, -3, 0, 0};
    int8_t q[5] = {5, 3, -3, 0, 0};
    balance_weights(up, 1, 5, 1, &one, q);
    assert_memory_equal(q, up_expected, sizeof q);
    /* Exactly half a step is left alone. */
    static const float half[2] = {0.25f, 0.25f};
    int8_t still[2] = {0, 0};
    balance_weights(half, 1, 2, 1, &one, still);
    assert_true(still[0] == 0 && still[1] == 0);
    /* Two windows of three weights, [window][inputs]: the first input lacks 0.9, the second -0.9. Each is mended within, though
       the whole lacks nothing. */
    static const float two[6] = {0.3f, -0.3f, 0.25f, -0.25f, 0.35f, -0.35f};
    static const int8_t two_expected[6] = {0, 0, 0, 0, 1, -1};
    int8_t windows[6] = {0};
    balance_weights(two, 1, 6, 3, &one, windows);
    assert_memory_equal(windows, two_expected, sizeof windows);
    memset(windows, 0, sizeof windows);
    balance_weights(two, 1, 6, 1, &one, windows);
    for (int i = 0; i < 6; i++)
        assert_int_equal(windows[i], 0);
    /* Never beyond 127: the next best moves; and where none can, none does. */
    static const float limit[3] = {127.4f, 127.45f, 3.3f};
    int8_t at_limit[3] = {127, 127, 3};
    balance_weights(limit, 1, 3, 1, &one, at_limit);
    assert_true(at_limit[0] == 127 && at_limit[1] == 127 && at_limit[2] == 4);
    static const float beyond[2] = {-500, -500};
    int8_t stuck[2] = {-127, -126};
    balance_weights(beyond, 1, 2, 1, &one, stuck);
    assert_true(stuck[0] == -127 && stuck[1] == -127);
}

static double sum_of(const float *w, float s, const int8_t *q, int n, int stride)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += (double)w[i * stride] / (double)s - q[i * stride];
    return sum;
}

#define HALF (0.5 + 1e-9)

/* Sums over channels; over windows where the channel's sum needed no change; and no weight further than its second nearest step.
 */
static void sums(void **unused)
{
    (void)unused;
    enum { CHANNELS = 64, WINDOW = 9, INPUTS = 24, DEPTH = WINDOW * INPUTS };
    static float w[CHANNELS * DEPTH];
    static int8_t nearest[CHANNELS * DEPTH], q[CHANNELS * DEPTH];
    float scale[CHANNELS];
    int quiet = 0, changed = 0;
    state = 11;
    for (int i = 0; i < CHANNELS * DEPTH; i++)
        w[i] = uniform(-1, 1) * uniform(0, 1);
    quantize_weights(w, CHANNELS, DEPTH, nearest, scale);
    memcpy(q, nearest, sizeof q);
    balance_weights(w, CHANNELS, DEPTH, WINDOW, scale, q);
    for (int o = 0; o < CHANNELS; o++) {
        const float *row = w + o * DEPTH;
        int beyond = 0;
        double before = 0; /* the channel's sum once each window is within half a step */
        assert_true(fabs(sum_of(row, scale[o], q + o * DEPTH, DEPTH, 1)) <= HALF);
        for (int i = 0; i < INPUTS; i++) {
            const double lacked = sum_of(row + i, scale[o], nearest + o * DEPTH + i, WINDOW, INPUTS);
            before += lacked - rint(lacked);
            beyond += fabs(sum_of(row + i, scale[o], q + o * DEPTH + i, WINDOW, INPUTS)) > HALF;
        }
        quiet += fabs(before) <= 0.5;
        assert_true(beyond <= (int)lrint(fabs(before)));
    }
    for (int i = 0; i < CHANNELS * DEPTH; i++) {
        changed += q[i] != nearest[i];
        assert_true(abs(q[i]) <= 127 && fabs((double)w[i] / (double)scale[i / DEPTH] - q[i]) < 1 + 1e-6);
    }
    assert_true(quiet > 0 && changed > CHANNELS * INPUTS / 4 && changed < CHANNELS * INPUTS);
}

/* Of one sum, nothing that is as balanced costs less: against every choice of steps, up or down, for each of ten weights. */
static void cheapest(void **unused)
{
    (void)unused;
    enum { N = 10 };
    int changed = 0;
    state = 5;
    for (int round = 0; round < 200; round++) {
        float w[N], scale;
        int8_t q[N], nearest[N];
        for (int i = 0; i < N; i++)
            w[i] = uniform(-1, 1);
        quantize_weights(w, 1, N, q, &scale);
        memcpy(nearest, q, sizeof nearest);
        balance_weights(w, 1, N, 1, &scale, q);
        double cost = 0, least = INFINITY;
        for (int i = 0; i < N; i++) {
            const double e = (double)w[i] / (double)scale - q[i];
            cost += e * e;
        }
        for (int choice = 0; choice < 1 << N; choice++) {
            double sum = 0, other = 0;
            int fits = 1;
            for (int i = 0; i < N; i++) {
                const double x = (double)w[i] / (double)scale, up = floor(x) + (choice >> i & 1);
                fits &= fabs(up) <= 127;
                sum += x - up;
                other += (x - up) * (x - up);
            }
            if (fits && fabs(sum) <= HALF && other < least)
                least = other;
        }
        assert_true(cost <= least + 1e-6);
        changed += memcmp(q, nearest, sizeof q) != 0;
    }
    assert_true(changed > 50);
}

/* Inputs as they come after a ReLU: positive, each input channel with a level of its own in all its window. */
static void beats_nearest(void **unused)
{
    (void)unused;
    enum { CHANNELS = 40, WINDOW = 9, INPUTS = 16, DEPTH = WINDOW * INPUTS, COUNT = 300 };
    static float w[CHANNELS * DEPTH], x[COUNT * DEPTH];
    static int8_t q[2][CHANNELS * DEPTH];
    float scale[CHANNELS];
    double error[2] = {0};
    state = 3;
    for (int i = 0; i < CHANNELS * DEPTH; i++)
        w[i] = uniform(-1, 1);
    for (int t = 0; t < COUNT; t++)
        for (int i = 0; i < INPUTS; i++) {
            const float level = uniform(0, 1);
            for (int k = 0; k < WINDOW; k++)
                x[t * DEPTH + k * INPUTS + i] = fmaxf(0, level + 0.2f * uniform(-1, 1));
        }
    quantize_weights(w, CHANNELS, DEPTH, q[0], scale);
    memcpy(q[1], q[0], sizeof q[1]);
    balance_weights(w, CHANNELS, DEPTH, WINDOW, scale, q[1]);
    for (int r = 0; r < 2; r++)
        for (int t = 0; t < COUNT; t++)
            for (int o = 0; o < CHANNELS; o++) {
                double y = 0;
                for (int i = 0; i < DEPTH; i++)
                    y += ((double)w[o * DEPTH + i] - (double)scale[o] * q[r][o * DEPTH + i]) * (double)x[t * DEPTH + i];
                error[r] += y * y;
            }
    if (error[1] >= 0.25 * error[0])
        fail_msg("balanced rounding leaves an error of %g, nearest of %g", error[1], error[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_hand),
        cmocka_unit_test(sums),
        cmocka_unit_test(cheapest),
        cmocka_unit_test(beats_nearest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

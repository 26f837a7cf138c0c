// SPDX-License-Identifier: MIT
//
// The gradients of convolutions against direct loops in double, for every implementation that this machine can run: strides,
// asymmetric padding, groups, kernels that skip pixels, widths that no tile has. And the functions of channels.h, whose bits are
// the same everywhere.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <math.h>
#include <cmocka.h>

#include "kernels/channels.h"
#include "kernels/conv_gradient.h"
#include "kernels/cpu.h"
#include "kernels/kernels.h"

#define IMAGES 3

struct arrays {
    float *x, *w, *dy, *add, *dx, *dw;
    double *dx_true, *dw_true, *dx_size, *dw_size; /* sums, and sums of magnitudes: what rounding is relative to */
    size_t xs, ws, ys;
};

static uint64_t state = 1;
static float uniform(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(state >> 32) / 2147483648.0f;
}

static void *take(size_t bytes)
{
    void *p = aligned_alloc(CONV_ALIGN, conv_align(bytes));
    assert_non_null(p);
    memset(p, 0x7f, conv_align(bytes)); /* huge floats: what is read unwritten shows */
    return p;
}

static float *some(size_t n)
{
    float *p = take(n * sizeof *p);
    for (size_t i = 0; i < n; i++)
        p[i] = uniform();
    return p;
}

/* dx and dw by definition: each product of y = sum x w hands dy to both. */
static void direct(const struct conv_shape *s, struct arrays *a)
{
    const int ins = s->in_c / s->groups, outs = s->out_c / s->groups;
    for (size_t i = 0; i < a->xs; i++)
        a->dx_true[i] = (double)a->add[i], a->dx_size[i] = fabs((double)a->add[i]);
    memset(a->dw_true, 0, a->ws * sizeof(double));
    memset(a->dw_size, 0, a->ws * sizeof(double));
    for (int n = 0; n < IMAGES; n++)
        for (int y = 0; y < s->out_h; y++)
            for (int x = 0; x < s->out_w; x++)
                for (int o = 0; o < s->out_c; o++) {
                    const double d = (double)a->dy[((n * s->out_h + y) * s->out_w + x) * s->out_c + o];
                    for (int kh = 0; kh < s->kernel_h; kh++)
                        for (int kw = 0; kw < s->kernel_w; kw++) {
                            const int iy = y * s->stride_h + kh - s->pad_top, ix = x * s->stride_w + kw - s->pad_left;
                            if (iy < 0 || iy >= s->in_h || ix < 0 || ix >= s->in_w)
                                continue;
                            for (int i = 0; i < ins; i++) {
                                const size_t at_x = (size_t)(((n * s->in_h + iy) * s->in_w + ix) * s->in_c + o / outs * ins + i);
                                const size_t at_w = (size_t)(((o * s->kernel_h + kh) * s->kernel_w + kw) * ins + i);
                                a->dx_true[at_x] += d * (double)a->w[at_w];
                                a->dx_size[at_x] += fabs(d * (double)a->w[at_w]);
                                a->dw_true[at_w] += d * (double)a->x[at_x];
                                a->dw_size[at_w] += fabs(d * (double)a->x[at_x]);
                            }
                        }
                }
}

static void compare(const char *kernels, const char *what, const struct conv_shape *s, const float *got, const double *want,
                    const double *size, size_t n, double error)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) <= error * (size[i] + 1e-3)))
            fail_msg("%s: %s of %dx%dx%d -> %dx%dx%d, kernel %dx%d/%d,%d pad %d,%d groups %d: [%zu] is %g, not %g", kernels, what,
                     s->in_h, s->in_w, s->in_c, s->out_h, s->out_w, s->out_c, s->kernel_h, s->kernel_w, s->stride_h, s->stride_w,
                     s->pad_top, s->pad_left, s->groups, i, (double)got[i], want[i]);
}

static void check_input(const struct kernels *k, const struct conv_shape *s, struct arrays *a)
{
    void *memory = take(conv_to_input_bytes(k, s));
    float *turned = take(conv_to_input_turned(s) * sizeof(float));
    struct conv_to_input *c = conv_to_input_init(memory, k, s, a->w, turned);
    free(turned);
    void *scratch = take(conv_to_input_scratch_bytes(c, IMAGES));
    conv_to_input_run(c, a->dy, a->add, a->dx, IMAGES, scratch);
    compare(k->name, "gradient of the input", s, a->dx, a->dx_true, a->dx_size, a->xs, 2e-5);
    memcpy(a->dx, a->add, a->xs * sizeof(float)); /* in place */
    conv_to_input_run(c, a->dy, a->dx, a->dx, IMAGES, scratch);
    compare(k->name, "gradient added to the input's", s, a->dx, a->dx_true, a->dx_size, a->xs, 2e-5);
    conv_to_input_run(c, a->dy, NULL, a->dx, IMAGES, scratch);
    for (size_t i = 0; i < a->xs; i++)
        a->dx[i] += a->add[i];
    compare(k->name, "gradient of the input without more", s, a->dx, a->dx_true, a->dx_size, a->xs, 2e-5);
    free(scratch);
    free(memory);
}

static void check_weights(const struct kernels *k, const struct conv_shape *s, struct arrays *a)
{
    struct conv_to_weights c;
    conv_to_weights_plan(&c, k, s);
    const size_t sums = conv_to_weights_sums(&c);
    assert_int_equal(sums, a->ws);
    float *parts = take(2 * sums * sizeof(float));
    void *scratch = take(conv_to_weights_scratch_bytes(&c, IMAGES));
    const size_t x = a->xs / IMAGES, y = a->ys / IMAGES;
    conv_to_weights_run(&c, a->x, a->dy, 1, 0, parts, scratch); /* images 0 and 1, then 2, as two parts */
    conv_to_weights_run(&c, a->x + x, a->dy + y, 1, 1, parts, scratch);
    conv_to_weights_run(&c, a->x + 2 * x, a->dy + 2 * y, 1, 0, parts + sums, scratch);
    conv_to_weights_finish(&c, parts, 2, sums, 0, s->out_c / 2, a->dw);
    conv_to_weights_finish(&c, parts, 2, sums, s->out_c / 2, s->out_c, a->dw);
    compare(k->name, "gradient of the weights", s, a->dw, a->dw_true, a->dw_size, a->ws, 2e-5);
    conv_to_weights_run(&c, a->x, a->dy, IMAGES, 0, parts, scratch);
    conv_to_weights_finish(&c, parts, 1, sums, 0, s->out_c, a->dw);
    compare(k->name, "gradient of the weights at once", s, a->dw, a->dw_true, a->dw_size, a->ws, 2e-5);
    free(scratch);
    free(parts);
}

static void check(const struct conv_shape *s)
{
    struct arrays a = {.xs = (size_t)(IMAGES * s->in_h * s->in_w * s->in_c),
                       .ws = (size_t)(s->out_c * s->kernel_h * s->kernel_w * (s->in_c / s->groups)),
                       .ys = (size_t)(IMAGES * s->out_h * s->out_w * s->out_c)};
    a.x = some(a.xs);
    a.w = some(a.ws);
    a.dy = some(a.ys);
    a.add = some(a.xs);
    a.dx = take(a.xs * sizeof(float));
    a.dw = take(a.ws * sizeof(float));
    a.dx_true = take(a.xs * sizeof(double));
    a.dx_size = take(a.xs * sizeof(double));
    a.dw_true = take(a.ws * sizeof(double));
    a.dw_size = take(a.ws * sizeof(double));
    direct(s, &a);
    for (const struct kernels *k = kernels_table; k->name; k++)
        if ((k->need & ~cpu_features()) == 0) {
            check_input(k, s, &a);
            check_weights(k, s, &a);
        }
    void *all[] = {a.x, a.w, a.dy, a.add, a.dx, a.dw, a.dx_true, a.dx_size, a.dw_true, a.dw_size};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

/* Inputs and outputs of every shape: side, padding before and after, kernel, stride. */
static struct conv_shape shape(int side, int in, int out, int kernel, int stride, int before, int after, int groups)
{
    struct conv_shape s = {
        .in_h = side, .in_w = side + 1, .in_c = in, .out_c = out, .kernel_h = kernel, .kernel_w = kernel, .groups = groups};
    s.stride_h = s.stride_w = stride;
    s.pad_top = s.pad_left = before;
    s.out_h = (side + before + after - kernel) / stride + 1;
    s.out_w = (side + 1 + before + after - kernel) / stride + 1;
    return s;
}

static void test_layers(void **unused)
{
    (void)unused;
    const struct conv_shape shapes[] = {
        shape(8, 16, 16, 3, 1, 1, 1, 1),  shape(9, 32, 32, 3, 1, 1, 1, 1),
        shape(8, 64, 64, 3, 1, 1, 1, 1),  shape(8, 3, 16, 3, 1, 1, 1, 1),
        shape(8, 16, 32, 3, 2, 1, 1, 1),  shape(8, 16, 32, 3, 2, 0, 1, 1), /* SAME of TensorFlow */
        shape(8, 16, 32, 1, 2, 0, 0, 1),  shape(7, 24, 40, 1, 1, 0, 0, 1),
        shape(12, 3, 20, 7, 2, 3, 3, 1),  shape(7, 16, 24, 3, 1, 1, 1, 4),
        shape(7, 12, 12, 3, 2, 1, 1, 12), shape(1, 64, 10, 1, 1, 0, 0, 1),
        shape(5, 20, 130, 3, 1, 1, 1, 1),
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        check(&shapes[i]);
}

/* Every small kernel, stride and padding, also where the stride is larger than the kernel and padding leads far outside. */
static void test_geometry(void **unused)
{
    (void)unused;
    for (int kernel = 1; kernel <= 4; kernel++)
        for (int stride = 1; stride <= 4; stride++)
            for (int before = 0; before < kernel; before++)
                for (int after = 0; after < kernel; after++)
                    for (int side = 4; side <= 6; side++) {
                        struct conv_shape s = shape(side, 4, 6, kernel, stride, before, after, 2);
                        check(&s);
                        s = shape(side, 5, 3, kernel, stride, before, after, 1); /* not square */
                        s.kernel_w = 1;
                        s.pad_left = 0;
                        s.stride_w = 1;
                        s.out_w = s.in_w;
                        check(&s);
                    }
}

/* ---- channels.h ---- */

#define PIXELS 261 /* more than two runs of sums, and one that is left over */

struct factors {
    const float *x, *dy, *add, *mult, *bias, *shift;
};

/* Everything that a row's functions give, one after the other. */
static void run_channels(const struct channel_ops *ops, int c, int relu, const struct factors *f, float *y, double *sums)
{
    const size_t all = (size_t)(PIXELS * c);
    for (int i = 0; i < 4 * c; i++)
        sums[i] = i;
    ops->moments(PIXELS, c, f->x, f->shift, sums, sums + c);
    ops->gradient_moments(PIXELS, c, f->x, f->mult, f->bias, relu, f->shift, f->dy, sums + 2 * c, sums + 3 * c);
    ops->affine(PIXELS, c, f->x, f->mult, f->bias, NULL, relu, y);
    ops->affine(PIXELS, c, f->x, f->mult, f->bias, f->add, relu, y + all);
    ops->affine_gradient(PIXELS, c, f->x, f->mult, f->bias, relu, f->dy, f->shift, f->bias, f->mult, y + 2 * all);
    ops->mask(all, f->x, f->dy, y + 3 * all);
    ops->sum_of(all, f->x, f->add, relu, y + 4 * all);
}

static void define_channels(int c, int relu, const struct factors *f, double *y, double *sums)
{
    const int all = PIXELS * c;
    for (int i = 0; i < 4 * c; i++)
        sums[i] = i;
    for (int i = 0; i < all; i++) {
        const int j = i % c;
        const double x = (double)f->x[i], dy = (double)f->dy[i], shift = (double)f->shift[j];
        const double t = x * (double)f->mult[j] + (double)f->bias[j], g = relu && t <= 0 ? 0 : dy, with = t + (double)f->add[i];
        const double sum = x + (double)f->add[i];
        sums[j] += x - shift;
        sums[c + j] += (x - shift) * (x - shift);
        sums[2 * c + j] += g;
        sums[3 * c + j] += g * (x - shift);
        y[i] = relu && t < 0 ? 0 : t;
        y[all + i] = relu && with < 0 ? 0 : with;
        y[2 * all + i] = g * shift + x * (double)f->bias[j] + (double)f->mult[j];
        y[3 * all + i] = x > 0 ? dy : 0;
        y[4 * all + i] = relu && sum < 0 ? 0 : sum;
    }
}

static void test_channels(void **unused)
{
    (void)unused;
    for (int c = 1; c <= 50; c = c < 18 ? c + 1 : c + 16)
        for (int relu = 0; relu < 2; relu++) {
            const size_t all = (size_t)(PIXELS * c);
            float *values = some(3 * all + 3 * (size_t)c), *want = take(5 * all * sizeof(float)),
                  *got = take(5 * all * sizeof(float));
            double *sums = take(12 * (size_t)c * sizeof(double)), *y = take(5 * all * sizeof(double));
            const struct factors f = {values,           values + all,         values + 2 * all,
                                      values + 3 * all, values + 3 * all + c, values + 3 * all + 2 * c};
            run_channels(kernels_find("ref")->channels, c, relu, &f, want, sums);
            define_channels(c, relu, &f, y, sums + 8 * c);
            for (size_t i = 0; i < 5 * all; i++)
                assert_true(fabs((double)want[i] - y[i]) <= 1e-6);
            for (int i = 0; i < 4 * c; i++)
                assert_true(fabs(sums[i] - sums[8 * c + i]) <= 1e-4);
            for (const struct kernels *k = kernels_table; k->name; k++) {
                if (k->need & ~cpu_features())
                    continue;
                run_channels(k->channels, c, relu, &f, got, sums + 4 * c);
                if (memcmp(want, got, 5 * all * sizeof(float)) || memcmp(sums, sums + 4 * c, 4 * (size_t)c * sizeof(double)))
                    fail_msg("%s: functions of %d channels give other bits than ref's", k->name, c);
            }
            free(values);
            free(want);
            free(got);
            free(sums);
            free(y);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_channels),
        cmocka_unit_test(test_layers),
        cmocka_unit_test(test_geometry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

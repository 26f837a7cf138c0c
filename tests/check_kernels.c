// SPDX-License-Identifier: MIT
//
// check_kernels [SEED] - every implementation of the shipped table against the reference: == in int8, a bound on rounding in float.
// Links kernels/ alone. Inputs end at an unreadable page and outputs lie between canaries, so a tile that reads or writes too far
// is caught; data mixes random values with the extremes. A failure prints the case and the seed that repeats it.
//
// Built with STAND_INS, it checks the rows that this machine lacks the instructions for, through their tiles' sources built for
// instructions it has.

#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernels/conv.h"
#include "kernels/cpu.h"
#include "kernels/half.h"
#include "kernels/kernels.h"
#include "kernels/pack.h"
#include "kernels/pool.h"
#include "kernels/tflite.h"
#include "kernels/tiles.h"
#include "kernels/winograd.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))
#define CANARY 64

static uint64_t state;
static char current[256]; /* what is being checked, for the signal handler */
static unsigned long cases, failures;

static uint32_t rnd(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}

static int between(int lo, int hi)
{
    return lo + (int)(rnd() % (uint32_t)(hi - lo + 1));
}

static float uniform(float lo, float hi)
{
    return lo + (hi - lo) * (float)rnd() / (float)0x7fffffff;
}

static void fail(const char *what)
{
    printf("FAIL %s: %s\n", current, what);
    if (++failures > 20)
        exit(1);
}

static void crashed(int signal_number)
{
    static const char text[] = "\ncrashed while checking ";
    (void)!write(1, text, sizeof text - 1);
    (void)!write(1, current, strlen(current));
    (void)!write(1, "\n", 1);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

/* What can be executed here. */
static unsigned features(void)
{
    unsigned have = cpu_features();
#ifdef STAND_INS
    if (have & CPU_AVX512_VNNI)
        have |= CPU_AVX_VNNI | CPU_AVX512_FP16;
#endif
    return have;
}

/* ---- memory whose end is an unreadable page ---- */

struct guarded {
    char *map, *data;
    size_t map_bytes, bytes;
};

static struct guarded guarded(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), body = (bytes + page - 1) / page * page;
    struct guarded g = {.map_bytes = body + page, .bytes = bytes};
    g.map = mmap(NULL, g.map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (g.map == MAP_FAILED || mprotect(g.map + body, page, PROT_NONE) != 0) {
        perror("mmap");
        exit(99);
    }
    g.data = g.map + body - bytes;
    return g;
}

static void release(struct guarded *g)
{
    munmap(g->map, g->map_bytes);
}

/* ---- convolution ---- */

static int8_t random_s8(int min)
{
    switch (rnd() % 8) {
    case 0:
        return (int8_t)min;
    case 1:
        return 127;
    default:
        return (int8_t)between(min, 127);
    }
}

static void fill_activations(enum precision p, void *x, size_t n)
{
    int extreme = rnd() % 6 == 0;
    for (size_t i = 0; i < n; i++)
        if (p == PRECISION_INT8)
            ((int8_t *)x)[i] = extreme ? -128 : random_s8(-128);
        else if (p == PRECISION_FP16)
            ((uint16_t *)x)[i] = half_from_float(uniform(-2, 2));
        else
            ((float *)x)[i] = uniform(-2, 2);
}

static void fill_weights(enum precision p, void *w, size_t n)
{
    int extreme = rnd() % 6 == 0;
    for (size_t i = 0; i < n; i++)
        if (p == PRECISION_INT8 || p == PRECISION_HYBRID)
            ((int8_t *)w)[i] = extreme ? 127 : random_s8(-127);
        else if (p == PRECISION_FP16)
            ((uint16_t *)w)[i] = half_from_float(uniform(-1, 1));
        else
            ((float *)w)[i] = uniform(-1, 1);
}

static size_t weight_size(enum precision p)
{
    return p == PRECISION_FP32 ? 4 : p == PRECISION_FP16 ? 2 : 1;
}

static double value(enum precision p, const void *y, size_t i)
{
    return p == PRECISION_INT8   ? ((const int8_t *)y)[i]
           : p == PRECISION_FP16 ? (double)half_to_float(((const uint16_t *)y)[i])
                                 : (double)((const float *)y)[i];
}

/* Where a float result may lie around the reference: both sum the same products in another order or with fused operations. In half
   arithmetic a run's sums are a random walk, and so are their roundings: for a run of n such products the error's deviation is
   0.0001 n, but its tail is exponential (a walk that strays far rounds coarsely all the way), every further 0.0001 n three times as
   rare. One value in 700000 lies beyond 0.001 n, fewer than one in 10^10 beyond 0.002 n. Winograd multiplies numbers that its
   transforms have added and scaled: the largest error seen in many runs is 1.7 times the direct way's bound; what can be proved, 256
   times, would hide mistakes. */
static double tolerance(const struct kernels *k, enum precision p, const struct conv_shape *s, int winograd, double expected)
{
    double depth = (double)s->kernel_h * s->kernel_w * (s->in_c / s->groups), largest = p == PRECISION_HYBRID ? 2 * 127 * 0.02 : 2;
    double t = (winograd ? 4 : 1) * 4e-7 * (depth + 4) * largest + 1e-6 * fabs(expected);
    if (p == PRECISION_FP16 && k->f16)
        t += 0.002 + 0.002 * sqrt(depth * (depth < HALF_RUN ? depth : HALF_RUN));
    return p == PRECISION_FP16 ? t + fabs(expected) / 1024 + 1e-7 : t;
}

struct variant {
    int residual, relu, logits, tasks;
    int winograd; /* it must be */
};

/* Half arithmetic of a CPU: it has to give the bits of ref_half, which is itself compared with the reference. */
static int is_half_tile(const struct kernels *k, enum precision p)
{
    return p == PRECISION_FP16 && k->f16 && strcmp(k->name, "ref_half") != 0;
}

/* What ref_half computes with runs of products that start where those of k's tile do. */
static void run_ref_half(const struct kernels *k, const struct conv_shape *s, const struct conv_params *params, const struct conv_io *io)
{
    struct kernels half = *kernels_find("ref_half");
    struct gemm_f32 tile = *half.f16[k->f16[0]->half_kr == 2];
    const struct gemm_f32 *const one[] = {&tile, NULL};
    void *memory, *scratch;
    tile.half_ku = k->f16[0]->half_ku;
    half.f16 = one;
    if (posix_memalign(&memory, CONV_ALIGN, conv_bytes(&half, PRECISION_FP16, s)) != 0)
        exit(99);
    struct conv *c = conv_init(memory, &half, PRECISION_FP16, s, params);
    if (posix_memalign(&scratch, CONV_ALIGN, conv_scratch_bytes(c)) != 0)
        exit(99);
    conv_run(c, io, 0, 1, scratch);
    free(memory);
    free(scratch);
}

static void compare(const struct kernels *k, enum precision p, const struct conv_shape *s, const struct variant *v, const void *y,
                    const void *expected, size_t n)
{
    const int exact = p == PRECISION_INT8 || is_half_tile(k, p);
    for (size_t i = 0; i < n; i++) {
        double a, b;
        if (v->logits) {
            a = (double)((const float *)y)[i];
            b = (double)((const float *)expected)[i];
        } else {
            a = value(p, y, i);
            b = value(p, expected, i);
        }
        if (exact ? a == b : fabs(a - b) <= tolerance(k, p, s, v->winograd, b))
            continue;
        char text[128];
        snprintf(text, sizeof text, "at %zu of %zu: %.9g, reference %.9g", i, n, a, b);
        fail(text);
        return;
    }
}

struct size {
    int mr, nr, ku;
};

static struct size tile_size(const struct kernels *k, enum precision p)
{
    if (p == PRECISION_INT8)
        return (struct size){k->s8[0]->mr, k->s8[0]->nr, k->s8[0]->ku};
    if (p == PRECISION_FP16 && k->f16)
        return (struct size){k->f16[0]->mr, k->f16[0]->nr, k->f16[0]->half_ku};
    return (struct size){k->f32[0]->mr, k->f32[0]->nr, 1};
}

static void check_conv(const struct kernels *k, enum precision p, const struct conv_shape *s, int images, struct variant v)
{
    snprintf(current, sizeof current, "%s %dx%d conv precision %d images %d in %dx%dx%d out %dx%dx%d kernel %dx%d stride %d,%d pad %d,%d "
             "groups %d residual %d relu %d logits %d tasks %d", k->name, tile_size(k, p).mr, tile_size(k, p).nr, (int)p, images, s->in_h, s->in_w, s->in_c, s->out_h,
             s->out_w, s->out_c, s->kernel_h, s->kernel_w, s->stride_h, s->stride_w, s->pad_top, s->pad_left, s->groups, v.residual,
             v.relu, v.logits, v.tasks);
    cases++;
    const size_t in = (size_t)images * (size_t)s->in_h * (size_t)s->in_w * (size_t)s->in_c, channels = (size_t)s->out_c;
    const size_t out = (size_t)images * (size_t)s->out_h * (size_t)s->out_w * channels;
    const size_t depth = (size_t)s->kernel_h * (size_t)s->kernel_w * (size_t)(s->in_c / s->groups);
    const size_t size = activation_bytes(p), out_size = v.logits ? 4 : size;
    struct guarded x = guarded(in * size), w = guarded(channels * depth * weight_size(p)), r = guarded(out * size);
    struct guarded scale = guarded(channels * 4), bias = guarded(channels * 4), y = guarded(out * out_size + CANARY);
    void *expected = malloc(out * out_size);
    fill_activations(p, x.data, in);
    fill_activations(p, r.data, out);
    fill_weights(p, w.data, channels * depth);
    if (p == PRECISION_INT8 || p == PRECISION_HYBRID) /* each channel may hold -128 once */
        for (size_t o = 0; o < channels; o += rnd() % 4 + 1)
            ((int8_t *)w.data)[o * depth + rnd() % depth] = -128;
    for (size_t o = 0; o < channels; o++) {
        ((float *)(void *)scale.data)[o] = uniform(0.001f, 0.02f);
        if (p == PRECISION_INT8)
            ((int32_t *)(void *)bias.data)[o] = between(-20000, 20000);
        else
            ((float *)(void *)bias.data)[o] = uniform(-2, 2);
    }
    struct conv_params params = {.weight = w.data, .scale = (float *)(void *)scale.data, .relu = v.relu, .float_out = v.logits};
    params.bias = p == PRECISION_INT8 ? NULL : (float *)(void *)bias.data;
    params.bias_s32 = p == PRECISION_INT8 ? (int32_t *)(void *)bias.data : NULL;
    /* -128 is the zero point after every ReLU, and tiles know that padding may be skipped there. */
    params.in = (struct quant){uniform(0.01f, 0.1f), rnd() % 3 == 0 ? -128 : between(-128, 127)};
    params.residual = (struct quant){uniform(0.01f, 0.1f), between(-128, 127)};
    /* An output scale of about the sums' spread, so that most values are neither clamped nor zero. */
    params.out = (struct quant){0.0005f * sqrtf((float)depth) * uniform(0.5f, 20), v.relu && rnd() % 2 ? -128 : between(-128, 127)};
    params.rounding = p == PRECISION_INT8 && !v.residual && !v.logits && rnd() % 4 == 0 ? ROUNDING_TFLITE : ROUNDING_NEAREST_EVEN;
    params.product_in_float = (int)(rnd() % 2);
    struct conv_io io = {x.data, v.residual ? r.data : NULL, expected, images};
    if (p == PRECISION_INT8 && conv_check_s8(s, &params) >= 0)
        fail("conv_check_s8 refuses a layer that fits");
    if (is_half_tile(k, p))
        run_ref_half(k, s, &params, &io);
    else
        conv_reference(p, s, &params, &io);

    void *memory = NULL, *scratch = NULL;
    if (posix_memalign(&memory, CONV_ALIGN, conv_bytes(k, p, s)) != 0)
        exit(99);
    struct conv *c = conv_init(memory, k, p, s, &params);
    const int winograd =
        v.winograd && params.rounding == ROUNDING_NEAREST_EVEN && (p != PRECISION_INT8 || winograd_exact(s, &params));
    /* The caller's parameters are only borrowed: spoil them. */
    memset(w.data, 0x55, w.bytes);
    memset(scale.data, 0x55, scale.bytes);
    memset(bias.data, 0x55, bias.bytes);
    if (winograd) {
        char text[64];
        conv_describe(c, text, sizeof text);
        if (!strstr(text, "winograd"))
            fail("not by Winograd");
    }
    if (posix_memalign(&scratch, CONV_ALIGN, conv_scratch_bytes(c)) != 0)
        exit(99);
    memset(scratch, 0x7f, conv_scratch_bytes(c)); /* NaN in float */
    memset(y.data, 0x5a, y.bytes);
    io.y = y.data + CANARY;
    /* In place over the residual now and then, as the plan does. */
    if (v.residual && rnd() % 2) {
        memcpy(y.data + CANARY, r.data, out * size);
        io.residual = io.y;
    }
    for (int t = 0; t < v.tasks; t++)
        conv_run(c, &io, t, v.tasks, scratch);
    compare(k, p, s, &v, io.y, expected, out);
    for (int i = 0; i < CANARY; i++)
        if (y.data[i] != 0x5a) {
            fail("wrote before its output");
            break;
        }
    free(memory);
    free(scratch);
    free(expected);
    release(&x);
    release(&w);
    release(&r);
    release(&scale);
    release(&bias);
    release(&y);
}

static struct conv_shape shape(int h, int w, int in_c, int out_c, int kernel, int stride, int pad, int groups)
{
    struct conv_shape s = {h, w, in_c, 0, 0, out_c, kernel, kernel, stride, stride, pad, pad, groups};
    s.out_h = (h + 2 * pad - kernel) / stride + 1;
    s.out_w = (w + 2 * pad - kernel) / stride + 1;
    return s;
}

static void check_shapes(const struct kernels *row, enum precision p)
{
    const struct winograd_ops never = {.least_tiles = INT_MAX, .least_tiles_on_the_way = INT_MAX, .least_tiles_on_the_way_s8 = INT_MAX};
    struct kernels direct = *row, *k = &direct;
    direct.winograd = &never;
    const int mr = tile_size(k, p).mr, nr = tile_size(k, p).nr, kr = tile_size(k, p).ku;
    const int depths[] = {1, kr - 1, kr, kr + 1, 2 * kr + 1, 63, 64, 65, 576};
    /* Dense: every edge of the tile in rows, columns and depth. */
    for (int m = 1; m <= 2 * mr + 1; m++)
        for (int n = 1; n <= 2 * nr + 1; n += n < nr - 1 || (n > nr + 1 && n < 2 * nr - 1) ? 3 : 1)
            for (size_t d = rnd() % 3; d < COUNT(depths); d += 3)
                if (depths[d] > 0) {
                    struct conv_shape s = shape(1, m, depths[d], n, 1, 1, 0, 1);
                    check_conv(k, p, &s, 1, (struct variant){(int)(rnd() % 2), (int)(rnd() % 2), 0, 1, 0});
                }
    /* Convolutions as ResNets have them, small. */
    static const int convs[][8] = {
        /* h, w, in_c, out_c, kernel, stride, pad, groups */
        {14, 13, 3, 16, 7, 2, 3, 1}, {9, 9, 3, 16, 3, 1, 1, 1},  {7, 7, 16, 33, 3, 1, 1, 1}, {8, 7, 9, 22, 3, 2, 1, 1},
        {8, 8, 11, 8, 1, 2, 0, 1},   {7, 7, 64, 40, 1, 1, 0, 1}, {6, 5, 16, 16, 3, 1, 1, 4}, {6, 6, 32, 64, 3, 2, 1, 32},
        {5, 5, 12, 12, 5, 1, 4, 3},  {1, 1, 70, 10, 1, 1, 0, 1}, {3, 3, 4, 5, 3, 1, 2, 1},   {1, 9, 5, 7, 3, 1, 1, 1},
        {12, 12, 8, 8, 3, 3, 0, 2},  {2, 2, 300, 20, 2, 1, 0, 1}, {6, 7, 48, 20, 3, 1, 1, 1}, {5, 6, 24, 12, 3, 2, 1, 1}};
    for (size_t i = 0; i < COUNT(convs); i++)
        for (int round = 0; round < 4; round++) {
            const int *v = convs[i];
            struct conv_shape s = shape(v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]);
            if (round == 3 && v[4] == 3 && v[5] == 2) { /* TensorFlow's SAME: nothing above and left, one row below */
                s.pad_top = s.pad_left = 0;
                s.out_h = (s.in_h + 1) / 2;
                s.out_w = (s.in_w + 1) / 2;
            }
            check_conv(k, p, &s, 1 + round % 2, (struct variant){round & 1, round >> 1, 0, 1 + (int)(rnd() % 4), 0});
            if (p == PRECISION_INT8)
                check_conv(k, p, &s, 1, (struct variant){0, 0, 1, 2, 0});
        }
    /* One strip is not enough: more rows than fit into it. */
    struct conv_shape s = shape(20, 21, 200, 24, 3, 1, 1, 1);
    check_conv(k, p, &s, 1, (struct variant){1, 1, 0, 3, 0});
}

/* Winograd, for however few tiles: all edges of its 4x4 pixels, panels and blocks. */
static void check_winograd(const struct kernels *k, enum precision p)
{
    struct winograd_ops always = *k->winograd;
    struct kernels forced = *k;
    always.least_tiles = always.least_tiles_on_the_way = always.least_tiles_on_the_way_s8 = 1;
    forced.winograd = &always;
    const int step = p == PRECISION_INT8 && k->s16[0]->ku > 16 ? k->s16[0]->ku : 16;
    for (int h = 1; h <= 9; h++)
        for (int w = 1; w <= 9; w++) {
            struct conv_shape s = shape(h, w, step * between(1, 80 / step), between(16, 70), 3, 1, 1, 1);
            check_conv(&forced, p, &s, 1, (struct variant){(int)(rnd() % 2), (int)(rnd() % 2), 0, 1, 1});
        }
    static const int convs[][5] = {/* h, w, in_c, out_c, pad */
                                   {3, 5, 32, 32, 0}, {9, 6, 96, 24, 2}, {26, 22, 32, 33, 1}, {13, 14, 64, 128, 1}, {8, 8, 512, 16, 1}};
    for (size_t i = 0; i < COUNT(convs); i++)
        for (int round = 0; round < 4; round++) {
            const int *v = convs[i];
            struct conv_shape s = shape(v[0], v[1], v[2], v[3], 3, 1, v[4], 1);
            check_conv(&forced, p, &s, 1 + round % 3, (struct variant){round & 1, round >> 1, 0, 1 + (int)(rnd() % 5), p != PRECISION_INT8});
        }
}

/* More weights than are transformed while packing: by tiles and by panels, more tiles than a block has. */
static void check_winograd_on_the_way(const struct kernels *k, enum precision p)
{
    struct winograd_ops always = *k->winograd;
    struct kernels forced = *k;
    always.least_tiles_on_the_way = always.least_tiles_on_the_way_s8 = 1;
    forced.winograd = &always;
    static const int convs[][4] = {{13, 14, 160, 112}, {7, 7, 192, 90}, {5, 3, 192, 130}, {25, 20, 128, 144}};
    for (size_t i = 0; i < COUNT(convs); i++)
        for (int tasks = 1; tasks <= 3; tasks += 2) {
            struct conv_shape s = shape(convs[i][0], convs[i][1], convs[i][2], convs[i][3], 3, 1, 1, 1);
            check_conv(&forced, p, &s, tasks, (struct variant){tasks == 1, tasks == 3, 0, tasks, 1});
        }
}

/* int8: the largest sums that Winograd takes, whose products wrap around many times, and weights whose sums it must leave to the
   direct way. */
static void check_winograd_extremes(const struct kernels *k)
{
    struct winograd_ops always = *k->winograd;
    struct kernels forced = *k;
    always.least_tiles = always.least_tiles_on_the_way = always.least_tiles_on_the_way_s8 = 1;
    forced.winograd = &always;
    enum { SIDE = 7, OUT = 16, MAX_IN = 128 };
    static int8_t x[SIDE * SIDE * MAX_IN], w[OUT * 9 * MAX_IN], y[SIDE * SIDE * OUT], expected[SIDE * SIDE * OUT];
    float scale[OUT];
    for (int fits = 0; fits <= 1; fits++)
        for (int round = 0; round < 36; round++) {
            const int in_c = fits ? MAX_IN - (k->s16[0]->ku > 16 ? k->s16[0]->ku : 16) : MAX_IN;
            const int zero = round % 3 == 0 ? -128 : round % 3 == 1 ? 127 : 0, signs = round / 3 % 4, inputs = round / 12;
            struct conv_shape s = shape(SIDE, SIDE, in_c, OUT, 3, 1, 1, 1);
            /* one sign; one per channel, tap or output: one of them meets the signs of the largest transformed inputs */
            for (int o = 0; o < OUT; o++) {
                scale[o] = 1;
                for (int i = 0; i < 9 * in_c; i++) {
                    const int sign = signs == 0 ? 0 : signs == 1 ? i % 2 : signs == 2 ? i / in_c % 2 : o % 2;
                    w[o * 9 * in_c + i] = sign ? -127 : 127;
                }
            }
            for (int i = 0; i < SIDE * SIDE * in_c; i++)
                x[i] = inputs == 0 ? (zero < 0 ? 127 : -128) : inputs == 1 ? (i % 2 ? 127 : -128) : (i / in_c % 2 ? 127 : -128);
            struct conv_params params = {.weight = w, .scale = scale, .in = {1, zero}, .out = {0x1p19f, 3}};
            struct conv_io io = {x, NULL, expected, 1};
            snprintf(current, sizeof current, "%s winograd extremes channels %d round %d", k->name, in_c, round);
            cases++;
            conv_reference(PRECISION_INT8, &s, &params, &io);
            void *memory, *scratch;
            char text[64];
            if (posix_memalign(&memory, CONV_ALIGN, conv_bytes(&forced, PRECISION_INT8, &s)) != 0)
                exit(99);
            struct conv *c = conv_init(memory, &forced, PRECISION_INT8, &s, &params);
            if (posix_memalign(&scratch, CONV_ALIGN, conv_scratch_bytes(c)) != 0)
                exit(99);
            conv_describe(c, text, sizeof text);
            /* 9 * 112 * 127 * 255 < 2^25, 9 * 128 * 127 * 255 is not; with a zero point of 0 it is 128 instead of 255, with mixed
               signs about half of the weights pull the same way */
            if (!strstr(text, "winograd") != (!fits && zero != 0 && (signs == 0 || signs == 3)))
                fail("Winograd where sums do not fit, or not where they do");
            io.y = y;
            conv_run(c, &io, 0, 1, scratch);
            if (memcmp(y, expected, sizeof y) != 0)
                fail("bytes differ from the reference");
            free(memory);
            free(scratch);
        }
}

/* Half arithmetic: neither the largest activations beside large weights of one sign nor tiny ones may leave the range of halves
   inside a run of products. */
static void check_half_range(const struct kernels *k)
{
    static const float activations[] = {65504, -65504, 1, 0x1p-10f}, weights[] = {0x1p-16f, 0.01f, 1, 60000};
    enum { PIXELS = 3, CHANNELS = 5, DEPTHS = 3 * 2 * HALF_RUN };
    const int run = HALF_RUN * k->f16[0]->half_kr, depth = 3 * run;
    struct conv_shape s = shape(1, PIXELS, depth, CHANNELS, 1, 1, 0, 1);
    for (size_t i = 0; i < COUNT(activations); i++)
        for (size_t j = 0; j < COUNT(weights); j++) {
            uint16_t x[PIXELS * DEPTHS], w[CHANNELS * DEPTHS], y[PIXELS * CHANNELS];
            double expected[CHANNELS] = {0};
            for (int p = 0; p < PIXELS * depth; p++)
                x[p] = half_from_float(activations[i]);
            /* Runs that cancel: the result fits, the sums on the way would not. */
            for (int o = 0; o < CHANNELS; o++)
                for (int p = 0; p < depth; p++) {
                    float f = p / run == 1 ? -weights[j] * (float)(o + 1) / 8 : weights[j] * (float)(o + 1) / 16;
                    w[o * depth + p] = half_from_float(p == 0 ? 2 * f : f);
                    expected[o] += (double)activations[i] * (double)half_to_float(w[o * depth + p]);
                }
            struct conv_params params = {.weight = w};
            struct conv_io io = {x, NULL, y, 1};
            void *memory, *scratch;
            snprintf(current, sizeof current, "%s half range, activations %g weights %g", k->name, (double)activations[i], (double)weights[j]);
            cases++;
            if (posix_memalign(&memory, CONV_ALIGN, conv_bytes(k, PRECISION_FP16, &s)) != 0)
                exit(99);
            struct conv *c = conv_init(memory, k, PRECISION_FP16, &s, &params);
            if (posix_memalign(&scratch, CONV_ALIGN, conv_scratch_bytes(c)) != 0)
                exit(99);
            conv_run(c, &io, 0, 1, scratch);
            for (int p = 0; p < PIXELS * CHANNELS; p++) {
                const double sum = run * (double)activations[i] * (double)weights[j], got = (double)half_to_float(y[p]);
                const double want = expected[p % CHANNELS];
                if (fabs(want) > 65000 ? fabs(got) < 64000 : !(fabs(got - want) <= fabs(sum) / 64 + fabs(want) / 500 + 1e-7))
                    fail("half sums leave their range");
            }
            free(memory);
            free(scratch);
        }
}

/* int8: requantisation at ties and limits, where a wrong rounding or sign would hide elsewhere. */
static void check_ties(const struct kernels *k)
{
    const int channels = 2 * k->s8[0]->nr + 3;
    struct conv_shape s = shape(1, 7, 1, channels, 1, 1, 0, 1);
    int8_t x[7] = {-128, -127, -1, 0, 1, 126, 127}, *w = malloc((size_t)channels), *y = malloc(7 * (size_t)channels);
    int8_t *expected = malloc(7 * (size_t)channels);
    float *scale = malloc((size_t)channels * 4);
    int32_t *bias = malloc((size_t)channels * 4);
    for (int zero = -128; zero <= 127; zero += 51)
        for (int i = 0; i < 20; i++) {
            const int round = i / 2;
            for (int o = 0; o < channels; o++) {
                w[o] = (int8_t)(o % 2 ? 127 - o : o - 127);
                scale[o] = 0.5f; /* multiplier 1/2, 1/4 ...: every odd sum is a tie */
                bias[o] = round == 7 ? (o % 2 ? INT32_MAX - 65536 : 65536 - INT32_MAX) : o - channels / 2;
            }
            struct conv_params params = {.weight = w,
                                         .scale = scale,
                                         .bias_s32 = bias,
                                         .relu = round & 1,
                                         .rounding = i % 2 ? ROUNDING_TFLITE : ROUNDING_NEAREST_EVEN,
                                         .in = {1, zero},
                                         .out = {round < 8 ? (float)(1 << round) : 1e-9f, zero / 2}}; /* the last: beyond int32 */
            struct conv_io io = {x, NULL, expected, 1};
            snprintf(current, sizeof current, "%s ties zero %d round %d%s", k->name, zero, round, i % 2 ? " tflite" : "");
            cases++;
            conv_reference(PRECISION_INT8, &s, &params, &io);
            void *memory, *scratch;
            if (posix_memalign(&memory, CONV_ALIGN, conv_bytes(k, PRECISION_INT8, &s)) != 0)
                exit(99);
            struct conv *c = conv_init(memory, k, PRECISION_INT8, &s, &params);
            if (posix_memalign(&scratch, CONV_ALIGN, conv_scratch_bytes(c)) != 0)
                exit(99);
            io.y = y;
            conv_run(c, &io, 0, 1, scratch);
            if (memcmp(y, expected, 7 * (size_t)channels) != 0)
                fail("bytes differ from the reference");
            free(memory);
            free(scratch);
        }
    free(w);
    free(y);
    free(expected);
    free(scale);
    free(bias);
}

/* ---- the specification itself, against numbers worked out by hand ---- */

static void check_specification(void)
{
    snprintf(current, sizeof current, "formulas");
    /* acc = (5 - 3) * 4 + (-7 - 3) * -6 + 10 = 78; M = 0.5 * 0.25 / 0.125 = 1; t = 78 + (9 - -2) * (0.25 / 0.125) = 100; y = 100 - 8 */
    struct conv_shape s = shape(1, 1, 2, 1, 1, 1, 0, 1);
    int8_t x[2] = {5, -7}, w[2] = {4, -6}, residual[1] = {9}, y[1];
    float scale[1] = {0.25f};
    int32_t bias[1] = {10};
    struct conv_params p = {.weight = w, .scale = scale, .bias_s32 = bias, .in = {0.5f, 3}, .out = {0.125f, -8}, .residual = {0.25f, -2}};
    struct conv_io io = {x, residual, y, 1};
    conv_reference(PRECISION_INT8, &s, &p, &io);
    if (y[0] != 92)
        fail("int8 convolution with residual");
    p.out.scale = 0.25f; /* M = 0.5, t = 39 + 11 = 50: ReLU does nothing; with weights turned around t = -29 + 11 -> 0 */
    conv_reference(PRECISION_INT8, &s, &p, &io);
    if (y[0] != 42)
        fail("int8 output scale");
    w[0] = -4;
    w[1] = 6; /* acc = -8 - 60 + 10 = -58, t = -29 + 11 = -18 */
    conv_reference(PRECISION_INT8, &s, &p, &io);
    if (y[0] != -26)
        fail("int8 negative sum");
    p.relu = 1;
    conv_reference(PRECISION_INT8, &s, &p, &io);
    if (y[0] != -8)
        fail("int8 ReLU is the zero point");
    float logits[1];
    io = (struct conv_io){x, NULL, logits, 1};
    p.float_out = 1;
    p.relu = 0;
    conv_reference(PRECISION_INT8, &s, &p, &io);
    if (logits[0] != -58 * 0.125f)
        fail("int8 logits");
    /* Ties go to even: acc * M = 0.5, 1.5, 2.5, -0.5, -1.5 -> 0, 2, 2, 0, -2 */
    static const int8_t sums[5] = {1, 3, 5, -1, -3}, rounded[5] = {0, 2, 2, 0, -2};
    for (int i = 0; i < 5; i++) {
        struct conv_shape one = shape(1, 1, 1, 1, 1, 1, 0, 1);
        int8_t unit = 1, out;
        float half_scale = 1;
        struct conv_params tie = {.weight = &unit, .scale = &half_scale, .in = {1, 0}, .out = {2, 0}};
        struct conv_io tie_io = {&sums[i], NULL, &out, 1};
        conv_reference(PRECISION_INT8, &one, &tie, &tie_io);
        if (out != rounded[i])
            fail("ties must go to even");
    }
    cases += 10;
}

/* The rule of TensorFlow Lite: ties up, then away from zero, which is not once to nearest. */
static void check_tflite(const struct kernels *k)
{
    static const struct {
        double factor;
        int32_t m, shift;
    } factors[] = {{0, 0, 0},
                   {0.5, 1 << 30, 0},
                   {1, 1 << 30, 1},
                   {0.75, 1610612736, 0},
                   {0.375, 1610612736, -1},
                   {1 - 1e-12, 1 << 30, 1},
                   {0x1p-32, 1 << 30, -31},
                   {0x1p-33, 0, 0},
                   {0x1p30, 1 << 30, 31}};
    static const struct {
        int32_t x, shift, want; /* m is 2^30: x * 2^(shift - 1) */
    } products[] = {{1, 0, 1},
                    {3, 0, 2},
                    {-1, 0, 0},
                    {-3, 0, -1}, /* halves go up */
                    {2, -1, 1},
                    {-2, -1, -1},
                    {6, -1, 2},
                    {-6, -1, -2}, /* then away from zero */
                    {1, -1, 1},
                    {5, -1, 2},
                    {-5, -1, -1}, /* 0.25 is 0.5, and that is 1 */
                    {7, 3, 28},
                    {1 << 30, 3, 1 << 30},
                    {-(1 << 30), 3, -(1 << 30)},
                    {INT32_MAX, -31, 1},
                    {INT32_MIN, 0, -(1 << 30)}};
    snprintf(current, sizeof current, "%s tflite", k->name);
    for (size_t i = 0; i < COUNT(factors); i++, cases++) {
        int32_t m = -1, shift = -1;
        tflite_multiplier(factors[i].factor, &m, &shift);
        if (m != factors[i].m || shift != factors[i].shift)
            fail("multiplier");
    }
    for (size_t i = 0; i < COUNT(products); i++, cases++)
        if (tflite_multiply(products[i].x, 1 << 30, products[i].shift) != products[i].want)
            fail("product");

    /* 2^-12 + 2^-24 by 2^-12 + 2^-24 is not a float: 2^-48 is lost, or not. */
    const float scale = 0x1.001p-12f;
    struct conv_params p = {.scale = &scale, .in = {scale, 0}, .out = {1, 0}};
    if (tflite_factor(&p, 0) != 0x1.002001p-24)
        fail("factor");
    p.product_in_float = 1;
    if (tflite_factor(&p, 0) != 0x1.002p-24)
        fail("factor with the product in float");

    /* Every sum is a tie: halves of 1, 3, 5, -1, -3. The clamp is at the zero point, with ReLU, and at the ends. */
    static const int32_t sums[6] = {1, 3, 5, -1, -3, 1000}, half[6] = {1 << 30, 1 << 30, 1 << 30, 1 << 30, 1 << 30, 1 << 30},
                         none[6];
    int8_t y[6];
    tflite_store(sums, 6, 1, 6, half, none, -7, -128, y, 6);
    if (memcmp(y, (int8_t[]){-6, -5, -4, -7, -8, 127}, 6) != 0)
        fail("store");
    tflite_store(sums, 6, 1, 6, half, none, -7, -7, y, 6);
    if (memcmp(y, (int8_t[]){-6, -5, -4, -7, -7, 127}, 6) != 0)
        fail("store with ReLU");

    /* 0.5 (7 - -4) + 0.25 (5 - 10) = 4.25, in y 8.5 -> 9; the negative of it; ReLU; and 0.5 * 131 + 0.25 * 117 beyond the end */
    const struct quant in = {0.5f, -4}, to = {0.25f, 10}, qy = {0.5f, 1};
    const int8_t a[4] = {7, -15, -15, 127}, b[4] = {5, 15, 15, 127};
    tflite_add_run(4, 0, &in, &to, &qy, a, b, y, 0, 2);
    tflite_add_run(4, 0, &in, &to, &qy, a, b, y, 1, 2);
    if (memcmp(y, (int8_t[]){10, -8, -8, 127}, 4) != 0)
        fail("add");
    tflite_add_run(4, 1, &in, &to, &qy, a, b, y, 0, 1);
    if (memcmp(y, (int8_t[]){10, 1, 1, 127}, 4) != 0)
        fail("add with ReLU");

    /* AVERAGE_POOL_2D: 2 / 4 and -2 / 4 leave zero. MEAN: (-108 + 16) * 2 / 4 = -46, (103 + 16) * 2 / 4 = 59.5; of 3 pixels 2 * 2
     * / 3 */
    const int8_t small[8] = {1, -1, 1, -1, 0, 0, 0, 0}, q[8] = {-128, 127, 3, -4, 10, -20, 7, 0}, three[3] = {-3, -3, -4};
    tflite_avgpool_run(k, 4, 2, &in, &in, small, y, 1, 0, 1);
    tflite_avgpool_run(k, 4, 2, &in, &to, q, y + 2, 1, 0, 1);
    tflite_avgpool_run(k, 3, 1, &in, &to, three, y + 4, 1, 0, 1);
    if (memcmp(y, (int8_t[]){1, -1, -36, 70, 11}, 5) != 0)
        fail("mean");
    cases += 7;
}

static void check_pools(const struct kernels *k)
{
    snprintf(current, sizeof current, "%s pooling, add, shortcut", k->name);
    cases += 12;
    int8_t q[8] = {-128, 127, 3, -4, 10, -20, 7, 0}, out[16];
    struct quant in = {0.5f, -4}, to = {0.25f, 10};
    /* Channel 0: (-128 + 3 + 10 + 7) + 16 = -92, M = 0.5 / (4 * 0.25) = 0.5 -> -46 + 10. Channel 1: 103 + 16 = 119 -> 59.5 -> 60 + 10 */
    avgpool_run(k, PRECISION_INT8, 4, 2, &in, &to, q, out, 1, 0, 1);
    if (out[0] != -36 || out[1] != 70)
        fail("int8 average");
    struct pool_shape s = {2, 2, 2, 1, 1, 3, 3, 2, 2, 1, 1};
    maxpool_run(k, PRECISION_INT8, &s, q, out, 1, 0, 1);
    if (out[0] != 10 || out[1] != 127)
        fail("int8 maximum");
    float f[8], fy[8];
    uint16_t h[8], hy[8];
    for (int i = 0; i < 8; i++) {
        f[i] = (float)q[i] / 4 - 40;
        h[i] = half_from_float(f[i]);
    }
    maxpool_run(k, PRECISION_FP32, &s, f, fy, 1, 0, 1);
    maxpool_run(k, PRECISION_FP16, &s, h, hy, 1, 0, 1);
    if (fy[0] != 2.5f - 40 || fy[1] != 31.75f - 40 || half_to_float(hy[0]) != fy[0] || half_to_float(hy[1]) != fy[1])
        fail("float maximum of negative values");
    avgpool_run(k, PRECISION_FP32, 4, 2, NULL, NULL, f, fy, 1, 0, 1);
    avgpool_run(k, PRECISION_FP16, 4, 2, NULL, NULL, h, hy, 1, 0, 1);
    if (fy[0] != -46.75f || fabsf(half_to_float(hy[0]) - fy[0]) > 0.05f)
        fail("float average");
    /* 0.5 (7 - -4) = 5.5, 0.25 (2 - 10) = -2 -> 3.5 / 0.5 = 7 -> 7 + 1; and the negative of it with ReLU */
    struct quant qy = {0.5f, 1};
    int8_t a[2] = {7, -15}, b[2] = {2, 18};
    add_run(PRECISION_INT8, 2, 0, &in, &to, &qy, a, b, out, 0, 1);
    if (out[0] != 8 || out[1] != -6)
        fail("int8 add");
    add_run(PRECISION_INT8, 2, 1, &in, &to, &qy, a, b, out, 0, 1);
    if (out[0] != 8 || out[1] != 1)
        fail("int8 add with ReLU");
    float fa[2] = {1, -3}, fb[2] = {2, 1};
    add_run(PRECISION_FP32, 2, 1, NULL, NULL, NULL, fa, fb, fy, 0, 1);
    if (fy[0] != 3 || fy[1] != 0)
        fail("float add with ReLU");
    /* 3x3 pixels of 1 channel, stride 2, 1 channel before and 2 after. */
    int8_t pixels[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    struct shortcut_shape sc = {3, 3, 1, 2, 2, 2, 2, 1, 2};
    static const int8_t want[16] = {-9, 1, -9, -9, -9, 3, -9, -9, -9, 7, -9, -9, -9, 9, -9, -9};
    for (int t = 0; t < 3; t++)
        shortcut_run(PRECISION_INT8, &sc, -9, pixels, out, 1, t, 3);
    if (memcmp(out, want, sizeof want) != 0)
        fail("shortcut");
}

/* Casts between int8 and half, against other ways to compute them: every half, and every int8, in shares of uneven sizes. */
static void check_casts(const struct kernels *k)
{
    static const struct quant quants[] = {{0.03125f, -128}, {0.0371f, 5}, {1e-4f, 127}, {300, -7}, {1e-30f, 0}};
    uint16_t *x = malloc(65536 * sizeof *x), h[256];
    int8_t *y = malloc(65536), q[256];
    for (int i = 0; i < 65536; i++)
        x[i] = (uint16_t)i;
    for (int i = 0; i < 256; i++)
        q[i] = (int8_t)(i - 128);
    for (size_t c = 0; c < sizeof quants / sizeof *quants; c++) {
        snprintf(current, sizeof current, "%s casts of scale %g, zero point %d", k->name, (double)quants[c].scale, quants[c].zero);
        cases += 2;
        memset(y, 99, 65536);
        for (int t = 0; t < 3; t++)
            quantize_run(k, &quants[c], 65536, x, y, t, 3);
        for (int i = 0; i < 65536; i++) {
            const float v = half_to_float(x[i]) * (1 / quants[c].scale);
            const double r = v != v ? -1000 : rint((double)v) + quants[c].zero;
            if (y[i] != (r < -128 ? -128 : r > 127 ? 127 : (int)r))
                fail("half to int8");
        }
        for (int t = 0; t < 3; t++)
            dequantize_run(&quants[c], 256, q, h, t, 3);
        for (int i = 0; i < 256; i++)
            if (h[i] != half_from_float(quants[c].scale * (float)(q[i] - quants[c].zero)))
                fail("int8 to half");
    }
    free(x);
    free(y);
}

/* The vector operations against ref's, at every length around a vector and with the output's neighbours watched. */
static void check_vectors(const struct kernels *k)
{
    const struct vector_ops *v = k->ops, *ref = kernels_find("ref")->ops;
    for (size_t n = 0; n <= 70; n++) {
        struct guarded x = guarded(n * 4), m = guarded(n * 4), b = guarded(n * 4), a = guarded(n * 4);
        float *fx = (void *)x.data, *fm = (void *)m.data, *fb = (void *)b.data, *fa = (void *)a.data, y[2][80], z[2][80];
        int8_t *q = malloc(n + 1), s[2][80];
        int16_t w[2][80];
        uint8_t u[2][80];
        int32_t sums[2][80];
        snprintf(current, sizeof current, "%s vectors of %zu", k->name, n);
        cases++;
        for (size_t i = 0; i < n; i++) {
            fx[i] = uniform(-3, 3);
            fm[i] = uniform(-3, 3);
            fb[i] = uniform(-3, 3);
            fa[i] = uniform(-3, 3);
            q[i] = random_s8(-128);
        }
        for (int which = 0; which < 2; which++) {
            const struct vector_ops *o = which ? v : ref;
            for (int i = 0; i < 80; i++) {
                y[which][i] = z[which][i] = 0.25f;
                s[which][i] = (int8_t)(7 * i);
                w[which][i] = (int16_t)i;
                u[which][i] = (uint8_t)i;
                sums[which][i] = i;
            }
            o->finish(n, fx, fm, fb, n % 2 ? fa : NULL, n % 3 == 0, y[which]);
            o->max_f32(n, fx, z[which]);
            o->max_s8(n, q, s[which]);
            o->s8_to_s16(n, q, w[which]);
            o->s8_to_u8(n, q, u[which]);
            o->sum_s8(n, q, sums[which]);
        }
        if (memcmp(y[0], y[1], sizeof y[0]) != 0 || memcmp(z[0], z[1], sizeof z[0]) != 0)
            fail("finish or max_f32 differs from ref");
        if (memcmp(s[0], s[1], sizeof s[0]) != 0 || memcmp(w[0], w[1], sizeof w[0]) != 0 ||
            memcmp(u[0], u[1], sizeof u[0]) != 0 || memcmp(sums[0], sums[1], sizeof sums[0]) != 0)
            fail("max_s8, s8_to_s16, s8_to_u8 or sum_s8 differs from ref");
        free(q);
        release(&x);
        release(&m);
        release(&b);
        release(&a);
    }
}

static void check_halves(void)
{
    snprintf(current, sizeof current, "halves");
    for (uint32_t i = 0; i < 65536; i++) { /* exact there and back, NaN stays NaN */
        float f = half_to_float((uint16_t)i);
        cases++;
        if (isnan(f) ? (half_from_float(f) & 0x7fff) <= 0x7c00 : half_from_float(f) != i)
            fail("half -> float -> half");
    }
    static const struct {
        float f;
        uint16_t h;
    } known[] = {{1, 0x3c00}, {-2, 0xc000}, {65504, 0x7bff}, {65519.996f, 0x7bff}, {65520, 0x7c00}, {0x1p-24f, 1}, {0x1p-25f, 0},
                 {0x1.8p-24f, 2}, {0x1.002p0f, 0x3c00}, {0x1.006p0f, 0x3c02}, {0x1.ffep-15f, 0x0400}};
    for (size_t i = 0; i < COUNT(known); i++)
        if (half_from_float(known[i].f) != known[i].h)
            fail("rounding to half");
    for (const struct kernels *k = kernels_table; k->name; k++) {
        if (k->need & ~cpu_features())
            continue;
        snprintf(current, sizeof current, "%s halves", k->name);
        for (size_t n = 0; n <= 19; n++) {
            float f[19], back[19];
            uint16_t h[19];
            for (size_t i = 0; i < n; i++)
                f[i] = uniform(-70000, 70000) * (rnd() % 4 ? 1e-6f : 1);
            k->ops->narrow(n, f, h);
            k->ops->widen(n, h, back);
            for (size_t i = 0; i < n; i++)
                if (h[i] != half_from_float(f[i]) || back[i] != half_to_float(h[i]))
                    fail("narrow or widen");
            cases++;
        }
    }
}

static void check_limits(void)
{
    snprintf(current, sizeof current, "conv_check_s8");
    cases += 5;
    int32_t bias = INT32_MAX - 512 * 127;
    int8_t w = -127;
    struct conv_shape s = shape(1, 1, 1, 1, 1, 1, 0, 1);
    struct conv_params p = {.weight = &w, .bias_s32 = &bias};
    if (conv_check_s8(&s, &p) != -1)
        fail("refuses the largest bias that fits");
    bias++;
    if (conv_check_s8(&s, &p) != 0)
        fail("accepts a bias that may leave 32 bits");
    bias = -bias;
    if (conv_check_s8(&s, &p) != 0)
        fail("accepts a negative bias that may leave 32 bits");
    enum { DEEP = 40000 }; /* where the magnitudes themselves must be summed */
    static int8_t deep[DEEP];
    s = shape(1, 1, DEEP, 1, 1, 1, 0, 1);
    p = (struct conv_params){.weight = deep};
    memset(deep, -104, sizeof deep);
    if (conv_check_s8(&s, &p) != -1)
        fail("refuses many weights whose sums fit");
    memset(deep, -105, sizeof deep);
    if (conv_check_s8(&s, &p) != 0)
        fail("accepts weights whose sums may leave 32 bits");
}

/* The place of every element by pack.h's formula, and zeros elsewhere. */
static void check_packing(void)
{
    static const int sizes[] = {1, 2, 4}, depths[] = {1, 2, 3, 4, 5, 8, 16, 24, 32, 33, 64, 65, 80, 130};
    enum { WEIGHTS = 64 * 2 * 130 * 4, PANEL = 64 * 2 * 160 * 4 + 1 };
    unsigned char *w = malloc(WEIGHTS), *panel = malloc(PANEL);
    if (!w || !panel)
        exit(99);
    for (size_t i = 0; i < WEIGHTS; i++)
        w[i] = (unsigned char)rnd();
    for (int kr = 1; kr <= 16; kr *= 2)
        for (size_t si = 0; si < COUNT(sizes); si++)
            for (size_t di = 0; di < COUNT(depths); di++)
                for (int nr = 8; nr <= 64; nr *= 2) {
                    const int size = sizes[si], depth = depths[di], taps = 2, cols = rnd() % 2 ? nr : between(1, nr);
                    const int padded = (depth + kr - 1) / kr * kr + (rnd() % 4 ? 0 : kr);
                    snprintf(current, sizeof current, "pack_b size %d kr %d nr %d cols %d depth %d padded %d", size, kr, nr, cols,
                             depth, padded);
                    cases++;
                    memset(panel, 0xee, PANEL);
                    pack_b(w, (size_t)size, cols, taps, depth, padded, nr, kr, panel);
                    int bad = panel[taps * padded * nr * size] != 0xee;
                    for (int t = 0; t < taps; t++)
                        for (int d = 0; d < padded; d++)
                            for (int j = 0; j < nr; j++)
                                for (int b = 0; b < size; b++) {
                                    const int exists = j < cols && d < depth;
                                    const int want = exists ? w[((j * taps + t) * depth + d) * size + b] : 0;
                                    bad |= panel[((((t * padded + d) / kr * nr + j) * kr) + d % kr) * size + b] != want;
                                }
                    if (bad)
                        fail("an element is not in its place");
                }
    free(w);
    free(panel);
}

static void check_table(void)
{
    snprintf(current, sizeof current, "table");
    cases += 5;
    if (!kernels_pick(0, NULL) || strcmp(kernels_pick(0, "auto")->name, "ref") != 0)
        fail("a machine without features gets ref");
    if (kernels_pick(~0u, NULL) != kernels_table)
        fail("a machine with everything gets the first row");
    if (kernels_pick(~0u, "nonsense") || kernels_find("nonsense"))
        fail("an unknown name is refused");
    for (const struct kernels *k = kernels_table; k->name; k++)
        if (kernels_find(k->name) != k || (k->need && kernels_pick(0, k->name)))
            fail("a row is found by name, and refused where the machine cannot run it");
}

/* Whether a row that is checked before k, or natively, holds the same list of tiles. Those of f32 compute fp16 too unless the row
   has others for that. */
static int checked(const struct kernels *k, const void *tiles)
{
    for (const struct kernels *o = kernels_table; o->name; o++) {
        if (o->need & ~cpu_features())
            continue;
        if (o == k)
            break;
        const int f32 = o->f32 == tiles && o->winograd == k->winograd && (!o->f16 || k->f16);
        if (o->ops == k->ops && (f32 || o->s8 == tiles || o->s16 == tiles || o->f16 == tiles))
            return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 20251;
    signal(SIGSEGV, crashed);
    signal(SIGBUS, crashed);
    signal(SIGILL, crashed);
    setvbuf(stdout, NULL, _IOLBF, 0);
    state = seed;
    check_table();
    check_halves();
    check_specification();
    check_limits();
    check_packing();
    for (const struct kernels *k = kernels_table; k->name; k++) {
        if (k->need & ~features()) {
            printf("SKIP %s: this CPU lacks it\n", k->name);
            continue;
        }
#ifdef STAND_INS
        if ((k->need & ~cpu_features()) == 0)
            continue; /* check_kernels checks the real ones */
#endif
        unsigned long before = cases;
        /* Each width of tile alone, so that none is only chosen for shapes that nobody tried. */
        for (const struct gemm_s8 *const *g = k->s8; *g && !checked(k, k->s8); g++) {
            const struct gemm_s8 *const one[] = {*g, NULL};
            struct kernels only = *k;
            only.s8 = one;
            state = seed;
            check_shapes(&only, PRECISION_INT8);
            check_ties(&only);
        }
        for (const struct gemm_s16 *const *g = k->s16; g && *g && !checked(k, k->s16); g++) {
            const struct gemm_s16 *const one[] = {*g, NULL};
            struct kernels only = *k;
            only.s16 = one;
            state = seed;
            check_winograd(&only, PRECISION_INT8);
            check_winograd_on_the_way(&only, PRECISION_INT8);
            check_winograd_extremes(&only);
        }
        for (const struct gemm_f32 *const *g = k->f32; *g && !checked(k, k->f32); g++) {
            const struct gemm_f32 *const one[] = {*g, NULL};
            struct kernels only = *k;
            only.f32 = one;
            state = seed;
            for (int p = 0; p < PRECISIONS; p++)
                if (p != PRECISION_INT8 && (p != PRECISION_FP16 || !k->f16))
                    check_shapes(&only, (enum precision)p);
            for (int p = 0; p < PRECISIONS; p++) {
                if (p == PRECISION_INT8 || (p == PRECISION_FP16 && k->f16))
                    continue;
                check_winograd_on_the_way(&only, (enum precision)p);
                if (p == PRECISION_FP32 || (*g)->nr <= 32) /* wider ones have no room for 512 channels on the way */
                    check_winograd(&only, (enum precision)p);
            }
        }
        for (const struct gemm_f32 *const *g = k->f16; g && *g && !checked(k, k->f16); g++) {
            const struct gemm_f32 *const one[] = {*g, NULL};
            struct kernels only = *k;
            only.f16 = one;
            state = seed;
            check_shapes(&only, PRECISION_FP16);
            check_half_range(&only);
        }
        check_pools(k);
        check_casts(k);
        check_tflite(k);
        check_vectors(k);
        printf("%s: %lu cases\n", k->name, cases - before);
    }
    printf("seed %llu: %lu cases, %lu failures\n", (unsigned long long)seed, cases, failures);
    return failures ? 1 : 0;
}

// SPDX-License-Identifier: MIT
//
// bench_kernels [PRECISION [KERNELS]] - every implementation on the layer shapes of ResNet-50, one thread, the fastest of several runs
// (noise only adds time). Beside each: its gain over ref, and in fp32 over OpenBLAS' sgemm on the same matrix without its im2col.
// `make bench` runs it; a timing is not a test.

#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef HAVE_OPENBLAS
#include <cblas.h>
#endif

#include "kernels/conv.h"
#include "kernels/cpu.h"
#include "kernels/kernels.h"
#include "kernels/pool.h"

static const struct {
    const char *name;
    int side, in_c, out_c, kernel, stride;
} layers[] = {
    {"conv1", 224, 3, 64, 7, 2},           {"layer1.conv1", 56, 256, 64, 1, 1},  {"layer1.conv2", 56, 64, 64, 3, 1},
    {"layer1.conv3", 56, 64, 256, 1, 1},   {"layer2.conv2", 28, 128, 128, 3, 1}, {"layer2.conv3", 28, 128, 512, 1, 1},
    {"layer3.conv1", 14, 1024, 256, 1, 1}, {"layer3.conv2", 14, 256, 256, 3, 1}, {"layer3.0.conv2", 28, 256, 256, 3, 2},
    {"layer4.conv1", 7, 2048, 512, 1, 1},  {"layer4.conv2", 7, 512, 512, 3, 1},  {"layer4.conv3", 7, 512, 2048, 1, 1},
    {"fc", 1, 2048, 1000, 1, 1},
};

static const char *const precisions[PRECISIONS] = {"fp32", "fp16", "hybrid", "int8"};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *memory(size_t bytes)
{
    void *p;
    if (posix_memalign(&p, CONV_ALIGN, bytes + CONV_ALIGN) != 0) {
        perror("memory");
        exit(1);
    }
    memset(p, 0, bytes);
    return p;
}

/* Seconds of the fastest run. */
static double measure(const struct kernels *k, enum precision p, const struct conv_shape *s)
{
    const size_t depth = (size_t)s->kernel_h * (size_t)s->kernel_w * (size_t)s->in_c, channels = (size_t)s->out_c;
    void *w = memory(channels * depth * 4), *x = memory((size_t)s->in_h * (size_t)s->in_w * (size_t)s->in_c * 4);
    void *y = memory((size_t)s->out_h * (size_t)s->out_w * channels * 4);
    float *scale = memory(channels * 4);
    for (size_t i = 0; i < channels; i++)
        scale[i] = 0.01f;
    struct conv_params params = {.weight = w, .scale = scale, .in = {0.1f, 3}, .out = {0.1f, -128}};
    void *packed = memory(conv_bytes(k, p, s));
    struct conv *c = conv_init(packed, k, p, s, &params);
    void *scratch = memory(conv_scratch_bytes(c));
    struct conv_io io = {x, NULL, y, 1};
    double best = 1e9, start = now();
    for (int i = 0; i < 3 || (now() - start < 0.15 && i < 1000); i++) {
        double t = now();
        conv_run(c, &io, 0, 1, scratch);
        t = now() - t;
        best = t < best ? t : best;
    }
    free(w);
    free(x);
    free(y);
    free(scale);
    free(packed);
    free(scratch);
    return best;
}

#ifdef HAVE_OPENBLAS
static double measure_blas(const struct conv_shape *s)
{
    const int m = s->out_h * s->out_w, n = s->out_c, k = s->kernel_h * s->kernel_w * s->in_c;
    float *a = memory((size_t)m * (size_t)k * 4), *b = memory((size_t)n * (size_t)k * 4), *c = memory((size_t)m * (size_t)n * 4);
    double best = 1e9, start = now();
    openblas_set_num_threads(1);
    for (int i = 0; i < 3 || (now() - start < 0.15 && i < 1000); i++) {
        double t = now();
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, 1, a, k, b, k, 0, c, n);
        t = now() - t;
        best = t < best ? t : best;
    }
    free(a);
    free(b);
    free(c);
    return best;
}
#endif

int main(int argc, char **argv)
{
#ifdef HAVE_OPENBLAS
    printf("OpenBLAS core: %s (OPENBLAS_CORETYPE chooses another)\n", openblas_get_corename());
#endif
    for (int p = PRECISIONS - 1; p >= 0; p--) {
        if (argc > 1 && strcmp(argv[1], precisions[p]) != 0)
            continue;
        for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
            const int side = layers[i].side, kernel = layers[i].kernel, stride = layers[i].stride, out = (side - 1) / stride + 1;
            const struct conv_shape s = {side,   side,   layers[i].in_c, out,        out,        layers[i].out_c, kernel,
                                         kernel, stride, stride,         kernel / 2, kernel / 2, 1};
            const double gmac = 1e-9 * out * out * (double)layers[i].out_c * kernel * kernel * layers[i].in_c;
            double ref = argc > 2 ? 0 : measure(kernels_find("ref"), (enum precision)p, &s);
            for (const struct kernels *k = kernels_table; k->name; k++) {
                if (k->need & ~cpu_features() || (argc > 2 && strcmp(argv[2], k->name) != 0))
                    continue;
                double t = strcmp(k->name, "ref") == 0 && ref > 0 ? ref : measure(k, (enum precision)p, &s);
                printf("%-6s %-15s m=%-5d n=%-4d k=%-4d %-12s %8.3f ms %7.2f GMAC/s", precisions[p], layers[i].name, out * out,
                       s.out_c, kernel * kernel * s.in_c, k->name, 1e3 * t, gmac / t);
                if (ref > 0)
                    printf("  x%.2f over ref", ref / t);
#ifdef HAVE_OPENBLAS
                if (p == PRECISION_FP32)
                    printf("  x%.2f over sgemm", measure_blas(&s) / t);
#endif
                puts("");
            }
        }
    }
    return 0;
}

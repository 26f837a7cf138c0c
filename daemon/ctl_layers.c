// SPDX-License-Identifier: MIT
//
// ctl_layers.c - where the time of a network goes: each step of its plan, beside what this CPU can do at best.

#include <stdio.h>
#include <stdlib.h>

#include "daemon/ctl.h"
#include "kernels/conv.h"

#define RUNS      20 /* the fastest of so many counts: noise only adds */
#define PEAK_RUNS 200

/* GMAC/s of one thread on a convolution with nothing in its way: deep, whole tiles, in the caches. 0: no memory. */
static double peak(const struct kernels *k, enum precision p)
{
    enum { CHANNELS = 1024, OUTPUTS = 64, PIXELS = 84 }; /* whole tiles of 4, 6, 7, 12 and 14 rows */
    const struct conv_shape s = {1, PIXELS, CHANNELS, 1, PIXELS, OUTPUTS, 1, 1, 1, 1, 0, 0, 1};
    float *w = calloc((size_t)CHANNELS * OUTPUTS, sizeof *w), *x = calloc((size_t)CHANNELS * PIXELS, sizeof *x);
    float *y = calloc((size_t)OUTPUTS * PIXELS, sizeof *y), scale[OUTPUTS];
    void *packed = aligned_alloc(CONV_ALIGN, (conv_bytes(k, p, &s) + CONV_ALIGN - 1) / CONV_ALIGN * CONV_ALIGN), *scratch = NULL;
    for (int i = 0; i < OUTPUTS; i++)
        scale[i] = 0.01f;
    double best = 1e9;
    if (w && x && y && packed) {
        const struct conv_params params = {.weight = w, .scale = scale, .in = {0.1f, 0}, .out = {0.1f, 0}};
        const struct conv *c = conv_init(packed, k, p, &s, &params);
        const struct conv_io io = {x, NULL, y, 1};
        scratch = aligned_alloc(CONV_ALIGN, conv_scratch_bytes(c));
        for (int i = 0; scratch && i < PEAK_RUNS; i++) {
            double t = ctl_now_ms();
            conv_run(c, &io, 0, 1, scratch);
            t = 1e-3 * (ctl_now_ms() - t);
            best = t < best ? t : best;
        }
    }
    const int measured = scratch != NULL;
    free(w);
    free(x);
    free(y);
    free(packed);
    free(scratch);
    return measured ? 1e-9 * CHANNELS * OUTPUTS * PIXELS / best : 0;
}

/* The fastest of RUNS runs of each step, in seconds; NULL: no memory. */
static double *time_steps(const struct ctl_model *m, int batch)
{
    const int steps = model_steps(m->model);
    double *best = malloc((size_t)steps * sizeof *best), *once = malloc((size_t)steps * sizeof *once);
    if (!best || !once) {
        free(best);
        free(once);
        return NULL;
    }
    for (int run = 0; run < RUNS; run++) {
        session_run_timed(m->session, batch, once);
        for (int i = 0; i < steps; i++)
            if (run == 0 || once[i] < best[i])
                best[i] = once[i];
    }
    free(once);
    return best;
}

cJSON *ctl_layers_json(const struct ctl_model *m, int batch, int threads)
{
    double *seconds = time_steps(m, batch);
    if (!seconds)
        return NULL;
    const double top = peak(model_kernels(m->model), m->network->precision) * threads;
    cJSON *all = cJSON_CreateArray();
    int bad = 0;
    for (int i = 0; i < model_steps(m->model); i++) {
        struct model_step step;
        model_step(m->model, i, &step);
        const int shape[3] = {step.h, step.w, step.c};
        const double gmacs = 1e-9 * (double)step.macs * batch / seconds[i];
        cJSON *o = cJSON_CreateObject();
        bad |= ctl_put_text(o, "name", step.name);
        bad |= ctl_put_text(o, "op", step.op);
        bad |= ctl_put_item(o, "shape", cJSON_CreateIntArray(shape, 3));
        bad |= ctl_put_number(o, "macs", (double)step.macs, 17);
        bad |= ctl_put_number(o, "ms", 1e3 * seconds[i], 6);
        bad |= ctl_put_number(o, "gmacs_per_second", gmacs, 6);
        bad |= ctl_put_number(o, "peak_percent", top > 0 ? 100 * gmacs / top : 0, 4);
        bad |= ctl_put_text(o, "kernels", step.kernels);
        bad |= ctl_append(all, o);
    }
    free(seconds);
    return ctl_whole(all, bad);
}

void ctl_layers_print(const struct ctl_model *m, int batch, int threads)
{
    double *seconds = time_steps(m, batch), sum = 0;
    if (!seconds) {
        fprintf(stderr, "no memory to time the layers of %s\n", m->network->name);
        return;
    }
    const double top = peak(model_kernels(m->model), m->network->precision) * threads;
    printf("\n%s, %s: peak of %d threads %.1f GMAC/s\n", m->network->name, precision_name(m->network->precision), threads, top);
    printf("%10s %9s %8s %7s  %-9s %-14s %-20s %s\n", "MMAC", "ms", "GMAC/s", "% peak", "window", "output", "kernels", "layer");
    for (int i = 0; i < model_steps(m->model); i++) {
        struct model_step step;
        char window[32] = "", shape[48];
        model_step(m->model, i, &step);
        const double gmacs = 1e-9 * (double)step.macs * batch / seconds[i];
        if (step.kernel > 1 || step.stride > 1 || step.macs)
            snprintf(window, sizeof window, "%dx%d/%d%s", step.kernel, step.kernel, step.stride, step.residual ? " +" : "");
        snprintf(shape, sizeof shape, "%dx%dx%d", step.h, step.w, step.c);
        printf("%10.2f %9.4f ", 1e-6 * (double)step.macs * batch, 1e3 * seconds[i]);
        if (step.macs)
            printf("%8.1f %7.1f", gmacs, top > 0 ? 100 * gmacs / top : 0);
        else
            printf("%8s %7s", "-", "-");
        printf("  %-9s %-14s %-20s %s\n", window, shape, step.kernels, step.name);
        sum += seconds[i];
    }
    printf("%10s %9.4f  (sum of the fastest of each; + adds a residual)\n", "", 1e3 * sum);
    char kept[16], planned[16];
    ctl_size((double)batch * (double)model_unplanned_bytes(m->model), kept);
    ctl_size((double)model_arena_bytes(m->model, batch, threads), planned);
    printf("activations: %s if every tensor had its own memory, %s as planned, scratch of %d threads included\n", kept, planned, threads);
    free(seconds);
}

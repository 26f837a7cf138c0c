// SPDX-License-Identifier: MIT
//
// Real checkpoints against PyTorch's logits for the same images, in every precision. Needs the optional data; without it the bundled
// model is what is tested (test_bundled).

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu.h"
#include "models/quantize/quantize.h"
#include "models/session.h"
#include "tests/emulated.h"
#include "tests/files.h"
#include "tests/golden.h"

static const char *data;
static char *dir;

/* Such runs take the first few images: there the bits matter, not the percentages. */
static int slow(void)
{
#if defined(__SANITIZE_ADDRESS__)
    return 1;
#else
    return emulated();
#endif
}

static struct model *pack(const struct network *n)
{
    struct model *m;
    struct err e;
    if (model_from_network(n, kernels_pick(cpu_features(), NULL), &m, &e) < 0) {
        print_error("%s\n", e.text);
        fail();
    }
    return m;
}

struct feed {
    const struct golden_images *images;
    const struct network *n;
    int next, count;
};

static int feed(void *user, uint8_t *rgb, int *label, struct err *e)
{
    struct feed *f = user;
    (void)label;
    (void)e;
    if (f->next == f->count || f->next == f->images->count)
        return 0;
    golden_pixels(f->images, f->next++, f->n, rgb);
    return 1;
}

struct result {
    double worst;     /* max |difference| / max |logit| */
    int agree, right, count;
};

static struct result run(const struct network *n, const struct golden_images *images, const float *golden, int count)
{
    struct model *m = pack(n);
    struct session *s;
    struct err e;
    assert_int_equal(session_new(m, 1, NULL, &s, &e), 0);
    const int classes = model_classes(m);
    int w, h, ours, theirs;
    model_input_size(m, &w, &h);
    uint8_t *rgb = malloc((size_t)w * (size_t)h * 3);
    struct result r = {.count = count};
    double difference = 0, largest = 0;
    for (int i = 0; i < count; i++) {
        golden_pixels(images, i, n, rgb);
        session_set_pixels(s, 0, rgb);
        const float *logits = session_run(s, 1), *expected = golden + (size_t)i * (size_t)classes;
        for (int k = 0; k < classes; k++) {
            difference = fmax(difference, fabs((double)logits[k] - (double)expected[k]));
            largest = fmax(largest, fabs((double)expected[k]));
        }
        top_k(logits, classes, 1, &ours);
        top_k(expected, classes, 1, &theirs);
        r.agree += ours == theirs;
        r.right += ours == images->images[i].label;
    }
    r.worst = difference / largest;
    free(rgb);
    session_free(s);
    model_free(m);
    return r;
}

struct checkpoint {
    const char *name, *preprocess, *images, *calibration, *calibration_preprocess;
    int classes;
    int fp32_images, fp16_images, calibration_images; /* for a run of bearable length; int8 always takes all */
    double top1, agreement;                           /* in percent; top1 by PyTorch on all images */
};

static const struct checkpoint checkpoints[] = {
    {"resnet8_mlperf_tiny", "cifar-raw", "cifar10_test_lossless_dev.bin", "cifar10_train_lossless.bin", "cifar-raw", 10, 500, 500, 512, 89.00, 98},
    {"resnet20_cifar10", "cifar-imagenet-mean", "cifar10_test_lossless_dev.bin", "cifar10_train_lossless.bin", "cifar-imagenet-mean", 10, 500, 200, 512, 91.00, 98},
    {"resnet20b_cifar10_distiller_pruned", "cifar-half", "cifar10_test_lossless_dev.bin", "cifar10_train_lossless.bin", "cifar-half", 10, 500, 200, 512, 91.60, 98},
    {"resnet56_cifar10", "cifar-imagenet-mean", "cifar10_test_lossless_dev.bin", "cifar10_train_lossless.bin", "cifar-imagenet-mean", 10, 500, 100, 256, 94.00, 98},
    {"resnet18_imagenet_pqf_small", "imagenet-crop224", "imagenet_val_227px_dev.tar", "imagenet_calib_dev_132.tar", "imagenet", 1000, 298, 40, 64, 71.14, 95.5},
    {"resnet50_imagenet_pqf_large", "imagenet-crop224", "imagenet_val_227px_dev.tar", "imagenet_calib_dev_132.tar", "imagenet", 1000, 298, 40, 64, 77.85, 95.5},
};

static int at_most(int a, int b)
{
    return a < b ? a : b;
}

static void one(const struct checkpoint *c)
{
    struct network n = golden_network(data, dir, c->name, c->preprocess), q;
    struct golden_images images = golden_images(data, c->images), calibration = golden_images(data, c->calibration);
    char name[160];
    struct err e;
    snprintf(name, sizeof name, "%s.%.*s.logits.f32", c->name, (int)(strlen(c->images) - 4), c->images);
    float *golden = golden_logits(data, name, (size_t)images.count * (size_t)c->classes);
    const int few = c->classes == 10 ? 10 : 1, all = slow() ? few : images.count;

    struct result r = run(&n, &images, golden, at_most(c->fp32_images, all));
    print_message("%s fp32: %.2g of the largest logit, top-1 %d/%d\n", c->name, r.worst, r.right, r.count);
    assert_true(r.worst <= 1e-3);
    assert_int_equal(r.agree, r.count);
    if (r.count == images.count) /* from files: decode, crop, network; two images are 0.7 point of 298 */
        assert_true(fabs(100.0 * r.right / r.count - c->top1) <= (c->classes == 10 ? 0.01 : 0.7));

    assert_int_equal(quantize_network(&n, PRECISION_FP16, NULL, NULL, &q, NULL, &e), 0);
    r = run(&q, &images, golden, at_most(c->fp16_images, all));
    print_message("%s fp16: %.2g of the largest logit\n", c->name, r.worst);
    assert_true(r.worst <= 1e-2);
    network_free(&q);

    assert_int_equal(quantize_network(&n, PRECISION_HYBRID, NULL, NULL, &q, NULL, &e), 0);
    r = run(&q, &images, golden, all);
    print_message("%s hybrid: agrees with fp32 on %d of %d\n", c->name, r.agree, r.count);
    assert_true(r.count == images.count ? 100.0 * r.agree / r.count >= 97.5 : r.agree >= r.count - 1);
    network_free(&q);

    /* Calibration photos have their own shape, so they take the preprocessing with a resize. */
    struct network as_photo = golden_network(data, dir, c->name, c->calibration_preprocess);
    const struct quantize_options plain = {.ranges = 1u << RANGE_MINMAX, .weights = 1u << WEIGHTS_NEAREST, .plain_bias = 1};
    struct calibration *seen = NULL;
    struct feed f = {&calibration, &as_photo, 0, slow() ? few : c->calibration_images};
    assert_int_equal(calibration_new(&n, kernels_pick(cpu_features(), NULL), NULL, feed, &f, &seen, &e), 0);
    assert_int_equal(quantize_network(&n, PRECISION_INT8, &plain, seen, &q, NULL, &e), 0);
    calibration_free(seen);
    r = run(&q, &images, golden, all);
    print_message("%s int8: agrees with fp32 on %d of %d (%.1f %%), top-1 %d\n", c->name, r.agree, r.count, 100.0 * r.agree / r.count, r.right);
    if (r.count == images.count)
        assert_true(100.0 * r.agree / r.count >= c->agreement);
    network_free(&q);
    network_free(&as_photo);
    network_free(&n);
    free(golden);
    golden_images_free(&images);
    golden_images_free(&calibration);
}

static void checkpoint_test(void **state)
{
    const struct checkpoint *c = *state;
    if (!data)
        skip();
    if (emulated() && (strstr(c->name, "resnet50") || strstr(c->name, "resnet56") || strstr(c->name, "resnet20b"))) {
        print_message("SKIP %s: minutes under an emulator, and ResNet-18 or ResNet-20 take the same paths\n", c->name);
        skip();
    }
    one(c);
}

int main(void)
{
    struct CMUnitTest tests[sizeof checkpoints / sizeof *checkpoints] = {{0}};
    data = golden_data();
    dir = files_make_dir();
    for (size_t i = 0; i < sizeof checkpoints / sizeof *checkpoints; i++) {
        tests[i].name = checkpoints[i].name;
        tests[i].test_func = checkpoint_test;
        tests[i].initial_state = (void *)(uintptr_t)&checkpoints[i];
    }
    int r = cmocka_run_group_tests(tests, NULL, NULL);
    files_remove_dir(dir);
    return r;
}

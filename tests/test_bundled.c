// SPDX-License-Identifier: MIT
//
// The bundled models, which are always there: the drawn photos get their classes in every precision on every implementation, and int8
// gives the very bits that are written down here, on every CPU.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/image.h"
#include "kernels/cpu.h"
#include "models/file.h"
#include "models/session.h"
#include "tests/files.h"

#define CLASSES 10

static const char *source(const char *name)
{
    const char *dir = getenv("srcdir");
    return files_path(dir ? dir : ".", name);
}

static const struct bundled {
    const char *name;
    int64_t macs;
} bundled[] = {{"resnet20-cifar10", 40551040}, {"resnet8-cifar10", 12501632}};
#define BUNDLED ((int)(sizeof bundled / sizeof bundled[0]))

static void bundled_path(const struct bundled *b, enum precision p, char path[512])
{
    struct err e;
    char name[64];
    snprintf(name, sizeof name, "models/%s", b->name);
    assert_int_equal(model_path(source(name), p, path, 512, &e), 0);
}

static struct session *open_session(const struct bundled *b, enum precision p, const struct kernels *k)
{
    struct err e;
    struct model *m;
    struct session *s;
    char path[512];
    bundled_path(b, p, path);
    if (model_load(path, k, NULL, &m, &e) < 0 || session_new(m, 1, NULL, &s, &e) < 0) {
        print_error("%s\n", e.text);
        fail();
    }
    model_free(m);
    return s;
}

static const struct {
    const char *model, *file, *label;
    uint32_t int8_logits[CLASSES]; /* bit patterns of floats */
} photos[] = {
#include "tests/bundled_logits.h"
};
#define PHOTOS ((int)(sizeof photos / sizeof photos[0]))

static void photo_pixels(const char *file, const struct preprocess *p, uint8_t *rgb)
{
    struct image image;
    struct err e;
    size_t size;
    char name[64];
    snprintf(name, sizeof name, "tests/data/%s", file);
    char *bytes = files_read(source(name), &size);
    assert_non_null(bytes);
    assert_int_equal(image_decode((uint8_t *)bytes, size, &image_limits_default, p, &image, &e), 0);
    assert_int_equal(image_preprocess(&image, p, rgb, &e), 0);
    image_free(&image);
    free(bytes);
}

static void check_bits(const struct kernels *k, int photo, const float *logits)
{
    if (memcmp(logits, photos[photo].int8_logits, sizeof photos[photo].int8_logits) == 0)
        return;
    print_error("%s, %s, %s: int8 logits are\n", photos[photo].model, k->name, photos[photo].file);
    for (int c = 0; c < CLASSES; c++) {
        uint32_t bits;
        memcpy(&bits, &logits[c], 4);
        print_error("0x%08x, ", (unsigned)bits);
    }
    print_error("\n");
    fail();
}

static void check_photos(const struct bundled *b, const struct kernels *k)
{
    float fp32[PHOTOS][CLASSES];
    for (int p = 0; p < PRECISIONS; p++) {
        struct session *s = open_session(b, (enum precision)p, k);
        const struct network *n = model_network(session_model(s));
        for (int i = 0; i < PHOTOS; i++) {
            uint8_t rgb[32 * 32 * 3];
            int best;
            if (strcmp(photos[i].model, b->name) != 0)
                continue;
            photo_pixels(photos[i].file, &n->preprocess, rgb);
            session_set_pixels(s, 0, rgb);
            const float *logits = session_run(s, 1);
            top_k(logits, CLASSES, 1, &best);
            assert_string_equal(n->labels[best], photos[i].label);
            if (p == PRECISION_FP32)
                memcpy(fp32[i], logits, sizeof fp32[i]);
            const float share = p == PRECISION_FP16 ? 0.003f : p == PRECISION_HYBRID ? 0.03f : 0.3f;
            for (int c = 0; c < CLASSES; c++)
                assert_true(fabsf(logits[c] - fp32[i][c]) <= share * fp32[i][best]);
            if (p == PRECISION_INT8)
                check_bits(k, i, logits);
        }
        session_free(s);
    }
}

static void photos_get_their_classes(void **unused)
{
    (void)unused;
    for (const struct kernels *k = kernels_table; k->name; k++) {
        if (k->need & ~cpu_features()) {
            print_message("SKIP %s: this CPU lacks it\n", k->name);
            continue;
        }
        for (int i = 0; i < BUNDLED; i++)
            check_photos(&bundled[i], k);
    }
}

static void files_say_what_they_are(void **unused)
{
    (void)unused;
    for (int i = 0; i < BUNDLED * PRECISIONS; i++) {
        const struct bundled *b = &bundled[i / PRECISIONS];
        const enum precision p = (enum precision)(i % PRECISIONS);
        struct network n;
        struct err e;
        char path[512];
        bundled_path(b, p, path);
        assert_int_equal(model_file_read(path, &n, &e), 0);
        assert_string_equal(n.name, b->name);
        assert_int_equal(n.precision, p);
        assert_int_equal(n.label_count, CLASSES);
        assert_int_equal(graph_macs(&n.graph), b->macs);
        assert_non_null(strstr(n.provenance, "resnetctl train"));
        assert_non_null(n.accuracy);
        network_free(&n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(photos_get_their_classes), cmocka_unit_test(files_say_what_they_are)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

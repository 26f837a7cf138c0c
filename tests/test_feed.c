// SPDX-License-Identifier: MIT
//
// What a training gets to see: order, variations and mixtures of images, and that all of it depends on seed, epoch and image
// alone.

#include "models/train/augment.h"
#include "models/train/feed.h"
#include "models/train/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { W = 7, H = 5, VALUES = W * H * 3, IMAGES = 23, CLASSES = 4 };

static uint8_t pixels[IMAGES * VALUES];
static int label[IMAGES];
static struct image_set set = {.count = IMAGES, .width = W, .height = H, .classes = CLASSES, .pixels = pixels, .label = label};
static struct preprocess preprocess;

static int make_set(void **state)
{
    (void)state;
    struct random r = random_stream(1, RANDOM_INITIALISE, 0, 0);
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)random_below(&r, 256);
    for (int i = 0; i < IMAGES; i++)
        label[i] = random_below(&r, CLASSES);
    return preprocess_preset("cifar10", &preprocess, NULL);
}

static struct feed *open_feed(const struct feed_options *o, const struct image_part *part)
{
    struct feed *f = NULL;
    struct err e;
    if (feed_new(&set, part, o, &f, &e) < 0)
        fail_msg("%s", e.text);
    return f;
}

/* ---- numbers */

static void streams(void **state)
{
    (void)state;
    struct random a = random_stream(5, RANDOM_AUGMENT, 3, 7), b = a;
    assert_true(random_bits(&a) == random_bits(&b));
    /* SplitMix64 from state 0, as its authors' program prints it */
    struct random zero = {0};
    assert_true(random_bits(&zero) == 0xe220a8397b1dcdafu);
    assert_true(random_bits(&zero) == 0x6e789e6aa1b965f4u);
    /* every part of a name matters, also where it is swapped with another */
    static const struct {
        uint64_t seed;
        enum random_use use;
        uint64_t a, b;
    } names[] = {{5, RANDOM_AUGMENT, 3, 7}, {6, RANDOM_AUGMENT, 3, 7}, {5, RANDOM_SHUFFLE, 3, 7}, {5, RANDOM_AUGMENT, 4, 7},
                 {5, RANDOM_AUGMENT, 3, 8}, {5, RANDOM_AUGMENT, 7, 3}, {0, RANDOM_SHUFFLE, 0, 0}, {1, RANDOM_SHUFFLE, 0, 0},
                 {0, RANDOM_SHUFFLE, 1, 0}, {0, RANDOM_SHUFFLE, 0, 1}, {0, RANDOM_AUGMENT, 0, 0}};
    uint64_t first[sizeof names / sizeof *names];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct random r = random_stream(names[i].seed, names[i].use, names[i].a, names[i].b);
        first[i] = random_bits(&r);
        for (size_t k = 0; k < i; k++)
            assert_true(first[i] != first[k]);
    }
}

static void distributions(void **state)
{
    (void)state;
    enum { DRAWS = 100000 };
    struct random r = random_stream(9, RANDOM_INITIALISE, 0, 0);
    int counts[10] = {0};
    double sum = 0, squares = 0, unit = 0;
    for (int i = 0; i < DRAWS; i++) {
        counts[random_below(&r, 10)]++;
        const double u = random_unit(&r), n = random_normal(&r);
        assert_true(u >= 0 && u < 1);
        unit += u;
        sum += n;
        squares += n * n;
    }
    for (int i = 0; i < 10; i++)
        assert_in_range(counts[i], DRAWS / 10 - 500, DRAWS / 10 + 500); /* 5 standard deviations */
    assert_true(fabs(unit / DRAWS - 0.5) < 0.005);
    assert_true(fabs(sum / DRAWS) < 0.016);
    assert_true(fabs(squares / DRAWS - 1) < 0.023);
    static const double alphas[] = {0.01, 0.2, 1, 4, 100};
    for (size_t k = 0; k < sizeof alphas / sizeof *alphas; k++) {
        const double alpha = alphas[k], variance = 1 / (4 * (2 * alpha + 1));
        sum = squares = 0;
        for (int i = 0; i < DRAWS; i++) {
            const double v = random_beta(&r, alpha);
            assert_true(v >= 0 && v <= 1);
            sum += v - 0.5;
            squares += (v - 0.5) * (v - 0.5);
        }
        assert_true(fabs(sum / DRAWS) < 5 * sqrt(variance / DRAWS));
        assert_true(fabs(squares / DRAWS - variance) < 0.03 * variance);
    }
}

/* ---- order */

static void in_order(void **state)
{
    (void)state;
    for (int bgr = 0; bgr < 2; bgr++) {
        struct feed_options o = {
            .batch = 10, .preprocess = preprocess, .augment = {.pad = 2, .flip = 1, .mixup = 1}}; /* no training */
        o.preprocess.bgr = bgr;
        struct feed *f = open_feed(&o, NULL);
        assert_null(feed_next(f)); /* not started */
        assert_int_equal(feed_images(f), IMAGES);
        assert_int_equal(feed_batches(f), 3);
        for (int epoch = 0; epoch < 2; epoch++) {
            feed_start(f, epoch);
            for (int first = 0; first < IMAGES; first += 10) {
                const struct feed_batch *b = feed_next(f);
                assert_non_null(b);
                assert_int_equal(b->images, first == 20 ? 3 : 10);
                assert_null(b->target);
                for (int i = 0; i < b->images; i++) {
                    assert_int_equal(b->index[i], first + i);
                    assert_int_equal(b->label[i], label[first + i]);
                    for (int v = 0; v < VALUES; v++) {
                        const int c = v % 3;
                        const float wanted =
                            preprocess_value(&preprocess, c, pixels[(first + i) * VALUES + v + (bgr ? 2 - 2 * c : 0)]);
                        assert_true(b->x[i * VALUES + v] == wanted);
                    }
                }
            }
            assert_null(feed_next(f));
            assert_null(feed_next(f));
        }
        feed_free(f);
    }
    feed_free(NULL);
}

/* All images of an epoch as they are trained with, by number; returns a hash of their order. */
static uint64_t see_epoch(struct feed *f, int epoch, float *x, int *seen)
{
    const struct feed_batch *b;
    uint64_t hash = 0;
    memset(seen, 0, IMAGES * sizeof *seen);
    feed_start(f, epoch);
    while ((b = feed_next(f))) {
        for (int i = 0; i < b->images; i++) {
            assert_in_range(b->index[i], 0, IMAGES - 1);
            assert_int_equal(b->label[i], label[b->index[i]]);
            seen[b->index[i]]++;
            hash = hash * 31 + (uint64_t)b->index[i];
            memcpy(x + b->index[i] * VALUES, b->x + i * VALUES, VALUES * sizeof *x);
        }
    }
    return hash;
}

static void epochs(void **state)
{
    (void)state;
    static float x[4][IMAGES * VALUES];
    uint64_t order[4];
    int seen[IMAGES];
    struct feed_options o = {
        .batch = 4, .training = 1, .seed = 3, .preprocess = preprocess, .augment = {.pad = 2, .flip = 1, .cutout = 2}};
    struct feed *f = open_feed(&o, NULL);
    for (int epoch = 0; epoch < 2; epoch++) {
        order[epoch] = see_epoch(f, epoch, x[epoch], seen);
        for (int i = 0; i < IMAGES; i++)
            assert_int_equal(seen[i], 1);
    }
    feed_free(f);
    assert_true(order[0] != order[1]);
    assert_memory_not_equal(x[0], x[1], sizeof x[0]);

    /* Another feed that starts with epoch 1 and has other batches: the same order, the same variations. */
    o.batch = 9;
    f = open_feed(&o, NULL);
    assert_true(see_epoch(f, 1, x[2], seen) == order[1]);
    assert_memory_equal(x[2], x[1], sizeof x[1]);
    /* An epoch cut short by another. */
    feed_start(f, 7);
    assert_non_null(feed_next(f));
    assert_true(see_epoch(f, 0, x[2], seen) == order[0]);
    assert_memory_equal(x[2], x[0], sizeof x[0]);
    feed_start(f, 2);
    feed_free(f); /* while the loader works */

    o.seed = 4;
    f = open_feed(&o, NULL);
    assert_true(see_epoch(f, 1, x[3], seen) != order[1]);
    assert_memory_not_equal(x[3], x[1], sizeof x[1]);
    feed_free(f);

    /* Only whole batches: 18 of 23 images. */
    o.whole = 1;
    f = open_feed(&o, NULL);
    assert_int_equal(feed_images(f), 18);
    assert_int_equal(feed_batches(f), 2);
    see_epoch(f, 0, x[3], seen);
    int total = 0;
    for (int i = 0; i < IMAGES; i++)
        total += seen[i];
    assert_int_equal(total, 18);
    feed_free(f);

    /* A part of the set. */
    int numbers[] = {2, 3, 5, 7, 11};
    const struct image_part part = {numbers, 5};
    o.whole = 0;
    f = open_feed(&o, &part);
    assert_int_equal(feed_images(f), 5);
    see_epoch(f, 0, x[3], seen);
    for (int i = 0; i < IMAGES; i++)
        assert_int_equal(seen[i], i == 2 || i == 3 || i == 5 || i == 7 || i == 11);
    feed_free(f);
}

/* Where an image comes in the epoch is equally likely. */
static void shuffles(void **state)
{
    (void)state;
    enum { EPOCHS = 4600 };
    static int places[IMAGES][IMAGES];
    const struct feed_options o = {.batch = IMAGES, .training = 1, .seed = 11, .preprocess = preprocess};
    struct feed *f = open_feed(&o, NULL);
    for (int epoch = 0; epoch < EPOCHS; epoch++) {
        feed_start(f, epoch);
        const struct feed_batch *b = feed_next(f);
        for (int i = 0; i < IMAGES; i++)
            places[b->index[i]][i]++;
    }
    feed_free(f);
    for (int i = 0; i < IMAGES; i++)
        for (int place = 0; place < IMAGES; place++)
            assert_in_range(places[i][place], EPOCHS / IMAGES - 70, EPOCHS / IMAGES + 70); /* 5 standard deviations */
}

/* The batch in hand is not the one that the loader writes. */
static void batches_stay(void **state)
{
    (void)state;
    static float copy[2 * VALUES];
    const struct feed_options o = {.batch = 2, .training = 1, .preprocess = preprocess, .augment = {.pad = 1, .mixup = 1}};
    struct feed *f = open_feed(&o, NULL);
    feed_start(f, 0);
    for (const struct feed_batch *b; (b = feed_next(f));) {
        const size_t size = (size_t)b->images * VALUES * sizeof *copy;
        memcpy(copy, b->x, size);
        usleep(2000);
        assert_memory_equal(copy, b->x, size);
    }
    feed_free(f);
}

/* ---- variations */

/* The plain way: a padded picture, a crop of it, mirrored, a hole cut. */
static void vary(const struct variation *v, const uint8_t *rgb, int pad, float *x)
{
    static uint8_t padded[H + 2 * H][W + 2 * W][3], crop[H][W][3];
    memset(padded, 0, sizeof padded);
    for (int y = 0; y < H; y++)
        memcpy(padded[y + pad][pad], rgb + y * W * 3, W * 3);
    for (int y = 0; y < H; y++)
        for (int column = 0; column < W; column++)
            memcpy(crop[y][v->flip ? W - 1 - column : column], padded[y + pad + v->dy][column + pad + v->dx], 3);
    for (int y = 0; y < H; y++)
        for (int column = 0; column < W; column++)
            for (int c = 0; c < 3; c++, x++)
                *x = y >= v->y0 && y < v->y1 && column >= v->x0 && column < v->x1
                         ? 0
                         : preprocess_value(&preprocess, c, crop[y][column][c]);
}

static void variations(void **state)
{
    (void)state;
    static const struct augment kinds[] = {{0},           {.flip = 1},   {.pad = 1},    {.pad = H},
                                           {.cutout = 1}, {.cutout = 2}, {.cutout = H}, {.pad = 2, .flip = 1, .cutout = 3}};
    float table[3][256], x[VALUES], wanted[VALUES];
    for (int c = 0; c < 3; c++)
        for (int p = 0; p < 256; p++)
            table[c][p] = preprocess_value(&preprocess, c, (uint8_t)p);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        struct random r = random_stream(k, RANDOM_AUGMENT, 0, 0);
        for (int i = 0; i < 300; i++) {
            const struct variation v = augment_draw(&kinds[k], W, H, &r);
            const uint8_t *rgb = pixels + i % IMAGES * VALUES;
            augment_image(&v, rgb, W, H, table, 0, x);
            vary(&v, rgb, kinds[k].pad, wanted);
            assert_memory_equal(x, wanted, sizeof x);
            assert_true(v.x0 >= 0 && v.x1 <= W && v.y0 >= 0 && v.y1 <= H);
        }
    }
}

static void draws(void **state)
{
    (void)state;
    enum { DRAWS = 50000, PAD = 2, SIDE = 4 };
    const struct augment a = {.pad = PAD, .flip = 1, .cutout = SIDE};
    int corner[2 * PAD + 1][2 * PAD + 1] = {{0}}, flips = 0, hole[H][W] = {{0}}, wanted[H][W] = {{0}};
    struct random r = random_stream(2, RANDOM_AUGMENT, 0, 0);
    for (int i = 0; i < DRAWS; i++) {
        const struct variation v = augment_draw(&a, W, H, &r);
        assert_true(abs(v.dx) <= PAD && abs(v.dy) <= PAD);
        corner[v.dy + PAD][v.dx + PAD]++;
        flips += v.flip;
        for (int y = v.y0; y < v.y1; y++)
            for (int x = v.x0; x < v.x1; x++)
                hole[y][x]++;
    }
    for (int i = 0; i < 25; i++)
        assert_in_range(corner[i / 5][i % 5], DRAWS / 25 - 220, DRAWS / 25 + 220); /* 5 standard deviations */
    assert_in_range(flips, DRAWS / 2 - 560, DRAWS / 2 + 560);
    for (int cy = 0; cy < H; cy++) /* how many of the W * H centres cover a pixel */
        for (int cx = 0; cx < W; cx++)
            for (int y = cy - SIDE / 2; y < cy - SIDE / 2 + SIDE; y++)
                for (int x = cx - SIDE / 2; x < cx - SIDE / 2 + SIDE; x++)
                    if (y >= 0 && y < H && x >= 0 && x < W)
                        wanted[y][x]++;
    for (int i = 0; i < W * H; i++)
        assert_true(fabs(hole[i / W][i % W] / (double)DRAWS - wanted[i / W][i % W] / (double)(W * H)) < 0.0112);
}

static void mixes(void **state)
{
    (void)state;
    struct feed_options o = {.batch = 5, .training = 1, .seed = 8, .preprocess = preprocess, .augment = {.pad = 1, .flip = 1}};
    struct feed *plain = open_feed(&o, NULL);
    o.augment.mixup = 0.4;
    struct feed *mixed = open_feed(&o, NULL);
    float weights[40];
    int count = 0, other = 0;
    for (int epoch = 0; epoch < 8; epoch++) {
        feed_start(plain, epoch);
        feed_start(mixed, epoch);
        for (const struct feed_batch *b; (b = feed_next(plain));) {
            const struct feed_batch *m = feed_next(mixed);
            const int n = b->images;
            float weight = -1;
            assert_int_equal(m->images, n);
            for (int i = 0; i < n; i++) { /* the weight from a pair of two classes */
                const float *target = m->target + i * CLASSES;
                if (b->label[i] != b->label[n - 1 - i])
                    weight = target[b->label[i]];
            }
            if (weight < 0)
                continue;
            weights[count++] = weight;
            for (int i = 0; i < n; i++) {
                const int mine = b->label[i], its = b->label[n - 1 - i];
                assert_int_equal(m->index[i], b->index[i]);
                assert_int_equal(m->label[i], weight < 0.5f ? its : mine);
                other += m->label[i] != mine;
                for (int c = 0; c < CLASSES; c++) {
                    const float wanted = (c == mine ? weight : 0) + (c == its ? 1 - weight : 0);
                    assert_true(m->target[i * CLASSES + c] == wanted);
                }
                for (int v = 0; v < VALUES; v++) {
                    const float wanted = weight * b->x[i * VALUES + v] + (1 - weight) * b->x[(n - 1 - i) * VALUES + v];
                    assert_true(m->x[i * VALUES + v] == wanted);
                }
            }
        }
        assert_null(feed_next(mixed));
    }
    assert_true(count > 20 && other > 0);
    for (int i = 0; i < count; i++) /* each batch its own */
        for (int k = 0; k < i; k++)
            assert_true(weights[i] != weights[k]);
    feed_free(plain);
    feed_free(mixed);
}

/* ---- what cannot be */

static void wrong_options(void **state)
{
    (void)state;
    static const struct {
        struct feed_options o;
        const char *says;
    } bad[] = {
        {{.batch = 0}, "batch of 0"},
        {{.batch = FEED_BATCH_MAX + 1}, "1 to 4096"},
        {{.batch = IMAGES + 1, .whole = 1}, "less than a batch"},
        {{.batch = 1, .augment = {.pad = -1}}, "padding"},
        {{.batch = 1, .augment = {.pad = H + 1}}, "0 to 5"},
        {{.batch = 1, .augment = {.cutout = -1}}, "cutout"},
        {{.batch = 1, .augment = {.cutout = H + 1}}, "0 to 5"},
        {{.batch = 1, .augment = {.mixup = -1}}, "mixup"},
        {{.batch = 1, .augment = {.mixup = 0.009}}, "mixup"},
        {{.batch = 1, .augment = {.mixup = 101}}, "mixup"},
        {{.batch = 1, .augment = {.mixup = NAN}}, "mixup"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct feed_options o = bad[i].o;
        struct feed *f = NULL;
        struct err e;
        o.preprocess = preprocess;
        assert_int_equal(feed_new(&set, NULL, &o, &f, &e), -1);
        assert_null(f);
        assert_int_equal(e.code, ERR_INPUT);
        if (!strstr(e.text, bad[i].says))
            fail_msg("expected '%s', got: %s", bad[i].says, e.text);
    }
    const struct image_part nothing = {0};
    struct feed *f = NULL;
    assert_int_equal(feed_new(&set, &nothing, &(struct feed_options){.batch = 1, .preprocess = preprocess}, &f, NULL), -1);
    feed_free(open_feed(&(struct feed_options){.batch = FEED_BATCH_MAX, .preprocess = preprocess}, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams),  cmocka_unit_test(distributions), cmocka_unit_test(in_order),   cmocka_unit_test(epochs),
        cmocka_unit_test(shuffles), cmocka_unit_test(batches_stay),  cmocka_unit_test(variations), cmocka_unit_test(draws),
        cmocka_unit_test(mixes),    cmocka_unit_test(wrong_options),
    };
    return cmocka_run_group_tests(tests, make_set, NULL);
}

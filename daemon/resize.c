// SPDX-License-Identifier: MIT
//
// resize.c - resize and centre crop with the bits that Pillow gives (src/libImaging/Resample.c of Pillow; torchvision's
// CenterCrop).
//
// Each output sample is a weighted mean of the input under a triangle or cubic that is widened by the scale when shrinking
// (antialiasing). Weights are 22-bit fixed point; columns first, then rows, rounded to 8 bits after each. Of both passes only
// what the crop keeps is computed: an extreme shape (16384 x 8) costs no more than another. Rows between the passes live in a
// ring just high enough for one output row.

#include "daemon/image.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WEIGHT_BITS (32 - 8 - 2) /* 8 bits of pixel, and 2 for the overshoot of the cubic */

/* One side of the way from image to crop. */
struct side {
    int64_t in, resized; /* pixels of the image, before and after resize */
    int64_t from;        /* first resized pixel that is kept */
    int kept, out, to;   /* how many are kept; pixels of the output; where the first kept one goes */
};

/* For each kept pixel: the input pixels first[i] .. first[i]+count[i]-1 and their weights at weight[i * most]. */
struct taps {
    int most;
    int *first, *count;
    int32_t *weight;
};

static void taps_free(struct taps *t)
{
    free(t->first);
    free(t->count);
    free(t->weight);
}

static double triangle(double x)
{
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

static double cubic(double x) /* Keys, a = -0.5, in Pillow's order of operations */
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2)
        return (((x - 5) * x + 8) * x - 4) * a;
    return 0;
}

static int taps_new(struct taps *t, const struct side *s, enum resize_filter filter)
{
    double (*weight)(double) = filter == FILTER_BICUBIC ? cubic : triangle;
    double scale = (double)s->in / (double)s->resized, wide = scale < 1 ? 1 : scale;
    double support = (filter == FILTER_BICUBIC ? 2 : 1) * wide, narrow = 1 / wide;
    t->most = (int)ceil(support) * 2 + 1;
    size_t kept = (size_t)s->kept, most = (size_t)t->most;
    t->first = malloc(kept * sizeof *t->first);
    t->count = malloc(kept * sizeof *t->count);
    t->weight = kept > SIZE_MAX / most / sizeof *t->weight ? NULL : malloc(kept * most * sizeof *t->weight);
    double *exact = malloc(most * sizeof *exact);
    if (!t->first || !t->count || !t->weight || !exact) {
        free(exact);
        return -1;
    }
    for (int i = 0; i < s->kept; i++) {
        double centre = ((double)(s->from + i) + 0.5) * scale, sum = 0;
        int low = (int)(centre - support + 0.5), high = (int)(centre + support + 0.5);
        low = low < 0 ? 0 : low;
        high = high > s->in ? (int)s->in : high;
        int32_t *w = t->weight + (size_t)i * most;
        for (int k = low; k < high; k++)
            sum += exact[k - low] = weight((k - centre + 0.5) * narrow);
        for (int k = 0; k < high - low; k++) {
            double x = (sum != 0 ? exact[k] / sum : exact[k]) * (1 << WEIGHT_BITS);
            w[k] = (int32_t)(x < 0 ? x - 0.5 : x + 0.5);
        }
        t->first[i] = low;
        t->count[i] = high - low;
    }
    free(exact);
    return 0;
}

static uint8_t to_byte(int32_t sum)
{
    int32_t v = sum >> WEIGHT_BITS;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

static void resize_row(const struct taps *t, int kept, const uint8_t *in, uint8_t *out)
{
    for (int i = 0; i < kept; i++, out += 3) {
        const uint8_t *p = in + (size_t)t->first[i] * 3;
        const int32_t *w = t->weight + (size_t)i * (size_t)t->most;
        int32_t r = 1 << (WEIGHT_BITS - 1), g = r, b = r;
        for (int k = 0; k < t->count[i]; k++, p += 3) {
            r += p[0] * w[k];
            g += p[1] * w[k];
            b += p[2] * w[k];
        }
        out[0] = to_byte(r);
        out[1] = to_byte(g);
        out[2] = to_byte(b);
    }
}

/* Both passes, for the kept part. sum: one row of accumulators. */
static void resize_rows(const struct image *i, const struct side *x, const struct side *y, const struct taps *tx,
                        const struct taps *ty, uint8_t *ring, int32_t *sum, uint8_t *out)
{
    int n = x->kept * 3, done = ty->first[0]; /* input rows before `done` are in the ring or no longer needed */
    for (int r = 0; r < y->kept; r++) {
        for (; done < ty->first[r] + ty->count[r]; done++)
            resize_row(tx, x->kept, i->rgb + (size_t)done * (size_t)i->width * 3, ring + (size_t)(done % ty->most) * (size_t)n);
        const int32_t *weight = ty->weight + (size_t)r * (size_t)ty->most;
        for (int c = 0; c < n; c++)
            sum[c] = 1 << (WEIGHT_BITS - 1);
        for (int k = 0; k < ty->count[r]; k++) {
            const uint8_t *row = ring + (size_t)((ty->first[r] + k) % ty->most) * (size_t)n;
            int32_t w = weight[k];
            for (int c = 0; c < n; c++)
                sum[c] += row[c] * w;
        }
        uint8_t *to = out + ((size_t)(y->to + r) * (size_t)x->out + (size_t)x->to) * 3;
        for (int c = 0; c < n; c++)
            to[c] = to_byte(sum[c]);
    }
}

static int resize_kept(const struct image *i, const struct side *x, const struct side *y, enum resize_filter filter, uint8_t *out)
{
    struct taps tx = {0}, ty = {0};
    uint8_t *ring = NULL;
    int32_t *sum = NULL;
    int rc = -1;
    if (taps_new(&tx, x, filter) || taps_new(&ty, y, filter))
        goto out;
    size_t row = (size_t)x->kept * 3;
    ring = (size_t)ty.most > SIZE_MAX / row ? NULL : malloc(row * (size_t)ty.most);
    sum = malloc(row * sizeof *sum);
    if (!ring || !sum)
        goto out;
    resize_rows(i, x, y, &tx, &ty, ring, sum, out);
    rc = 0;
out:
    taps_free(&tx);
    taps_free(&ty);
    free(ring);
    free(sum);
    return rc;
}

/* Half of an odd rest goes to the even neighbour, as Python's round does: 89 / 2 -> 44, 91 / 2 -> 46. */
static void centre(struct side *s, int crop)
{
    s->out = crop ? crop : (int)s->resized;
    s->from = s->to = 0;
    s->kept = s->out;
    if (s->resized < s->out) {
        s->kept = (int)s->resized;
        s->to = (s->out - s->kept) / 2;
    } else {
        int64_t rest = s->resized - s->out;
        s->from = rest / 2 + (rest % 4 == 3);
    }
}

int image_preprocess(const struct image *i, const struct preprocess *p, uint8_t *out, struct err *e)
{
    struct side x = {.in = i->width, .resized = i->width}, y = {.in = i->height, .resized = i->height};
    if (p->resize == RESIZE_EXACT) {
        x.resized = p->width;
        y.resized = p->height;
    } else if (p->resize == RESIZE_SHORTER) {
        x.resized = x.in <= y.in ? p->size : p->size * x.in / y.in;
        y.resized = y.in <= x.in ? p->size : p->size * y.in / x.in;
    }
    if ((!p->crop_w && x.resized > PREPROCESS_SIDE_MAX) || (!p->crop_h && y.resized > PREPROCESS_SIDE_MAX))
        return err_set(e, ERR_TOO_LARGE, "image of %dx%d becomes %lldx%lld for the network, the limit is %d a side", i->width,
                       i->height, (long long)x.resized, (long long)y.resized, PREPROCESS_SIDE_MAX);
    centre(&x, p->crop_w);
    centre(&y, p->crop_h);
    if (x.kept < x.out || y.kept < y.out)
        memset(out, 0, (size_t)x.out * (size_t)y.out * 3);
    if (x.resized != x.in || y.resized != y.in) {
        if (resize_kept(i, &x, &y, p->filter, out))
            return err_set(e, ERR_MEMORY, "no memory to resize an image of %dx%d", i->width, i->height);
        return 0;
    }
    for (int r = 0; r < y.kept; r++)
        memcpy(out + ((size_t)(y.to + r) * (size_t)x.out + (size_t)x.to) * 3,
               i->rgb + ((size_t)(y.from + r) * (size_t)i->width + (size_t)x.from) * 3, (size_t)x.kept * 3);
    return 0;
}

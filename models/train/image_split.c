// SPDX-License-Identifier: MIT
//
// image_split.c - which images of a set train and which validate.

#include "models/train/image_set.h"

#include "models/train/random.h"

#include <math.h>
#include <stdlib.h>

void image_part_free(struct image_part *p)
{
    free(p->index);
    *p = (struct image_part){0};
}

/* How many of each class are for validation. */
static void quotas(const struct image_set *s, int usable, double share, int *left)
{
    for (int i = 0; i < usable; i++)
        left[s->label[i]]++;
    for (int c = 0; c < s->classes; c++) {
        const int all = left[c], wanted = (int)nearbyint(share * all);
        left[c] = wanted < all ? wanted : all > 0 ? all - 1 : 0;
    }
}

int image_set_split(const struct image_set *s, double share, uint64_t seed, struct image_part *train,
                    struct image_part *validation, struct err *e)
{
    const int usable = s->count - s->held_back;
    int result = -1, *order = NULL, *left = NULL;
    uint8_t *validates = calloc((size_t)s->count, 1);
    struct image_part t = {0}, v = {0};
    if (!(share >= 0 && share < 1)) {
        err_set(e, ERR_INPUT, "a share for validation of %g, must be at least 0 and below 1", share);
        goto out;
    }
    if (usable == 0) {
        err_set(e, ERR_INPUT, "no images to train on: all are of test_batch.bin");
        goto out;
    }
    order = malloc((size_t)usable * sizeof *order);
    left = calloc((size_t)s->classes, sizeof *left);
    t.index = malloc((size_t)s->count * sizeof *t.index);
    v.index = malloc((size_t)s->count * sizeof *v.index);
    if (!validates || !order || !left || !t.index || !v.index) {
        err_set(e, ERR_MEMORY, "no memory to divide %d images", s->count);
        goto out;
    }

    struct random r = random_stream(seed, RANDOM_SPLIT, 0, 0);
    for (int i = 0; i < usable; i++)
        order[i] = i;
    random_shuffle(&r, order, usable);
    quotas(s, usable, share, left);
    for (int i = 0; i < usable; i++)
        validates[order[i]] = left[s->label[order[i]]]-- > 0;
    for (int i = 0; i < s->count; i++) {
        if (i < usable && !validates[i])
            t.index[t.count++] = i;
        else if (i < usable || share == 0)
            v.index[v.count++] = i;
    }
    *train = t;
    *validation = v;
    t.index = v.index = NULL;
    result = 0;
out:
    free(validates);
    free(order);
    free(left);
    free(t.index);
    free(v.index);
    return result;
}

// SPDX-License-Identifier: MIT

#include "models/train/augment.h"

struct variation augment_draw(const struct augment *a, int w, int h, struct random *r)
{
    struct variation v = {0};
    if (a->pad > 0) {
        v.dx = random_below(r, 2 * a->pad + 1) - a->pad;
        v.dy = random_below(r, 2 * a->pad + 1) - a->pad;
    }
    if (a->flip)
        v.flip = random_below(r, 2);
    if (a->cutout > 0) {
        const int x = random_below(r, w) - a->cutout / 2, y = random_below(r, h) - a->cutout / 2;
        v.x0 = x < 0 ? 0 : x;
        v.y0 = y < 0 ? 0 : y;
        v.x1 = x + a->cutout < w ? x + a->cutout : w;
        v.y1 = y + a->cutout < h ? y + a->cutout : h;
    }
    return v;
}

void augment_image(const struct variation *v, const uint8_t *rgb, int w, int h, const float table[3][256], int bgr, float *x)
{
    static const struct variation none = {0};
    static const uint8_t black[3] = {0};
    const int first = bgr ? 2 : 0, last = 2 - first;
    if (!v)
        v = &none;
    for (int row = 0; row < h; row++) {
        const int from_row = row + v->dy, inside = from_row >= 0 && from_row < h;
        for (int column = 0; column < w; column++, x += 3) {
            if (column >= v->x0 && column < v->x1 && row >= v->y0 && row < v->y1) {
                x[0] = x[1] = x[2] = 0;
                continue;
            }
            const int from = (v->flip ? w - 1 - column : column) + v->dx;
            const uint8_t *p = inside && from >= 0 && from < w ? rgb + 3 * ((size_t)from_row * (size_t)w + (size_t)from) : black;
            x[0] = table[0][p[first]];
            x[1] = table[1][p[1]];
            x[2] = table[2][p[last]];
        }
    }
}

void augment_mix(float *x, int images, int64_t values, float weight)
{
    const float other = 1 - weight;
    for (int i = 0; 2 * i < images; i++) {
        float *a = x + i * values, *b = x + (images - 1 - i) * values;
        for (int64_t k = 0; k < values; k++) {
            const float va = a[k], vb = b[k];
            a[k] = weight * va + other * vb;
            b[k] = weight * vb + other * va;
        }
    }
}

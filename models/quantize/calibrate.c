// SPDX-License-Identifier: MIT
//
// Calibration: what values the fp32 network really takes.

#include <stdlib.h>

#include "models/quantize/quantize.h"
#include "models/session.h"

struct seen {
    struct range *ranges;
    int first;
};

static void see(void *user, int node, const float *values, size_t count)
{
    const struct seen *s = user;
    struct range r = s->first ? (struct range){values[0], values[0]} : s->ranges[node];
    for (size_t i = 0; i < count; i++) {
        r.min = values[i] < r.min ? values[i] : r.min;
        r.max = values[i] > r.max ? values[i] : r.max;
    }
    s->ranges[node] = r;
}

int calibrate_minmax(const struct network *fp32, const struct kernels *k, struct pthreadpool *pool, next_image *next, void *user,
                     struct range *ranges, int *images, struct err *e)
{
    struct model *m = NULL;
    struct session *s = NULL;
    uint8_t *rgb = NULL;
    int bad = -1, more, count = 0;
    if (fp32->precision != PRECISION_FP32)
        return err_set(e, ERR_INPUT, "calibration needs an fp32 network, this one is %s", precision_name(fp32->precision));
    if (model_from_network(fp32, k, &m, e) < 0 || session_new(m, 1, pool, &s, e) < 0)
        goto out;
    int w, h;
    model_input_size(m, &w, &h);
    rgb = malloc((size_t)w * (size_t)h * 3);
    if (!rgb) {
        err_set(e, ERR_MEMORY, "no memory for an image");
        goto out;
    }
    while ((more = next(user, rgb, e)) > 0) {
        struct seen seen = {ranges, count == 0};
        session_set_pixels(s, 0, rgb);
        if (!session_run_observed(s, 1, see, &seen)) {
            err_set(e, ERR_MEMORY, "no memory for calibration");
            goto out;
        }
        count++;
    }
    if (more == 0 && count == 0)
        err_set(e, ERR_INPUT, "calibration needs at least one image");
    else if (more == 0)
        bad = 0;
    *images = count;
out:
    free(rgb);
    session_free(s);
    model_free(m);
    return bad;
}

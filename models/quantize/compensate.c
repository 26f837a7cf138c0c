// SPDX-License-Identifier: MIT

#include "models/quantize/compensate.h"

#include <math.h>
#include <pthreadpool.h>
#include <stdlib.h>
#include <string.h>

#define T     FACTOR_TILE
#define PANEL 64 /* rows of R that are taken out of the rest together */

struct factor {
    float *a;
    size_t side;
    size_t first, rows; /* of the panel */
    float *packed;      /* [side / T][PANEL][T]: the panel's columns in tiles */
};

/* Takes the panel's share out of the tile row `task` tiles after the panel. */
static void update_rows(void *user, size_t task)
{
    const struct factor *f = user;
    const size_t i0 = f->first + f->rows + task * T;
    const float *pi = f->packed + i0 / T * PANEL * T;
    for (size_t j0 = i0; j0 < f->side; j0 += T) {
        const float *pj = f->packed + j0 / T * PANEL * T;
        for (size_t i = 0; i < T; i++) {
            float *restrict row = f->a + (i0 + i) * f->side + j0;
            float sum[T];
            memcpy(sum, row, sizeof sum);
            for (size_t k = 0; k < f->rows; k++) {
                const float c = pi[k * T + i];
                for (size_t j = 0; j < T; j++)
                    sum[j] -= c * pj[k * T + j];
            }
            memcpy(row, sum, sizeof sum);
        }
    }
}

/* The panel's own rows: within the diagonal block first, then every tile of columns to its right. */
static int factor_block(struct factor *f)
{
    for (size_t k = f->first; k < f->first + f->rows; k++) {
        float *row = f->a + k * f->side;
        if (!(row[k] > 0))
            return -1;
        const float pivot = sqrtf(row[k]);
        for (size_t j = k; j < f->first + f->rows; j++)
            row[j] /= pivot;
        for (size_t i = k + 1; i < f->first + f->rows; i++)
            for (size_t j = i; j < f->first + f->rows; j++)
                f->a[i * f->side + j] -= row[i] * row[j];
    }
    return 0;
}

static void solve_tile(void *user, size_t task)
{
    const struct factor *f = user;
    const size_t j0 = f->first + f->rows + task * T;
    float *packed = f->packed + j0 / T * PANEL * T;
    for (size_t k = 0; k < f->rows; k++) {
        const float *block = f->a + (f->first + k) * f->side + f->first; /* block[k]: the diagonal; R of column k lies above it */
        float *row = f->a + (f->first + k) * f->side + j0;
        float sum[T];
        memcpy(sum, row, sizeof sum);
        for (size_t l = 0; l < k; l++) {
            const float c = f->a[(f->first + l) * f->side + f->first + k];
            for (size_t j = 0; j < T; j++)
                sum[j] -= c * packed[l * T + j];
        }
        for (size_t j = 0; j < T; j++)
            packed[k * T + j] = sum[j] / block[k];
        memcpy(row, packed + k * T, sizeof sum);
    }
}

int factor_upper(float *a, int n, struct pthreadpool *pool)
{
    struct factor f = {.a = a, .side = factor_side(n)};
    f.packed = malloc(f.side * PANEL * sizeof *f.packed);
    if (!f.packed)
        return -1;
    int bad = 0;
    for (f.first = 0; !bad && f.first < f.side; f.first += f.rows) {
        f.rows = f.side - f.first < PANEL ? f.side - f.first : PANEL;
        bad = factor_block(&f);
        const size_t tiles = (f.side - f.first - f.rows) / T;
        if (!bad && tiles) {
            pthreadpool_parallelize_1d(pool, solve_tile, &f, tiles, PTHREADPOOL_FLAG_YIELD_WORKERS);
            pthreadpool_parallelize_1d(pool, update_rows, &f, tiles, PTHREADPOOL_FLAG_YIELD_WORKERS);
        }
    }
    free(f.packed);
    return bad;
}

/* ---- rounding ---- */

#define CHANNELS 32 /* rounded together: one reading of R serves them all */

struct rounding_work {
    const float *r, *w, *scale;
    float *error; /* [blocks][n][CHANNELS]: w - s q */
    int8_t *q;
    int n, channels;
};

/* From the last input to the first: row i of R says what the errors after i do to the same direction as i. */
static void round_block(void *user, size_t block)
{
    const struct rounding_work *k = user;
    const size_t n = (size_t)k->n, side = factor_side(k->n), first = block * CHANNELS;
    const size_t count = (size_t)k->channels - first < CHANNELS ? (size_t)k->channels - first : CHANNELS;
    float *error = k->error + block * n * CHANNELS;
    for (size_t i = n; i-- > 0;) {
        const float *row = k->r + i * side;
        float sum[CHANNELS] = {0};
        for (size_t j = i + 1; j < n; j++)
            for (size_t o = 0; o < CHANNELS; o++)
                sum[o] += row[j] * error[j * CHANNELS + o];
        for (size_t o = 0; o < CHANNELS; o++)
            error[i * CHANNELS + o] = 0;
        for (size_t o = 0; o < count; o++) {
            const float s = k->scale[first + o], w = k->w[(first + o) * n + i];
            float v = rintf((w + sum[o] / row[i]) / s);
            v = v > 127 ? 127 : v < -127 ? -127 : v;
            k->q[(first + o) * n + i] = (int8_t)v;
            error[i * CHANNELS + o] = w - s * v;
        }
    }
}

int round_compensated(const float *r, int n, const float *w, int channels, const float *scale, int8_t *q,
                      struct pthreadpool *pool)
{
    const size_t blocks = ((size_t)channels + CHANNELS - 1) / CHANNELS;
    struct rounding_work k = {.r = r, .w = w, .scale = scale, .q = q, .n = n, .channels = channels};
    k.error = malloc(blocks * (size_t)n * CHANNELS * sizeof *k.error);
    if (!k.error)
        return -1;
    pthreadpool_parallelize_1d(pool, round_block, &k, blocks, PTHREADPOOL_FLAG_YIELD_WORKERS);
    free(k.error);
    return 0;
}

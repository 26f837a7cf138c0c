// SPDX-License-Identifier: MIT

#include "kernels/half.h"
#include "kernels/tiles.h"

static void widen(size_t n, const uint16_t *x, float *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = half_to_float(x[i]);
}

static void narrow(size_t n, const float *x, uint16_t *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = half_from_float(x[i]);
}

static void s8_to_u8(size_t n, const int8_t *x, uint8_t *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (uint8_t)(x[i] ^ 0x80);
}

static void s8_to_s16(size_t n, const int8_t *x, int16_t *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = x[i];
}

static void finish(size_t n, const float *x, const float *mult, const float *bias, const float *add, int relu, float *y)
{
    for (size_t i = 0; i < n; i++) {
        float v = x[i] * mult[i] + bias[i];
        if (add)
            v += add[i];
        y[i] = relu && v < 0 ? 0 : v;
    }
}

static void max_s8(size_t n, const int8_t *x, int8_t *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] > y[i] ? x[i] : y[i];
}

static void max_f32(size_t n, const float *x, float *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] > y[i] ? x[i] : y[i];
}

static void sum_s8(size_t n, const int8_t *x, int32_t *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] += x[i];
}

const struct vector_ops vector_ops__ref = {widen, narrow, s8_to_u8, s8_to_s16, finish, max_s8, max_f32, sum_s8};

// SPDX-License-Identifier: MIT

#include "models/checkpoint/tflite_tensor.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/half.h"
#include "models/graph.h"

#define SCALE_MAX 1073741824.0f /* 2^30, as in a model file */

/* Fields of the schema's tables. */
enum { TENSOR_SHAPE, TENSOR_TYPE, TENSOR_BUFFER, TENSOR_NAME, TENSOR_QUANTIZATION, TENSOR_SPARSITY = 6 };
enum { BUFFER_DATA, BUFFER_OFFSET };
enum { QUANTIZATION_SCALE = 2, QUANTIZATION_ZERO_POINT, QUANTIZATION_DETAILS_TYPE, QUANTIZATION_AXIS = 6 };

static int type_bytes(int type)
{
    switch (type) {
    case TFLITE_I8:
    case TFLITE_U8:
        return 1;
    case TFLITE_F16:
        return 2;
    case TFLITE_F32:
    case TFLITE_I32:
        return 4;
    case TFLITE_I64:
        return 8;
    default:
        return 0;
    }
}

static int read_shape(const struct fb_table *t, struct tflite_tensor *out, struct err *e)
{
    const struct fb_vector shape = fb_numbers(t, TENSOR_SHAPE, 4);
    if (shape.count > TFLITE_RANK_MAX)
        return err_set(e, ERR_UNSUPPORTED, "it has %u dimensions, the limit is %d", shape.count, TFLITE_RANK_MAX);
    out->rank = (int)shape.count;
    out->count = 1;
    for (int i = 0; i < out->rank; i++) {
        out->shape[i] = fb_int32_at(&shape, (uint32_t)i);
        if (out->shape[i] < 1 || out->count > INT32_MAX / out->shape[i])
            return err_set(e, ERR_INPUT, "its shape has a side of %d or more than 2^31 - 1 elements", out->shape[i]);
        out->count *= out->shape[i];
    }
    return 0;
}

static int read_data(const struct fb_table *t, const struct fb_vector *buffers, struct tflite_tensor *out, struct err *e)
{
    const uint32_t index = fb_uint32(t, TENSOR_BUFFER, 0);
    if (index >= buffers->count)
        return err_set(e, ERR_DAMAGED, "its buffer %u is not there", index);
    const struct fb_table buffer = fb_at(buffers, index);
    if (fb_uint64(&buffer, BUFFER_OFFSET, 0) > 1)
        return err_set(e, ERR_UNSUPPORTED, "its values lie behind the FlatBuffer; files of more than 2 GB are not read");
    const struct fb_vector data = fb_numbers(&buffer, BUFFER_DATA, 1);
    if (data.count && (int64_t)data.count != out->count * type_bytes(out->type))
        return err_set(e, ERR_DAMAGED, "it holds %u bytes where its shape needs %lld", data.count,
                       (long long)out->count * type_bytes(out->type));
    out->data = fb_bytes(&data);
    return 0;
}

static int read_quantization(const struct fb_table *t, struct tflite_tensor *out, struct err *e)
{
    const struct fb_table q = fb_sub(t, TENSOR_QUANTIZATION);
    out->scale = fb_numbers(&q, QUANTIZATION_SCALE, 4);
    out->zero = fb_numbers(&q, QUANTIZATION_ZERO_POINT, 8);
    out->axis = fb_int32(&q, QUANTIZATION_AXIS, 0);
    if (fb_int8(&q, QUANTIZATION_DETAILS_TYPE, 0) != 0)
        return err_set(e, ERR_UNSUPPORTED, "its quantisation is of a custom kind");
    if (out->zero.count != 0 && out->zero.count != out->scale.count)
        return err_set(e, ERR_DAMAGED, "it has %u scales and %u zero points", out->scale.count, out->zero.count);
    for (uint32_t i = 0; i < out->scale.count; i++) {
        const float scale = fb_float_at(&out->scale, i);
        if (!isnormal(scale) || scale < 0 || scale > SCALE_MAX)
            return err_set(e, ERR_INPUT, "its scale %u is not greater than 0 and at most 2^30", i);
    }
    return 0;
}

int tflite_tensor(const struct fb_vector *tensors, const struct fb_vector *buffers, int32_t index, struct tflite_tensor *out,
                  struct err *e)
{
    struct tflite_tensor tensor = {0};
    if (index < 0 || (uint32_t)index >= tensors->count)
        return err_set(e, ERR_DAMAGED, "tensor %d is not there", index);
    const struct fb_table t = fb_at(tensors, (uint32_t)index);
    tensor.type = fb_int8(&t, TENSOR_TYPE, 0);
    int bad = 0;
    if (type_bytes(tensor.type) == 0)
        bad = err_set(e, ERR_UNSUPPORTED, "its type %d is none of float, half, int8, uint8, int32, int64", tensor.type);
    else if (fb_has(&t, TENSOR_SPARSITY))
        bad = err_set(e, ERR_UNSUPPORTED, "its values are stored as a sparse matrix");
    if (bad || read_shape(&t, &tensor, e) || read_data(&t, buffers, &tensor, e) || read_quantization(&t, &tensor, e)) {
        char name[64];
        fb_string(&t, TENSOR_NAME, name, sizeof name);
        return err_prefix(e, "tensor %d '%s'", index, name);
    }
    *out = tensor;
    return 0;
}

int tflite_image(const struct tflite_tensor *t, int *h, int *w, int *c, struct err *e)
{
    if ((t->rank != 4 && t->rank != 2) || t->shape[0] != 1)
        return err_set(e, ERR_UNSUPPORTED, "activations must be [1, h, w, c] or [1, c]: one image at a time");
    *h = t->rank == 4 ? t->shape[1] : 1;
    *w = t->rank == 4 ? t->shape[2] : 1;
    *c = t->shape[t->rank - 1];
    if (*h > GRAPH_SIDE_MAX || *w > GRAPH_SIDE_MAX || *c > GRAPH_CHANNELS_MAX)
        return err_set(e, ERR_TOO_LARGE, "an activation is %dx%dx%d, the limits are %dx%dx%d", *h, *w, *c, GRAPH_SIDE_MAX,
                       GRAPH_SIDE_MAX, GRAPH_CHANNELS_MAX);
    return 0;
}

int tflite_quant(const struct tflite_tensor *t, struct quant *out, struct err *e)
{
    if (t->type != TFLITE_I8 && t->type != TFLITE_U8)
        return err_set(e, ERR_UNSUPPORTED, "the activation is not of int8");
    if (t->scale.count != 1)
        return err_set(e, ERR_INPUT, "the activation has %u scales, must have one", t->scale.count);
    const int64_t zero = t->zero.count ? fb_int64_at(&t->zero, 0) : 0, first = t->type == TFLITE_I8 ? -128 : 0;
    if (zero < first || zero > first + 255)
        return err_set(e, ERR_INPUT, "the activation's zero point %lld is outside of its type", (long long)zero);
    *out = (struct quant){fb_float_at(&t->scale, 0), (int)(zero - first) - 128};
    return 0;
}

static uint32_t load32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

int32_t tflite_int32(const struct tflite_tensor *t, int i)
{
    return (int32_t)load32(t->data + (size_t)i * 4);
}

/* Symmetric, one scale for all or one per channel. */
static int check_scales(const struct tflite_tensor *t, int channels, struct err *e)
{
    if (t->scale.count != 1 && (t->scale.count != (uint32_t)channels || t->axis != 0))
        return err_set(e, ERR_UNSUPPORTED, "weights have %u scales along axis %d, must have 1, or %d along axis 0",
                       t->scale.count, t->axis, channels);
    for (uint32_t i = 0; i < t->zero.count; i++)
        if (fb_int64_at(&t->zero, i) != 0)
            return err_set(e, ERR_UNSUPPORTED, "weights have a zero point other than 0");
    return 0;
}

static float channel_scale(const struct tflite_tensor *t, int channel)
{
    return fb_float_at(&t->scale, t->scale.count == 1 ? 0 : (uint32_t)channel);
}

int tflite_weights_s8(const struct tflite_tensor *t, int channels, int8_t **weight, float **scale, struct err *e)
{
    if (!t->data || t->type != TFLITE_I8)
        return err_set(e, ERR_UNSUPPORTED, "weights of an int8 layer are not constants of int8");
    if (check_scales(t, channels, e))
        return -1;
    const size_t depth = (size_t)(t->count / channels);
    for (int o = 0; o < channels; o++) { /* kernels/conv.h: one may be -128 */
        const uint8_t *first = t->data + (size_t)o * depth, *end = first + depth;
        const uint8_t *lowest = memchr(first, 0x80, depth);
        if (lowest && memchr(lowest + 1, 0x80, (size_t)(end - lowest - 1)))
            return err_set(e, ERR_UNSUPPORTED, "output channel %d has more than one weight of -128", o);
    }
    *weight = malloc((size_t)t->count);
    *scale = malloc((size_t)channels * sizeof **scale);
    if (!*weight || !*scale) {
        free(*weight);
        free(*scale);
        *weight = NULL;
        *scale = NULL;
        return err_set(e, ERR_MEMORY, "no memory for %lld weights", (long long)t->count);
    }
    memcpy(*weight, t->data, (size_t)t->count);
    for (int o = 0; o < channels; o++)
        (*scale)[o] = channel_scale(t, o);
    return 0;
}

static float load_float(const struct tflite_tensor *t, int64_t i, int64_t depth)
{
    const uint8_t *p = t->data + i * type_bytes(t->type);
    float f;
    switch (t->type) {
    case TFLITE_F16:
        return half_to_float((uint16_t)(p[0] | p[1] << 8));
    case TFLITE_I8:
        return channel_scale(t, (int)(i / depth)) * (float)(int8_t)p[0];
    default: {
        const uint32_t bits = load32(p);
        memcpy(&f, &bits, sizeof f);
        return f;
    }
    }
}

int tflite_floats(const struct tflite_tensor *t, int channels, float **out, struct err *e)
{
    if (!t->data || (t->type != TFLITE_F32 && t->type != TFLITE_F16 && t->type != TFLITE_I8))
        return err_set(e, ERR_UNSUPPORTED, "weights of a float layer are not constants of float, half or int8");
    if (t->type == TFLITE_I8 && check_scales(t, channels, e))
        return -1;
    float *values = malloc((size_t)t->count * sizeof *values);
    if (!values)
        return err_set(e, ERR_MEMORY, "no memory for %lld weights", (long long)t->count);
    for (int64_t i = 0; i < t->count; i++) {
        values[i] = load_float(t, i, t->count / channels);
        if (!isfinite(values[i])) {
            free(values);
            return err_set(e, ERR_INPUT, "weight %lld is not a finite number", (long long)i);
        }
    }
    *out = values;
    return 0;
}

int tflite_bias(const struct tflite_tensor *t, int channels, const float *scale, struct quant in, struct quant out,
                int32_t **bias, struct err *e)
{
    if (t && (!t->data || t->type != TFLITE_I32 || t->count != channels))
        return err_set(e, ERR_UNSUPPORTED, "biases are not %d constants of int32", channels);
    if (t && t->scale.count > 1 && t->scale.count != (uint32_t)channels)
        return err_set(e, ERR_DAMAGED, "biases have %u scales for %d channels", t->scale.count, channels);
    for (int o = 0; t && t->scale.count && o < channels; o++) {
        const double product = (double)in.scale * (double)scale[o];
        if (fabs((double)channel_scale(t, o) - product) > 0.02 * (double)out.scale)
            return err_set(e, ERR_INPUT, "the scale of bias %d is not that of its input times that of its weights", o);
    }
    *bias = calloc((size_t)channels, sizeof **bias);
    if (!*bias)
        return err_set(e, ERR_MEMORY, "no memory for %d biases", channels);
    for (int o = 0; t && o < channels; o++)
        (*bias)[o] = tflite_int32(t, o);
    return 0;
}

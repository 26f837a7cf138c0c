// SPDX-License-Identifier: MIT

#include "models/checkpoint/onnx_tensor.h"

#include <math.h>
#include <string.h>

#include "kernels/half.h"
#include "models/checkpoint/onnx.h"

/* ---- tensors ---- */

const char *onnx_tensor_name(const Onnx__TensorProto *t)
{
    return t->name ? t->name : "";
}

/* Bytes of an element in raw_data, 0 for types that are not read; and how many values the typed field holds. */
static size_t element_bytes(const Onnx__TensorProto *t, size_t *typed)
{
    switch (t->data_type) {
    case ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT:
        *typed = t->n_float_data;
        return 4;
    case ONNX__TENSOR_PROTO__DATA_TYPE__UINT8:
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT8:
        *typed = t->n_int32_data;
        return 1;
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT32:
        *typed = t->n_int32_data;
        return 4;
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT64:
        *typed = t->n_int64_data;
        return 8;
    case ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16:
    case ONNX__TENSOR_PROTO__DATA_TYPE__BFLOAT16:
        *typed = t->n_int32_data;
        return 2;
    case ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE:
        *typed = t->n_double_data;
        return 8;
    default:
        return 0;
    }
}

int64_t onnx_tensor_count(const Onnx__TensorProto *t, struct err *e)
{
    const char *name = onnx_tensor_name(t);
    if (t->data_location || t->n_external_data)
        return err_set(e, ERR_UNSUPPORTED, "tensor '%.96s' is kept in another file: save the model as one file", name);
    if (t->n_dims > ONNX_RANK_MAX)
        return err_set(e, ERR_TOO_LARGE, "tensor '%.96s' has %zu dimensions, the limit is %d", name, t->n_dims, ONNX_RANK_MAX);
    uint64_t count = 1;
    for (size_t i = 0; i < t->n_dims; i++) {
        if (t->dims[i] < 0 || t->dims[i] > (1LL << 30) || (count *= (uint64_t)t->dims[i]) > (1ull << 30))
            return err_set(e, ERR_TOO_LARGE, "tensor '%.96s': dimension %zu is %lld; a tensor has at most 2^30 elements", name, i,
                           (long long)t->dims[i]);
    }
    size_t typed = 0;
    const size_t bytes = element_bytes(t, &typed);
    if (bytes == 0)
        return err_set(e, ERR_UNSUPPORTED, "tensor '%.96s' is of ONNX type %d, which is not read", name, (int)t->data_type);
    if (t->has_raw_data ? t->raw_data.len != count * bytes : typed != count)
        return err_set(e, ERR_DAMAGED, "tensor '%.96s' should hold %llu values and holds %zu%s", name, (unsigned long long)count,
                       t->has_raw_data ? t->raw_data.len : typed, t->has_raw_data ? " bytes" : "");
    return (int64_t)count;
}

/* raw_data is little endian and without alignment. */
static uint64_t raw(const Onnx__TensorProto *t, size_t i, size_t bytes)
{
    const uint8_t *p = t->raw_data.data + i * bytes;
    uint64_t v = 0;
    for (size_t b = 0; b < bytes; b++)
        v |= (uint64_t)p[b] << (8 * b);
    return v;
}

static float float_of_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static int64_t int_at(const Onnx__TensorProto *t, size_t i)
{
    const int is_raw = t->has_raw_data;
    switch (t->data_type) {
    case ONNX__TENSOR_PROTO__DATA_TYPE__UINT8:
        return is_raw ? t->raw_data.data[i] : (uint8_t)t->int32_data[i];
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT8:
        return is_raw ? (int8_t)t->raw_data.data[i] : (int8_t)t->int32_data[i];
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT32:
        return is_raw ? (int32_t)raw(t, i, 4) : t->int32_data[i];
    default:
        return is_raw ? (int64_t)raw(t, i, 8) : t->int64_data[i];
    }
}

static float float_at(const Onnx__TensorProto *t, size_t i)
{
    const int is_raw = t->has_raw_data;
    switch (t->data_type) {
    case ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT:
        return is_raw ? float_of_bits((uint32_t)raw(t, i, 4)) : t->float_data[i];
    case ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16:
        return half_to_float((uint16_t)(is_raw ? raw(t, i, 2) : (uint64_t)(uint32_t)t->int32_data[i]));
    case ONNX__TENSOR_PROTO__DATA_TYPE__BFLOAT16:
        return float_of_bits((uint32_t)(uint16_t)(is_raw ? raw(t, i, 2) : (uint64_t)(uint32_t)t->int32_data[i]) << 16);
    case ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE: {
        double d;
        uint64_t bits = is_raw ? raw(t, i, 8) : 0;
        memcpy(&d, is_raw ? (void *)&bits : (void *)&t->double_data[i], sizeof d);
        return fabs(d) <= 3.4e38 ? (float)d : NAN;
    }
    default:
        return (float)int_at(t, i);
    }
}

int onnx_tensor_floats(const Onnx__TensorProto *t, float *out, struct err *e)
{
    const int64_t count = onnx_tensor_count(t, e);
    for (int64_t i = 0; i < count; i++) {
        out[i] = float_at(t, (size_t)i);
        if (!isfinite(out[i]))
            return err_set(e, ERR_DAMAGED, "tensor '%.96s': element %lld is no finite number", onnx_tensor_name(t), (long long)i);
    }
    return count < 0 ? -1 : 0;
}

int onnx_tensor_scalar(const Onnx__TensorProto *t, double *out, struct err *e)
{
    const int64_t count = onnx_tensor_count(t, e);
    if (count == 1)
        *out = (double)float_at(t, 0);
    return count < 0 || count == 1 ? -(count < 0)
                                   : err_set(e, ERR_UNSUPPORTED, "tensor '%.96s' has %lld elements, expected one",
                                             onnx_tensor_name(t), (long long)count);
}

int onnx_tensor_ints(const Onnx__TensorProto *t, int64_t *out, struct err *e)
{
    const int64_t count = onnx_tensor_count(t, e);
    switch (t->data_type) {
    case ONNX__TENSOR_PROTO__DATA_TYPE__UINT8:
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT8:
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT32:
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT64:
        break;
    default:
        return err_set(e, ERR_UNSUPPORTED, "tensor '%.96s' should hold integers and is of ONNX type %d", onnx_tensor_name(t),
                       (int)t->data_type);
    }
    for (int64_t i = 0; i < count; i++)
        out[i] = int_at(t, (size_t)i);
    return count < 0 ? -1 : 0;
}

/* ---- attributes ---- */

const Onnx__AttributeProto *onnx_attribute(const Onnx__NodeProto *n, const char *name)
{
    for (size_t i = 0; i < n->n_attribute; i++)
        if (n->attribute[i]->name && strcmp(n->attribute[i]->name, name) == 0)
            return n->attribute[i];
    return NULL;
}

int64_t onnx_int(const Onnx__NodeProto *n, const char *name, int64_t otherwise)
{
    const Onnx__AttributeProto *a = onnx_attribute(n, name);
    return a ? a->i : otherwise; /* writers leave out a 0 */
}

double onnx_float(const Onnx__NodeProto *n, const char *name, double otherwise)
{
    const Onnx__AttributeProto *a = onnx_attribute(n, name);
    return a ? (double)a->f : otherwise;
}

int onnx_string_is(const Onnx__NodeProto *n, const char *name, const char *otherwise, const char *text)
{
    const Onnx__AttributeProto *a = onnx_attribute(n, name);
    if (!a)
        return strcmp(otherwise, text) == 0;
    return a->s.len == strlen(text) && (a->s.len == 0 || memcmp(a->s.data, text, a->s.len) == 0);
}

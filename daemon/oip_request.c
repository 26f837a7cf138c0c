// SPDX-License-Identifier: MIT
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base64.h"
#include "daemon/image.h"
#include "daemon/oip_json.h"
#include "models/json.h" /* JSON_NUMBER_MAX */

static uint32_t u32(const uint8_t *b)
{
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

/* Does what the input says of itself agree with the model? */
static int check_shape(const struct oip_json *p, struct err *e)
{
    const struct oip_input *in = &p->input;
    const struct oip_model *m = p->model;
    if (in->tensor != in->fp32)
        return err_set(e, ERR_INPUT, in->tensor ? "'tensor' must be FP32" : "'image' must be BYTES");
    if (in->shape[0] < 1 || in->shape[0] > OIP_IMAGES_MAX)
        return err_set(e, ERR_INPUT, "a request takes 1 to %d images, not %lld", OIP_IMAGES_MAX, (long long)in->shape[0]);
    if (!in->tensor && in->rank != 1)
        return err_set(e, ERR_INPUT, "the shape of 'image' must be [n], n being the number of images");
    if (in->tensor && (in->rank != 4 || in->shape[1] != 3 || in->shape[2] != m->height || in->shape[3] != m->width))
        return err_set(e, ERR_INPUT, "the shape of 'tensor' must be [n,3,%d,%d]", m->height, m->width);
    if ((in->data != NULL) == (in->binary_size >= 0))
        return err_set(e, ERR_INPUT,
                       in->data ? "the input has both 'data' and 'binary_data_size'"
                                : "the input has neither 'data' nor 'binary_data_size'");
    return 0;
}

static int check_data(const struct oip_json *p, struct err *e)
{
    const struct oip_input *in = &p->input;
    const struct oip_layout *l = &in->layout;
    int64_t elements = 1;
    int same = l->depth == in->rank;
    for (int i = 0; i < in->rank; i++) {
        elements *= in->shape[i];
        same = same && l->dims[i] == in->shape[i];
    }
    if (l->others || (in->tensor ? l->strings : l->numbers))
        return err_set(e, ERR_INPUT,
                       in->tensor ? "'data' of 'tensor' must be numbers" : "'data' of 'image' must be strings, images in base64");
    if (!same && !(l->depth == 1 && l->leaves == elements))
        return err_set(e, ERR_INPUT,
                       "'data' does not have the shape that 'shape' says, nor is it flat with %lld elements (it has %lld)",
                       (long long)elements, (long long)l->leaves);
    return 0;
}

static int images_from_json(const struct oip_json *p, struct err *e)
{
    struct oip_request *r = p->out;
    struct json_scan s;
    json_scan_start(&s, p->input.data, p->input.data_size);
    for (int i = 0; i < r->count;) {
        if (json_scan_next(&s, e) != JSON_STRING) /* a bracket: the layout has been checked */
            continue;
        char *text = p->text + (s.token - p->text);
        size_t len = json_scan_string(&s, text);
        if (base64_decode(text, len, &r->image[i].size, e) < 0) {
            err_prefix(e, "image %d", i + 1);
            return -1;
        }
        r->image[i++].bytes = (const uint8_t *)text;
    }
    return 0;
}

static size_t tensor_bytes(const struct oip_model *m)
{
    return (size_t)m->height * (size_t)m->width * 3 * sizeof(float);
}

/* Images one after the other, each a length of four bytes and so many bytes. */
static int images_from_binary(struct oip_request *r, const uint8_t *at, size_t left, struct err *e)
{
    for (int i = 0; i < r->count; i++) {
        size_t n = left < 4 ? 0 : u32(at);
        if (left < 4 || n > left - 4)
            return err_set(e, ERR_INPUT, "the binary data ends within image %d of %d", i + 1, r->count);
        r->image[i].bytes = at + 4;
        r->image[i].size = n;
        at += 4 + n;
        left -= 4 + n;
    }
    return left ? err_set(e, ERR_INPUT, "%zu bytes follow the last image of the binary data", left) : 0;
}

static int from_binary(const struct oip_json *p, const uint8_t *at, size_t size, struct err *e)
{
    const struct oip_input *in = &p->input;
    if ((uint64_t)in->binary_size != size)
        return err_set(e, ERR_INPUT, "binary_data_size says %lld bytes, but %zu follow the JSON", (long long)in->binary_size,
                       size);
    if (!in->tensor)
        return images_from_binary(p->out, at, size, e);
    size_t need = tensor_bytes(p->model) * (size_t)p->out->count;
    if (size != need)
        return err_set(e, ERR_INPUT, "the binary data of this tensor must be %zu bytes, not %zu", need, size);
    p->out->binary = at;
    return 0;
}

/* The whole body is the input, and all outputs are wanted as binary data. What it is shows: an image by its first bytes, bare or
   behind its length; a tensor by its size. */
static int raw(const uint8_t *body, size_t size, const struct oip_model *m, struct oip_request *out, struct err *e)
{
    out->count = 1;
    oip_all_outputs(out);
    for (int i = 0; i < OIP_TENSORS; i++)
        out->outputs[i].binary = 1;
    size_t counted = size > 4 && image_recognise(body + 4, size - 4) != IMAGE_UNKNOWN && u32(body) == size - 4 ? 4 : 0;
    if (counted || image_recognise(body, size) != IMAGE_UNKNOWN) {
        out->encoded = 1;
        out->image[0].bytes = body + counted;
        out->image[0].size = size - counted;
        return 0;
    }
    out->binary = body;
    return size == tensor_bytes(m) ? 0
                                   : err_set(e, ERR_INPUT, "the body is neither an image nor a tensor [1,3,%d,%d] of %zu bytes",
                                             m->height, m->width, tensor_bytes(m));
}

int oip_parse(uint8_t *body, size_t size, int64_t header, const struct oip_model *m, struct oip_request *out, struct err *e)
{
    memset(out, 0, sizeof *out);
    if (header > 0 && (uint64_t)header > size)
        return err_set(e, ERR_INPUT, "Inference-Header-Content-Length is %lld, the body has %zu bytes", (long long)header, size);
    if (header == 0)
        return raw(body, size, m, out, e);
    size_t text_size = header < 0 ? size : (size_t)header;
    struct oip_json p = {.out = out, .model = m};
    if (oip_json_read(&p, (char *)body, text_size, e) < 0 || check_shape(&p, e) < 0)
        return -1;
    out->count = (int)p.input.shape[0];
    out->encoded = !p.input.tensor;
    if (p.input.binary_size >= 0 && header < 0)
        return err_set(e, ERR_INPUT, "binary_data_size needs the header Inference-Header-Content-Length");
    if (p.input.binary_size >= 0)
        return from_binary(&p, body + text_size, size - text_size, e);
    if (text_size != size)
        return err_set(e, ERR_INPUT, "%zu bytes follow the JSON, but no input has binary_data_size", size - text_size);
    if (check_data(&p, e) < 0)
        return -1;
    if (out->encoded)
        return images_from_json(&p, e);
    json_scan_start(&out->scan, p.input.data, p.input.data_size);
    return 0;
}

/* The next number of a layout that has been checked. Whatever follows it in the array ends it for strtof, too. */
static float number(struct json_scan *s)
{
    struct err e;
    while (json_scan_next(s, &e) != JSON_NUMBER)
        ; /* brackets */
    return s->length > JSON_NUMBER_MAX ? INFINITY : strtof(s->token, NULL);
}

int oip_values(struct oip_request *r, const struct oip_model *m, float *out, struct err *e)
{
    const size_t plane = (size_t)m->height * (size_t)m->width;
    for (size_t c = 0; c < 3; c++)
        for (size_t i = 0; i < plane; i++) {
            float v;
            if (r->binary) {
                uint32_t bits = u32(r->binary);
                memcpy(&v, &bits, sizeof v);
                r->binary += sizeof v;
            } else {
                v = number(&r->scan);
            }
            if (!isfinite(v))
                return err_set(e, ERR_INPUT, "a value of 'tensor' is not finite, or beyond FP32");
            out[i * 3 + c] = v;
        }
    return 0;
}

// SPDX-License-Identifier: MIT
//
// Which operators there are, and those that become no node: they rename a value, pad it, or end the network.

#include "models/checkpoint/tflite_operators.h"

#include <stdio.h>

/* Fields of the schema's tables. */
enum { OPERATOR_CODE, OPERATOR_INPUTS, OPERATOR_OUTPUTS, OPERATOR_OPTIONS_TYPE, OPERATOR_OPTIONS };
enum { CODE_OLD_BUILTIN, CODE_CUSTOM, CODE_VERSION, CODE_BUILTIN };
enum { BUILTIN_CUSTOM = 32 };

/* The output is the same values as the input. */
static int pass(struct tflite_reader *r, const struct tflite_operation *o, struct tflite_value v, struct err *e)
{
    struct tflite_tensor t;
    if (tflite_take_output(r, o, &t, e))
        return -1;
    v.renamed = 1;
    r->values[o->out] = v;
    return 0;
}

static int read_pad(struct tflite_reader *r, const struct tflite_operation *o, struct err *e)
{
    struct tflite_tensor x, pads;
    struct tflite_value v;
    if (tflite_take_input(r, o, 0, 1, &x, &v, e) || tflite_check_kept(r, &x, o->out, e) ||
        tflite_read_tensor(r, o->in[1], &pads, e))
        return -1;
    if (x.rank != 4 || pads.type != TFLITE_I32 || !pads.data || pads.count != 8)
        return err_set(e, ERR_UNSUPPORTED, "its padding is not a constant of 4x2 int32");
    int32_t p[8];
    for (int i = 0; i < 8; i++) {
        p[i] = tflite_int32(&pads, i);
        if (p[i] < 0 || p[i] >= GRAPH_KERNEL_MAX || (p[i] && (i < 2 || i > 5)))
            return err_set(e, ERR_UNSUPPORTED, "pads other axes than height and width, or by less than 0 or more than %d",
                           GRAPH_KERNEL_MAX - 1);
    }
    if (v.pad_top | v.pad_left | v.pad_bottom | v.pad_right)
        return err_set(e, ERR_UNSUPPORTED, "follows another PAD");
    v.pad_top = p[2];
    v.pad_bottom = p[3];
    v.pad_left = p[4];
    v.pad_right = p[5];
    return pass(r, o, v, e);
}

/* RESHAPE and SQUEEZE of one pixel: only the number of dimensions changes. */
static int read_reshape(struct tflite_reader *r, const struct tflite_operation *o, struct err *e)
{
    struct tflite_tensor x;
    struct tflite_value v;
    int h, w, c;
    if (tflite_take_input(r, o, 0, 0, &x, &v, e) || tflite_image(&x, &h, &w, &c, e) || tflite_check_kept(r, &x, o->out, e))
        return -1;
    if (h != 1 || w != 1)
        return err_set(e, ERR_UNSUPPORTED, "changes the shape of %dx%d pixels; only 1x1 are read", h, w);
    return pass(r, o, v, e);
}

static int read_softmax(struct tflite_reader *r, const struct tflite_operation *o, struct err *e)
{
    struct tflite_tensor x;
    struct tflite_value v;
    if (tflite_take_input(r, o, 0, 0, &x, &v, e))
        return -1;
    if (fb_uint32(&o->options, 0, 0) != 0x3f800000) /* beta = 1.0f */
        return err_set(e, ERR_UNSUPPORTED, "has a beta other than 1");
    v.end = 1;
    return pass(r, o, v, e);
}

/* The ReLU of the node before, when nobody else reads that. */
static int read_relu(struct tflite_reader *r, const struct tflite_operation *o, struct err *e)
{
    struct tflite_tensor x;
    struct tflite_value v;
    uint32_t readers = 0;
    if (tflite_take_input(r, o, 0, 0, &x, &v, e))
        return -1;
    for (uint32_t i = 0; i < r->operators.count; i++) {
        const struct fb_table t = fb_at(&r->operators, i);
        const struct fb_vector in = fb_numbers(&t, OPERATOR_INPUTS, 4);
        for (uint32_t k = 0; k < in.count && k < TFLITE_INPUTS_MAX; k++)
            readers += fb_int32_at(&in, k) == o->in[0];
    }
    struct node *n = &r->net->graph.nodes[v.node];
    if (r->net->precision != PRECISION_FP32 || !(op_infos[n->op].attrs & ATTR_RELU) || v.renamed || readers != 1)
        return err_set(e, ERR_UNSUPPORTED, "does not follow a float convolution or ADD that only it reads");
    n->relu = 1;
    return pass(r, o, v, e);
}

/* At the input: float or uint8 pixels become int8. At the end: logits or probabilities as another type. */
static int read_quantize(struct tflite_reader *r, const struct tflite_operation *o, struct err *e)
{
    struct tflite_tensor x, y;
    struct quant q;
    if (tflite_read_tensor(r, o->in[0], &x, e) || tflite_read_tensor(r, o->out, &y, e))
        return -1;
    struct tflite_value v = r->values[o->in[0]];
    if (v.node == 0 && !v.end && !r->typed && y.type == TFLITE_I8) {
        if (tflite_quant(&y, &q, e))
            return -1;
        if (r->net->quants[0].scale != 0 && !tflite_same_quant(q, r->net->quants[0]))
            return err_set(e, ERR_UNSUPPORTED, "changes the scale or zero point of the input");
        r->net->quants[0] = q;
        return pass(r, o, v, e);
    }
    if (v.node > 0 && (y.type == TFLITE_U8 || y.type == TFLITE_F32)) {
        v.end = 1;
        return pass(r, o, v, e);
    }
    return err_set(e, ERR_UNSUPPORTED, "stands neither at the input nor at the end of the network");
}

/* Of weights: they are read where they are used. */
static int read_dequantize(struct tflite_reader *r, const struct tflite_operation *o, struct err *e)
{
    struct tflite_tensor x;
    if (tflite_read_tensor(r, o->in[0], &x, e))
        return -1;
    if (!x.data)
        return read_quantize(r, o, e);
    return pass(r, o, (struct tflite_value){.node = -1, .constant = o->in[0] + 1}, e);
}

/* ---- which is which */

static const struct builtin {
    int code;
    const char *name;
    int options;     /* number of the kind of options, 0: any */
    int least, most; /* inputs */
    int (*read)(struct tflite_reader *r, const struct tflite_operation *o, struct err *e); /* NULL: only its name is known */
} builtins[] = {
    {0, "ADD", 11, 2, 2, tflite_read_add},
    {1, "AVERAGE_POOL_2D", 5, 1, 1, tflite_read_avgpool},
    {2, "CONCATENATION", 0, 0, 0, NULL},
    {3, "CONV_2D", 1, 2, 3, tflite_read_conv},
    {4, "DEPTHWISE_CONV_2D", 0, 0, 0, NULL},
    {6, "DEQUANTIZE", 0, 1, 1, read_dequantize},
    {9, "FULLY_CONNECTED", 8, 2, 3, tflite_read_dense},
    {14, "LOGISTIC", 0, 0, 0, NULL},
    {17, "MAX_POOL_2D", 5, 1, 1, tflite_read_maxpool},
    {18, "MUL", 0, 0, 0, NULL},
    {19, "RELU", 0, 1, 1, read_relu},
    {21, "RELU6", 0, 0, 0, NULL},
    {22, "RESHAPE", 0, 1, 2, read_reshape},
    {25, "SOFTMAX", 9, 1, 1, read_softmax},
    {34, "PAD", 0, 2, 2, read_pad},
    {40, "MEAN", 0, 2, 2, tflite_read_mean},
    {41, "SUB", 0, 0, 0, NULL},
    {43, "SQUEEZE", 0, 1, 1, read_reshape},
    {60, "PADV2", 0, 0, 0, NULL},
    {114, "QUANTIZE", 0, 1, 1, read_quantize},
    {117, "HARD_SWISH", 0, 0, 0, NULL},
};

/* Old files have the code in a byte, new ones in an int; files for both have it twice, and 127 in the byte when it does not fit.
 */
static int32_t builtin_code(const struct tflite_reader *r, uint32_t index, char *custom, size_t size)
{
    const struct fb_table code = fb_at(&r->codes, index);
    const int32_t old = fb_int8(&code, CODE_OLD_BUILTIN, 0), now = fb_int32(&code, CODE_BUILTIN, 0);
    fb_string(&code, CODE_CUSTOM, custom, size);
    return old > now ? old : now;
}

static int read_operator(struct tflite_reader *r, const struct fb_table *t, const struct builtin *b, uint32_t index,
                         struct err *e)
{
    struct tflite_operation o = {.in = {-1, -1, -1}, .index = index, .options = fb_sub(t, OPERATOR_OPTIONS)};
    const struct fb_vector in = fb_numbers(t, OPERATOR_INPUTS, 4), out = fb_numbers(t, OPERATOR_OUTPUTS, 4);
    const int options = fb_int8(t, OPERATOR_OPTIONS_TYPE, 0);
    if ((int64_t)in.count < b->least || (int64_t)in.count > b->most || out.count != 1)
        return err_set(e, ERR_UNSUPPORTED, "has %u inputs and %u outputs", in.count, out.count);
    if (b->options && options != b->options)
        return err_set(e, ERR_DAMAGED, "has options of kind %d, must be %d", options, b->options);
    o.inputs = (int)in.count;
    o.out = fb_int32_at(&out, 0);
    for (int k = 0; k < o.inputs; k++)
        o.in[k] = fb_int32_at(&in, (uint32_t)k);
    for (int k = 0; k < o.inputs; k++)
        if (o.in[k] >= (int64_t)r->tensors.count || o.in[k] < (k < b->least ? 0 : -1))
            return err_set(e, ERR_DAMAGED, "its input, tensor %d, is not there", o.in[k]);
    if (o.out < 0 || o.out >= (int64_t)r->tensors.count)
        return err_set(e, ERR_DAMAGED, "its output, tensor %d, is not there", o.out);
    return b->read(r, &o, e);
}

int tflite_operator(struct tflite_reader *r, uint32_t i, struct err *e)
{
    char custom[32] = "", name[48];
    const struct fb_table t = fb_at(&r->operators, i);
    const uint32_t code_index = fb_uint32(&t, OPERATOR_CODE, 0);
    if (r->buffer.wrong || code_index >= r->codes.count)
        return r->buffer.wrong ? fb_check(&r->buffer, e)
                               : err_set(e, ERR_DAMAGED, "operator %u is of kind %u, which is not listed", i, code_index);
    const int32_t code = builtin_code(r, code_index, custom, sizeof custom);
    const struct builtin *b = NULL;
    for (size_t k = 0; k < sizeof builtins / sizeof *builtins; k++)
        if (builtins[k].code == code)
            b = &builtins[k];
    if (b)
        snprintf(name, sizeof name, "%s", b->name);
    else if (code == BUILTIN_CUSTOM)
        snprintf(name, sizeof name, "custom '%s'", custom);
    else
        snprintf(name, sizeof name, "code %d", code);
    int bad = b && b->read ? read_operator(r, &t, b, i, e) : err_set(e, ERR_UNSUPPORTED, "is not read");
    if (r->buffer.wrong)
        return fb_check(&r->buffer, e);
    return bad ? err_prefix(e, "operator %u (%s)", i, name) : 0;
}

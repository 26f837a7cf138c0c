// SPDX-License-Identifier: MIT

#include "config.h"

#include "models/checkpoint/onnx_write.h"

#include <stdlib.h>
#include <string.h>

#include "models/checkpoint/onnx.h"
#include "models/checkpoint/onnx_write_graph.h"
#include "models/output.h"

/* IR version 7 is the one that came with opset 13. */
#define IR_VERSION 7

/* ---- size ---- */

static int too_large(uint64_t bytes, struct err *e)
{
    return err_set(e, ERR_TOO_LARGE, "%llu bytes of ONNX; a protobuf message ends at %d", (unsigned long long)bytes,
                   ONNX_WRITE_MAX);
}

/* Of the weights alone, which is nearly all, before memory is taken for them. */
static int check_weights(const struct network *n, struct err *e)
{
    uint64_t bytes = 0;
    for (int i = 0; i < n->graph.count; i++)
        if (node_has_weights(&n->graph.nodes[i]))
            bytes += onnx_layer_bytes(n, i);
    return bytes > ONNX_WRITE_MAX ? too_large(bytes, e) : 0;
}

/* ---- bytes ---- */

struct sink { /* gathers the small pieces that protobuf-c hands over */
    ProtobufCBuffer base;
    const struct output *to;
    struct err *e;
    int bad;
    size_t used;
    uint8_t bytes[65536];
};

static void flush(struct sink *s)
{
    if (!s->bad)
        s->bad = output_write(s->to, s->bytes, s->used, s->e);
    s->used = 0;
}

static void append(ProtobufCBuffer *base, size_t size, const uint8_t *data)
{
    struct sink *s = (struct sink *)base;
    if (size > sizeof s->bytes - s->used)
        flush(s);
    if (size > sizeof s->bytes) {
        if (!s->bad)
            s->bad = output_write(s->to, data, size, s->e);
        return;
    }
    memcpy(s->bytes + s->used, data, size);
    s->used += size;
}

static int write_model(const char *path, const Onnx__ModelProto *m, struct err *e)
{
    struct output to;
    const size_t size = protobuf_c_message_get_packed_size(&m->base);
    if (size > ONNX_WRITE_MAX)
        return too_large(size, e);
    struct sink *s = malloc(sizeof *s);
    if (!s)
        return err_set(e, ERR_MEMORY, "no memory for a buffer");
    int bad = output_begin(path, &to, e);
    if (!bad) {
        *s = (struct sink){.base = {append}, .to = &to, .e = e};
        protobuf_c_message_pack_to_buffer(&m->base, &s->base);
        flush(s);
        bad = output_end(&to, s->bad, e);
    }
    free(s);
    return bad;
}

/* ---- the whole ---- */

/* labels and preprocess are made here and to be freed by the caller. */
static int describe(struct onnx_build *b, const struct network *n, char **labels, char **preprocess, struct err *e)
{
    *labels = n->label_count ? labels_to_json(n) : NULL;
    *preprocess = preprocess_to_json(&n->preprocess);
    Onnx__ModelProto *m = b->model;
    m->graph->name = (char *)onnx_put_text(b, "%s", n->name);
    m->producer_name = (char *)onnx_put_text(b, "resnetd");
    m->producer_version = (char *)onnx_put_text(b, "%s", PACKAGE_VERSION);
    m->has_ir_version = 1;
    m->ir_version = IR_VERSION;
    onnx_put_metadata(b, ONNX_METADATA "name", n->name);
    onnx_put_metadata(b, ONNX_METADATA "precision", precision_name(n->precision));
    onnx_put_metadata(b, ONNX_METADATA "labels", *labels);
    onnx_put_metadata(b, ONNX_METADATA "preprocess", *preprocess);
    onnx_put_metadata(b, ONNX_METADATA "quantization", n->quantization);
    onnx_put_metadata(b, ONNX_METADATA "provenance", n->provenance);
    onnx_put_metadata(b, ONNX_METADATA "accuracy", n->accuracy);
    return b->failed || !*preprocess || (n->label_count && !*labels) ? err_set(e, ERR_MEMORY, "no memory to describe it") : 0;
}

int onnx_write(const char *path, const struct network *n, struct err *e)
{
    if (check_weights(n, e) < 0)
        return err_prefix(e, "%.140s", path);
    struct onnx_build b;
    char *labels = NULL, *preprocess = NULL;
    onnx_build_start(&b, onnx_graph_room(&n->graph), ONNX_WRITE_OPSET);
    int bad = b.failed ? err_set(e, ERR_MEMORY, "no memory for its graph") : onnx_put_graph(&b, n, e);
    if (!bad)
        bad = describe(&b, n, &labels, &preprocess, e);
    if (!bad)
        bad = write_model(path, b.model, e);
    onnx_build_end(&b);
    free(labels);
    free(preprocess);
    return bad ? err_prefix(e, "%.140s", path) : 0;
}

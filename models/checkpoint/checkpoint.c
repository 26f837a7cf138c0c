// SPDX-License-Identifier: MIT

#include "config.h"

#include "models/checkpoint/checkpoint.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "models/checkpoint/hub_config.h"
#include "models/checkpoint/onnx.h"
#include "models/checkpoint/pth.h"
#include "models/checkpoint/tensors.h"
#include "models/checkpoint/tflite.h"
#include "models/input.h"
#include "models/resnet.h"

enum { START_BYTES = 64 };

struct start { /* of the file: what a probe sees */
    unsigned char bytes[START_BYTES];
    size_t size;
    uint64_t file_bytes;
};

/* ---- named tensors ---- */

static int build_tensors(const struct tensors *t, const struct import_options *o, struct hub_config *hub, struct network *out,
                         struct err *e)
{
    char arch[80] = "-v1"; /* whatever it is, with the strides of the original paper */
    const struct import_options wanted = {o->arch, o->preprocess || !hub->has_preprocess ? o->preprocess : &hub->preprocess};
    const size_t length = o->arch ? strlen(o->arch) : 0;
    if (o->arch && hub->first_stride)
        snprintf(arch, sizeof arch, "%s%s", o->arch, length > 3 && strcmp(o->arch + length - 3, "-v1") == 0 ? "" : "-v1");
    if (resnet_check_name(hub->architecture, e) < 0 ||
        checkpoint_preprocess(&wanted, resnet_preset(t), &out->preprocess, e) < 0 ||
        resnet_from_tensors(t, hub->first_stride ? arch : o->arch, out, e) < 0)
        return -1;
    if (hub->label_count == out->graph.nodes[out->graph.output].c) {
        out->labels = hub->labels;
        out->label_count = hub->label_count;
        hub->labels = NULL;
        hub->label_count = 0;
    }
    return 0;
}

static int import_tensors(struct tensors *t, const char *path, const struct import_options *o, struct network *out, struct err *e)
{
    struct hub_config hub;
    int bad = hub_config_read(path, &hub, e);
    if (!bad) {
        bad = build_tensors(t, o, &hub, out, e) < 0 ? err_prefix(e, "%s", path) : 0;
        hub_config_free(&hub);
    }
    tensors_close(t);
    return bad;
}

/* The header's length and the brace that the header starts with. */
static int probe_safetensors(const struct start *s)
{
    return s->size > 8 && s->bytes[8] == '{' && s->bytes[7] == 0;
}

static int import_safetensors(const char *path, const struct import_options *o, struct network *out, struct err *e)
{
    struct tensors *t;
    return tensors_open_safetensors(path, &t, e) < 0 ? -1 : import_tensors(t, path, o, out, e);
}

/* A zip archive, or a pickle as it is. */
static int probe_pth(const struct start *s)
{
    const unsigned char *b = s->bytes;
    return s->size >= 4 &&
           ((b[0] == 'P' && b[1] == 'K' && b[2] < 8 && b[3] == b[2] + 1) || (b[0] == 0x80 && b[1] >= 2 && b[1] <= 5));
}

static int import_pth(const char *path, const struct import_options *o, struct network *out, struct err *e)
{
    struct tensors *t;
    return pth_open(path, &t, e) < 0 ? -1 : import_tensors(t, path, o, out, e);
}

/* ---- ONNX ---- */

/* Field 1 is the version of the format, and a writer's name or the graph follows: protobuf has no surer sign. */
static int probe_onnx(const struct start *s)
{
    return s->size > 2 && s->bytes[0] == 0x08 && s->bytes[1] > 0 && s->bytes[1] < 64 && (s->bytes[2] & 7) == 2 &&
           s->bytes[2] < 0x80;
}

#ifndef HAVE_ONNX
int onnx_import(const char *path, const struct import_options *o, struct network *out, struct err *e)
{
    (void)o;
    (void)out;
    return err_set(e, ERR_UNSUPPORTED, "%s: an ONNX model; reading one needs protobuf-c, without which this program was built",
                   path);
}
#endif

/* ---- TensorFlow Lite ---- */

/* The identifier of a FlatBuffer of TensorFlow Lite's schema. */
static int probe_tflite(const struct start *s)
{
    return s->size >= 8 && memcmp(s->bytes + 4, "TFL3", 4) == 0;
}

/* ---- the table ---- */

static const struct reader {
    const char *name;
    const char *suffixes[3]; /* used only when no probe knows the content: the reader then says what is wrong with it */
    int (*probe)(const struct start *s);
    int (*import)(const char *path, const struct import_options *o, struct network *out, struct err *e);
} readers[] = {
    /* sure signs first */
    {"safetensors", {".safetensors"}, probe_safetensors, import_safetensors},
    {"TensorFlow Lite", {".tflite"}, probe_tflite, tflite_import},
    {"PyTorch", {".pth", ".pt"}, probe_pth, import_pth},
    {"ONNX", {".onnx"}, probe_onnx, onnx_import},
};

enum { READERS = sizeof readers / sizeof *readers };

static int has_suffix(const char *path, const struct reader *r)
{
    const size_t length = strlen(path);
    for (size_t i = 0; i < sizeof r->suffixes / sizeof *r->suffixes && r->suffixes[i]; i++) {
        const size_t n = strlen(r->suffixes[i]);
        if (length > n && strcmp(path + length - n, r->suffixes[i]) == 0)
            return 1;
    }
    return 0;
}

static int read_start(const char *path, struct start *s, struct err *e)
{
    int fd = input_open(AT_FDCWD, path, &s->file_bytes, e);
    if (fd < 0)
        return err_prefix(e, "%s", path);
    s->size = s->file_bytes < START_BYTES ? (size_t)s->file_bytes : START_BYTES;
    int bad = input_read(fd, s->bytes, s->size, 0, e);
    close(fd);
    return bad ? err_prefix(e, "%s", path) : 0;
}

int checkpoint_import(const char *path, const struct import_options *o, struct network *out, struct err *e)
{
    struct start start = {.size = 0};
    if (read_start(path, &start, e) < 0)
        return -1;
    const struct reader *found = NULL;
    for (int i = 0; i < READERS && !found; i++)
        if (readers[i].probe(&start))
            found = &readers[i];
    for (int i = 0; i < READERS && !found; i++)
        if (has_suffix(path, &readers[i]))
            found = &readers[i];
    if (!found) {
        char names[128];
        for (size_t i = 0, length = 0; i < READERS && length < sizeof names; i++)
            length += (size_t)snprintf(names + length, sizeof names - length, "%s%s", i ? ", " : "", readers[i].name);
        return err_set(e, ERR_UNSUPPORTED, "%s: not a checkpoint of a kind that is read here (%s)", path, names);
    }
    if (found->import(path, o, out, e) == 0)
        return 0;
    network_free(out);
    return -1;
}

int checkpoint_preprocess(const struct import_options *o, const char *preset, struct preprocess *out, struct err *e)
{
    if (!o->preprocess)
        return preprocess_preset(preset, out, e);
    *out = *o->preprocess;
    return 0;
}

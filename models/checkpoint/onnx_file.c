// SPDX-License-Identifier: MIT

#include "config.h" /* 64-bit file sizes on 32-bit machines */

#include "models/checkpoint/onnx_file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "models/checkpoint/onnx.h"
#include "models/input.h"

/* Two bytes of a file can ask for a message of a hundred, so what unpacking takes is bounded by the file's size: int8 values in
   int32_data take four bytes for one, everything else that is large is copied as it is. */
struct budget {
    size_t left;
    int spent, none;
};

static void *take(void *user, size_t size)
{
    struct budget *b = user;
    if (size > b->left) {
        b->spent = 1;
        return NULL;
    }
    b->left -= size;
    void *p = malloc(size ? size : 1);
    b->none |= !p;
    return p;
}

static void give(void *user, void *p)
{
    (void)user;
    free(p);
}

static int read_all(const char *path, uint8_t **out, size_t *size, struct err *e)
{
    uint64_t bytes = 0;
    int fd = input_open(AT_FDCWD, path, &bytes, e);
    if (fd < 0)
        return err_prefix(e, "%s", path);
    int bad = 0;
    if (bytes > ONNX_FILE_MAX)
        bad = err_set(e, ERR_TOO_LARGE, "%s: %llu bytes, the limit for ONNX is %llu", path, (unsigned long long)bytes,
                      ONNX_FILE_MAX);
    else if (!(*out = malloc(bytes ? (size_t)bytes : 1)))
        bad = err_set(e, ERR_MEMORY, "%s: no memory for %llu bytes", path, (unsigned long long)bytes);
    else if (input_read(fd, *out, (size_t)bytes, 0, e) < 0)
        bad = err_prefix(e, "%s", path);
    *size = (size_t)bytes;
    close(fd);
    return bad;
}

static int check(const char *path, const Onnx__ModelProto *m, struct err *e)
{
    const Onnx__GraphProto *g = m->graph;
    if (!g)
        return err_set(e, ERR_DAMAGED, "%s: no graph in it: not an ONNX model", path);
    size_t outputs = 0;
    for (size_t i = 0; i < g->n_node; i++)
        outputs += g->node[i]->n_output;
    if (g->n_node > ONNX_NODES_MAX || g->n_initializer > ONNX_NODES_MAX || outputs > ONNX_NODES_MAX ||
        g->n_input > ONNX_NODES_MAX)
        return err_set(e, ERR_TOO_LARGE, "%s: %zu nodes with %zu outputs, %zu initialisers, %zu inputs: the limit of each is %d",
                       path, g->n_node, outputs, g->n_initializer, g->n_input, ONNX_NODES_MAX);
    return 0;
}

int onnx_file_read(const char *path, Onnx__ModelProto **out, struct err *e)
{
    uint8_t *bytes = NULL;
    size_t size = 0;
    if (read_all(path, &bytes, &size, e) < 0) {
        free(bytes);
        return -1;
    }
    struct budget budget = {.left = 4 * size + (64u << 20)};
    ProtobufCAllocator allocator = {take, give, &budget};
    Onnx__ModelProto *m = onnx__model_proto__unpack(&allocator, size, bytes);
    free(bytes);
    if (!m)
        return budget.none    ? err_set(e, ERR_MEMORY, "%s: no memory to unpack it", path)
               : budget.spent ? err_set(e, ERR_TOO_LARGE, "%s: unpacks to more than its size allows", path)
                              : err_set(e, ERR_DAMAGED, "%s: truncated or no ONNX model: it is no protobuf message", path);
    if (check(path, m, e) < 0) {
        onnx_file_free(m);
        return -1;
    }
    *out = m;
    return 0;
}

void onnx_file_free(Onnx__ModelProto *m)
{
    ProtobufCAllocator allocator = {take, give, NULL};
    onnx__model_proto__free_unpacked(m, &allocator);
}

// SPDX-License-Identifier: MIT
//
// Any bytes as an ONNX model: refused with a reason and nothing left, or a network that passes its checks again and, when it is
// small, runs.

#include "models/checkpoint/onnx.h"

#include <stdio.h>
#include <stdlib.h>

#include "models/session.h"
#include "tests/fuzz/memory_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "fuzz_onnx: %s\n", what);
        abort();
    }
}

static int is_small(const struct graph *g)
{
    int64_t elements = 0;
    for (int i = 0; i < g->count; i++)
        elements += (int64_t)g->nodes[i].h * g->nodes[i].w * g->nodes[i].c;
    return graph_macs(g) < 1 << 20 && elements < 1 << 20;
}

static void use(struct network *n)
{
    struct err e;
    struct model *m;
    struct session *s = NULL;
    require(graph_check(&n->graph, &e) == 0, "a graph that does not pass its checks");
    if (!is_small(&n->graph) || model_from_network(n, kernels_pick(0, "ref"), &m, &e) < 0)
        return;
    const size_t pixels = (size_t)n->graph.nodes[0].h * (size_t)n->graph.nodes[0].w;
    uint8_t *rgb = calloc(pixels, 3);
    require(rgb && session_new(m, 1, NULL, &s, &e) == 0, "no memory");
    session_set_pixels(s, 0, rgb);
    session_run(s, 1);
    session_free(s);
    model_free(m);
    free(rgb);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct preprocess raw = {.scale = 1, .std = {1, 1, 1}};
    struct network n = {.name = ""};
    struct err e = {.text = ""};
    const char *path = memory_file(data, size, NULL);
    if (onnx_import(path, &(struct import_options){NULL, &raw}, &n, &e) == 0)
        use(&n);
    else
        require(e.text[0] != '\0' && !n.layers && !n.graph.nodes, "an error without a reason, or with a network");
    network_free(&n);
    return 0;
}

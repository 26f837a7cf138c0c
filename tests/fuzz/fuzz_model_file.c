// SPDX-License-Identifier: MIT
//
// Any bytes as a model file: refused with a reason, or a network. The digests in the file stop nearly every change, so the header
// is also read alone, where they are not compared: metadata, graph and tensors, which is where the parsers are.

#include "models/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/memory_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "fuzz_model_file: %s\n", what);
        abort();
    }
}

/* A graph that was accepted comes out of its own text again. */
static void check_header(const struct network *n)
{
    struct graph again;
    struct err e;
    char *text = graph_to_json(&n->graph);
    require(text != NULL, "no memory");
    require(graph_from_json(text, &again, &e) == 0, "an accepted graph is refused the second time");
    require(again.count == n->graph.count, "a graph changes when it is written");
    require(memcmp(again.nodes, n->graph.nodes, (size_t)again.count * sizeof *again.nodes) == 0,
            "a node changes when it is written");
    require(graph_macs(&n->graph) >= 0, "the multiplications overflow");
    graph_free(&again);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct network n;
    struct err e = {.text = ""};
    const char *path = memory_file(data, size, NULL);

    const int header = model_file_header(path, &n, &e);
    if (header == 0)
        check_header(&n);
    else
        require(e.text[0] && !n.graph.nodes && !n.layers, "an error without a reason, or with something left behind");
    network_free(&n);
    e.text[0] = '\0';
    if (model_file_read(path, &n, &e) == 0)
        require(header == 0, "a header is refused alone and accepted with its data");
    else
        require(e.text[0] && !n.graph.nodes && !n.layers, "an error without a reason, or with something left behind");
    network_free(&n);
    return 0;
}

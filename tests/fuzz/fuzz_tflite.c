// SPDX-License-Identifier: MIT
//
// Any bytes as a .tflite file: refused with a reason, or a network that the model file accepts and that runs.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/checkpoint/tflite.h"
#include "models/session.h"
#include "tests/fuzz/memory_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition, const char *what, const struct err *e)
{
    if (!condition) {
        fprintf(stderr, "fuzz_tflite: %s: %s\n", what, e->text);
        abort();
    }
}

static void run(const struct network *n)
{
    struct model *m;
    struct session *s;
    struct err e;
    if (model_from_network(n, kernels_find("ref"), &m, &e))
        return; /* no memory */
    if (session_new(m, 1, NULL, &s, &e) == 0) {
        const struct node *in = &n->graph.nodes[0];
        uint8_t *rgb = malloc((size_t)in->h * (size_t)in->w * 3);
        for (int i = 0; rgb && i < in->h * in->w * 3; i++)
            rgb[i] = (uint8_t)(37 * i);
        if (rgb) {
            session_set_pixels(s, 0, rgb);
            session_run(s, 1);
        }
        free(rgb);
        session_free(s);
    }
    model_free(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct import_options none = {0};
    struct network n = {0};
    struct err e = {.text = ""};
    const char *path = memory_file(data, size, NULL);
    if (tflite_import(path, &none, &n, &e)) {
        require(!n.graph.nodes && !n.layers && e.text[0] != '\0', "an error without a reason", &e);
    } else {
        int64_t elements = 0;
        for (int i = 0; i < n.graph.count; i++) {
            const struct node *d = &n.graph.nodes[i];
            elements += (int64_t)d->h * d->w * d->c;
            require(node_has_weights(d) == (n.layers[i].weight != NULL), "weights without a layer", &e);
        }
        if (graph_macs(&n.graph) < 1000000 && elements < 1000000)
            run(&n);
        network_free(&n);
    }
    return 0;
}

// SPDX-License-Identifier: MIT
//
// ctl_inspect.c - everything about a model file, after checking all of it.

#include "daemon/ctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/pool.h"
#include "models/file.h"
#include "models/plan.h"

struct options {
    int json;
};

static const struct ctl_option options[] = {
    {"json", 0, CTL_FLAG, offsetof(struct options, json), 0, 0, NULL, "print everything as JSON"},
    {0},
};

static const struct ctl_usage usage = {
    "inspect MODEL... [--json]",
    "Shows what model files hold and checks them: shapes, weights and the digest over all data.\n"
    "MODEL is a file, or a directory, of which every precision is shown.",
    options, 1, -1};

static long long parameters(const struct graph *g)
{
    long long n = 0;
    for (int i = 0; i < g->count; i++)
        if (node_has_weights(&g->nodes[i]))
            n += node_weights(g, i) + g->nodes[i].c;
    return n;
}

/* Activations of one image: if every tensor had memory of its own, and as the plan lays them out. */
static int activations(const struct network *n, size_t *unplanned, size_t *planned, struct err *e)
{
    struct plan plan;
    if (plan_make(&n->graph, activation_bytes(n->precision), &plan, e) < 0)
        return -1;
    *unplanned = plan.sum_bytes;
    *planned = plan.arena_bytes;
    plan_free(&plan);
    return 0;
}

static void input_names(const struct graph *g, const struct node *n, char text[2 * GRAPH_NAME_MAX + 4])
{
    snprintf(text, 2 * GRAPH_NAME_MAX + 4, "%s%s%s", n->in[0] >= 0 ? g->nodes[n->in[0]].name : "", n->in[1] >= 0 ? ", " : "",
             n->in[1] >= 0 ? g->nodes[n->in[1]].name : "");
}

static void show(const char *path, const struct network *n, size_t unplanned, size_t planned)
{
    const struct graph *g = &n->graph;
    const struct node *in = &g->nodes[0], *out = &g->nodes[g->output];
    char size[16], kept[16], *preprocess = preprocess_to_json(&n->preprocess);
    ctl_size((double)ctl_file_bytes(path), size);
    printf("file          %s, %s\n", path, size);
    printf("digest        sha256:%s (verified)\n", n->digest);
    printf("name          %s\n", n->name);
    printf("precision     %s\n", precision_name(n->precision));
    printf("input         %dx%d pixels\n", in->w, in->h);
    printf("classes       %d, %s\n", out->c, n->label_count ? "with labels" : "without labels");
    printf("parameters    %.3f M\n", (double)parameters(g) / 1e6);
    printf("MACs          %.3f G per image\n", (double)graph_macs(g) / 1e9);
    ctl_size((double)unplanned, kept);
    ctl_size((double)planned, size);
    printf("activations   %s if every tensor had its own memory, %s as planned\n", kept, size);
    printf("preprocess    %s\n", preprocess ? preprocess : "-");
    printf("self-test     %d image%s with logits\n", n->selftest.images, n->selftest.images == 1 ? "" : "s");
    printf("provenance    %s\n", n->provenance ? n->provenance : "-");
    printf("accuracy      %s\n", n->accuracy ? n->accuracy : "-");
    free(preprocess);

    int width = 4;
    for (int i = 0; i < g->count; i++) {
        int length = (int)strlen(g->nodes[i].name);
        width = length > width ? length : width;
    }
    printf("\n%-*s  %-10s  %-10s  %-14s  %12s  %s%s\n", width, "node", "op", "window", "output", "MACs",
           n->quants ? "range               " : "", "inputs");
    for (int i = 0; i < g->count; i++) {
        const struct node *node = &g->nodes[i];
        char window[48], shape[48], inputs[2 * GRAPH_NAME_MAX + 4], range[64] = "";
        ctl_window(node, window);
        ctl_shape(node, shape);
        input_names(g, node, inputs);
        if (node->half) {
            snprintf(range, sizeof range, "%-20s", "    half");
        } else if (n->quants) {
            const struct quant *q = &n->quants[i];
            snprintf(range, sizeof range, "%8.3g .. %-8.3g", (double)q->scale * (-128 - q->zero),
                     (double)q->scale * (127 - q->zero));
        }
        printf("%-*s  %-10s  %-10s  %-14s  %12lld  %s%s%s%s\n", width, node->name, op_name(node->op), window, shape,
               (long long)node_macs(g, i), range, *range ? "  " : "", inputs, node->relu ? "  relu" : "");
    }
}

static cJSON *node_json(const struct network *n, int i)
{
    const struct graph *g = &n->graph;
    const struct node *node = &g->nodes[i];
    cJSON *o = cJSON_CreateObject();
    const int shape[3] = {node->h, node->w, node->c};
    int bad = ctl_put_text(o, "name", node->name);
    bad |= ctl_put_text(o, "op", op_name(node->op));
    bad |= ctl_put_item(o, "shape", cJSON_CreateIntArray(shape, 3));
    bad |= ctl_put_number(o, "macs", (double)node_macs(g, i), 17);
    bad |= ctl_put_number(o, "weights", (double)node_weights(g, i), 17);
    bad |= ctl_put_text(o, "precision", precision_name(node_precision(node, n->precision)));
    if (n->quants && !node->half) {
        bad |= ctl_put_number(o, "scale", (double)n->quants[i].scale, 9);
        bad |= ctl_put_number(o, "zero", n->quants[i].zero, 9);
    }
    return ctl_whole(o, bad);
}

static cJSON *network_json(const char *path, const struct network *n, size_t unplanned, size_t planned)
{
    const struct graph *g = &n->graph;
    cJSON *o = cJSON_CreateObject(), *labels = cJSON_CreateArray(), *nodes = cJSON_CreateArray();
    char *preprocess = preprocess_to_json(&n->preprocess);
    int bad = !preprocess;
    bad |= ctl_put_text(o, "file", path);
    bad |= ctl_put_number(o, "file_bytes", (double)ctl_file_bytes(path), 17);
    bad |= ctl_put_text(o, "digest", n->digest);
    bad |= ctl_put_text(o, "name", n->name);
    bad |= ctl_put_text(o, "precision", precision_name(n->precision));
    bad |= ctl_put_number(o, "width", g->nodes[0].w, 9);
    bad |= ctl_put_number(o, "height", g->nodes[0].h, 9);
    bad |= ctl_put_number(o, "classes", g->nodes[g->output].c, 9);
    bad |= ctl_put_number(o, "parameters", (double)parameters(g), 17);
    bad |= ctl_put_number(o, "macs", (double)graph_macs(g), 17);
    bad |= ctl_put_number(o, "selftest_images", n->selftest.images, 9);
    bad |= ctl_put_number(o, "unplanned_bytes", (double)unplanned, 17);
    bad |= ctl_put_number(o, "planned_bytes", (double)planned, 17);
    bad |= ctl_put_raw(o, "preprocess", preprocess);
    bad |= ctl_put_raw(o, "provenance", n->provenance);
    bad |= ctl_put_raw(o, "accuracy", n->accuracy);
    bad |= ctl_put_raw(o, "quantization", n->quantization);
    for (int i = 0; i < n->label_count; i++)
        bad |= ctl_append(labels, cJSON_CreateString(n->labels[i]));
    bad |= ctl_put_item(o, "labels", labels);
    for (int i = 0; i < g->count; i++)
        bad |= ctl_append(nodes, node_json(n, i));
    bad |= ctl_put_item(o, "nodes", nodes);
    free(preprocess);
    return ctl_whole(o, bad);
}

int ctl_inspect(int argc, char **argv)
{
    struct options o = {0};
    int status, first = ctl_parse(&usage, argc, argv, &o, &status);
    if (first < 0)
        return status;

    struct ctl_files files;
    struct err e;
    if (ctl_files_find(argv + first, argc - first, &files, &e) != 0)
        return ctl_fail(&e);
    cJSON *models = o.json ? cJSON_CreateArray() : NULL;
    int bad = 0;
    status = CTL_DONE;
    for (int i = 0; i < files.count; i++) {
        struct network n = {0};
        size_t unplanned, planned;
        if (model_file_stream(files.paths[i], NULL, &(struct layer_sink){0}, &n, &e) != 0 ||
            activations(&n, &unplanned, &planned, &e) != 0) {
            status = ctl_fail(&e);
        } else if (o.json) {
            bad |= ctl_append(models, network_json(files.paths[i], &n, unplanned, planned));
        } else {
            printf("%s", i ? "\n" : "");
            show(files.paths[i], &n, unplanned, planned);
        }
        network_free(&n);
    }
    ctl_files_free(&files);
    if (o.json && status == CTL_DONE) {
        cJSON *root = cJSON_CreateObject();
        bad |= ctl_put_item(root, "models", models);
        return ctl_print_json(root, bad);
    }
    cJSON_Delete(models);
    return status;
}

// SPDX-License-Identifier: MIT
//
// graph_json.c - a graph as JSON text and back; docs/model-format.md describes the text.

#include <stdlib.h>
#include <string.h>

#include "models/graph.h"
#include "models/json.h"

/* ---- writing: cJSON's add functions return NULL when memory is short, hence the chains of && */

static int add_ints(cJSON *o, const char *name, const int *v, int count)
{
    cJSON *a = cJSON_CreateIntArray(v, count);
    if (a && cJSON_AddItemToObject(o, name, a))
        return 1;
    cJSON_Delete(a);
    return 0;
}

static int add_inputs(cJSON *o, const struct graph *g, const struct node *n)
{
    const char *names[2];
    const int count = op_infos[n->op].inputs;
    if (count == 0)
        return 1;
    for (int k = 0; k < count; k++)
        names[k] = g->nodes[n->in[k]].name;
    cJSON *a = cJSON_CreateStringArray(names, count);
    if (a && cJSON_AddItemToObject(o, "inputs", a))
        return 1;
    cJSON_Delete(a);
    return 0;
}

/* Kernel, channels and shape always; the rest where it is not the default. */
static int add_attributes(cJSON *o, const struct node *n)
{
    const unsigned attrs = op_infos[n->op].attrs;
    const int shape[] = {n->c, n->h, n->w}, kernel[] = {n->kernel_h, n->kernel_w}, stride[] = {n->stride_h, n->stride_w};
    const int pad[] = {n->pad_top, n->pad_left, n->pad_bottom, n->pad_right}, pad_channels[] = {n->pad_before, n->pad_after};

    return (!(attrs & ATTR_SHAPE) || add_ints(o, "shape", shape, 3)) &&
           (!(attrs & ATTR_CHANNELS) || cJSON_AddNumberToObject(o, "out_channels", n->c)) &&
           (!(attrs & ATTR_KERNEL) || add_ints(o, "kernel", kernel, 2)) &&
           ((stride[0] == 1 && stride[1] == 1) || add_ints(o, "stride", stride, 2)) &&
           (!(pad[0] | pad[1] | pad[2] | pad[3]) || add_ints(o, "pad", pad, 4)) &&
           (n->groups == 1 || cJSON_AddNumberToObject(o, "groups", n->groups)) &&
           (!(attrs & ATTR_PAD_CHANNELS) || add_ints(o, "pad_channels", pad_channels, 2)) &&
           (!n->relu || cJSON_AddTrueToObject(o, "relu")) && (!n->keep_output || cJSON_AddTrueToObject(o, "keep_output")) &&
           (!(attrs & ATTR_HALF) || !n->half || cJSON_AddTrueToObject(o, "half"));
}

static int add_node(cJSON *nodes, const struct graph *g, const struct node *n)
{
    cJSON *o = cJSON_CreateObject();
    if (o && cJSON_AddStringToObject(o, "name", n->name) && cJSON_AddStringToObject(o, "op", op_name(n->op)) &&
        add_inputs(o, g, n) && add_attributes(o, n) && cJSON_AddItemToArray(nodes, o))
        return 1;
    cJSON_Delete(o);
    return 0;
}

char *graph_to_json(const struct graph *g)
{
    char *text = NULL;
    cJSON *root = cJSON_CreateObject();
    cJSON *nodes = root ? cJSON_AddArrayToObject(root, "nodes") : NULL;
    int ok = nodes != NULL;
    for (int i = 0; ok && i < g->count; i++)
        ok = add_node(nodes, g, &g->nodes[i]);
    if (ok && cJSON_AddStringToObject(root, "output", g->nodes[g->output].name))
        text = cJSON_PrintUnformatted(root);
    cJSON_Delete(root);
    return text;
}

/* ---- reading: types and names here, ranges mostly in graph_check */

/* `count` integers that fit an int. With optional, an absent member leaves out as it is. */
static int read_ints(const cJSON *o, const char *name, int optional, int *out, int count, struct err *e)
{
    const cJSON *a = cJSON_GetObjectItemCaseSensitive(o, name);
    if (!a && optional)
        return 0;
    int i = 0;
    if (cJSON_IsArray(a) && cJSON_GetArraySize(a) == count)
        for (const cJSON *v = a->child; v; v = v->next) {
            if (!cJSON_IsNumber(v) || !(v->valuedouble >= 0 && v->valuedouble <= 1e9) || v->valuedouble != (int)v->valuedouble)
                break;
            out[i++] = (int)v->valuedouble;
        }
    return i == count ? 0 : err_set(e, ERR_INPUT, "%s must be an array of %d whole numbers", name, count);
}

static int read_count(const cJSON *o, const char *name, int *out, struct err *e)
{
    long long v;
    if (json_int(o, name, 1, GRAPH_CHANNELS_MAX, &v, e))
        return -1;
    *out = (int)v;
    return 0;
}

static int read_flag(const cJSON *o, const char *name, int *out, struct err *e)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, name);
    if (v && !cJSON_IsBool(v))
        return err_set(e, ERR_INPUT, "%s must be true or false", name);
    *out = cJSON_IsTrue(v);
    return 0;
}

static int check_keys(const cJSON *o, const struct op_info *op, struct err *e)
{
    static const struct {
        unsigned attr;
        const char *key;
    } all[] = {
        {ATTR_SHAPE, "shape"}, {ATTR_CHANNELS, "out_channels"}, {ATTR_KERNEL, "kernel"}, {ATTR_STRIDE, "stride"},
        {ATTR_PAD, "pad"},     {ATTR_GROUPS, "groups"},         {ATTR_RELU, "relu"},     {ATTR_PAD_CHANNELS, "pad_channels"},
        {ATTR_KEEP_OUTPUT, "keep_output"}, {ATTR_HALF, "half"}};
    const char *keys[sizeof all / sizeof *all + 4] = {"name", "op"};
    int count = 2;
    if (op->inputs)
        keys[count++] = "inputs";
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (op->attrs & all[i].attr)
            keys[count++] = all[i].key;
    return json_only(o, keys, e);
}

static int read_attributes(const cJSON *o, struct node *n, struct err *e)
{
    const unsigned attrs = op_infos[n->op].attrs;
    int shape[3] = {0}, kernel[2] = {1, 1}, stride[2] = {1, 1}, pad[4] = {0}, pad_channels[2] = {0};

    if (check_keys(o, &op_infos[n->op], e) || (attrs & ATTR_SHAPE && read_ints(o, "shape", 0, shape, 3, e)) ||
        (attrs & ATTR_CHANNELS && read_count(o, "out_channels", &n->c, e)) ||
        (attrs & ATTR_KERNEL && read_ints(o, "kernel", 0, kernel, 2, e)) || read_ints(o, "stride", 1, stride, 2, e) ||
        read_ints(o, "pad", 1, pad, 4, e) || (attrs & ATTR_PAD_CHANNELS && read_ints(o, "pad_channels", 0, pad_channels, 2, e)) ||
        (cJSON_HasObjectItem(o, "groups") && read_count(o, "groups", &n->groups, e)) || read_flag(o, "relu", &n->relu, e) ||
        read_flag(o, "keep_output", &n->keep_output, e) || read_flag(o, "half", &n->half, e))
        return -1;
    if (attrs & ATTR_SHAPE) {
        n->c = shape[0];
        n->h = shape[1];
        n->w = shape[2];
    }
    n->kernel_h = kernel[0];
    n->kernel_w = kernel[1];
    n->stride_h = stride[0];
    n->stride_w = stride[1];
    n->pad_top = pad[0];
    n->pad_left = pad[1];
    n->pad_bottom = pad[2];
    n->pad_right = pad[3];
    n->pad_before = pad_channels[0];
    n->pad_after = pad_channels[1];
    return 0;
}

static int find_op(const char *name)
{
    int op = OPS - 1;
    while (op >= 0 && strcmp(name, op_infos[op].name) != 0)
        op--;
    return op;
}

static int read_node(const cJSON *o, struct graph *g, struct err *e)
{
    const char *name, *op_text;
    if (!cJSON_IsObject(o))
        return err_set(e, ERR_INPUT, "is not an object");
    if (json_string(o, "name", &name, e) || json_string(o, "op", &op_text, e))
        return -1;
    const int op = find_op(op_text);
    if (op < 0)
        return err_set(e, ERR_UNSUPPORTED, "op '%.32s' is not known", op_text);
    if (strlen(name) >= GRAPH_NAME_MAX)
        return err_set(e, ERR_INPUT, "name is longer than %d characters", GRAPH_NAME_MAX - 1);
    struct node *n = graph_add(g, (enum op)op, "%s", name);
    if (!n)
        return err_set(e, ERR_MEMORY, "no memory");
    return read_attributes(o, n, e);
}

static int read_inputs(const cJSON *o, struct node *n, const struct graph_name *names, int count, struct err *e)
{
    const int inputs = op_infos[n->op].inputs;
    if (inputs == 0)
        return 0;
    const cJSON *a = cJSON_GetObjectItemCaseSensitive(o, "inputs");
    if (!cJSON_IsArray(a) || cJSON_GetArraySize(a) != inputs)
        return err_set(e, ERR_INPUT, "inputs must be an array of %d node names", inputs);
    int k = 0;
    for (const cJSON *v = a->child; v; v = v->next, k++) {
        if (!cJSON_IsString(v))
            return err_set(e, ERR_INPUT, "inputs must be an array of %d node names", inputs);
        n->in[k] = graph_names_find(names, count, v->valuestring);
        if (n->in[k] < 0)
            return err_set(e, ERR_INPUT, "input '%.96s' is no node", v->valuestring);
    }
    return 0;
}

static int read_graph(const cJSON *root, struct graph *g, struct err *e)
{
    static const char *const keys[] = {"nodes", "output", NULL};
    const cJSON *nodes = cJSON_GetObjectItemCaseSensitive(root, "nodes");
    const char *output;

    if (!cJSON_IsObject(root) || !cJSON_IsArray(nodes))
        return err_set(e, ERR_INPUT, "graph: must be an object with an array of nodes");
    if (json_only(root, keys, e) || json_string(root, "output", &output, e))
        return err_prefix(e, "graph");
    if (cJSON_GetArraySize(nodes) > GRAPH_NODES_MAX)
        return err_set(e, ERR_TOO_LARGE, "graph: %d nodes, the limit is %d", cJSON_GetArraySize(nodes), GRAPH_NODES_MAX);
    int i = 0;
    for (const cJSON *o = nodes->child; o; o = o->next, i++)
        if (read_node(o, g, e))
            return err_prefix(e, "graph: node %d", i);

    struct graph_name *names = graph_names(g);
    if (!names)
        return err_set(e, ERR_MEMORY, "graph: no memory");
    int r = 0;
    i = 0;
    for (const cJSON *o = nodes->child; o && r == 0; o = o->next, i++)
        if (read_inputs(o, &g->nodes[i], names, g->count, e))
            r = err_prefix(e, "graph: node '%s'", g->nodes[i].name);
    g->output = graph_names_find(names, g->count, output);
    free(names);
    return r ? r : graph_check(g, e);
}

int graph_from_json(const char *text, struct graph *out, struct err *e)
{
    struct graph g = {0};
    cJSON *root = json_parse(text, strlen(text), e);
    if (!root)
        return err_prefix(e, "graph");
    int r = read_graph(root, &g, e);
    cJSON_Delete(root);
    if (r)
        graph_free(&g);
    else
        *out = g;
    return r;
}

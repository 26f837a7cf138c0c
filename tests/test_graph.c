// SPDX-License-Identifier: MIT
//
// test_graph.c - shapes, limits, and graphs that must be refused.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "models/graph.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* Every op, groups, padding on one side only, a shortcut with more channels. */
static const char all_ops[] =
    "{\"nodes\":[{\"name\":\"input\",\"op\":\"input\",\"shape\":[3,33,32]},"
    "{\"name\":\"conv1\",\"op\":\"conv\",\"inputs\":[\"input\"],\"out_channels\":8,\"kernel\":[7,3],\"stride\":[2,1],\"pad\":[3,"
    "1,2,0],"
    "\"relu\":true},"
    "{\"name\":\"pool\",\"op\":\"maxpool\",\"inputs\":[\"conv1\"],\"kernel\":[3,3],\"stride\":[2,2],\"pad\":[1,1,1,1]},"
    "{\"name\":\"l.0.conv\",\"op\":\"conv\",\"inputs\":[\"pool\"],\"out_channels\":12,\"kernel\":[3,3],\"stride\":[2,2],\"pad\":["
    "0,0,1,1],"
    "\"groups\":4,\"keep_output\":true},"
    "{\"name\":\"l.0.skip\",\"op\":\"shortcut\",\"inputs\":[\"pool\"],\"stride\":[2,2],\"pad_channels\":[1,3]},"
    "{\"name\":\"l.0.add\",\"op\":\"add\",\"inputs\":[\"l.0.conv\",\"l.0.skip\"],\"relu\":true},"
    "{\"name\":\"avgpool\",\"op\":\"avgpool\",\"inputs\":[\"l.0.add\"]},"
    "{\"name\":\"fc\",\"op\":\"dense\",\"inputs\":[\"avgpool\"],\"out_channels\":10}],\"output\":\"fc\"}";

static struct graph parse(const char *text)
{
    struct graph g;
    struct err e = {0};
    if (graph_from_json(text, &g, &e))
        fail_msg("%s\n  %s", e.text, text);
    return g;
}

static void shapes(void **state)
{
    (void)state;
    static const int want[][3] = {{33, 32, 3}, {16, 31, 8}, {8, 16, 8}, {4, 8, 12},
                                  {4, 8, 12},  {4, 8, 12},  {1, 1, 12}, {1, 1, 10}};
    struct graph g = parse(all_ops);
    assert_int_equal(g.count, COUNT(want));
    for (int i = 0; i < g.count; i++)
        if (g.nodes[i].h != want[i][0] || g.nodes[i].w != want[i][1] || g.nodes[i].c != want[i][2])
            fail_msg("%s is %dx%dx%d", g.nodes[i].name, g.nodes[i].h, g.nodes[i].w, g.nodes[i].c);
    assert_int_equal(g.output, 7);
    assert_int_equal(g.nodes[5].in[0], 3);
    assert_int_equal(g.nodes[5].in[1], 4);

    assert_int_equal(node_depth(&g, 1), 7 * 3 * 3);
    assert_int_equal(node_weights(&g, 1), 8 * 63);
    assert_int_equal(node_depth(&g, 3), 3 * 3 * 2);
    assert_int_equal(node_weights(&g, 3), 12 * 18);
    assert_int_equal(node_weights(&g, 2), 0);
    assert_int_equal(node_macs(&g, 1), 8 * 63 * 16 * 31);
    assert_int_equal(graph_macs(&g), 8 * 63 * 16 * 31 + 12 * 18 * 4 * 8 + 120);
    graph_free(&g);
    assert_null(g.nodes);
    graph_free(&g);
}

static void json_round_trip(void **state)
{
    (void)state;
    struct graph g = parse(all_ops);
    char *text = graph_to_json(&g);
    assert_string_equal(text, all_ops);
    struct graph copy;
    struct err e;
    assert_int_equal(graph_copy(&g, &copy, &e), 0);
    assert_int_equal(graph_check(&copy, &e), 0);
    assert_memory_equal(copy.nodes, g.nodes, (size_t)g.count * sizeof *g.nodes);
    assert_int_equal(copy.output, g.output);
    assert_non_null(graph_add(&copy, OP_DENSE, "after.%d", 1)); /* a copy can grow */
    assert_string_equal(copy.nodes[8].name, "after.1");
    graph_free(&copy);
    graph_free(&g);
    free(text);
}

/* Defaults may be written out, and the order of members is free. */
static void json_defaults(void **state)
{
    (void)state;
    struct graph g =
        parse("{\"output\":\"c\",\"nodes\":[{\"shape\":[3,5,5],\"op\":\"input\",\"name\":\"i\"},"
              "{\"name\":\"c\",\"op\":\"conv\",\"inputs\":[\"i\"],\"kernel\":[5,5],\"out_channels\":65536,\"relu\":false,"
              "\"groups\":1,\"stride\":[1,1],\"pad\":[0,0,0,0]}]}");
    char *text = graph_to_json(&g);
    assert_string_equal(text, "{\"nodes\":[{\"name\":\"i\",\"op\":\"input\",\"shape\":[3,5,5]},{\"name\":\"c\",\"op\":\"conv\","
                              "\"inputs\":[\"i\"],\"out_channels\":65536,\"kernel\":[5,5]}],\"output\":\"c\"}");
    free(text);
    graph_free(&g);
}

static void json_refused(void **state)
{
    (void)state;
    /* all_ops with one text replaced, and a word that the error must hold */
    static const struct {
        const char *from, *to, *word;
    } cases[] = {
        {all_ops, "", "graph"},
        {all_ops, "[]", "graph"},
        {all_ops, "{}", "nodes"},
        {all_ops, "{\"nodes\":[],\"output\":\"fc\"}", "nodes"},
        {all_ops, "{\"nodes\":{},\"output\":\"fc\"}", "nodes"},
        {all_ops, "{\"nodes\":[3],\"output\":\"fc\"}", "node 0"},
        {",\"output\":\"fc\"", "", "output"},
        {"\"output\":\"fc\"", "\"output\":7", "output"},
        {"\"output\":\"fc\"", "\"output\":\"pool\"", "pool"},
        {"\"output\":\"fc\"", "\"output\":\"no\"", "output"},
        {"\"output\":\"fc\"", "\"output\":\"avgpool\"", "fc"}, /* fc is then of no use */
        {"\"output\":\"fc\"", "\"output\":\"fc\",\"x\":1", "x"},
        /* shapes of the input */
        {"[3,33,32]", "[1,33,32]", "3 channels"},
        {"[3,33,32]", "[3,0,32]", "input"},
        {"[3,33,32]", "[3,33]", "shape"},
        {"[3,33,32]", "[3,33,32,1]", "shape"},
        {"[3,33,32]", "[3,33,-32]", "shape"},
        {"[3,33,32]", "[3,33,3.5]", "shape"},
        {"[3,33,32]", "[3,8193,32]", "8192"},
        {"[3,33,32]", "[3,1e300,32]", "shape"},
        {"[3,33,32]", "[3,4294967297,32]", "shape"},
        {"[3,33,32]", "\"3x33x32\"", "shape"},
        {"[3,33,32]", "[3,2,2]", "kernel"},
        /* attributes */
        {"\"kernel\":[7,3]", "\"kernel\":[0,3]", "kernel"},
        {"\"kernel\":[7,3]", "\"kernel\":[7,65]", "kernel"},
        {"\"kernel\":[7,3]", "\"kernel\":[7]", "kernel"},
        {"\"kernel\":[7,3],", "", "kernel"},
        {"\"stride\":[2,1]", "\"stride\":[0,1]", "stride"},
        {"\"stride\":[2,1]", "\"stride\":[2,65]", "stride"},
        {"\"stride\":[2,1]", "\"stride\":2", "stride"},
        {"\"pad\":[3,1,2,0]", "\"pad\":[7,1,2,0]", "padding"},
        {"\"pad\":[3,1,2,0]", "\"pad\":[3,3,2,0]", "padding"},
        {"\"pad\":[3,1,2,0]", "\"pad\":[3,1,7,0]", "padding"},
        {"\"pad\":[3,1,2,0]", "\"pad\":[3,1,2,3]", "padding"},
        {"\"pad\":[3,1,2,0]", "\"pad\":[-1,1,2,0]", "pad"},
        {"\"pad\":[1,1,1,1]", "\"pad\":[3,1,1,1]", "padding"},
        {"\"pad\":[1,1,1,1]", "\"pad\":[1,1,1,3]", "padding"},
        {"\"groups\":4", "\"groups\":0", "groups"},
        {"\"groups\":4", "\"groups\":3", "groups"}, /* divides 12, not 8 */
        {"\"groups\":4", "\"groups\":8", "groups"}, /* divides 8, not 12 */
        {"\"groups\":4", "\"groups\":-1", "groups"},
        {"\"groups\":4", "\"groups\":99999", "groups"},
        {"\"relu\":true", "\"relu\":1", "relu"},
        {"\"out_channels\":8,", "", "out_channels"},
        {"\"out_channels\":8", "\"out_channels\":0", "out_channels"},
        {"\"out_channels\":8", "\"out_channels\":65537", "out_channels"},
        {"\"out_channels\":10", "\"out_channels\":10,\"relu\":true", "logits"},
        {"\"out_channels\":10", "\"out_channels\":10,\"kernel\":[1,1]", "kernel"},
        {"\"out_channels\":10", "\"out_channels\":10,\"stride\":[1,1]", "stride"},
        {"\"pad_channels\":[1,3]", "\"pad_channels\":[1,4]", "one shape"},
        {"\"pad_channels\":[1,3]", "\"pad_channels\":[65536,65536]", "channels"},
        {"\"pad_channels\":[1,3]", "\"pad_channels\":[1,65537]", "channel padding"},
        {"\"inputs\":[\"pool\"],\"stride\":[2,2]", "\"inputs\":[\"pool\"],\"stride\":[3,2]", "one shape"},
        {"\"relu\":true", "\"relu\":true,\"keep_output\":1", "keep_output"},
        {"\"inputs\":[\"conv1\"],\"kernel\"", "\"inputs\":[\"conv1\"],\"keep_output\":true,\"kernel\"", "keep_output"},
        {"\"inputs\":[\"conv1\"],\"kernel\"", "\"inputs\":[\"conv1\"],\"relu\":true,\"kernel\"", "relu"},
        /* edges */
        {"[\"l.0.conv\",\"l.0.skip\"]", "[\"l.0.conv\"]", "inputs"},
        {"[\"l.0.conv\",\"l.0.skip\"]", "[\"l.0.conv\",\"l.0.skip\",\"pool\"]", "inputs"},
        {"[\"l.0.conv\",\"l.0.skip\"]", "[\"l.0.conv\",\"pool\"]", "one shape"},
        {"[\"l.0.conv\",\"l.0.skip\"]", "[\"l.0.conv\",\"l.0.conv\"]", "l.0.skip"}, /* unused */
        {"[\"l.0.conv\",\"l.0.skip\"]", "[\"l.0.conv\",\"l.0.add\"]", "before"},    /* itself */
        {"[\"l.0.conv\",\"l.0.skip\"]", "[\"l.0.conv\",\"fc\"]", "before"},         /* a cycle */
        {"[\"l.0.conv\",\"l.0.skip\"]", "[\"l.0.conv\",null]", "inputs"},
        {"[\"l.0.conv\",\"l.0.skip\"]", "[\"l.0.conv\",\"none\"]", "none"},
        {"\"inputs\":[\"avgpool\"]", "\"inputs\":[\"l.0.add\"]", "1x1"},
        {"\"inputs\":[\"avgpool\"]", "\"inputs\":\"avgpool\"", "inputs"},
        {"\"inputs\":[\"avgpool\"],", "", "inputs"},
        {"\"shape\":[3,33,32]", "\"shape\":[3,33,32],\"inputs\":[]", "inputs"},
        /* casts */
        {"\"shape\":[3,33,32]", "\"shape\":[3,33,32],\"half\":1", "half"},
        {"\"relu\":true", "\"relu\":true,\"half\":true", "half"},
        {"\"op\":\"avgpool\"", "\"op\":\"quantize\"", "'avgpool' (quantize): its input is not half"},
        {"\"op\":\"avgpool\"", "\"op\":\"dequantize\",\"relu\":true", "relu"},
        {"\"name\":\"pool\",\"op\":\"maxpool\"", "\"name\":\"d\",\"op\":\"dequantize\",\"inputs\":[\"conv1\"]},{\"name\":\"d2\","
         "\"op\":\"dequantize\",\"inputs\":[\"d\"]},{\"name\":\"pool\",\"op\":\"maxpool\"", "half already"},
        /* names and ops */
        {all_ops,
         "{\"nodes\":[{\"name\":\"i\",\"op\":\"input\",\"shape\":[3,1,1]},{\"name\":\"i\",\"op\":\"avgpool\",\"inputs\":[\"i\"]}]"
         ","
         "\"output\":\"i\"}",
         "graph"},
        {"\"name\":\"fc\"", "\"name\":\"\"", "node 7"},
        {"\"name\":\"fc\"", "\"name\":\"f/c\"", "f/c"},
        {"\"name\":\"pool\"", "\"name\":\"p\\u0000l\"", "graph"},
        {"\"name\":\"fc\"", "\"name\":\"caf\xc3\xa9\"", "node 7"},
        {"\"name\":\"pool\"", "\"name\":5", "name"},
        {"\"op\":\"maxpool\"", "\"op\":\"softmax\"", "softmax"},
        {"\"op\":\"maxpool\"", "\"op\":\"Conv\"", "Conv"},
        {"\"op\":\"avgpool\"", "\"op\":\"input\",\"shape\":[3,1,1]", "inputs"},
        {"\"op\":\"avgpool\",\"inputs\":[\"l.0.add\"]", "\"op\":\"input\",\"shape\":[3,1,1]", "first"},
        {"\"op\":\"input\",\"shape\":[3,33,32]", "\"op\":\"avgpool\",\"inputs\":[\"fc\"]", "first"},
        {"\"op\":\"avgpool\",", "", "op"},
        {"\"op\":\"avgpool\"", "\"op\":\"avgpool\",\"op\":\"avgpool\"", "op"},
        {"\"op\":\"avgpool\"", "\"op\":\"avgpool\",\"ceil\":false", "ceil"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *at = strstr(all_ops, cases[i].from);
        if (!at)
            fail_msg("case %zu: no '%s'", i, cases[i].from);
        char text[2048];
        snprintf(text, sizeof text, "%.*s%s%s", (int)(at - all_ops), all_ops, cases[i].to, at + strlen(cases[i].from));
        struct graph g = {.count = 77};
        struct err e = {0};
        if (graph_from_json(text, &g, &e) != -1)
            fail_msg("accepted: %s", text);
        if (!strstr(e.text, cases[i].word))
            fail_msg("'%s' does not name '%s': %s", e.text, cases[i].word, text);
        assert_int_equal(g.count, 77);
    }
}

/* A chain of every limit: input, conv, avgpool. */
static int check_chain(int h, int w, int c, int kernel, int stride, struct err *e)
{
    struct graph g = {0};
    struct node *n = graph_add(&g, OP_INPUT, "input");
    n->h = h;
    n->w = w;
    n->c = 3;
    n = graph_add(&g, OP_CONV, "conv");
    n->in[0] = 0;
    n->c = c;
    n->kernel_h = n->kernel_w = kernel;
    n->stride_h = n->stride_w = stride;
    n = graph_add(&g, OP_AVGPOOL, "pool");
    n->in[0] = 1;
    g.output = 2;
    *e = (struct err){0};
    const int r = graph_check(&g, e);
    graph_free(&g);
    return r;
}

static void limits(void **state)
{
    (void)state;
    struct err e;
    assert_int_equal(check_chain(GRAPH_SIDE_MAX, 64, 1, 64, 64, &e), 0);
    assert_int_equal(check_chain(GRAPH_SIDE_MAX + 1, 64, 1, 64, 64, &e), -1);
    assert_int_equal(e.code, ERR_TOO_LARGE);
    assert_int_equal(check_chain(64, 64, GRAPH_CHANNELS_MAX, 64, 1, &e), 0);
    assert_int_equal(check_chain(64, 64, GRAPH_CHANNELS_MAX + 1, 64, 1, &e), -1);
    assert_int_equal(check_chain(64, 64, 1, GRAPH_KERNEL_MAX + 1, 1, &e), -1);
    assert_int_equal(check_chain(64, 64, 1, 1, GRAPH_KERNEL_MAX + 1, &e), -1);
    assert_int_equal(check_chain(64, 64, GRAPH_CHANNELS_MAX, 1, 1, &e), 0); /* 2^28 elements */
    assert_int_equal(check_chain(64, 65, GRAPH_CHANNELS_MAX, 1, 1, &e), -1);
    assert_non_null(strstr(e.text, "elements"));
    assert_int_equal(check_chain(4096, 2048, 1, 1, 1, &e), 0); /* 2^23 pixels into avgpool */
    assert_int_equal(check_chain(4096, 2049, 1, 1, 1, &e), -1);
    assert_non_null(strstr(e.text, "pixels"));
    assert_int_equal(check_chain(INT32_MAX, INT32_MAX, INT32_MAX, INT32_MAX, INT32_MAX, &e), -1);
    assert_int_equal(check_chain(INT32_MIN, INT32_MIN, INT32_MIN, INT32_MIN, INT32_MIN, &e), -1);

    /* 65536 channels into 65536: 2^32 weights; and 63 by 63 kernels over large images: too many multiplications */
    struct graph g = {0};
    struct node *n = graph_add(&g, OP_INPUT, "input");
    n->h = n->w = 512;
    n->c = 3;
    for (int i = 1; i <= 2; i++) {
        n = graph_add(&g, OP_CONV, "conv%d", i);
        n->in[0] = i - 1;
        n->c = 64;
        n->kernel_h = n->kernel_w = 63;
        n->pad_top = n->pad_left = n->pad_bottom = n->pad_right = 31;
    }
    n = graph_add(&g, OP_AVGPOOL, "pool");
    n->in[0] = 2;
    g.output = 3;
    assert_int_equal(graph_check(&g, &e), -1);
    assert_non_null(strstr(e.text, "multiplications"));
    for (int i = 1; i <= 2; i++) {
        g.nodes[i].c = GRAPH_CHANNELS_MAX;
        g.nodes[i].kernel_h = g.nodes[i].kernel_w = 1;
        g.nodes[i].pad_top = g.nodes[i].pad_left = g.nodes[i].pad_bottom = g.nodes[i].pad_right = 0;
    }
    g.nodes[0].h = g.nodes[0].w = 1;
    assert_int_equal(graph_check(&g, &e), -1);
    assert_non_null(strstr(e.text, "weights"));
    graph_free(&g);
}

static void node_limits(void **state)
{
    (void)state;
    char name[GRAPH_NAME_MAX + 1];
    memset(name, 'n', sizeof name);
    struct err e;
    struct graph g = {0};
    name[GRAPH_NAME_MAX] = 0;
    assert_null(graph_add(&g, OP_INPUT, "%s", name));
    name[GRAPH_NAME_MAX - 1] = 0;
    struct node *n = graph_add(&g, OP_INPUT, "%s", name);
    assert_non_null(n);
    n->h = n->w = 1;
    n->c = 3;
    for (int i = 1; i < GRAPH_NODES_MAX; i++) {
        n = graph_add(&g, OP_DENSE, "fc%d", i);
        assert_non_null(n);
        n->in[0] = i - 1;
        n->c = 1;
    }
    assert_null(graph_add(&g, OP_DENSE, "more"));
    g.output = GRAPH_NODES_MAX - 1;
    assert_int_equal(graph_check(&g, &e), 0);

    char *text = graph_to_json(&g);
    struct graph back = {0};
    assert_int_equal(graph_from_json(text, &back, &e), 0);
    assert_memory_equal(back.nodes, g.nodes, (size_t)g.count * sizeof *g.nodes);
    free(text);
    graph_free(&back);

    strcpy(g.nodes[4000].name, "fc9");
    assert_int_equal(graph_check(&g, &e), -1);
    assert_non_null(strstr(e.text, "fc9"));
    g.count = GRAPH_NODES_MAX + 1;
    assert_int_equal(graph_check(&g, &e), -1);
    assert_int_equal(e.code, ERR_TOO_LARGE);
    g.count = GRAPH_NODES_MAX;
    graph_free(&g);

    size_t room = GRAPH_NODES_MAX * 64 + 256, used;
    text = malloc(room);
    assert_non_null(text);
    used = (size_t)sprintf(text, "{\"nodes\":[{\"name\":\"0\",\"op\":\"input\",\"shape\":[3,1,1]}");
    for (int i = 1; i <= GRAPH_NODES_MAX; i++)
        used += (size_t)sprintf(text + used, ",{\"name\":\"%d\",\"op\":\"avgpool\",\"inputs\":[\"%d\"]}", i, i - 1);
    sprintf(text + used, "],\"output\":\"%d\"}", GRAPH_NODES_MAX);
    assert_int_equal(graph_from_json(text, &back, &e), -1);
    assert_int_equal(e.code, ERR_TOO_LARGE);
    free(text);
}

/* What JSON cannot say, code still could. */
static void structs_refused(void **state)
{
    (void)state;
    struct graph good = parse(all_ops), g;
    struct err e;
#define REFUSED(...)                                                                                                             \
    do {                                                                                                                         \
        assert_int_equal(graph_copy(&good, &g, &e), 0);                                                                          \
        __VA_ARGS__;                                                                                                             \
        assert_int_equal(graph_check(&g, &e), -1);                                                                               \
        graph_free(&g);                                                                                                          \
    } while (0)
    REFUSED(g.nodes[2].op = (enum op)OPS);
    REFUSED(g.nodes[2].op = (enum op) - 1);
    REFUSED(g.nodes[2].in[0] = -1);
    REFUSED(g.nodes[2].in[0] = 2);
    REFUSED(g.nodes[2].in[0] = 1000000);
    REFUSED(g.nodes[2].in[1] = 0);
    REFUSED(g.nodes[0].in[0] = 0);
    REFUSED(g.nodes[5].in[1] = -1);
    REFUSED(g.output = -1);
    REFUSED(g.output = g.count);
    REFUSED(memset(g.nodes[3].name, 'a', sizeof g.nodes[3].name));
    REFUSED(g.nodes[1].relu = 2);
    REFUSED(g.nodes[6].relu = 1);
    REFUSED(g.nodes[6].kernel_h = 2);
    REFUSED(g.nodes[6].groups = 2);
    REFUSED(g.nodes[6].pad_before = 1);
    REFUSED(g.nodes[7].stride_w = 2);
    REFUSED(g.nodes[7].pad_left = 1);
    REFUSED(g.nodes[4].pad_after = -1);
    graph_free(&good);
    g = (struct graph){0};
    assert_int_equal(graph_check(&g, &e), -1);
}

/* Any damage of one byte is refused, or gives a graph that passes the gate again and comes out the same. */
static void damaged_text(void **state)
{
    (void)state;
    char text[sizeof all_ops];
    for (size_t i = 0; i + 1 < sizeof all_ops; i++)
        for (int bit = 0; bit < 8; bit++) {
            memcpy(text, all_ops, sizeof text);
            text[i] = (char)(text[i] ^ 1 << bit);
            struct graph g;
            struct err e;
            if (graph_from_json(text, &g, &e))
                continue;
            char *out = graph_to_json(&g);
            struct graph again;
            assert_non_null(out);
            assert_int_equal(graph_from_json(out, &again, &e), 0);
            assert_memory_equal(again.nodes, g.nodes, (size_t)g.count * sizeof *g.nodes);
            free(out);
            graph_free(&g);
            graph_free(&again);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes),          cmocka_unit_test(json_round_trip), cmocka_unit_test(json_defaults),
        cmocka_unit_test(json_refused),    cmocka_unit_test(limits),          cmocka_unit_test(node_limits),
        cmocka_unit_test(structs_refused), cmocka_unit_test(damaged_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: MIT
//
// config.json beside a checkpoint from a hub: what tensors cannot tell is taken from it or refused, and nothing else is.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/checkpoint/checkpoint.h"
#include "models/checkpoint/hub_config.h"
#include "models/checkpoint/safetensors.h"
#include "tests/files.h"
#include "tests/scarce.h"

static char *dir;

static struct hub_config read_ok(const char *checkpoint, const char *json)
{
    struct hub_config c;
    struct err e = {.text = ""};
    files_write(dir, "config.json", json, strlen(json));
    if (hub_config_read(files_path(dir, checkpoint), &c, &e) < 0) {
        print_error("%s\n", e.text);
        fail();
    }
    return c;
}

static void refuse(const char *json, enum err_code code, const char *text)
{
    struct hub_config c;
    struct err e = {.text = ""};
    files_write(dir, "config.json", json, strlen(json));
    assert_int_equal(hub_config_read(files_path(dir, "model.safetensors"), &c, &e), -1);
    assert_null(c.labels);
    if (e.code != code || !strstr(e.text, text) || strncmp(e.text, "config.json beside ", 19) != 0) {
        print_error("expected \"%s\" in \"%s\"\n", text, e.text);
        fail();
    }
}

#define TIMM(size, part, filter)                                                                                                 \
    "{\"architecture\":\"resnet50\",\"pretrained_cfg\":{\"input_size\":" size ",\"crop_pct\":" part                              \
    ",\"interpolation\":\"" filter "\",\"mean\":[0.5,0.25,0.125],\"std\":[0.5,0.25,0.5]}}"

static void timm(void **unused)
{
    (void)unused;
    struct hub_config c = read_ok("model.safetensors", TIMM("[3,224,224]", "0.95", "bicubic"));
    assert_string_equal(c.architecture, "resnet50");
    assert_true(c.has_preprocess && c.preprocess.resize == RESIZE_SHORTER && c.preprocess.size == 235 &&
                c.preprocess.crop_w == 224);
    assert_true(c.preprocess.crop_h == 224 && c.preprocess.filter == FILTER_BICUBIC && c.preprocess.scale == 255);
    assert_true(c.preprocess.mean[1] == 0.25f && c.preprocess.std[2] == 0.5f && !c.first_stride && !c.labels);
    c = read_ok("pytorch_model.bin", TIMM("[3,288,288]", "1.0", "bilinear"));
    assert_true(c.has_preprocess && c.preprocess.size == 288 && c.preprocess.crop_w == 288 &&
                c.preprocess.filter == FILTER_BILINEAR);
    c = read_ok("resnet50.safetensors", TIMM("[3,224,224]", "0.95", "bicubic")); /* beside, but not of it */
    assert_true(!c.has_preprocess && !c.architecture[0]);
    static const char *const incomplete[] = {TIMM("[1,224,224]", "0.95", "bicubic"),
                                             TIMM("[3,224,256]", "0.95", "bicubic"),
                                             TIMM("[3,224]", "0.95", "bicubic"),
                                             TIMM("[3,224,224]", "1.5", "bicubic"),
                                             TIMM("[3,224,224]", "0", "bicubic"),
                                             TIMM("[3,224,224]", "0.95", "lanczos"),
                                             TIMM("[3,4096,4096]", "0.95", "bicubic"),
                                             TIMM("[3,1e300,1e300]", "0.95", "bicubic"),
                                             TIMM("null", "0.95", "bicubic"),
                                             TIMM("[3,0.5,0.5]", "0.95", "bicubic"),
                                             "{}",
                                             "[]",
                                             "{\"architecture\":7,\"model_type\":[]}"};
    for (size_t i = 0; i < sizeof incomplete / sizeof *incomplete; i++)
        assert_false(read_ok("model.safetensors", incomplete[i]).has_preprocess);
}

static void transformers(void **unused)
{
    (void)unused;
    struct hub_config c =
        read_ok("model.safetensors", "{\"model_type\":\"resnet\",\"hidden_act\":\"relu\",\"downsample_in_bottleneck\":true,"
                                     "\"id2label\":{\"1\":\"b\",\"0\":\"a\"}}");
    assert_true(c.first_stride && c.label_count == 2);
    assert_string_equal(c.labels[0], "a");
    assert_string_equal(c.labels[1], "b");
    hub_config_free(&c);
    static const char *const no_labels[] = {"{\"0\":\"LABEL_0\"}",
                                            "{\"1\":\"a\"}",
                                            "{\"0\":\"a\",\"00\":\"b\"}",
                                            "{\"x\":\"a\"}",
                                            "{\"-1\":\"a\"}",
                                            "{\"0\":1}",
                                            "{\"0\":\"\"}",
                                            "{}",
                                            "[\"a\"]"};
    for (size_t i = 0; i < sizeof no_labels / sizeof *no_labels; i++) {
        char json[128];
        snprintf(json, sizeof json, "{\"model_type\":\"resnet\",\"id2label\":%s}", no_labels[i]);
        c = read_ok("model.safetensors", json);
        assert_true(c.labels == NULL && c.label_count == 0 && !c.first_stride);
    }
    refuse("{\"model_type\":\"resnet\",\"hidden_act\":\"silu\"}", ERR_UNSUPPORTED, "hidden_act is silu");
    refuse("{\"model_type\":\"resnet\",\"downsample_in_first_stage\":true}", ERR_UNSUPPORTED, "downsample_in_first_stage");
    refuse("{\"model_type\":", ERR_INPUT, "model.safetensors: ");
    files_remove_dir(dir);
    dir = files_make_dir();
    assert_int_equal(hub_config_read(files_path(dir, "model.safetensors"), &c, NULL), 0);
    assert_false(c.has_preprocess);
    assert_int_equal(hub_config_read("/nonexistent/model.safetensors", &c, NULL), 0);
}

static void limits(void **unused)
{
    (void)unused;
    char *text = malloc(HUB_CONFIG_MAX + 1);
    struct hub_config c;
    struct err e;
    assert_non_null(text);
    memset(text, ' ', HUB_CONFIG_MAX + 1);
    memcpy(text, "{}", 2);
    files_write(dir, "config.json", text, HUB_CONFIG_MAX);
    assert_int_equal(hub_config_read(files_path(dir, "model.safetensors"), &c, &e), 0);
    files_write(dir, "config.json", text, HUB_CONFIG_MAX + 1);
    assert_int_equal(hub_config_read(files_path(dir, "model.safetensors"), &c, &e), -1);
    assert_int_equal(e.code, ERR_TOO_LARGE);
    free(text);
}

static void no_memory(void **unused)
{
    (void)unused;
    static const char json[] = "{\"model_type\":\"resnet\",\"id2label\":{\"1\":\"b\",\"0\":\"a\"}}";
    files_write(dir, "config.json", json, sizeof json - 1);
    int failed = 0, done = 0;
    for (int n = 0; !done; n++) {
        struct hub_config c;
        struct err e = {.text = ""};
        scarce_left = n;
        done = hub_config_read(files_path(dir, "model.safetensors"), &c, &e) == 0;
        scarce_left = -1;
        assert_true(done || e.code == ERR_MEMORY);
        hub_config_free(&c);
        failed += !done;
    }
    assert_true(failed >= 4);
}

/* ---- the whole way ---- */

static float values[64 * 64];
static struct st_item items[64];
static char names[64][64];
static int count;

static void put(const char *name, int rank, int o, int i, int k)
{
    snprintf(names[count], sizeof names[0], "%s", name);
    items[count] = (struct st_item){names[count], ST_F32, rank, {o, i, k, k}, values};
    count++;
}

static void put_conv(const char *conv, const char *norm, int o, int i, int k)
{
    static const char *const leaves[] = {"weight", "bias", "running_mean", "running_var"};
    char name[64];
    snprintf(name, sizeof name, "%s.weight", conv);
    put(name, 4, o, i, k);
    for (int l = 0; l < 4; l++) {
        snprintf(name, sizeof name, "%s.%s", norm, leaves[l]);
        put(name, 1, o, 0, 0);
    }
}

/* A bottleneck network of two stages beside each config.json. */
static int import(const char *json, const char *arch, struct network *n, struct err *e)
{
    *n = (struct network){.name = ""};
    files_write(dir, "config.json", json, strlen(json));
    return checkpoint_import(files_path(dir, "model.safetensors"), &(struct import_options){arch, NULL}, n, e);
}

static void checkpoints(void **unused)
{
    (void)unused;
    struct network n;
    struct err e = {.text = ""};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        values[i] = 0.5f;
    put_conv("conv1", "bn1", 4, 3, 7);
    for (int s = 1; s <= 2; s++)
        for (int k = 1; k <= 4; k++) {
            char conv[32], norm[32];
            snprintf(conv, sizeof conv, k == 4 ? "layer%d.0.downsample.0" : "layer%d.0.conv%d", s, k);
            snprintf(norm, sizeof norm, k == 4 ? "layer%d.0.downsample.1" : "layer%d.0.bn%d", s, k);
            put_conv(conv, norm, k < 3 ? 4 : 8, k == 1 || k == 4 ? (s == 1 ? 4 : 8) : 4, k == 2 ? 3 : 1);
        }
    put("fc.weight", 2, 2, 8, 0);
    put("fc.bias", 1, 2, 0, 0);
    assert_int_equal(st_write(files_path(dir, "model.safetensors"), items, count, NULL, 0, 8, &e), 0);

    assert_int_equal(import(TIMM("[3,64,64]", "0.5", "bicubic"), NULL, &n, &e), 0);
    assert_true(n.preprocess.size == 128 && n.preprocess.crop_w == 64 && n.preprocess.filter == FILTER_BICUBIC);
    network_free(&n);
    assert_int_equal(import("{\"architecture\":\"resnetaa50\"}", NULL, &n, &e), -1);
    assert_non_null(strstr(e.text, "calls itself resnetaa50"));
    static const char v1[] =
        "{\"model_type\":\"resnet\",\"downsample_in_bottleneck\":true,\"id2label\":{\"0\":\"a\",\"1\":\"b\"}}";
    static const char *const archs[] = {NULL, "resnet8", "resnet8-v1"};
    for (int i = 0; i < 3; i++) {
        if (import(v1, archs[i], &n, &e) < 0) {
            print_error("%s\n", e.text);
            fail();
        }
        int strided = -1;
        for (int k = 0; k < n.graph.count; k++)
            if (strcmp(n.graph.nodes[k].name, "layer2.0.conv1") == 0)
                strided = n.graph.nodes[k].stride_h;
        assert_int_equal(strided, 2);
        assert_int_equal(n.label_count, 2);
        assert_string_equal(n.labels[1], "b");
        network_free(&n);
    }
    assert_int_equal(import(v1, "resnet50", &n, &e), -1);
    assert_non_null(strstr(e.text, "say resnet8, not resnet50-v1"));
}

static int set_up(void **unused)
{
    (void)unused;
    dir = files_make_dir();
    return 0;
}

static int tear_down(void **unused)
{
    (void)unused;
    files_remove_dir(dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timm),      cmocka_unit_test(transformers), cmocka_unit_test(limits),
        cmocka_unit_test(no_memory), cmocka_unit_test(checkpoints),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

// SPDX-License-Identifier: MIT

#include "config.h" /* 64-bit file offsets */

#include "models/checkpoint/hub_config.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "models/input.h"
#include "models/json.h"
#include "models/network.h"

static const cJSON *item(const cJSON *o, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(o, name);
}

/* Three numbers above `above`. */
static int three(const cJSON *o, const char *name, double above, double out[3])
{
    const cJSON *a = item(o, name);
    if (!cJSON_IsArray(a) || cJSON_GetArraySize(a) != 3)
        return 0;
    int i = 0;
    for (const cJSON *v = a->child; v; v = v->next, i++) {
        if (!cJSON_IsNumber(v) || !(v->valuedouble > above) || v->valuedouble > 1e6)
            return 0;
        out[i] = v->valuedouble;
    }
    return 1;
}

/* timm: the shorter side becomes size / crop_pct, the middle is cut out. Whatever is incomplete is left to the presets. */
static void read_preprocess(const cJSON *o, struct hub_config *c)
{
    const cJSON *inner = item(o, "pretrained_cfg"), *from = cJSON_IsObject(inner) ? inner : o;
    const cJSON *part = item(from, "crop_pct"), *filter = item(from, "interpolation");
    double size[3], mean[3], std[3];
    if (!three(from, "input_size", 0, size) || !three(from, "mean", -1, mean) || !three(from, "std", 0, std) ||
        !cJSON_IsNumber(part) || !(part->valuedouble > 0.1 && part->valuedouble <= 1) || !cJSON_IsString(filter) ||
        size[0] != 3 || size[1] != size[2] || size[1] / part->valuedouble > PREPROCESS_SIDE_MAX)
        return;
    const int bicubic = strcmp(filter->valuestring, "bicubic") == 0;
    if (!bicubic && strcmp(filter->valuestring, "bilinear") != 0)
        return;
    struct preprocess p = {
        .resize = RESIZE_SHORTER, .size = (int)(size[1] / part->valuedouble), .crop_w = (int)size[2], .scale = 255};
    p.crop_h = p.crop_w;
    p.filter = bicubic ? FILTER_BICUBIC : FILTER_BILINEAR;
    for (int i = 0; i < 3; i++) {
        p.mean[i] = (float)mean[i];
        p.std[i] = (float)std[i];
    }
    char *text = preprocess_to_json(&p); /* the strict reader has the last word */
    struct err ignored;
    if (text && preprocess_from_json(text, &c->preprocess, &ignored) == 0)
        c->has_preprocess = 1;
    free(text);
}

/* {"0": "tench", ...}; not the placeholders LABEL_0, LABEL_1 ... that stand for none. */
static int read_labels(const cJSON *o, struct hub_config *c, struct err *e)
{
    const cJSON *names = item(o, "id2label");
    const int count = cJSON_IsObject(names) ? cJSON_GetArraySize(names) : 0;
    if (count == 0)
        return 0;
    char **labels = calloc((size_t)count, sizeof *labels);
    int bad = labels ? 0 : err_set(e, ERR_MEMORY, "no memory for %d labels", count), usable = 1;
    for (const cJSON *v = names->child; v && !bad && usable; v = v->next) {
        char *end;
        const long at = strtol(v->string, &end, 10);
        usable = !*end && at >= 0 && at < count && !labels[at] && cJSON_IsString(v) &&
                 strncmp(v->valuestring, "LABEL_", 6) != 0 && label_check(v->valuestring, strlen(v->valuestring), NULL) == 0;
        if (usable && !(labels[at] = strdup(v->valuestring)))
            bad = err_set(e, ERR_MEMORY, "no memory for %d labels", count);
    }
    if (bad || !usable) {
        labels_free(labels, labels ? count : 0);
        return bad;
    }
    c->labels = labels;
    c->label_count = count;
    return 0;
}

static int read_all(const cJSON *o, struct hub_config *c, struct err *e)
{
    const cJSON *architecture = item(o, "architecture"), *type = item(o, "model_type"), *act = item(o, "hidden_act");
    if (cJSON_IsString(architecture))
        snprintf(c->architecture, sizeof c->architecture, "%s", architecture->valuestring);
    read_preprocess(o, c);
    if (!cJSON_IsString(type) || strcmp(type->valuestring, "resnet") != 0)
        return 0;
    if (cJSON_IsString(act) && strcmp(act->valuestring, "relu") != 0)
        return err_set(e, ERR_UNSUPPORTED, "hidden_act is %.40s: this version knows ReLU", act->valuestring);
    if (cJSON_IsTrue(item(o, "downsample_in_first_stage")))
        return err_set(e, ERR_UNSUPPORTED, "downsample_in_first_stage is true, which this version does not know");
    c->first_stride = cJSON_IsTrue(item(o, "downsample_in_bottleneck"));
    return read_labels(o, c, e);
}

static int read_file(int dir, struct hub_config *c, struct err *e)
{
    uint64_t bytes;
    struct err reason;
    int fd = input_open(dir, "config.json", &bytes, &reason);
    if (fd < 0)
        return reason.code == ERR_NOT_FOUND ? 0 : err_set(e, reason.code, "%s", reason.text);
    if (bytes > HUB_CONFIG_MAX) {
        close(fd);
        return err_set(e, ERR_TOO_LARGE, "%llu bytes, the limit is %d", (unsigned long long)bytes, HUB_CONFIG_MAX);
    }
    char *text = malloc((size_t)bytes + 1);
    int bad = text ? input_read(fd, text, bytes, 0, e) : err_set(e, ERR_MEMORY, "no memory");
    close(fd);
    cJSON *o = bad ? NULL : json_parse(text, (size_t)bytes, e);
    bad = o ? read_all(o, c, e) : -1;
    cJSON_Delete(o);
    free(text);
    return bad;
}

int hub_config_read(const char *checkpoint, struct hub_config *out, struct err *e)
{
    *out = (struct hub_config){.has_preprocess = 0};
    const char *slash = strrchr(checkpoint, '/'), *name = slash ? slash + 1 : checkpoint;
    if (strcmp(name, "model.safetensors") != 0 && strcmp(name, "pytorch_model.bin") != 0)
        return 0;
    char *folder = slash ? strndup(checkpoint, (size_t)(slash - checkpoint) + 1) : strdup(".");
    if (!folder)
        return err_set(e, ERR_MEMORY, "no memory");
    int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(folder);
    if (dir < 0)
        return 0;
    const int bad = read_file(dir, out, e);
    close(dir);
    if (!bad)
        return 0;
    hub_config_free(out);
    return err_prefix(e, "config.json beside %.120s", checkpoint);
}

void hub_config_free(struct hub_config *c)
{
    labels_free(c->labels, c->label_count);
    *c = (struct hub_config){.has_preprocess = 0};
}

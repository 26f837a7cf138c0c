// SPDX-License-Identifier: MIT

#include "models/preprocess.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/json.h"

static const char *const filter_names[] = {[FILTER_BILINEAR] = "bilinear", [FILTER_BICUBIC] = "bicubic"};

static const struct {
    const char *name;
    struct preprocess p;
} presets[] = {
    {"imagenet",
     {.resize = RESIZE_SHORTER,
      .size = 256,
      .filter = FILTER_BILINEAR,
      .crop_w = 224,
      .crop_h = 224,
      .scale = 255,
      .mean = {0.485f, 0.456f, 0.406f},
      .std = {0.229f, 0.224f, 0.225f}}},
    {"cifar10",
     {.resize = RESIZE_EXACT,
      .width = 32,
      .height = 32,
      .filter = FILTER_BILINEAR,
      .scale = 255,
      .mean = {0.4914f, 0.4822f, 0.4465f},
      .std = {0.2470f, 0.2435f, 0.2616f}}},
};

int preprocess_preset(const char *name, struct preprocess *out, struct err *e)
{
    for (size_t i = 0; i < sizeof presets / sizeof *presets; i++) {
        if (strcmp(name, presets[i].name) == 0) {
            *out = presets[i].p;
            return 0;
        }
    }
    return err_set(e, ERR_NOT_FOUND, "no preprocessing preset is called '%s'; there are imagenet and cifar10", name);
}

int preprocess_equal(const struct preprocess *a, const struct preprocess *b)
{
    for (int i = 0; i < 3; i++)
        if (a->mean[i] != b->mean[i] || a->std[i] != b->std[i])
            return 0;
    return a->bgr == b->bgr && a->resize == b->resize && a->size == b->size && a->width == b->width && a->height == b->height &&
           a->filter == b->filter && a->crop_w == b->crop_w && a->crop_h == b->crop_h && a->scale == b->scale;
}

static int read_float(double d, const char *field, float *out, struct err *e)
{
    *out = (float)d;
    if (!isfinite(*out))
        return err_set(e, ERR_INPUT, "preprocess: %s is not a finite number", field);
    return 0;
}

static int read_side(const cJSON *o, const char *name, int *out, struct err *e)
{
    long long v;
    if (json_int(o, name, 1, PREPROCESS_SIDE_MAX, &v, e))
        return err_prefix(e, "preprocess");
    *out = (int)v;
    return 0;
}

static int read_resize(const cJSON *o, struct preprocess *p, struct err *e)
{
    static const char *const shorter_keys[] = {"side", "size", "filter", NULL};
    static const char *const exact_keys[] = {"side", "width", "height", "filter", NULL};
    const char *side, *filter;

    if (json_string(o, "side", &side, e) || json_string(o, "filter", &filter, e))
        return err_prefix(e, "preprocess: resize");
    if (strcmp(side, "shorter") == 0)
        p->resize = RESIZE_SHORTER;
    else if (strcmp(side, "exact") == 0)
        p->resize = RESIZE_EXACT;
    else
        return err_set(e, ERR_INPUT, "preprocess: resize: side is '%.32s', not shorter or exact", side);
    if (strcmp(filter, filter_names[FILTER_BILINEAR]) == 0)
        p->filter = FILTER_BILINEAR;
    else if (strcmp(filter, filter_names[FILTER_BICUBIC]) == 0)
        p->filter = FILTER_BICUBIC;
    else
        return err_set(e, ERR_INPUT, "preprocess: resize: filter is '%.32s', not bilinear or bicubic", filter);
    if (json_only(o, p->resize == RESIZE_SHORTER ? shorter_keys : exact_keys, e))
        return err_prefix(e, "preprocess: resize");
    if (p->resize == RESIZE_SHORTER)
        return read_side(o, "size", &p->size, e);
    return read_side(o, "width", &p->width, e) || read_side(o, "height", &p->height, e) ? -1 : 0;
}

static int read_crop(const cJSON *o, struct preprocess *p, struct err *e)
{
    static const char *const keys[] = {"width", "height", NULL};
    if (json_only(o, keys, e))
        return err_prefix(e, "preprocess: crop");
    return read_side(o, "width", &p->crop_w, e) || read_side(o, "height", &p->crop_h, e) ? -1 : 0;
}

static int read_three(const cJSON *o, const char *name, float out[3], struct err *e)
{
    const cJSON *a = cJSON_GetObjectItemCaseSensitive(o, name);
    if (!cJSON_IsArray(a) || cJSON_GetArraySize(a) != 3)
        return err_set(e, ERR_INPUT, "preprocess: %s must be an array of 3 numbers", name);
    int i = 0;
    for (const cJSON *v = a->child; v; v = v->next, i++) {
        if (!cJSON_IsNumber(v))
            return err_set(e, ERR_INPUT, "preprocess: %s must be an array of 3 numbers", name);
        if (read_float(v->valuedouble, name, &out[i], e))
            return -1;
    }
    return 0;
}

/* resize and crop may be null, but must be there: 1 when an object, 0 when null. */
static int object_or_null(const cJSON *o, const char *name, const cJSON **out, struct err *e)
{
    *out = cJSON_GetObjectItemCaseSensitive(o, name);
    if (cJSON_IsObject(*out))
        return 1;
    return cJSON_IsNull(*out) ? 0 : err_set(e, ERR_INPUT, "preprocess: %s is missing (an object or null)", name);
}

static int read_all(const cJSON *o, struct preprocess *p, struct err *e)
{
    static const char *const keys[] = {"color", "resize", "crop", "scale", "mean", "std", NULL};
    const char *color;
    const cJSON *part;
    double scale;

    if (!cJSON_IsObject(o))
        return err_set(e, ERR_INPUT, "preprocess: not a JSON object");
    if (json_only(o, keys, e) || json_string(o, "color", &color, e) || json_number(o, "scale", &scale, e))
        return err_prefix(e, "preprocess");
    if (strcmp(color, "RGB") != 0 && strcmp(color, "BGR") != 0)
        return err_set(e, ERR_INPUT, "preprocess: color is '%.32s', not RGB or BGR", color);
    p->bgr = color[0] == 'B';

    int there = object_or_null(o, "resize", &part, e);
    if (there < 0 || (there && read_resize(part, p, e)))
        return -1;
    there = object_or_null(o, "crop", &part, e);
    if (there < 0 || (there && read_crop(part, p, e)))
        return -1;

    if (read_float(scale, "scale", &p->scale, e) || read_three(o, "mean", p->mean, e) || read_three(o, "std", p->std, e))
        return -1;
    if (!(p->scale > 0))
        return err_set(e, ERR_INPUT, "preprocess: scale must be greater than 0");
    for (int c = 0; c < 3; c++) {
        if (!(p->std[c] > 0))
            return err_set(e, ERR_INPUT, "preprocess: std[%d] must be greater than 0", c);
        if (!isfinite(preprocess_value(p, c, 0)) || !isfinite(preprocess_value(p, c, 255)))
            return err_set(e, ERR_INPUT, "preprocess: scale, mean[%d] and std[%d] give values beyond the range of float", c, c);
    }
    const struct quant q = preprocess_quant(p);
    if (!isnormal(q.scale))
        return err_set(e, ERR_INPUT, "preprocess: scale, mean and std give values too close to 0 or too far apart");
    return 0;
}

int preprocess_from_json(const char *text, struct preprocess *out, struct err *e)
{
    struct preprocess p = {0};
    cJSON *o = json_parse(text, strlen(text), e);
    if (!o)
        return err_prefix(e, "preprocess");
    int r = read_all(o, &p, e);
    cJSON_Delete(o);
    if (r == 0)
        *out = p;
    return r;
}

/* The shortest decimal number that reads back as exactly f: 0.485 rather than 0.485000014. */
static cJSON *float_item(float f)
{
    char s[32];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(s, sizeof s, "%.*g", digits, (double)f);
        if (strtof(s, NULL) == f)
            break;
    }
    return cJSON_CreateRaw(s);
}

/* cJSON's add functions free nothing on failure and return NULL for a NULL item, hence the chains of &&. */
static int add(cJSON *o, const char *name, cJSON *item)
{
    if (item && cJSON_AddItemToObject(o, name, item))
        return 1;
    cJSON_Delete(item);
    return 0;
}

static int add_three(cJSON *o, const char *name, const float v[3])
{
    cJSON *a = cJSON_AddArrayToObject(o, name);
    for (int i = 0; a && i < 3; i++) {
        cJSON *f = float_item(v[i]);
        if (!f || !cJSON_AddItemToArray(a, f)) {
            cJSON_Delete(f);
            return 0;
        }
    }
    return a != NULL;
}

static int add_resize(cJSON *o, const struct preprocess *p)
{
    if (p->resize == RESIZE_NONE)
        return cJSON_AddNullToObject(o, "resize") != NULL;
    cJSON *r = cJSON_AddObjectToObject(o, "resize");
    if (!r)
        return 0;
    int ok;
    if (p->resize == RESIZE_SHORTER)
        ok = cJSON_AddStringToObject(r, "side", "shorter") && cJSON_AddNumberToObject(r, "size", p->size);
    else
        ok = cJSON_AddStringToObject(r, "side", "exact") && cJSON_AddNumberToObject(r, "width", p->width) &&
             cJSON_AddNumberToObject(r, "height", p->height);
    return ok && cJSON_AddStringToObject(r, "filter", filter_names[p->filter]);
}

static int add_crop(cJSON *o, const struct preprocess *p)
{
    if (p->crop_w == 0)
        return cJSON_AddNullToObject(o, "crop") != NULL;
    cJSON *c = cJSON_AddObjectToObject(o, "crop");
    return c && cJSON_AddNumberToObject(c, "width", p->crop_w) && cJSON_AddNumberToObject(c, "height", p->crop_h);
}

char *preprocess_to_json(const struct preprocess *p)
{
    char *text = NULL;
    cJSON *o = cJSON_CreateObject();
    if (o && cJSON_AddStringToObject(o, "color", p->bgr ? "BGR" : "RGB") && add_resize(o, p) && add_crop(o, p) &&
        add(o, "scale", float_item(p->scale)) && add_three(o, "mean", p->mean) && add_three(o, "std", p->std))
        text = cJSON_PrintUnformatted(o);
    cJSON_Delete(o);
    return text;
}

/* The longer side of an image whose shorter side becomes size, cut like Python's int(size * longer / shorter). */
static int longer_side(int size, int longer, int shorter)
{
    const int64_t v = (int64_t)size * longer / shorter;
    return v > INT_MAX ? INT_MAX : (int)v;
}

void preprocess_output_size(const struct preprocess *p, int w, int h, int *out_w, int *out_h)
{
    if (p->crop_w > 0) {
        w = p->crop_w;
        h = p->crop_h;
    } else if (p->resize == RESIZE_EXACT) {
        w = p->width;
        h = p->height;
    } else if (w <= 0 || h <= 0) {
        w = h = 0;
    } else if (p->resize == RESIZE_SHORTER) {
        const int short_is_w = w <= h;
        const int longer = short_is_w ? longer_side(p->size, h, w) : longer_side(p->size, w, h);
        w = short_is_w ? p->size : longer;
        h = short_is_w ? longer : p->size;
    }
    *out_w = w;
    *out_h = h;
}

float preprocess_value(const struct preprocess *p, int channel, uint8_t pixel)
{
    return ((float)pixel / p->scale - p->mean[channel]) / p->std[channel];
}

struct quant preprocess_quant(const struct preprocess *p)
{
    double min = 0, max = 0;
    for (int c = 0; c < 3; c++) { /* monotonic in the pixel: its ends are the extremes */
        min = fmin(min, preprocess_value(p, c, 0));
        max = fmax(max, preprocess_value(p, c, 255));
    }
    const float scale = (float)((max - min) / 255);
    const double zero = scale > 0 ? nearbyint(-128 - min / (double)scale) : 0;
    return (struct quant){scale, (int)fmin(fmax(zero, -128), 127)};
}

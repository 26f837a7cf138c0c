// SPDX-License-Identifier: MIT
//
// fuzz_oip.c - bodies of the Open Inference Protocol for a network of 2 x 1 pixels and three classes. The first byte says what
// Inference-Header-Content-Length does: absent, 0, the text's length (all up to the last '}'), or whatever is in the second.

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/oip.h"
#include "models/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *labels[] = {"cat", "\"dog\"", "eel"};
static const struct oip_model model = {"net", "int8", 2, 1, 3, labels};

static void require(int condition)
{
    if (!condition)
        abort();
}

/* What was accepted stays within the body, and its reply is the JSON that it says it is. */
static void check(struct oip_request *r, const uint8_t *body, size_t size)
{
    float values[6], logits[OIP_IMAGES_MAX * 3];
    struct err e = {.text = ""};
    require(r->count >= 1 && r->count <= OIP_IMAGES_MAX && r->output_count >= 1 && r->output_count <= OIP_TENSORS);
    for (int i = 0; i < r->count; i++) {
        if (r->encoded) {
            require(r->image[i].bytes >= body && r->image[i].size <= size && r->image[i].bytes + r->image[i].size <= body + size);
        } else if (oip_values(r, &model, values, &e) < 0) {
            require(e.code == ERR_INPUT && e.text[0]);
            return;
        } else {
            for (int k = 0; k < 6; k++)
                require(isfinite(values[k]));
        }
    }
    for (int i = 0; i < r->count * 3; i++)
        logits[i] = (float)(i * 7 % 5);
    struct text t = {0};
    int64_t header = oip_write(r, &model, logits, &t);
    if (!t.failed) {
        require(header <= (int64_t)t.len);
        cJSON *json = json_parse(t.s, header < 0 ? t.len : (size_t)header, &e);
        require(json != NULL);
        cJSON_Delete(json);
    }
    text_free(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct oip_request r;
    struct err e = {.text = ""};
    if (size < 2)
        return 0;
    const uint8_t how = data[0] & 3, number = data[1];
    data += 2;
    size -= 2;
    uint8_t *body = malloc(size ? size : 1);
    if (!body)
        return 0;
    memcpy(body, data, size);
    const uint8_t *end = memrchr(body, '}', size);
    int64_t header = how == 0 ? -1 : how == 1 ? 0 : how == 2 && end ? end + 1 - body : number;
    if (oip_parse(body, size, header, &model, &r, &e) == 0)
        check(&r, body, size);
    else
        require(e.code == ERR_INPUT && e.text[0]);
    free(body);
    return 0;
}

// SPDX-License-Identifier: MIT
//
// Any bytes as a JSON text: refused with a reason, or what it says can be printed and read again.

#include "models/json.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e = {.text = ""};
    cJSON *root = json_parse((const char *)data, size, &e);
    if (!root) {
        if (e.text[0] == '\0')
            abort();
        return 0;
    }
    char *text = cJSON_PrintUnformatted(root);
    cJSON *again = text ? json_parse(text, strlen(text), &e) : NULL;
    if (!again) {
        fprintf(stderr, "fuzz_json: %s\n", text ? e.text : "not printable");
        abort();
    }
    cJSON_Delete(again);
    cJSON_free(text);
    cJSON_Delete(root);
    return 0;
}

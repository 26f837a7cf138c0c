// SPDX-License-Identifier: MIT
#include "daemon/raw.h"

#include <string.h>

int raw_is_whole(const struct guard_request *r, const char *start, const char *version, size_t size)
{
    if (start + strlen(r->method) + 1 + strlen(r->uri) + 1 != version)
        return 0;
    const char *at = version + strlen(version) + 2;
    for (int i = 0; i < r->header_count; i++) {
        const struct guard_header *h = &r->headers[i];
        if (h->name != at)
            return 0;
        at += h->name_len + 1;
        at += strspn(at, " \t");
        if (h->value != at)
            return 0;
        at += h->value_len + 2;
    }
    return at + 2 == start + size;
}

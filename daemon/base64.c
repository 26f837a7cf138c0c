// SPDX-License-Identifier: MIT
#include "daemon/base64.h"

#include <stdint.h>

static int value_of(unsigned char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int base64_decode(char *text, size_t len, size_t *out_len, struct err *e)
{
    if (len % 4)
        return err_set(e, ERR_INPUT, "base64 text has %zu characters, which is not a multiple of 4", len);
    size_t pad = len && text[len - 1] == '=' ? (text[len - 2] == '=' ? 2 : 1) : 0;
    size_t n = 0;
    for (size_t i = 0; i < len; i += 4) {
        size_t pads = i + 4 == len ? pad : 0;
        uint32_t bits = 0;
        for (size_t j = 0; j < 4; j++) {
            int v = j >= 4 - pads ? 0 : value_of((unsigned char)text[i + j]);
            if (v < 0)
                return err_set(e, ERR_INPUT, "character %zu of the base64 text is not in its alphabet", i + j + 1);
            bits = bits << 6 | (uint32_t)v;
        }
        if ((pads == 1 && (bits & 0xff)) || (pads == 2 && (bits & 0xffff)))
            return err_set(e, ERR_INPUT, "the base64 text ends in bits that belong to no byte");
        text[n++] = (char)(bits >> 16);
        if (pads < 2)
            text[n++] = (char)(bits >> 8 & 0xff);
        if (pads < 1)
            text[n++] = (char)(bits & 0xff);
    }
    *out_len = n;
    return 0;
}

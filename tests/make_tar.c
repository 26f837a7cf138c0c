// SPDX-License-Identifier: MIT

#include "tests/make_tar.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void tar_seal(uint8_t *header)
{
    unsigned sum = 0;
    memset(header + 148, ' ', 8);
    for (int i = 0; i < 512; i++)
        sum += header[i];
    snprintf((char *)header + 148, 8, "%06o", sum);
    header[155] = ' ';
}

uint8_t *tar_add(struct tar_archive *a, int format, char type, const char *name, const void *content, size_t size)
{
    const size_t padded = (size + 511) / 512 * 512;
    uint8_t *header = a->bytes + a->size;
    if (sizeof a->bytes - a->size < 512 + padded)
        abort();
    memset(header, 0, 512 + padded);
    size_t length = strlen(name), folder = 0;
    if (length > 100 && format == TAR_USTAR) {
        folder = (size_t)(strchr(name + length - 101, '/') - name); /* goes to the prefix */
        memcpy(header + 345, name, folder++);
    }
    strncpy((char *)header, name + folder, 100);
    memcpy(header + 100,
           "0000644\0"
           "0000000\0"
           "0000000\0",
           24);
    snprintf((char *)header + 124, 12, "%011zo", size);
    memcpy(header + 136, "00000000000", 12);
    header[156] = (uint8_t)type;
    if (format == TAR_USTAR)
        memcpy(header + 257,
               "ustar\0"
               "00",
               8);
    else if (format == TAR_GNU)
        memcpy(header + 257, "ustar  ", 8);
    tar_seal(header);
    if (size > 0)
        memcpy(header + 512, content, size);
    a->size += 512 + padded;
    return header;
}

void tar_add_pax(struct tar_archive *a, char type, const char *const *records)
{
    char text[8192] = "";
    for (; *records; records++) {
        const int rest = (int)strlen(*records) + 2; /* with the space and the end of the line */
        int length = rest + 1;
        while (length != rest + snprintf(NULL, 0, "%d", length))
            length++;
        snprintf(text + strlen(text), sizeof text - strlen(text), "%d %s\n", length, *records);
    }
    tar_add(a, TAR_USTAR, type, "PaxHeaders/x", text, strlen(text));
}

void tar_end(struct tar_archive *a)
{
    memset(a->bytes + a->size, 0, 1024);
    a->size += 1024;
}

// SPDX-License-Identifier: MIT
//
// exif.c - finds the orientation in an EXIF block (EXIF 2.3 section 4.6; TIFF 6.0 section 2).
//
// The block is a TIFF file: byte order, 42, the offset of the first directory; a directory is a count and entries of 12 bytes
// (tag, type, count, value). The orientation lives in the first directory, so one pass over at most 65,535 entries decides: no
// offset is followed twice and a loop cannot be built.

#include "daemon/image.h"

#include <string.h>

enum { TAG_ORIENTATION = 0x0112, TYPE_SHORT = 3, ENTRY_BYTES = 12 };

static uint32_t get(const uint8_t *p, int bytes, int big_endian)
{
    uint32_t v = 0;
    for (int i = 0; i < bytes; i++)
        v |= (uint32_t)p[i] << 8 * (big_endian ? bytes - 1 - i : i);
    return v;
}

int exif_tiff_orientation(const uint8_t *tiff, size_t size)
{
    if (size < 8 || (memcmp(tiff, "II*\0", 4) && memcmp(tiff, "MM\0*", 4)))
        return 1;
    int big_endian = tiff[0] == 'M';
    size_t at = get(tiff + 4, 4, big_endian);
    if (at > size - 2)
        return 1;
    size_t entries = get(tiff + at, 2, big_endian);
    at += 2;
    for (; entries && size - at >= ENTRY_BYTES; entries--, at += ENTRY_BYTES) {
        const uint8_t *entry = tiff + at;
        if (get(entry, 2, big_endian) != TAG_ORIENTATION)
            continue;
        uint32_t value = get(entry + 8, 2, big_endian);
        int sane = get(entry + 2, 2, big_endian) == TYPE_SHORT && get(entry + 4, 4, big_endian) == 1;
        return sane && value >= 1 && value <= 8 ? (int)value : 1;
    }
    return 1;
}

int exif_orientation(const uint8_t *app1, size_t size)
{
    return size > 6 && !memcmp(app1, "Exif\0", 5) ? exif_tiff_orientation(app1 + 6, size - 6) : 1;
}

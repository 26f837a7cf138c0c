// SPDX-License-Identifier: MIT
//
// utf8.h - UTF-8 as RFC 3629, section 4, has it.

#ifndef MODELS_UTF8_H
#define MODELS_UTF8_H

#include <stddef.h>

/* Bytes of the sequence at s, of which `left` bytes may be looked at (at least 1); 0 when it is none: overlong, a surrogate,
   beyond U+10FFFF, cut off. */
size_t utf8_length(const char *s, size_t left);

/* Bytes of the control character at s, 0 when there is none: those of ASCII, and U+0080 to U+009F, which terminals obey as well. */
size_t utf8_control(const char *s);

/* For a text that was cut to fit: takes away the beginning of a sequence at its end. */
void utf8_mend_end(char *s);

#endif

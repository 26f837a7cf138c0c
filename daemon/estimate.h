// SPDX-License-Identifier: MIT
//
// estimate.h - how much memory decoding and resizing an image will take, from its header alone, for admission (budget.h).

#ifndef DAEMON_ESTIMATE_H
#define DAEMON_ESTIMATE_H

#include <stddef.h>
#include <stdint.h>

#include "daemon/image.h"
#include "models/preprocess.h"

/* An upper estimate in bytes. A header that cannot be read or is beyond the limits costs the least: the decoder will refuse it.
 */
size_t estimate_decode(const uint8_t *bytes, size_t size, const struct image_limits *limits, const struct preprocess *p);

#endif

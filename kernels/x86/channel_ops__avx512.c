// SPDX-License-Identifier: MIT

#define VECTOR_BYTES 64
#include "kernels/channel_ops.h"

const struct channel_ops channel_ops__avx512 = CHANNEL_OPS;

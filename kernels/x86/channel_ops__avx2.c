// SPDX-License-Identifier: MIT

#define VECTOR_BYTES 32
#include "kernels/channel_ops.h"

const struct channel_ops channel_ops__avx2 = CHANNEL_OPS;

// SPDX-License-Identifier: MIT

#include "kernels/channel_ops.h"

const struct channel_ops channel_ops__ref = CHANNEL_OPS;

#!/bin/sh
# SPDX-License-Identifier: MIT
#
# no_memory.sh - the daemon's n-th allocation fails, for every n, once and from then on: while it predicts, switches, reloads and tells
# about itself; at start and stop for every NO_MEMORY_STRIDE-th.

# shellcheck source=tests/lib.sh
. "${srcdir:-.}/tests/lib.sh"
start_daemon --model "$bundled" # finds a free port
stop_daemon
"$builddir/tests/proof/memory_sweep" "$builddir/tests/proof/no_memory.so" "$port" "$srcdir/tests/proof/images/ship.jpg" \
    "${NO_MEMORY_STRIDE:-5}" "$builddir/resnetd" "$bundled" -o log.level=warning

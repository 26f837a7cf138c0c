#!/bin/sh
# SPDX-License-Identifier: MIT
#
# switches.sh - two thousand switches of precision in random order, one right after the other, under the load of four clients.

# shellcheck source=tests/lib.sh
. "${srcdir:-.}/tests/lib.sh"
start_daemon --model "$bundled" -o server.max_body=64K -o inference.queue=64 -o server.request_timeout=60s -o log.level=warning
"$builddir/tests/proof/load" switches "$port" "$daemon_pid" 4 4000 2000 20 "$srcdir"/tests/proof/images/*.jpg
result=$?
stop_daemon
[ $result = 0 ] && [ "$exit_status" = 0 ]

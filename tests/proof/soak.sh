#!/bin/sh
# SPDX-License-Identifier: MIT
#
# soak.sh - a million requests by eight clients on kept connections, two fifths of them bad, and a hundred switches of precision.

# shellcheck source=tests/lib.sh
. "${srcdir:-.}/tests/lib.sh"
start_daemon --model "$bundled" -o server.max_body=64K -o inference.queue=64 -o server.request_timeout=60s -o log.level=warning
"$builddir/tests/proof/load" soak "$port" "$daemon_pid" 8 "${SOAK_REQUESTS:-1000000}" 100 40 "$srcdir"/tests/proof/images/*.jpg
result=$?
stop_daemon
echo "soak: exit status 0 after SIGTERM, reached $exit_status, $([ "$exit_status" = 0 ] && echo pass || echo fail)"
[ $result = 0 ] && [ "$exit_status" = 0 ]

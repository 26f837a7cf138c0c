#!/bin/sh
# SPDX-License-Identifier: MIT
#
# test_soak.sh - a short soak: good and bad requests and precision switches mixed; every answer is the right one, and at rest the
# daemon holds what it held before. tests/proof/soak.sh is the long one.

# shellcheck source=tests/lib.sh
. "${srcdir:-.}/tests/lib.sh"

if [ -n "$EMULATOR" ]; then requests=300 switches=10 clients=2; else requests=2000 switches=100 clients=6; fi
start_daemon --model "$bundled" -o server.max_body=64K -o inference.queue=64 -o server.request_timeout=60s -o log.level=warning
$EMULATOR "$builddir/tests/proof/load" soak "$port" "$daemon_pid" $clients $requests $switches 40 "$srcdir"/tests/proof/images/*.jpg >"$tmp/report" 2>&1
result=$?
cat "$tmp/report"
equal "what the clients saw" 0 $result
stop_daemon
equal "exit status" 0 "$exit_status"
finish

#!/bin/sh
# SPDX-License-Identifier: MIT
#
# serving.sh - what HTTP costs, how fast a full queue says so, and what images side by side bring to 16 clients. The last two take
# a directory with a ResNet-50 in int8: RESNETD_RESNET50.

# shellcheck source=tests/lib.sh
. "${srcdir:-.}/tests/lib.sh"
python=${PYTHON-/usr/bin/python3}
photo=$srcdir/tests/data/ship.jpg
command -v "$python" >/dev/null || { echo "SKIP: python3 is not here"; exit 77; }
status=0

measure()
{
    "$python" "$srcdir/tests/proof/serving.py" "$@" "$photo" || status=1
}

start_daemon --model "$bundled"
measure overhead "${url##*:}"
stop_daemon

if [ ! -e "${RESNETD_RESNET50-}/int8.safetensors" ]; then
    echo "SKIP: a full queue, batches: no ResNet-50 in RESNETD_RESNET50"
    exit $status
fi
[ "$(nproc)" -gt 1 ] || { echo "SKIP: a full queue, batches: one CPU"; exit $status; }
set -- --model "$RESNETD_RESNET50" --precision int8 -o inference.threads=2 -o server.request_timeout=60s
start_daemon "$@" -o inference.queue=4
measure full "${url##*:}"
stop_daemon

start_daemon "$@" -o inference.max_batch=1
first=${url##*:} first_pid=$daemon_pid
trap 'kill "$first_pid"; clean_up' EXIT
start_daemon "$@" -o inference.max_batch=16
measure batch "$first" "${url##*:}"
stop_daemon
exit $status

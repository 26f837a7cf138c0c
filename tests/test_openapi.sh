#!/bin/sh
# SPDX-License-Identifier: MIT
#
# test_openapi.sh - what GET /openapi.json says, held against what the daemon does: openapi.py asks for every documented route and
# status and compares the answers with the schemas.

# shellcheck source=tests/lib.sh
. "${srcdir:-.}/tests/lib.sh"

python=${PYTHON:-/usr/bin/python3}
$python -c 'import jsonschema; jsonschema.Draft202012Validator' 2>"$tmp/why" || {
    echo "SKIP: python3-jsonschema (4 or newer): $(tail -n 1 "$tmp/why")"
    exit 77
}

# Small memory, so that a large image is too much; a short deadline for bodies, a long one for emulators; time between `drain` and
# the end.
cat >"$tmp/conf" <<END
[server]
listen = 127.0.0.1:1
max_body = 1M
body_timeout = 3s
request_timeout = 1m
drain_grace = 1m
drain_timeout = 2m
[inference]
memory_limit = 96M
[model.m]
path = $bundled
precision = int8
keep = fp32
END
start_daemon -c "$tmp/conf"
$python "$srcdir/tests/openapi.py" "$url" "$srcdir/tests/data/ship.jpg" "$tmp/conf" >"$tmp/out" 2>&1
equal "openapi.py: exit status" 0 $?
cat "$tmp/out"
stop_daemon # it has begun to drain, for a minute: asked again, it ends at once
equal "SIGTERM while it drains: exit status" 0 "$exit_status"
finish

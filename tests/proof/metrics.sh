#!/bin/sh
# SPDX-License-Identifier: MIT
#
# metrics.sh - 100,000 random requests, and what /metrics says all the while: always the same series, none twice, no counter that
# falls, histograms whose counts agree, readable for promtool and for an OpenMetrics parser. REQUESTS and SEED choose others.

# shellcheck source=tests/lib.sh
. "${srcdir:-.}/tests/lib.sh"

python=${PYTHON:-/usr/bin/python3}
command -v "$python" >/dev/null || {
    echo "SKIP: metrics: python3 is not here"
    exit 77
}
printf '[server]\nheader_timeout = 20s\nbody_timeout = 1s\nmax_connections = 64\n[inference]\nqueue = 4\n[model.m]\npath = %s\nprecision = int8\nkeep = fp32\n' "$bundled" >"$tmp/conf"
start_daemon -c "$tmp/conf"
"$python" "$srcdir/tests/proof/metrics.py" "$port" "$srcdir/tests/data" "${REQUESTS:-100000}" "${SEED:-1}" "$tmp/text" || failures=1
if command -v promtool >/dev/null; then
    said=$(promtool check metrics <"$tmp/text" 2>&1)
    [ $? -eq 0 ] && [ -z "$said" ] && verdict=pass || verdict=fail failures=1
    echo "metrics: promtool check metrics: rc 0 and silent asked, '$said' reached, $verdict"
else
    echo "SKIP: metrics: promtool is not here"
fi
stop_daemon
[ "$exit_status" -eq 0 ] || failures=1
[ "$failures" -eq 0 ]

#!/bin/sh
# SPDX-License-Identifier: MIT
#
# test_switch.sh - precision switches in random order under load: every reply is 200, its logits are those of the precision it
# names, and memory is as it was.

# shellcheck source=tests/lib.sh
. "${srcdir:-.}/tests/lib.sh"

set -- "$srcdir"/tests/data/*.jpg
photo=$1
json='Content-Type: application/json'
if [ -n "$EMULATOR" ]; then switches=20 clients=3; else switches=200 clients=8; fi
seed=${SEED:-$(date +%s)}
echo "$switches switches, $clients clients, SEED=$seed"

resident_kb()
{
    [ ! -r "/proc/$daemon_pid/status" ] || awk '/^VmRSS/ { print $2 }' "/proc/$daemon_pid/status"
}

switch() # PRECISION
{
    request /precision -X PUT -H "$json" -d "{\"precision\":\"$1\"}"
    equal "PUT $1: status" 200 "$status"
    equal "PUT $1: active" "$1" "$(field active)"
}

# A body with its status at the end -> status, precision, logits.
digest()
{
    awk '{ status = substr($0, length($0) - 2); p = $0; l = $0
           sub(/.*"precision" *: *"/, "", p); sub(/".*/, "", p)
           sub(/.*"logits" *: *\[/, "", l); sub(/\].*/, "", l)
           print status, p, l }'
}

ask() # TIMES: on one connection; curl counts the numbers in brackets
{
    curl -s -m 600 "$url/predict?logits=1#[1-$1]" --data-binary "@$photo" -H 'Expect:' -w '%{http_code}\n' | tr -d '\r' |
        awk '/^[0-9][0-9][0-9]$/ { print held $0; held = ""; next } { held = held $0 }' | digest
}

start_daemon --model "$bundled" -o inference.queue=64 -o server.request_timeout=60s -o server.max_timeout=600s
for precision in fp32 fp16 hybrid int8; do
    switch $precision
    ask 1 >"$tmp/reference.$precision"
    equal "reference of $precision" "200 $precision" "$(cut -d' ' -f1,2 "$tmp/reference.$precision")"
done
cat "$tmp"/reference.* | sort -u >"$tmp/references"
equal "precisions whose logits differ" 4 "$(cut -d' ' -f3 "$tmp/references" | sort -u | grep -c .)"

client() # NUMBER
{
    while [ ! -e "$tmp/enough" ]; do
        ask 20
    done >"$tmp/client.$1"
}
pids=
i=0
while [ $i -lt $clients ]; do
    client $i &
    pids="$pids $!"
    i=$((i + 1))
done
answers()
{
    cat "$tmp"/client.* 2>/dev/null | grep -c .
}
loaded()
{
    [ "$(answers)" -ge $((clients * 10)) ]
}
checks=$((checks + 1))
wait_for $((patience * 4)) loaded || fail "load before the switches" "$((clients * 10)) answers" "$(answers)"
switch int8
before=$(resident_kb)
for precision in $(awk -v n=$switches -v seed="$seed" 'BEGIN {
    srand(seed); split("fp32 fp16 hybrid int8", p, " "); for (i = 0; i < n; i++) print p[1 + int(rand() * 4)] }'); do
    switch "$precision"
done
switch int8
under_load=$(answers)
touch "$tmp/enough"
# shellcheck disable=SC2086
wait $pids
sleep 0.2
after=$(resident_kb)
cat "$tmp"/client.* >"$tmp/replies"
echo "$(grep -c . "$tmp/replies") replies, $under_load of them by the last switch; resident: $before kB before, $after kB after"
cut -d' ' -f1,2 "$tmp/replies" | sort | uniq -c
equal "replies that are not 200" "" "$(grep -v '^200 ' "$tmp/replies" | sort | uniq -c)"
equal "replies whose logits are not those of the precision they name" "" "$(grep -vxFf "$tmp/references" "$tmp/replies" | sort | uniq -c)"
if [ -z "$EMULATOR" ]; then
    equal "precisions seen in replies" 4 "$(cut -d' ' -f2 "$tmp/replies" | sort -u | grep -c .)"
fi
# An emulator's own memory and a sanitizer's quarantine grow for reasons of their own.
if [ ! -r /proc/self/status ]; then
    echo "SKIP: resident memory: /proc is not mounted"
elif [ -z "$EMULATOR" ] && [ -z "${SANITIZED-}" ]; then
    checks=$((checks + 1))
    awk -v a="$before" -v b="$after" 'BEGIN { exit !(b <= 1.05 * a) }' || fail "resident memory after the switches" "at most 5 % above $before kB" "$after kB"
fi
stop_daemon
equal "exit status" 0 "$exit_status"
finish

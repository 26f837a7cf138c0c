#!/bin/sh
# SPDX-License-Identifier: MIT
#
# test_load.sh - more clients than a short queue has room for: each reply is 200 with the logits of a single request, or 503 with
# Retry-After; what the metrics say of it agrees. A long body is not waited for when there is no room.

# shellcheck source=tests/lib.sh
. "${srcdir:-.}/tests/lib.sh"

photo=$srcdir/tests/data/ship.jpg
if [ -n "$EMULATOR" ]; then times=4 clients=8; else times=40 clients=12; fi

metric() # NAME{LABELS}
{
    curl -s -m $patience "$url/metrics" | awk -v name="$1" '$1 == name { print $2 }'
}

start_daemon --model "$bundled" -o inference.queue=4 -o server.request_timeout=60s
request '/predict?logits=1' --data-binary "@$photo"
equal "a single request" 200 "$status"
logits=$(printf '%s' "$body" | tr -d ' \n' | sed 's/.*"logits":\[\([^]]*\)\].*/\1/')

client() # NUMBER: one line per reply: status, Retry-After, logits
{
    curl -s -m 600 "$url/predict?logits=1#[1-$times]" --data-binary "@$photo" -H 'Expect:' -w '\n%{http_code} %header{retry-after}\n' |
        tr -d '\r' | awk '/^[0-9][0-9][0-9] [0-9]*$/ { l = held; gsub(/[ \n]/, "", l); sub(/.*"logits":\[/, "", l); sub(/\].*/, "", l)
            print $1 "," $2 "," ($1 == 200 ? l : ""); held = ""; next } { held = held $0 }' >"$tmp/client.$1"
}
pids=
i=0
while [ $i -lt $clients ]; do
    client $i &
    pids="$pids $!"
    i=$((i + 1))
done
# shellcheck disable=SC2086
wait $pids
cat "$tmp"/client.* >"$tmp/replies"
full=$(grep -c '^503,' "$tmp/replies") good=$(grep -c '^200,' "$tmp/replies")
echo "$good answers, $full refused"
equal "replies" $((times * clients)) "$((full + good))"
equal "replies with other logits" "" "$(grep '^200,' "$tmp/replies" | grep -vxF "200,,$logits" | head -n 1)"
checks=$((checks + 1))
[ "$full" -gt 0 ] || fail "12 clients at a queue of 4" "some 503" "none"
equal "503 without Retry-After" "" "$(grep '^503,' "$tmp/replies" | grep -vxE '503,[1-9][0-9]*,' | head -n 1)"
equal "metrics: refused" "$full" "$(metric 'resnetd_requests_rejected_total{reason="queue_full"}')"
equal "metrics: computed" $((good + 1)) "$(metric 'resnetd_inferences_total{model="resnet20-cifar10",precision="int8"}')"
counted()
{
    [ "$(metric resnetd_batch_size_sum)" = $((good + 1)) ]
}
checks=$((checks + 1))
wait_for $patience counted || fail "metrics: images of all runs" $((good + 1)) "$(metric resnetd_batch_size_sum)"
if [ "$(nproc)" -gt 1 ]; then
    checks=$((checks + 1))
    [ "$(metric resnetd_batch_size_count)" -le "$good" ] || fail "runs of more than one image" "some" "none"
fi
# the deadline counts from the header's end, and this body takes longer
mkfifo "$tmp/slow"
(exec >"$tmp/slow"; head -c 1000 "$photo"; sleep 0.2; tail -c +1001 "$photo") &
expect "a deadline that cannot be kept" 504 '/predict?timeout_ms=1' -X POST -T - -H 'Expect:' <"$tmp/slow"
stop_daemon
equal "exit status" 0 "$exit_status"
finish

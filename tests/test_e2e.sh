#!/bin/sh
# SPDX-License-Identifier: MIT
#
# test_e2e.sh - the daemon as its users meet it: the real binary, the bundled model, curl.

# shellcheck source=tests/lib.sh
. "${srcdir:-.}/tests/lib.sh"

set -- "$srcdir"/tests/data/*.jpg
photo=$1
[ -s "$photo" ] || fail "a sample photo" "tests/data/*.jpg" "none"
[ -d "$bundled" ] || fail "the bundled model" "$bundled" "none"
[ $failures -eq 0 ] || finish
classes=10
json='Content-Type: application/json'

# ---- the command line, without serving anything

resnetd --version >"$tmp/out" 2>&1
equal "--version: exit status" 0 $?
match "--version" 'resnetd [0-9]+\.[0-9]+' "$(cat "$tmp/out")"
resnetd --help >"$tmp/out" 2>&1
equal "--help: exit status" 0 $?
match "--help names the options" '--print-config' "$(cat "$tmp/out")"
resnetd --no-such-option >"$tmp/out" 2>&1
equal "an unknown option: exit status" 2 $?
match "an unknown option is named" 'no-such-option' "$(cat "$tmp/out")"
resnetd --model "$bundled" --print-config >"$tmp/out" 2>"$tmp/err"
equal "--print-config: exit status" 0 $?
match "--print-config shows the default of listen" '^listen = 127\.0\.0\.1:8080$' "$(cat "$tmp/out")"
resnetd -c "$tmp/out" -t >"$tmp/err" 2>&1
equal "-t accepts what --print-config prints: exit status" 0 $?
resnetd --model "$bundled" -o inference.queue=7 --print-config >"$tmp/out" 2>"$tmp/err"
match "-o sets a key" '^queue = 7$' "$(cat "$tmp/out")"
printf '[server]\nlisten = 127.0.0.1:8080\nmax_bdy = 1M\n' >"$tmp/bad.conf"
resnetd -c "$tmp/bad.conf" -t >"$tmp/out" 2>&1
equal "-t, unknown key: exit status" 78 $?
match "-t, unknown key: file, line and key" 'bad\.conf:3:.*max_bdy' "$(cat "$tmp/out")"
resnetd --model "$tmp/no-such-model" -t >"$tmp/out" 2>&1
equal "-t, missing model: exit status" 1 $?
match "-t, missing model: its path and why" 'no-such-model: No such file' "$(cat "$tmp/out")"
resnetd --model "$bundled" --model "$bundled/" -t >"$tmp/out" 2>&1
equal "two models of one name: exit status" 2 $?
match "two models of one name: the name" 'two models of the name resnet20-cifar10' "$(cat "$tmp/out")"
resnetd --model "$tmp/no-such-model" --listen 127.0.0.1:1 >"$tmp/out" 2>&1
equal "start with a missing model: exit status" 1 $?

# ---- predictions

conf=$tmp/resnetd.conf
printf '[model.m]\npath = %s\n' "$bundled" >"$conf"
resnetd -c "$conf" --precision fp16 -t >"$tmp/out" 2>&1
equal "--precision beside configured models: exit status" 78 $?
match "--precision beside configured models: where to set it" 'models of its own, whose precision' "$(cat "$tmp/out")"
write_conf() # MAX_BODY [QUEUE]
{
    printf '[server]\nmax_body = %s\nlisten = 127.0.0.1:1\nadmin_token_file = %s\n[inference]\nqueue = %s\n[model.resnet20-cifar10]\npath = %s\nprecision = int8\nkeep = fp32\n' \
        "$1" "$tmp/token" "${2:-64}" "$bundled" >"$conf"
}
printf 'correct-horse-battery-staple\nand what it is for\n' >"$tmp/token"
write_conf 1M
start_daemon -c "$conf"

expect "live" 200 /livez
expect "predict: raw JPEG" 200 /predict --data-binary "@$photo" -H 'Content-Type: image/jpeg'
match "predict: type of the reply" '^[Cc]ontent-[Tt]ype: application/json' "$headers"
match "predict: Server-Timing" '^[Ss]erver-[Tt]iming: .*inference' "$headers"
match "predict: X-Request-Id" '^[Xx]-[Rr]equest-[Ii]d: .' "$headers"
equal "predict: precision" int8 "$(field precision)"
equal "predict: name of the model" resnet20-cifar10 "$(field name)"
equal "predict: format of the image" jpeg "$(field format)"
match "predict: digest" '^sha256:[0-9a-f]' "$(field digest)"
match "predict: timing" '"timing_ms":.*"queue".*"decode".*"preprocess".*"inference".*"total"' "$(printf '%s' "$body" | tr -d '\n')"
label=$(printf '%s' "$body" | grep -o '"label"[^,]*' | head -n 1)
count() # NAME: how often it is in the body
{
    printf '%s' "$body" | grep -o "\"$1\"" | wc -l | tr -d ' '
}
first_label()
{
    printf '%s' "$body" | grep -o '"label"[^,]*' | head -n 1
}
equal "predict: classes in the reply" 5 "$(count class)"
match "predict: a label" '"label" *: *"[a-z]' "$label"

expect "predict: content decides, not its declared type" 200 /predict --data-binary "@$photo" -H 'Content-Type: application/octet-stream'
equal "predict: same answer" "$label" "$(first_label)"
expect "predict: multipart" 200 /predict -F "file=@$photo"
equal "predict: same answer from multipart" "$label" "$(first_label)"
{
    printf '{"image":{"b64":"'
    base64 <"$photo" | tr -d '\n'
    printf '"}}'
} >"$tmp/image.json"
expect "predict: JSON" 200 /predict -H "$json" --data-binary "@$tmp/image.json"
equal "predict: same answer from JSON" "$label" "$(first_label)"
expect "predict: chunked" 200 /predict -H 'Transfer-Encoding: chunked' --data-binary "@$photo"
equal "predict: same answer from chunks" "$label" "$(first_label)"
expect "predict: request id" 200 /predict --data-binary "@$photo" -H 'X-Request-Id: kitchen-42'
match "predict: request id comes back" '^[Xx]-[Rr]equest-[Ii]d: kitchen-42$' "$headers"

expect "top_k=1" 200 '/predict?top_k=1' --data-binary "@$photo"
equal "top_k=1: classes" 1 "$(count class)"
expect "top_k=$classes" 200 "/predict?top_k=$classes" --data-binary "@$photo"
equal "top_k=$classes: classes" $classes "$(count class)"
sum=$(printf '%s' "$body" | grep -o '"probability" *: *[0-9.e-]*' | awk -F: '{ s += $2 } END { print (s > 0.99 && s < 1.01) ? "one" : s }')
equal "top_k=$classes: probabilities sum to one" one "$sum"
expect "threshold=1" 200 '/predict?threshold=1' --data-binary "@$photo"
equal "threshold=1: classes" 0 "$(count class)"
expect "logits=1" 200 '/predict?logits=1' --data-binary "@$photo"
equal "logits=1: numbers" $classes "$(printf '%s' "$body" | tr -d '\n ' | sed 's/.*"logits":\[\([^]]*\)\].*/\1/' | tr ',' '\n' | grep -c .)"
expect "precision=fp32, which is kept in memory" 200 '/predict?precision=fp32' --data-binary "@$photo"
equal "precision=fp32: precision" fp32 "$(field precision)"
problem "precision=fp16, which is not in memory" 409 '/predict?precision=fp16' --data-binary "@$photo"

# ---- what is refused, and how

for query in top_k=0 top_k=$((classes + 1)) top_k=-1 top_k=3x top_k= threshold=2 threshold=nan precision=fp17 timeout_ms=0 logits=7 colour=red \
    'top_k=1&top_k=2' top_k=%zz; do
    problem "parameter $query" 400 "/predict?$query" --data-binary "@$photo"
done
match "an unknown parameter: those that there are" 'unknown.*nocolour.*top_k, threshold' "$(curl -s "$url/predict?nocolour=1" --data-binary "@$photo")"
problem "unknown model" 404 '/predict?model=resnet9000' --data-binary "@$photo"
problem "text" 415 /predict --data-binary 'this is no image' -H 'Content-Type: image/jpeg'
problem "an empty body" 400 /predict -X POST -H 'Content-Length: 0'
head -c $(($(wc -c <"$photo") / 2)) "$photo" >"$tmp/half.jpg"
problem "a truncated JPEG" 422 /predict --data-binary "@$tmp/half.jpg"
problem "JSON that is none" 400 /predict -H "$json" --data-binary '{"image":'
problem "JSON without an image" 400 /predict -H "$json" --data-binary '{"picture":1}'
{ printf '['; yes '0,' | head -n 100000 | tr -d '\n'; printf '0]'; } >"$tmp/many.json"
problem "JSON of many values" 400 /predict -H "$json" --data-binary "@$tmp/many.json"
match "JSON of many values: what is wanted instead" 'b64' "$body"
problem "base64 that is none" 400 /predict -H "$json" --data-binary '{"image":{"b64":"*"}}'
head -c 2000000 /dev/zero >"$tmp/large"
problem "a body beyond max_body" 413 /predict --data-binary "@$tmp/large"
problem "the same in chunks" 413 /predict -H 'Transfer-Encoding: chunked' --data-binary "@$tmp/large"
problem "unknown path" 404 /no/such/path
problem "GET /predict" 405 /predict
match "GET /predict: Allow" '^[Aa]llow: .*POST' "$headers"
problem "POST /metrics" 405 /metrics --data-binary x
match "POST /metrics: Allow" '^[Aa]llow: .*GET' "$headers"
problem "DELETE /precision" 405 /precision -X DELETE
match "DELETE /precision: Allow" '^[Aa]llow: .*PUT' "$headers"
expect "and it goes on" 200 /predict --data-binary "@$photo"

# ---- precision

expect "GET /precision" 200 /precision
equal "GET /precision: active" int8 "$(field active)"
switch() # PRECISION [CURL OPTIONS...]: the content type is among the options, or JSON
{
    switch_to=$1
    shift
    case $* in
    *Content-Type*) ;;
    *) set -- "$@" -H "$json" ;;
    esac
    request /precision -X PUT -d "{\"precision\":\"$switch_to\"}" "$@"
}
previous=int8
for precision in fp16 hybrid fp32 int8; do
    switch $precision
    equal "PUT $precision: status" 200 "$status"
    equal "PUT $precision: active" $precision "$(field active)"
    equal "PUT $precision: previous" $previous "$(field previous)"
    equal "PUT $precision: dropped requests" 0 "$(field dropped_requests)"
    match "PUT $precision: how long it took" '"switch_ms" *: *[0-9]' "$body"
    expect "predict in $precision" 200 /predict --data-binary "@$photo"
    equal "predict in $precision: precision in the reply" $precision "$(field precision)"
    equal "predict in $precision: same class" "$label" "$(first_label)"
    previous=$precision
done
problem "PUT of a precision that there is not" 400 /precision -X PUT -H "$json" -d '{"precision":"fp17"}'
problem "PUT without a precision" 400 /precision -X PUT -H "$json" -d '{}'

resnetctl precision fp16 --model resnet20-cifar10 --url "$url" >"$tmp/out" 2>&1
match "resnetctl precision --model" '^active  *fp16$' "$(cat "$tmp/out")"
resnetctl precision int8 --model resnet9000 --url "$url" >"$tmp/out" 2>&1
match "resnetctl precision of a model that there is not" 'resnet9000' "$(cat "$tmp/out")"
resnetctl precision --model resnet9000 --url "$url" >"$tmp/out" 2>&1
equal "resnetctl precision of a model that there is not: exit status" 1 $?
switch int8
equal "and back" 200 "$status"

# ---- who may change things, and whom it talks to

refused() # WHAT CURL OPTIONS...
{
    refused_what=$1
    shift
    switch fp16 "$@"
    checks=$((checks + 1))
    case $status in
    403 | 400 | 415) ;;
    *) fail "$refused_what" "403, 400 or 415" "status $status: $body" ;;
    esac
    match "$refused_what: reason in words" '"detail" *: *"[^"]*[a-z]+ [a-z]+' "$body"
}
refused "PUT from another site's page" -H 'Origin: http://evil.example'
refused "PUT with Origin: null" -H 'Origin: null'
refused "PUT under a foreign name" -H 'Host: evil.example'
refused "PUT through a proxy (X-Forwarded-For)" -H 'X-Forwarded-For: 192.0.2.7'
refused "PUT through a proxy (Forwarded)" -H 'Forwarded: for=192.0.2.7'
refused "PUT as a form" -H 'Content-Type: application/x-www-form-urlencoded'
refused "PUT as plain text" -H 'Content-Type: text/plain'
expect "GET /precision after all these" 200 /precision
equal "none of them changed anything" int8 "$(field active)"
problem "GET under a foreign name" 403 /metrics -H 'Host: evil.example'
problem "predict under a foreign name" 403 /predict --data-binary "@$photo" -H 'Host: evil.example'
problem "predict from another site's page" 403 /predict --data-binary "@$photo" -H 'Sec-Fetch-Site: cross-site'
expect "predict from our own page" 200 /predict --data-binary "@$photo" -H 'Sec-Fetch-Site: same-origin'
expect "a link on another site's page" 200 / -H 'Sec-Fetch-Site: cross-site'
expect "localhost is a loopback name" 200 /livez -H "Host: localhost:$port"
switch int8 -H "Origin: $url"
equal "PUT from our own page" 200 "$status"
refused "PUT with a wrong token" -H 'X-Forwarded-For: 192.0.2.7' -H 'Authorization: Bearer correct-horse-battery-stable'
switch int8 -H 'X-Forwarded-For: 192.0.2.7' -H 'Authorization: Bearer correct-horse-battery-staple'
equal "PUT through a proxy with the token" 200 "$status"

# ---- what it tells

expect "metrics" 200 /metrics
match "metrics: type" '^[Cc]ontent-[Tt]ype: text/plain; version=0\.0\.4' "$headers"
sample() # REGULAR EXPRESSION: sum of the values of the series that match
{
    printf '%s\n' "$body" | grep -E "^$1" | awk '{ s += $NF } END { print s + 0 }'
}
at_least() # WHAT MINIMUM VALUE
{
    checks=$((checks + 1))
    awk -v a="$3" -v b="$2" 'BEGIN { exit !(a >= b) }' || fail "$1" "at least $2" "$3"
}
at_least "metrics: predictions answered" 15 "$(sample 'resnetd_http_requests_total\{.*predict.*code="200"')"
at_least "metrics: refusals with 415" 1 "$(sample 'resnetd_http_requests_total\{.*predict.*code="415"')"
at_least "metrics: refusals with 413 while the body came" 1 "$(sample 'resnetd_http_requests_total\{.*predict.*code="413"')"
equal "metrics: none of which was slow" 0 "$(sample 'resnetd_requests_rejected_total\{reason="slow"')"
at_least "metrics: inferences in int8" 10 "$(sample 'resnetd_inferences_total\{.*precision="int8"')"
at_least "metrics: inferences in hybrid" 1 "$(sample 'resnetd_inferences_total\{.*precision="hybrid"')"
for stage in queue decode preprocess inference; do
    at_least "metrics: $stage observed" 15 "$(sample "resnetd_stage_duration_seconds_count\{.*stage=\"$stage\"")"
done
equal "metrics: switches" 6 "$(sample 'resnetd_precision_switches_total\{')"
equal "metrics: int8 is active" 1 "$(sample 'resnetd_active_precision\{.*precision="int8"')"
equal "metrics: fp16 is not" 0 "$(sample 'resnetd_active_precision\{.*precision="fp16"')"
at_least "metrics: rejected by Host" 1 "$(sample 'resnetd_requests_rejected_total\{.*reason="host"')"
at_least "metrics: bytes of weights" 100000 "$(sample 'resnetd_model_memory_bytes\{.*kind="weights"')"
if [ -r /proc/self/status ]; then
    at_least "metrics: resident memory of the process" 1000000 "$(sample 'process_resident_memory_bytes')"
else
    echo "SKIP: memory of the process: /proc is not mounted"
    equal "metrics: no resident memory that nobody measured" "" "$(printf '%s\n' "$body" | grep '^process_resident')"
fi
match "metrics: build" '^resnetd_build_info\{.*kernels="' "$body"
doubled=$(printf '%s\n' "$body" | grep -v '^#' | sed 's/ [^ ]*$//' | sort | uniq -d)
equal "metrics: series that appear twice" "" "$doubled"
expect "models" 200 /models
match "models: ours" 'resnet20-cifar10' "$body"
expect "status" 200 /v1/status
match "status: paths for those on this machine" "$tmp/token" "$body"
expect "status through a proxy" 200 /v1/status -H 'X-Forwarded-For: 192.0.2.7'
no_match "status through a proxy: no paths" "$tmp|$bundled" "$body"
match "status through a proxy: the rest" '"max_body":"[0-9]' "$body"

# ---- reload

problem "2 MB before the reload" 413 /predict --data-binary "@$tmp/large"
write_conf 4M 65
kill -HUP "$daemon_pid"
larger_body_accepted()
{
    request /predict --data-binary "@$tmp/large"
    [ "$status" = 415 ]
}
checks=$((checks + 1))
wait_for $patience larger_body_accepted || fail "SIGHUP applies a new max_body" "415 for 2 MB of zeros" "status $status: $body"
match "what needs a restart is named" 'restart is needed for: inference.queue' "$(cat "$tmp/log")"
expect "status after the reload" 200 /v1/status
equal "what needs a restart stays in effect" '"queue":"64"' "$(printf '%s' "$body" | grep -o '"queue":"[0-9]*"')"
write_conf banana
kill -HUP "$daemon_pid"
broken_reported()
{
    grep -q 'resnetd\.conf:2:.*max_body' "$tmp/log"
}
checks=$((checks + 1))
wait_for $patience broken_reported || fail "SIGHUP with a broken file is reported" "file, line and key in the log" "$(tail -n 5 "$tmp/log")"
expect "after the broken reload" 200 /predict --data-binary "@$photo"
expect "HTTP/1.0" 200 /predict --http1.0 --data-binary "@$photo"
expect "ready after the broken reload" 200 /readyz
problem "the old configuration goes on" 415 /predict --data-binary "@$tmp/large"

stop_daemon
equal "SIGTERM: exit status" 0 "$exit_status"

# ---- SIGTERM under load: whatever was asked is answered; afterwards nobody listens

start_daemon --model "$bundled" -o server.drain_timeout=60s --listen "unix:$tmp/socket" -o "server.hosts=$(printf 'red\033[31m')"
match "resnetctl status: no command to the terminal" 'red\?\[31m' "$(resnetctl status --url "unix:$tmp/socket")"
equal "unix socket: mode" 660 "$(stat -c %a "$tmp/socket")"
request /precision --unix-socket "$tmp/socket" -X PUT -d '{"precision":"fp16"}' -H 'Host: anything'
equal "unix socket: whoever may write to it may change things" fp16 "$(field active)"
client() # NUMBER: asks until nobody answers the door; "status exit" of curl per request
{
    while :; do
        answer=$(curl -s -o /dev/null -m $patience -w '%{http_code}' --data-binary "@$photo" "$url/predict")
        echo "$answer $?"
        [ "$answer" = 200 ] || break
    done >"$tmp/client.$1"
}
clients=
for i in 1 2 3 4; do
    client $i &
    clients="$clients $!"
done
busy()
{
    [ "$(cat "$tmp"/client.* | grep -c '^200')" -ge 8 ]
}
checks=$((checks + 1))
wait_for $patience busy || fail "load before SIGTERM" "8 answers" "$(cat "$tmp"/client.*)"
stop_daemon
# shellcheck disable=SC2086
wait $clients
equal "SIGTERM under load: exit status" 0 "$exit_status"
equal "SIGTERM under load: the unix socket is gone" "" "$(ls "$tmp" | grep socket)"
# 7: connection refused. A 503 tells to come back later and is an answer, too.
equal "SIGTERM under load: requests that failed" "" "$(cat "$tmp"/client.* | grep -vE '^200 0$|^503 0$|^000 7$')"

finish

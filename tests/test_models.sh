#!/bin/sh
# SPDX-License-Identifier: MIT
#
# test_models.sh - model files on a running daemon: the self-test at start, switch and reload; models that come and go; files that are
# damaged, replaced, cut or overwritten while they are served.

# shellcheck source=tests/lib.sh
. "${srcdir:-.}/tests/lib.sh"

set -- "$srcdir"/tests/proof/images/*.jpg
photo=$1
json='Content-Type: application/json'
dir=$tmp/net
make_model()
{
    $EMULATOR "$builddir/tests/proof/make_model" "$@" || fail "make_model $*" "a file" "none"
}

switch() # WHAT STATUS PRECISION
{
    expect "$1" "$2" /precision -X PUT -H "$json" -d "{\"precision\":\"$3\"}"
}

logits() # of the photo, by whatever is active
{
    curl -s -m $patience -H 'Expect:' --data-binary "@$photo" "$url/predict?logits=1" | sed 's/.*"precision":"\([a-z0-9]*\)".*"logits":\[\([^]]*\)\].*/\1 \2/'
}

# ---- a model that does not pass at start: the daemon stays to tell why

mkdir "$dir"
make_model "$bundled/int8.safetensors" "$dir/int8.safetensors" golden
make_model "$bundled/fp16.safetensors" "$dir/fp16.safetensors" selftest
match "inspect: images of the self-test" 'self-test +2 images' "$(resnetctl inspect "$dir/fp16.safetensors")"
match "inspect --json: images of the self-test" '"selftest_images":[[:space:]]*2' "$(resnetctl inspect --json "$dir/fp16.safetensors")"

ready() # for start_daemon: it answers
{
    [ "$(curl -s -o /dev/null -m 5 -w '%{http_code}' "$url/livez")" = 200 ]
}
start_daemon --model "$dir"
problem "self-test failed at start: /readyz" 503 /readyz
match "/readyz: the reason" 'self-test failed.*logit 9 of image 1.*where the file has' "$body"
problem "self-test failed at start: /predict" 503 /predict --data-binary "@$photo"
match "/predict: the reason" 'self-test failed' "$body"
expect "self-test failed at start: /livez" 200 /livez
expect "self-test failed at start: /v1/status" 200 /v1/status
equal "/v1/status: ready" false "$(field ready)"
match "the log tells it" 'not ready: model net: int8: the self-test failed' "$(cat "$tmp/log")"
expect "reload of the same file" 409 /v1/reload -X POST -H "$json"
switch "switch to a precision that passes" 200 fp16
expect "ready after the switch" 200 /readyz
equal "answers after the switch" fp16 "$(logits | cut -d' ' -f1)"
switch "switch to the one that does not" 500 int8
match "the switch tells why" 'self-test failed' "$body"
equal "the old one goes on" fp16 "$(logits | cut -d' ' -f1)"
make_model "$bundled/int8.safetensors" "$dir/new" selftest
mv "$dir/new" "$dir/int8.safetensors"
switch "switch to the mended file" 200 int8
expect "ready" 200 /readyz
stop_daemon
equal "exit status" 0 "$exit_status"

make_model "$bundled/int8.safetensors" "$dir/int8.safetensors" weight
start_daemon --model "$dir"
problem "one weight is another: /readyz" 503 /readyz
make_model "$bundled/int8.safetensors" "$dir/new" selftest
mv "$dir/new" "$dir/int8.safetensors"
expect "reload of a good file" 200 /v1/reload -X POST -H "$json"
expect "ready after the reload" 200 /readyz
expect "answers after the reload" 200 /predict --data-binary "@$photo"
stop_daemon

# ---- on a daemon that serves, nothing that is wrong replaces what is right

make_model "$bundled/fp32.safetensors" "$dir/fp32.safetensors" infinite
make_model "$bundled/hybrid.safetensors" "$dir/hybrid.safetensors" weight
head -c 100000 "$bundled/fp16.safetensors" >"$dir/fp16.safetensors"
start_daemon --model "$dir"
reference=$(logits)
match "a reference" '^int8 [-0-9.]+,' "$reference"
for bad in 'fp32 logits that are not finite' 'hybrid self-test failed' 'fp16 truncated|end of the file|beyond the file'; do
    switch "switch to a bad ${bad%% *}" 500 "${bad%% *}"
    match "switch to a bad ${bad%% *}: reason" "${bad#* }" "$body"
    equal "logits after it" "$reference" "$(logits)"
done
make_model "$bundled/int8.safetensors" "$dir/new" golden
mv "$dir/int8.safetensors" "$dir/good"
mv "$dir/new" "$dir/int8.safetensors"
problem "reload of a bad file" 409 /v1/reload -X POST -H "$json"
match "reload of a bad file: reason" 'self-test failed' "$body"
equal "logits after it" "$reference" "$(logits)"
expect "ready after it" 200 /readyz
# The file that is served is cut, overwritten in place, and removed: what is in memory is a copy.
mv "$dir/good" "$dir/int8.safetensors"
expect "reload of the good file" 200 /v1/reload -X POST -H "$json"
: >"$dir/int8.safetensors"
equal "logits while the file is empty" "$reference" "$(logits)"
head -c 200000 /dev/urandom >"$dir/int8.safetensors"
equal "logits while the file is noise" "$reference" "$(logits)"
problem "reload of noise" 409 /v1/reload -X POST -H "$json"
rm "$dir/int8.safetensors"
equal "logits while there is no file" "$reference" "$(logits)"
problem "reload without the file" 409 /v1/reload -X POST -H "$json"
equal "logits after it" "$reference" "$(logits)"
if [ -z "$EMULATOR" ]; then
    equal "mappings of the model's files" "" "$(grep safetensors "/proc/$daemon_pid/maps")"
fi
stop_daemon
equal "exit status" 0 "$exit_status"

# ---- models come and go with the configuration

rm -r "$dir"
mkdir "$dir"
cp "$bundled/int8.safetensors" "$bundled/fp16.safetensors" "$dir"
first="[model.one]
path = $dir
precision = int8"
second="[model.two]
path = $dir
precision = fp16"
echo "$first" >"$tmp/resnetd.conf"
start_daemon -c "$tmp/resnetd.conf"
expect "a model that is not there" 404 "/predict?model=two" --data-binary "@$photo"
printf '%s\n%s\n' "$first" "$second" >"$tmp/resnetd.conf"
expect "reload adds a model" 200 /v1/reload -X POST -H "$json"
expect "the new model" 200 "/predict?model=two" --data-binary "@$photo"
equal "the new model's precision" fp16 "$(field precision)"
echo "$second" >"$tmp/resnetd.conf"
kill -HUP "$daemon_pid"
gone()
{
    request "/predict?model=one" --data-binary "@$photo"
    [ "$status" = 404 ]
}
checks=$((checks + 1))
wait_for $patience gone || fail "SIGHUP removes a model" 404 "$status"
expect "the one that is left is the default" 200 /predict --data-binary "@$photo"
equal "its name" two "$(field name)"
stop_daemon
equal "exit status" 0 "$exit_status"
finish

#!/bin/sh
# SPDX-License-Identifier: MIT
#
# test_v2.sh - the Open Inference Protocol v2 as its clients speak it: requests in the form that the specification and its binary
# tensor and classification extensions print, against the real daemon and the bundled model.

# shellcheck source=tests/lib.sh
. "${srcdir:-.}/tests/lib.sh"

photo=$srcdir/tests/data/ship.jpg
other=$srcdir/tests/data/truck.jpg
m=/v2/models/resnet20-cifar10
json='Content-Type: application/json'
printf '[server]\nlisten = 127.0.0.1:1\nmax_body = 2M\n[model.resnet20-cifar10]\npath = %s\nprecision = int8\nkeep = fp32\n[model.second]\npath = %s\nprecision = fp16\n' \
    "$bundled" "$bundled" >"$tmp/conf"
start_daemon -c "$tmp/conf"

# error WHAT STATUS PATH [CURL OPTIONS...]: a problem, which on these paths also says why in the member that the protocol defines
error()
{
    problem "$@"
    match "$1: the protocol's error member" '"error":"[^"]*[a-z]+ [a-z]+' "$body"
}

# ---- what there is

expect "server metadata" 200 /v2
equal "server metadata: name" resnetd "$(field name)"
match "server metadata: extensions" '"extensions":\["binary_tensor_data","classification"' "$body"
expect "server metadata, with a slash" 200 /v2/
expect "live" 200 /v2/health/live
equal "live: body" '{"live":true}' "$body"
expect "ready" 200 /v2/health/ready
expect "model metadata" 200 $m
match "model metadata: versions are what is in memory" '"versions":\["fp32","int8"\]' "$body"
match "model metadata: inputs" '"inputs":\[\{"name":"image","datatype":"BYTES","shape":\[-1\]\},\{"name":"tensor","datatype":"FP32","shape":\[-1,3,32,32\]\}\]' "$body"
match "model metadata: outputs" '\{"name":"probabilities","datatype":"FP32","shape":\[-1,10\]\},\{"name":"logits"' "$body"
match "model metadata: preprocessing" '"preprocessing.mean":"0.4914,0.4822,0.4465"' "$body"
expect "metadata of a version" 200 $m/versions/fp32
equal "metadata of a version: precision" fp32 "$(field precision)"
expect "metadata of another model" 200 /v2/models/second
expect "model ready" 200 $m/ready
equal "model ready: body" '{"name":"resnet20-cifar10","ready":true}' "$body"
expect "version ready" 200 $m/versions/fp32/ready
error "a version that is not in memory is not ready" 503 $m/versions/hybrid/ready
error "metadata of a version that is not in memory" 404 $m/versions/hybrid
error "a version that there is not" 404 $m/versions/1
error "a model that there is not" 404 /v2/models/resnet9000
error "its readiness" 404 /v2/models/resnet9000/ready
error "a name with strange characters" 404 '/v2/models/a%2Fb'
error "a name of 65 characters" 404 /v2/models/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/ready
match "a name of 65 characters: no such path" 'nothing at' "$body"
error "POST of metadata" 405 $m -d x
error "GET of infer" 405 $m/infer
match "GET of infer: Allow" '^[Aa]llow: .*POST' "$headers"

# ---- images

# bytes NUMBER: it as four bytes, the lowest first
bytes()
{
    # shellcheck disable=SC2059 # octal escapes are the point
    printf "$(printf '\\%03o\\%03o\\%03o\\%03o' $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) $(($1 >> 24 & 255)))"
}
size()
{
    wc -c <"$1" | tr -d ' '
}
element() # FILE
{
    bytes "$(size "$1")"
    cat "$1"
}
# binary JSON FILE...: a request of JSON and of what is in the files, to $tmp/request; header says how long the JSON is
binary()
{
    printf '%s' "$1" >"$tmp/request"
    header="Inference-Header-Content-Length: $(size "$tmp/request")"
    shift
    cat "$@" >>"$tmp/request"
}
# split: sets reply to the JSON of a reply that binary data follows, and json_bytes to its length
split()
{
    json_bytes=$(printf '%s\n' "$headers" | sed -n 's/^[Ii]nference-[Hh]eader-[Cc]ontent-[Ll]ength: //p')
    reply=$(head -c "${json_bytes:-0}" "$tmp/body")
}

request '/predict?logits=1' --data-binary "@$photo"
logits=$(printf '%s' "$body" | sed 's/.*"logits":\(\[[^]]*\]\).*/\1/')
request '/predict?logits=1&precision=fp32' --data-binary "@$photo"
logits_fp32=$(printf '%s' "$body" | sed 's/.*"logits":\(\[[^]]*\]\).*/\1/')

printf '{"id":"42","inputs":[{"name":"image","shape":[1],"datatype":"BYTES","data":["%s"]}],"outputs":[{"name":"logits"}]}' \
    "$(base64 <"$photo" | tr -d '\n')" >"$tmp/image.json"
expect "an image in JSON" 200 $m/infer -H "$json" --data-binary "@$tmp/image.json"
equal "an image in JSON: the reply" \
    '{"model_name":"resnet20-cifar10","model_version":"int8","id":"42","outputs":[{"name":"logits","datatype":"FP32","shape":[1,10],"data":'"$logits}]}" "$body"
match "an image in JSON: type of the reply" '^[Cc]ontent-[Tt]ype: application/json' "$headers"
no_match "an image in JSON: no length of JSON" '^[Ii]nference-[Hh]eader' "$headers"
match "an image in JSON: Server-Timing" '^[Ss]erver-[Tt]iming: .*inference' "$headers"
expect "a version chooses the precision" 200 $m/versions/fp32/infer -H "$json" --data-binary "@$tmp/image.json"
equal "a version: model_version" fp32 "$(field model_version)"
equal "a version: its logits" "$logits_fp32" "$(printf '%s' "$body" | sed 's/.*"data":\(\[[^]]*\]\).*/\1/')"
error "a version that is not in memory" 409 $m/versions/hybrid/infer -H "$json" --data-binary "@$tmp/image.json"
error "infer: no such model" 404 /v2/models/resnet9000/infer -H "$json" --data-binary "@$tmp/image.json"

element "$photo" >"$tmp/photo"
element "$other" >"$tmp/other"
binary '{"inputs":[{"name":"image","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":'"$(size "$tmp/photo")"'}}],"outputs":[{"name":"probabilities","parameters":{"classification":2}}]}' \
    "$tmp/photo"
expect "a binary image" 200 $m/infer -H "$header" -H 'Content-Type: application/octet-stream' --data-binary "@$tmp/request"
match "a binary image: classes as value:index:label" '"datatype":"BYTES","shape":\[1,2\],"data":\["0\.9[0-9]*:8:ship","0\.0[0-9]*:[0-9]:[a-z]*"\]' "$body"
expect "the same in chunks" 200 $m/infer -H "$header" -H 'Transfer-Encoding: chunked' --data-binary "@$tmp/request"
binary '{"inputs":[{"name":"image","shape":[3],"datatype":"BYTES","parameters":{"binary_data_size":'"$(cat "$tmp/photo" "$tmp/other" "$tmp/photo" | wc -c | tr -d ' ')"'}}],"parameters":{"binary_data_output":true,"priority":1},"outputs":[{"name":"logits","parameters":{"binary_data":false}},{"name":"probabilities","parameters":{"classification":1}}]}' \
    "$tmp/photo" "$tmp/other" "$tmp/photo"
expect "three binary images" 200 $m/infer -H "$header" --data-binary "@$tmp/request"
match "three binary images: type" '^[Cc]ontent-[Tt]ype: application/octet-stream' "$headers"
split
match "three binary images: shapes" '"shape":\[3,10\].*"shape":\[3,1\],"parameters":\{"binary_data_size":[0-9]+\}' "$reply"
first=$(printf '%s' "$logits" | sed 's/^\[//; s/\]$//')
match "three binary images: the first and the last are the same" "\"data\":\[$first,.*,$first\]" "$reply"
match "three binary images: classes behind the JSON" ':8:ship.*:9:truck.*:8:ship' "$(tail -c +$((json_bytes + 1)) "$tmp/body" | tr -d '\000-\037')"
expect "an image and nothing else" 200 $m/infer -H 'Inference-Header-Content-Length: 0' --data-binary "@$photo"
split
match "an image and nothing else: both outputs, binary" '"binary_data_size":40.*"binary_data_size":40' "$reply"
equal "an image and nothing else: length" $((json_bytes + 80)) "$(size "$tmp/body")"
equal "an image and nothing else: the logits" "$(printf '%s' "$first" | tr ',' '\n' | awk '{ printf "%.3f\n", $1 }')" \
    "$(tail -c 40 "$tmp/body" | od -An -v -t f4 | tr -s ' \n' '\n' | awk 'NF { printf "%.3f\n", $1 }')"
expect "the same behind its length" 200 $m/infer -H 'Inference-Header-Content-Length: 0' --data-binary "@$tmp/photo"

# ---- tensors

zeros=$(yes 0 | head -n 3072 | paste -sd, -)
printf '{"inputs":[{"name":"tensor","shape":[1,3,32,32],"datatype":"FP32","data":[%s]}],"outputs":[{"name":"logits"}]}' "$zeros" >"$tmp/tensor.json"
expect "a tensor in JSON" 200 $m/infer -H "$json" --data-binary "@$tmp/tensor.json"
flat=$body
row=$(yes 0 | head -n 32 | paste -sd, -)
plane=$(yes "[$row]" | head -n 32 | paste -sd, -)
printf '{"inputs":[{"name":"tensor","shape":[1,3,32,32],"datatype":"FP32","data":[[[%s],[%s],[%s]]]}],"outputs":[{"name":"logits"}]}' \
    "$plane" "$plane" "$plane" >"$tmp/nested.json"
expect "the same nested" 200 $m/infer -H "$json" --data-binary "@$tmp/nested.json"
equal "the same nested: reply" "$flat" "$body"
head -c 12288 /dev/zero >"$tmp/zeros"
binary '{"inputs":[{"name":"tensor","shape":[1,3,32,32],"datatype":"FP32","parameters":{"binary_data_size":12288}}],"outputs":[{"name":"logits"}]}' "$tmp/zeros"
expect "the same in binary" 200 $m/infer -H "$header" --data-binary "@$tmp/request"
equal "the same in binary: reply" "$flat" "$body"
expect "a tensor and nothing else" 200 $m/infer -H 'Inference-Header-Content-Length: 0' --data-binary "@$tmp/zeros"
binary '{"inputs":[{"name":"tensor","shape":[2,3,32,32],"datatype":"FP32","parameters":{"binary_data_size":24576}}]}' "$tmp/zeros" "$tmp/zeros"
expect "two tensors" 200 $m/infer -H "$header" --data-binary "@$tmp/request"
match "two tensors: both outputs" '"probabilities".*"shape":\[2,10\].*"logits".*"shape":\[2,10\]' "$body"

# ---- what is refused

error "not JSON" 400 $m/infer -H "$json" -d '{"inputs":'
error "an empty body" 400 $m/infer -X POST -H 'Content-Length: 0'
error "no inputs" 400 $m/infer -H "$json" -d '{}'
error "an input of another model" 400 $m/infer -H "$json" -d '{"inputs":[{"name":"input0","shape":[2,2],"datatype":"UINT32","data":[1,2,3,4]}]}'
match "an input of another model: what there is" "'image' and 'tensor'" "$body"
error "too few numbers" 400 $m/infer -H "$json" -d '{"inputs":[{"name":"tensor","shape":[1,3,32,32],"datatype":"FP32","data":[1,2]}]}'
error "a damaged image among good ones" 422 $m/infer -H "$json" \
    -d '{"inputs":[{"name":"image","shape":[2],"datatype":"BYTES","data":["'"$(base64 <"$photo" | tr -d '\n')"'","'"$(head -c 3000 "$photo" | base64 | tr -d '\n')"'"]}]}'
match "a damaged image among good ones: which" 'image 2' "$body"
error "text for an image" 415 $m/infer -H "$json" -d '{"inputs":[{"name":"image","shape":[1],"datatype":"BYTES","data":["dGhpcyBpcyBubyBpbWFnZQ=="]}]}'
gzip <"$tmp/image.json" >"$tmp/image.json.gz"
error "a compressed body" 415 $m/infer -H "$json" -H 'Content-Encoding: gzip' --data-binary "@$tmp/image.json.gz"
match "a compressed body: what is wrong" "content coding 'gzip'" "$body"
error "a JSON longer than the body" 400 $m/infer -H 'Inference-Header-Content-Length: 999999' -H "$json" --data-binary "@$tmp/image.json"
error "a length that is none" 400 $m/infer -H 'Inference-Header-Content-Length: -1' -H "$json" --data-binary "@$tmp/image.json"
binary '{"inputs":[{"name":"image","shape":[33],"datatype":"BYTES","parameters":{"binary_data_size":132}}]}' /dev/null
error "33 images" 400 $m/infer -H "$header" --data-binary "@$tmp/request"
size_of_20=$(($(size "$tmp/photo") * 20))
# shellcheck disable=SC2046 # twenty words
binary '{"parameters":{"timeout":1000},"inputs":[{"name":"image","shape":[20],"datatype":"BYTES","parameters":{"binary_data_size":'$size_of_20'}}]}' \
    $(yes "$tmp/photo" | head -n 20)
error "20 images within a millisecond" 504 $m/infer -H "$header" --data-binary "@$tmp/request"
head -c 3000000 /dev/zero >"$tmp/large"
error "a body beyond max_body" 413 $m/infer --data-binary "@$tmp/large"
error "the same in chunks" 413 $m/infer -H 'Transfer-Encoding: chunked' --data-binary "@$tmp/large"

# ---- metrics: a label is the pattern, whatever clients ask for

expect "metrics" 200 /metrics
match "metrics: the route's pattern" '^resnetd_http_requests_total\{route="/v2/models/\{m\}/infer",method="POST",code="200"\} [1-9]' "$body"
no_match "metrics: no name from a path" 'resnet9000' "$body"

stop_daemon
equal "SIGTERM: exit status" 0 "$exit_status"
finish

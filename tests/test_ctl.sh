#!/bin/sh
# SPDX-License-Identifier: MIT
#
# test_ctl.sh - resnetctl from end to end: import, inspect, quantize, run, eval and bench on a small network and noise made here; then
# the bundled model and real checkpoints where they are. Wrong usage, failures and JSON fields are checked on the way.

# shellcheck source=tests/ctl.sh
. "${srcdir:-.}/tests/ctl.sh"
data=${RESNETD_DATA:-$src/../shared/data}

# fields NAME...: the last output is JSON with these fields
fields() {
    for f in "$@"; do
        grep -q "\"$f\":" "$tmp/out" || complain "no field $f in the JSON output"
    done
    if command -v jq >/dev/null; then
        jq . "$tmp/out" >/dev/null || complain "the output is not JSON"
    fi
}

# ---- a small checkpoint: a CIFAR ResNet-8 with 4, 8 and 16 channels and option-A shortcuts

# Seven floats in little endian without a zero or newline byte: 0.1 -0.2 0.05 -0.1 0.3 -0.3 0.15; and 0.3 alone.
mixed=$(printf '\315\314\314\075\315\314\114\276\315\314\114\075\315\314\314\275\232\231\231\076\232\231\231\276\232\231\031\076')
plain=$(printf '\232\231\231\076')

tensor() { # NAME SHAPE COUNT PATTERN
    header="$header${header:+,}\"$1\":{\"dtype\":\"F32\",\"shape\":[$2],\"data_offsets\":[$offset,$((offset + 4 * $3))]}"
    offset=$((offset + 4 * $3))
    yes "$4" | tr -d '\n' | head -c $((4 * $3)) >>"$tmp/data"
}

conv() { # NAME BN OUT IN
    tensor "$1.weight" "$3,$4,3,3" $((9 * $3 * $4)) "$mixed"
    tensor "$2.weight" "$3" "$3" "$plain"
    tensor "$2.bias" "$3" "$3" "$mixed"
    tensor "$2.running_mean" "$3" "$3" "$mixed"
    tensor "$2.running_var" "$3" "$3" "$plain"
}

checkpoint() { # FILE PATTERN-OF-LAST-WEIGHTS PATTERN-OF-LAST-BIASES
    : >"$tmp/data"
    offset=0
    header=
    conv conv1 bn1 4 3
    in=4
    for stage in 1 2 3; do
        out=$((2 << stage))
        conv layer$stage.0.conv1 layer$stage.0.bn1 $out $in
        conv layer$stage.0.conv2 layer$stage.0.bn2 $out $out
        in=$out
    done
    tensor linear.weight 10,16 160 "$2"
    tensor linear.bias 10 10 "$3"
    header="{$header}"
    while [ $((${#header} % 8)) -ne 0 ]; do header="$header "; done
    length=${#header}
    # shellcheck disable=SC2059 # the format is the two bytes
    printf "\\$(printf %03o $((length % 256)))\\$(printf %03o $((length / 256)))\0\0\0\0\0\0" >"$1"
    printf '%s' "$header" >>"$1"
    cat "$tmp/data" >>"$1"
}

# ---- 20 records of noise with labels, and one JPEG: a red disc on a gradient

records() { # FILE
    awk 'BEGIN {
        x = 1
        for (i = 0; i < 20; i++) {
            printf "%c", i % 9 + 1
            for (j = 0; j < 3072; j++) {
                x = (x * 16807) % 2147483647
                printf "%c", (int(x / 1000) + j * i) % 255 + 1
            }
        }
    }' >"$1"
}

photo() { # FILE
    base64 -d >"$1" <<'END'
/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDACgcHiMeGSgjISMtKygwPGRBPDc3PHtYXUlkkYCZlo+AjIqgtObDoKrarYqMyP/L2u71////m8H////6/+b9//j/
2wBDASstLTw1PHZBQXb4pYyl+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj4+Pj/wAARCAAoADADASIAAhEBAxEB/8QA
GAAAAwEBAAAAAAAAAAAAAAAAAAECAwT/xAAaEAADAQEBAQAAAAAAAAAAAAAAARExAhIh/8QAGAEBAQEBAQAAAAAAAAAAAAAAAwQFAAH/xAAbEQEBAAMBAQEA
AAAAAAAAAAABAAIRIQMxYf/aAAwDAQACEQMRAD8A5YVCoUuaynLLXY8XfKIOGySWIbSekr7m/lUebYwcL8jh65buHVMGlC4HmoT07ilH5ZhkLSAOrQ3CLVpf
s19ZUK44i+6VBDhT5ZDlyUHAAds4Y80a5SxAAbKLVBwACZRv/9k=
END
}

checkpoint "$tmp/small.safetensors" "$mixed" "$mixed"
records "$tmp/noise.bin"
photo "$tmp/disc.jpg"
[ "$(wc -c <"$tmp/noise.bin")" -eq 61460 ] || { echo "this awk cannot write bytes"; exit 99; }

# ---- usage

expect 0 --help
sed -n 's/^  \([a-z]*\) .*/\1/p' "$tmp/out" >"$tmp/commands"
[ "$(wc -l <"$tmp/commands")" -ge 11 ] || complain "--help does not list the commands"
expect 0 --version
grep -q '^resnetctl [0-9]' "$tmp/out" || complain "--version does not show a version"
expect 2
expect 2 frobnicate
says frobnicate

# Every option that a command explains is in the man page, and every one in the man page is explained.
while read -r command; do
    expect 0 "$command" --help
    sed -n 's/^  ... --\([a-z0-9-]*\).*/\1/p' "$tmp/out" >>"$tmp/options"
    grep -q "^\.Cm .*$command" "$src/docs/resnetctl.1" || complain "the man page lacks the command $command"
    expect 2 "$command" --no-such-option
    says no-such-option
done <"$tmp/commands"
for option in $(sort -u "$tmp/options"); do
    grep -q "Fl -$option\( \|\$\)" "$src/docs/resnetctl.1" || complain "the man page lacks --$option"
done
for option in $(grep -o 'Fl -[a-z][a-z0-9-]*' "$src/docs/resnetctl.1" | sed 's/^Fl -//' | grep -v '^version$' | sort -u); do
    grep -qx -- "$option" "$tmp/options" || complain "the man page has --$option, no command has it"
done

expect 2 import
expect 2 import "$tmp/small.safetensors"
says '-o'
expect 2 import a b -o c
expect 2 export x
says '-o'
expect 2 export x -o y.safetensors
says .onnx
expect 2 quantize x -o y
expect 2 quantize x -o y --precision int7
says int7
expect 2 quantize x -o y --precision int8
says --calibrate
expect 2 quantize x -o y --precision fp16 --method magic
expect 2 eval x
expect 2 eval x --data y --limit 0
expect 2 bench x --seconds soon
expect 2 run x
expect 2 run x y --top-k -1
expect 2 status --url ftp://localhost
expect 2 precision int7
expect 1 status --url unix:/nonexistent/socket
says 'no answer'

# ---- import

d=$tmp/small
expect 0 import "$tmp/small.safetensors" -o "$d" --json
fields file name architecture classes layers parameters macs file_bytes
[ "$(values name)" = small ] || complain "the directory does not name the model: $(values name)"
[ "$(values classes)" = 10 ] || complain "classes: $(values classes)"
[ "$(values layers)" = 8 ] || complain "layers: $(values layers)"
[ "$(values labels)" = 10 ] || complain "the CIFAR-10 names are not there"
expect 0 import "$tmp/small.safetensors" -o "$tmp/again.safetensors" --name small --preprocess cifar10
cmp -s "$d/fp32.safetensors" "$tmp/again.safetensors" || complain "importing twice does not give the same bytes"
expect 1 import "$tmp/small.safetensors" -o "$tmp/wrong" --arch resnet50
says resnet
expect 1 import "$tmp/small.safetensors" -o "$tmp/wrong" --preprocess nonsense
expect 1 import "$tmp/small.safetensors" -o "$tmp/wrong" --name ../x
printf 'one\ntwo\n' >"$tmp/labels"
expect 1 import "$tmp/small.safetensors" -o "$tmp/wrong" --labels "$tmp/labels"
head -c 5000 "$tmp/small.safetensors" >"$tmp/short.safetensors"
expect 1 import "$tmp/short.safetensors" -o "$tmp/wrong"
says short.safetensors
expect 1 import "$src/tests/fuzz/pth/legacy" -o "$tmp/wrong" # a whole checkpoint, but of something else
says 'pth/legacy: no tensor conv1.weight'
cp "$src/tests/fuzz/pickle/os_system" "$tmp/raw.pth"
expect 1 import "$tmp/raw.pth" -o "$tmp/wrong"
says 'raw.pth: not what torch.save writes'
printf 'a text' >"$tmp/text"
expect 1 import "$tmp/text" -o "$tmp/wrong"
says 'text: not a checkpoint of a kind that is read here'
expect 1 import /nonexistent -o "$tmp/wrong"
expect 1 import "$d/fp32.safetensors" -o "$tmp/wrong"
says 'is a model file already'
[ ! -e "$tmp/wrong" ] || complain "a failed import leaves something behind"

# ONNX: the file says what the network is, and the precision what the output is called
printf '{"color":"RGB","resize":{"side":"exact","width":8,"height":8,"filter":"bilinear"},"crop":null,"scale":1,"mean":[0,0,0],"std":[1,1,1]}' \
    >"$tmp/raw8.json"
if [ -e "${builddir:-.}/models/checkpoint/onnx.pb-c.h" ]; then
    expect 0 import "$src/tests/fuzz/onnx/float.onnx" -o "$tmp/onnx" --preprocess "$tmp/raw8.json"
    expect 0 import "$src/tests/fuzz/onnx/qoperator.onnx" -o "$tmp/onnx" --preprocess "$tmp/raw8.json"
    expect 0 inspect "$tmp/onnx/int8.safetensors" --json
    [ -e "$tmp/onnx/fp32.safetensors" ] || complain "a float ONNX model is not imported as fp32.safetensors"
    expect 1 import "$src/tests/fuzz/onnx/external" -o "$tmp/wrong" --preprocess "$tmp/raw8.json"
    says "external: node 'conv' (Conv): tensor 'w' is kept in another file"
else
    expect 1 import "$src/tests/fuzz/onnx/float.onnx" -o "$tmp/wrong"
    says protobuf-c
fi
[ ! -e "$tmp/wrong" ] || complain "a failed import of ONNX leaves something behind"

# ---- quantize, inspect

expect 0 quantize "$d" -o "$d" --precision fp16
expect 0 quantize "$d" -o "$d" --precision hybrid --calibrate "$tmp/noise.bin" --json
fields file precision images agreement logit_sqnr_db file_bytes reference_top1 top1 flipped memory quantization worst_images flips layers
expect 0 quantize "$d/fp32.safetensors" -o "$d" --precision int8 --calibrate "$tmp/noise.bin" --images 16 --report "$tmp/report.json" \
    --min-agreement 50 --json
[ "$(values images | head -n 1)" = 16 ] || complain "--images 16 used $(values images | head -n 1)"
at_least "int8's ratio of signal to noise" "$(values logit_sqnr_db | head -n 1)" 20
cp "$tmp/report.json" "$tmp/out"
fields layers name shape macs weight_sqnr_db output_sqnr_db cosine clipped_low clipped_high scale zero agreement logit_sqnr_db margin \
    stored_bytes weights_bytes unplanned_bytes arena_bytes total_unplanned_bytes total_bytes
[ "$(values output_sqnr_db | grep -vc null)" -ge 8 ] || complain "the report knows the outputs of only $(values output_sqnr_db | grep -vc null) layers"
for db in $(values weight_sqnr_db) $(values output_sqnr_db); do
    [ "$db" = null ] || at_least "a layer's ratio of signal to noise" "$db" 15
done
for share in $(values clipped_low) $(values clipped_high); do
    [ "$share" = null ] || awk -v s="$share" 'BEGIN { exit !(s >= 0 && s <= 0.05) }' || complain "a clipped share is $share"
done
for cosine in $(values cosine); do
    [ "$cosine" = null ] || awk -v c="$cosine" 'BEGIN { exit !(c > 0.95 && c <= 1) }' || complain "the cosine of a layer is $cosine"
done
values macs | awk 'NR == 1 { all = $1; next } { sum += $1 } END { exit !(all > 0 && all == sum) }' ||
    complain "the layers' multiplications are not those of the network: $(values macs | tr '\n' ' ')"
[ "$(values worst | grep -v null | sort | tr '\n' ' ')" = "1 2 3 " ] || complain "not three layers are marked: $(values worst | tr '\n' ' ')"
grep -q '"file":[[:space:]]*".*noise.bin\[[0-9]*\]"' "$tmp/out" || complain "no image is named as the worst"

# markdown FILE: its tables have rows as wide as their heads
markdown() {
    sed 's/\\|//g' "$1" | awk -F '|' '/^\|/ { if (width && NF != width) bad = 1; width = NF; rows++; next } { width = 0 } END { exit bad || rows < 5 }' ||
        complain "a table of $1 is not well formed"
}
for p in fp16 hybrid int8; do
    expect 0 quantize "$d" -o "$d" --precision $p --calibrate "$tmp/noise.bin" --images 16 --method minmax --rounding nearest --layers \
        --report "$tmp/report.md"
    grep -q '^layer  .*output dB' "$tmp/out" || complain "--layers shows no table for $p"
    grep -q '^layer2.0.conv1  .*conv' "$tmp/out" || complain "--layers shows no layer for $p"
    grep -q "^# small in $p\$" "$tmp/report.md" || complain "the Markdown does not say what it is about"
    markdown "$tmp/report.md"
    for part in Memory Layers 'Images that differ most'; do
        grep -q "^## $part\$" "$tmp/report.md" || complain "the Markdown of $p has no section $part"
    done
done
grep -q '^| layer2.0.conv1 | conv | int8 | 16x16x8 |' "$tmp/report.md" || complain "the Markdown has no row for a layer"
mkdir "$tmp/names"
cp "$tmp/disc.jpg" "$tmp/names/$(printf 'a|b\tc.jpg')"
expect 0 quantize "$d" -o "$tmp/named.safetensors" --precision int8 --calibrate "$tmp/names" --report "$tmp/report.md"
markdown "$tmp/report.md"
grep -qF '| a\|b?c.jpg |' "$tmp/report.md" || complain "a bar or a tab in an image's name is not kept out of the table"
expect 0 quantize "$d" -o "$tmp/unseen.safetensors" --precision fp16 --report "$tmp/report.md"
markdown "$tmp/report.md"
grep -q 'output dB' "$tmp/report.md" && complain "outputs are reported that no image has made"
expect 0 quantize "$d" -o "$tmp/entropy.safetensors" --precision int8 --calibrate "$tmp/noise.bin" --images 16 --method entropy --rounding nearest
expect 2 quantize "$d" -o "$tmp/wrong" --precision int8 --calibrate "$tmp/noise.bin" --rounding up
says 'balanced, nearest or gptq'
expect 2 quantize "$d" -o "$tmp/wrong" --precision hybrid --rounding gptq
says 'gptq needs images'
for r in balanced nearest; do
    expect 0 quantize "$d" -o "$tmp/$r.safetensors" --precision hybrid --rounding $r
    grep -q "weights.*$r" "$tmp/$r.safetensors" || complain "a hybrid file does not tell that it was rounded as $r"
done
expect 0 quantize "$d" -o "$tmp/auto.safetensors" --precision hybrid
cmp -s "$tmp/auto.safetensors" "$tmp/balanced.safetensors" || complain "without images hybrid is not balanced"
cmp -s "$tmp/auto.safetensors" "$tmp/nearest.safetensors" && complain "rounding does not matter"
expect 1 quantize "$d/int8.safetensors" -o "$tmp/wrong" --precision fp16
says int8
expect 1 quantize "$d" -o "$tmp/wrong" --precision int8 --calibrate "$tmp/nothing"

# Images that are none, and labels of something else: what and where, and nothing is written
mkdir "$tmp/empty" "$tmp/broken" "$tmp/gone" "$tmp/many"
expect 1 quantize "$d" -o "$tmp/wrong" --precision int8 --calibrate "$tmp/empty" --report "$tmp/wrong.json"
says "$tmp/empty: no images"
cp "$tmp/disc.jpg" "$tmp/broken/a.jpg"
head -c 300 "$tmp/disc.jpg" >"$tmp/broken/b.jpg"
expect 1 quantize "$d" -o "$tmp/wrong" --precision int8 --calibrate "$tmp/broken" --report "$tmp/wrong.json"
says "^resnetctl: $tmp/broken/b.jpg: "
expect 1 quantize "$d" -o "$tmp/wrong" --precision fp16 --calibrate "$tmp/broken" --report "$tmp/wrong.md"
says "^resnetctl: $tmp/broken/b.jpg: "
cp "$tmp/disc.jpg" "$tmp/gone/a.jpg"
printf 'a.jpg,cat\nc.jpg,dog\n' >"$tmp/gone/labels.csv"
expect 1 quantize "$d" -o "$tmp/wrong" --precision int8 --calibrate "$tmp/gone" --report "$tmp/wrong.json"
says 'gone/.*c.jpg'
cp "$tmp/disc.jpg" "$tmp/many/a.jpg"
printf 'a.jpg,10\n' >"$tmp/many/labels.csv"
expect 1 quantize "$d" -o "$tmp/wrong" --precision int8 --calibrate "$tmp/many" --report "$tmp/wrong.json"
says 'many/labels.csv'
says 'label 10'
head -c 4000 "$tmp/noise.bin" >"$tmp/cut.bin"
expect 1 quantize "$d" -o "$tmp/wrong" --precision int8 --calibrate "$tmp/cut.bin" --report "$tmp/wrong.json"
says 'cut.bin: 4000 bytes'
expect 1 quantize "$d" -o "$tmp/wrong" --precision int8 --calibrate "$tmp/noise.bin" --images 4 --method minmax --report "$tmp/nowhere/report.json"
says "$tmp/nowhere/report.json"
for file in "$tmp"/wrong*; do
    [ ! -e "$file" ] || complain "a failed quantize leaves $file behind"
done

# export: what is written is imported as the same network
expect 1 export "$d" -o "$tmp/wrong.onnx"
says 'holds 4 precisions'
expect 1 export "$tmp/nothing.safetensors" -o "$tmp/wrong.onnx"
expect 1 export "$d/int8.safetensors" -o "$tmp/missing/wrong.onnx"
if [ -e "${builddir:-.}/models/checkpoint/onnx.pb-c.h" ]; then
    says 'missing/wrong.onnx'
    for p in fp32 fp16 hybrid int8; do
        expect 0 export "$d/$p.safetensors" -o "$tmp/small-$p.onnx" --json
        fields file name precision kind opset file_bytes
        [ "$(values precision)" = $p ] || complain "export --json: precision is $(values precision), not $p"
        kind=$(values kind)
        expect 0 import "$tmp/small-$p.onnx" -o "$tmp/back-$p"
    done
    [ "$kind" = qdq ] || complain "int8 is exported as $kind"
    for p in fp32 int8; do
        expect 0 eval "$d/$p.safetensors" "$tmp/back-$p" --data "$tmp/noise.bin" --json
        [ "$(values logit_sqnr_db | tail -n 1)" = null ] || complain "$p, exported and imported: $(values logit_sqnr_db | tail -n 1) dB"
    done
else
    says protobuf-c
fi
[ ! -e "$tmp/wrong.onnx" ] || complain "a failed export leaves something behind"

# Layers of an int8 network in fp16: by hand, by need; what they cost
expect 0 quantize "$d" -o "$tmp/mixed.safetensors" --precision int8 --calibrate "$tmp/noise.bin" --images 16 --method minmax --rounding nearest \
    --keep-fp16 layer2.0.conv1,fc --sensitivity --report "$tmp/report.md" --json
fields sensitivity name alone_agreement alone_sqnr_db spared_sqnr_db fallback keep before after weights_bytes_before weights_bytes_after
[ "$(values weights_bytes_after)" -gt "$(values weights_bytes_before)" ] || complain "layers in fp16 take no more bytes"
grep -q '"fp16_layers":[[:space:]]*\["layer2.0.conv1",[[:space:]]*"fc"\]' "$tmp/out" || complain "the layers in fp16 are not told"
markdown "$tmp/report.md"
grep -q '^## Sensitivity$' "$tmp/report.md" || complain "the Markdown has no section on sensitivity"
grep -q -- '--keep-fp16: layer2.0.conv1,fc$' "$tmp/report.md" || complain "the Markdown does not name the layers kept"
expect 0 inspect "$tmp/mixed.safetensors"
grep -q '^layer2.0.conv1  *conv .* half .*layer1.0.add.dequantize' "$tmp/out" || complain "inspect does not show a layer in half"
expect 0 inspect "$tmp/mixed.safetensors" --json
[ "$(values precision | grep -c fp16)" -ge 3 ] || complain "inspect tells no precision of layers"
expect 0 run "$tmp/mixed.safetensors" "$tmp/disc.jpg"
expect 0 eval "$d/fp32.safetensors" "$tmp/mixed.safetensors" --data "$tmp/noise.bin" --limit 8
expect 1 quantize "$d" -o "$tmp/wrong" --precision int8 --calibrate "$tmp/noise.bin" --images 8 --method minmax --keep-fp16 conv1,conv9
says "'conv9' is no layer"
expect 2 quantize "$d" -o "$tmp/wrong" --precision hybrid --keep-fp16 conv1
says 'about the layers of int8'
expect 2 quantize "$d" -o "$tmp/wrong" --precision fp16 --max-drop 1
says '--calibrate'

# Ten equal classes, the last with a bias that is greater by less than a step of int8: fp32 says 9, int8 says 0.
bias=$plain$plain$plain$plain$plain$plain$plain$plain$plain$(printf '\252\231\231\076')
checkpoint "$tmp/tied.safetensors" "$plain" "$bias"
expect 0 import "$tmp/tied.safetensors" -o "$tmp/tied"
expect 1 quantize "$tmp/tied" -o "$tmp/wrong" --precision int8 --calibrate "$tmp/noise.bin" --min-agreement 50 --report "$tmp/report.json"
says 'agrees with fp32 on 0.00 %'
cp "$tmp/report.json" "$tmp/out"
[ "$(values agreement | head -n 1)" = 0 ] || complain "the report of what was refused says $(values agreement | head -n 1) % of agreement"
[ "$(values flipped | head -n 1)" = 20 ] || complain "of 20 images that changed class the report counts $(values flipped | head -n 1)"
[ "$(grep -c '"flipped":[[:space:]]*true' "$tmp/out")" -eq 20 ] || complain "the report does not name ten images that changed class, twice"
[ ! -e "$tmp/wrong" ] || complain "a failed quantize leaves something behind"

expect 0 inspect "$d"
for p in fp32 fp16 hybrid int8; do
    grep -q "^precision  *$p\$" "$tmp/out" || complain "inspect does not show $p"
done
expect 0 inspect "$d/int8.safetensors" --json
fields digest precision preprocess provenance source_sha256 labels nodes quantization macs unplanned_bytes planned_bytes
at_least "what planning saves" "$(values unplanned_bytes)" $((2 * $(values planned_bytes)))
if command -v sha256sum >/dev/null; then
    sum=$(sha256sum <"$tmp/small.safetensors")
    [ "$(values source_sha256)" = "${sum%% *}" ] || complain "the provenance does not hold the checkpoint's SHA-256"
fi
{ head -c 30000 "$d/fp32.safetensors"; printf '\001\002\003\004'; tail -c +30005 "$d/fp32.safetensors"; } >"$tmp/altered.safetensors"
cmp -s "$d/fp32.safetensors" "$tmp/altered.safetensors" && complain "the altered file is not altered"
expect 1 inspect "$tmp/altered.safetensors"
says altered.safetensors

# ---- run, eval, bench

expect 0 run "$d" "$tmp/disc.jpg" "$tmp/disc.jpg" --top-k 3 --logits --json
fields results file predictions class label probability logits
[ "$(values class | wc -l)" -eq 6 ] || complain "--top-k 3 on two images gives $(values class | wc -l) classes"
expect 0 run "$d" "$tmp/disc.jpg" --precision int8
grep -q ' %  ' "$tmp/out" || complain "run shows no probability"
expect 1 run "$d" "$tmp/labels" "$tmp/disc.jpg"
says labels
grep -q ' %  ' "$tmp/out" || complain "an unreadable image keeps the next from being classified"
expect 1 run "$d" "$tmp/disc.jpg" --kernels nonsense
says ref
expect 0 run "$d" "$tmp/disc.jpg" --precision int8 --logits --json --kernels ref --threads 1
values logits >"$tmp/ref"
cp "$tmp/out" "$tmp/ref.json"
expect 0 run "$d" "$tmp/disc.jpg" --precision int8 --logits --json --threads 3
cmp -s "$tmp/ref.json" "$tmp/out" || complain "int8 logits depend on kernels or threads"

expect 0 eval "$d" --data "$tmp/noise.bin" --json --threads 2
fields models file name precision images top1 top5 agreement_with_first logit_sqnr_db ms_per_image file_bytes weights_bytes arena_bytes \
    unplanned_bytes load_ms
[ "$(values precision | tr '\n' ' ')" = "fp32 fp16 hybrid int8 " ] || complain "eval does not take every file of a directory"
[ "$(values images | sort -u)" = 20 ] || complain "eval used $(values images | sort -u) images of 20"
[ "$(values agreement_with_first | head -n 1)" = 100 ] || complain "a model does not agree with itself"
at_least "fp16's ratio of signal to noise" "$(values logit_sqnr_db | sed -n 2p)" 40
sed '/_ms"\|ms_/d' "$tmp/out" >"$tmp/two"
expect 0 eval "$d" --data "$tmp/noise.bin" --json --threads 3
sed '/_ms"\|ms_/d' "$tmp/out" | cmp -s - "$tmp/two" || complain "the number of threads changes what eval finds"
expect 0 eval "$d/int8.safetensors" --data "$tmp/noise.bin" --limit 7 --kernels ref
grep -q '^7 images, kernels ref' "$tmp/out" || complain "--limit or --kernels is not heeded"
mkdir "$tmp/photos"
cp "$tmp/disc.jpg" "$tmp/photos/a.jpg"
expect 0 eval "$d/fp32.safetensors" --data "$tmp/photos" --json
[ "$(values top1)" = null ] || complain "top-1 without labels is $(values top1)"
expect 0 eval "$d" --data "$tmp/photos" --report "$tmp/eval.md"
grep -q '^model  *precision  *agree %  *SQNR dB  ' "$tmp/out" || complain "without labels the table does not start with agreement"
markdown "$tmp/eval.md"
grep -q 'top-1' "$tmp/eval.md" && complain "top-1 is reported without labels"
printf 'a.jpg,cat\n' >"$tmp/photos/labels.csv"
expect 0 eval "$d/fp32.safetensors" --data "$tmp/photos" --json
[ "$(values top1)" != null ] || complain "labels.csv is not heeded"
if command -v tar >/dev/null; then
    top1=$(values top1)
    tar -C "$tmp" -cf "$tmp/photos.tar" photos
    expect 0 eval "$d/fp32.safetensors" --data "$tmp/photos.tar" --json
    [ "$(values top1)" = "$top1" ] || complain "photos in an archive are $(values top1) % right, $top1 % in their directory"
    gzip -k "$tmp/photos.tar"
    expect 1 eval "$d/fp32.safetensors" --data "$tmp/photos.tar.gz"
    says "$tmp/photos.tar.gz: is compressed: unpack it first with gzip -d"
fi
cp "$tmp/labels" "$tmp/photos/b.jpg"
printf 'b.jpg,cat\n' >>"$tmp/photos/labels.csv"
expect 1 eval "$d/fp32.safetensors" --data "$tmp/photos" --report "$tmp/wrong.json"
says "^resnetctl: $tmp/photos/b.jpg: "
printf 'a.jpg,cat\nb.jpg,cat\na.jpg,cat\na.jpg,cat\na.jpg,cat\nb.jpg,cat\n' >"$tmp/photos/labels.csv"
expect 1 eval "$d/fp32.safetensors" --data "$tmp/photos" --report "$tmp/wrong.json" --threads 4
says "^resnetctl: $tmp/photos/b.jpg: "
[ ! -e "$tmp/wrong.json" ] || complain "a failed eval leaves a report behind"
expect 0 eval "$d" --data "$tmp/noise.bin" --limit 7 --report "$tmp/eval.json"
grep -q 'top-1 %' "$tmp/out" || complain "no top-1 of images with labels"
cp "$tmp/eval.json" "$tmp/out"
fields models top1 agreement_with_first load_ms

expect 0 bench "$d" --seconds 0.02 --batch 2 --threads 1 --json --layers
fields results file precision kernels threads batch ms_min ms_median images_per_second gmacs_per_second macs load_ms rss_bytes layers
[ "$(values batch | sort -u)" = 2 ] || complain "--batch is not heeded"
expect 0 bench "$d/int8.safetensors" --seconds 0
grep -q '^small  *int8' "$tmp/out" || complain "bench shows no row for the model"
expect 0 bench "$d/int8.safetensors" --seconds 0 --threads 1 --layers
awk '/GMAC\/s  *% peak/ { rows = 1; next } rows && /sum of the fastest/ { exit !(n > 5 && $1 - sum < 1e-4 * n && sum - $1 < 1e-4 * n) }
     rows { n++; sum += $2; last = $NF } END { if (last != "fc") exit 1 }' "$tmp/out" ||
    complain "bench --layers: the rows do not add up to their sum, or are not all there"

if [ -n "${EMULATOR-}" ]; then
    echo "SKIP: bench --report starts itself again, which this system cannot do for an emulated program"
else
    expect 0 bench --report "$d" "$src/models/resnet20-cifar10" --seconds 0.02 --threads 2
    grep -q '^## 20[0-9][0-9]-[0-9][0-9]-[0-9][0-9], .*'"$(uname -m)" "$tmp/out" || complain "the report names no day and machine"
    grep -q "^\* resnetd [0-9].*, commit .*, .*[0-9]" "$tmp/out" || complain "the report does not name the build"
    for name in small resnet20-cifar10; do
        for p in fp32 fp16 hybrid int8; do
            for threads in 1 2; do # times, rates and sizes are numbers
                grep -E -q "^\| $name \| $p \| [a-z0-9_]+ \| $threads (\| [0-9]+\.[0-9]+ ){5}\| ([0-9]+\.[0-9]+|-) \| [0-9]+\.[0-9]+ \|\$" "$tmp/out" ||
                    complain "the report has no row of $name $p on $threads threads"
            done
        done
    done
    expect 0 bench --report "$src/models/resnet20-cifar10/int8.safetensors" --seconds 0 --threads 1 --json
    fields date machine architecture cpu cpus kernel version commit compiler flags before after celsius results ms_min load_ms rss_bytes file_bytes
    [ "$(values threads)" = 1 ] || complain "one thread and all of one are one row"
    expect 1 bench --report "$tmp/cut.safetensors"
    expect 2 bench --report --layers "$d"
    says "two different tables"
fi

# ---- the bundled model

bundled=$src/models/resnet20-cifar10
if [ -e "$bundled/fp32.safetensors" ]; then
    expect 0 inspect "$bundled"
    expect 0 run "$bundled" "$tmp/disc.jpg" --threads 1
    expect 0 quantize "$bundled" -o "$tmp/bundled" --precision int8 --calibrate "$tmp/noise.bin" --images 6 --threads 1
else
    echo "SKIP bundled model: $bundled/fp32.safetensors is not there"
fi

# ---- a real checkpoint

real=$data/weights/resnet8_mlperf_tiny.safetensors
if [ -e "$real" ]; then
    images=100
    [ -z "${EMULATOR-}" ] || images=20
    test=$data/images/cifar10_test_lossless_dev.bin
    expect 0 import "$real" -o "$tmp/real" --preprocess "$data/preprocess/cifar-raw.json" --labels "$data/labels/cifar10_labels.txt"
    expect 0 quantize "$tmp/real" -o "$tmp/real" --precision int8 --calibrate "$data/images/cifar10_train_lossless.bin" --images $((images / 2)) \
        --threads 1
    expect 0 eval "$tmp/real" --data "$test" --limit $images --threads 1 --json
    at_least "top-1 of a real fp32 network" "$(values top1 | sed -n 1p)" 80
    at_least "top-1 of a real int8 network" "$(values top1 | sed -n 2p)" 80
    at_least "agreement of a real int8 network" "$(values agreement_with_first | sed -n 2p)" 95
else
    echo "SKIP real checkpoint: $real is not there"
fi

[ $bad -eq 0 ] && echo "resnetctl: all well"
[ $bad -eq 0 ]

#!/bin/sh
# SPDX-License-Identifier: MIT
#
# test_training.sh - resnetctl train from images to a model directory: what it learns, that the same command gives the same bytes,
# also after kill -9 and --resume, and what a signal leaves behind. Images are made here: four classes, each a bright quarter of
# the picture in a colour of chance, in noise.

# shellcheck source=tests/ctl.sh
. "${srcdir:-.}/tests/ctl.sh"

# same A B: files with the same bytes
same() {
    cmp -s "$1" "$2" || complain "$1 and $2 differ"
}

# images COUNT SEED: CIFAR-10 records of classes 1 to 4 (no zero byte, which some awks cannot write)
images() {
    awk -v count="$1" -v seed="$2" 'BEGIN {
        srand(seed)
        for (i = 0; i < count; i++) {
            class = 1 + i % 4
            printf "%c", class
            for (c = 0; c < 3; c++) {
                light = 60 + int(rand() * 120)
                for (y = 0; y < 8; y++) {
                    line = ""
                    for (x = 0; x < 8; x++) {
                        v = 1 + int(rand() * 70) + (int(y / 4) * 2 + int(x / 4) == class - 1 ? light : 0)
                        s = sprintf("%c", v)
                        line = line s s s s
                    }
                    printf "%s%s%s%s", line, line, line, line
                }
            }
        }
    }'
}

images 96 1 >"$tmp/train.bin"
images 40 2 >"$tmp/test.bin"
equal "bytes of the images" "$(wc -c <"$tmp/train.bin" | tr -d ' ')" $((96 * 3073))
echo '{"color":"RGB","resize":{"side":"exact","width":8,"height":8,"filter":"bilinear"},"crop":null,"scale":255,"mean":[0.3,0.3,0.3],"std":[0.2,0.2,0.2]}' \
    >"$tmp/small.json"

# ---- from nothing

# Words, not one argument; the name is the same in every directory, so that files can be compared.
train="train --arch resnet8 --data $tmp/train.bin --validate $tmp/test.bin --preprocess $tmp/small.json --no-flip --pad 0 --batch 16
    --lr 0.1 --epochs 4 --name quarters --threads 1"
# shellcheck disable=SC2086
expect 0 $train -o "$tmp/a" --json
equal "precisions" "fp32 fp16 hybrid int8" "$(values precision | tr '\n' ' ' | sed 's/ $//')"
reported=$(values top1)
for top1 in $reported; do
    at_least "top-1 after four epochs" "$top1" 90
done
equal "files" "fp16.safetensors fp32.safetensors hybrid.safetensors int8.safetensors log.csv" \
    "$(cd "$tmp/a" && echo *)"
equal "lines of the log" 5 "$(wc -l <"$tmp/a/log.csv" | tr -d ' ')"
equal "columns of the log" 8 "$(awk -F, 'NF > m { m = NF } END { print m }' "$tmp/a/log.csv")"
expect 0 eval "$tmp/a" --data "$tmp/test.bin" --json
equal "top-1 as trained and as evaluated" "$reported" "$(values top1)"
expect 0 inspect "$tmp/a/int8.safetensors"
for word in 'resnetctl train --arch resnet8 --data train.bin' '"seed":1' '"epochs":4' '"images":96' '"data":"test.bin"' '"top1":'; do
    grep -qF -- "$word" "$tmp/out" || complain "the int8 file does not say $word"
done

# ---- again, and interruptions

# start DIR: a training in the background
start() {
    rm -rf "$1"
    # shellcheck disable=SC2086
    (exec ${EMULATOR-} "${builddir:-.}/resnetctl" $train -o "$1" >"$tmp/out" 2>"$tmp/err") &
    pid=$!
}

# wait_lines DIR N: until the log has so many lines, or the training is over
wait_lines() {
    while [ "$( (wc -l <"$1/log.csv") 2>/dev/null | tr -d ' ')" != "$2" ] && kill -0 $pid 2>/dev/null; do
        sleep 0.01
    done
}

# An emulator takes minutes for them, and what they show depends on no instruction.
if [ -z "${EMULATOR-}" ]; then
    # the same bytes again, on another number of threads, with progress for people
    # shellcheck disable=SC2086
    expect 0 $train --threads 2 -o "$tmp/b"
    for file in fp32 fp16 hybrid int8; do
        same "$tmp/a/$file.safetensors" "$tmp/b/$file.safetensors"
    done
    equal "lines about epochs" 4 "$(grep -c '^epoch [1-4] of 4: loss .*validation .*images/s' "$tmp/err")"
    # shellcheck disable=SC2086
    expect 0 $train -o "$tmp/c" --seed 2
    cmp -s "$tmp/a/fp32.safetensors" "$tmp/c/fp32.safetensors" && complain "another seed gives the same weights"

    for lines in 2 4; do
        start "$tmp/d"
        wait_lines "$tmp/d" "$lines"
        kill -9 $pid
        wait $pid 2>/dev/null
        pid=
        if [ -e "$tmp/d/checkpoint.safetensors" ]; then
            # shellcheck disable=SC2086
            expect 1 $train -o "$tmp/d"
            says "has not ended"
            expect 2 train --resume "$tmp/d/checkpoint.safetensors" --arch resnet8 --from "$tmp/a"
            expect 1 train --resume "$tmp/d/checkpoint.safetensors" --lr 0.2
            says "another --lr"
            expect 1 train --resume "$tmp/d/checkpoint.safetensors" --data "$tmp/test.bin"
            says "has 40 images"
            expect 0 train --resume "$tmp/d/checkpoint.safetensors" --threads 1
        else
            echo "the training was over before it could be killed"
        fi
        same "$tmp/a/fp32.safetensors" "$tmp/d/fp32.safetensors"
        same "$tmp/a/int8.safetensors" "$tmp/d/int8.safetensors"
        equal "the log without times" "$(cut -d, -f 1-6 "$tmp/a/log.csv")" "$(cut -d, -f 1-6 "$tmp/d/log.csv")"
        [ ! -e "$tmp/d/checkpoint.safetensors" ] || complain "a checkpoint is left of a training that is complete"
        equal "files" 5 "$(find "$tmp/d" -type f | wc -l | tr -d ' ')"
    done

    # a signal: what there is is written, and the checkpoint leads to the same end
    start "$tmp/e"
    wait_lines "$tmp/e" 3
    if kill -TERM $pid 2>/dev/null; then
        wait $pid
        status=$?
        if [ -e "$tmp/e/checkpoint.safetensors" ]; then
            equal "exit status after SIGTERM" 1 $status
            says "resume $tmp/e/checkpoint.safetensors"
            expect 0 inspect "$tmp/e/int8.safetensors"
            grep -q '"stopped"' "$tmp/out" || complain "the file does not say that its training was stopped"
            expect 0 train --resume "$tmp/e/checkpoint.safetensors" --threads 1
        fi
        same "$tmp/a/fp32.safetensors" "$tmp/e/fp32.safetensors"
    fi
    pid=
fi

# ---- from a model: a folder per class, one of them a picture of a ship

mkdir -p "$tmp/photos/ship" "$tmp/photos/truck"
for i in 1 2 3 4 5 6; do
    cp "$src/tests/data/ship.jpg" "$tmp/photos/ship/$i.jpg"
    cp "$src/tests/data/truck.jpg" "$tmp/photos/truck/$i.jpg"
done
expect 0 train --from "$tmp/a" --data "$tmp/photos" -o "$tmp/tuned" --epochs 30 --batch 4 --lr 0.01 --threads 1 --no-flip --pad 0 \
    --freeze 1 --validation-share 40 --json
equal "validation images" 4 "$(values images | head -n 1)"
at_least "top-1 of two pictures" "$(values top1 | head -n 1)" 100
expect 0 run "$tmp/tuned/int8.safetensors" "$src/tests/data/truck.jpg" --json
equal "a truck" truck "$(values label | head -n 1)"
expect 1 train --from "$tmp/a" --data "$tmp/photos" -o "$tmp/tuned2" --freeze 10
says "nothing to learn"

# ---- int8: what is trained is what is served

expect 0 train --qat "$tmp/a" --data "$tmp/train.bin" --validate "$tmp/test.bin" -o "$tmp/qat" --epochs 2 --batch 16 --name quarters \
    --no-flip --pad 0 --threads 1 --weight-bits 4 --json
reported=$(values top1)
at_least "top-1 in int8 with weights of 4 bits" "$(echo "$reported" | tail -n 1)" 90
equal "images that the int8 file answers with the bits of the training" 40 "$(values identical)"
trained=$(tail -n 1 "$tmp/qat/log.csv" | cut -d, -f 6)
expect 0 eval "$tmp/qat/int8.safetensors" --data "$tmp/test.bin" --json
awk -v a="$trained" -v b="$(values top1)" 'BEGIN { exit !(a + 0 == b + 0) }' ||
    complain "int8 has $(values top1) % where training said $trained %"

digest=$(ctl inspect "$tmp/a/fp32.safetensors" | sed -n 's/^digest *sha256:\([0-9a-f]*\).*/\1/p')
ctl inspect "$tmp/qat/int8.safetensors" | grep -qF "\"source_sha256\":\"$digest\"" || complain "the int8 file does not name the fp32 file"

# killed after its first epoch, it goes on to the same bytes
if [ -z "${EMULATOR-}" ]; then
    train="train --qat $tmp/a --data $tmp/train.bin --validate $tmp/test.bin --epochs 2 --batch 16 --name quarters --no-flip --pad 0
        --threads 1 --weight-bits 4"
    start "$tmp/f"
    wait_lines "$tmp/f" 2
    kill -9 $pid
    wait $pid 2>/dev/null
    pid=
    [ ! -e "$tmp/f/checkpoint.safetensors" ] || expect 0 train --resume "$tmp/f/checkpoint.safetensors"
    same "$tmp/qat/int8.safetensors" "$tmp/f/int8.safetensors"
fi

expect 1 train --qat "$tmp/tuned" --data "$tmp/train.bin" -o "$tmp/x"
says "label"

# ---- what cannot be

expect 2 train --data "$tmp/train.bin" -o "$tmp/x"
expect 2 train --arch resnet8 -o "$tmp/x"
expect 2 train --arch resnet8 --data "$tmp/train.bin"
expect 2 train --arch resnet8 --qat "$tmp/a" --data "$tmp/train.bin" -o "$tmp/x"
expect 2 train --arch resnet8 --data "$tmp/train.bin" -o "$tmp/x.safetensors"
expect 2 train --arch resnet8 --data "$tmp/train.bin" -o "$tmp/x" --schedule steps
expect 2 train --arch resnet8 --data "$tmp/train.bin" -o "$tmp/x" --epochs 0
expect 2 train --arch resnet8 --data "$tmp/train.bin" -o "$tmp/x" --weight-bits 4
expect 2 train --arch resnet8 --data "$tmp/train.bin" -o "$tmp/x" --freeze 1
expect 2 train --arch resnet8 --data "$tmp/train.bin" -o "$tmp/x" --validate "$tmp/test.bin" --validation-share 5
expect 1 train --arch resnet9 --data "$tmp/train.bin" -o "$tmp/x"
says "resnet8, resnet20"
expect 1 train --arch resnet8 --data "$tmp/none" -o "$tmp/x"
expect 1 train --resume "$tmp/a/fp32.safetensors"
says "no checkpoint"
expect 1 train --resume "$tmp/none/checkpoint.safetensors"
expect 1 train --qat "$tmp/a/int8.safetensors" --data "$tmp/train.bin" -o "$tmp/x"
says "begins with fp32"
expect 1 train --arch resnet8 --data "$tmp/train.bin" -o "$tmp/x" --preprocess "$tmp/small.json" --epochs 9 --lr 100 --batch 8 --threads 1
says "learning rate"
[ ! -e "$tmp/x/fp32.safetensors" ] || complain "a training that failed left a model"

[ $bad -eq 0 ] || echo "$bad failed"
[ $bad -eq 0 ]

#!/bin/sh
# SPDX-License-Identifier: MIT
#
# test_train_data.sh - what resnetctl train makes of its data: every form of the same images gives the same training, better copies
# take the place of others, and what is damaged is named before anything is written.

# shellcheck source=tests/ctl.sh
. "${srcdir:-.}/tests/ctl.sh"
src=$(cd "$src" && pwd) || exit 99
if [ -n "${EMULATOR-}" ]; then
    echo "SKIP: two minutes under an emulator; files are read with no instruction of a CPU's own"
    exit 77
fi

echo '{"color":"RGB","resize":{"side":"exact","width":8,"height":8,"filter":"bilinear"},"crop":null,"scale":255,"mean":[0.3,0.3,0.3],"std":[0.2,0.2,0.2]}' \
    >"$tmp/small.json"

preprocess="--preprocess $tmp/small.json"

# train STATUS OPTIONS...: one short training to $tmp/x
train() {
    status=$1
    shift
    rm -rf "$tmp/x"
    # shellcheck disable=SC2086
    expect "$status" train --arch resnet8 $preprocess --batch 4 --epochs 1 --lr 0.01 --threads 1 -o "$tmp/x" "$@"
    [ "$status" -eq 0 ] || [ ! -e "$tmp/x" ] || complain "train $*: it failed and left $(ls "$tmp/x")"
}

# says TEXT: as it stands, for it holds paths
says() {
    grep -qF -- "$1" "$tmp/err" || complain "the error does not say '$1': $(head -n 1 "$tmp/err")"
}

# What the last training was: its losses and accuracies, not its times.
course() {
    cut -d, -f 1-6 "$tmp/x/log.csv"
}

# The names of the classes of the last model.
labels() {
    ctl inspect "$tmp/x/fp32.safetensors" --json >"$tmp/inspect"
    tr -d '\n\t ' <"$tmp/inspect" | sed 's/.*"labels":\[\([^]]*\)\].*/\1/; s/"//g'
}

# ---- photos: the same pictures of two classes in every form

mkdir -p "$tmp/folders/ship" "$tmp/folders/truck" "$tmp/csv" "$tmp/numbers"
n=0
for i in 1 2 3 4; do
    for class in ship truck; do
        cp "$src/tests/data/$class.jpg" "$tmp/folders/$class/$i.jpg"
    done
done
for class in ship truck; do
    for i in 1 2 3 4; do
        cp "$src/tests/data/$class.jpg" "$tmp/csv/$class $i.jpg"
        echo "$class $i.jpg,$class" >>"$tmp/csv/labels.csv"
        cp "$src/tests/data/$class.jpg" "$tmp/numbers/${n}_$([ $class = ship ] && echo 0 || echo 1).jpg"
        n=$((n + 1))
    done
done
train 0 --data "$tmp/folders" --validate "$tmp/folders"
first=$(course)
equal "classes of folders" ship,truck "$(labels)"
train 0 --data "$tmp/csv" --validate "$tmp/folders"
equal "folders and labels.csv" "$first" "$(course)"
equal "classes of labels.csv" ship,truck "$(labels)"
preprocess= # by the data
train 0 --data "$tmp/csv"
preprocess="--preprocess $tmp/small.json"
train 0 --data "$tmp/numbers" --validate "$tmp/numbers"
equal "folders and numbered names" "$first" "$(course)"
equal "classes of numbered names" 0,1 "$(labels)"
printf 'ship\ntruck\n' >"$tmp/names"
train 0 --data "$tmp/numbers" --validate "$tmp/folders" --labels "$tmp/names"
equal "folders and numbered names with --labels" "$first" "$(course)"
equal "classes by --labels" ship,truck "$(labels)"
if command -v tar >/dev/null; then
    for form in folders csv numbers; do
        tar -C "$tmp" -cf "$tmp/$form.tar" $form
        train 0 --data "$tmp/$form.tar" --validate "$tmp/$form"
        equal "$form and an archive of them" "$first" "$(course)"
    done
    size=$(wc -c <"$tmp/folders.tar")
    head -c $((size / 3)) "$tmp/folders.tar" >"$tmp/cut.tar"
    train 1 --data "$tmp/cut.tar"
    says "$tmp/cut.tar: at byte "
    says "cut off"
    gzip -c "$tmp/folders.tar" >"$tmp/folders.tar.gz"
    train 1 --data "$tmp/folders.tar.gz"
    says "gzip -d"
fi
printf '\3757zXZ\0' >"$tmp/folders.tar.xz"
train 1 --data "$tmp/folders.tar.xz"
says "unpack it first with xz -d"

# ---- what is damaged has a name

head -c 1000 "$src/tests/data/ship.jpg" >"$tmp/folders/ship/3.jpg"
train 1 --data "$tmp/folders"
says "$tmp/folders/ship/3.jpg: "
train 1 --data "$tmp/numbers" --validate "$tmp/folders" --labels "$tmp/names"
says "$tmp/folders/ship/3.jpg: "
: >"$tmp/folders/ship/3.jpg"
train 1 --data "$tmp/folders"
says "$tmp/folders/ship/3.jpg: "
cp "$src/tests/data/ship.jpg" "$tmp/folders/ship/3.jpg"
mkdir "$tmp/folders/whale"
cp "$src/tests/data/ship.jpg" "$tmp/folders/whale/1.jpg"
train 1 --data "$tmp/csv" --validate "$tmp/folders"
says "whale"
rm -r "$tmp/folders/whale"
rm "$tmp/csv/ship 2.jpg"
train 1 --data "$tmp/csv"
says "$tmp/csv/ship 2.jpg: "
mkdir "$tmp/none" "$tmp/loose"
train 1 --data "$tmp/none"
says "no images"
cp "$src/tests/data/ship.jpg" "$tmp/loose/a.jpg"
train 1 --data "$tmp/loose"
says "no labels"

# ---- CIFAR-10 records: count of them from the number first; classes in turn, the red of all pixels tells the number

records() {
    awk -v first="$1" -v count="$2" -v red="$3" 'BEGIN {
        for (i = first; i < first + count; i++) {
            printf "%c", 1 + i % 4
            s = sprintf("%c", 1 + i % 100 + red)
            t = sprintf("%c", 20 + i % 4 * 25)
            for (p = 0; p < 1024; p++) { a = a s; b = b t }
            printf "%s%s%s", a, b, b
            a = b = ""
        }
    }'
}
mkdir "$tmp/cifar"
records 0 16 0 >"$tmp/cifar/data_batch_1.bin"
records 16 16 0 >"$tmp/cifar/data_batch_2.bin"
records 32 8 0 >"$tmp/cifar/test_batch.bin"
cat "$tmp/cifar/data_batch_1.bin" "$tmp/cifar/data_batch_2.bin" >"$tmp/train.bin"
equal "bytes of records" $((32 * 3073)) "$(wc -c <"$tmp/train.bin" | tr -d ' ')"
train 0 --data "$tmp/train.bin" --validate "$tmp/cifar/test_batch.bin"
first=$(course)
equal "classes of CIFAR-10" airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck "$(labels)"
train 0 --data "$tmp/cifar" # test_batch.bin is not trained on
equal "two files, and the directory with its test images" "$first" "$(course)"
train 0 --data "$tmp/cifar" --validation-share 25
[ "$(course)" != "$first" ] || complain "--validation-share changes nothing"
head -c 5000 "$tmp/train.bin" >"$tmp/cut.bin"
train 1 --data "$tmp/cut.bin"
says "$tmp/cut.bin: 5000 bytes is no whole number"

# better copies
{
    records 0 5 0
    records 5 1 77
    records 6 16 0
    records 22 1 77
    records 23 9 0
} >"$tmp/better.bin"
{
    records 22 1 77
    records 5 1 77
} >"$tmp/copies.bin"
printf '22\n5\n' >"$tmp/copies.txt"
train 0 --data "$tmp/better.bin" --validation-share 0
better=$(course)
train 0 --data "$tmp/train.bin" --validation-share 0 --replace "$tmp/copies.bin" --replace-indices "$tmp/copies.txt"
equal "images replaced, and a file that holds the better ones" "$better" "$(course)"
train 0 --data "$tmp/train.bin" --validation-share 0
[ "$(course)" != "$better" ] || complain "better images make no difference"
printf '22\n6\n' >"$tmp/copies.txt"
train 1 --data "$tmp/train.bin" --replace "$tmp/copies.bin" --replace-indices "$tmp/copies.txt"
says "copies.bin[1]: its label is 2, but that of image 6, whose place it takes, is 3"
train 2 --data "$tmp/train.bin" --replace "$tmp/copies.bin"
train 2 --data "$tmp/train.bin" --replace-indices "$tmp/copies.txt"

# ---- killed while it reads, before there is a checkpoint: the same command runs again

rm -rf "$tmp/x"
(exec "${builddir:-.}/resnetctl" train --arch resnet8 --data "$tmp/cifar" --epochs 100 --threads 1 -o "$tmp/x" >/dev/null 2>&1) &
pid=$!
sleep 0.05
kill -9 $pid
wait $pid 2>/dev/null
pid=
[ -z "$(find "$tmp/x" -name '*.safetensors' 2>/dev/null)" ] || [ -e "$tmp/x/checkpoint.safetensors" ] ||
    complain "kill -9 left a model: $(ls "$tmp/x")"
train 0 --data "$tmp/cifar"
equal "after kill -9" "$first" "$(course)"

[ $bad -eq 0 ] || echo "$bad failed"
[ $bad -eq 0 ]

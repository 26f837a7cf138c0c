#!/bin/sh
# SPDX-License-Identifier: MIT
#
# bad_models.sh - bad model files offered to a daemon that serves: by a switch and by a reload. Each is refused with a reason within
# 50 ms (the better of three tries: the machine may be busy) and what was served goes on. The files: those of a corpus, optional
# data (RESNETD_CORPORA, else ../shared/corpora); bits flipped and bytes cut all over a good file; and files that are whole.

# shellcheck source=tests/lib.sh
. "${srcdir:-.}/tests/lib.sh"
corpus=${RESNETD_CORPORA-$srcdir/../shared/corpora}/safetensors-bad
json='Content-Type: application/json'
set -- "$srcdir"/tests/proof/images/*.jpg
photo=$1
dir=$tmp/net
mkdir "$dir" "$tmp/bad"
cp "$bundled/int8.safetensors" "$dir"
good=$bundled/fp16.safetensors
size=$(wc -c <"$good")

files=0
for file in "$corpus"/*.safetensors; do
    [ -e "$file" ] && cp "$file" "$tmp/bad/corpus-$(basename "$file")" && chmod u+w "$tmp/bad/corpus-$(basename "$file")"
done
flip() # NAME OFFSET BIT
{
    cp "$good" "$tmp/bad/$1"
    chmod u+w "$tmp/bad/$1"
    byte=$(od -An -tu1 -j "$2" -N 1 "$good" | tr -d ' ')
    # shellcheck disable=SC2059
    printf "$(printf '\\%03o' $((byte ^ (1 << $3))))" | dd of="$tmp/bad/$1" bs=1 seek="$2" conv=notrunc 2>/dev/null
}
# The header ends with blanks, in which a flipped bit may change nothing: its text, and the data.
header=$(od -An -tu8 -N 8 "$good" | tr -d ' ')
text=$(head -c $((8 + header)) "$good" | tail -c +9 | sed 's/ *$//' | wc -c)
for place in $(awk -v text="$text" -v data=$((8 + header)) -v size="$size" 'BEGIN { srand(7)
    for (i = 0; i < 60; i++) print int(rand() * (text + 8)) ":" int(rand() * 8)
    for (i = 0; i < 140; i++) print data + int(rand() * (size - data)) ":" int(rand() * 8) }'); do
    flip "flip-$place" "${place%:*}" "${place#*:}"
done
for cut in 0 1 7 8 9 100 $((header)) $((8 + header)) $((size / 2)) $((size - 1)); do
    head -c "$cut" "$good" >"$tmp/bad/cut-$cut"
done
{ cat "$good"; printf x; } >"$tmp/bad/longer"
head -c "$size" /dev/urandom >"$tmp/bad/noise"
head -c "$size" /dev/zero >"$tmp/bad/zeros"
cp "$bundled/hybrid.safetensors" "$tmp/bad/other-precision"
cp "$bundled/fp16.safetensors" "$tmp/fp16"
for how in golden weight infinite; do
    "$builddir/tests/proof/make_model" "$good" "$tmp/bad/whole-$how" $how
done

logits() # MODEL
{
    curl -s -m $patience -H 'Expect:' --data-binary "@$photo" "$url/predict?logits=1&model=$1" | sed 's/.*"precision":"\([a-z0-9]*\)".*"logits":\[\([^]]*\)\].*/\1 \2/'
}
# One model to be switched, and one, a file, to be reloaded.
cp "$good" "$tmp/served.safetensors"
printf '[log]\nlevel = error\n[model.net]\npath = %s\n[model.file]\npath = %s\n' "$dir" "$tmp/served.safetensors" >"$tmp/resnetd.conf"
start_daemon -c "$tmp/resnetd.conf"
reference=$(logits net) served=$(logits file)
worst=0 slow=0
ms() # of the last request, from its start to the last byte
{
    awk -v s="$(cat "$tmp/seconds")" 'BEGIN { printf "%d", s * 1000 + 0.5 }'
}
offer() # WHAT FILE PATH METHOD BODY
{
    least=100000
    for try in 1 2 3; do
        status=$(curl -s -m $patience -o "$tmp/body" -w '%{http_code} %{time_total}' -X "$4" -H "$json" -d "$5" "$url$3")
        echo "${status#* }" >"$tmp/seconds"
        status=${status%% *}
        took=$(ms)
        [ "$took" -ge $least ] || least=$took
        [ $least -gt 50 ] || break
    done
    body=$(cat "$tmp/body")
    case $1:$2:$status in
    *:404 | *:409 | *:500) ;;
    reload:flip-*:200) return ;; # the header, and with it the digest, is that of what is served: not read again
    *) fail "$1 of $2" "404, 409 or 500" "$status $body" ;;
    esac
    match "$1 of $2: reason" '"detail":"[^"]*[a-z0-9]+ [a-z0-9]+' "$body"
    [ $least -le 50 ] || slow=$((slow + 1))
    [ $least -le $worst ] || worst=$least
}
for file in "$tmp"/bad/*; do
    name=$(basename "$file")
    files=$((files + 1))
    cp "$file" "$dir/new"
    mv "$dir/new" "$dir/fp16.safetensors"
    offer switch "$name" /precision PUT '{"precision":"fp16"}'
    equal "what serves after a switch to $name" "$reference" "$(logits net)"
    [ "$name" != other-precision ] || continue # a good model where it is named as a file
    cp "$file" "$tmp/new"
    mv "$tmp/new" "$tmp/served.safetensors"
    offer reload "$name" /v1/reload POST ''
    equal "what serves after a reload of $name" "$served" "$(logits file)"
done
cp "$tmp/fp16" "$dir/fp16.safetensors"
expect "a good file afterwards" 200 /precision -X PUT -H "$json" -d '{"precision":"fp16"}'
stop_daemon
[ -d "$corpus" ] || echo "SKIP: the corpus: no $corpus"
echo "bad models: all of $files files refused with a reason at switch and reload, what serves goes on; reached $failures failures, $([ $failures = 0 ] && echo pass || echo fail)"
echo "bad models: refused within 50 ms; reached $worst ms at worst, $slow above, $([ $slow = 0 ] && echo pass || echo fail)"
[ $failures = 0 ] && [ $slow = 0 ]

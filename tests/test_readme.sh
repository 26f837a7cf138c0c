#!/bin/sh
# SPDX-License-Identifier: MIT
#
# test_readme.sh - what the documents tell people to type works.
#
# README.md and docs/http.md are read block by block, by the word behind the fence:
#   sh    the block is run, in order, in a scratch copy of the tree that looks like a clone after its build; port 8080 is replaced
#         by a free one. A daemon that a block starts (./bootstrap run, resnetd) is put into the background once it is ready, in
#         place of the one before; photo.jpg is there. A command that fails fails the test.
#   text  commands that need root, the network or another machine: they must parse, and every subcommand and --option of
#         resnetd, resnetctl and ./bootstrap in them must be in the help of that program.
#   json  right behind an sh block: the answer as printed. Its first "label" and its names must be in what the block printed.
# Others (ini, yaml, console ...) are not looked at.

# shellcheck source=tests/lib.sh
. "${srcdir:-.}/tests/lib.sh"
if [ -n "$EMULATOR" ]; then
    echo "SKIP: a minute under an emulator, for commands that the other tests give there, too"
    exit 77
fi

tree=$tmp/clone
mkdir -p "$tree/build" "$tmp/bin"
for part in etc docs models/resnet20-cifar10 tests/data; do
    if [ -e "$srcdir/$part" ]; then
        mkdir -p "$tree/$(dirname $part)"
        cp -R "$srcdir/$part" "$tree/$part"
        chmod -R u+w "$tree/$part"
    fi
done
set -- "$srcdir"/tests/data/*.jpg
cp "$1" "$tree/photo.jpg"

# Stand-ins of the names that people type.
cat >"$tmp/bin/resnetctl" <<END
#!/bin/sh
case \$1:\$* in
*--url* | *--help*) ;;
status:* | top:* | predict:* | precision:* | reload:* | drain:*) set -- "\$@" --url "http://127.0.0.1:\$port" ;;
esac
exec "$builddir/resnetctl" "\$@"
END
cat >"$tmp/bin/resnetd" <<END
#!/bin/sh
listen="--listen 127.0.0.1:\$port"
for word in "\$@"; do
    case \$word in
    -t|--test-config|--print-config|-V|--version|-h|--help) exec "$builddir/resnetd" "\$@" ;;
    --listen|--listen=*) listen= ;;
    esac
done
if [ -s "$tmp/daemon" ]; then
    kill -TERM "\$(cat "$tmp/daemon")"
    while kill -0 "\$(cat "$tmp/daemon")" 2>/dev/null; do sleep 0.05; done
fi
"$builddir/resnetd" \$listen "\$@" >"$tmp/daemon.log" 2>&1 &
echo \$! >"$tmp/daemon"
i=0
until curl -s -f -o "$tmp/ready" "http://127.0.0.1:\$port/readyz"; do
    i=\$((i + 1))
    if [ \$i -gt 1000 ] || ! kill -0 "\$(cat "$tmp/daemon")" 2>/dev/null; then
        cat "$tmp/daemon.log"
        exit 1
    fi
    sleep 0.05
done
END
cat >"$tmp/bin/bootstrap" <<END
#!/bin/sh
command=\${1-help}
[ \$# -eq 0 ] || shift
case \$command in
run) exec "$tmp/bin/resnetd" -c etc/resnetd.conf --model models/resnet20-cifar10 "\$@" ;;
*) sh "$srcdir/bootstrap" help | grep -q "^  \$command " ;;
esac
END
chmod +x "$tmp"/bin/*
cp "$tmp/bin/bootstrap" "$tree/bootstrap"
cp "$tmp/bin/resnetd" "$tmp/bin/resnetctl" "$tree/build/"
PATH=$tmp/bin:$PATH
export PATH port

stop_documented()
{
    [ ! -s "$tmp/daemon" ] || kill -TERM "$(cat "$tmp/daemon")" 2>/dev/null
    rm -f "$tmp/daemon"
}
trap 'stop_documented; clean_up' EXIT

# split FILE: block N of kind K goes to $tmp/blocks/N.K; a json block that does not follow an sh block at once is left out.
split()
{
    rm -rf "$tmp/blocks"
    mkdir "$tmp/blocks"
    awk -v dir="$tmp/blocks" '
        /^```/ && !inside { kind = substr($0, 4); sub(/[^a-z].*/, "", kind); inside = 1; n++
            file = sprintf("%s/%03d.%s", dir, n, kind)
            keep = kind == "sh" || kind == "text" || (kind == "json" && last == "sh")
            if (keep) printf "" >file
            next }
        /^```/ { inside = 0; last = kind; if (keep) close(file); next }
        inside && keep { print >file }
        !inside && /[^ \t]/ { last = "" }' "$1"
}

names_of()
{
    grep -oE '"[a-z_]+" *:' | tr -d ' ' | sort -u
}

run_block() # NAME FILE
{
    checks=$((checks + 1))
    sed "s/8080/$port/g" "$2" >"$tmp/block"
    if ! (cd "$tree" && sh -eu "$tmp/block" </dev/null >"$tmp/out" 2>"$tmp/err"); then
        fail "$1" "exit status 0 of: $(cat "$2")" "$(cat "$tmp/err" "$tmp/out")"
    fi
    # curl ends well although the answer is an error
    if grep -q 'urn:resnetd:problem' "$tmp/out"; then
        fail "$1" "no error from: $(cat "$2")" "$(cat "$tmp/out")"
    fi
}

compare_answer() # NAME FILE: with $tmp/out
{
    checks=$((checks + 1))
    missing=$(names_of <"$2" | while read -r name; do names_of <"$tmp/out" | grep -qxF "$name" || printf '%s ' "$name"; done)
    [ -z "$missing" ] || fail "$1: names in the printed answer" "all of them in: $(cat "$tmp/out")" "missing: $missing"
    equal "$1: first label" "$(grep -oE '"label" *: *"[^"]*"' "$2" | head -n 1)" "$(grep -oE '"label" *: *"[^"]*"' "$tmp/out" | head -n 1)"
}

# An option or subcommand that the help does not know.
check_text() # NAME FILE
{
    checks=$((checks + 1))
    sh -n "$2" 2>"$tmp/err" || fail "$1" "text that the shell can parse" "$(cat "$tmp/err" "$2")"
    sed -e ':a' -e '/\\$/N; s/\\\n//; ta' "$2" | tr ';|&' '\n\n\n' | sed -e 's/^[[:space:]]*//' -e 's/^sudo //' -e 's,^\(\./\|build/\)*,,' |
        grep -E '^(resnetd|resnetctl|bootstrap)( |$)' >"$tmp/ours"
    while read -r program rest; do
        case $program in
        resnetctl)
            help=$(resnetctl "${rest%% *}" --help 2>&1) || fail "$1" "a subcommand of resnetctl" "$rest"
            ;;
        resnetd) help=$(resnetd --help) ;;
        bootstrap)
            help="$(sh "$srcdir/bootstrap" help) $(resnetd --help)"
            printf '%s\n' "$help" | grep -q "^  ${rest%% *} " || fail "$1" "a command of ./bootstrap" "$rest"
            ;;
        esac
        for option in $(printf '%s\n' "$rest" | grep -oE -- '(^| )--[a-z][a-z-]*'); do
            printf '%s\n' "$help" | grep -qE -- "$option( |=|,|\]|$)" || fail "$1" "an option of $program" "$option in: $program $rest"
        done
    done <"$tmp/ours"
}

port=$(some_port)
for document in README.md docs/http.md; do
    split "$srcdir/$document"
    if [ $document != README.md ]; then
        (cd "$tree" && ./bootstrap run </dev/null >"$tmp/out" 2>&1) || fail "$document" "the bundled model is served" "$(cat "$tmp/out")"
    fi
    for block in "$tmp"/blocks/*; do
        [ -e "$block" ] || continue
        number=$(basename "$block")
        case $block in
        *.sh) run_block "$document, block ${number%.*}" "$block" ;;
        *.json) compare_answer "$document, block ${number%.*}" "$block" ;;
        *.text) check_text "$document, block ${number%.*}" "$block" ;;
        esac
    done
    stop_documented
done
finish

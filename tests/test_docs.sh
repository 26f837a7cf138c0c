#!/bin/sh
# SPDX-License-Identifier: MIT
#
# test_docs.sh - the keys of the configuration and their defaults are the same in the daemon, in etc/resnetd.conf and in the man
# page; the daemon's options are the same in its help and its man page.

# shellcheck source=tests/lib.sh
. "${srcdir:-.}/tests/lib.sh"

conf=$srcdir/etc/resnetd.conf
page=$srcdir/docs/resnetd.conf.5
usage_page=$srcdir/docs/resnetd.8

# An INI file, keys perhaps commented out -> "section key = default" lines. Any model's section is [model.NAME].
ini_keys()
{
    sed -n -e 's/^#\{0,1\}[[:space:]]*\(\[[a-z]*[.a-zA-Z0-9_-]*\]\)[[:space:]]*$/\1/p' \
        -e 's/^#\{0,1\}[[:space:]]*\([a-z][a-z0-9_]*\)[[:space:]]*=[[:space:]]*\(.*\)$/\1 = \2/p' |
        sed -e 's/^\[model\..*\]$/[model.NAME]/' -e 's/[[:space:]]*$//' |
        awk '/^\[/ { section = $0; next } { print section, $0 }' | sort
}

# Items ".It Cm key = default" under ".Ss [section]".
page_keys()
{
    sed -n -e 's/^\.Ss \(\[.*\]\)$/\1/p' -e 's/^\.It Cm \([a-z0-9_]* =.*\)$/\1/p' |
        sed -e 's/[[:space:]]*$//' | awk '/^\[/ { section = $0; next } { print section, $0 }' | sort
}

names()
{
    sed 's/ =.*//'
}

resnetd -c /dev/null --model "$bundled" --print-config >"$tmp/print" 2>"$tmp/err"
equal "--print-config: exit status" 0 $?
ini_keys <"$tmp/print" >"$tmp/print.keys"
ini_keys <"$conf" >"$tmp/conf.keys"
page_keys <"$page" >"$tmp/page.keys"
checks=$((checks + 1))
[ "$(grep -c . "$tmp/print.keys")" -ge 20 ] || fail "--print-config prints the keys" "20 or more" "$(cat "$tmp/print")"
equal "keys of etc/resnetd.conf and of --print-config" "$(names <"$tmp/print.keys")" "$(names <"$tmp/conf.keys")"
equal "keys of resnetd.conf(5) and of --print-config" "$(names <"$tmp/print.keys")" "$(names <"$tmp/page.keys")"

# Defaults, times in milliseconds. Left out: threads, which is printed as the machine decided, and a model's path, which has none.
defaults()
{
    grep -vE '^\[inference\] threads |^\[model\.NAME\] path ' | awk '
        match($NF, /^[0-9]+(ms|s|m|h)$/) { n = $NF + 0; u = $NF; gsub(/[0-9]/, "", u)
            $NF = n * (u == "h" ? 3600000 : u == "m" ? 60000 : u == "s" ? 1000 : 1) "ms" }
        { print }'
}
equal "defaults in etc/resnetd.conf" "$(defaults <"$tmp/print.keys")" "$(defaults <"$tmp/conf.keys")"
equal "defaults in resnetd.conf(5)" "$(defaults <"$tmp/print.keys")" "$(defaults <"$tmp/page.keys")"

resnetd -c "$conf" --model "$bundled" -t >"$tmp/out" 2>&1
equal "etc/resnetd.conf is accepted: exit status" 0 $?

resnetd --help | grep -oE -- '--[a-z][a-z-]+' | sort -u >"$tmp/help.options"
grep -E '^\.(It|Op)' "$usage_page" | grep -oE 'Fl Fl [a-z][a-z-]+' | sed 's/Fl Fl /--/' | sort -u >"$tmp/page.options"
equal "options in resnetd(8) and in --help" "$(cat "$tmp/help.options")" "$(cat "$tmp/page.options")"

# Every route that the daemon lists is in docs/http.md.
start_daemon --model "$bundled"
request /
for route in $(printf '%s' "$body" | grep -oE '/(v1/)?[a-z]+' | sort -u); do
    checks=$((checks + 1))
    case $route in
    /v1/*|/predict|/precision|/metrics|/livez|/readyz|/models) grep -qF "$route" "$srcdir/docs/http.md" || fail "docs/http.md" "$route" "no word of it" ;;
    esac
done
stop_daemon

if command -v mandoc >/dev/null; then
    equal "mandoc's opinion of the man pages" "" "$(mandoc -T lint -W warning "$srcdir"/docs/*.[158] 2>&1 | grep -v 'referenced manual not found')"
fi
finish

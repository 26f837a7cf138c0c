#!/bin/sh
# SPDX-License-Identifier: MIT
#
# analyze.sh - the static analysers over kernels/, models/ and daemon/: gcc -fanalyzer, clang-tidy, cppcheck. Prints what they report
# and ends with 1 when there is anything. An analyser that is not installed is left out with a word.
#
# Usage: analyze.sh SOURCE-TREE BUILD-DIRECTORY, or `make analyze`. FILES narrows it (default: all), TOOLS chooses (gcc tidy cppcheck).
# tests/analyze.h tells them what is in other files; reports that were looked at and are wrong stand in tests/analyze.txt with the
# reason, one line each; what kinds of report clang-tidy makes at all is said in .clang-tidy.

set -u
LC_ALL=C
export LC_ALL
source=$(cd "$1" && pwd) || exit 1
build=$(cd "$2" && pwd) || exit 1
cd "$source" || exit 1
tools=${TOOLS-gcc tidy cppcheck}
# the files of other machines are for a cross compiler
case $(uname -m) in x86_64) here=x86 ;; *) here= ;; esac
files=${FILES-$(find daemon models kernels/*.c kernels/ref ${here:+kernels/$here} -name '*.c' | sort)}
libraries=$(pkg-config --cflags libcjson libmicrohttpd inih nettle 2>/dev/null)
flags="-std=c11 -DHAVE_CONFIG_H -D_GNU_SOURCE -I. -I$build -DSYSCONFDIR=\"/etc\" -DPKGDATADIR=\"/usr/share/resnetd\" $libraries"
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

# one TOOL FILE: its reports go to a file of their own, for two run at a time
cat >"$work/one" <<'END'
more="-include tests/analyze.h"
case $2 in
models/err.c) more= ;;
models/checkpoint/onnx_graph.c) ;;
models/checkpoint/onnx_*) more="-DANALYZE_ONNX $more" ;;
kernels/x86/*fp16*) more="-mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512vnni -mavx512fp16" ;;
kernels/x86/*avx512*) more="-mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512vnni" ;;
kernels/x86/*vnni*) more="-mavx2 -mfma -mf16c -mavxvnni" ;;
kernels/x86/*) more="-mavx2 -mfma -mf16c" ;;
esac
out=$WORK/$1.$(printf %s "$2" | tr / _)
case $1 in
gcc) gcc -O1 -fanalyzer -ftrack-macro-expansion=0 $FLAGS $more -c "$2" -o /dev/null 2>&1 ;;
tidy) clang-tidy --quiet "$2" -- $FLAGS $more 2>/dev/null ;;
esac >"$out"
sed -i "1i of $2" "$out"
END
WORK=$work FLAGS=$flags
export WORK FLAGS
ran=
for tool in $tools; do
    case $tool in
    gcc) ;;
    tidy) command -v clang-tidy >/dev/null || { echo "analyze: clang-tidy is not here"; continue; } ;;
    cppcheck)
        command -v cppcheck >/dev/null || { echo "analyze: cppcheck is not here"; continue; }
        cppcheck -q -j 2 --std=c11 --enable=warning,performance,portability --library=posix \
            --template='{file}:{line}:{column}: {severity}: {message} [{id}]' --template-location='' \
            -D_GNU_SOURCE -DHAVE_CONFIG_H -D__linux__ -D__x86_64__ '-DcJSON_ArrayForEach(e,a)=for(e=(a)->child;e;e=e->next)' \
            -DPROTOBUF_C_VERSION_NUMBER=2000000 -DPROTOBUF_C_MIN_COMPILER_VERSION=0 \
            -I. -I"$build" $(printf '%s\n' $files | grep -v '^kernels/x86/') 2>"$work/cppcheck.all"
        ;;
    esac
    test "$tool" = cppcheck || printf '%s\n' $files | xargs -P ${JOBS-2} -n 1 sh "$work/one" "$tool"
    ran="$ran $tool"
done

# A report is "FILE:LINE:COLUMN: warning: TEXT [KIND]" and belongs to the function, or macro, that begins above it. Some of gcc's
# are at "cc1", and belong to the function that it has named before.
cat "$work"/gcc.* "$work"/tidy.* "$work"/cppcheck.* 2>/dev/null | awk -v source="$source" -v ran="$ran" -v all="${FILES+no}${TOOLS+no}" '
    function function_at(file, line,    n, text, name, macro, more) {
        if (!(file in read)) {
            read[file] = 1
            for (n = 1; (getline text <file) > 0; n++) {
                gsub(/__attribute__\(\([^)]*\)\) */, "", text)
                more = text ~ /\\$/
                if (text ~ /^#define /) {
                    sub(/^#define /, "", text)
                    sub(/[^A-Za-z0-9_].*/, "", text)
                    macro = text
                } else if (text ~ /^[A-Za-z_].*\(/ && text !~ /;$/) {
                    sub(/\(.*/, "", text)
                    sub(/.*[ *]/, "", text)
                    name = text
                }
                at[file, n] = macro != "" ? macro : name
                if (!more)
                    macro = ""
            }
            close(file)
        }
        return at[file, line]
    }
    BEGIN {
        while ((getline line <"tests/analyze.txt") > 0)
            if (line ~ /^[^#]/)
                known[line] = 1
    }
    /^of / {
        last_file = $2
        shown = 0
    }
    /In function / {
        last_function = $0
        sub(/.*In function ./, "", last_function)
        sub(/[^A-Za-z0-9_].*/, "", last_function)
        shown = 0
    }
    / (warning|error|style|portability|performance|information): / && /\[[^\[]*\]$/ || / error: / {
        split($0, part, ":")
        kind = $0
        sub(/.*\[/, "", kind)
        sub(/\]$/, "", kind)
        sub(/^-W/, "", kind)
        file = part[1]
        sub("^" source "/", "", file)
        sub(/^\.\//, "", file)
        if (file == "cc1") {
            file = last_file
            name = last_function
        } else {
            name = function_at(file, part[2])
        }
        entry = kind " " file " " name
        shown = !(entry in known)
        used[entry] = 1
        if (shown) {
            count++
            print "in tests/analyze.txt this would be: " entry
        }
    }
    shown
    END {
        for (entry in known)
            if (all == "" && !(entry in used))
                print "analyze: nothing is reported any more for the entry " entry
        printf "analyze:%s: 0 reports asked, %d, %s\n", ran, count, count ? "fail" : "pass"
        exit count > 0
    }'

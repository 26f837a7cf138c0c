#!/bin/sh
# SPDX-License-Identifier: MIT
#
# analyze.sh - the static analysers over kernels/, models/ and daemon/: gcc -fanalyzer, clang-tidy, cppcheck. Prints what they report
# and ends with 1 when there is anything. An analyser that is not installed is left out with a word.
#
# Usage: analyze.sh SOURCE-TREE BUILD-DIRECTORY, or `make analyze`. FILES narrows it (default: all), TOOLS chooses (gcc tidy cppcheck).
# What is left out is named, with its reason: for gcc here, for clang-tidy in .clang-tidy, for cppcheck in tests/cppcheck.txt.

set -u
source=$(cd "$1" && pwd) || exit 1
build=$(cd "$2" && pwd) || exit 1
cd "$source" || exit 1
tools=${TOOLS-gcc tidy cppcheck}
# the arm files are for a cross compiler
files=${FILES-$(find daemon models kernels -name '*.c' ! -path 'kernels/arm/*' ! -path 'kernels/x86/*' | sort)}
libraries=$(pkg-config --cflags libcjson libmicrohttpd inih nettle 2>/dev/null)
flags="-std=c11 -DHAVE_CONFIG_H -D_GNU_SOURCE -I. -I$build -DSYSCONFDIR=\"/etc\" -DPKGDATADIR=\"/usr/share/resnetd\" $libraries"
out=$(mktemp) || exit 1
trap 'rm -f "$out"' EXIT

# malloc-leak, use-of-uninitialized-value: version 12 loses memory that a structure owns and blocks that a loop fills; AddressSanitizer,
# valgrind and clang's analyser look for both. possible-null, null: it does not follow "all of these allocations worked" through one
# flag, which every failing allocation in the tests exercises.
quiet="-Wno-analyzer-malloc-leak -Wno-analyzer-use-of-uninitialized-value -Wno-analyzer-possible-null-dereference
    -Wno-analyzer-possible-null-argument -Wno-analyzer-null-dereference -Wno-analyzer-null-argument"

for tool in $tools; do
    case $tool in
    gcc)
        printf '%s\n' $files | xargs -P 2 -I FILE gcc -O1 -fanalyzer $quiet $flags -c FILE -o /dev/null 2>>"$out"
        ;;
    tidy)
        command -v clang-tidy >/dev/null || { echo "analyze: clang-tidy is not here"; continue; }
        printf '%s\n' $files | xargs -P 2 -n 8 sh -c 'flags=$1; shift; clang-tidy --quiet "$@" -- $flags 2>/dev/null' sh "$flags" >>"$out"
        ;;
    cppcheck)
        command -v cppcheck >/dev/null || { echo "analyze: cppcheck is not here"; continue; }
        cppcheck -q -j 2 --std=c11 --enable=warning,performance,portability --library=posix --suppressions-list=tests/cppcheck.txt \
            -D_GNU_SOURCE -DHAVE_CONFIG_H -D__linux__ -D__x86_64__ '-DcJSON_ArrayForEach(e,a)=for(e=(a)->child;e;e=e->next)' \
            -I. -I"$build" $files 2>>"$out"
        ;;
    esac
done
if grep -E ' (warning|error|style|portability|performance):' "$out" >/dev/null; then
    cat "$out"
    printf 'analyze: %s: 0 reports asked, %s, fail\n' "$tools" "$(grep -cE ' (warning|error|style|portability|performance):' "$out")"
    exit 1
fi
printf 'analyze: %s: 0 reports asked, 0, pass\n' "$tools"

#!/bin/sh
# SPDX-License-Identifier: MIT
#
# headers.sh - every header compiles alone and may be included twice, without a warning.

build=$(cd "${builddir:-.}" && pwd) || exit 99
cd "${srcdir:-.}" || exit 99
bad=0
count=0
for header in $(find kernels models daemon -name '*.h' | sort); do
    case $header in # the schema is there when protobuf-c is
    models/checkpoint/onnx_*) [ -e "$build/models/checkpoint/onnx.pb-c.h" ] || continue ;;
    esac
    count=$((count + 1))
    # shellcheck disable=SC2086 # flags are words
    if ! printf '#include "%s"\n#include "%s"\n' "$header" "$header" |
        ${CC:-cc} -std=c11 -D_GNU_SOURCE -I. -I"$build" ${LIBRARY_CFLAGS-} -Wall -Wextra -Wstrict-prototypes -Werror -fsyntax-only -x c -; then
        echo "FAIL: $header does not compile alone"
        bad=$((bad + 1))
    fi
done
echo "$count headers, $bad do not compile alone"
[ $count -gt 0 ] && [ $bad -eq 0 ]

#!/bin/sh
# SPDX-License-Identifier: MIT
#
# headers.sh - every header compiles alone and may be included twice, without a warning.

cd "${srcdir:-.}" || exit 99
bad=0
count=0
for header in $(find kernels models daemon -name '*.h' | sort); do
    count=$((count + 1))
    # shellcheck disable=SC2086 # flags are words
    if ! printf '#include "%s"\n#include "%s"\n' "$header" "$header" |
        ${CC:-cc} -std=c11 -D_GNU_SOURCE -I. ${LIBRARY_CFLAGS-} -Wall -Wextra -Wstrict-prototypes -Werror -fsyntax-only -x c -; then
        echo "FAIL: $header does not compile alone"
        bad=$((bad + 1))
    fi
done
echo "$count headers, $bad do not compile alone"
[ $count -gt 0 ] && [ $bad -eq 0 ]
